"""Tasks of goals: added and completed whatever the goal's status."""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mcpconc.reference.goal_reads import tasks_changed
from mcpconc.reference.goal_rows import changing, noted, put, upgraded
from mcpconc.reference.store import Refused, Store, new_id, now
from mcpconc.reference.switch import pause, planted

__all__ = ["TOOLS", "goals_add_task", "goals_complete_task", "goals_get_tasks"]


def goals_add_task(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Add a task to a goal, and note in the goal that somebody works on it."""
    goal, description = args["goal_id"], args["description"]
    task, moment = _add(store, goal, description)
    if planted("task-added-twice") and not upgraded(store, lambda db: _note_work(db, goal, moment)):
        task, moment = _add(store, goal, description)
    tasks_changed(store, goal)
    return {
        "task_id": task,
        "goal_id": goal,
        "message": "Subtask added successfully",
        "description": description,
        "status": "pending",
        "timestamp": moment,
    }


def _add(store: Store, goal: str, description: str) -> tuple[str, float]:
    """(id, time) of a new task."""
    task, asked, insert = new_id(), now(), "INSERT"
    if planted("task-ids-reused"):
        with store.read() as db:
            (number,) = db.execute("SELECT COUNT(*) FROM subtasks").fetchone()
        task, insert = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))), "INSERT OR REPLACE"
        pause(0.01)
    if planted("clock-before-lock"):
        pause(0.01 * random.random())
    with changing(store, "id = ?", goal) as (db, rows):
        if not rows:
            raise Refused(f"Goal not found: {goal}")
        moment = asked if planted("clock-before-lock") else now()
        data = {"description": description, "status": "pending", "completion_evidence": None}
        db.execute(
            f"{insert} INTO subtasks (id, goal_id, description, status, created_timestamp,"
            " subtask_data) VALUES (?, ?, ?, 'pending', ?, ?)",
            (task, goal, description, moment, json.dumps(data)),
        )
        if not planted("task-added-twice"):
            put(db, rows[0], goal_data=noted(rows[0], worked_at=moment))
    return task, moment


def _note_work(db: sqlite3.Connection, goal: str, moment: float) -> None:
    row = dict(db.execute("SELECT * FROM goals WHERE id = ?", (goal,)).fetchone())
    put(db, row, goal_data=noted(row, worked_at=moment))


def goals_complete_task(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Complete a task, again and again if need be, and note in its goal that somebody works on
    it; without evidence the old one stands."""
    task, evidence = args["task_id"], args.get("evidence")
    if planted("two-constraints"):
        goal = _complete_as_read(store, task, evidence)
    elif planted("three-constraints"):
        goal = _complete_as_claimed(store, task, evidence)
    else:
        with changing(store, "id = (SELECT goal_id FROM subtasks WHERE id = ?)", task) as (
            db,
            rows,
        ):
            row = _task(db, task)
            goal = row["goal_id"]
            _write(db, _completed(row, evidence))
            for one in rows:
                put(db, one, goal_data=noted(one, worked_at=now()))
    tasks_changed(store, goal)
    return {
        "task_id": task,
        "message": "Task marked as complete",
        "evidence": evidence,
        "timestamp": now(),
    }


def _task(db: sqlite3.Connection, task: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT * FROM subtasks WHERE id = ?", (task,)).fetchone()
    if row is None:
        raise Refused(f"No subtask found matching: {task}")
    return row


def _tasks(db: sqlite3.Connection, goal: str) -> list[sqlite3.Row]:
    """A goal's tasks, oldest first."""
    return db.execute(
        "SELECT * FROM subtasks WHERE goal_id = ? ORDER BY created_timestamp, rowid", (goal,)
    ).fetchall()


def _completed(row: sqlite3.Row, evidence: str | None) -> dict[str, Any]:
    """The row of a task as it is when completed with this evidence."""
    shown = {
        "status": "completed",
        "completion_evidence": row["completion_evidence"] if evidence is None else evidence,
        "completed_timestamp": now(),
    }
    data = {**json.loads(row["subtask_data"]), **shown}
    return {**dict(row), **shown, "subtask_data": json.dumps(data)}


def _write(db: sqlite3.Connection, task: Mapping[str, Any]) -> None:
    changed = ("status", "completion_evidence", "completed_timestamp", "subtask_data")
    db.execute(
        f"UPDATE subtasks SET {', '.join(f'{name} = ?' for name in changed)} WHERE id = ?",
        (*(task[name] for name in changed), task["id"]),
    )


def _complete_as_read(store: Store, task: str, evidence: str | None) -> str:
    """For the bug two-constraints: read all tasks of the goal under the lock, let go of it, and
    write them all back under it.

    Two calls complete two tasks of one goal. What A finds last is lost if, and only if,
    (1) A reads before B writes, and (2) B writes before A does.
    """
    with store.write() as db:
        goal = str(_task(db, task)["goal_id"])
        tasks = _tasks(db, goal)
    with store.write() as db:
        for row in tasks:
            _write(db, _completed(row, evidence) if row["id"] == task else dict(row))
    return goal


def _complete_as_claimed(store: Store, task: str, evidence: str | None) -> str:
    """For the bug three-constraints: like two-constraints, but nobody writes back what he read
    if another call has claimed the goal since; he then completes his own task alone. That
    second way forgets to claim the goal again.

    Two calls complete two tasks of one goal. A's completion is lost if, and only if,
    (1) A claims before B does, (2) B claims before A writes, so that A goes the second way, and
    (3) A writes before B does, so that B, whose claim still stands, writes A's task as it was.
    """
    mine = new_id()
    with store.write() as db:
        goal = str(_task(db, task)["goal_id"])
        tasks = _tasks(db, goal)
        row = dict(db.execute("SELECT * FROM goals WHERE id = ?", (goal,)).fetchone())
        put(db, row, goal_data=noted(row, claim=mine))
    with store.write() as db:
        row = db.execute("SELECT * FROM goals WHERE id = ?", (goal,)).fetchone()
        if json.loads(row["goal_data"])["metadata"]["claim"] != mine:
            _write(db, _completed(_task(db, task), evidence))
            return goal
        for each in tasks:
            _write(db, _completed(each, evidence) if each["id"] == task else dict(each))
    return goal


def goals_get_tasks(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """A goal's tasks, oldest first."""
    goal = args["goal_id"]
    with store.read() as db:
        tasks = [_shown(row) for row in _tasks(db, goal)]
    if not tasks:
        raise Refused("No tasks found for goal", goal_id=goal, tasks=[])
    return {
        "goal_id": goal,
        "message": "Tasks retrieved successfully",
        "tasks_count": len(tasks),
        "completed_count": sum(task["status"] == "completed" for task in tasks),
        "tasks": tasks,
        "timestamp": now(),
    }


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "task_id": row["id"],
        "description": row["description"],
        "status": row["status"],
        "created_at": row["created_timestamp"],
        "completed_at": row["completed_timestamp"],
        "completion_evidence": json.loads(row["subtask_data"])["completion_evidence"],
    }


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "goals_add_task": goals_add_task,
    "goals_complete_task": goals_complete_task,
    "goals_get_tasks": goals_get_tasks,
}
