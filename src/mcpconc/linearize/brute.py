"""Ground truth for tests: every order of the operations, with nothing clever in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations

from mcpconc.model.base import Model, Op, Partition, Reject

__all__ = ["brute"]


def brute(partition: Partition) -> tuple[bool, int]:
    """Whether an order explains the partition, and how many answered operations at most an
    order explains: all permutations that respect real time, of the answered operations and
    each subset of the others. Exponential; seven operations take milliseconds.
    """
    answered = [op for op in partition.ops if op.answered]
    late = [op for op in partition.ops if not op.answered]
    start = frozenset([partition.model.initial()])
    most = max(
        _longest(partition.model, start, [*answered, *chosen])
        for size in range(len(late) + 1)
        for chosen in combinations(late, size)
    )
    return most == len(answered), most


def _longest(model: Model, states: frozenset[Hashable], left: Sequence[Op]) -> int:
    """The most answered operations that an order of some of `left` can place."""
    most = 0
    for op in left:
        if any(_precedes(other, op) for other in left):
            continue
        after = frozenset(new for state in states for new in _successors(model, state, op))
        if after:
            rest = [other for other in left if other is not op]
            most = max(most, op.answered + _longest(model, after, rest))
    return most


def _precedes(a: Op, b: Op) -> bool:
    return a.returned is not None and a.returned < b.invoked


def _successors(model: Model, state: Hashable, op: Op) -> Sequence[Hashable]:
    result = model.step(state, op)
    return () if isinstance(result, Reject) else result
