"""Circles of operations that have to come before each other: sound, justified, shortest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import KINDS, history, mistold, pair
from mcpconc.linearize.brute import brute
from mcpconc.linearize.cycle import REAL_TIME, Edge, cycle
from mcpconc.linearize.product import products
from mcpconc.model.base import Model, Op, Ordering, Partition
from mcpconc.model.counter import Counter
from mcpconc.model.log import AppendLog
from mcpconc.model.mutex import Mutex
from mcpconc.model.register import Register

ORDERING = sorted(kind for kind in KINDS if isinstance(KINDS[kind].model, Ordering))


def op(
    call: str, name: str, input: object, output: object, invoked: int, returned: int | None
) -> Op:
    return Op(call, 0, name, input, output, invoked, returned)


def named(model: Model, *ops: Op) -> list[tuple[str, str, str]]:
    return [(ops[e.first].call, ops[e.then].call, e.why) for e in cycle(model, ops)]


STALE = (
    op("append", "append", "t1", None, 0, 1),
    op("read", "read", None, (), 2, 3),
    op("later", "read", None, ("t1",), 4, 5),
)


def test_a_stale_read_comes_before_what_it_came_after() -> None:
    assert named(AppendLog(), *STALE) == [
        ("append", "read", REAL_TIME),
        ("read", "append", "the first does not see the effect of the second"),
    ]


def test_what_has_an_order_has_no_circle() -> None:
    assert named(AppendLog(), STALE[0], STALE[2]) == []


def test_a_model_that_cannot_tell_an_order_has_no_circle() -> None:
    assert named(Mutex(), op("a", "acquire", None, True, 0, 1)) == []


def test_what_nobody_answered_need_not_have_happened() -> None:
    """Each of two writes would have to come before the other, if either took effect."""

    class Both(Register):
        def order(self, ops: Sequence[Op]) -> list[tuple[int, int, str]]:
            return [(0, 1, "because"), (1, 0, "because")]

    lost = [op("a", "write", 1, None, 0, None), op("b", "write", 2, None, 0, None)]
    assert named(Both(), *lost) == []
    assert named(Both(), lost[0], op("b", "write", 2, None, 0, 9))


def test_a_circle_may_take_several_real_time_steps_in_one() -> None:
    told = named(
        Counter(),
        op("a", "add", 1, 3, 0, 1),
        op("x", "read", None, None, 2, 3),
        op("b", "add", 1, 2, 4, 5),
    )
    assert [edge[:2] for edge in told] == [("a", "b"), ("b", "a")]


def test_the_shortest_circle_is_given() -> None:
    """Positions run backwards over five appends, so there is a circle of two."""
    appends = [op(f"a{i}", "append", f"t{i}", 4 - i, 2 * i, 2 * i + 1) for i in range(5)]
    assert len(cycle(AppendLog(), appends)) == 2


def test_without_time_to_look_for_the_shortest_a_circle_is_given() -> None:
    partition = Partition("log", "", AppendLog(), chain(30))
    assert len(cycle(AppendLog(), partition.ops, work=1)) >= 2


def chain(n: int) -> tuple[Op, ...]:
    """Appends whose positions tell their order, all open at once but for the first, which was
    answered before the last one began, and stands behind it."""
    ops = [op(f"a{i}", "append", f"t{i}", i, 1, 50) for i in range(1, n)]
    last = op("last", "append", "z", 0, 9, 60)
    return (last, *ops, op("first", "append", "y", n, 2, 3))


def test_long_histories_take_time_in_proportion() -> None:
    """A circle through all of 20,000 operations, one step of real time in it."""
    assert len(cycle(AppendLog(), chain(20_000))) in range(2, 20_002)


def distances(ops: Sequence[Op], facts: set[tuple[int, int]]) -> int:
    """The length of the shortest circle through an answered operation, the slow way; 0 if none."""
    n = range(len(ops))
    far = len(ops) + 1
    steps = [
        [1 if (a, b) in facts or (a != b and earlier(ops[a], ops[b])) else far for b in n]
        for a in n
    ]
    for k in n:
        for a in n:
            for b in n:
                steps[a][b] = min(steps[a][b], steps[a][k] + steps[k][b])
    round_ = [steps[i][i] for i in n if ops[i].answered and steps[i][i] < far]
    return min(round_, default=0)


def earlier(a: Op, b: Op) -> bool:
    return a.returned is not None and a.returned < b.invoked


def checked(partition: Partition, edges: Sequence[Edge]) -> None:
    """Every edge holds, each begins where the last one ended, and none is needed less."""
    model, ops = partition.model, partition.ops
    assert isinstance(model, Ordering)
    told = list(model.order(ops))
    facts = {(first, then) for first, then, _ in told if first != then}
    assert len(edges) == distances(ops, facts)
    for edge, after in pairwise([*edges, *edges[:1]]):
        assert edge.then == after.first
    for edge in edges:
        real = edge.why == REAL_TIME and earlier(ops[edge.first], ops[edge.then])
        assert real or (edge.first, edge.then, edge.why) in told
    if edges:
        assert not brute(partition)[0]


@pytest.mark.parametrize("kind", ORDERING)
@given(data=st.data())
def test_a_circle_is_justified_shortest_and_never_in_what_has_an_order(
    kind: str, data: st.DataObject
) -> None:
    def upto(n: int) -> int:
        return data.draw(st.integers(0, n))

    partition = history(upto, kind, 6, races=True)
    if upto(1):
        partition = mistold(upto, partition)
    checked(partition, cycle(partition.model, partition.ops))


@given(data=st.data())
def test_so_is_a_circle_across_objects(data: st.DataObject) -> None:
    for partition in products(pair(lambda n: data.draw(st.integers(0, n)), 5)):
        checked(partition, cycle(partition.model, partition.ops))
