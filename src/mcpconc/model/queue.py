"""A first-in first-out queue: enqueue, dequeue, contents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import NEIGHBOURS, SHOWN, Pair, overlap

__all__ = ["EMPTY", "Queue"]

NONE: frozenset[str] = frozenset()

EMPTY = "empty"
"""Output of a `dequeue` that found nothing."""

State = tuple[Hashable, ...]

READS = ("contents", SNAPSHOT)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, empty at first.

    ``enqueue``: input is the element. ``dequeue``: output is the element that was taken out, or
    `EMPTY`. ``contents``: output is the tuple of all elements, the next one first. A snapshot
    reads the contents. An output of None fits anything.
    """

    name: str = "queue"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return ()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        """The queue afterwards, or the field ``contents`` or ``taken`` (of a dequeue)."""
        if op.name in READS:
            if op.output is None or op.output == state:
                return (state,)
            return Reject("contents", state, op.output)
        if op.name == "enqueue":
            return ((*state, op.input),)
        if op.name == "dequeue":
            due = state[0] if state else EMPTY
            if op.output is not None and op.output != due:
                return Reject("taken", due, op.output)
            return (state[1:],)
        raise ValueError(f"a queue has enqueue, dequeue and contents, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in READS or (op.name == "dequeue" and op.output == EMPTY)

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """What was enqueued once is dequeued after that, and what is taken out one after another
        was put in in the same order, and the other way round."""
        enqueues: dict[Hashable, list[int]] = defaultdict(list)
        dequeues: dict[Hashable, list[int]] = defaultdict(list)
        for i, op in enumerate(ops):
            if op.name == "enqueue":
                enqueues[op.input].append(i)
            elif op.name == "dequeue" and op.output is not None:
                dequeues[op.output].append(i)
        both = [
            (puts[0], dequeues[element][0])
            for element, puts in enqueues.items()
            if element != EMPTY and len(puts) == 1 == len(dequeues.get(element, ()))
        ]
        for put, take in both:
            yield put, take, SHOWN
        mates = dict(both) | {take: put for put, take in both}
        for side in zip(*both, strict=True):
            for first, then in _in_turn(ops, side):
                yield mates[first], mates[then], SHOWN

    def excusing(self, quirks: frozenset[str]) -> Queue:
        return self

    def describe(self, state: State) -> str:
        return f"[{', '.join(map(str, state))}]"


def _in_turn(ops: Sequence[Op], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of which real time says that one came first, a few for each."""
    ranked = sorted(numbers, key=lambda i: ops[i].invoked)
    for place, then in enumerate(ranked):
        for first in ranked[max(0, place - NEIGHBOURS) : place]:
            if not overlap(ops[first], ops[then]):
                yield first, then
