"""Two planted races, transaction by transaction: which interleavings lose a completion, and so
how many ordering constraints a schedule has to meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from mcpconc.reference import switch
from mcpconc.reference.goals import goals_create
from mcpconc.reference.sessions import session_create
from mcpconc.reference.store import Store, prepare
from mcpconc.reference.tasks import goals_add_task, goals_complete_task

ORDERS = sorted({"".join(order) for order in permutations("AABB")})
SERIAL = {"AABB", "BBAA"}
BOUND = 10.0
"""Seconds after which a turn that never comes is an error."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    prepare(tmp_path)
    yield Store(tmp_path, "agent-0")
    (tmp_path / switch.FILE).unlink(missing_ok=True)
    switch.refresh(tmp_path)


class Turns:
    """Each write transaction of A and of B waits for its letter in `order`."""

    def __init__(self, order: str) -> None:
        self._left = list(order)
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._left[0] == name, BOUND)
        yield
        with self._changed:
            self._left.pop(0)
            self._changed.notify_all()


def lost(store: Store, plant: str, order: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether A and B, who complete two tasks of one goal in this order, lose one of them."""
    session = session_create(store, {"ai_id": "ai"})["session_id"]
    made = goals_create(store, {"objective": f"{plant} {order}", "session_id": session})
    goal = {"goal_id": made["goal_id"]}
    tasks = {name: goals_add_task(store, {**goal, "description": name})["task_id"] for name in "AB"}
    (store.root / switch.FILE).write_text(f"{plant}\n{order}\n")
    switch.refresh(store.root)
    turns, whole, who = Turns(order), Store.write, threading.local()

    @contextmanager
    def write(self: Store, workspace: bool = False) -> Iterator[Any]:
        with turns.taken(who.name), whole(self, workspace) as db:
            yield db

    def complete(name: str) -> None:
        who.name = name
        goals_complete_task(store, {"task_id": tasks[name], "evidence": name})

    with monkeypatch.context() as patched, ThreadPoolExecutor(2) as pool:
        patched.setattr(Store, "write", write)
        list(pool.map(complete, "AB"))
    query = "SELECT COUNT(*) FROM subtasks WHERE goal_id = ? AND status = 'completed'"
    with closing(store.connect()) as db:
        return bool(db.execute(query, (made["goal_id"],)).fetchone()[0] < 2)


@pytest.mark.parametrize("order", ORDERS)
def test_two_constraints_is_met_by_any_overlap(
    store: Store, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    assert lost(store, "two-constraints", order, monkeypatch) == (order not in SERIAL)


@pytest.mark.parametrize("order", ORDERS)
def test_three_constraints_needs_claims_and_writes_to_alternate(
    store: Store, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    assert lost(store, "three-constraints", order, monkeypatch) == (order in {"ABAB", "BABA"})
