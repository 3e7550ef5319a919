"""Goals: created once per objective, activated, completed, marked as stale and refreshed."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from mcpconc.reference import goal_reads
from mcpconc.reference.goal_rows import Goal, changing, noted, put, remember, upgraded
from mcpconc.reference.store import Refused, Store, new_id, now
from mcpconc.reference.switch import planted, scratch

__all__ = [
    "SCOPE",
    "TOOLS",
    "goals_activate",
    "goals_complete",
    "goals_create",
    "goals_mark_stale",
    "goals_refresh",
]

STATUSES = ("planned", "in_progress", "blocked")
SHORT = 8
"""Characters of an objective that the bug blob-disagrees keeps."""

SCOPE = ("scope_breadth", "scope_duration", "scope_coordination", "estimated_complexity")
"""Arguments that are checked and not kept."""


def goals_create(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Make a goal, unless an open one of the project has a similar objective.

    Two objectives are similar when, without case and punctuation, one contains the other.
    """
    objective, description = str(args["objective"]), args.get("description")
    session, status = args.get("session_id"), args.get("status") or "in_progress"
    if not _normalised(objective):
        raise Refused("Missing required: objective")
    if not session:
        raise Refused("No active transaction: name a session_id")
    if status not in STATUSES:
        raise Refused(f"Invalid input: status must be one of {', '.join(STATUSES)}")
    if wrong := [name for name in SCOPE if not 0 <= args.get(name, 0) <= 1]:
        raise Refused(f"Invalid input: {', '.join(wrong)} must be between 0 and 1")
    began, goal = now(), new_id()
    if planted("goal-checked-before-lock"):
        with store.read() as db:
            _refuse_similar(db, objective)
    if planted("edge-to-nowhere"):
        _edge_at_once(store, goal, session)
    criterion = not planted("goal-without-criterion")
    with store.write() as db:
        known = db.execute("SELECT project_id FROM sessions WHERE session_id = ?", (session,))
        project = known.fetchone()
        if project is None:
            raise Refused(f"Invalid session_id: {session}")
        if not planted("goal-checked-before-lock"):
            _refuse_similar(db, objective)
        stored = None if planted("description-dropped") else description
        copy = objective[:SHORT] if planted("blob-disagrees") else objective
        data: dict[str, Any] = {"objective": copy, "description": stored, "metadata": {}}
        moment = now()
        row: Goal = {
            "id": goal,
            "project_id": project[0],
            "session_id": session,
            "transaction_id": None,
            "objective": objective,
            "description": stored,
            "status": status,
            "is_completed": 0,
            "completion_reason": None,
            "created_timestamp": moment,
            "completed_timestamp": None,
            "goal_data": json.dumps(data),
        }
        db.execute(f"INSERT INTO goals VALUES ({', '.join('?' * len(row))})", (*row.values(),))
        if criterion:
            _add_criterion(db, goal, objective)
        if planted("criterion-for-everybody"):
            since = "SELECT id FROM goals WHERE created_timestamp >= ? AND id <> ?"
            for (other,) in db.execute(since, (began, goal)).fetchall():
                _add_criterion(db, other, objective)
        if not planted("edge-to-nowhere"):
            _add_edge(db, goal, session)
        store.note(f"goals/{goal}", json.dumps({"objective": objective, "description": stored}))
    if not criterion:
        upgraded(store, lambda db: _add_criterion(db, goal, objective))
    if planted("description-dropped") and description is not None:
        upgraded(store, lambda db: _describe(db, goal, description))
    remember([row])
    goal_reads.made(goal)
    return {
        "goal_id": goal,
        "session_id": session,
        "message": "Goal created successfully",
        "objective": objective,
        "description": description,
        "status": status,
        "timestamp": moment,
    }


def _normalised(objective: str) -> str:
    """Case and punctuation do not count."""
    return re.sub(r"[^\w\s]", "", objective.lower().strip())


def _refuse_similar(db: sqlite3.Connection, objective: str) -> None:
    """All goals are of the one project."""
    wanted = _normalised(objective)
    similar = []
    for row in db.execute("SELECT * FROM goals WHERE is_completed = 0 ORDER BY rowid"):
        there = _normalised(row["objective"])
        if wanted in there or there in wanted:
            match = "exact" if wanted == there else "substring"
            told = {name: row[name] for name in ("objective", "session_id")}
            similar.append({"goal_id": row["id"], **told, "match_type": match})
    if similar:
        raise Refused("Similar goal(s) already exist", similar_goals=similar, objective=objective)


def _add_criterion(db: sqlite3.Connection, goal: str, objective: str) -> None:
    db.execute(
        "INSERT INTO success_criteria VALUES (?, ?, ?)", (new_id(), goal, f"{objective}: done")
    )


def _add_edge(db: sqlite3.Connection, goal: str, session: str) -> None:
    db.execute("INSERT INTO artifact_edges VALUES (?, ?, ?)", (new_id(), goal, session))


def _edge_at_once(store: Store, goal: str, session: str) -> None:
    """For the bug edge-to-nowhere: the edge is there before the goal, also if none follows."""
    with closing(store.connect()) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        _add_edge(db, goal, session)


def _describe(db: sqlite3.Connection, goal: str, description: str) -> None:
    row = dict(db.execute("SELECT * FROM goals WHERE id = ?", (goal,)).fetchone())
    data = {**json.loads(row["goal_data"]), "description": description}
    put(db, row, description=description, goal_data=json.dumps(data))


def goals_complete(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Complete a goal, whatever its status; the reason of the last call stands."""
    goal, reason = args["goal_id"], args.get("reason") or "completed"
    with changing(store, "id = ?", goal) as (db, rows):
        if not rows:
            raise Refused(f"Goal not found: {goal}")
        moment = now()
        put(
            db,
            rows[0],
            status="completed",
            is_completed=1,
            completion_reason=reason,
            completed_timestamp=moment,
            goal_data=noted(rows[0], completed_at=moment),
        )
    return {
        "goal_id": goal,
        "objective": rows[0]["objective"],
        "session_id": rows[0]["session_id"],
        "completion_reason": reason,
        "status_updated": True,
        "reason_stored": True,
    }


def goals_activate(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Begin a goal that is planned."""
    goal = args["goal_id"]
    if planted("refusal-keeps-lock"):
        return _activate_and_forget(store, goal)
    with changing(store, "id = ?", goal) as (db, rows):
        return _activate(db, goal, rows)


def _activate(db: sqlite3.Connection, goal: str, rows: list[Goal]) -> dict[str, Any]:
    if not rows:
        raise Refused(f"Goal not found: {goal}")
    status = rows[0]["status"]
    if status == "in_progress":
        raise Refused(f"Goal {goal} is already in_progress; only planned goals are activated.")
    if status != "planned":
        raise Refused(f"Goal {goal} is {status}, not planned.")
    put(db, rows[0], status="in_progress", goal_data=noted(rows[0], activated_at=now()))
    return {
        "goal_id": goal,
        "status": "in_progress",
        "message": f"Goal {goal} activated: now in_progress",
    }


def _activate_and_forget(store: Store, goal: str) -> dict[str, Any]:
    """For the bug refusal-keeps-lock: nobody rolls back what was refused."""
    db = store.connect()
    scratch.setdefault("connections", []).append(db)
    db.execute("BEGIN IMMEDIATE")
    rows = [dict(row) for row in db.execute("SELECT * FROM goals WHERE id = ?", (goal,))]
    done = _activate(db, goal, rows)
    db.execute("COMMIT")
    return done


def goals_mark_stale(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Mark all open goals of a session; the reason of the last call stands."""
    session, reason = args.get("session_id"), args.get("reason") or "memory_compact"
    if not session:
        raise Refused("No session to mark stale")
    with changing(store, "session_id = ? AND is_completed = 0", session) as (db, rows):
        moment = now()
        for row in rows:
            put(db, row, goal_data=noted(row, stale_since=moment, stale_reason=reason))
    return {
        "session_id": session,
        "goals_marked_stale": len(rows),
        "reason": reason,
        "message": f"Marked {len(rows)} open goal(s) as stale",
    }


def goals_refresh(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Take the mark off an open goal that is stale."""
    goal = args["goal_id"]
    with changing(store, "id = ? AND is_completed = 0", goal) as (db, rows):
        if not (rows and json.loads(rows[0]["goal_data"])["metadata"].get("stale_since")):
            raise Refused("Goal not found or not stale", goal_id=goal, refreshed=False)
        fresh = noted(rows[0], stale_since=None, stale_reason=None, refreshed_at=now())
        put(db, rows[0], goal_data=fresh)
    return {"goal_id": goal, "refreshed": True, "message": "Goal refreshed"}


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "goals_create": goals_create,
    "goals_complete": goals_complete,
    "goals_activate": goals_activate,
    "goals_mark_stale": goals_mark_stale,
    "goals_refresh": goals_refresh,
    **goal_reads.TOOLS,
}
