"""In which orders concurrent calls may have taken effect, most likely first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from mcpconc.history import Operation
from mcpconc.program import Program

__all__ = ["MOST_CALLS", "MOST_LANES", "Order", "consistent", "fits"]

MOST_LANES = 3
MOST_CALLS = 6
"""Larger programs have too many orders: six calls have up to 720."""

Order = tuple[str, ...]
"""Call ids."""


def fits(program: Program) -> bool:
    """Whether a program is small enough to be compared with all its orders."""
    lanes = sum(1 for lane in program.lanes if lane)
    return lanes <= MOST_LANES and program.concurrent() <= MOST_CALLS


def consistent(operations: Sequence[Operation]) -> tuple[Order, ...]:
    """Every order that respects real time (Herlihy and Wing, 1990), of the answered calls and
    each subset of the others, which may never have taken effect.

    The most likely come first: those nearest to the order of the answers, and of the calls
    that nobody answered rather all than none.
    """
    ends = sorted(operations, key=lambda op: (op.returned is None, op.returned or op.invoked))
    rank = {op.call: n for n, op in enumerate(ends)}
    answered = [op for op in ends if op.answered]
    others = [op for op in ends if not op.answered]
    found: list[tuple[int, int, Order]] = []
    for size in range(len(others), -1, -1):
        for chosen in combinations(others, size):
            found += [
                (len(others) - size, _inversions([rank[call] for call in order]), order)
                for order in _extensions([*answered, *chosen])
            ]
    return tuple(order for _, _, order in sorted(found))


def _extensions(operations: Sequence[Operation]) -> Iterator[Order]:
    """All linear extensions of the real-time order."""
    if not operations:
        yield ()
    for op in operations:
        if not any(other.precedes(op) for other in operations):
            rest = [other for other in operations if other is not op]
            for order in _extensions(rest):
                yield (op.call, *order)


def _inversions(ranks: Sequence[int]) -> int:
    """How many pairs stand the other way round."""
    return sum(a > b for a, b in combinations(ranks, 2))
