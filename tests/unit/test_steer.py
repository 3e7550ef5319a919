"""Schedules that go with a program while it is made smaller, and how often one is run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

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


def test_files_of_an_agent_have_its_new_number() -> None:
    file = "look for ws/active_mcpconc-{}.json"
    skip = [frozenset({f"r:file:ws/active_mcpconc-{agent}.json"}) for agent in range(3)]
    schedule = pack([(2, 1, file.format(2))], skip)
    smaller = compact(without(PROGRAM, ["1.0"]))
    recorded = unpack(carried(schedule, PROGRAM, smaller))
    assert recorded.steps == ((1, 1, file.format(1)),)
    assert recorded.skip == (skip[0], skip[1])


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


SELECT = "SELECT id, status, objective FROM goals WHERE id = ?"
UPDATE = "BEGIN IMMEDIATE: UPDATE goals SET status = ?, goal_data = ? WHERE id = ?"
ACTIVATED = [
    (0, 0, "invoke goals_activate"),
    (0, 1, SELECT),
    (1, 0, "invoke goals_complete"),
    (1, 1, SELECT),
    (1, 1, UPDATE),
    (1, 1, "COMMIT"),
    (0, 1, UPDATE),
    (0, 1, "COMMIT"),
]


def test_what_happened_inside_the_calls() -> None:
    assert inside(pack(ACTIVATED)) == [
        "agent 0 ran goals_activate up to `SELECT … FROM goals …`",
        "then agent 1 ran all of goals_complete, with `UPDATE goals SET status = ?, goal_data = ? "
        "…`",
        "then agent 0 went on with `UPDATE goals SET status = ?, goal_data = ? …` to the end of "
        "goals_activate",
    ]
    assert switched(pack(ACTIVATED)) == 2


def test_calls_are_named_as_in_the_picture() -> None:
    lanes = ((Call("4.1", 0, "goals_activate", {}),), (Call("1.0", 1, "goals_complete", {}),))
    told = inside(pack(ACTIVATED), Program(2, lanes=lanes))
    assert told[0].startswith("agent 0 ran 4.1 goals_activate up to")
    assert told[2].endswith("to the end of 4.1")


def test_a_turn_in_the_middle_of_a_call() -> None:
    steps = [
        *((0, 0, "invoke a"), (1, 0, "invoke b")),
        *((0, 1, SELECT), (1, 1, SELECT)),
        *((0, 1, UPDATE), (0, 1, "COMMIT"), (0, 1, "git notes add refs/notes/x")),
        *((1, 1, UPDATE), (0, 1, "read ws/a.json"), (1, 1, "COMMIT")),
    ]
    assert inside(pack(steps)) == [
        "agent 0 sent a",
        "then agent 1 sent b",
        "then agent 0 went on with `SELECT … FROM goals …`, no further",
        "then agent 1 went on with `SELECT … FROM goals …`, no further",
        "then agent 0 went on with `UPDATE goals SET status = ?, goal_data = ? …` up to "
        "`git notes add refs/notes/x`",
        "then agent 1 went on with `UPDATE goals SET status = ?, goal_data = ? …`, no further",
        "then agent 0 went on with reading ws/a.json to the end of a",
        "then agent 1 went on with `COMMIT` to the end of b",
    ]


def test_a_commit_is_told_with_what_it_commits() -> None:
    steps = [(0, 0, "invoke a"), (0, 1, SELECT), (0, 1, UPDATE), (0, 1, "COMMIT")]
    steps += [(1, 0, "invoke b"), (0, 1, "SELECT 1")]
    assert inside(pack(steps))[0] == (
        "agent 0 ran a up to the `COMMIT` of `UPDATE goals SET status = ?, goal_data = ? …`"
    )


def test_what_the_finding_speaks_of_is_named_first() -> None:
    inserts = [(0, 1, f"INSERT INTO {table} (id)") for table in ("a", "b", "c", "goals")]
    told = inside(pack([(0, 0, "invoke x"), (0, 1, SELECT), *inserts]), None, "two rows of goals")
    assert told == [
        "agent 0 ran all of x, with `SELECT … FROM goals …`, `INSERT INTO a …` and "
        "`INSERT INTO goals …`"
    ]


def test_an_agent_that_goes_on_with_its_next_call() -> None:
    steps = [(0, 0, "invoke a"), (0, 1, UPDATE), (1, 0, "invoke b"), (0, 1, "COMMIT")]
    steps += [(0, 0, "invoke c"), (0, 1, "unlink ws/a.json")]
    assert inside(pack(steps))[2] == (
        "then agent 0 went on with `COMMIT` to the end of a, then ran all of c, with removing "
        "ws/a.json"
    )


def test_who_was_killed_and_where() -> None:
    steps = [(0, 0, "invoke a"), (0, 1, SELECT), Kill(0, 1, "COMMIT", 1)]
    assert inside(pack(steps))[-1] == "agent 0 was killed before `COMMIT`"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "BEGIN IMMEDIATE: INSERT OR REPLACE INTO goals(id, a) VALUES",
            "`INSERT OR REPLACE INTO goals …`",
        ),
        ("INSERT INTO project_unknowns (id, project_", "`INSERT INTO project_unknowns …`"),
        ("SELECT COUNT(*) FROM a", "`SELECT … FROM a`"),
        ("SELECT a, b, c that is cut", "`SELECT a, b, c that is cut`"),
        ("DELETE FROM a WHERE b = ?", "`DELETE FROM a …`"),
        ("UPDATE a SET b = ?", "`UPDATE a SET b = ?`"),
        (
            "UPDATE goals SET status = 'completed', is_completed = #, completed_timestamp = ?",
            "`UPDATE goals SET status = 'completed', is_completed = #, …`",
        ),
        ("x" * 100, f"`{'x' * 59} …`"),
        ("open to truncate ws/a.json", "truncating ws/a.json"),
        ("opened to truncate ws/a.json", "writing ws/a.json"),
        ("look for ws/a.json", "looking for ws/a.json"),
        ("git notes add refs/notes/x", "`git notes add refs/notes/x`"),
    ],
)
def test_a_step_in_few_words(label: str, said: str) -> None:
    steps = [(0, 0, "invoke a"), (0, 1, label), (1, 0, "invoke b"), (0, 1, "COMMIT")]
    assert inside(pack(steps))[0] == f"agent 0 ran a up to {said}"


def test_a_long_schedule_is_cut() -> None:
    steps = [(n % 2, 1, f"step {n}") for n in range(40)]
    assert inside(pack(steps))[-1] == "and 28 more turns"


def test_a_run_without_control_has_nothing_to_tell() -> None:
    assert inside(()) == []
    assert switched(()) == 0
    assert replace(executed(PROGRAM, []), schedule=()).schedule == ()
