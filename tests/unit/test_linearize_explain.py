"""Explanations: what is said of a violation, and that it does not depend on ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import KINDS, history, mistold
from mcpconc.linearize.explain import Explanation, explain, show
from mcpconc.linearize.product import product
from mcpconc.linearize.search import check
from mcpconc.model.base import SNAPSHOT, Model, Op, Partition, Reject
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register
from mcpconc.verdict import Verdict


def op(
    call: str,
    agent: int,
    name: str,
    input: object,
    output: object,
    invoked: int,
    returned: int | None,
) -> Op:
    return Op(call, agent, name, input, output, invoked, returned)


def left(output: object) -> Op:
    return Op(SNAPSHOT, -1, SNAPSHOT, None, output, 100, 101)


def why(model: Model, *ops: Op) -> Explanation:
    partition = Partition("list", "it", model, ops)
    return explain(partition, check(partition))


LOST_UPDATE = (
    op("a", 0, "append", "t1", None, 0, 2),
    op("b", 1, "append", "t2", None, 1, 3),
    left(("t2",)),
)


def test_a_lost_update_is_told_order_by_order() -> None:
    told = why(AppendLog(), *LOST_UPDATE)
    assert told.lines == (
        "No order of a (append) and b (append) explains what is left:",
        "  a before b leaves entries [t1, t2];",
        "  b before a leaves entries [t2, t1];",
        "  found entries [t2] (t1 is missing), and both calls were answered.",
        "a and b overlapped: each was invoked before the other was answered.",
    )
    assert told.pair == ("a", "b")
    assert (told.call, told.field) == (SNAPSHOT, "entries")


def test_answers_that_no_order_gives_are_told_with_what_each_order_would_answer() -> None:
    told = why(
        AppendLog(),
        op("a", 0, "append", "t1", 0, 0, 2),
        op("b", 1, "append", "t2", 0, 1, 3),
    )
    assert told.lines[:3] == (
        "No order of a (append) and b (append) explains what they got:",
        "  a before b: b must get position 1 (by then: [t1]), but it got 0;",
        "  b before a: a must get position 1 (by then: [t2]), but it got 0.",
    )


def test_orders_are_told_as_far_as_they_go() -> None:
    told = why(
        Register(),
        op("w", 0, "write", 1, None, 0, 9),
        op("r1", 1, "read", None, 1, 1, 2),
        op("r2", 1, "read", None, 0, 3, 4),
    )
    assert told.lines == (
        "No order of w (write), r1 (read) and r2 (read) explains what they got:",
        "  w, then r1, then r2: r2 must get value 1, but it got 0;",
        "  r1 first: r1 must get value 0, but it got 1.",
        "w and r2 overlapped: each was invoked before the other was answered.",
    )


def test_a_call_that_nobody_answered_may_be_left_out() -> None:
    told = why(
        Register(),
        op("a", 0, "write", 1, None, 0, None),
        op("b", 1, "write", 2, None, 1, 2),
        left(3),
    )
    assert told.lines[1:4] == (
        "  b alone or a before b leaves value 2;",
        "  b before a leaves value 1;",
        "  found value 3.",
    )


def test_the_race_is_the_writes_before_and_not_the_reads_that_show_it() -> None:
    told = why(
        AppendLog(),
        op("a", 0, "append", "t1", None, 0, 2),
        op("b", 1, "append", "t2", None, 1, 3),
        op("r", 2, "read", None, ("t2",), 5, 7),
        op("q", 3, "read", None, ("t2",), 6, 8),
    )
    assert told.pair == ("a", "b")


def test_what_goes_wrong_one_call_at_a_time_is_said_to_do_so() -> None:
    told = why(
        Register(),
        op("w", 0, "write", 1, None, 0, 1),
        op("r", 0, "read", None, 2, 2, 3),
    )
    assert told.lines == (
        "Of the calls that matter here no two overlapped, so there is one order only: w (write).",
        "  After these r (read) must get value 1, but it got 2.",
    )
    assert told.pair is None


WRITES = tuple(op(f"w{i}", i, "write", i, None, i, 50) for i in range(1, 8))


def test_large_windows_are_told_by_how_far_an_order_gets_and_what_stops_it() -> None:
    append = [op(f"a{i}", i, "append", i, None, i, 50) for i in range(7)]
    told = why(AppendLog(), *append, op("r", 9, "read", None, ("x",), 60, 61))
    assert told.lines[0] == "No order of these 8 calls explains what r (read) got:"
    assert told.lines[1].startswith("  the longest order found explains 7 of them, a0 (append)")
    assert "after these r (read) must get entries [0, 1, 2, 3" in told.lines[1]


def test_all_that_orders_of_a_large_window_may_leave_is_told_if_that_is_little() -> None:
    told = why(Register(), *WRITES, left(99))
    assert told.lines[1].endswith("leaves value 7, but value 99 was found.")
    assert told.lines[2].startswith("  Such orders may leave value 1, or value 2, or value 3")
    assert told.lines[2].endswith("or value 7, and nothing else.")


def test_a_circle_is_told_where_there_are_too_many_orders() -> None:
    first = op("r1", 8, "read", None, 1, 60, 61)
    told = why(Register(), *WRITES, first, op("r2", 8, "read", None, 2, 62, 63))
    assert told.lines[2:5] == (
        "No order can hold w2 (write) and r1 (read), because these go round in a circle:",
        "  w2 comes before r1: it was answered before r1 was invoked;",
        "  r1 comes before w2: what r1 saw or wrote was gone for good when w2 wrote.",
    )
    assert [edge[:2] for edge in told.cycle] == [("w2", "r1"), ("r1", "w2")]


def test_a_circle_is_not_told_where_few_orders_say_it_all() -> None:
    told = why(
        Register(),
        op("w", 0, "write", 1, None, 0, 1),
        op("r", 1, "read", None, 0, 2, 9),
        op("v", 2, "write", 2, None, 3, 8),
        op("q", 3, "read", None, 1, 4, 7),
    )
    assert told.lines[0] == "No order of r (read) and v (write) explains what r got:"
    assert told.cycle
    assert not any("circle" in line for line in told.lines)


def test_a_read_that_changes_nothing_about_it_is_left_out() -> None:
    a, b, snapshot = LOST_UPDATE
    idle = op("idle", 2, "read", None, (), 0, 9)
    assert why(AppendLog(), a, b, idle, snapshot).lines == why(AppendLog(), *LOST_UPDATE).lines


def test_a_call_that_may_have_seen_what_is_left_out_is_not_held_to_its_answer() -> None:
    told = why(
        AppendLog(),
        op("late", 0, "append", "t2", 1, 0, 9),
        op("wrong", 1, "append", "t1", 5, 1, 2),
        op("next", 2, "append", "t3", 0, 4, 5),
    )
    assert all("late must" not in line for line in told.lines)


def test_what_is_explained_begins_where_there_is_one_state_only() -> None:
    """The last overlap is of c and r, but what they can do depends on the race before."""
    told = why(
        AppendLog(),
        op("a", 0, "append", "t1", None, 0, 3),
        op("b", 1, "append", "t2", None, 1, 2),
        op("c", 0, "append", "t3", None, 5, 9),
        op("r", 1, "read", None, ("t1", "t2"), 6, 8),
        left(("t2", "t1", "t3")),
    )
    assert told.lines[0] == (
        "No order of a (append), b (append), c (append) and r (read) explains what is left:"
    )
    assert "  a, then b, then r, then c leaves entries [t1, t2, t3];" in told.lines
    assert "  b, then a, then r: r must get entries [t2, t1], but it got [t1, t2];" in told.lines


def test_calls_whose_place_makes_no_difference_are_left_out_of_the_orders() -> None:
    told = why(
        Register(),
        op("a", 0, "write", 1, None, 0, 8),
        op("b", 1, "write", 2, None, 1, 9),
        op("c", 2, "cas", (7, 8), None, 2, 10),
        left(3),
    )
    assert told.lines[1:3] == ("  a before b leaves value 2;", "  b before a leaves value 1;")


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_any_violation_is_explained_in_terms_of_its_own_calls(
    kind: str, data: st.DataObject
) -> None:
    def upto(n: int) -> int:
        return data.draw(st.integers(0, n))

    partition = mistold(upto, history(upto, kind, 6, races=True))
    found = check(partition)
    if found.verdict is not Verdict.VIOLATION:
        return
    told = explain(partition, found)
    ops = {op.call: op for op in partition.ops}
    assert told.lines
    assert told.call in told.calls
    assert set(told.calls) <= ops.keys()
    if told.pair is not None:
        a, b = sorted((ops[call] for call in told.pair), key=lambda op: op.invoked)
        assert a.returned is None or a.returned >= b.invoked


def test_refusals_are_told_as_such() -> None:
    told = why(
        OneWinner(),
        op("a", 0, "taken", None, True, 0, 2),
        op("b", 1, "taken", None, True, 1, 3),
    )
    assert (
        told.lines[1]
        == "  a before b: b must be refused (taken; by then: value 1), but it was accepted;"
    )


def test_joined_objects_tell_what_each_would_have_answered() -> None:
    x = (op("wx", 0, "write", 1, None, 0, 1), *WRITES[:5], op("list", 8, "read", None, 0, 0, 99))
    y = (op("wy", 0, "write", 1, None, 60, 61), op("list", 8, "read", None, 1, 0, 99))
    joined = product(
        [Partition("goal", key, Register(), ops) for key, ops in zip("xy", (x, y), strict=True)]
    )
    told = explain(joined, check(joined))
    assert {edge[2] for edge in told.cycle} == {
        "if wx came first, list must get goal.value 5, but it got 0",
        "it was answered before wy was invoked",
        "if list came first, list must get goal.value 0, but it got 1",
    }


def test_a_write_that_is_stuck_goes_before_a_read_that_only_follows_from_it() -> None:
    cas = op("cas", 0, "cas", (5, 6), True, 0, 9)
    read = op("read", 1, "read", None, 6, 1, 2)
    told = why(Register(), cas, read)
    assert (told.call, told.field) == ("cas", "set")


@pytest.mark.parametrize("ids", [("a", "b"), ("z", "y"), ("0", "00")])
def test_ids_are_names_and_change_nothing(ids: tuple[str, str]) -> None:
    a, b, snapshot = LOST_UPDATE
    told = why(AppendLog(), replace(a, call=ids[0]), replace(b, call=ids[1]), snapshot)
    assert told.lines[1] == f"  {ids[0]} before {ids[1]} leaves entries [t1, t2];"
    assert (told.field, told.pair) == ("entries", ids)


@dataclass(frozen=True)
class OneWinner(Register):
    """Whoever comes second is refused, and the field is named after him."""

    def step(self, state: object, op: Op) -> Sequence[object] | Reject:
        return (1,) if state == 0 else Reject(op.name, "refused", "accepted")


@pytest.mark.parametrize(("a_returns", "b_returns"), [(2, 3), (3, 2)])
def test_the_field_does_not_depend_on_which_call_returns_first(
    a_returns: int, b_returns: int
) -> None:
    told = why(
        OneWinner(),
        op("a", 0, "first", None, True, 0, a_returns),
        op("b", 1, "second", None, True, 1, b_returns),
    )
    assert told.field == "first"


def test_the_call_that_is_stuck_is_one_of_the_pair() -> None:
    told = why(
        Register(),
        op("a", 0, "cas", (9, 1), True, 0, 9),
        op("b", 1, "write", 1, None, 1, 3),
        op("c", 2, "write", 2, None, 2, 4),
    )
    assert told.pair == ("a", "c")


def test_there_is_nothing_to_explain_in_what_is_explained() -> None:
    partition = Partition("list", "it", AppendLog(), ())
    with pytest.raises(ValueError, match="nothing to explain"):
        explain(partition, check(partition))


def test_values_are_shown_for_people() -> None:
    assert show(frozenset({"b", "a"})) == "{a, b}"
    assert show((1, ("x", None))) == "[1, [x, nothing]]"
    assert show("") == "''"
    assert show(True) == "true"
    assert show((("know", 0.5), ("do", 1.0))) == "{know 0.5, do 1.0}"
    assert show(Reject("value", 1, None)) == "{field value, expected 1}"
    assert show("x" * 500).endswith("…")
