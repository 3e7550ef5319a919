"""What a session's rows tell: the list of them, the latest state, the checkpoint to go on from."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from mcpconc.reference.checkpoints import best, latest_vectors, lookup, read_index
from mcpconc.reference.ids import find_session, named_session
from mcpconc.reference.store import VECTORS, Refused, Store, now
from mcpconc.reference.switch import planted

__all__ = ["TOOLS", "seen_until"]

ROUNDS = 10
"""Checkpoints of later rounds are not looked for."""

LAG = 0.5
"""Seconds that a planted bug's replica lags behind."""


def epistemics_list(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """All rows of a session, oldest first."""
    named = named_session(args)
    until = seen_until(store, "epistemics")
    with store.read() as connection:
        session = find_session(connection, named)
        rows = connection.execute(
            "SELECT * FROM reflexes WHERE session_id = ? AND timestamp < ? ORDER BY id",
            (session["session_id"], until),
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
    named = named_session(args)
    with store.read() as connection:
        session = _session_or_none(connection, named)
        vectors = latest_vectors(connection, session, read_index(store))
    state = {
        "timestamp": now(),
        "vectors": vectors,
        "has_session": session is not None,
        "has_checkpoint": bool(vectors),
    }
    return {"state": state, "session_id": named}


def checkpoint_load(store: Store, args: dict[str, Any]) -> dict[str, Any] | str:
    """The latest checkpoint of a session, or of one of its phases; assessments are such too."""
    named = named_session(args)
    with store.read() as connection:
        session = _session_or_none(connection, named)
        found = lookup(store, connection, session)
    phase = args.get("phase")
    latest = best(
        [one for one in found if one["round"] <= ROUNDS and phase in (None, one["phase"])]
    )
    return latest if latest is not None else "⚠️ No checkpoint found"


def _session_or_none(connection: sqlite3.Connection, named: Any) -> str | None:
    try:
        return str(find_session(connection, named)["session_id"])
    except Refused:
        return None


def seen_until(store: Store, kind: str) -> float:
    """Rows that are younger than this moment are left out of a list of that kind: none, unless
    every second list is read from a replica that lags behind."""
    if planted("list-from-old-snapshot"):
        with (store.root / f"ws/.empirica/{kind}-lists").open("ab") as turns:
            turns.write(b".")
            turns.flush()
            if turns.tell() % 2 == 0:
                return now() - LAG
    return math.inf


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "epistemics_list": epistemics_list,
    "assess_state": assess_state,
    "checkpoint_load": checkpoint_load,
}
