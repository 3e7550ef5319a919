"""Who goes next: pure choices."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.schedule.points import Step
from mcpconc.schedule.policies import First, Follow, Pct, Policy, Walk

Lanes = Sequence[Sequence[str]]
"""Labels by agent; who is at its end can no longer go."""


def play(policy: Policy, lanes: Lanes, writes: str = "x") -> str:
    """Run little programs of one thread each; agents in the order in which they went."""
    at = [0] * len(lanes)
    went: list[int] = []
    last = None
    while True:
        options = [
            Step(agent, 1, labels[at[agent]], writes=frozenset(writes))
            for agent, labels in enumerate(lanes)
            if at[agent] < len(labels)
        ]
        if not options:
            return "".join(map(str, went))
        chosen = options[policy.choose(options, last)]
        last = chosen.id
        at[chosen.agent] += 1
        went.append(chosen.agent)


def test_first_goes_on_with_whoever_went_last() -> None:
    assert play(First(), ["ab", "abc", "a"]) == "001112"
    assert First().choose([Step(0, 1, "a"), Step(1, 1, "a")], (1, 1)) == 1


@given(st.integers(0, 2**32))
def test_a_walk_is_the_same_for_a_seed(seed: int) -> None:
    assert play(Walk(seed), ["abcd", "abcd"]) == play(Walk(seed), ["abcd", "abcd"])


def test_a_walk_gives_each_the_same_chance() -> None:
    options = [Step(agent, 1, "a") for agent in range(4)]
    went = Counter(Walk(seed).choose(options, None) for seed in range(2000))
    assert all(400 < went[n] < 600 for n in range(4))


# -- PCT ---------------------------------------------------------------------------------------


def test_pct_of_depth_one_changes_nobody() -> None:
    runs = {play(Pct(seed, 1, 2, 6, True), ["abc", "abc"]) for seed in range(20)}
    assert runs == {"000111", "111000"}


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_pct_has_one_change_less_than_its_depth(depth: int) -> None:
    for seed in range(50):
        went = play(Pct(seed, depth, 2, 20, True), ["a" * 10, "a" * 10])
        changes = sum(one != other for one, other in itertools.pairwise(went))
        assert changes <= depth  # one of them because somebody was at his end


def test_pct_reaches_every_single_preemption() -> None:
    runs = {play(Pct(seed, 2, 2, 8, True), ["a" * 4, "a" * 4]) for seed in range(400)}
    assert runs >= {"0" * n + "1111" + "0" * (4 - n) for n in range(5)}
    assert runs >= {"1" * n + "0000" + "1" * (4 - n) for n in range(5)}


def test_pct_keeps_its_promise() -> None:
    """An ordering of depth two: agent 1 goes once agent 0 has made exactly two of its steps."""
    n, k = 2, 8
    hits = sum(play(Pct(s, 2, n, k, True), ["a" * 4, "a" * 4]) == "00111100" for s in range(3000))
    assert hits / 3000 >= 1 / (n * k) * 0.8


def test_pct_says_what_it_promises_and_of_what() -> None:
    (remark,) = Pct(0, 3, 2, 10, True).remarks()
    assert remark.startswith("pct: n=2 agents, k=10 steps in the run before, d=3:")
    assert remark.endswith("1/(n*k^(d-1)) = 1/200")


def test_pct_promises_nothing_where_it_guessed() -> None:
    (remark,) = Pct(0, 3, 2, 24, False).remarks()
    assert remark == "pct: change points were drawn over 24 steps, a guess: no run came before"


@given(st.integers(0, 99), st.integers(1, 9), st.integers(0, 5))
def test_pct_can_do_with_any_length(seed: int, depth: int, length: int) -> None:
    assert sorted(play(Pct(seed, depth, 2, length, True), ["ab", "abc"])) == list("00111")


# -- following ---------------------------------------------------------------------------------


def recorded(went: str, lanes: Lanes) -> list[tuple[int, int, str]]:
    at: Counter[int] = Counter()
    steps = []
    for agent in map(int, went):
        steps.append((agent, 1, lanes[agent][at[agent]]))
        at[agent] += 1
    return steps


@given(st.permutations("0001112"))
def test_what_was_recorded_is_followed(went: list[str]) -> None:
    lanes = ["abc", "abc", "z"]
    follow = Follow(recorded("".join(went), lanes), First())
    assert play(follow, lanes) == "".join(went)
    assert follow.followed
    assert follow.remarks() == []


def test_another_label_is_a_divergence() -> None:
    follow = Follow([(1, 1, "a"), (0, 1, "X"), (1, 1, "b")], First())
    assert play(follow, ["ab", "ab"]) == "1100"
    assert not follow.followed
    assert follow.remarks() == [
        "replay diverged at step 1 of 3: thread 0.1 was to go on from 'X', but it stands at 'a'; "
        "it went on with whoever is first"
    ]


def test_somebody_who_cannot_go_is_a_divergence() -> None:
    follow = Follow([(0, 1, "a"), (0, 1, "b")], Walk(0))
    assert sorted(play(follow, ["a", "z"])) == ["0", "1"]
    assert follow.remarks() == [
        "replay diverged at step 1 of 2: thread 0.1 was to go on from 'b', but it cannot go; "
        "who can: 1.1 at 'z'; it went on at random"
    ]


def test_numbers_of_threads_are_names() -> None:
    """Where calls are started another way, a process before it may have had its number."""
    follow = Follow([(0, 2, "worker"), (0, 2, "COMMIT")], First())
    other = [Step(0, 1, "a"), Step(0, 4, "worker")]
    assert follow.choose(other, None) == 1
    assert follow.choose([Step(0, 1, "a"), Step(0, 4, "COMMIT")], None) == 1
    assert follow.followed


def test_whoever_is_there_is_meant_whatever_others_stand_at() -> None:
    follow = Follow([(0, 2, "COMMIT")], First())
    follow.choose([Step(0, 2, "ROLLBACK"), Step(0, 4, "COMMIT")], None)
    assert "it stands at 'ROLLBACK'" in follow.diverged


def test_a_run_that_ends_before_its_record_has_diverged() -> None:
    follow = Follow([(0, 1, "a"), (0, 1, "b")], First())
    play(follow, ["a"])
    assert follow.remarks() == ["replay diverged at step 1 of 2: the run was over"]


def test_loosely_labels_do_not_matter_and_what_cannot_be_done_is_left_out() -> None:
    steps = [(1, 1, "other"), (7, 1, "nobody"), (0, 1, "a"), (1, 1, "b"), (1, 1, "too many")]
    follow = Follow(steps, First(), loose=True)
    assert play(follow, ["ab", "ab"]) == "1010"
    assert follow.remarks() == []


def test_who_sleeps_is_woken_by_a_step_that_conflicts() -> None:
    asleep = {0: Step(0, 1, "a", reads=frozenset("x"))}
    assert play(Follow([], First(), asleep=asleep), ["aa", "bb"], writes="x") == "1100"
    assert play(Follow([], First(), asleep=asleep), ["aa", "bb", "c"], writes="y") == "11200"
    # After the first step that conflicts, it is awake; `First` goes on with who went last.
    both = Follow([], Walk(3), asleep=asleep)
    assert play(both, ["aa", "bb"], writes="x")[0] == "1"
