"""What can be read of goals: their list, and how far each has come."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mcpconc.reference.goal_rows import Goal, remember, remembered
from mcpconc.reference.store import PROJECT, Refused, Store, now
from mcpconc.reference.switch import pause, planted, scratch

__all__ = ["LIMIT", "TOOLS", "goals_list", "goals_progress", "made", "tasks_changed"]

LIMIT = 20
"""So many goals, the newest, are listed."""

Counts = tuple[int, int]
"""(tasks, completed tasks)."""


def goals_list(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """The goals of a session's project, newest first: the open ones, or the completed ones."""
    completed, session = bool(args.get("completed")), args.get("session_id")
    with store.read() as db:
        project = _project(db, session)
        found = db.execute(
            "SELECT rowid, * FROM goals WHERE project_id = ? AND is_completed = ?"
            " ORDER BY created_timestamp DESC, rowid DESC",
            (project, completed),
        )
        rows: list[Goal] = [dict(row) for row in found]
        remember(rows)
        if planted("progress-from-cache"):
            rows = [remembered(row) for row in rows]
        counts = _counts(store, db, [row["id"] for row in rows[:LIMIT]])
    goals = [_shown(row, *counts[row["id"]]) for row in rows[:LIMIT]]
    return {
        "goals_count": len(goals),
        "total_matching": len(rows),
        "truncated": len(rows) > LIMIT,
        "limit": LIMIT,
        "goals": goals,
        "filters": {
            "project_id": project,
            "session_id": session,
            "status": "completed" if completed else "active",
        },
        "timestamp": now(),
    }


def _project(db: sqlite3.Connection, session: str | None) -> str:
    if not session:
        return PROJECT
    found = db.execute("SELECT project_id FROM sessions WHERE session_id = ?", (session,))
    row = found.fetchone()
    if row is None:
        raise Refused(f"Invalid session_id: {session}")
    return str(row[0])


def _shown(row: Goal, total: int, completed: int) -> dict[str, Any]:
    reason = {"completion_reason": row["completion_reason"]} if row["is_completed"] else {}
    return {
        "goal_id": row["id"],
        "objective": row["objective"],
        "description": row["description"],
        "status": row["status"],
        "is_completed": bool(row["is_completed"]),
        "created_at": row["created_timestamp"],
        "session_id": row["session_id"],
        "progress": f"{completed}/{total}",
        "progress_pct": _percentage(total, completed),
        "project_id": row["project_id"],
        **reason,
    }


def goals_progress(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """How many tasks a goal has, and how many of them are completed."""
    goal = args["goal_id"]
    with store.read() as db:
        row = db.execute("SELECT rowid, * FROM goals WHERE id = ?", (goal,)).fetchone()
        if row is None:
            raise Refused("Goal not found", goal_id=goal)
        remember([dict(row)])
        total, completed = _counts(store, db, [goal])[goal]
    return {
        "goal_id": goal,
        "message": "Progress retrieved successfully",
        "completion_percentage": _percentage(total, completed),
        "total_subtasks": total,
        "completed_subtasks": completed,
        "remaining_subtasks": total - completed,
        "timestamp": now(),
    }


def _percentage(total: int, completed: int) -> float:
    return round(100 * completed / total, 1) if total else 0.0


def _counts(store: Store, db: sqlite3.Connection, goals: list[str]) -> Mapping[str, Counts]:
    total = _number(db, goals)
    completed = _number(db, goals, "status = 'completed'")
    if planted("progress-counted-twice"):
        pause(0.03)
        with store.read() as later:
            left = _number(later, goals, "status <> 'completed'")
        return {goal: (completed[goal] + left[goal], total[goal] - left[goal]) for goal in goals}
    counts = {goal: (total[goal], completed[goal]) for goal in goals}
    if planted("progress-from-cache"):
        known: dict[str, Counts] = scratch.setdefault("counts", {})
        return {goal: known.setdefault(goal, counts[goal]) for goal in goals}
    return counts


def _number(db: sqlite3.Connection, goals: Iterable[str], where: str = "1") -> dict[str, int]:
    query = f"SELECT COUNT(*) FROM subtasks WHERE goal_id = ? AND {where}"
    return {goal: db.execute(query, (goal,)).fetchone()[0] for goal in goals}


def made(goal: str) -> None:
    """A goal was made; for the bug progress-from-cache."""
    if planted("progress-from-cache"):
        scratch.setdefault("counts", {})[goal] = (0, 0)


def tasks_changed(store: Store, goal: str) -> None:
    """The tasks of a goal were changed; for the bug progress-from-cache."""
    if planted("progress-from-cache"):
        scratch.setdefault("counts", {}).pop(goal, None)
        with store.read() as db:
            _counts(store, db, [goal])


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "goals_list": goals_list,
    "goals_progress": goals_progress,
}
