"""A console script, imported and not yet run."""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import sys
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import SourceFileLoader
from typing import Any

from .plumbing import Plumbing, open_descriptors

Environment = dict[bytes, bytes]

INTERPRETER = (b"PYTHON", b"LC_", b"LANG", b"LD_", b"MALLOC_", b"TZ")
"""Beginnings of variables that an interpreter, or the libraries below it, read when they start."""
PROBE = b"MCPCONC_PROBE"
ROOM = "MCPCONC_ROOM"
"""A long variable, so that there is room in memory for other environments: see `fork`."""


class Warm:
    """What was there before the first fork."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.script: str = config["script"]
        self.started = environment_of("self")
        """The environment before the interpreter and the imports changed it."""
        os.environ.pop(ROOM, None)
        self.read: set[bytes] = set()
        """Variables that imports looked at."""
        self.touched: list[str] = []
        """Files below the root that imports used."""
        with open(self.script, "rb") as file:
            self.code = compile(file.read(), self.script, "exec")
        known = open_descriptors()
        self.main = types.ModuleType("__main__")
        self.main.__dict__.update(
            __annotations__={},
            __file__=self.script,
            __builtins__=builtins,
            __loader__=SourceFileLoader("__main__", self.script),
            __cached__=None,
        )
        sys.modules["__main__"] = self.main
        sys.argv = [self.script]
        sys.path[:1] = [os.path.dirname(os.path.realpath(self.script))]
        with reads_of_environment(self.read), heard() as self.said:
            if config["root"]:
                sys.addaudithook(functools.partial(audit, config["root"], self.touched))
            # Everything that the script imports, without what it does when it is run.
            exec(self.code, {"__name__": "imported", "__file__": self.script})
            for name in config["modules"]:
                with contextlib.suppress(ImportError):  # another release need not have it
                    import_module(name)
            for name in config["once"]:
                do_once(name)
        if config["probe"]:
            load_probe(config["probe"])
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("it starts threads when it is imported, and a fork would lack them")
        self.plumbing = Plumbing.of(open_descriptors() - known)
        self.changes = {
            name: os.environb.get(name)
            for name in {*self.started, *os.environb}
            if os.environb.get(name) != self.started.get(name)
        }
        """What the interpreter and the imports made of the environment, for children to
        inherit."""

    def differing(self, env: Environment) -> str:
        """The variables for which imports might have been others in this environment."""
        names = self.read | {n for n in {*env, *self.started} if n.startswith(INTERPRETER)}
        if PROBE in env:  # it comes with a directory of its own, which holds nothing else
            names.discard(b"PYTHONPATH")
        return " ".join(
            os.fsdecode(name)
            for name in sorted(names)
            if env.get(name) != self.started.get(name)
            and not (name in self.changes and env.get(name) == self.changes[name])
        )


def load_probe(directory: str) -> None:
    """Import the probe for those forks that have to start it."""
    sys.path.insert(1, directory)
    try:
        import_module("mcpconc_probe").load()
    finally:
        sys.path.remove(directory)


def do_once(name: str) -> None:
    """Call ``module:function`` now, for the first who calls it in a fork."""
    where, _, what = name.partition(":")
    try:
        module = import_module(where)
        original: Callable[..., Any] = getattr(module, what)
    except (ImportError, AttributeError):
        return  # another release need not have it
    result = original()

    @functools.wraps(original)
    def first(*args: Any, **named: Any) -> Any:
        setattr(module, what, original)
        return original(*args, **named) if args or named else result

    setattr(module, what, first)


@contextlib.contextmanager
def heard() -> Iterator[list[bytes]]:
    """What is written to stdout and stderr; each call has to say it again."""
    said: list[bytes] = []
    kept = [os.dup(number) for number in (1, 2)]
    files = [os.memfd_create("said") for _ in kept]
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    try:
        yield said
    finally:
        for number, (old, file) in enumerate(zip(kept, files), 1):  # noqa: B905
            (sys.stdout, sys.stderr)[number - 1].flush()
            os.dup2(old, number)
            said.append(os.pread(file, os.fstat(file).st_size, 0))
            os.close(old)
            os.close(file)
        os.write(2, b"".join(said))  # which is our log


@contextlib.contextmanager
def reads_of_environment(names: set[bytes]) -> Iterator[None]:
    """Note which variables are looked at; also in `os.environb`, which shares its data. A copy of
    the whole is made for a child, and says nothing about any of them."""
    kind = type(os.environ)

    class Noted(kind):  # type: ignore[misc, valid-type]
        def __getitem__(self, key: Any) -> Any:
            names.add(os.fsencode(key))
            return super().__getitem__(key)

        def copy(self) -> Any:
            plain = kind.__new__(kind)
            vars(plain).update(vars(self))
            return kind.copy(plain)

    for environ in (os.environ, os.environb):
        environ.__class__ = Noted
    try:
        yield
    finally:
        for environ in (os.environ, os.environb):
            environ.__class__ = kind


def audit(root: str, touched: list[str], event: str, args: tuple[Any, ...]) -> None:
    """Note files below `root` that are used; see the table of audit events."""
    if event.partition(".")[0] in ("open", "os", "sqlite3", "shutil", "subprocess", "tempfile"):
        for value in args:
            path = os.fsdecode(value) if isinstance(value, (str, bytes)) else ""
            if path.startswith(root):
                touched.append(f"{event} {path}")


def environment_of(pid: str) -> Environment:
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = file.read().split(b"\0")[:-1]
    return dict(entry.partition(b"=")[::2] for entry in entries)
