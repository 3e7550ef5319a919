"""A partition made ready for the search: operations numbered, windows as bit-masks.

Answered operations are numbered by return, so whatever the search has placed is a full run of
the first `low` of them and a few more, and what may come next depends on `low` alone: the
operations invoked no later than number `low` returned (closed intervals). Masks are relative to
`low` (bit i stands for number low + i), hence only as wide as operations overlap.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from mcpconc.model.base import Op, Partition

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A partition made ready. Masks of answered operations are relative to `low`."""

    partition: Partition
    ops: list[Op]
    """Answered ones by return, then the never-answered by invocation."""
    answered: int
    moves: list[dict[int, tuple[int, ...]]]
    """Per operation: state → successors, by number. Operations of one kind share theirs."""
    easy: list[int]
    """Per low: the pure ones that may come next."""
    hard: list[int]
    """Per low: the others."""
    reach: list[int]
    """Per low: the never-answered that have been invoked."""
    elder: list[int]
    """Per never-answered operation: the bit of its twin invoked last before it, or 0."""


def plan(partition: Partition) -> Plan:
    """Number the operations and say what may come next where.

    :raises ValueError: if an operation returns before it is invoked.
    """
    pure = partition.model.pure
    ops = [op for op in partition.ops if op.answered]
    ops.sort(key=lambda op: (op.returned, op.invoked))
    late = [op for op in partition.ops if not op.answered and not pure(op)]
    late.sort(key=lambda op: op.invoked)
    n = len(ops)
    ops += late
    kinds: dict[Hashable, dict[int, tuple[int, ...]]] = {}
    moves = [kinds.setdefault((o.name, o.agent, o.input, o.output, o.answered), {}) for o in ops]
    youngest: dict[int, int] = {}
    elder = []
    for j in range(len(late)):
        elder.append(youngest.get(id(moves[n + j]), 0))
        youngest[id(moves[n + j])] = 1 << j

    by_invocation = sorted(range(n), key=lambda i: ops[i].invoked)
    easy, hard, reach = [], [], []
    easy_now = hard_now = reach_now = opened = opened_late = 0
    for low in range(n):
        end = ops[low].returned
        assert end is not None
        if end < ops[low].invoked:
            raise ValueError(f"operation {ops[low].call} returns before it is invoked")
        easy_now >>= 1
        hard_now >>= 1
        while opened < n and ops[by_invocation[opened]].invoked <= end:
            i = by_invocation[opened]
            if pure(ops[i]):
                easy_now |= 1 << (i - low)
            else:
                hard_now |= 1 << (i - low)
            opened += 1
        while opened_late < len(late) and late[opened_late].invoked <= end:
            reach_now |= 1 << opened_late
            opened_late += 1
        easy.append(easy_now)
        hard.append(hard_now)
        reach.append(reach_now)
    return Plan(partition, ops, n, moves, easy, hard, reach, elder)
