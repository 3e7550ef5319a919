"""The rows of goals: how they are looked up, changed, and read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from mcpconc.reference.store import Store
from mcpconc.reference.switch import pause, planted, scratch

__all__ = ["Goal", "changing", "noted", "put", "remember", "remembered", "upgraded"]

Goal = dict[str, Any]
"""The row of a goal: its columns, and `rowid`."""


@contextmanager
def changing(
    store: Store, where: str, *values: Any
) -> Iterator[tuple[sqlite3.Connection, list[Goal]]]:
    """A write transaction, and the goals that it is about as they are in it."""
    query = f"SELECT rowid, * FROM goals WHERE {where} ORDER BY rowid"
    if planted("intermediate-read"):
        with closing(store.connect()) as db:  # each statement is a transaction
            db.execute("PRAGMA foreign_keys = OFF")
            yield db, [dict(row) for row in db.execute(query, values)]
        return
    if planted("goal-data-written-back") or planted("goal-row-written-back"):
        with store.read() as db:
            remember([dict(row) for row in db.execute(query, values)])
        pause(0.01)
    with store.write() as db:
        now = [dict(row) for row in db.execute(query, values)]
        yield db, [_to_change(goal) for goal in now]


def put(db: sqlite3.Connection, goal: Goal, **changed: Any) -> None:
    """Change these columns of a goal."""
    if planted("goal-row-written-back"):
        changed = {**goal, **changed}
    if planted("intermediate-read"):
        _taken_out_and_put_back(db, {**goal, **changed})
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


REMEMBERING = ("goal-row-written-back", "goal-data-written-back", "progress-from-cache")


def remember(goals: Iterable[Goal], again: bool = False) -> None:
    """For bugs: what a process has seen of a goal first, or has written to it last, is what it
    takes for true from then on."""
    if any(map(planted, REMEMBERING)):
        known: dict[str, Goal] = scratch.setdefault("goals", {})
        for goal in goals:
            if again or goal["id"] not in known:
                known[goal["id"]] = goal


def remembered(goal: Goal) -> Goal:
    known: Goal = scratch.get("goals", {}).get(goal["id"], goal)
    return known


def _to_change(goal: Goal) -> Goal:
    if planted("goal-data-written-back"):
        return {**goal, "goal_data": remembered(goal)["goal_data"]}
    return remembered(goal) if planted("goal-row-written-back") else goal


def _taken_out_and_put_back(db: sqlite3.Connection, goal: Goal) -> None:
    """For the bug intermediate-read."""
    db.execute("DELETE FROM goals WHERE id = ?", (goal["id"],))
    pause(0.01)
    columns, marks = ", ".join(goal), ", ".join("?" * len(goal))
    db.execute(f"INSERT OR REPLACE INTO goals ({columns}) VALUES ({marks})", (*goal.values(),))


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
