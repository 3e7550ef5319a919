"""What matters to whom, and which orders are really different."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mcpconc.schedule.conflicts import (
    Access,
    Learned,
    Pairs,
    conflict,
    effective,
    interleaving,
    matters,
    touch,
)
from mcpconc.schedule.points import Point, Step


def access(reads: str = "", writes: str = "") -> Access:
    return Access(frozenset(reads.split()), frozenset(writes.split()))


def sql(label: str, needs: str = "", holds: str = "", reads: str = "", writes: str = "") -> Point:
    return Point(
        "sql",
        label,
        "m.db",
        needs,
        frozenset(holds.split()),
        frozenset(reads.split()),
        frozenset(writes.split()),
    )


def step(agent: int, label: str, reads: str = "", writes: str = "") -> Step:
    return Step(
        agent, 1, label, "tool", reads=frozenset(reads.split()), writes=frozenset(writes.split())
    )


def test_two_reads_do_not_conflict_and_all_else_does() -> None:
    assert not conflict(access("x"), access("x"))
    assert conflict(access("x"), access(writes="x"))
    assert conflict(access(writes="x"), access("x"))
    assert conflict(access(writes="x"), access(writes="x"))
    assert not conflict(access(writes="x"), access(writes="y"))


def test_a_family_meets_its_members() -> None:
    family = frozenset({"ref:refs/notes/*"})
    assert touch(family, frozenset({"ref:refs/notes/goals"}))
    assert touch(frozenset({"ref:refs/notes/goals/*"}), family)
    round_1 = frozenset({"ref:refs/notes/session/*/CHECK/1"})
    assert touch(round_1, family)
    assert touch(round_1, frozenset({"ref:refs/notes/session/*/1"}))
    assert touch(round_1, frozenset({"ref:refs/notes/session/ab/CHECK/1"}))
    assert not touch(round_1, frozenset({"ref:refs/notes/session/*/CHECK/10"}))
    assert not touch(round_1, frozenset({"ref:refs/notes/session/CHECK/1"}))
    assert not touch(family, frozenset({"ref:refs/heads/main"}))


def test_a_transaction_is_seen_at_its_commit() -> None:
    unseen: dict[str, set[str]] = {}
    begin = effective(sql("BEGIN IMMEDIATE", "write", writes="m.db:goals"), unseen)
    read = effective(sql("SELECT", "", "m.db", reads="m.db:goals"), unseen)
    write = effective(sql("UPDATE", "", "m.db", writes="m.db:goals"), unseen)
    commit = effective(sql("COMMIT", "commit", "m.db"), unseen)
    assert begin == access(writes="lock:m.db")
    assert read == write == access()
    assert commit == access(writes="lock:m.db m.db:goals")
    assert unseen == {}


def test_what_was_rolled_back_is_never_seen() -> None:
    unseen: dict[str, set[str]] = {}
    effective(sql("UPDATE", "", "m.db", writes="m.db:goals"), unseen)
    assert effective(sql("SELECT", "read", reads="m.db:tasks"), unseen) == access("m.db:tasks")
    assert effective(sql("COMMIT", "commit", "m.db"), unseen) == access(writes="lock:m.db")


def test_a_statement_that_is_a_transaction_by_itself_is_seen_at_once() -> None:
    alone = effective(sql("UPDATE", "write", writes="m.db:goals"), {})
    assert alone == access(writes="lock:m.db m.db:goals")


def test_what_a_transaction_does_elsewhere_is_seen_at_once() -> None:
    point = Point("file", "open", holds=frozenset({"m.db"}), writes=frozenset({"file:a"}))
    assert effective(point, {}) == access(writes="file:a")


def test_harmless_is_what_no_other_agents_tools_were_seen_to_disturb() -> None:
    known = Learned()
    known.add("list", "a", access("goals tasks"))
    known.add("create", "b", access("projects", "goals"))
    both = known.harmless([["list"], ["create"]])
    assert both is not None
    assert both[0] == {"r:tasks"}
    assert both[1] == {"r:projects"}
    assert known.harmless([["list"], ["list"]]) == ({"r:goals", "r:tasks"},) * 2
    assert known.harmless([["list"], ["unheard"]]) is None


def test_a_point_matters_if_anything_of_it_may_be_disturbed() -> None:
    harmless = frozenset({"r:tasks"})
    assert not matters(access("tasks"), harmless, takes=False)
    assert matters(access("tasks goals"), harmless, takes=False)
    assert matters(access("never-seen"), harmless, takes=False)
    assert not matters(access(), None, takes=False)


def test_taking_a_lock_matters_and_letting_go_of_one_does_not() -> None:
    lock = access(writes="lock:m.db")
    assert matters(lock, None, takes=True)
    assert not matters(lock, None, takes=False)


steps_of_agents = st.lists(
    st.builds(
        step,
        st.integers(0, 2),
        st.sampled_from("abc"),
        st.sampled_from(["", "x", "y", "x y"]),
        st.sampled_from(["", "x", "z", "n*"]),
    ),
    max_size=10,
)


@given(steps_of_agents, st.integers(0, 2**32))
def test_exchanging_what_does_not_conflict_changes_nothing(steps: list[Step], seed: int) -> None:
    drawn = random.Random(seed)
    other = list(steps)
    for _ in range(20):
        if len(other) > 1:
            n = drawn.randrange(len(other) - 1)
            one, two = other[n : n + 2]
            if one.agent != two.agent and not conflict(one, two):
                other[n : n + 2] = two, one
    assert interleaving(other) == interleaving(steps)


@given(steps_of_agents)
def test_exchanging_what_conflicts_is_another_interleaving(steps: list[Step]) -> None:
    for n in range(len(steps) - 1):
        one, two = steps[n : n + 2]
        same = (one.label, one.reads, one.writes) == (two.label, two.reads, two.writes)
        if one.agent != two.agent and conflict(one, two) and not same:
            other = [*steps[:n], two, one, *steps[n + 2 :]]
            assert interleaving(other) != interleaving(steps)


def test_pairs_are_counted_by_order_until_none_is_new() -> None:
    pairs = Pairs(patience=2)
    first = [step(0, "a", writes="x"), step(1, "b", "x")]
    assert pairs.add(first) == {("tool", "a", "tool", "b")}
    assert pairs.add(first) == frozenset()
    assert not pairs.exhausted
    assert pairs.add(first[::-1]) == {("tool", "b", "tool", "a")}
    pairs.add(first)
    pairs.add(first)
    assert pairs.exhausted
