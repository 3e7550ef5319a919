"""What faults make of a history before it is judged.

Notes of the history say which faults were on and what may happen under each (``refuses``,
``spoils``: see `mcpconc.nemesis.base.Kind`), so a saved run is judged as it was. A call that was
in flight under a fault and answered with an error may have been cut short anywhere: nobody knows
what it did. An acknowledgement holds, whatever the weather; of a batch that is acknowledged, parts
may be refused like calls, and so such a call says that it was `under` a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mcpconc.history import Event, EventType, History, Operation, Outcome

__all__ = ["STATE", "TIMING", "Spell", "ended", "spells", "weathered"]

STATE = ("effects", "footprint", "linearizability", "order", "isolation", "integrity")
"""Oracles that hold what is stored, or what was read, against the calls."""
TIMING = ("resources",)
"""Oracles that hold the time that calls took against the target."""


@dataclass(frozen=True, slots=True)
class Spell:
    """One fault of a run, from its first note to its last; `end` is past the last event where
    it was not healed before the run was over."""

    fault: str
    number: int
    agent: int
    call: str
    begin: int
    end: int
    refuses: bool
    spoils: str
    spares: tuple[str, ...]
    text: str

    def covers(self, op: Operation, end: int) -> bool:
        """Whether the operation, over at event `end`, was in flight under this fault."""
        return op.invoked < self.end and self.begin < end


def spells(history: History) -> tuple[Spell, ...]:
    """The faults that a nemesis injected, in order of their begin."""
    over = {note.value["n"]: note.index for note in history.notes("healed")}
    last = len(history.events)
    return tuple(
        _spell(note, over.get(note.value["n"], last))
        for note in history.notes("fault")
        if "n" in note.value
    )


def _spell(note: Event, end: int) -> Spell:
    value = note.value
    return Spell(
        fault=value["fault"],
        number=value["n"],
        agent=note.agent,
        call=note.call,
        begin=note.index,
        end=end,
        refuses=bool(value.get("refuses")),
        spoils=str(value.get("spoils") or ""),
        spares=tuple(value.get("spares") or ()),
        text=str(value.get("text") or ""),
    )


def ended(history: History) -> dict[str, int]:
    """Call → index of the event that ended it, whatever it was."""
    invoked = {op.call: op.invoked for op in history.operations}
    return {
        e.call: e.index
        for e in history.events
        if e.type.value != "note" and e.index > invoked.get(e.call, e.index)
    }


def weathered(history: History) -> tuple[History, Mapping[str, str]]:
    """The history as oracles may use it, and which of them judge nothing here: name → why."""
    met = spells(history)
    if not met:
        return history, {}
    left_out = dict.fromkeys(TIMING, "faults were injected: times say nothing")
    spoilt = [spell for spell in met if spell.spoils]
    for spell in spoilt:
        hurt = [name for name in STATE if name not in spell.spares]
        left_out |= dict.fromkeys(hurt, f"{spell.fault} destroyed {spell.spoils}")
    last, ends = len(history.events), ended(history)
    doubtful: dict[int, str] = {}  # event that answered → why that says nothing

    def doubted(op: Operation) -> Operation:
        if op.outcome is None:
            return op
        for spell in met:
            if spell.refuses and spell.covers(op, ends.get(op.call, last)):
                if op.outcome is Outcome.SUCCESS:
                    return replace(op, under=spell.fault)
                why = f"{op.outcome} under {spell.fault}"
                doubtful[ends[op.call]] = why
                return replace(op, returned=None, outcome=None, why=why)
        return op

    operations = tuple(map(doubted, history.operations))
    events = [
        replace(event, type=EventType.INFO, value={**event.value, "why": doubtful[event.index]})
        if event.index in doubtful
        else event
        for event in history.events
    ]
    return History(tuple(events), operations), left_out
