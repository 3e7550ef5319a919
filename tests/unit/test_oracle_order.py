"""The order oracle: real time, commit order, shown order, and lists that only grow."""

from __future__ import annotations

from typing import Any

from mcpconc.model.spec import Log, Seen
from mcpconc.oracle.base import Result
from mcpconc.oracle.order import order
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict
from runs import ONE_THEN_TWO, TWO_AT_ONCE, Told, heads, run


def rows(*entries: tuple[str, Any], distinct: bool = False) -> Log:
    return Log("round", "s1", "number", entries, distinct)


def judge(log: Log, *lines: str) -> Result:
    return order(run(Told(log=[log]), lines or TWO_AT_ONCE, Snapshot()))


def test_orders_that_agree() -> None:
    log = rows(("1", 1), ("2", 2), distinct=True)
    assert judge(log).verdict is Verdict.OK
    assert judge(log, *ONE_THEN_TWO).verdict is Verdict.OK


def test_concurrent_calls_may_commit_in_any_order() -> None:
    assert judge(rows(("2", 1), ("1", 2))).verdict is Verdict.OK


def test_commit_order_against_real_time() -> None:
    result = judge(rows(("2", None), ("1", None)), *ONE_THEN_TWO)
    assert heads(result) == [("commit-against-real-time", "round", "")]
    assert result.findings[0].calls == ("2", "1")


def test_commit_order_is_compared_across_rows_of_others() -> None:
    lines = ("3> slow", "1> write", "1< ok", "2> write", "2< ok", "3< ok")
    result = judge(rows(("2", None), ("3", None), ("1", None)), *lines)
    assert heads(result) == [("commit-against-real-time", "round", "")]


def test_shown_order_against_commit_order() -> None:
    result = judge(rows(("1", 2), ("2", 1)))
    assert heads(result) == [("shown-against-commit", "round", "number")]


def test_shown_order_against_real_time() -> None:
    result = judge(rows(("1", 2), ("2", 1)), *ONE_THEN_TWO)
    assert ("shown-against-real-time", "round", "number") in heads(result)


def test_ties_matter_only_where_numbers_are_distinct() -> None:
    assert judge(rows(("1", 1), ("2", 1))).verdict is Verdict.OK
    assert heads(judge(rows(("1", 1), ("2", 1), distinct=True))) == [("tie", "round", "number")]


def test_rows_of_no_call_take_part_in_shown_order() -> None:
    assert heads(judge(rows(("", 2), ("1", 1)))) == [("shown-against-commit", "round", "number")]


def test_values_that_cannot_be_compared_are_unknown() -> None:
    assert judge(rows(("1", 1), ("2", "two"))).verdict is Verdict.UNKNOWN


def reads(first: str, second: str, *lines: str, complete: bool = True) -> Result:
    seen = [
        Seen("1", "list", "g", tuple(first)),
        Seen("2", "list", "g", tuple(second), complete),
    ]
    return order(run(Told(reads=seen), lines or ONE_THEN_TWO, Snapshot()))


def test_list_that_grows_at_its_end() -> None:
    assert reads("ab", "abc").verdict is Verdict.OK
    assert reads("", "a").verdict is Verdict.OK


def test_list_that_shrinks() -> None:
    assert heads(reads("ab", "b")) == [("shrinks", "list", "")]


def test_list_whose_past_changes() -> None:
    assert heads(reads("ab", "ba")) == [("reorders", "list", "")]
    assert heads(reads("ab", "axb")) == [("inserts-before-the-end", "list", "")]


def test_read_that_leaves_some_out() -> None:
    assert reads("abc", "cd", complete=False).verdict is Verdict.OK
    assert heads(reads("abc", "cbd", complete=False)) == [("reorders", "list", "")]


def test_reads_that_overlap_are_not_compared() -> None:
    assert reads("ab", "a", *TWO_AT_ONCE).verdict is Verdict.OK


def test_reads_are_judged_without_read_back() -> None:
    seen = [Seen("1", "list", "g", ("a",)), Seen("2", "list", "g", ())]
    result = order(run(Told(reads=seen), ONE_THEN_TWO, None))
    assert heads(result) == [("shrinks", "list", "")]
    assert result.unknown
