"""Points before SQL statements: what a trace callback and a cursor of ours know of them.

The callback fires before a statement is executed, and for a trigger's once more with the text of
the statement that fired it; ``BEGIN`` of Python's own comes before the first change. What is
executed is known from the cursor, with places for values instead of values.
"""

from __future__ import annotations

import os
import weakref
from time import monotonic_ns

import mcpconc_probe_wire as wire
from mcpconc_probe_connect import makers, with_cursors
from mcpconc_probe_statement import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__: list = []

_watched: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _forget() -> None:
    # A forked process must not use its parent's connections, so they say nothing about it.
    _watched.clear()


def _held() -> list:
    # `valuerefs` takes the table in one piece: other threads may be opening connections.
    known = [watched for ref in _watched.valuerefs() if (watched := ref()) is not None]
    return [name for watched in known if watched.holding() for name in watched.files()]


class Watched:
    """What is known of one connection. `locked`: it took, or was let go to take, the write lock
    in the transaction that it is in; `written`: what it has changed in it."""

    def __init__(self, connection, path: str) -> None:
        self.connection: Any = weakref.ref(connection)
        self.main = _file(path)
        self.attached: dict = {}
        self.locked = False
        self.written: dict = {}
        self.outermost = ""
        self.last = ""
        self.theirs: Any = None

    def files(self) -> list:
        return [name for name in (self.main, *self.attached.values()) if name]

    def inside(self) -> bool:
        """Whether a transaction is open."""
        connection = self.connection()
        try:
            return connection is not None and connection.in_transaction
        except Exception:  # closed
            return False

    def holding(self) -> bool:
        if self.locked and not self.inside():
            self.locked = False
            self.written.clear()
        return self.locked

    def objects(self, tables) -> list:
        named = ((self.attached.get(schema, self.main), table) for schema, table in tables)
        return [f"{file}:{table.lower()}" for file, table in named if file]

    def traced(self, text: str) -> None:
        """SQLite is about to execute `text`."""
        if self.theirs is not None:
            self.theirs(text)
        if not wire.state.controlled or wire.here.busy or not self.main:
            return
        try:
            self._traced(text)
        except BaseException as error:  # SQLite would drop it without a word
            if wire.here.current is not None and wire.from_a_handler(error):
                wire.here.current.raised = error

    def _traced(self, text: str) -> None:
        self.holding()  # at a BEGIN the transaction before it is seen to be over
        current = wire.here.current
        if text.startswith("--"):  # a trigger's
            return
        if current is None or current.watched is not self or current.script:
            if text != self.last:
                self.last = text
                self._before(parse(text, bare=current is None))
            return
        self.last = ""
        own = text.lstrip()[:6].upper()
        if own in ("BEGIN", "BEGIN ", "COMMIT") and current.statement.kind not in (
            "begin",
            "commit",
        ):
            implicit = parse(text)
            if implicit.immediate:
                current.due = False
                self._acquire(implicit, current.statement)
            elif implicit.kind == "commit":
                self._before(implicit)
        elif current.due:
            current.due = False
            self._before(current.statement)

    def _before(self, statement) -> None:
        kind = statement.kind
        locked = self.holding()
        if kind == "read":
            self._at(statement, "" if locked else "read")
        elif kind in ("write", "ddl"):
            within = self.inside()
            self._at(statement, "" if locked else kind)
            if within:
                self.locked = True
                self.written.update(dict.fromkeys(self.objects(statement.writes)))
        elif kind == "begin" and statement.immediate:
            self._acquire(statement, None)
        elif kind == "commit" or (kind == "release" and statement.name == self.outermost):
            if locked:
                self._commit(statement)
        elif kind == "savepoint" and not self.inside():
            self.outermost = statement.name

    def _acquire(self, begin, first) -> None:
        """BEGIN that takes the write lock, for the sake of `first` where that is known."""
        self.holding()
        label, reads, writes = begin.label, [], [f"{self.main}:*"]
        if first is not None:
            label = f"{label}: {first.label}"[:200]
            reads, writes = self.objects(first.reads), self.objects(first.writes)
            self.written.update(dict.fromkeys(writes))
        wire.at("sql", label, self.main, "write", reads, writes)
        self.locked = True

    def _commit(self, statement) -> None:
        wire.at("sql", statement.label, self.main, "commit", (), list(self.written))

    def _at(self, statement, needs: str) -> None:
        reads, writes = self.objects(statement.reads), self.objects(statement.writes)
        if reads or writes:
            wire.at("sql", statement.label, self.main, needs, reads, writes)


class Current:
    """What a cursor executes. `due`: its point is still to come; `raised`: by the handler of a
    signal that came while we waited."""

    __slots__ = ("due", "raised", "script", "statement", "watched")

    def __init__(self, watched, statement, script: bool = False) -> None:
        self.watched = watched
        self.statement = statement
        self.script = script
        self.due = True
        self.raised: BaseException | None = None


def _file(path) -> str:
    """The file name of a database, "" for one in memory."""
    text = os.fsdecode(path)
    if text.startswith("file:"):
        if "mode=memory" in text:
            return ""
        text = text[5:].partition("?")[0]
    return "" if ":memory:" in text else os.path.basename(text)


def _connection(base: Any, module: Any) -> Any:
    ours: Any = with_cursors(base, module, True)

    class Connection(ours):
        _mcpconc = None

        def __init__(self, database, *args, **kwargs):
            self._mcpconc = watched = Watched(self, database)
            _watched[id(watched)] = watched
            super().__init__(database, *args, **kwargs)
            super().set_trace_callback(watched.traced)

        def commit(self):
            began = monotonic_ns()
            try:
                super().commit()
            except Exception as error:
                if "locked" in str(error) and self._mcpconc is not None:
                    wire.expired(self._mcpconc.main, "COMMIT", began)
                raise

        def set_trace_callback(self, callback):
            if self._mcpconc is None:
                super().set_trace_callback(callback)
            else:
                self._mcpconc.theirs = callback

    return Connection


def _cursor(base: Any, module: Any) -> Any:
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
    return _run(watched, sql, method, args, many, script)


def _run(watched, sql, method, args, many, script):
    """Call `method`, a cursor's, which will execute `sql`."""
    statement = parse(sql) if not script else None
    before = wire.here.current
    wire.here.current = current = Current(watched, statement, script)
    if many and args:
        args = (_each(args[0], current), *args[1:])
    locked, began = watched.locked, monotonic_ns()
    try:
        done = method(sql, *args)
    except Exception as error:
        if "locked" in str(error):
            watched.locked = watched.locked and locked
            wire.expired(watched.main, statement.label if statement is not None else "", began)
        raise
    finally:
        wire.here.current = before
    if current.raised is not None:
        raise current.raised
    if statement is not None and statement.kind == "attach":
        _attach(watched, statement, args)
    return done


def _each(rows, current):
    """Each row is a statement of its own."""
    for row in rows:
        current.due = True
        yield row


def _attach(watched, statement, args) -> None:
    path = statement.path
    values = args[0] if args else ()
    if path is None and isinstance(values, (tuple, list)) and values:
        path = values[0]
    if isinstance(path, (str, bytes, os.PathLike)) and _file(path):
        watched.attached[statement.name] = _file(path)


wire.holders.append(_held)
wire.at_fork.append(_forget)
makers[True] = _connection, _cursor
