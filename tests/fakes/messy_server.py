"""An MCP server that leaves things behind on request, standard library only:
``messy_server.py ROOT``. What it can leave is the name of the tool; ``look`` leaves nothing.
"""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from server import respond, serve, text

ROOT = Path(sys.argv[1])
HELD: list[Any] = []
"""What is never closed."""


def spawn(args: dict[str, Any]) -> None:
    quiet = subprocess.DEVNULL
    HELD.append(subprocess.Popen(["sleep", str(args["seconds"])], stdin=quiet, stdout=quiet))


def lock_database(args: dict[str, Any]) -> None:
    connection = sqlite3.connect(
        ROOT / "main.db", isolation_level=None, check_same_thread=False, timeout=0
    )
    connection.execute("BEGIN IMMEDIATE")
    HELD.append(connection)


def keep_open(args: dict[str, Any]) -> None:
    connection = sqlite3.connect(ROOT / "main.db", check_same_thread=False)
    connection.execute("SELECT * FROM t").fetchall()
    HELD.append(connection)


def lock_ref(args: dict[str, Any]) -> None:
    (ROOT / ".git" / "refs" / "7f.lock").touch()


def lock_file(args: dict[str, Any]) -> None:
    for name in args["names"]:
        file = (ROOT / name).open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        HELD.append(file)
        time.sleep(args.get("pause", 0.0))


def hoard(args: dict[str, Any]) -> None:
    HELD.append(b"x" * 2**20 * args["mib"])


def look(args: dict[str, Any]) -> None: ...


def freeze(args: dict[str, Any]) -> None:
    time.sleep(1000)


TOOLS = {t.__name__: t for t in (spawn, lock_database, keep_open, lock_ref, lock_file, hoard, look)}


def answer(request: dict[str, Any]) -> None:
    params = request["params"]
    try:
        TOOLS[params["name"]](params.get("arguments") or {})
    except sqlite3.Error as error:
        respond(request, text({"ok": False, "error": str(error)}))
    else:
        respond(request, text({"ok": True}))


def call(request: dict[str, Any]) -> None:
    if request["params"]["name"] == "freeze":
        freeze({})  # and nobody reads requests any more
    threading.Thread(target=answer, args=(request,), daemon=True).start()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        (ROOT / ".git" / "refs").mkdir(parents=True)
        (ROOT / ".git" / "old.lock").touch()
        database = sqlite3.connect(ROOT / "main.db")
        database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (v)")
    else:
        serve((*TOOLS, "freeze"), call)
