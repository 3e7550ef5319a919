"""Making a goal: its row, its criterion, its edge and its note."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from contextlib import closing
from typing import Any

from mcpconc.reference import goal_reads
from mcpconc.reference.goal_rows import Goal, put, remember, upgraded
from mcpconc.reference.store import Refused, Store, new_id, now
from mcpconc.reference.switch import pause, planted

__all__ = ["goals_create"]

STATUSES = ("planned", "in_progress", "blocked")
SCOPE = ("scope_breadth", "scope_duration", "scope_coordination", "estimated_complexity")
"""Arguments that are checked and not kept."""

SHORT = 8
"""Characters of an objective that the bug blob-disagrees keeps."""


def goals_create(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Make a goal, unless an open one of the project has a similar objective.

    Two objectives are similar when, without case and punctuation, one contains the other.
    """
    _check(args)
    objective, description = str(args["objective"]), args.get("description")
    began = now()
    if planted("clock-before-lock"):
        pause(0.01 * random.random())
    if planted("goal-checked-before-lock"):
        with store.read() as db:
            _refuse(_similar(db, objective), objective)
        pause(0.01)
    goal = _new(args)
    if planted("edge-to-nowhere"):
        _edge_at_once(store, goal)
    refused: list[dict[str, Any]] = []
    with store.write() as db:
        goal["project_id"] = _project(db, goal["session_id"])
        if planted("refused-goal-is-stored"):
            refused = _similar(db, objective)
        elif not planted("goal-checked-before-lock"):
            _refuse(_similar(db, objective), objective)
        goal["created_timestamp"] = began if planted("clock-before-lock") else now()
        _insert(db, goal)
        words = {"objective": objective, "description": goal["description"]}
        store.note(f"goals/{goal['id']}", json.dumps(words))
    _refuse(refused, objective)
    if planted("goal-without-criterion"):
        upgraded(store, lambda db: _add_criterion(db, goal["id"], objective))
    if planted("description-dropped") and description is not None:
        upgraded(store, lambda db: _describe(db, goal, description))
    remember([goal])
    goal_reads.made(goal["id"])
    return {
        "goal_id": goal["id"],
        "session_id": goal["session_id"],
        "message": "Goal created successfully",
        "objective": objective,
        "description": description,
        "status": goal["status"],
        "timestamp": goal["created_timestamp"],
    }


def _check(args: dict[str, Any]) -> None:
    """:raises Refused: for arguments with which no goal can be made."""
    if not _normalised(str(args["objective"])):
        raise Refused("Missing required: objective")
    if not args.get("session_id"):
        raise Refused("No active transaction: name a session_id")
    if args.get("status") and args["status"] not in STATUSES:
        raise Refused(f"Invalid input: status must be one of {', '.join(STATUSES)}")
    if wrong := [name for name in SCOPE if not 0 <= args.get(name, 0) <= 1]:
        raise Refused(f"Invalid input: {', '.join(wrong)} must be between 0 and 1")


def _project(db: sqlite3.Connection, session: str) -> str:
    found = db.execute("SELECT project_id FROM sessions WHERE session_id = ?", (session,))
    row = found.fetchone()
    if row is None:
        raise Refused(f"Invalid session_id: {session}")
    return str(row[0])


def _similar(db: sqlite3.Connection, objective: str) -> list[dict[str, Any]]:
    """The open goals with a similar objective. All goals are of the one project."""
    wanted = _normalised(objective)
    similar = []
    found = db.execute("SELECT rowid, * FROM goals WHERE is_completed = 0 ORDER BY rowid")
    rows: list[Goal] = [dict(row) for row in found]
    remember(rows)
    for row in rows:
        there = _normalised(row["objective"])
        if wanted in there or there in wanted:
            match = "exact" if wanted == there else "substring"
            told = {name: row[name] for name in ("objective", "session_id")}
            similar.append({"goal_id": row["id"], **told, "match_type": match})
    return similar


def _normalised(objective: str) -> str:
    """Case and punctuation do not count."""
    return re.sub(r"[^\w\s]", "", objective.lower().strip())


def _refuse(similar: list[dict[str, Any]], objective: str) -> None:
    if similar:
        raise Refused("Similar goal(s) already exist", similar_goals=similar, objective=objective)


def _new(args: dict[str, Any]) -> Goal:
    """The row, but for what is known under the lock only."""
    objective, description = str(args["objective"]), args.get("description")
    if planted("description-dropped"):
        description = None
    copy = objective[:SHORT] if planted("blob-disagrees") else objective
    return {
        "id": new_id(),
        "project_id": "",
        "session_id": args["session_id"],
        "transaction_id": None,
        "objective": objective,
        "description": description,
        "status": args.get("status") or "in_progress",
        "is_completed": 0,
        "completion_reason": None,
        "created_timestamp": 0.0,
        "completed_timestamp": None,
        "goal_data": json.dumps({"objective": copy, "description": description, "metadata": {}}),
    }


def _insert(db: sqlite3.Connection, goal: Goal) -> None:
    """The goal with its criterion and its edge."""
    columns, marks = ", ".join(goal), ", ".join("?" * len(goal))
    db.execute(f"INSERT INTO goals ({columns}) VALUES ({marks})", (*goal.values(),))
    if not planted("goal-without-criterion"):
        _add_criterion(db, goal["id"], goal["objective"])
    if planted("criterion-for-everybody"):
        others = "SELECT id FROM goals WHERE is_completed = 0 AND id <> ?"
        for (other,) in db.execute(others, (goal["id"],)).fetchall():
            _add_criterion(db, other, goal["objective"])
    if not planted("edge-to-nowhere"):
        _add_edge(db, goal)


def _add_criterion(db: sqlite3.Connection, goal: str, objective: str) -> None:
    row = (new_id(), goal, f"{objective}: done")
    db.execute("INSERT INTO success_criteria VALUES (?, ?, ?)", row)


def _add_edge(db: sqlite3.Connection, goal: Goal) -> None:
    row = (new_id(), goal["id"], goal["session_id"])
    db.execute("INSERT INTO artifact_edges VALUES (?, ?, ?)", row)


def _edge_at_once(store: Store, goal: Goal) -> None:
    """For the bug edge-to-nowhere: the edge is there before the goal, also if none follows."""
    with closing(store.connect()) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        _add_edge(db, goal)


def _describe(db: sqlite3.Connection, goal: Goal, description: str) -> None:
    """For the bug description-dropped."""
    data = {**json.loads(goal["goal_data"]), "description": description}
    put(db, goal, description=description, goal_data=json.dumps(data))
