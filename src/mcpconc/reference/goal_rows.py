"""The rows of goals: how they are looked up, changed, and read."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcpconc.reference.store import Store
from mcpconc.reference.switch import planted, scratch

__all__ = ["changing", "noted", "put", "reading", "uncommitted"]

_one_at_a_time = threading.Lock()


@contextmanager
def changing(
    store: Store, where: str, *values: Any
) -> Iterator[tuple[sqlite3.Connection, list[sqlite3.Row]]]:
    """A write transaction, and the goals that it is about as they are in it."""
    query = f"SELECT * FROM goals WHERE {where} ORDER BY rowid"
    if planted("goal-data-written-back") or planted("goal-row-written-back"):
        with store.read() as db:
            before = db.execute(query, values).fetchall()
        with store.write() as db:
            yield db, before
        return
    with store.write() as db:
        yield db, db.execute(query, values).fetchall()


def put(db: sqlite3.Connection, row: sqlite3.Row, **changed: Any) -> None:
    """Change these columns of a goal."""
    if planted("goal-row-written-back"):
        changed = {**dict(row), **changed}
    columns = ", ".join(f"{name} = ?" for name in changed)
    db.execute(f"UPDATE goals SET {columns} WHERE id = ?", (*changed.values(), row["id"]))


def noted(row: sqlite3.Row, **facts: Any) -> str:
    """The `goal_data` of a goal with these facts among its metadata."""
    if planted("blob-field-dropped"):
        known = {name: row[name] for name in ("objective", "description")}
        return json.dumps({**known, "metadata": facts})
    data = json.loads(row["goal_data"])
    return json.dumps({**data, "metadata": {**data["metadata"], **facts}})


@contextmanager
def reading(store: Store) -> Iterator[sqlite3.Connection]:
    """One snapshot, for the calls that only read."""
    if planted("dirty-status"):
        with _one_at_a_time:
            writer: sqlite3.Connection | None = scratch.get("writer")
            if writer is not None:
                yield writer
                return
    with store.read() as db:
        yield db


@contextmanager
def uncommitted(db: sqlite3.Connection) -> Iterator[None]:
    """For the bug dirty-status: meanwhile the reads of this process use this connection."""
    scratch["writer"] = db
    try:
        yield
    finally:
        with _one_at_a_time:
            scratch.pop("writer", None)
