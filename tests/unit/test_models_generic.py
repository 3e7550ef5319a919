"""The ready models: each operation once, and that `pure` keeps its word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpconc.model.base import SNAPSHOT, Model, Op, Reject
from mcpconc.model.kv import KeyValue
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register


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
    ],
)
def test_refused(model: Model, state: object, call: Op, why: Reject) -> None:
    assert model.step(state, call) == why


@pytest.mark.parametrize("model", [Register(), KeyValue(), AppendLog()])
def test_unknown_operations_are_an_error(model: Model) -> None:
    with pytest.raises(ValueError, match="not fly"):
        model.step(model.initial(), op("fly"))


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


@pytest.mark.parametrize("model", [Register(), KeyValue(), AppendLog()])
def test_ready_models_know_no_quirks(model: Model) -> None:
    assert model.excusing(frozenset()) == model
    assert model.known_quirks == frozenset()
    assert model.describe(model.initial())


def test_step_does_not_look_at_ids_and_times() -> None:
    call = op("write", 3)
    moved = replace(call, call="other", invoked=7, returned=9)
    assert Register().step(0, call) == Register().step(0, moved)
