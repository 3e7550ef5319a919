"""The rows of goals: how they are looked up, changed, and read."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from mcpconc.reference.store import Store
from mcpconc.reference.switch import pause, planted, scratch

__all__ = ["Goal", "changing", "noted", "put", "reading", "remember", "uncommitted", "upgraded"]

Goal = dict[str, Any]
"""The row of a goal: its columns, and `rowid`."""

_one_at_a_time = threading.Lock()


@contextmanager
def changing(
    store: Store, where: str, *values: Any
) -> Iterator[tuple[sqlite3.Connection, list[Goal]]]:
    """A write transaction, and the goals that it is about as they are in it."""
    query = f"SELECT rowid, * FROM goals WHERE {where} ORDER BY rowid"
    before: list[Goal] = []
    if planted("goal-data-written-back") or planted("goal-row-written-back"):
        with store.read() as db:
            before = [dict(row) for row in db.execute(query, values)]
        remember(before)
        pause(0.01)
    with store.write() as db:
        now = [dict(row) for row in db.execute(query, values)]
        yield db, [_as_remembered(goal) for goal in now]


def put(db: sqlite3.Connection, goal: Goal, **changed: Any) -> None:
    """Change these columns of a goal."""
    if planted("goal-row-written-back"):
        changed = {**goal, **changed}
    if planted("dirty-status"):
        _put_in_place(db, {**goal, **changed})
        return
    columns = ", ".join(f"{name} = ?" for name in changed)
    db.execute(f"UPDATE goals SET {columns} WHERE id = ?", (*changed.values(), goal["id"]))
    remember([{**goal, **changed}], again=True)


def noted(goal: Goal, **facts: Any) -> str:
    """The `goal_data` of a goal with these facts among its metadata."""
    if planted("blob-field-dropped"):
        known = {name: goal[name] for name in ("objective", "description")}
        return json.dumps({**known, "metadata": facts})
    data = json.loads(goal["goal_data"])
    return json.dumps({**data, "metadata": {**data["metadata"], **facts}})


def remember(goals: Iterable[Goal], again: bool = False) -> None:
    """For the bugs goal-row-written-back and goal-data-written-back: what a process has seen of
    a goal first, or has written to it last, is what it writes back."""
    if planted("goal-data-written-back") or planted("goal-row-written-back"):
        known: dict[str, Goal] = scratch.setdefault("goals", {})
        for goal in goals:
            if again or goal["id"] not in known:
                known[goal["id"]] = goal


def _as_remembered(goal: Goal) -> Goal:
    known: Goal = scratch.get("goals", {}).get(goal["id"], goal)
    if planted("goal-data-written-back"):
        return {**goal, "goal_data": known["goal_data"]}
    return known if planted("goal-row-written-back") else goal


def _put_in_place(db: sqlite3.Connection, goal: Goal) -> None:
    """For the bug dirty-status: take the row out and put it back, seen by this process."""
    db.execute("PRAGMA defer_foreign_keys = ON")
    with uncommitted(db):
        db.execute("DELETE FROM goals WHERE id = ?", (goal["id"],))
        pause(0.01)
        marks = ", ".join("?" * len(goal))
        db.execute(f"INSERT INTO goals ({', '.join(goal)}) VALUES ({marks})", (*goal.values(),))


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
    """Meanwhile, the reads of this process use this connection."""
    scratch["writer"] = db
    try:
        yield
    finally:
        with _one_at_a_time:
            scratch.pop("writer", None)


def upgraded(store: Store, change: Callable[[sqlite3.Connection], None]) -> bool:
    """For bugs: a transaction that reads before it writes, which SQLite refuses at once if
    anybody else has written in between; whether it was done."""
    with closing(store.connect()) as db:
        db.execute("BEGIN")
        db.execute("SELECT COUNT(*) FROM goals").fetchone()
        pause(0.01)
        try:
            change(db)
        except sqlite3.OperationalError:
            return False
        db.execute("COMMIT")
    return True
