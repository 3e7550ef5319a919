"""A program from its first line to its end, in a fork.

An interpreter that ends takes all modules apart. In a fork that costs more than many a call,
because to free an object is to write to memory that is still shared. So what others can see of
an end is done here, in the interpreter's order: threads are waited for, exit handlers run, the
standard streams are flushed, and of the objects that the call made and somebody still holds,
files are flushed and closed, `__del__` is called, and databases are closed (SQLite then empties
and removes its write-ahead log).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

FLUSH_FAILED = 120
"""The exit code of an interpreter that cannot flush its standard streams."""


def run(code: CodeType, names: dict[str, Any]) -> NoReturn:
    """Run a script as `__main__` and end as an interpreter would."""
    status, interrupted = 0, False
    try:
        exec(code, names)
    except SystemExit as error:
        status = _status(error.code)
    except BaseException as error:
        # A traceback begins in the script, not here.
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    if sys.version_info < (3, 10) and not interrupted:
        sys.exit(status)  # the collector does not know of database connections there
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            step()
    if not _flushed(sys.stdout) or not _flushed(sys.stderr):
        status = FLUSH_FAILED
    with contextlib.suppress(Exception):
        _close_all(names)
        _flushed(sys.stdout)
        _flushed(sys.stderr)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


def _status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    with contextlib.suppress(Exception):
        print(code, file=sys.stderr)
    return 1


def _flushed(stream: Any) -> bool:
    if stream is None or getattr(stream, "closed", True):
        return True
    try:
        stream.flush()
    except Exception as error:
        with contextlib.suppress(Exception):
            text = f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}\n"
            os.write(2, text.encode())
        return False
    return True


def _close_all(names: dict[str, Any]) -> None:
    """What the end of the modules would close, of what was made since the fork."""
    for name in [name for name in names if not name.startswith("__")]:
        names[name] = None
    gc.collect()
    spared = {id(part) for stream in (sys.stdin, sys.stdout, sys.stderr) for part in _parts(stream)}
    made = [thing for thing in gc.get_objects() if id(thing) not in spared]  # none that is frozen
    for kind, close in _kinds():
        for thing in made:
            if issubclass(type(thing), kind):
                with contextlib.suppress(Exception):
                    close(thing)


def _parts(stream: Any) -> list[Any]:
    """A text stream and what is below it."""
    buffer = getattr(stream, "buffer", None)
    return [stream, buffer, getattr(buffer, "raw", None)]


def _kinds() -> list[tuple[Any, Callable[[Any], Any]]]:
    """What is closed and how; text before the bytes below it."""
    kinds: list[tuple[Any, Callable[[Any], Any]]] = [
        (layer, lambda file: file.close())
        for layer in (io.TextIOBase, io.BufferedIOBase, io.RawIOBase)
    ]
    kinds.append((object, _finalise))
    databases = sys.modules.get("_sqlite3")
    if databases is not None:
        kinds.append((databases.Connection, lambda connection: connection.close()))
    return kinds


def _finalise(thing: Any) -> None:
    kind = type(thing)
    if hasattr(kind, "__del__") and not issubclass(kind, io.IOBase):
        kind.__del__(thing)
