"""Sessions: opening one ends those that the same AI has open in the same instance."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from mcpconc.reference.ids import session_id
from mcpconc.reference.store import PROJECT, VECTORS, Refused, Store, now

__all__ = ["TOOLS", "session_create"]


def session_create(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Open a session, end its predecessors, enter both in the index of the workspace."""
    session, ai = session_id(), args.get("ai_id")
    if not ai:
        raise Refused("Missing required field: ai_id")
    with store.write(workspace=True) as db:
        open_ones = [
            row["session_id"]
            for row in db.execute(
                "SELECT session_id FROM sessions WHERE ai_id = ? AND project_id = ?"
                " AND instance_id = ? AND end_time IS NULL ORDER BY rowid",
                (ai, PROJECT, store.instance),
            )
        ]
        for one in open_ones:
            _close(db, one)
        db.execute(
            "INSERT INTO sessions (session_id, ai_id, subject, instance_id, project_id,"
            " start_time) VALUES (?, ?, ?, ?, ?, ?)",
            (session, ai, args.get("subject"), store.instance, PROJECT, now()),
        )
        db.execute(
            "INSERT INTO workspace.global_sessions VALUES (?, ?, ?, ?, 'active')",
            (session, ai, store.instance, PROJECT),
        )
    return {
        "session_id": session,
        "ai_id": ai,
        "project_id": PROJECT,
        "subject": args.get("subject"),
        "message": "Session created successfully",
        "lifecycle": {
            "auto_closed_sessions": [
                {"session_id": one, "project_id": PROJECT} for one in open_ones
            ],
        },
    }


def _close(db: sqlite3.Connection, session: str) -> None:
    """End a session with a POSTFLIGHT that nobody made: what its last PREFLIGHTs and CHECKs
    said of each vector, and that it is complete."""
    (last,) = db.execute(
        "SELECT MAX(round) FROM reflexes WHERE session_id = ? AND phase = 'POSTFLIGHT'", (session,)
    ).fetchone()
    vectors: dict[str, float] = {}
    for row in db.execute(
        "SELECT * FROM reflexes WHERE session_id = ? AND phase IN ('PREFLIGHT', 'CHECK')"
        " ORDER BY id",
        (session,),
    ):
        vectors |= {name: row[name] for name in VECTORS if row[name] is not None}
    vectors["completion"] = 1.0
    moment = now()
    row = {
        "session_id": session,
        "phase": "POSTFLIGHT",
        "round": (last or 0) + 1,
        "timestamp": moment,
        "reflex_data": json.dumps({"auto_closed": True}),
        **vectors,
    }
    db.execute(
        f"INSERT INTO reflexes ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        tuple(row.values()),
    )
    db.execute("UPDATE sessions SET end_time = ? WHERE session_id = ?", (moment, session))
    db.execute(
        "UPDATE workspace.global_sessions SET status = 'ended' WHERE session_id = ?", (session,)
    )


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "session_create": session_create,
}
