"""`sqlite3.connect` gives connections, and these give cursors, of classes of ours."""

from __future__ import annotations

import sys

import mcpconc_probe_wire as wire
from mcpconc_probe_hook import instead_of, when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "makers", "ours", "with_cursors"]

FACTORY = 5
"""Place of `factory` among the arguments of `sqlite3.connect`."""

makers: dict = {}
"""Whether they stop or count → how the class of a connection is made from the one that
was asked for and the module, and that of a cursor."""
_classes: dict = {}


def install() -> None:
    when_imported("sqlite3.dbapi2", _change)


def _change(module) -> None:
    plain = module.connect

    def connect(*args, **kwargs):
        stops = wire.state.controlled
        if not stops and not wire.counting():
            return plain(*args, **kwargs)
        wanted = args[FACTORY] if len(args) > FACTORY else kwargs.get("factory", module.Connection)
        if isinstance(wanted, type) and issubclass(wanted, module.Connection):
            made = ours(wanted, module, stops)
            if len(args) > FACTORY:
                args = (*args[:FACTORY], made, *args[FACTORY + 1 :])
            else:
                kwargs["factory"] = made
        return plain(*args, **kwargs)

    connect = instead_of(plain, connect, "sqlite3")
    module.connect = connect
    whole: Any = sys.modules.get("sqlite3")
    if getattr(whole, "connect", None) is plain:
        whole.connect = connect


def ours(base: Any, module: Any, stops: bool) -> Any:
    """The class of ours that is one of `base` as well: a connection's, or a cursor's."""
    key = base, stops
    found = _classes.get(key)
    if found is None:
        make = makers[stops][issubclass(base, module.Cursor)]
        made = make(base, module)
        made.__name__, made.__qualname__ = base.__name__, base.__qualname__
        made.__module__, made.__doc__ = base.__module__, base.__doc__
        found = _classes[key] = made
    return found


def with_cursors(base: Any, module: Any, stops: bool) -> Any:
    plain, default = base.cursor, ours(module.Cursor, module, stops)

    class Connection(base):
        def cursor(self, factory=default):
            theirs = factory is not default and isinstance(factory, type)
            if theirs and issubclass(factory, module.Cursor):
                factory = ours(factory, module, stops)
            return plain(self, factory)

        # The short forms make a cursor of their own, without asking `cursor`.
        def execute(self, *args):
            return plain(self, default).execute(*args)

        def executemany(self, *args):
            return plain(self, default).executemany(*args)

        def executescript(self, *args):
            return plain(self, default).executescript(*args)

    return Connection
