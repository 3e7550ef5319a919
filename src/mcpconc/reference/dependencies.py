"""Dependencies between goals: at most one between two goals, in one direction."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from mcpconc.reference.store import Refused, Store, new_id
from mcpconc.reference.switch import pause, planted

__all__ = ["TOOLS", "goals_add_dependency"]


def goals_add_dependency(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Make one goal depend on another one, unless the two depend on each other already or are
    the same. Longer cycles are not looked for."""
    goal, other = args["goal_id"], args["depends_on"]
    dependency, description = new_id(), args.get("description")
    if planted("dependency-write-skew"):
        with store.read() as db:
            _refuse_both_ways(db, goal, other)
        pause(0.05)
    locked = _locked(store, goal, other) if planted("dependency-deadlock") else nullcontext()
    with locked, store.write() as db:
        objective = _objective(db, goal, "Goal not found")
        other_objective = _objective(db, other, "Dependency goal not found")
        if not planted("dependency-write-skew"):
            _refuse_both_ways(db, goal, other)
        row = (dependency, goal, other, description)
        db.execute("INSERT INTO goal_dependencies VALUES (?, ?, ?, ?)", row)
    return {
        "dependency_id": dependency,
        "goal_id": goal,
        "goal_objective": objective,
        "depends_on": other,
        "depends_on_objective": other_objective,
        "type": args.get("type") or "blocks",
        "description": description,
        "message": f"Dependency added: {goal} depends on {other}",
    }


def _objective(db: sqlite3.Connection, goal: str, otherwise: str) -> str:
    row = db.execute("SELECT objective FROM goals WHERE id = ?", (goal,)).fetchone()
    if row is None:
        raise Refused(f"{otherwise}: {goal}")
    return str(row[0])


def _exists(db: sqlite3.Connection, goal: str, other: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM goal_dependencies WHERE goal_id = ? AND depends_on_goal_id = ?",
        (goal, other),
    )
    return found.fetchone() is not None


def _refuse_both_ways(db: sqlite3.Connection, goal: str, other: str) -> None:
    if goal == other or _exists(db, other, goal):
        raise Refused(
            "Circular dependency detected", detail=f"Goal {other} already depends on {goal}"
        )
    if _exists(db, goal, other):
        raise Refused("Dependency already exists", goal_id=goal, depends_on=other)


@contextmanager
def _locked(store: Store, *goals: str) -> Iterator[None]:
    """For the bug dependency-deadlock: a lock on each goal, in the order given."""
    with ExitStack() as stack:
        (store.root / "locks").mkdir(exist_ok=True)
        for goal in dict.fromkeys(goals):
            file = stack.enter_context((store.root / "locks" / f"{goal}.lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
            pause(0.03)
        yield


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "goals_add_dependency": goals_add_dependency,
}
