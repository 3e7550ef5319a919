"""The file locks of a world's processes, as the kernel lists them in /proc.

See proc_locks(5) and proc_pid_fdinfo(5). A lock and the requests that wait for it share a
number, the requests are marked ``->``. Devices are not compared: overlay file systems give other
numbers there than stat(2) does; a file is recognised among those that the process has open.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SIDE_FILES", "Lock", "held", "holders", "listed", "open_inodes", "stays_locked"]

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


def listed() -> tuple[Lock, ...]:
    """All locks of the machine (of our pid namespace); none where they cannot be seen.

    The kernel stops everybody's locking for this: it takes milliseconds, most of it asleep.
    """
    try:
        return _parsed(Path("/proc/locks").read_text("ascii", "replace"))
    except OSError:
        return ()


def open_inodes(pid: int) -> dict[int, str]:
    """Inode → path of what a process has open."""
    found = {}
    for name, path in _open(pid):
        try:
            found[os.stat(f"/proc/{pid}/fd/{name}").st_ino] = path
        except OSError:
            continue
    return found


def held(pid: int, root: Path) -> Iterator[str]:
    """Paths below `root` that a process holds locks on which stop others, also those that it
    got with an open file from a process that has ended. SQLite's mark of a WAL in use is none.
    """
    for name, path in _open(pid):
        if not path.startswith(f"{root}{os.sep}"):
            continue
        try:
            text = Path(f"/proc/{pid}/fdinfo/{name}").read_text("ascii", "replace")
        except OSError:
            continue
        if any(not _harmless(lock) for lock in _parsed(text)):
            yield path


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


def _parsed(text: str) -> tuple[Lock, ...]:
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


def _open(pid: int) -> Iterator[tuple[str, str]]:
    """(descriptor, path) of the open files of a process; of deleted ones too."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if path.startswith("/"):
            yield name, path.removesuffix(" (deleted)")
