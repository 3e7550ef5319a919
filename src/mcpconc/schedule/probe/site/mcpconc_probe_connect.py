"""Connections and cursors of classes of ours: for points before statements, or for counting."""

from __future__ import annotations

import sys
from time import perf_counter_ns

import mcpconc_probe_counts as counting
import mcpconc_probe_wire as wire
from mcpconc_probe_counts import counts
from mcpconc_probe_hook import when_imported
from mcpconc_probe_sql import run, watch
from mcpconc_probe_statement import parse

__all__ = ["install"]

WAITED = 1_000_000
"""Nanoseconds from which taking a lock is counted as waiting: SQLite's first sleep is 1 ms."""
FACTORY = 5
"""Place of `factory` among the arguments of `sqlite3.connect`."""

_classes: dict = {}
_takes_lock: dict = {}


def install() -> None:
    when_imported("sqlite3.dbapi2", _change)


def _change(module) -> None:
    plain = module.connect

    def connect(*args, **kwargs):
        if not wire.state.mode:
            return plain(*args, **kwargs)
        wanted = args[FACTORY] if len(args) > FACTORY else kwargs.get("factory", module.Connection)
        if isinstance(wanted, type) and issubclass(wanted, module.Connection):
            ours = _ours(wanted, module)
            if len(args) > FACTORY:
                args = (*args[:FACTORY], ours, *args[FACTORY + 1 :])
            else:
                kwargs["factory"] = ours
        return plain(*args, **kwargs)

    for name in ("__doc__", "__module__", "__name__", "__qualname__", "__text_signature__"):
        try:
            setattr(connect, name, getattr(plain, name))
        except (AttributeError, TypeError):
            pass
    module.connect = connect
    whole = sys.modules.get("sqlite3")
    if getattr(whole, "connect", None) is plain:
        whole.connect = connect


def _ours(base: type, module) -> type:
    """The class of ours that is one of `base` as well: a connection's, or a cursor's."""
    key = base, wire.state.controlled
    found = _classes.get(key)
    if found is None:
        cursor = issubclass(base, module.Cursor)
        if wire.state.controlled:
            made = _stopping_cursor(base) if cursor else _stopping(base, module)
        else:
            made = _counting_cursor(base) if cursor else _counting(base, module)
        made.__name__, made.__qualname__ = base.__name__, base.__qualname__
        made.__module__, made.__doc__ = base.__module__, base.__doc__
        found = _classes[key] = made
    return found


def _with_cursors(base: type, module) -> type:
    plain, ours = base.cursor, _ours(module.Cursor, module)

    class Connection(base):
        def cursor(self, factory=ours):
            theirs = factory is not ours and isinstance(factory, type)
            if theirs and issubclass(factory, module.Cursor):
                factory = _ours(factory, module)
            return plain(self, factory)

        # The short forms make a cursor of their own, without asking `cursor`.
        def execute(self, *args):
            return plain(self, ours).execute(*args)

        def executemany(self, *args):
            return plain(self, ours).executemany(*args)

        def executescript(self, *args):
            return plain(self, ours).executescript(*args)

    return Connection


def _stopping(base: type, module) -> type:
    class Connection(_with_cursors(base, module)):
        _mcpconc = None

        def __init__(self, database, *args, **kwargs):
            self._mcpconc = watched = watch(self, database)
            super().__init__(database, *args, **kwargs)
            super().set_trace_callback(watched.traced)

        def set_trace_callback(self, callback):
            if self._mcpconc is None:
                super().set_trace_callback(callback)
            else:
                self._mcpconc.theirs = callback

    return Connection


def _stopping_cursor(base: type) -> type:
    class Cursor(base):
        __slots__ = ()

        def execute(self, sql, *args):
            return _stop(self, sql, super().execute, args)

        def executemany(self, sql, rows, *rest):
            return _stop(self, sql, super().executemany, (rows, *rest), many=True)

        def executescript(self, sql):
            return _stop(self, sql, super().executescript, (), script=True)

    return Cursor


def _stop(cursor, sql, method, args, many=False, script=False):
    watched = getattr(getattr(cursor, "connection", None), "_mcpconc", None)
    if watched is None or not isinstance(sql, str) or not wire.state.controlled:
        return method(sql, *args)
    return run(watched, sql, method, args, many, script)


def _counting(base: type, module) -> type:
    class Connection(_with_cursors(base, module)):
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


def _counting_cursor(base: type) -> type:
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
                if ended > counting.due:
                    counting.tick(ended)

        def executemany(self, sql, *args):
            return _count(self, many, sql, args)

        def executescript(self, sql):
            return _count(self, script, sql, ())

    return Cursor


def _learn(sql) -> str:
    """The kind of a statement that may take the write lock, "" for others."""
    kind = parse(sql).kind if isinstance(sql, str) else ""
    if len(_takes_lock) >= 2000:
        _takes_lock.clear()
    _takes_lock[sql] = kind = kind if kind in ("write", "ddl", "begin") else ""
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
