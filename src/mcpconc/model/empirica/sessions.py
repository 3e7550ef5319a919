"""Sessions: of one AI in one instance and project, at most one is open.

`session_create` ends all open sessions of the same AI, project and instance, says so in
``lifecycle.auto_closed_sessions``, and opens a new one. Nothing else ends a session. Closed
sessions still accept every operation, so other models do not look at this one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, Quirky, Refusal, answer, op, partition, spurious
from mcpconc.model.empirica.facts import Facts

__all__ = ["Sessions", "closed_by", "partitions"]

State = frozenset[str]


@dataclass(frozen=True)
class Sessions(Quirky):
    """State: the ids of the open sessions of one (AI, instance, project).

    ``session_create``: input is the new id (None where no session came of it), output the ids
    that it says it closed. A snapshot's output is the ids without an end time.
    """

    name: str = "session"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            return (state,) if op.output == state else Reject("end_time", state, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.output is not None and op.output != state:
            return Reject("auto_closed_sessions", state, op.output)
        # Closing the old and inserting the new one are different transactions, so a call that
        # was killed between them leaves only the first behind.
        return (frozenset({str(op.input)}) if op.input is not None else frozenset(),)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return "open: " + (", ".join(sorted(state)) or "none")


def closed_by(operation: Operation) -> frozenset[str]:
    """The sessions that a `session_create` says it closed."""
    lifecycle = operation.data.get("lifecycle") or {}
    return frozenset(
        str(entry["session_id"])
        for entry in lifecycle.get("auto_closed_sessions") or ()
        if isinstance(entry, dict) and entry.get("session_id")
    )


def partitions(known: Facts) -> Iterator[Partition]:
    """One per (AI, instance, project). Without a snapshot there is none: the instance that a
    server took itself to be is only told by the rows."""
    if known.snapshot is None:
        return
    groups: dict[tuple[str, str, str], list[Op]] = defaultdict(list)
    lost: list[Operation] = []
    for o in known.of("session_create"):
        sid = known.id(o, "session_id", "sessions", "session_id")
        row = known.sessions.get(sid)
        if row is not None:
            key = (str(row["ai_id"]), str(row.get("instance_id") or ""), known.project[sid])
            groups[key].append(op(o, sid, answer(o, closed_by(o))))
        elif not o.answered:
            lost.append(o)
    for o in lost:
        # It may have closed sessions and died before it opened its own.
        ai, instance = str(o.args.get("ai_id")), known.instance.get(o.agent)
        for key in groups:
            if key[0] == ai and instance in (None, key[1]):
                groups[key].append(op(o, None, None))
    rows: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for sid, row in known.sessions.items():
        if row is not None and row.get("end_time") is None:
            key = (str(row["ai_id"]), str(row.get("instance_id") or ""), known.project[sid])
            rows[key].add(sid)
    for key, ops in groups.items():
        name = "@".join(part for part in key[:2] if part)
        yield partition("session", name, Sessions(), ops, frozenset(rows[key]))
