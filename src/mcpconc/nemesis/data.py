"""Faults of stored data: a damaged database, an empty one, one of an older release."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import anyio.to_thread

from mcpconc.locks import SIDE_FILES
from mcpconc.nemesis.base import Act, Family, Kind, Missed, Strike
from mcpconc.target.base import Ages

__all__ = ["KINDS"]

PAGE = 4096
WAIT = 5.0
"""Seconds to wait for others' locks."""


def _damaging(damage: Callable[[Strike, Path], str]) -> Act:
    @asynccontextmanager
    async def act(strike: Strike) -> AsyncIterator[None]:
        path = next(iter(strike.world.databases.values()), None)
        if path is None or not path.is_file():
            raise Missed("there is no database")
        strike.begins(await anyio.to_thread.run_sync(partial(damage, strike, path)))
        yield

    return act


def _corrupt(strike: Strike, path: Path) -> str:
    """Half of one page, as a disk does it: the first page, without which nothing can be read,
    for one `pick` in three."""
    pages = max(1, path.stat().st_size // PAGE)
    page = 0 if strike.fault.pick % 3 == 0 else strike.fault.pick % pages
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(range(256)) * (PAGE // 512))
    return f"page {page + 1} of {pages} of {path.name} holds garbage"


def _empty(strike: Strike, path: Path) -> str:
    """All calls that follow find an empty file, and make tables in it, all of them at once."""
    for suffix in SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.unlink()
    path.touch()
    return f"{path.name} is empty"


def _older(strike: Strike, path: Path) -> str:
    """All calls that follow bring its schema up to date, all of them at once."""
    target = strike.world.target
    if not isinstance(target, Ages):
        raise Missed("the target does not know what its older schemas were")
    try:
        with (
            closing(
                sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=WAIT)
            ) as connection,
            connection,
        ):
            return f"{path.name} is as of an older release: {target.age(connection)}"
    except sqlite3.Error as error:
        raise Missed(f"{path.name} cannot be made older: {error}") from error


def _kind(
    name: str,
    about: str,
    damage: Callable[[Strike, Path], str],
    spoils: str,
    spares: tuple[str, ...] = (),
) -> Kind:
    return Kind(
        name=name,
        about=about,
        family=Family.DATA,
        act=_damaging(damage),
        of_agent=False,
        refuses=True,
        spoils=spoils,
        spares=spares,
    )


KINDS = (
    _kind(
        "corrupt-database",
        "a page of the main database is replaced by garbage",
        _corrupt,
        "the main database",
    ),
    _kind(
        "empty-database",
        "the main database is replaced by an empty file",
        _empty,
        "the main database",
    ),
    _kind(
        "older-schema",
        "the main database loses what the last releases added to its schema",
        _older,
        "some columns of the main database",
        spares=("integrity",),
    ),
)
