"""Sessions: of one AI in one instance and project, at most one is open.

`session_create` ends all open sessions of the same AI, project and instance, says so in
``lifecycle.auto_closed_sessions``, and opens a new one. Nothing else ends a session. Closed
sessions still accept every operation, so other models do not look at this one.
`resume_previous_session` shows the newest ones, of one AI or of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, Quirky, Refusal, answer, op, partition, spurious
from mcpconc.model.empirica.facts import Facts

__all__ = ["Lives", "Resumed", "Sessions", "closed_by", "partitions"]


@dataclass(frozen=True, slots=True)
class Lives:
    """The ids of the open sessions of one (AI, instance, project), and of those that ended."""

    open: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `resume_previous_session` shows of one (AI, instance, project). `complete` is false
    where there may be more sessions than it was asked for."""

    open: frozenset[str]
    ended: frozenset[str]
    complete: bool


State = Lives


@dataclass(frozen=True)
class Sessions(Quirky):
    """State: the open and the ended sessions of one (AI, instance, project).

    ``session_create``: input is the new id (None where no session came of it), output the ids
    that it says it closed. ``resume_previous_session``: output is what it shows (`Resumed`). A
    snapshot's output is the ids without an end time.
    """

    name: str = "session"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return Lives()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            same = op.output == state.open
            return (state,) if same else Reject("end_time", state.open, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.name == "resume_previous_session":
            reject = _shown(state, op.output)
            return reject if reject is not None else (state,)
        if op.output is not None and op.output != state.open:
            return Reject("auto_closed_sessions", state.open, op.output)
        # Closing the old and inserting the new one are different transactions, so a call that
        # was killed between them leaves only the first behind.
        new = frozenset({str(op.input)}) if op.input is not None else frozenset()
        return (Lives(new, state.ended | state.open),)

    def pure(self, op: Op) -> bool:
        return op.name != "session_create" or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return "open: " + (", ".join(sorted(state.open)) or "none")


def _shown(state: State, output: Hashable) -> Reject | None:
    if not isinstance(output, Resumed):
        return None
    there, shown = state.open | state.ended, output.open | output.ended
    if not shown <= there or (output.complete and shown != there):
        return Reject("sessions", sorted(there), sorted(shown))
    if not output.open <= state.open:
        return Reject("sessions.status", sorted(state.open), sorted(output.open))
    return (
        None
        if output.ended <= state.ended
        else Reject("sessions.status", sorted(state.ended), sorted(output.ended))
    )


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
    resumed = list(known.of("resume_previous_session"))
    for o in resumed:
        for key in groups:
            if o.args.get("ai_id") in (None, key[0]):
                groups[key].append(op(o, None, answer(o, _resumed(known, o, key))))
    rows: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for sid, row in known.sessions.items():
        if row is not None and row.get("end_time") is None:
            key = (str(row["ai_id"]), str(row.get("instance_id") or ""), known.project[sid])
            rows[key].add(sid)
    for key, ops in groups.items():
        name = "@".join(part for part in key[:2] if part)
        reads = {"resume_previous_session"} if resumed else ()
        yield partition("session", name, Sessions(), ops, frozenset(rows[key]), reads)


def _resumed(known: Facts, o: Operation, key: tuple[str, str, str]) -> Resumed:
    """What the read says of the sessions of `key`. Those that it does not tell apart are put
    where their rows are."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    shown = o.data.get("sessions") or ()
    for session in shown:
        id = str(session.get("session_id"))
        row = known.sessions.get(id)
        home = (str((row or {}).get("instance_id") or ""), known.project.get(id, ""))
        if session.get("ai_id") == key[0] and home == key[1:]:
            found[session.get("end_time") is None].add(id)
    asked = o.args.get("count", 1)
    complete = not isinstance(asked, int) or not 0 <= asked <= len(shown)
    return Resumed(frozenset(found[True]), frozenset(found[False]), complete)
