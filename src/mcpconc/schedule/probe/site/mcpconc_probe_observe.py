"""Counting without control: what this process counted since it last said so, sent at most once a
second and at its end.

A process that belongs to one call says nothing of when. A server, which answers one call after
the other, says it by spells: what it counted without a pause, with the moments of the first and
the last of it. Between two calls of one client there always is a pause.

Nothing is imported for it that a process might not need: `re` alone costs more than it may.
"""

from __future__ import annotations

import _thread
import builtins
import io
import os
import sys
from time import monotonic_ns as now

import mcpconc_probe_wire as wire
from mcpconc_probe_connect import makers, with_cursors
from mcpconc_probe_hook import imitate, instead_of, when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["flush", "install"]

PERIOD = 1_000_000_000
"""Nanoseconds between two reports."""
PAUSE = 200_000
"""Nanoseconds without anything counted that end a spell."""
WAITED = 1_000_000
"""Nanoseconds from which taking a lock is counted as waiting: SQLite's first sleep is 1 ms."""

_CHANGES = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER"))
_SCHEMA = frozenset(("CREATE", "DROP", "ALTER", "PRAGMA", "REINDEX", "ANALYZE"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
counts = dict.fromkeys(
    (
        *("statements", "connections", "transactions", "lock_waits", "lock_wait_ns", "sql_ns"),
        *("git", "git_ns", "processes", "process_ns", "files_written"),
        *("schema", "schema_ns", "connect_ns", "nested", "nested_ns", "imports", "import_ns"),
    ),
    0,
)
_due = _first = _last = 0
_sent: dict = dict(counts)
_spells: list = []
_takes_lock: dict = {}
_of_schema: dict = {}


def install() -> None:
    makers[False] = _connection, _cursor
    wire.at_fork.append(_anew)
    when_imported("subprocess", _count_children)
    _count_files()
    _count_imports()


def flush() -> None:
    """Send what was counted and not sent yet; no server also that it is still there."""
    global _last
    if not wire.counting() or wire.here.busy:
        return
    if not wire.state.server:
        _last = now()
    _cut(not wire.state.server)
    messages, _spells[:] = list(_spells), []
    if messages:
        wire.tell(*messages)


def _begin() -> int:
    """This moment. To be called before anything is counted."""
    global _first
    moment = now()
    if moment - _last > PAUSE and (wire.state.server or not _first):
        _cut()
        _first = moment
    return moment


def _end(moment: int) -> None:
    """What was begun is counted."""
    global _last
    _last = moment
    if moment > _due:
        _tick(moment)


def _cut(always: bool = False) -> None:
    """End the spell, which is worth a line if anything was counted, or `always`."""
    new = {name: value - _sent[name] for name, value in counts.items() if value != _sent[name]}
    if new or always:
        _sent.update(counts)
        _spells.append({"counts": new, "since": _first, "until": _last})


def _tick(moment: int) -> None:
    global _due
    if wire.counting():
        first, _due = not _due, moment + PERIOD
        if not first:
            flush()


def _anew() -> None:
    global _due, _first, _last
    for name in counts:
        counts[name] = _sent[name] = 0
    _due = _first = _last = 0
    _spells.clear()


def _count_children(subprocess) -> None:
    """How many, and how long they are waited for from their start; those that are no git and whose
    parent is no server are ``nested``, too."""
    plain_init, plain_wait = subprocess.Popen.__init__, subprocess.Popen.wait

    def __init__(self, args, *rest, **kwargs):
        if wire.counting():
            self._mcpconc = _begin(), _is_git(args)
            counts["git" if self._mcpconc[1] else "processes"] += 1
            if not (self._mcpconc[1] or wire.state.server):
                counts["nested"] += 1
            _end(self._mcpconc[0])
        plain_init(self, args, *rest, **kwargs)

    def wait(self, *args, **kwargs):
        code = plain_wait(self, *args, **kwargs)
        began, git = self.__dict__.pop("_mcpconc", (0, False))
        if began:
            ended = _begin()
            counts["git_ns" if git else "process_ns"] += ended - began
            if not (git or wire.state.server):
                counts["nested_ns"] += ended - began
            _end(ended)
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
            _written()
        return plain_open(file, mode, *args, **kwargs)

    def os_open(path, flags, *args, **kwargs):
        if flags & _WRITES and wire.counting():
            _written()
        return plain_os_open(path, flags, *args, **kwargs)

    builtins.open = io.open = instead_of(plain_open, open, "io")
    os.open = instead_of(plain_os_open, os_open, "os")
    for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if plain_os_open in functions:
            functions.add(os.open)


class _Depth(_thread._local):
    depth = 0


def _count_imports() -> None:
    """Modules that a process loads which is no server, and how long that takes: what each call pays
    that starts such a process. The C code of `import` looks its function up at each use."""
    bootstrap: Any = sys.modules.get("_frozen_importlib")
    plain = getattr(bootstrap, "_find_and_load", None)
    if plain is None:
        return  # another Python than CPython
    inside = _Depth()

    def _find_and_load(name, import_):
        if wire.state.server or not wire.counting():
            return plain(name, import_)
        counts["imports"] += 1
        if inside.depth:
            return plain(name, import_)
        inside.depth = 1
        began = now()
        try:
            return plain(name, import_)
        finally:
            inside.depth = 0
            counts["import_ns"] += now() - began

    imitate(_find_and_load, plain)
    bootstrap._find_and_load = _find_and_load


def _written() -> None:
    began = _begin()
    counts["files_written"] += 1
    _end(began)


_READS = frozenset(("r", "rb", "rt", "br", "tr"))


def _connection(base: Any, module: Any) -> Any:
    ours: Any = with_cursors(base, module, False)

    class Connection(ours):
        def __init__(self, *args, **kwargs):
            began = _begin()
            super().__init__(*args, **kwargs)
            ended = now()
            counts["connections"] += 1
            counts["connect_ns"] += ended - began
            _end(ended)

        def commit(self):
            began = _begin()
            try:
                return super().commit()
            finally:
                _timed(began)

        def __exit__(self, *how):
            began = _begin()
            try:
                return super().__exit__(*how)
            finally:
                _timed(began)

    return Connection


def _timed(began: int) -> None:
    ended = now()
    counts["sql_ns"] += ended - began
    _end(ended)


def _cursor(base: Any, module: Any) -> Any:
    plain, many, script = base.execute, base.executemany, base.executescript

    class Cursor(base):
        __slots__ = ()

        def execute(self, sql, *args):
            connection = self.connection
            inside = connection.in_transaction
            failed = True
            began = _begin()
            try:
                done = plain(self, sql, *args)
                failed = False
                return done
            finally:
                ended = now()
                counts["statements"] += 1
                counts["sql_ns"] += ended - began
                if _schema(sql):
                    counts["schema"] += 1
                    counts["schema_ns"] += ended - began
                if not inside:
                    kind = _takes_lock.get(sql)
                    if kind is None:
                        kind = _learn(sql)
                    if kind:
                        _transaction(connection, kind, ended - began, failed)
                _end(ended)

        def executemany(self, sql, *args):
            return _count(self, many, sql, args)

        def executescript(self, sql):
            return _count(self, script, sql, ())

    return Cursor


def _schema(sql) -> bool:
    """Whether it makes, changes or asks of what the database is like, not of what is in it."""
    known = _of_schema.get(sql)
    if known is None:
        first = sql.split(None, 1)[:1] if isinstance(sql, str) else []
        known = bool(first) and first[0].upper() in _SCHEMA
        if len(_of_schema) >= 2000:
            _of_schema.clear()
        _of_schema[sql] = known
    return known


def _learn(sql) -> str:
    """``begin``, ``write`` or "" for what takes no write lock."""
    words = sql.upper().split(None, 2) if isinstance(sql, str) else []
    first = words[0] if words else ""
    begins = first == "BEGIN" and words[1:2] not in ([], ["TRANSACTION"], ["DEFERRED"])
    kind = "begin" if begins else "write" if first in _CHANGES else ""
    if first in ("CREATE", "DROP") and "EXISTS" in "".join(words[2:])[:80].split():
        kind = ""  # there, or gone, as a rule: then no lock is taken
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
    began = _begin()
    try:
        return method(cursor, sql, *args)
    finally:
        took = now() - began
        counts["statements"] += 1
        if args == () and _schema(sql):  # a script, mostly one that makes tables
            counts["schema"] += 1
            counts["schema_ns"] += took
        _timed(began)
        if args and not inside:
            _transaction(connection, "write", took, False)
