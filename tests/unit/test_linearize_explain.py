"""Explanations: what is said of a violation, and that it does not depend on ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from mcpconc.linearize.explain import Explanation, explain, show
from mcpconc.linearize.search import check
from mcpconc.model.base import SNAPSHOT, Model, Op, Partition, Reject
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register


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
        "No order of A (append) and B (append) explains what is left:",
        "  A before B leaves entries [t1, t2];",
        "  B before A leaves entries [t2, t1];",
        "  found entries [t2] (t1 is missing), and both calls were answered.",
        "A (append) and B (append) overlapped: each was invoked before the other was answered.",
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
        "No order of A (append) and B (append) explains what they got:",
        "  A before B makes B (append) get position 1, but it got 0;",
        "  B before A makes A (append) get position 1, but it got 0.",
    )


def test_calls_of_one_agent_are_numbered() -> None:
    told = why(
        Register(),
        op("w", 0, "write", 1, None, 0, 9),
        op("r1", 1, "read", None, 1, 1, 2),
        op("r2", 1, "read", None, 0, 3, 4),
    )
    assert told.lines == (
        "No order of A (write), B1 (read) and B2 (read) explains what they got:",
        "  A, then B1, then B2 makes B2 (read) get value 1, but it got 0;",
        "  B1 first makes B1 (read) get value 0, but it got 1.",
        "A (write) and B2 (read) overlapped: each was invoked before the other was answered.",
    )


def test_a_call_that_nobody_answered_may_be_left_out() -> None:
    told = why(
        Register(),
        op("a", 0, "write", 1, None, 0, None),
        op("b", 1, "write", 2, None, 1, 2),
        left(3),
    )
    assert told.lines[1:4] == (
        "  B alone or A before B leaves value 2;",
        "  B before A leaves value 1;",
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
    assert told.lines[-1] == "No two of these calls overlapped: they go wrong one at a time."
    assert told.pair is None


def test_large_clusters_are_told_by_the_longest_order_only() -> None:
    writes = [op(f"w{i}", i, "write", i, None, i, 50) for i in range(7)]
    told = why(Register(), *writes, left(99))
    assert len(told.lines) == 3
    assert "but 99 was found" in told.lines[1]


def test_a_write_that_is_stuck_goes_before_a_read_that_only_follows_from_it() -> None:
    cas = op("cas", 0, "cas", (5, 6), True, 0, 9)
    read = op("read", 1, "read", None, 6, 1, 2)
    told = why(Register(), cas, read)
    assert (told.call, told.field) == ("cas", "set")


@pytest.mark.parametrize("ids", [("a", "b"), ("z", "y"), ("0", "00")])
def test_ids_change_nothing(ids: tuple[str, str]) -> None:
    a, b, snapshot = LOST_UPDATE
    told = why(AppendLog(), replace(a, call=ids[0]), replace(b, call=ids[1]), snapshot)
    assert told.lines == why(AppendLog(), *LOST_UPDATE).lines
    assert told.pair == ids


@dataclass(frozen=True)
class OneWinner(Register):
    """Whoever comes second is refused, and the field is named after him."""

    def step(self, state: object, op: Op) -> Sequence[object] | Reject:
        return (1,) if state == 0 else Reject(op.name, "refused", "done")


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
    assert show("x" * 500).endswith("…")
