"""A partition made ready for the search: operations numbered, windows as bit-masks.

Answered operations are numbered by return, so whatever the search has placed is a full run of
the first `low` of them and a few more, and what may come next depends on `low` alone: the
operations invoked no later than number `low` returned (closed intervals). Masks are relative to
`low` (bit i stands for number low + i), hence only as wide as operations overlap.

An operation that is open while very many others return would make masks as wide as the history.
Such a *far* operation is kept with the never-answered ones, which are numbered by invocation and
of which each configuration holds one absolute mask; at its own number stands a gate that `low`
cannot pass before the operation is placed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.model.base import Op, Ordering, Partition

__all__ = ["FAR", "Plan", "plan"]

FAR = 1_000
"""An operation is far if more than so many others return while it is open."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A partition made ready. Masks of answered operations are relative to `low`; `late`, the
    rest, are numbered from `answered` on, and their masks start at bit 0."""

    partition: Partition
    ops: list[Op]
    """Answered ones by return, then the late (never-answered and far) by invocation."""
    answered: int
    moves: list[dict[int, tuple[int, ...]]]
    """Per operation: state → successors, by number. Operations of one kind share theirs."""
    states: list[Any]
    """By number; those met so far, the initial one first."""
    numbers: dict[Any, int]
    """Its inverse."""
    easy: list[int]
    """Per low: the pure ones that may come next."""
    hard: list[int]
    """Per low: the others."""
    reach: list[int]
    """Per low: how many of the late have been invoked."""
    free: int
    """The late that may be placed before any of their twins."""
    younger: list[int]
    """Per late operation: the bit of the twin that may be placed after it, or 0."""
    far: int
    """The late that are answered ones, …"""
    reads: int
    """… those of them that are pure, …"""
    gates: Mapping[int, int]
    """… and number by return → bit among the late."""
    needs: Mapping[int, tuple[int, ...]]
    """Operation → those that come before it in every complete order, as far as the model says
    so and real time does not say it already."""
    place: Mapping[int, int]
    """Index in `partition.ops` → number here; what is pure and never answered has none."""


def plan(partition: Partition) -> Plan:
    """Number the operations and say what may come next where.

    :raises ValueError: if an operation returns before it is invoked.
    """
    model, given = partition.model, partition.ops
    by_return = [k for k, op in enumerate(given) if op.answered]
    by_return.sort(key=lambda k: (given[k].returned, given[k].invoked))
    n = len(by_return)
    ends = [given[k].returned or 0 for k in by_return]
    opens = []
    for i, k in enumerate(by_return):
        if ends[i] < given[k].invoked:
            raise ValueError(f"operation {given[k].call} returns before it is invoked")
        opens.append(bisect_left(ends, given[k].invoked))
    late = [k for k, op in enumerate(given) if not op.answered and not model.pure(op)]
    late += [k for i, k in enumerate(by_return) if i - opens[i] > FAR]
    late.sort(key=lambda k: given[k].invoked)
    place = {k: i for i, k in enumerate(by_return)} | {k: n + j for j, k in enumerate(late)}
    gates = {i: 1 << (place[k] - n) for i, k in enumerate(by_return) if place[k] >= n}

    ops = [given[k] for k in (*by_return, *late)]
    kinds: dict[Hashable, dict[int, tuple[int, ...]]] = {}
    moves = [kinds.setdefault((o.name, o.agent, o.input, o.output, o.answered), {}) for o in ops]
    start = model.initial()
    pure = [model.pure(op) for op in ops[:n]]
    easy, hard = _windows(n, opens, pure, gates)
    free, younger = _twins(ops[n:], moves[n:])
    return Plan(
        partition=partition,
        ops=ops,
        answered=n,
        moves=moves,
        states=[start],
        numbers={start: 0},
        easy=easy,
        hard=hard,
        reach=_reach(ends, ops[n:]),
        free=free,
        younger=younger,
        far=sum(gates.values()),
        reads=sum(bit for i, bit in gates.items() if pure[i]),
        gates=gates,
        needs=_needs(partition, place),
        place=place,
    )


def _windows(
    n: int, opens: Sequence[int], pure: Sequence[bool], gates: Mapping[int, int]
) -> tuple[list[int], list[int]]:
    """Per low, the pure operations that may come next, and the others."""
    coming: list[list[int]] = [[] for _ in range(n)]
    for i in range(n):
        if i not in gates:
            coming[opens[i]].append(i)
    easy, hard = [], []
    easy_now = hard_now = 0
    for low in range(n):
        easy_now >>= 1
        hard_now >>= 1
        for i in coming[low]:
            if pure[i]:
                easy_now |= 1 << (i - low)
            else:
                hard_now |= 1 << (i - low)
        easy.append(easy_now)
        hard.append(hard_now)
    return easy, hard


def _reach(ends: Sequence[int], late: Sequence[Op]) -> list[int]:
    reach = []
    count = 0
    for end in ends:
        while count < len(late) and late[count].invoked <= end:
            count += 1
        reach.append(count)
    return reach


def _twins(
    late: Sequence[Op], moves: Sequence[dict[int, tuple[int, ...]]]
) -> tuple[int, list[int]]:
    """Which of the late have no elder twin, and each one's next younger."""
    free = 0
    younger = [0] * len(late)
    youngest: dict[int, int] = {}
    for j, op in enumerate(late):
        elder = None if op.answered else youngest.get(id(moves[j]))
        if elder is None:
            free |= 1 << j
        else:
            younger[elder] = 1 << j
        if not op.answered:
            youngest[id(moves[j])] = j
    return free, younger


def _needs(partition: Partition, place: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    model, ops = partition.model, partition.ops
    if not isinstance(model, Ordering):
        return {}
    needs: dict[int, list[int]] = {}
    for first, then, _ in model.order(ops):
        end = ops[first].returned
        if end is not None and end < ops[then].invoked:
            continue
        if first in place and then in place:
            needs.setdefault(place[then], []).append(place[first])
    return {i: tuple(dict.fromkeys(firsts)) for i, firsts in needs.items()}
