"""Handoff reports: one per session, the last one written.

A handoff keeps the words of the call that made it, as a row and as a git note. What kind of
report it is depends on what was assessed in the session; that is judged with the session's rows
(`reflexes`), here only what is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import Quirky, Refusal, answer, op, partition, refused, spurious
from mcpconc.model.empirica.facts import Facts

__all__ = ["Handoff", "Handoffs", "partitions", "session_of"]

NEEDED = ("task_summary", "key_findings", "next_session_context")


@dataclass(frozen=True, slots=True)
class Handoff:
    """Input of `handoff_create`: its words, whether the session is one, and whether all that a
    report needs was given."""

    summary: str
    exists: bool = True
    whole: bool = True


State = str | None
"""The summary of the session's report."""


@dataclass(frozen=True)
class Handoffs(Quirky):
    """State: the summary of one session's report, if it has one.

    ``handoff_create``: input is a `Handoff`, output the kind of report told. A snapshot's output
    is the summaries of the session's rows.

    Quirk ``ghost-session``: a report of a session that does not exist is accepted (trigger:
    there is none).
    """

    name: str = "handoff"
    known_quirks: frozenset[str] = frozenset({"ghost-session"})

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            due = (state,) if state is not None else ()
            return (state,) if op.output == due else Reject("task_summary", due, op.output)
        assert isinstance(op.input, Handoff)
        if not op.input.whole:
            reject = refused(op.output, "invalid-input", True)
            return reject if reject is not None else (state,)
        if isinstance(op.output, Refusal):
            if op.output.error == "no-assessments" or not op.input.exists:
                return (state,)
            return spurious(op.output)
        if not op.input.exists and "ghost-session" not in self.quirks:
            return Reject("session-not-found", "refused", "accepted")
        return (op.input.summary,)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return "no handoff" if state is None else f"a handoff that says {state!r}"


def session_of(known: Facts, o: Operation) -> str:
    """The session that a handoff is of: as answered, as its row says, or as asked for."""
    told = o.data.get("session_id") if o.succeeded else None
    row = known.row(o, "handoff_reports")
    return str(told or (row or {}).get("session_id") or o.args.get("session_id") or "")


def partitions(known: Facts) -> Iterator[Partition]:
    """One per session that a handoff was asked of."""
    ops: dict[str, list[Op]] = defaultdict(list)
    for o in known.of("handoff_create"):
        session = session_of(known, o)
        if not session:
            continue
        made = Handoff(
            summary=str(o.args.get("task_summary")),
            exists=session in known.sessions,
            whole=all(o.args.get(name) for name in NEEDED),
        )
        kind = str(o.data.get("handoff_type"))
        ops[session].append(op(o, made, answer(o, kind)))
    left: dict[str, list[str]] = defaultdict(list)
    for row in known.rows("handoff_reports"):
        left[str(row["session_id"])].append(str(row["task_summary"]))
    for session in ops:
        after = tuple(left[session]) if known.snapshot is not None else None
        yield partition("handoff", session, Handoffs(), ops[session], after)
