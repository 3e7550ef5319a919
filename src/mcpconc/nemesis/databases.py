"""Faults of databases' locks: somebody else holds the write lock of one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio

from mcpconc.nemesis.base import Act, Family, Kind, Missed, Strike

__all__ = ["KINDS"]

SHORT = 0.3
"""Of the target's own time-out: whoever waits is served in the end."""
LONG = 1.2
"""Longer than that: whoever waits gives up."""
AGAIN = 0.005
"""Seconds between two tries for a lock that others hold."""


def _holding(which: int) -> Act:
    @asynccontextmanager
    async def act(strike: Strike) -> AsyncIterator[None]:
        name, path = _database(strike, which)
        with closing(await _lock(path, strike.patience)):  # closing rolls back, and so lets go
            strike.begins(f"the write lock of {name} is held", database=name)
            yield

    return act


def _database(strike: Strike, which: int) -> tuple[str, Path]:
    databases = list(strike.world.databases.items())
    if len(databases) <= which:
        raise Missed(f"the target has {len(databases) or 'no'} database{'s' * (which == 1)}")
    return databases[which]


async def _lock(path: Path, patience: float) -> sqlite3.Connection:
    """A connection in a write transaction. Tried again and again instead of with a time-out of
    SQLite's, which could not be cancelled."""
    connection: sqlite3.Connection | None = None
    try:
        with anyio.fail_after(patience):
            while True:
                try:
                    if connection is None:
                        connection = sqlite3.connect(
                            f"{path.as_uri()}?mode=rw",  # never creates the file
                            uri=True,
                            timeout=0,
                            isolation_level=None,
                        )
                    connection.execute("BEGIN IMMEDIATE")
                    return connection
                except sqlite3.Error as error:
                    if "locked" not in str(error):
                        raise Missed(f"{path.name}: {error}") from error
                    await anyio.sleep(AGAIN)
    except TimeoutError:
        raise Missed(f"{path.name} was locked by others all the time") from None
    finally:
        if connection is not None and not connection.in_transaction:
            connection.close()


def _kind(name: str, which: int, what: str, part: float) -> Kind:
    how = "for a short time" if part < 1 else "for longer than the target's calls wait"
    return Kind(
        name=name,
        about=f"somebody else holds the write lock of {what} {how}",
        family=Family.LOCK,
        act=_holding(which),
        seconds=lambda strike: part * strike.patience,
        of_agent=False,
        refuses=True,
    )


KINDS = (
    _kind("hold-lock", 0, "the main database", SHORT),
    _kind("hold-lock-long", 0, "the main database", LONG),
    _kind("hold-second-lock", 1, "the second database", SHORT),
    _kind("hold-second-lock-long", 1, "the second database", LONG),
)
