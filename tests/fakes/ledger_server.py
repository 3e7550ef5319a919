"""A small MCP server with state, standard library only: ``ledger_server.py DATABASE AGENT MODE``.

One process per agent, all on one SQLite database. ``add`` appends an entry at the next position,
``bump`` adds one to the counter, ``read`` shows both, ``forbid`` and ``audit`` always refuse.
Modes:

* ``correct``: every write is one transaction;
* ``racy``: what is read is written back a little later, over what came in between;
* ``slow``: as ``racy``, with more than a second in between;
* ``drops``: every append is acknowledged and none is stored, whoever else is at work or not.

Where a file ``closed`` stands beside the world, no server starts any more.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

from server import respond, serve, text

DATABASE, AGENT, MODE = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
WINDOW = {"racy": 0.06, "slow": 1.5}.get(MODE, 0.0)
"""Seconds between reading and writing where nothing protects what was read."""

TOOLS = ("add", "bump", "read", "forbid", "audit")
SCHEMA = """
CREATE TABLE entries (position INTEGER PRIMARY KEY, text TEXT NOT NULL, agent INTEGER NOT NULL);
CREATE TABLE counter (value INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
"""


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(DATABASE, timeout=20, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def prepare() -> None:
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    connection = connect()
    connection.executescript(SCHEMA)
    connection.close()


def call(request: dict[str, Any]) -> None:
    tool, args = request["params"]["name"], request["params"].get("arguments") or {}
    connection = connect()
    try:
        answer = act(connection, tool, args)
    finally:
        connection.close()
    respond(request, text(answer))


def act(connection: sqlite3.Connection, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    if tool == "read":
        return {"ok": True, "entries": entries(connection), "value": value(connection)}
    if tool in ("forbid", "audit") or not (tool == "bump" or args.get("text")):
        return {"ok": False, "error": f"{tool} refused"}
    if not WINDOW:
        connection.execute("BEGIN IMMEDIATE")
    now = value(connection) if tool == "bump" else len(entries(connection))
    time.sleep(WINDOW)
    if tool == "bump":
        connection.execute("UPDATE counter SET value = ?", (now + 1,))
        answer = {"ok": True, "value": now + 1}
    else:
        if MODE != "drops":
            entry = (now, args["text"], AGENT)
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", entry)
        answer = {"ok": True, "position": now}
    if connection.in_transaction:
        connection.execute("COMMIT")
    return answer


def entries(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT text FROM entries ORDER BY position")]


def value(connection: sqlite3.Connection) -> int:
    (row,) = connection.execute("SELECT value FROM counter")
    return int(row[0])


if __name__ == "__main__":
    if MODE == "prepare":
        prepare()
    elif DATABASE.parents[1].with_name("closed").exists():
        sys.exit("the ledger is closed for good")
    else:
        serve(TOOLS, lambda request: threading.Thread(target=call, args=(request,)).start())
