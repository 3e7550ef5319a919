"""The state: two SQLite databases in WAL mode and a git repository, below one root.

Every call opens its own connection and closes it, as separate processes do. Reads see one
snapshot, writes are one transaction that takes the write lock before it reads anything.
"""

from __future__ import annotations

import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpconc.reference.switch import pause, planted

__all__ = ["PROJECT", "VECTORS", "Refused", "Store", "new_id", "now", "prepare"]

SESSIONS = "ws/.empirica/sessions/sessions.db"
WORKSPACE = "home/.empirica/workspace/workspace.db"
HURRY = 0.1
"""Seconds that writers wait for a lock that is never let go."""

SLOW = 0.1
"""Seconds that a lock is kept for nothing where a slow lock is planted."""

PROJECT = "00000000-0000-4000-8000-000000000001"
"""The one project of a world."""

VECTORS = (
    *("engagement", "know", "do", "context", "clarity", "coherence", "signal", "density"),
    *("state", "change", "completion", "impact", "uncertainty"),
)

_SCHEMA = f"""
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY, ai_id TEXT NOT NULL, subject TEXT, instance_id TEXT,
    project_id TEXT NOT NULL, start_time REAL NOT NULL, end_time REAL);
CREATE TABLE reflexes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES sessions,
    phase TEXT NOT NULL, round INTEGER NOT NULL, timestamp REAL NOT NULL, transaction_id TEXT,
    reasoning TEXT, reflex_data TEXT, {", ".join(f"{name} REAL" for name in VECTORS)});
CREATE TABLE goals (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, session_id TEXT NOT NULL REFERENCES sessions,
    transaction_id TEXT, objective TEXT NOT NULL, description TEXT, status TEXT NOT NULL,
    is_completed INTEGER NOT NULL DEFAULT 0, completion_reason TEXT,
    created_timestamp REAL NOT NULL, completed_timestamp REAL, goal_data TEXT NOT NULL);
CREATE TABLE success_criteria (
    id TEXT PRIMARY KEY, goal_id TEXT NOT NULL REFERENCES goals, description TEXT);
CREATE TABLE artifact_edges (
    id TEXT PRIMARY KEY, goal_id TEXT NOT NULL REFERENCES goals, session_id TEXT NOT NULL);
CREATE TABLE subtasks (
    id TEXT PRIMARY KEY, goal_id TEXT NOT NULL REFERENCES goals, description TEXT NOT NULL,
    status TEXT NOT NULL, completion_evidence TEXT, created_timestamp REAL NOT NULL,
    completed_timestamp REAL, subtask_data TEXT NOT NULL);
CREATE TABLE goal_dependencies (
    id TEXT PRIMARY KEY, goal_id TEXT NOT NULL REFERENCES goals,
    depends_on_goal_id TEXT NOT NULL REFERENCES goals, description TEXT);
CREATE TABLE project_findings (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, session_id TEXT NOT NULL REFERENCES sessions,
    transaction_id TEXT, finding TEXT NOT NULL, subject TEXT, impact REAL,
    created_timestamp REAL NOT NULL, finding_data TEXT);
CREATE TABLE project_unknowns (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, session_id TEXT NOT NULL REFERENCES sessions,
    transaction_id TEXT, unknown TEXT NOT NULL, subject TEXT,
    is_resolved INTEGER NOT NULL DEFAULT 0, resolved_by TEXT, resolved_timestamp REAL,
    created_timestamp REAL NOT NULL, unknown_data TEXT);
"""
_WORKSPACE_SCHEMA = """
CREATE TABLE global_sessions (
    session_id TEXT PRIMARY KEY, ai_id TEXT NOT NULL, instance_id TEXT,
    current_project_id TEXT NOT NULL, status TEXT NOT NULL);
"""


class Refused(Exception):
    """The call is refused; the words become ``error``, `more` further fields of the answer."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.more = more


@dataclass(frozen=True, slots=True)
class Store:
    """The state below `root`, as the server of the instance called `instance` uses it.

    `busy` is how many seconds a statement waits for another one's lock.
    """

    root: Path
    instance: str
    busy: float = 3.0

    def connect(self, busy: float | None = None) -> sqlite3.Connection:
        """A connection in autocommit mode."""
        if busy is None:
            # Where every writer is refused in the end, a self-test need not wait for it.
            busy = HURRY if planted("refusal-keeps-lock") else self.busy
        connection = sqlite3.connect(
            self.root / SESSIONS,
            timeout=busy,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        # Worlds are thrown away: what a power failure would leave is not what is tested.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextmanager
    def write(self, workspace: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction under the write lock; committed at the end, rolled back on an
        exception. With `workspace` the other database is attached under that name."""
        with closing(self.connect()) as connection:
            if workspace:
                connection.execute("ATTACH ? AS workspace", (str(self.root / WORKSPACE),))
                connection.execute("PRAGMA workspace.synchronous = OFF")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            if planted("slow-lock"):
                pause(SLOW)
            connection.execute("COMMIT")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot: all reads in it see the same moment."""
        with closing(self.connect()) as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    def note(self, ref: str, text: str) -> None:
        """Set the note of the current commit under ``refs/notes/empirica/REF``."""
        # Not as an argument: no command takes one of more than 128 KiB.
        _git(
            self.root,
            *("notes", "--ref", f"empirica/{ref}", "add", "-f", "-F", "-", "HEAD"),
            input=text,
        )


def prepare(root: Path) -> None:
    """Make an empty state: databases, a repository with one commit, a HOME."""
    for path, schema in ((SESSIONS, _SCHEMA), (WORKSPACE, _WORKSPACE_SCHEMA)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(root / path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(schema)
    _git(root, "-c", "init.defaultBranch=main", "init", "-q")
    _git(root, "config", "user.name", "mcpconc")
    _git(root, "config", "user.email", "mcpconc@localhost")
    _git(root, "config", "gc.auto", "0")
    _git(root, "commit", "-q", "--allow-empty", "-m", "start")


def new_id() -> str:
    return str(uuid.uuid4())


def now() -> float:
    """Seconds since 1970. Taken inside a write transaction, so that it follows the order of
    commits."""
    return time.time()


def _git(root: Path, *args: str, input: str = "") -> None:
    done = subprocess.run(
        ["git", *args], cwd=root / "ws", input=input, capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(f"git {args[0]} failed: {done.stderr.strip()}")
