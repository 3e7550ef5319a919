"""What became of each fault of a run: how the target recovered, what is torn, what is lost.

Data for a table, not findings: under a fault that destroys the database, lost rows are no defect,
and yet whoever runs the target wants to know of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mcpconc.history import Phase
from mcpconc.model.spec import Mode
from mcpconc.oracle.base import Run
from mcpconc.oracle.common import Fate
from mcpconc.oracle.weather import ended, spells, weathered
from mcpconc.oracle.writes import State, Write, deleted, look_up, present

__all__ = ["CLASSES", "LOST", "MISSED", "NOT_ASKED", "Met", "Torn", "storms"]

LOST = "data lost"
CLASSES = ("by itself", "on the next call", "after a restart", "needs a person", LOST)
"""From harmless to bad. The first four are what fresh calls of the agents took (the worst of them
counts); `LOST` is what was acknowledged and is not there."""
MISSED, NOT_ASKED, HIDDEN = "never began", "not asked", "hidden by another"


@dataclass(frozen=True, slots=True)
class Torn:
    """A call of several steps of which some were done: rows, notes, in the order declared."""

    call: str
    tool: str
    there: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Met:
    """One fault. `outcome` is one of `CLASSES`, "" where nothing was asked of the target
    afterwards, ``never began``, or ``hidden by another`` where that one destroyed something.
    `unanswered` calls were in flight under it and nobody knows what they did; `torn` are those
    that are known to be half done. `lost` is what acknowledged calls of the run wrote and is not
    there. `said` are refusals after the storm.

    Torn and lost things count for every fault of the run."""

    fault: str
    call: str
    outcome: str
    text: str = ""
    unanswered: tuple[str, ...] = ()
    torn: tuple[Torn, ...] = ()
    lost: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Met:
        """Of what `to_json` gave, and whatever stands beside it."""
        torn = (
            Torn(t["call"], t["tool"], tuple(t["there"]), tuple(t["missing"])) for t in data["torn"]
        )
        many = {name: tuple(data[name]) for name in ("unanswered", "lost", "said")}
        return cls(
            data["fault"], data["call"], data["outcome"], data["text"], torn=tuple(torn), **many
        )


def storms(run: Run) -> tuple[Met, ...]:
    """The faults of a run, in order of their begin; those that never began come last."""
    every, missed = spells(run.history), run.history.notes("fault-missed")
    if not every and not missed:
        return ()
    history, _ = weathered(run.history)
    ends, last = ended(history), len(history.events)
    torn, lost = _left(replace(run, history=history))
    recovery = history.notes("recovery")
    said = tuple(text for note in recovery for text in note.value["said"])
    outcome = max((note.value["how"] for note in recovery), key=_rank, default="")
    met = []
    spoilt = any(spell.spoils for spell in every)
    for spell in every:
        under = [
            op
            for op in history.operations
            if op.outcome is None
            and op.phase is not Phase.SUFFIX  # what is asked afterwards is another question
            and spell.covers(op, ends.get(op.call, last))
        ]
        met.append(
            Met(
                spell.fault,
                spell.call,
                HIDDEN if spoilt and not spell.spoils else LOST if lost else outcome,
                spell.text,
                tuple(op.call for op in under),
                torn,
                lost,
                said,
            )
        )
    return (*met, *(Met(n.value["fault"], n.call, MISSED, n.value["text"]) for n in missed))


def _rank(how: str) -> int:
    return CLASSES.index(how) if how in CLASSES else len(CLASSES)


def _left(run: Run) -> tuple[tuple[Torn, ...], tuple[str, ...]]:
    """What is half done, and what is lost."""
    if run.after is None:
        return (), ("the state was not read back",)
    before = run.before.checks if run.before is not None else {}
    lost = [
        f"{name.removesuffix('.read')} cannot be read"
        for name, said in run.after.checks.items()
        if name.endswith(".read") and said and not before.get(name)
    ]
    if run.spec is None:
        return (), tuple(lost)
    state = look_up(run, run.after)
    by_call: dict[str, list[Write]] = {}
    for write in state.writes:
        if write.effect.mode in (Mode.APPEND, Mode.DEDUPLICATE) and write.fate is not Fate.REFUSED:
            by_call.setdefault(write.op.call, []).append(write)
    torn = []
    for call, writes in by_call.items():
        steps = [step for write in writes for step in _steps(state, write)]
        there = tuple(name for name, is_there in steps if is_there)
        missing = tuple(name for name, is_there in steps if not is_there)
        if writes[0].acknowledged:
            lost += [f"{name} of {call}" for name in missing]
        elif there and missing:
            torn.append(Torn(call, writes[0].op.tool, there, missing))
    return tuple(torn), tuple(lost)


def _steps(state: State, write: Write) -> Iterator[tuple[str, bool]]:
    """What a call writes, one thing after another, and whether it is there."""
    effect = write.effect
    gone = deleted(state, effect)
    yield effect.kind, gone or bool(write.rows)
    for companion in effect.companions:
        yield f"{effect.kind}'s {companion.name}", gone or present(state, effect, companion)
