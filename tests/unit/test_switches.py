"""Switches of a schedule: told as blocks, and made fewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.schedule.switches import Turn, blocks, fewer, shrink_switches, turns

Steps = tuple[tuple[int, int, str], ...]


def steps(text: str) -> Steps:
    """``a1 a2 b1``: agent a, step 1, …"""
    return tuple((ord(word[0]) - ord("a"), 1, word) for word in text.split())


def shrunk(first: Steps, shows: Callable[[Sequence[str]], bool]) -> Steps:
    search = shrink_switches(first)
    try:
        candidate = next(search)
        while True:
            shown = shows([label for *_, label in candidate])
            candidate = search.send(candidate if shown else None)
    except StopIteration as end:
        return end.value


def test_turns_say_what_was_done_until_another_agent_went_on() -> None:
    schedule = (
        (0, 0, "invoke add"),
        (0, 1, "SELECT"),
        (1, 0, "invoke drop"),
        (1, 1, "DELETE"),
        (0, 1, "UPDATE"),
    )
    assert turns(schedule) == [
        Turn(0, 0, "add", 0, ("SELECT",), begins=True, ends=False),
        Turn(1, 1, "drop", 0, ("DELETE",), begins=True, ends=True),
        Turn(2, 0, "add", 0, ("UPDATE",), begins=False, ends=True),
    ]


def test_who_has_not_sent_a_call_was_not_interrupted() -> None:
    (first, *_) = turns(((0, 0, "invoke a"), (1, 0, "invoke b"), (0, 0, "invoke c")))
    assert first.ends


def test_an_agent_that_goes_on_with_its_next_call_is_not_switched_away_from() -> None:
    told = turns(((0, 0, "invoke a"), (0, 1, "x"), (0, 0, "invoke b"), (0, 1, "y")))
    assert [(t.number, t.tool, t.call, t.ends) for t in told] == [
        (0, "a", 0, True),
        (0, "b", 1, True),
    ]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_candidates_are_the_same_steps_with_fewer_switches(agents: list[int]) -> None:
    first = tuple((agent, 1, str(n)) for n, agent in enumerate(agents))
    for candidate in fewer(first):
        assert sorted(candidate) == sorted(first)
        assert len(blocks(candidate)) < len(blocks(first))
        for agent in set(agents):
            assert [s for s in candidate if s[0] == agent] == [s for s in first if s[0] == agent]


def test_a_lost_update_needs_two_switches() -> None:
    """It shows where both read before either writes."""

    def lost(order: Sequence[str]) -> bool:
        reads = [order.index("a2"), order.index("b2")]
        writes = [order.index("a4"), order.index("b4")]
        return max(reads) < min(writes)

    smallest = shrunk(steps("a1 b1 a2 b2 a3 b3 a4 b4"), lost)
    assert lost([label for *_, label in smallest])
    assert len(blocks(smallest)) == 3


@given(st.permutations(list("aaabbbcc")))
def test_what_shows_always_needs_no_switch_but_from_agent_to_agent(order: list[str]) -> None:
    first = steps(" ".join(f"{name}{n}" for n, name in enumerate(order)))
    assert len(blocks(shrunk(first, lambda labels: True))) == 3


def test_it_stops_when_it_was_tried_often_enough() -> None:
    search = shrink_switches(steps("a1 b1 a2 b2 a3 b3"), attempts=1)
    next(search)
    with pytest.raises(StopIteration) as end:
        search.send(None)
    assert end.value.value == steps("a1 b1 a2 b2 a3 b3")
