"""Checkpoints: assessments too are such, automatic closes are not.

The correct server looks them up in the database. Two planted bugs keep an index of them in a
file beside it, and believe that.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mcpconc.reference.store import VECTORS, Store
from mcpconc.reference.switch import pause, planted

__all__ = ["Checkpoint", "Index", "best", "indexing", "latest_vectors", "lookup", "read_index"]

Checkpoint = dict[str, Any]
"""`session_id`, `phase`, `round`, `timestamp`, `vectors`, `meta`: what a note holds."""

WINDOW = 0.015
"""Seconds between reading or emptying the file and taking the write lock."""

PRIORITY = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")


def lookup(store: Store, connection: sqlite3.Connection, session: str | None) -> list[Checkpoint]:
    """The checkpoints of a session, oldest first."""
    if _indexed():
        return _of(_read(store), session)
    return _listed(
        connection.execute("SELECT * FROM reflexes WHERE session_id = ? ORDER BY id", (session,))
    )


def best(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """Of the highest round, the latest of the phase that comes last in the loop."""
    found = None
    for one in checkpoints:
        if found is None or _rank(one) >= _rank(found):
            found = one
    return found


def latest_vectors(
    connection: sqlite3.Connection, session: str | None, index: Sequence[Checkpoint] | None
) -> dict[str, float]:
    """The vectors of a session's latest row; of the planted bugs, what `index` says of them."""
    row = connection.execute(
        "SELECT * FROM reflexes WHERE session_id = ? ORDER BY id DESC LIMIT 1", (session,)
    ).fetchone()
    if row is None:
        return {}
    if index is None or _closed(row):
        return _vectors(row)
    return next((one["vectors"] for one in reversed(_of(index, session))), {})


@dataclass(frozen=True, slots=True)
class Index:
    """What a planted bug has of the file before its call takes the write lock: `entries` that it
    believes in, and the `file` open and empty. Neither, and nothing is done, where none is."""

    store: Store
    entries: list[Checkpoint] | None = None
    file: IO[str] | None = None

    def update(self, connection: sqlite3.Connection, entry: Checkpoint) -> None:
        """Put a new checkpoint in."""
        if self.file is not None:
            rows = connection.execute("SELECT * FROM reflexes ORDER BY id")
            json.dump(_listed(rows), self.file)
            self.file.flush()
        elif self.entries is not None:
            beside = _path(self.store).with_name(f"{os.urandom(4).hex()}.new")
            beside.write_text(json.dumps([*self.entries, entry]), "utf-8")
            os.replace(beside, _path(self.store))


@contextmanager
def indexing(store: Store) -> Iterator[Index]:
    """Around the transaction of a call that makes a checkpoint."""
    if planted("checkpoint-file-truncated"):
        none_yet = not _read(store)
        with _path(store).open("w", encoding="utf-8") as file:
            pause(WINDOW)
            yield Index(store, [] if none_yet else None, file)
    elif planted("checkpoint-file-written-back"):
        entries = _read(store)
        pause(WINDOW)
        yield Index(store, entries)
    else:
        yield Index(store)


def read_index(store: Store) -> list[Checkpoint] | None:
    """What the file says now; None where no bug keeps one."""
    return _read(store) if _indexed() else None


def _indexed() -> bool:
    return planted("checkpoint-file-written-back") or planted("checkpoint-file-truncated")


def _of(checkpoints: Sequence[Checkpoint], session: str | None) -> list[Checkpoint]:
    return [one for one in checkpoints if one["session_id"] == session]


def _rank(checkpoint: Checkpoint) -> tuple[int, int]:
    return (checkpoint["round"], PRIORITY.index(checkpoint["phase"]))


def _listed(rows: Iterable[sqlite3.Row]) -> list[Checkpoint]:
    return [
        {
            **{name: row[name] for name in ("session_id", "phase", "round", "timestamp")},
            "vectors": _vectors(row),
            "meta": json.loads(row["reflex_data"] or "{}"),
        }
        for row in rows
        if not _closed(row)
    ]


def _closed(row: sqlite3.Row) -> bool:
    return bool(json.loads(row["reflex_data"] or "{}").get("auto_closed"))


def _vectors(row: sqlite3.Row) -> dict[str, float]:
    return {name: row[name] for name in VECTORS if row[name] is not None}


def _read(store: Store) -> list[Checkpoint]:
    """Nothing where the file is missing or not whole."""
    try:
        found = json.loads(_path(store).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    assert isinstance(found, list)
    return found


def _path(store: Store) -> Path:
    return store.root / "ws/.empirica/checkpoints.json"
