"""Sessions by their ids."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from mcpconc.reference.store import Refused, new_id
from mcpconc.reference.switch import pause, planted, scratch

__all__ = ["find_session", "named_session", "session_id"]

PREFIX = 8
"""Characters of an id that a planted bug looks at."""

WINDOW = 0.02
"""Seconds that a planted bug takes to look a session up."""


def session_id() -> str:
    """The id of a new session."""
    if planted("session-by-prefix"):
        return f"{int(time.time()):08x}{new_id()[PREFIX:]}"
    return new_id()


def named_session(args: dict[str, Any]) -> Any:
    """The session that a call names, to be looked up later."""
    named = args.get("session_id")
    if planted("session-from-global") and named:
        scratch["session"] = named
    return named


def find_session(connection: sqlite3.Connection, named: Any) -> sqlite3.Row:
    """The row of the session that a call names.

    :raises Refused: if it names none, or one that does not exist.
    """
    if not isinstance(named, str) or not named:
        raise Refused("Missing required argument: session_id")
    if planted("session-from-global"):
        pause(WINDOW)
        named = scratch["session"]
    where, value = "session_id = ?", named
    if planted("session-by-prefix"):
        where, value = "session_id LIKE ? || '%'", named[:PREFIX]
    row: sqlite3.Row | None = connection.execute(
        f"SELECT * FROM sessions WHERE {where} ORDER BY rowid LIMIT 1", (value,)
    ).fetchone()
    if row is None:
        raise Refused(f"Session {named} not found")
    return row
