"""Programs of two concurrent calls, and what is told of runs beside their verdicts; for the
benchmarks of controlled schedules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from mcpconc.history import History
from mcpconc.program import Call, Program, Ref, token_for

__all__ = ["PAIRS", "WAITED", "pair", "remarks"]

VECTORS = {"know": 0.6, "uncertainty": 0.2, "engagement": 0.7}
SESSION, GOAL = Ref("0.0", "session_id"), Ref("0.1", "goal_id")
WAITED = "agent # waited for a lock that could not be foreseen"

Args = Callable[[int, str], dict[str, Any]]


def _text(argument: str) -> Args:
    return lambda agent, token: {"session_id": SESSION, argument: token}


def _assessment(agent: int, token: str) -> dict[str, Any]:
    return {"session_id": SESSION, "vectors": VECTORS, "reasoning": token}


def _task(n: int) -> Ref:
    return Ref(f"0.{2 + n}", "task_id")


def _edge(agent: int, token: str) -> dict[str, Any]:
    ends = (GOAL, Ref("0.4", "goal_id"))
    return {"goal_id": ends[agent], "depends_on": ends[1 - agent]}


CALLS: dict[str, tuple[str, Args]] = {
    "finding_log": ("finding_log", _text("finding")),
    "the same finding_log": (
        "finding_log",
        lambda agent, token: {"session_id": SESSION, "finding": "the cache is cold"},
    ),
    "unknown_log": ("unknown_log", _text("unknown")),
    "goals_create": ("goals_create", _text("objective")),
    "the same goals_create": (
        "goals_create",
        lambda agent, token: {"session_id": SESSION, "objective": "find the cause"},
    ),
    "goals_list": ("goals_list", lambda agent, token: {"session_id": SESSION}),
    "goals_add_task": (
        "goals_add_task",
        lambda agent, token: {"goal_id": GOAL, "description": token},
    ),
    "goals_complete_task": (
        "goals_complete_task",
        lambda agent, token: {"task_id": _task(agent), "evidence": token},
    ),
    "goals_progress": ("goals_progress", lambda agent, token: {"goal_id": GOAL}),
    "goals_get_tasks": ("goals_get_tasks", lambda agent, token: {"goal_id": GOAL}),
    "goals_complete": ("goals_complete", lambda agent, token: {"goal_id": GOAL, "reason": token}),
    "goals_activate": ("goals_activate", lambda agent, token: {"goal_id": GOAL}),
    "goals_add_dependency": ("goals_add_dependency", _edge),
    "preflight": ("submit_preflight_assessment", _assessment),
    "postflight": ("submit_postflight_assessment", _assessment),
}
"""Name → tool, and its arguments for this agent. All of a program are about one session, one goal
and its two tasks."""

PAIRS = tuple(CALLS)


def pair(one: str, other: str = "") -> Program:
    """Agent 0 makes the one call, agent 1 the other (or the same), after what they need."""
    names = (one, other or one)
    lanes = []
    for agent, name in enumerate(names):
        tool, args = CALLS[name]
        token = token_for(agent, 9)
        given = args(agent, token)
        lanes.append(
            (Call(f"{agent}.9", agent, tool, given, token if token in given.values() else ""),)
        )
    return Program(2, prefix=_prefix(names), lanes=tuple(lanes))


def _prefix(names: tuple[str, ...]) -> tuple[Call, ...]:
    calls = [Call("0.0", 0, "session_create", {"ai_id": "ai-0"})]
    alone = ("finding_log", "unknown_log", "goals_create", "goals_list", "preflight", "postflight")
    if any(not name.endswith(alone) for name in names):
        calls.append(_goal("0.1", "write it down"))
    if "goals_complete_task" in names:
        for n in range(2):
            words = {"goal_id": GOAL, "description": ("a draft", "a review")[n]}
            calls.append(Call(f"0.{2 + n}", 0, "goals_add_task", words))
    if "goals_add_dependency" in names:
        calls.append(_goal("0.4", "tell the others"))
    if "postflight" in names:
        words = _assessment(0, "so far")
        calls.append(Call("0.5", 0, "submit_preflight_assessment", words))
    return tuple(calls)


def _goal(name: str, objective: str) -> Call:
    return Call(name, 0, "goals_create", {"session_id": SESSION, "objective": objective})


def remarks(history: History) -> Counter[str]:
    """What the scheduler remarked on its run, with ``#`` for numbers; waits for locks without
    what was done meanwhile."""
    texts = [str(note.value["text"]) for note in history.notes("scheduler")]
    masked = [re.sub(r"\d+", "#", text) for text in texts]
    return Counter(WAITED if text.startswith(WAITED) else text for text in masked)
