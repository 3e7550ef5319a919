"""The operations that an explanation is about, and the states that there may be before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mcpconc.model.base import SNAPSHOT, Model, Op, Reject

__all__ = ["BUDGET", "WIDEST", "any_overlap", "overlap", "placings", "precedes", "until", "windows"]

BUDGET = 20_000
"""So many sets of operations with their states are looked at, and no more."""
WIDEST = 64
"""Of more operations than these no sets are formed."""


def windows(
    ops: Sequence[Op], stuck: Op, model: Model
) -> Iterator[tuple[frozenset[Any], list[Op]]]:
    """Windows, the smallest first, each with all states that there may be where it begins.

    A window goes from a cluster of overlapping operations that changes something to whatever
    may precede `stuck`. A cluster is what lies between two moments at which no answered
    operation is open; what was never answered is in every window that it may be in.
    """
    last = stuck.returned if stuck.returned is not None else stuck.invoked
    known = until(ops, last)
    late = [op for op in known if op.returned is None and not model.pure(op)]
    clusters: list[list[Op]] = []
    end = -1
    for op in known:
        if op.returned is None:
            continue
        if not clusters or op.invoked > end:
            clusters.append([])
        clusters[-1].append(op)
        end = max(end, op.returned)
    home = next(i for i, cluster in enumerate(clusters) if stuck in cluster)
    clusters = clusters[: home + 1]

    def races(cluster: Sequence[Op]) -> bool:
        """Whether something overlaps here and something is changed."""
        changing = [op for op in cluster if op.call != SNAPSHOT and not model.pure(op)]
        return bool(changing) and (len(cluster) > 1 or any(overlap(op, cluster[0]) for op in late))

    states = _states(model, clusters, late)
    racing = [i for i in range(home, -1, -1) if races(clusters[i])]
    for i in racing or [home]:
        window = [op for cluster in clusters[i:] for op in cluster]
        window += [op for op in late if op not in window]
        yield states[i], sorted(window, key=lambda op: op.invoked)


def until(ops: Sequence[Op], last: int) -> list[Op]:
    """The operations invoked no later than `last`. What was still open when the first of the
    others began may have seen that one, so its answer does not count."""
    cut = min((op.invoked for op in ops if op.invoked > last), default=None)
    return [
        replace(op, output=None, returned=None)
        if cut is not None and op.returned is not None and op.returned >= cut
        else op
        for op in ops
        if op.invoked <= last
    ]


def _states(
    model: Model, clusters: Sequence[Sequence[Op]], late: Sequence[Op]
) -> list[frozenset[Any]]:
    """All states before each cluster; empty from where they take too long to tell."""
    found: list[frozenset[Any]] = [frozenset([model.initial()])]
    steps = BUDGET
    for cluster in clusters[:-1]:
        if not found[-1] or len(cluster) + len(late) > WIDEST:
            found.append(frozenset())
            continue
        end = max(op.returned or 0 for op in cluster)
        others = [*cluster, *(op for op in late if op.invoked <= end)]
        states: set[Any] = set()
        for placed, state in placings(model, found[-1], others, steps):
            steps -= 1
            if all(placed >> i & 1 for i, op in enumerate(others) if op.answered):
                states.add(state)
        found.append(frozenset(states) if steps > 0 else frozenset())
    return found


def placings(
    model: Model, states: Iterable[Any], ops: Sequence[Op], most: int
) -> Iterator[tuple[int, Any]]:
    """Each set of `ops` that some order places, as a mask, with each state it may leave; no
    more than `most` of them."""
    behind = [sum(1 << i for i, b in enumerate(ops) if precedes(b, op)) for op in ops]
    todo = [(0, state) for state in states]
    seen = set(todo)
    while todo and most > 0:
        placed, state = todo.pop()
        most -= 1
        yield placed, state
        for i, op in enumerate(ops):
            if placed >> i & 1 or placed & behind[i] != behind[i]:
                continue
            result = model.step(state, op)
            for new in () if isinstance(result, Reject) else result:
                if (placed | 1 << i, new) not in seen:
                    seen.add((placed | 1 << i, new))
                    todo.append((placed | 1 << i, new))


def precedes(a: Op, b: Op) -> bool:
    return a.returned is not None and a.returned < b.invoked


def overlap(a: Op, b: Op) -> bool:
    first, second = (a, b) if a.invoked <= b.invoked else (b, a)
    return first.returned is None or first.returned >= second.invoked


def any_overlap(ops: Sequence[Op]) -> bool:
    """Whether two of these, which are in order of invocation, overlap."""
    end: int | None = -1
    for op in ops:
        if end is None or op.invoked <= end:
            return True
        end = op.returned
    return False
