"""A state of the reference server, and its tools called directly: no process, no protocol."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from mcpconc.reference import store
from mcpconc.reference.server import TOOLS
from mcpconc.reference.store import Store

__all__ = ["State"]


class State:
    """A state with one session, and agents that call tools on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        store.prepare(root)
        self.session = self.call("session_create", ai_id="ai")["session_id"]

    def call(self, tool: str, agent: int = 0, **args: Any) -> Any:
        return TOOLS[tool](Store(self.root, f"agent-{agent}"), args)

    def select(self, query: str) -> list[sqlite3.Row]:
        with closing(Store(self.root, "test").connect()) as connection:
            return connection.execute(query).fetchall()

    def read_note(self, ref: str) -> Any:
        """The note under ``refs/notes/empirica/REF``."""
        done = subprocess.run(
            ["git", "notes", "--ref", f"empirica/{ref}", "show", "HEAD"],
            cwd=self.root / "ws",
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)
