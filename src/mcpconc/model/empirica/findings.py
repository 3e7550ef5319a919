"""Findings: one row per project and text, whatever its case and spacing.

Logging a text once more answers the id of the row that is there and changes nothing in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import (
    NONE,
    Quirky,
    Refusal,
    answer,
    op,
    partition,
    same_text,
    spurious,
)
from mcpconc.model.empirica.facts import Facts

__all__ = ["Finding", "Findings", "partitions"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row."""

    id: str
    text: str
    subject: str | None
    session: str


State = Finding | None


@dataclass(frozen=True)
class Findings(Quirky):
    """State: the row of one (project, text), if there is one.

    ``finding_log``: input is the `Finding` that it would insert (id "" where the call was not
    answered and no row carries its token), output the id answered. A snapshot's output is the
    rows of this text.
    """

    name: str = "finding"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            assert isinstance(op.output, tuple)
            return _left(state, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        assert isinstance(op.input, Finding)
        if state is None:
            return (op.input if op.input.id else None,)
        if op.output is not None and op.output != state.id:
            return Reject("finding_id", state.id, op.output)
        return (state,)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return "no row" if state is None else f"row {state.id}"


def _left(state: State, rows: tuple[Finding, ...]) -> Sequence[State] | Reject:
    if len(rows) != (state is not None):
        return Reject("rows", int(state is not None), len(rows))
    for row in rows:
        for name in ("id", "text", "subject", "session"):
            expected, seen = getattr(state, name), getattr(row, name)
            if expected != seen:
                return Reject(name, expected, seen)
    return (state,)


def partitions(known: Facts) -> Iterator[Partition]:
    """One per (project, normalised text). The project is the answer's or the row's; a call
    with neither left nothing behind that could be told from its never having run."""
    ops: dict[tuple[str, str], list[Op]] = defaultdict(list)
    for o in known.of("finding_log"):
        row = known.row(o, "project_findings")
        project = o.data.get("project_id") or (row or {}).get("project_id")
        if project is None:
            continue
        finding = Finding(
            id=known.id(o, "finding_id", "project_findings"),
            text=str(o.args.get("finding")),
            subject=o.args.get("subject"),
            session=str(o.args.get("session_id") or o.data.get("session_id")),
        )
        key = (str(project), same_text(finding.text))
        ops[key].append(op(o, finding, answer(o, finding.id)))
    rows: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for row in known.rows("project_findings"):
        key = (str(row["project_id"]), same_text(row["finding"]))
        rows[key].append(
            Finding(str(row["id"]), row["finding"], row.get("subject"), str(row["session_id"]))
        )
    for key in ops:
        left = tuple(rows[key]) if known.snapshot is not None else None
        yield partition("finding", key[1], Findings(), ops[key], left)
