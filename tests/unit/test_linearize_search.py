"""What the search says of small histories, and its promises about budgets, fairness and cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from histories import Bag
from mcpconc.linearize import plan
from mcpconc.linearize.search import check, check_all, decide
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.log import AppendLog
from mcpconc.model.queue import Queue
from mcpconc.model.register import Register
from mcpconc.verdict import Verdict


def op(
    call: str, name: str, input: object, output: object, invoked: int, returned: int | None
) -> Op:
    return Op(call, 0, name, input, output, invoked, returned)


def register(*ops: Op) -> Partition:
    return Partition("register", "it", Register(), ops)


def hopeless(clients: int = 9) -> Partition:
    """All calls overlap and the last shows none of their orders: nearly n! configurations."""
    calls = tuple(op(f"e{i}", "enqueue", i, None, i, 100) for i in range(clients))
    contents = op("c", "contents", None, (*range(clients - 1), -1), 101, 102)
    return Partition("queue", "hopeless", Queue(), (*calls, contents))


WRONG_READ = register(op("w", "write", 1, None, 0, 1), op("r", "read", None, 2, 2, 3))


def test_intervals_are_closed() -> None:
    write = op("w", "write", 1, None, 5, 6)
    assert check(register(op("r", "read", None, 1, 0, 5), write)).verdict is Verdict.OK
    assert check(register(op("r", "read", None, 1, 0, 4), write)).verdict is Verdict.VIOLATION


def test_an_unanswered_call_takes_effect_at_any_later_time_or_never() -> None:
    lost = op("lost", "write", 1, None, 0, None)
    for seen in ((0, 0), (0, 1), (1, 1)):
        reads = (op(f"r{i}", "read", None, v, 10 + 2 * i, 11 + 2 * i) for i, v in enumerate(seen))
        assert check(register(lost, *reads)).verdict is Verdict.OK
    back = (op("r0", "read", None, 1, 10, 11), op("r1", "read", None, 0, 12, 13))
    assert check(register(lost, *back)).verdict is Verdict.VIOLATION


def test_an_unanswered_call_does_not_take_effect_before_it_is_invoked() -> None:
    read = op("r", "read", None, 1, 0, 4)
    assert check(register(read, op("w", "write", 1, None, 5, None))).verdict is Verdict.VIOLATION


def test_an_unanswered_call_takes_effect_once() -> None:
    lost = op("lost", "append", "x", None, 0, None)
    twice = op("r", "read", None, ("x", "x"), 10, 11)
    assert check(Partition("log", "it", AppendLog(), (lost, twice))).verdict is Verdict.VIOLATION


def test_each_twin_takes_effect_on_its_own() -> None:
    twins = tuple(op(f"t{i}", "append", "x", None, i, None) for i in range(3))
    for count, verdict in ((3, Verdict.OK), (4, Verdict.VIOLATION)):
        read = op("r", "read", None, ("x",) * count, 10, 11)
        assert check(Partition("log", "it", AppendLog(), (*twins, read))).verdict is verdict


def test_a_state_reached_by_spending_much_does_not_hide_the_way_that_spends_little() -> None:
    # Both lost writes of 1 lead to one state; the last read needs one of them to be left.
    lost = (op("l1", "write", 1, None, 0, None), op("l2", "write", 1, None, 1, None))
    answers = (1, 0, 1)
    zero = op("z", "write", 0, None, 4, 5)
    reads = [op(f"r{i}", "read", None, v, 2 + 4 * i, 3 + 4 * i) for i, v in enumerate(answers)]
    assert check(register(*lost, zero, *reads)).verdict is Verdict.OK


def test_every_branch_is_followed() -> None:
    draws = tuple(op(f"d{i}", "draw", None, True, i, i) for i in range(2))
    for left in range(3):
        has = [op(f"h{v}", "has", v, v == left, 5, 6) for v in range(3)]
        assert check(Partition("bag", "it", Bag(), (*draws, *has))).verdict is Verdict.OK


def test_a_snapshot_is_a_read_after_all_that_was_answered() -> None:
    last = op(SNAPSHOT, SNAPSHOT, None, 2, 20, 21)
    writes = (op("a", "write", 1, None, 0, 5), op("b", "write", 2, None, 1, 6))
    found = check(register(*writes, last))
    assert (found.verdict, found.order) == (Verdict.OK, ("a", "b", SNAPSHOT))


def test_a_violation_says_where_the_longest_order_stops() -> None:
    found = check(WRONG_READ)
    assert (found.verdict, found.order, found.state) == (Verdict.VIOLATION, ("w",), 1)
    assert found.stuck == (("r", Reject("value", 1, 2)),)


@pytest.mark.parametrize("budget", [1, 10, 5_000])
def test_a_hopeless_history_ends_within_its_budget(budget: int) -> None:
    found = check(hopeless(), budget)
    assert found.verdict is Verdict.UNKNOWN
    assert found.steps <= budget + 2 * len(hopeless().ops)


def test_a_violation_is_told_before_a_hopeless_partition_is_given_up() -> None:
    number, answer = next(decide([hopeless(), WRONG_READ], budget_each=10**9))
    assert (number, answer.verdict) == (1, Verdict.VIOLATION)


def test_every_partition_is_decided_in_the_order_given() -> None:
    answers = check_all([hopeless(), WRONG_READ, register()], budget_each=20_000, slice=100)
    assert [a.verdict for a in answers] == [Verdict.UNKNOWN, Verdict.VIOLATION, Verdict.OK]


def test_slices_change_nothing() -> None:
    partitions = [hopeless(5), WRONG_READ]
    assert check_all(partitions, slice=7) == [check(p) for p in partitions]


def test_overlapping_reads_cost_one_step_each() -> None:
    reads = (op(f"r{i}", "read", None, 0, i, 10_000) for i in range(1_000))
    assert check(register(*reads)).steps == 1_000


def test_long_histories_cost_time_in_proportion() -> None:
    def steps(calls: int) -> int:
        writes = (op(f"w{i}", "write", i % 3, None, 10 * i, 10 * i + 25) for i in range(calls))
        return check(register(*writes)).steps

    assert steps(4_000) <= 2 * steps(2_000) + 10


def test_an_interval_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(ValueError, match="operation r returns before it is invoked"):
        check(register(op("r", "read", None, 0, 5, 4)))


def test_a_call_that_is_open_for_the_whole_run_costs_little() -> None:
    slow = op("slow", "write", -1, None, 0, 10**6)
    reads = [
        op(f"r{i}", "read", None, 0 if i < 5_000 else -1, 2 * i, 2 * i + 1) for i in range(9_000)
    ]
    ready = plan.plan(register(slow, *reads))
    assert max(mask.bit_length() for mask in (*ready.easy, *ready.hard)) <= plan.FAR
    found = check(ready.partition)
    assert (found.verdict, found.order[5_000]) == (Verdict.OK, "slow")
    assert found.steps < 20_000


def test_a_long_open_call_is_placed_before_what_follows_it() -> None:
    slow = op("slow", "write", 1, None, 0, 5_000)
    early = [op(f"r{i}", "read", None, 0, 2 * i, 2 * i + 1) for i in range(2_000)]
    late = op("late", "read", None, 0, 5_001, 5_002)
    assert check(register(slow, *early)).verdict is Verdict.OK
    found = check(register(slow, *early, late))
    assert (found.verdict, found.stuck[0][0]) == (Verdict.VIOLATION, "late")


def test_of_long_open_calls_none_is_left_out() -> None:
    missing = op("slow", "cas", (7, 8), True, 0, 9_000)
    reads = [op(f"r{i}", "read", None, 0, 2 * i, 2 * i + 1) for i in range(2_000)]
    found = check(register(missing, *reads))
    assert (found.verdict, found.stuck) == (
        Verdict.VIOLATION,
        (("slow", Reject("set", False, True)),),
    )


@pytest.mark.parametrize("budget", [1_000, 50_000])
def test_budgets_hold_however_many_calls_are_lost(budget: int) -> None:
    lost = [op(f"w{i}", "write", i, None, 0, None) for i in range(2_000)]
    reads = [op(f"r{i}", "read", None, i % 7, 2 * i, 2 * i + 1) for i in range(500)]
    found = check(register(*lost, *reads), budget)
    assert found.verdict is not Verdict.OK
    assert found.steps <= budget + 2_500


def test_time_is_asked_for_after_each_slice() -> None:
    asked = iter([False, False, True])
    answers = decide([hopeless()], 10**9, 100, expired=lambda: next(asked))
    ((_, found),) = answers
    assert found.verdict is Verdict.UNKNOWN
    assert 300 <= found.steps < 400


def test_unique_values_decide_what_would_take_every_order() -> None:
    appends = [op(f"a{i}", "append", i, None, i, 100) for i in range(40)]
    shown = tuple(reversed(range(40)))
    read = op("r", "read", None, shown, 101, 102)
    good = Partition("log", "it", AppendLog(), (*appends, read))
    assert check(good).order == (*(f"a{i}" for i in shown), "r")
    assert check(good).steps < 2_000
    wrong = replace(read, output=(*shown[1:], -1))
    bad = Partition("log", "it", AppendLog(), (*appends, wrong))
    assert check(bad, 20_000).verdict is Verdict.VIOLATION


def test_the_longest_order_is_looked_for_unless_asked_to_be_brief() -> None:
    # The read shows b and not a, so a would have to come after a read that came after it.
    calls = (
        op("a", "append", "a", None, 0, 2),
        op("b", "append", "b", None, 1, 3),
        op("r", "read", None, ("b",), 5, 6),
    )
    partition = Partition("log", "it", AppendLog(), calls)
    whole, brief = check(partition), check(partition, brief=True)
    assert (whole.verdict, len(whole.order)) == (Verdict.VIOLATION, 2)
    assert (brief.verdict, brief.order) == (Verdict.VIOLATION, ("b",))
    assert brief.steps < whole.steps
