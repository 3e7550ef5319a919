"""A console script for warm starts: tells what it finds, and ends as it is told to."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import warm_tool_settings as settings

os.environ["PYTHONWARNINGS"] = "ignore::ResourceWarning"
MODE = os.environ.get("TOOL_MODE", "")
IMPORTED = os.getpid()
LOOP = asyncio.new_event_loop() if MODE == "loop" else None


def seen() -> dict[str, object]:
    with open("/proc/self/environ", "rb") as file:
        shown = sorted(file.read().rstrip(b"\0").decode().split("\0"))
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().rstrip(b"\0").decode().split("\0")
    given = subprocess.run(["env", "-0"], capture_output=True, check=True).stdout
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "executable": sys.executable,
        "path": sys.path,
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "environ in /proc": [e for e in shown if not e.startswith(("MCPCONC_ROOM", "LC_CTYPE"))],
        "environ of children": sorted(given.rstrip(b"\0").decode().split("\0")),
        "command line": words,
        "comm": open("/proc/self/comm").read(),
        "parent": os.getppid(),
        "main": [
            sys.modules["__main__"].__name__,
            sys.modules["__main__"].__file__,
            repr(sys.modules["__main__"].__spec__),
            sorted(vars(sys.modules["__main__"])),
        ],
        "streams": [
            [s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno()]
            for s in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "same streams": [sys.stdout is sys.__stdout__, sys.stdout is settings.TAKEN],
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
        "open": len(os.listdir("/proc/self/fd")),
        "stdin": sys.stdin.read(),
        "built": settings.built(),
    }


class Last:
    def __del__(self) -> None:
        os.write(1, b"finalised\n")


def leave(database: str) -> None:
    """End with work undone: a thread, a file that is not flushed, a database, in somebody's
    hands who was there before."""
    settings.LEFT.append(Last())
    settings.LEFT.append(open(database + ".txt", "w"))  # noqa: SIM115
    settings.LEFT[-1].write("not flushed")
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    settings.LEFT.append(connection)

    def late() -> None:
        time.sleep(0.1)
        print("a thread ends")

    threading.Thread(target=late).start()


def main() -> int:
    atexit.register(lambda: print("the end", flush=True))
    what, *rest = sys.argv[1:] or ["seen"]
    if what == "seen":
        print(json.dumps(seen()))
    elif what == "exit":
        sys.exit(int(rest[0]))
    elif what == "words":
        sys.exit("some last words")
    elif what == "kill":
        os.kill(os.getpid(), int(rest[0]))
    elif what == "crash":
        raise ValueError("on purpose")
    elif what == "sleep":
        print(os.getpid(), flush=True)
        time.sleep(60)
    elif what == "chance":
        print(random.random(), hash("a"), os.getpid() == IMPORTED)
    elif what == "built":
        print(settings.built(), settings.built(), settings.built.__name__)
    elif what == "leave":
        leave(rest[0])
    elif what == "loop":
        assert LOOP is not None
        LOOP.call_soon_threadsafe(print, "woken")
        print(LOOP.run_until_complete(asyncio.sleep(0.2, "done")))
        LOOP.close()
    return 0
