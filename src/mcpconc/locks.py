"""The file locks of a world's processes, as the kernel lists them in /proc/locks.

See proc_locks(5). A lock and the requests that wait for it share a number, the requests are
marked ``->``. Devices are not compared: overlay file systems give other numbers there than
stat(2) does; a file is recognised among those that the process has open.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SIDE_FILES", "Lock", "held_below", "holders", "listed", "open_inodes", "stays_locked"]

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite adds to a database's name."""

_LINE = re.compile(
    r"(?P<number>\d+):\s+(?P<arrow>->)?\s*(?P<kind>\w+)\s+\S+\s+(?P<mode>\w+)\s+(?P<pid>-?\d+)\s+"
    r"\S+:(?P<inode>\d+)\s+(?P<start>\d+)\s+(?P<end>\d+|EOF)"
)
_IN_USE = 128
"""The byte of a ``-shm`` file that every connection in WAL mode holds a shared lock on for as
long as it is open (SQLite's ``unixShmDMS``): it stops nobody."""


@dataclass(frozen=True, slots=True)
class Lock:
    """One line. `pid` is -1 for a lock that belongs to an open file and to no process; `waits`
    marks a request that is not granted; `number` is that of the lock it waits for."""

    number: int
    kind: str
    mode: str
    pid: int
    inode: int
    start: int
    waits: bool


def listed(text: str | None = None) -> tuple[Lock, ...]:
    """All locks of the machine (of our pid namespace); none where they cannot be seen."""
    if text is None:
        try:
            text = Path("/proc/locks").read_text("ascii", "replace")
        except OSError:
            return ()
    return tuple(
        Lock(
            number=int(found["number"]),
            kind=found["kind"],
            mode=found["mode"],
            pid=int(found["pid"]),
            inode=int(found["inode"]),
            start=int(found["start"]),
            waits=found["arrow"] is not None,
        )
        for found in _LINE.finditer(text)
    )


def open_inodes(pid: int) -> dict[int, str]:
    """Inode → path of what a process has open; of a deleted file too (`` (deleted)`` goes)."""
    found = {}
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return {}
    for name in names:
        descriptor = f"/proc/{pid}/fd/{name}"
        try:
            path = os.readlink(descriptor)
            if path.startswith("/"):
                found[os.stat(descriptor).st_ino] = path.removesuffix(" (deleted)")
        except OSError:
            continue
    return found


def held_below(root: Path, pids: Iterable[int], locks: Sequence[Lock]) -> Iterator[tuple[int, str]]:
    """(pid, path) of each lock that stops others and is held on a file below `root` which one
    of `pids` has open: its own, and one that an ended process has left it with the file."""
    granted = {lock.inode: lock for lock in locks if not lock.waits and not _harmless(lock)}
    if not granted:
        return
    everybody = set(pids)
    for pid in sorted(everybody):
        for inode, path in open_inodes(pid).items():
            lock = granted.get(inode)
            if lock is None or not path.startswith(f"{root}{os.sep}"):
                continue
            # Of several that have the file open the one that took the lock is told.
            if lock.pid == pid or lock.pid not in everybody:
                yield pid, path


def holders(database: Path, locks: Sequence[Lock]) -> set[int]:
    """Process ids of those whose locks can keep others from writing this SQLite database: the
    writer's where there is one, else the readers'."""
    inodes = set()
    for suffix in ("", *SIDE_FILES):
        try:
            inodes.add(os.stat(f"{database}{suffix}").st_ino)
        except OSError:
            continue
    ours = [k for k in locks if k.inode in inodes and not k.waits and not _harmless(k)]
    return {k.pid for k in ours if k.mode == "WRITE"} or {k.pid for k in ours}


def stays_locked(database: Path, patience: float) -> bool:
    """Whether nobody can write this SQLite database: an exclusive transaction is tried, for
    `patience` seconds, and rolled back. In WAL mode that asks for the write lock; with a
    rollback journal for everybody's absence, because a reader who stays stops commits too.

    False where the database cannot be opened: that is not a lock.
    """
    try:
        with closing(
            sqlite3.connect(
                f"{database.as_uri()}?mode=rw",  # never creates the file
                uri=True,
                timeout=patience,
                isolation_level=None,
            )
        ) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return "locked" in str(error)
    return False


def _harmless(lock: Lock) -> bool:
    """A shared lock on the byte that says that a WAL is in use."""
    return lock.kind in ("POSIX", "OFDLCK") and lock.mode == "READ" and lock.start == _IN_USE
