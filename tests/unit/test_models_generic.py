"""The ready models: each operation once, and that `pure` keeps its word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpconc.model.base import SNAPSHOT, Model, Op, Ordering, Reject
from mcpconc.model.counter import Counter
from mcpconc.model.keyed import Keyed, by_key, together
from mcpconc.model.kv import KeyValue
from mcpconc.model.log import AppendLog
from mcpconc.model.mutex import Mutex
from mcpconc.model.queue import EMPTY, Queue
from mcpconc.model.register import Register
from mcpconc.model.set import Set

ALL = [
    Register(),
    KeyValue(),
    AppendLog(),
    Set(),
    Counter(),
    Queue(),
    Mutex(),
    Keyed(KeyValue(), ("x", "y")),
]
NAMES = [model.name for model in ALL]


def op(name: str, input: object = None, output: object = None) -> Op:
    return Op("c", 0, name, input, output, 0, 1)


@pytest.mark.parametrize(
    ("model", "state", "call", "after"),
    [
        (Register(), 0, op("read", output=0), 0),
        (Register(), 0, op("read"), 0),
        (Register(), 0, op("write", 3), 3),
        (Register(), 0, op("cas", (0, 4), True), 4),
        (Register(), 0, op("cas", (1, 4), False), 0),
        (Register(), 0, op("cas", (0, 4)), 4),
        (Register(), 0, op(SNAPSHOT, output=0), 0),
        (KeyValue(), "a", op("get", output="a"), "a"),
        (KeyValue(), "a", op("put", "b"), "b"),
        (KeyValue(), "a", op("append", "b"), "ab"),
        (AppendLog(), ("a",), op("append", "b", 1), ("a", "b")),
        (AppendLog(), ("a",), op("append", "b"), ("a", "b")),
        (AppendLog(), ("a",), op("read", output=("a",)), ("a",)),
        (Set(), frozenset("a"), op("add", "b", True), frozenset("ab")),
        (Set(), frozenset("a"), op("add", "a", False), frozenset("a")),
        (Set(), frozenset("a"), op("remove", "a", True), frozenset()),
        (Set(), frozenset("a"), op("remove", "b"), frozenset("a")),
        (Set(), frozenset("a"), op("contains", "b", False), frozenset("a")),
        (Set(), frozenset("a"), op("members", output=frozenset("a")), frozenset("a")),
        (Counter(), 1, op("add", 2, 3), 3),
        (Counter(), 1, op("add", -2), -1),
        (Counter(), 1, op("read", output=1), 1),
        (Queue(), ("a",), op("enqueue", "b"), ("a", "b")),
        (Queue(), ("a", "b"), op("dequeue", output="a"), ("b",)),
        (Queue(), (), op("dequeue", output=EMPTY), ()),
        (Queue(), ("a", "b"), op("contents", output=("a", "b")), ("a", "b")),
        (Mutex(), None, op("acquire", output=True), 0),
        (Mutex(), 1, op("acquire", output=False), 1),
        (Mutex(), 0, op("release", output=True), None),
        (Mutex(), 1, op("release"), 1),
        (Mutex(), None, op(SNAPSHOT, output=-1), None),
        (Keyed(Register(), ("x", "y")), (0, 0), op("write", ("y", 3)), (0, 3)),
    ],
)
def test_accepted(model: Model, state: object, call: Op, after: object) -> None:
    assert list(model.step(state, call)) == [after]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "state", "call", "why"),
    [
        (Register(), 0, op("read", output=1), Reject("value", 0, 1)),
        (Register(), 0, op("cas", (1, 4), True), Reject("set", False, True)),
        (Register(), 1, op("cas", (1, 4), False), Reject("set", True, False)),
        (KeyValue(), "a", op("get", output=""), Reject("value", "a", "")),
        (KeyValue(), "a", op(SNAPSHOT, output="b"), Reject("value", "a", "b")),
        (AppendLog(), ("a",), op("append", "b", 0), Reject("position", 1, 0)),
        (AppendLog(), ("a",), op("read", output=()), Reject("entries", ("a",), ())),
        (Set(), frozenset("a"), op("add", "a", True), Reject("added", False, True)),
        (Set(), frozenset(), op("remove", "a", True), Reject("removed", False, True)),
        (Set(), frozenset("a"), op("contains", "a", False), Reject("contains", True, False)),
        (Counter(), 1, op("add", 2, 2), Reject("added", 3, 2)),
        (Counter(), 1, op("read", output=2), Reject("count", 1, 2)),
        (Queue(), ("a", "b"), op("dequeue", output="b"), Reject("taken", "a", "b")),
        (Queue(), (), op("dequeue", output="b"), Reject("taken", EMPTY, "b")),
        (Queue(), ("a",), op("contents", output=()), Reject("contents", ("a",), ())),
        (Mutex(), 1, op("acquire", output=True), Reject("acquired", False, True)),
        (Mutex(), 1, op("release", output=True), Reject("released", False, True)),
        (Mutex(), 1, op(SNAPSHOT, output=-1), Reject("holder", 1, -1)),
        (Keyed(Register(), ("x",)), (0,), op("read", ("x", None), 3), Reject("value", 0, 3)),
    ],
)
def test_refused(model: Model, state: object, call: Op, why: Reject) -> None:
    assert model.step(state, call) == why


@pytest.mark.parametrize("model", ALL, ids=NAMES)
def test_unknown_operations_are_an_error(model: Model) -> None:
    with pytest.raises(ValueError, match="not fly"):
        model.step(model.initial(), op("fly", ("x", 1)))


@pytest.mark.parametrize(
    ("model", "states", "calls"),
    [
        (
            Register(),
            [0, 1, 2],
            [
                op("read", output=1),
                op("write", 1),
                op("cas", (0, 1), True),
                op("cas", (0, 0)),
                op("cas", (0, 1), False),
                op(SNAPSHOT, output=0),
            ],
        ),
        (KeyValue(), ["", "a"], [op("get", output=""), op("put", "a"), op("append", "")]),
        (AppendLog(), [(), ("a",)], [op("read", output=()), op("append", "a", 0)]),
        (
            Set(),
            [frozenset(), frozenset("a")],
            [op(name, "a", out) for name in ("add", "remove", "contains") for out in (True, False)],
        ),
        (Counter(), [0, 1], [op("read", output=1), op("add", 0), op("add", 0, 1), op("add", 1)]),
        (
            Queue(),
            [(), ("a",)],
            [op("dequeue", output=EMPTY), op("dequeue", output="a"), op("contents", output=())],
        ),
        (
            Mutex(),
            [None, 0, 1],
            [op(name, None, out) for name in ("acquire", "release") for out in (True, False)],
        ),
    ],
)
def test_pure_operations_leave_every_state_as_it_is(
    model: Model, states: list[object], calls: list[Op]
) -> None:
    assert any(model.pure(call) for call in calls)
    for call in filter(model.pure, calls):
        for state in states:
            result = model.step(state, call)
            assert isinstance(result, Reject) or list(result) == [state]


@pytest.mark.parametrize("model", ALL, ids=NAMES)
def test_ready_models_know_no_quirks(model: Model) -> None:
    assert model.excusing(frozenset()) == model
    assert model.known_quirks == frozenset()
    assert model.describe(model.initial())


def test_step_does_not_look_at_ids_and_times() -> None:
    call = op("write", 3)
    moved = replace(call, call="other", invoked=7, returned=9)
    assert Register().step(0, call) == Register().step(0, moved)


def told(model: Ordering, *calls: Op) -> set[tuple[int, int]]:
    """Pairs that come before one another; the calls overlap unless times say otherwise."""
    return {(first, then) for first, then, _ in model.order(calls)}


def test_parts_of_a_text_were_written_in_its_order() -> None:
    a, b, c = op("append", "a"), op("append", "b"), op("put", "c")
    assert told(KeyValue(), a, b, op("get", output="ba")) == {(1, 0)}
    assert told(KeyValue(), a, b, op("get", output="b"), op("get", output="ba")) == {(1, 0), (2, 0)}
    assert (0, 2) in told(KeyValue(), a, op("get", output="a"), c, op("get", output="c"))


def test_a_text_that_can_be_taken_apart_in_two_ways_tells_nothing() -> None:
    calls = (op("append", "a"), op("append", "aa"), op("get", output="aaa"))
    assert not told(KeyValue(), *calls)


def test_a_value_that_was_written_twice_tells_nothing() -> None:
    twice = (op("append", "a"), op("append", "a"), op("append", "b"), op("get", output="ab"))
    assert not told(KeyValue(), *twice)
    assert not told(Register(), op("write", 1), op("write", 1), op("cas", (1, 2), True))
    lost = Op("lost", 0, "cas", (0, 1), None, 0, None)
    assert not told(Register(), op("write", 1), lost, op("cas", (1, 2), True))


def test_what_no_text_shows_comes_after_them_unless_something_overwrites() -> None:
    a, read = op("append", "a"), op("get", output="")
    assert told(KeyValue(), a, read) == {(1, 0)}
    assert not told(KeyValue(), op("append", "b"), op("put", "c"), op("get", output="c"))


def test_a_register_holds_a_value_once() -> None:
    one = Op("w", 0, "write", 1, None, 0, 20)
    seen = Op("r", 0, "read", None, 1, 0, 1)
    two = Op("v", 0, "write", 2, None, 0, 20)
    later = Op("q", 0, "read", None, 2, 5, 6)
    assert told(Register(), one, seen, two, later) == {(0, 2), (1, 2)}
    assert told(Register(), op("write", 1), op("cas", (1, 2), True)) == {(0, 1)}


def test_intervals_that_touch_tell_nothing() -> None:
    one = (Op("w", 0, "write", 1, None, 0, 5), Op("r", 0, "read", None, 1, 0, 9))
    two = (Op("v", 0, "write", 2, None, 0, 9), Op("q", 0, "read", None, 2, 5, 9))
    assert not told(Register(), *one, *two)
    first, then = Op("d", 0, "dequeue", None, "a", 0, 5), Op("e", 0, "dequeue", None, "b", 5, 9)
    calls = (op("enqueue", "a"), op("enqueue", "b"), first, then)
    assert told(Queue(), *calls) == {(0, 2), (1, 3)}


def test_positions_tell_the_order_of_a_log() -> None:
    a, b = op("append", "a", 1), op("append", "b", 0)
    assert told(AppendLog(), a, b) == {(1, 0)}
    assert told(AppendLog(), a, b, op("read", output=("b",))) == {(1, 0), (2, 0)}


def test_what_nobody_removes_is_added_after_reads_without_it() -> None:
    calls = (op("add", "a"), op("members", output=frozenset()))
    assert told(Set(), *calls) == {(1, 0)}
    assert not told(Set(), *calls, op("remove", "a"))


def test_a_counter_that_only_grows_is_its_own_clock() -> None:
    calls = (op("add", 1, 3), op("add", 2, 2), op("read", output=2))
    assert told(Counter(), *calls) == {(1, 0), (2, 0)}
    assert not told(Counter(), *calls, op("add", -1))


def test_what_is_taken_out_in_turn_was_put_in_in_turn() -> None:
    first = Op("d", 0, "dequeue", None, "a", 0, 1)
    then = Op("e", 0, "dequeue", None, "b", 2, 3)
    calls = (op("enqueue", "b"), op("enqueue", "a"), first, then)
    assert told(Queue(), *calls) == {(1, 0), (1, 2), (0, 3)}
    assert not told(Queue(), op("enqueue", "a"), op("enqueue", "a"), op("dequeue", output="a"))


def test_keys_are_judged_apart_or_together() -> None:
    calls = [op("write", ("x", 1)), op("write", ("y", 2)), op("read", ("x", None), 1)]
    apart = by_key("register", Register(), calls)
    assert [(p.key, len(p.ops), p.ops[0].input) for p in apart] == [("x", 2, 1), ("y", 1, 2)]
    whole = together("register", Register(), calls)
    assert whole.model.initial() == (0, 0)
    assert whole.model.describe((1, 2)) == "x: value 1; y: value 2"
