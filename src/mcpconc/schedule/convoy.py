"""Everybody reads before anybody writes: rounds under SQLite's write lock.

A round of calls leaves while we hold the write lock of the database that the target's writers
contend for. Readers pass, writers queue up behind us in SQLite's busy handler, and when all
calls of the round sleep there or have answered we let go. That widens each window between a
read and the write that depends on it to the whole round, without touching the target.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mcpconc.program import Program
from mcpconc.schedule.barrier import Barrier
from mcpconc.schedule.base import Surroundings

__all__ = ["HOLD", "Convoy"]

HOLD = 10.0
"""Seconds that the lock is held at most: the target's own lock time-outs are longer."""

POLL, QUICKEST_POLL = 0.05, 0.005
"""Seconds between two looks at who sleeps, at most and at least: a twentieth of what a call
takes. A look costs about half a millisecond."""

LEAVING = 0.05
"""Seconds within which the calls of a round have left."""

ACQUIRE = 5.0
"""Seconds to wait for the lock ourselves."""


class Convoy(Barrier):
    """Behaves as `barrier`, and says so in `remarks`, where there is no database to lock."""

    name = "convoy"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.held = 0
        """Rounds that really left under the lock."""
        self._database: Path | None = None
        self._surroundings: Surroundings | None = None
        self._unanswered: set[str] = set()
        self._leaving: set[str] = set()
        self._poll = POLL
        self._round = anyio.Event()

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        super().begin(program, surroundings)
        self._surroundings = surroundings
        self._database = next(iter(surroundings.databases.values()), None)
        self._poll = min(POLL, max(QUICKEST_POLL, surroundings.call_seconds / 20))
        if self._database is None:
            self.remarks.append("the target has no database to lock: convoy behaves as barrier")

    async def admit(self, agent: int, call: str) -> None:
        self._leaving.add(call)
        await super().admit(agent, call)

    def sent(self, agent: int, call: str) -> None:
        self._leaving.discard(call)
        self._unanswered.add(call)

    def ended(self, agent: int, call: str) -> None:
        self._unanswered.discard(call)

    async def serve(self) -> None:
        while True:
            await self._round.wait()
            self._round = anyio.Event()
            await self._under_lock()

    def _all_ready(self) -> None:
        if self._database is None:
            self._release()
        else:
            self._round.set()

    async def _under_lock(self) -> None:
        assert self._database is not None
        try:
            connection = await anyio.to_thread.run_sync(partial(_lock, self._database))
        except sqlite3.Error as error:
            self.remarks.append(f"round {self.rounds} left without the lock: {error}")
            self._release()
            return
        with closing(connection):  # closing rolls back, and so lets go
            self.held += 1
            released = frozenset(self._leaving)
            self._release()
            with anyio.move_on_after(LEAVING):
                while self._leaving & released:
                    await anyio.sleep(0.001)
            with anyio.move_on_after(HOLD) as hold:
                while self._unanswered and not await self._all_asleep():
                    await anyio.sleep(self._poll)
            if hold.cancelled_caught:
                self.remarks.append(f"round {self.rounds}: the lock was let go after {HOLD:g} s")

    async def _all_asleep(self) -> bool:
        assert self._surroundings is not None
        asleep = await anyio.to_thread.run_sync(self._surroundings.waiting)
        return asleep >= len(self._unanswered)


def _lock(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{database.as_uri()}?mode=rw",  # never creates the file
        uri=True,
        timeout=ACQUIRE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    return connection
