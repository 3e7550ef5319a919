"""Why no order works, in one circle: each of these operations comes before the next one.

Two things tell that one operation comes before another: real time (it was answered before the
other was invoked), and what was seen (`Ordering`). Both hold in every order that explains all
answered operations, so where they close a circle there is no such order; and the shortest circle
is all that has to be read to see it.

Real time relates nearly all pairs, so it is not written out: operations are joined through a line
of moments, from the one at which an operation is answered down to each later one at which another
is invoked. That gives edges in proportion to operations and facts. Strongly connected components
(Tarjan, SIAM J. Comput. 1972) say where circles are, and breadth-first searches from the ends of
facts, each no deeper than the shortest circle so far, find the shortest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcpconc.model.base import Model, Op, Ordering

__all__ = ["REAL_TIME", "Edge", "cycle"]

REAL_TIME = "the first was answered before the second was invoked"

WORK = 200_000
"""Edges looked at. Past that the shortest circle found so far is given."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Number `first` comes before number `then`. `why` says so of "the first" and "the second"."""

    first: int
    then: int
    why: str


def cycle(model: Model, ops: Sequence[Op], work: int = WORK) -> tuple[Edge, ...]:
    """The shortest circle of operations that have to come before each other, by number in `ops`;
    nothing where there is none. One that is found proves that no order explains `ops`.

    A circle holds two operations at least, and one that was answered: what was not may never
    have taken effect, and then nothing has to come before it. Where looking for the shortest
    takes more than `work` steps, a circle is given that may not be.
    """
    if not isinstance(model, Ordering):
        return ()
    said: dict[tuple[int, int], str] = {}
    for first, then, why in model.order(ops):
        if first != then:
            said.setdefault((first, then), why)
    edges = _edges(ops, said)
    home = _components(edges)
    answered = {home[i] for i, op in enumerate(ops) if op.answered}
    inside = [pair for pair in said if home[pair[0]] == home[pair[1]] in answered]
    twos = [(a, b) for a, b in inside if _mutual(ops, said, a, b)]
    # What real time contradicts is the easiest to see.
    twos.sort(key=lambda pair: not _earlier(ops[pair[1]], ops[pair[0]]))
    best = [twos[0][1], twos[0][0]] if twos else []
    for first, then in inside:
        if len(best) == 2 or work < 0:
            break
        # Each has a circle, which may pass twice through operations that nobody answered.
        limit = len(best) - 1 if best else 2 * len(ops)
        path, steps = _path(edges, home, then, first, limit, ops)
        work -= steps
        best = path or best
    return tuple(
        Edge(a, b, REAL_TIME if _earlier(ops[a], ops[b]) else said[a, b])
        for a, b in zip(best, [*best[1:], *best[:1]], strict=True)
    )


def _mutual(ops: Sequence[Op], said: Mapping[tuple[int, int], str], a: int, b: int) -> bool:
    """Whether `b` comes before `a` too, and one of them was answered."""
    again = _earlier(ops[b], ops[a]) or (b, a) in said
    return again and (ops[a].answered or ops[b].answered)


def _earlier(a: Op, b: Op) -> bool:
    return a.returned is not None and a.returned < b.invoked


def _edges(ops: Sequence[Op], said: Mapping[tuple[int, int], str]) -> list[list[int]]:
    """Operation → operation as facts say; operation → moment → next moment → operation as real
    time says. Moments are numbered behind the operations."""
    n = len(ops)
    moments = sorted({op.invoked for op in ops})
    edges: list[list[int]] = [[] for _ in range(n + len(moments))]
    for first, then in said:
        edges[first].append(then)
    place = {moment: n + k for k, moment in enumerate(moments)}
    for k in range(len(moments) - 1):
        edges[n + k].append(n + k + 1)
    for i, op in enumerate(ops):
        edges[place[op.invoked]].append(i)
        if op.returned is not None:
            later = bisect_right(moments, op.returned)
            if later < len(moments):
                edges[i].append(n + later)
    return edges


def _components(edges: Sequence[Sequence[int]]) -> list[int]:
    """The number of each node's strongly connected component."""
    home = [-1] * len(edges)
    index = [-1] * len(edges)
    low = [0] * len(edges)
    open_: list[int] = []
    count = 0
    for root in range(len(edges)):
        if index[root] >= 0:
            continue
        stack = [(root, 0)]
        while stack:
            node, next_ = stack.pop()
            if next_ == 0:
                index[node] = low[node] = count
                count += 1
                open_.append(node)
            else:
                low[node] = min(low[node], low[edges[node][next_ - 1]])
            while next_ < len(edges[node]):
                other = edges[node][next_]
                next_ += 1
                if index[other] < 0:
                    stack += [(node, next_), (other, 0)]
                    break
                if home[other] < 0:
                    low[node] = min(low[node], index[other])
            else:
                if low[node] == index[node]:
                    while home[node] < 0:
                        home[open_.pop()] = node
    return home


def _path(
    edges: Sequence[Sequence[int]],
    home: Sequence[int],
    start: int,
    end: int,
    limit: int,
    ops: Sequence[Op],
) -> tuple[list[int], int]:
    """The shortest path of operations from `start` to `end` with at most `limit` of them, one of
    which was answered, inside their component; and the steps that took.

    Only steps *to* an operation count, so moments cost nothing (a breadth-first search in which
    they go first). A node is met in two ways: with an answered operation before it, and without.
    """
    n = len(ops)
    first = (start, ops[start].answered)
    before: dict[tuple[int, bool], tuple[int, bool] | None] = {first: None}
    length = {first: 1}
    queue = deque([first])
    steps = 0
    while queue:
        node = queue.popleft()
        if node[0] == end and node[1]:
            path = []
            at: tuple[int, bool] | None = node
            while at is not None:
                if at[0] < n:
                    path.append(at[0])
                at = before[at]
            return path[::-1], steps
        for other in edges[node[0]]:
            steps += 1
            is_op = other < n
            new = (other, node[1] or (is_op and ops[other].answered))
            longer = length[node] + is_op
            if home[other] != home[start] or longer > limit or length.get(new, limit + 1) <= longer:
                continue
            length[new] = longer
            before[new] = node
            if is_op:
                queue.append(new)
            else:
                queue.appendleft(new)
    return [], steps
