"""Goals: created once per objective, activated, completed, marked as stale and refreshed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from mcpconc.reference import goal_reads
from mcpconc.reference.goal_creation import SCOPE, goals_create
from mcpconc.reference.goal_rows import Goal, changing, noted, put
from mcpconc.reference.store import Refused, Store, now
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
