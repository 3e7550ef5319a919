"""Goals, tasks and dependencies of the reference server, called directly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcpconc.history import Outcome
from mcpconc.model.empirica.answers import interpret
from mcpconc.reference import dependencies, goals, tasks
from mcpconc.reference.goal_reads import LIMIT
from mcpconc.reference.sessions import session_create
from mcpconc.reference.store import PROJECT, Refused, Store, prepare

TOOLS = {**goals.TOOLS, **tasks.TOOLS, **dependencies.TOOLS}
MISSING = "00000000-0000-4000-8000-000000000000"
THREADS = 8

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    prepare(tmp_path)
    return Store(tmp_path, "agent-0", busy=30.0)


@pytest.fixture
def call(store: Store) -> Call:
    """``call("goals_create", objective=…)``: what the tool answers."""

    def made(tool: str, **args: Any) -> dict[str, Any]:
        done = TOOLS[tool](store, args)
        assert isinstance(done, dict)
        return done

    return made


@pytest.fixture
def session(store: Store) -> str:
    return str(session_create(store, {"ai_id": "ai"})["session_id"])


@pytest.fixture
def goal(call: Call, session: str) -> str:
    return str(call("goals_create", objective="Build it", session_id=session)["goal_id"])


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    with closing(store.connect()) as db:
        return [tuple(row) for row in db.execute(query)]


def note(store: Store, ref: str) -> Any:
    show = ["git", "notes", "--ref", f"empirica/{ref}", "show", "HEAD"]
    done = subprocess.run(show, cwd=store.root / "ws", capture_output=True, check=True)
    return json.loads(done.stdout)


def refusal(call: Call, tool: str, **args: Any) -> tuple[str, Refused]:
    """The class that the client puts this refusal in, and the refusal."""
    with pytest.raises(Refused) as caught:
        call(tool, **args)
    answer = {"ok": False, "error": str(caught.value), **caught.value.more}
    read = interpret(tool, json.dumps(answer))
    assert read.outcome is Outcome.REFUSED
    return str(read.data["error"]), caught.value


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What calls made at the same time answer; a refusal as it is."""

    def attempt(one: Callable[[], Any]) -> Any:
        try:
            return one()
        except Refused as refused:
            return refused

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, calls))


# ---------------------------------------------------------------------------- goals


def test_a_goal_comes_with_its_criterion_edge_and_note(
    store: Store, call: Call, session: str
) -> None:
    made = call("goals_create", objective="Build it", description="soon", session_id=session)
    goal = made["goal_id"]
    assert (made["objective"], made["description"]) == ("Build it", "soon")
    assert rows(store, "SELECT id, status, description FROM goals") == [
        (goal, "in_progress", "soon")
    ]
    assert rows(store, "SELECT goal_id FROM success_criteria") == [(goal,)]
    assert rows(store, "SELECT goal_id, session_id FROM artifact_edges") == [(goal, session)]
    assert note(store, f"goals/{goal}") == {"objective": "Build it", "description": "soon"}


@pytest.mark.parametrize("again", ["build it!", "Build it, and more", "it"])
def test_an_open_goal_with_a_similar_objective_is_told(
    call: Call, session: str, goal: str, again: str
) -> None:
    error, refused = refusal(call, "goals_create", objective=again, session_id=session)
    assert error == "similar-goal"
    assert [told["goal_id"] for told in refused.more["similar_goals"]] == [goal]


def test_a_completed_goal_may_be_made_again(call: Call, session: str, goal: str) -> None:
    call("goals_complete", goal_id=goal)
    assert call("goals_create", objective="Build it", session_id=session)["goal_id"] != goal


def test_a_refused_goal_leaves_nothing(store: Store, call: Call, goal: str, session: str) -> None:
    refusal(call, "goals_create", objective="Build it", session_id=session)
    tables = ("goals", "success_criteria", "artifact_edges")
    assert [rows(store, f"SELECT COUNT(*) FROM {table}") for table in tables] == [[(1,)]] * 3


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"session_id": "nobody's"}, "session-not-found"),
        ({}, "no-session"),
        ({"objective": "?!", "session_id": "any"}, "invalid-input"),
        ({"status": "done", "session_id": "any"}, "invalid-input"),
    ],
)
def test_a_goal_needs_a_session_a_text_and_a_status(
    call: Call, args: dict[str, str], error: str
) -> None:
    assert refusal(call, "goals_create", **{"objective": "Build it", **args})[0] == error


def test_completing_again_leaves_the_last_reason(store: Store, call: Call, goal: str) -> None:
    call("goals_complete", goal_id=goal, reason="first")
    assert call("goals_complete", goal_id=goal, reason="second")["completion_reason"] == "second"
    assert rows(store, "SELECT status, is_completed, completion_reason FROM goals") == [
        ("completed", 1, "second")
    ]


def test_only_a_planned_goal_is_activated(call: Call, session: str) -> None:
    planned = {"objective": "Later", "session_id": session, "status": "planned"}
    goal = call("goals_create", **planned)["goal_id"]
    assert call("goals_activate", goal_id=goal)["status"] == "in_progress"
    error, refused = refusal(call, "goals_activate", goal_id=goal)
    assert (error, "is already in_progress" in str(refused)) == ("not-planned", True)
    call("goals_complete", goal_id=goal)
    error, refused = refusal(call, "goals_activate", goal_id=goal)
    assert (error, "is completed, not planned." in str(refused)) == ("not-planned", True)


def test_a_stale_goal_is_refreshed_once(call: Call, session: str, goal: str) -> None:
    assert refusal(call, "goals_refresh", goal_id=goal)[0] == "not-stale"
    assert call("goals_mark_stale", session_id=session, reason="why")["goals_marked_stale"] == 1
    assert call("goals_refresh", goal_id=goal)["refreshed"]
    assert refusal(call, "goals_refresh", goal_id=goal)[0] == "not-stale"


def test_what_else_is_noted_in_a_goal_leaves_the_mark_alone(
    store: Store, call: Call, session: str, goal: str
) -> None:
    call("goals_mark_stale", session_id=session, reason="why")
    call("goals_add_task", goal_id=goal, description="one")
    ((data,),) = rows(store, "SELECT goal_data FROM goals")
    assert json.loads(data)["metadata"]["stale_reason"] == "why"


def test_completed_goals_and_those_of_other_sessions_are_not_marked(
    store: Store, call: Call, session: str, goal: str
) -> None:
    other = session_create(store, {"ai_id": "other"})["session_id"]
    call("goals_create", objective="Another", session_id=other)
    call("goals_complete", goal_id=goal)
    assert call("goals_mark_stale", session_id=session)["goals_marked_stale"] == 0


def test_the_list_is_of_the_whole_project_newest_first(
    store: Store, call: Call, session: str, goal: str
) -> None:
    other = session_create(store, {"ai_id": "other"})["session_id"]
    newer = call("goals_create", objective="Another", session_id=other)["goal_id"]
    call("goals_add_task", goal_id=goal, description="one")
    shown = call("goals_list", session_id=session)
    assert [one["goal_id"] for one in shown["goals"]] == [newer, goal]
    assert [one["progress"] for one in shown["goals"]] == ["0/0", "0/1"]
    assert (shown["filters"]["project_id"], shown["truncated"]) == (PROJECT, False)


def test_a_long_list_is_cut_and_says_so(call: Call, session: str, goal: str) -> None:
    for n in range(LIMIT):
        call("goals_create", objective=f"number {n:02}", session_id=session)
    shown = call("goals_list", session_id=session)
    assert (shown["goals_count"], shown["total_matching"], shown["truncated"]) == (20, 21, True)
    assert goal not in [one["goal_id"] for one in shown["goals"]]


def test_open_and_completed_goals_are_listed_apart(call: Call, session: str, goal: str) -> None:
    call("goals_complete", goal_id=goal, reason="done")
    assert call("goals_list", session_id=session)["goals"] == []
    (shown,) = call("goals_list", session_id=session, completed=True)["goals"]
    assert (shown["goal_id"], shown["status"]) == (goal, "completed")
    assert (shown["is_completed"], shown["completion_reason"]) == (True, "done")


# ---------------------------------------------------------------------------- tasks


def test_tasks_are_told_oldest_first_with_their_evidence(call: Call, goal: str) -> None:
    one = call("goals_add_task", goal_id=goal, description="one")["task_id"]
    two = call("goals_add_task", goal_id=goal, description="two")["task_id"]
    call("goals_complete_task", task_id=two, evidence="seen")
    shown = call("goals_get_tasks", goal_id=goal)["tasks"]
    assert [task["task_id"] for task in shown] == [one, two]
    assert [task["status"] for task in shown] == ["pending", "completed"]
    assert [task["completion_evidence"] for task in shown] == [None, "seen"]


def test_completing_without_evidence_keeps_what_there_was(
    store: Store, call: Call, goal: str
) -> None:
    task = call("goals_add_task", goal_id=goal, description="one")["task_id"]
    call("goals_complete_task", task_id=task, evidence="seen")
    call("goals_complete_task", task_id=task)
    ((column, data),) = rows(store, "SELECT completion_evidence, subtask_data FROM subtasks")
    assert (column, json.loads(data)["completion_evidence"]) == ("seen", "seen")


def test_progress_counts_tasks(call: Call, goal: str) -> None:
    assert call("goals_progress", goal_id=goal)["total_subtasks"] == 0
    tasks = [call("goals_add_task", goal_id=goal, description=d)["task_id"] for d in "abc"]
    call("goals_complete_task", task_id=tasks[0])
    shown = call("goals_progress", goal_id=goal)
    assert (shown["total_subtasks"], shown["completed_subtasks"]) == (3, 1)


@pytest.mark.parametrize(
    ("tool", "args", "error"),
    [
        ("goals_complete", {"goal_id": MISSING}, "goal-not-found"),
        ("goals_activate", {"goal_id": MISSING}, "goal-not-found"),
        ("goals_refresh", {"goal_id": MISSING}, "not-stale"),
        ("goals_progress", {"goal_id": MISSING}, "goal-not-found"),
        ("goals_add_task", {"goal_id": MISSING, "description": "one"}, "goal-not-found"),
        ("goals_get_tasks", {"goal_id": MISSING}, "no-tasks"),
        ("goals_complete_task", {"task_id": MISSING}, "task-not-found"),
        ("goals_mark_stale", {}, "no-session"),
        ("goals_list", {"session_id": MISSING}, "session-not-found"),
        ("goals_add_dependency", {"goal_id": MISSING, "depends_on": MISSING}, "goal-not-found"),
    ],
)
def test_what_is_not_there_is_refused(
    call: Call, tool: str, args: dict[str, str], error: str
) -> None:
    assert refusal(call, tool, **args)[0] == error


def test_a_goal_without_tasks_says_so(call: Call, goal: str) -> None:
    assert refusal(call, "goals_get_tasks", goal_id=goal)[0] == "no-tasks"


# ---------------------------------------------------------------------------- dependencies


def test_two_goals_depend_on_each_other_once_and_one_way(
    store: Store, call: Call, session: str, goal: str
) -> None:
    other = call("goals_create", objective="Another", session_id=session)["goal_id"]
    made = call("goals_add_dependency", goal_id=goal, depends_on=other, description="why")
    assert made["description"] == "why"
    add = "goals_add_dependency"
    assert refusal(call, add, goal_id=goal, depends_on=other)[0] == "dependency-exists"
    assert refusal(call, add, goal_id=other, depends_on=goal)[0] == "dependency-cycle"
    assert refusal(call, add, goal_id=goal, depends_on=goal)[0] == "dependency-cycle"
    assert refusal(call, add, goal_id=goal, depends_on=MISSING)[0] == "goal-not-found"
    assert rows(store, "SELECT goal_id, depends_on_goal_id FROM goal_dependencies") == [
        (goal, other)
    ]


# ---------------------------------------------------------------------------- all at once


def test_of_equal_goals_made_at_once_one_is_accepted(call: Call, session: str) -> None:
    made = at_once(
        *[lambda: call("goals_create", objective="Build it", session_id=session)] * THREADS
    )
    (accepted,) = [m for m in made if not isinstance(m, Refused)]
    for refused in made:
        if isinstance(refused, Refused):
            (told,) = refused.more["similar_goals"]
            assert told["goal_id"] == accepted["goal_id"]


def test_of_reversed_pairs_added_at_once_one_is_accepted(
    call: Call, session: str, goal: str
) -> None:
    other = call("goals_create", objective="Another", session_id=session)["goal_id"]
    pairs = [(goal, other), (other, goal)] * (THREADS // 2)
    made = at_once(
        *[lambda a=a, b=b: call("goals_add_dependency", goal_id=a, depends_on=b) for a, b in pairs]
    )
    assert sum(not isinstance(m, Refused) for m in made) == 1


def test_of_refreshes_at_once_one_is_accepted(call: Call, session: str, goal: str) -> None:
    call("goals_mark_stale", session_id=session)
    made = at_once(*[lambda: call("goals_refresh", goal_id=goal)] * THREADS)
    assert sum(not isinstance(m, Refused) for m in made) == 1


def test_nothing_is_lost_between_writers_of_one_goal(
    store: Store, call: Call, session: str, goal: str
) -> None:
    def work(n: int) -> None:
        task = call("goals_add_task", goal_id=goal, description=f"task {n}")["task_id"]
        call("goals_complete_task", task_id=task, evidence=f"evidence {n}")

    def finish() -> None:
        call("goals_mark_stale", session_id=session, reason="old")
        call("goals_complete", goal_id=goal, reason="enough")

    at_once(*[lambda n=n: work(n) for n in range(16)], finish)
    assert call("goals_progress", goal_id=goal)["completed_subtasks"] == 16
    ((status, reason, data),) = rows(
        store, "SELECT status, completion_reason, goal_data FROM goals"
    )
    assert (status, reason) == ("completed", "enough")
    assert json.loads(data)["metadata"]["stale_reason"] == "old"


def test_progress_never_shows_two_moments(call: Call, goal: str) -> None:
    """Each task is completed before the next one is added."""

    def one(n: int) -> None:
        task = call("goals_add_task", goal_id=goal, description=f"a {n}")["task_id"]
        call("goals_complete_task", task_id=task)

    def read() -> tuple[int, int]:
        shown = call("goals_progress", goal_id=goal)
        return (shown["completed_subtasks"], shown["total_subtasks"])

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(lambda: [one(n) for n in range(20)])
        seen = []
        while not writer.done():
            seen.append(read())
        writer.result()
    assert all(total - completed in (0, 1) for completed, total in seen)
    assert seen == sorted(seen)


def test_tasks_added_at_once_are_told_in_the_order_of_their_commits(
    store: Store, call: Call, goal: str
) -> None:
    at_once(
        *[
            lambda n=n: call("goals_add_task", goal_id=goal, description=f"task {n}")
            for n in range(24)
        ]
    )
    told = [task["task_id"] for task in call("goals_get_tasks", goal_id=goal)["tasks"]]
    assert told == [id for (id,) in rows(store, "SELECT id FROM subtasks ORDER BY rowid")]
