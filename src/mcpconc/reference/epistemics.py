"""What a session's rows tell: the list of them, the latest state, the checkpoint to go on from."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from mcpconc.reference import checkpoints
from mcpconc.reference.assessments import vectors_of
from mcpconc.reference.ids import find_session
from mcpconc.reference.store import VECTORS, Refused, Store, now
from mcpconc.reference.switch import planted, scratch

__all__ = ["TOOLS", "list_snapshot"]

ROUNDS = 10
"""Checkpoints of later rounds are not looked for."""

_old = threading.Lock()


def epistemics_list(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """All rows of a session, oldest first."""
    with list_snapshot(store) as connection:
        session = find_session(connection, args.get("session_id"))
        rows = connection.execute(
            "SELECT * FROM reflexes WHERE session_id = ? ORDER BY id", (session["session_id"],)
        ).fetchall()
    return {
        "session_id": session["session_id"],
        "project_id": session["project_id"],
        "ai_id": session["ai_id"],
        "count": len(rows),
        "trajectories": [
            {
                "phase": row["phase"],
                "vectors": {name: row[name] for name in VECTORS},
                "reasoning": row["reasoning"],
                "timestamp": row["timestamp"],
            }
            for row in rows
        ],
    }


def assess_state(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """The vectors of a session's latest row; none where there is no row."""
    named = args.get("session_id")
    with store.read() as connection:
        session = _session_or_none(connection, named)
        row = connection.execute(
            "SELECT * FROM reflexes WHERE session_id = ? ORDER BY id DESC LIMIT 1", (session,)
        ).fetchone()
    state = {
        "timestamp": now(),
        "vectors": vectors_of(row) if row is not None else {},
        "has_session": session is not None,
        "has_checkpoint": row is not None,
    }
    return {"state": state, "session_id": named}


def checkpoint_load(store: Store, args: dict[str, Any]) -> dict[str, Any] | str:
    """The latest checkpoint of a session, or of one of its phases; assessments are such too."""
    with store.read() as connection:
        session = _session_or_none(connection, args.get("session_id"))
        found = _noted(connection, session)
    if checkpoints.indexed():
        found = [one for one in checkpoints.read(store) if one["session_id"] == session]
    phase = args.get("phase")
    latest = checkpoints.best(
        [one for one in found if one["round"] <= ROUNDS and phase in (None, one["phase"])]
    )
    return latest if latest is not None else "⚠️ No checkpoint found"


def _noted(connection: sqlite3.Connection, session: str | None) -> list[checkpoints.Checkpoint]:
    """The session's rows but those of automatic closes, oldest first."""
    found = []
    for row in connection.execute(
        "SELECT * FROM reflexes WHERE session_id = ? ORDER BY id", (session,)
    ):
        meta = json.loads(row["reflex_data"] or "{}")
        if meta.get("auto_closed"):
            continue
        entry = {name: row[name] for name in ("session_id", "phase", "round", "timestamp")}
        found.append({**entry, "vectors": vectors_of(row), "meta": meta})
    return found


def _session_or_none(connection: sqlite3.Connection, named: Any) -> str | None:
    try:
        return str(find_session(connection, named)["session_id"])
    except Refused:
        return None


@contextmanager
def list_snapshot(store: Store) -> Iterator[sqlite3.Connection]:
    """The snapshot from which a list is read."""
    if planted("list-from-old-snapshot"):
        with _old:
            scratch["lists"] = scratch.get("lists", 0) + 1
            if "old" not in scratch:
                # What a second connection in the pool sees that never ends its transaction;
                # in memory, because open files would keep the world from being put back.
                scratch["old"] = sqlite3.connect(":memory:", check_same_thread=False)
                scratch["old"].row_factory = sqlite3.Row
                with closing(store.connect()) as connection:
                    connection.backup(scratch["old"])
            if scratch["lists"] % 2 == 0:
                yield scratch["old"]
                return
    with store.read() as connection:
        yield connection


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "epistemics_list": epistemics_list,
    "assess_state": assess_state,
    "checkpoint_load": checkpoint_load,
}
