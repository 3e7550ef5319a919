"""Schedules that go with a program while it is made smaller, and how often one is run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio

from mcpconc.again import BARREN, MOST, Turn
from mcpconc.cuts import compact, merge, without
from mcpconc.history import History
from mcpconc.oracle.base import Judgement, Run
from mcpconc.program import Call, Program
from mcpconc.report.schedule import inside, switched
from mcpconc.rig import Execution
from mcpconc.schedule import Scheduler
from mcpconc.schedule.conflicts import Pairs
from mcpconc.schedule.points import Kill, Step, pack, unpack
from mcpconc.schedule.switches import blocks
from mcpconc.steer import carried, fewest_switches, steered

PROGRAM = Program(
    3, lanes=tuple((Call(f"{agent}.0", agent, f"tool{agent}", {}),) for agent in range(3))
)
SKIP = [frozenset({"r:a", "r:b"}), frozenset({"r:b"}), frozenset({"r:c"})]
STEPS = [(0, 1, "SELECT"), (2, 1, "UPDATE"), (0, 1, "COMMIT")]
SCHEDULE = pack([*STEPS, Kill(2, 1, "COMMIT", 2)], SKIP)


def executed(program: Program, schedule: list[Any]) -> Execution:
    run = Run(program, History((), ()), None, None, None)
    return Execution(run, Judgement(()), "pct:3", 1, 0.1, tuple(schedule))


# ------------------------------------------------------------------ carried


def test_agents_keep_their_steps_when_they_get_other_numbers() -> None:
    smaller = compact(without(PROGRAM, ["1.0"]))
    recorded = unpack(carried(SCHEDULE, PROGRAM, smaller))
    assert recorded.steps == ((0, 1, "SELECT"), (1, 1, "UPDATE"), (0, 1, "COMMIT"))
    assert recorded.kills == (Kill(1, 1, "COMMIT", 2),)
    assert recorded.skip == (SKIP[0], SKIP[2])


def test_steps_of_an_agent_that_is_gone_are_left_out() -> None:
    smaller = compact(without(PROGRAM, ["2.0"]))
    recorded = unpack(carried(SCHEDULE, PROGRAM, smaller))
    assert recorded.steps == ((0, 1, "SELECT"), (0, 1, "COMMIT"))
    assert recorded.kills == ()


def test_what_merged_agents_skip_is_what_both_may() -> None:
    smaller = compact(merge(PROGRAM, 1, 0))
    recorded = unpack(carried(SCHEDULE, PROGRAM, smaller))
    assert recorded.skip == (frozenset({"r:b"}), SKIP[2])


def test_a_candidate_gets_the_schedule_at_hand_and_then_searches() -> None:
    names = [one.name for one in steered(executed(PROGRAM, SCHEDULE), PROGRAM, 1, 3)]
    assert names == ["replay:loose", "pct:3", "random"]


# ------------------------------------------------------------------ fewest switches

AGENT = {"a": 0, "b": 1}


def steps_of(text: str) -> list[tuple[int, int, str]]:
    """``aabab``: who goes on."""
    seen = {"a": 0, "b": 0}
    found = []
    for letter in text:
        seen[letter] += 1
        found.append((AGENT[letter], 1, f"{letter}{seen[letter]}"))
    return found


def smallest(text: str, attempts: int = 100, expired: bool = False) -> tuple[str, int]:
    """It shows where b's first step comes between a's first and a's last."""
    made = 0

    def shows(execution: Execution) -> bool:
        order = [label for _, _, label in unpack(execution.schedule).steps]
        last = max(label for label in order if label.startswith("a"))
        return order.index("a1") < order.index("b1") < order.index(last)

    async def run(program: Program, scheduler: Scheduler) -> Execution:
        nonlocal made
        made += 1
        recorded: Any = scheduler
        return executed(program, pack(recorded._recorded.steps))

    best = executed(PROGRAM, pack(steps_of(text)))
    done = anyio.run(
        lambda: fewest_switches(best, shows, run, attempts=attempts, expired=lambda: expired)
    )
    assert shows(done)
    return "".join(label[0] for _, _, label in unpack(done.schedule).steps), made


def test_two_switches_are_left_where_two_are_needed() -> None:
    text, _ = smallest("abababbaab")
    assert len(blocks(steps_of(text))) == 3


def test_attempts_and_time_are_limits() -> None:
    assert smallest("ababab", attempts=1)[1] <= 1
    assert smallest("ababab", expired=True) == ("ababab", 0)


# ------------------------------------------------------------------ again


def step(agent: int, label: str) -> Step:
    return Step(agent, 1, label, "tool", writes=frozenset({"db:t"}))


def run(turn: Turn, pairs: Pairs, *labels: str) -> None:
    steps = [step("ab".index(label[0]), label) for label in labels]
    pairs.add(steps)
    turn.add(steps, pairs)


def test_a_program_is_exhausted_when_its_runs_repeat_themselves() -> None:
    turn, pairs = Turn(PROGRAM), Pairs()
    run(turn, pairs, "a1", "b1")
    for _ in range(BARREN):
        assert not turn.exhausted
        run(turn, pairs, "a1", "b1")
    assert turn.exhausted


def test_something_new_is_worth_another_run() -> None:
    turn, pairs = Turn(PROGRAM), Pairs()
    for _ in range(BARREN):
        run(turn, pairs, "a1", "b1")
    run(turn, pairs, "b1", "a1")
    assert not turn.exhausted


def test_no_program_is_run_for_ever() -> None:
    turn, pairs = Turn(PROGRAM), Pairs()
    for n in range(MOST):
        assert not turn.exhausted
        run(turn, pairs, "a1", f"b{n}")
    assert turn.exhausted


# ------------------------------------------------------------------ what is told


def test_what_happened_inside_the_calls() -> None:
    schedule = pack(
        [
            (0, 0, "invoke goals_create"),
            (0, 1, "SELECT id FROM goals"),
            (1, 0, "invoke goals_create"),
            (1, 1, "BEGIN IMMEDIATE"),
            (0, 1, "INSERT INTO goals"),
            Kill(0, 1, "COMMIT", 1),
        ]
    )
    assert inside(schedule) == [
        "agent 0 ran up to INSERT INTO goals",
        "then agent 1 ran whole",
        "then agent 0 went on with INSERT INTO goals",
        "agent 0 was killed before COMMIT",
    ]
    assert switched(schedule) == 2


def test_a_long_schedule_is_cut() -> None:
    steps = [(n % 2, 1, f"step {n}") for n in range(40)]
    told = inside(pack(steps))
    assert told[-1] == "and 28 more turns"
    assert all(len(line) <= 96 for line in inside(pack([(0, 1, "x" * 300), (1, 1, "y" * 300)])))


def test_a_run_without_control_has_nothing_to_tell() -> None:
    assert inside(()) == []
    assert switched(()) == 0
    assert replace(executed(PROGRAM, []), schedule=()).schedule == ()
