"""Counting without control: sums of this process, sent at most once a second and at its end.

Nothing is imported for it that a process might not need: `re` alone costs more than it may.
"""

from __future__ import annotations

import builtins
import io
import os
from time import perf_counter_ns

import mcpconc_probe_wire as wire
from mcpconc_probe_connect import makers, with_cursors
from mcpconc_probe_hook import imitate, instead_of, when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["flush", "install"]

PERIOD = 1_000_000_000
"""Nanoseconds between two reports."""
WAITED = 1_000_000
"""Nanoseconds from which taking a lock is counted as waiting: SQLite's first sleep is 1 ms."""

_CHANGES = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
counts = dict.fromkeys(
    (
        *("statements", "connections", "transactions", "lock_waits", "lock_wait_ns", "sql_ns"),
        *("git", "git_ns", "processes", "process_ns", "files_written"),
    ),
    0,
)
_due = 0
_takes_lock: dict = {}


def install() -> None:
    makers[False] = _connection, _cursor
    wire.at_fork.append(_anew)
    when_imported("subprocess", _count_children)
    _count_files()


def flush() -> None:
    """Send the sums."""
    if wire.counting() and not wire.here.busy:
        wire.tell({"counts": counts})


def _tick(now: int) -> None:
    global _due
    if wire.counting():
        first, _due = not _due, now + PERIOD
        if not first:
            flush()


def _anew() -> None:
    global _due
    for name in counts:
        counts[name] = 0
    _due = 0


def _count_children(subprocess) -> None:
    """How many, and how long they are waited for from their start."""
    plain_init, plain_wait = subprocess.Popen.__init__, subprocess.Popen.wait

    def __init__(self, args, *rest, **kwargs):
        if wire.counting():
            self._mcpconc = perf_counter_ns(), _is_git(args)
            counts["git" if self._mcpconc[1] else "processes"] += 1
        plain_init(self, args, *rest, **kwargs)

    def wait(self, *args, **kwargs):
        code = plain_wait(self, *args, **kwargs)
        began, git = self.__dict__.pop("_mcpconc", (0, False))
        if began:
            now = perf_counter_ns()
            counts["git_ns" if git else "process_ns"] += now - began
            if now > _due:
                _tick(now)
        return code

    imitate(__init__, plain_init)
    imitate(wait, plain_wait)
    subprocess.Popen.__init__, subprocess.Popen.wait = __init__, wait


def _is_git(args) -> bool:
    first = args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args), "")
    words = os.fsdecode(first).split()
    return bool(words) and os.path.basename(words[0]) == "git"


def _count_files() -> None:
    plain_open, plain_os_open = io.open, os.open

    def open(file, mode="r", *args, **kwargs):
        if mode not in _READS and wire.counting():
            counts["files_written"] += 1
        return plain_open(file, mode, *args, **kwargs)

    def os_open(path, flags, *args, **kwargs):
        if flags & _WRITES and wire.counting():
            counts["files_written"] += 1
        return plain_os_open(path, flags, *args, **kwargs)

    builtins.open = io.open = instead_of(plain_open, open, "io")
    os.open = instead_of(plain_os_open, os_open, "os")
    for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if plain_os_open in functions:
            functions.add(os.open)


_READS = frozenset(("r", "rb", "rt", "br", "tr"))


def _connection(base: Any, module: Any) -> Any:
    ours: Any = with_cursors(base, module, False)

    class Connection(ours):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            counts["connections"] += 1

        def commit(self):
            began = perf_counter_ns()
            try:
                return super().commit()
            finally:
                counts["sql_ns"] += perf_counter_ns() - began

        def __exit__(self, *how):
            began = perf_counter_ns()
            try:
                return super().__exit__(*how)
            finally:
                counts["sql_ns"] += perf_counter_ns() - began

    return Connection


def _cursor(base: Any, module: Any) -> Any:
    now = perf_counter_ns
    plain, many, script = base.execute, base.executemany, base.executescript

    class Cursor(base):
        __slots__ = ()

        def execute(self, sql, *args):
            connection = self.connection
            inside = connection.in_transaction
            failed = True
            began = now()
            try:
                done = plain(self, sql, *args)
                failed = False
                return done
            finally:
                ended = now()
                counts["statements"] += 1
                counts["sql_ns"] += ended - began
                if not inside:
                    kind = _takes_lock.get(sql)
                    if kind is None:
                        kind = _learn(sql)
                    if kind:
                        _transaction(connection, kind, ended - began, failed)
                if ended > _due:
                    _tick(ended)

        def executemany(self, sql, *args):
            return _count(self, many, sql, args)

        def executescript(self, sql):
            return _count(self, script, sql, ())

    return Cursor


def _learn(sql) -> str:
    """``begin``, ``write`` or "" for what takes no write lock."""
    words = sql.upper().split(None, 2) if isinstance(sql, str) else []
    first = words[0] if words else ""
    begins = first == "BEGIN" and words[1:2] not in ([], ["TRANSACTION"], ["DEFERRED"])
    kind = "begin" if begins else "write" if first in _CHANGES else ""
    if len(_takes_lock) >= 2000:
        _takes_lock.clear()
    _takes_lock[sql] = kind
    return kind


def _transaction(connection, kind: str, took: int, failed: bool) -> None:
    counts["transactions"] += 1
    # In autocommit mode writing itself may take longer than that.
    waits = failed or kind == "begin" or connection.in_transaction
    if waits and took >= WAITED:
        counts["lock_waits"] += 1
        counts["lock_wait_ns"] += took


def _count(cursor, method, sql, args):
    connection = cursor.connection
    inside = connection.in_transaction
    began = perf_counter_ns()
    try:
        return method(cursor, sql, *args)
    finally:
        took = perf_counter_ns() - began
        counts["statements"] += 1
        counts["sql_ns"] += took
        if args and not inside:
            _transaction(connection, "write", took, False)
