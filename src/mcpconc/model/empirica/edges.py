"""Edges between artifacts, and the receipts of the batches that draw them.

`log_artifacts` draws an edge where both its ends exist and skips it, with a warning, where one
does not; drawing it again changes nothing. It goes when it is cut, and with either of its ends.
Edges that the target draws by itself (``attached_to`` a goal) are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mcpconc.history import Outcome
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.batches import Wired, changed, logged, wired
from mcpconc.model.empirica.common import (
    NONE,
    OK,
    Quirky,
    Refusal,
    answer,
    op,
    partition,
    refused,
)
from mcpconc.model.empirica.facts import Facts

__all__ = ["Draw", "Edge", "Edges", "Receipts", "partitions"]

RECEIPTS = "refs/notes/empirica/receipts"
DRAW, CUT, END_GONE = "draw", "cut", "end gone"

Triple = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Edge:
    """Whether the edge is there, and which of its ends are."""

    there: bool = False
    ends: tuple[bool, bool] = (True, True)


@dataclass(frozen=True, slots=True)
class Draw:
    """What a call does: draws or cuts the edge, or deletes its `end` (0 or 1). `made` are the
    ends that the call itself logs; `any` cuts whatever relation there is."""

    what: str
    made: tuple[bool, bool] = (False, False)
    end: int = 0
    any: bool = False


@dataclass(frozen=True)
class Edges(Quirky):
    """State: one (from, to, relation), and its ends.

    Input is a `Draw`; output OK, or a refusal of class ``no-end`` (drawing) or ``no-edge``
    (cutting). A snapshot's output is whether the edge is there.
    """

    first: tuple[bool, bool] = (True, True)
    name: str = "edge"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> Edge:
        return Edge(ends=self.first)

    def step(self, state: Edge, op: Op) -> Sequence[Edge] | Reject:
        if op.name == SNAPSHOT:
            there = ("there" if found else "not there" for found in (state.there, op.output))
            return (state,) if op.output == state.there else Reject("edge", *there)
        draw = op.input
        assert isinstance(draw, Draw)
        if draw.what == END_GONE:
            ends = (state.ends[0] and draw.end != 0, state.ends[1] and draw.end != 1)
            return (Edge(False, ends),)
        if draw.what == CUT:
            if draw.any and op.output == OK:
                return (replace(state, there=False),)
            reject = refused(op.output, "no-edge", not state.there)
            return reject if reject is not None else (replace(state, there=False),)
        ends = (state.ends[0] or draw.made[0], state.ends[1] or draw.made[1])
        reject = refused(op.output, "no-end", not all(ends))
        if reject is not None:
            return reject
        return (Edge(state.there or all(ends), ends),)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or (
            isinstance(op.output, Refusal)
            and isinstance(op.input, Draw)
            and op.input.what == DRAW
            and not any(op.input.made)
        )

    def describe(self, state: Edge) -> str:
        gone = [name for name, there in zip(("from", "to"), state.ends, strict=True) if not there]
        missing = f", nothing at its end `{'` and `'.join(gone)}`" if gone else ""
        return ("there" if state.there else "not there") + missing


@dataclass(frozen=True)
class Receipts(Quirky):
    """State: how many batches were logged. A snapshot's output is how many receipts there are."""

    name: str = "receipts"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> int:
        return 0

    def step(self, state: int, op: Op) -> Sequence[int] | Reject:
        if op.name == SNAPSHOT:
            return (state,) if op.output == state else Reject("receipts", state, op.output)
        return (state + 1,)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT

    def describe(self, state: int) -> str:
        return f"{state} receipts"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per edge that a call names, and one for the receipts."""
    made = list(logged(known.operations, known.rows))
    drawn = list(wired(known.operations, made))
    exist = {one.id for one in made if one.id} | set(known.session_of_goal)
    named: dict[Triple, None] = {(*w.ends, w.relation): None for w in drawn if w.relation}
    ops: dict[Triple, list[Op]] = defaultdict(list)
    for triple in named:
        for w in drawn:
            if w.ends == triple[:2] and w.relation in (triple[2], "" if w.cut else triple[2]):
                ops[triple].append(op(w.op, _draw(w), w.output))
    for change in changed(known.operations, made):
        if change.values is not None or isinstance(change.output, Refusal) or not change.valid:
            continue
        for triple in named:
            for end in (0, 1):
                if triple[end] == change.id:
                    gone = Draw(END_GONE, end=end)
                    ops[triple].append(op(change.op, gone, change.output))
    there = {
        (str(row.get("from_id")), str(row.get("to_id")), str(row.get("relation")))
        for row in known.rows("artifact_edges")
    }
    for triple in ops:
        left = None if known.snapshot is None else triple in there
        model = Edges(first=(triple[0] in exist, triple[1] in exist))
        yield partition("edge", " ".join(triple), model, ops[triple], left)
    yield from _receipts(known)


def _draw(w: Wired) -> Draw:
    return Draw(CUT if w.cut else DRAW, w.made, any=not w.relation)


def _receipts(known: Facts) -> Iterator[Partition]:
    """Every batch that is logged leaves a receipt in one note that all share."""
    ops = [
        op(o, None, answer(o, OK))
        for o in known.of("log_artifacts")
        if o.outcome is not Outcome.REFUSED
    ]
    if ops:
        left = None
        if known.snapshot is not None:
            texts = known.snapshot.notes.get(RECEIPTS, {})
            left = sum(text.count('"batch_log"') for text in texts.values())
        yield partition("receipts", "log_artifacts", Receipts(), ops, left)
