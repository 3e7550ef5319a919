"""Findings and unknowns of a project: one row, and one note, for each text."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from mcpconc.reference import transactions
from mcpconc.reference.epistemics import seen_until
from mcpconc.reference.ids import find_session, named_session
from mcpconc.reference.store import PROJECT, Refused, Store, new_id, now
from mcpconc.reference.switch import planted

__all__ = ["TOOLS"]

LIMIT = 30
"""How many unknowns a list shows unless it is asked for more or less."""


def finding_log(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """The id of the new finding, or of the one that says the same already."""
    return _log(store, args, "finding", {"impact": args.get("impact", 0.5)})


def unknown_log(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """The id of the new unknown, or of the one that asks the same already, resolved or not."""
    return _log(store, args, "unknown", {})


def unknown_resolve(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Resolve an unknown, also one that is resolved; the last one's words stay."""
    id, by = str(args["unknown_id"]), args.get("resolved_by")
    try:
        with _eager(store) if planted("resolve-gives-up") else store.write() as connection:
            changed = connection.execute(
                "UPDATE project_unknowns SET is_resolved = 1, resolved_by = ?,"
                " resolved_timestamp = ? WHERE id = ?",
                (by, now(), id),
            ).rowcount
            if not changed:
                raise Refused(f"No unknown matched '{id}' — nothing was resolved", unknown_id=id)
            _note(store, connection, "unknown", id)
    except sqlite3.OperationalError:
        if not planted("resolve-gives-up"):
            raise
    return {"unknown_id": id, "resolved_by": by, "message": "Unknown resolved successfully"}


def unknown_list(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """The project's unknowns, newest first: the open ones, the resolved ones, or all."""
    status = "all" if args.get("all") else "resolved" if args.get("resolved") else "open"
    subject, limit = args.get("subject"), args.get("limit")
    until = seen_until(store, "unknown")
    with store.read() as connection:
        rows = connection.execute(
            "SELECT * FROM project_unknowns WHERE project_id = :project"
            " AND created_timestamp < :until AND (:subject IS NULL OR subject = :subject)"
            " AND (:status = 'all' OR is_resolved = (:status = 'resolved'))"
            " ORDER BY rowid DESC LIMIT :limit",
            {
                "project": PROJECT,
                "until": until,
                "subject": subject,
                "status": status,
                "limit": int(LIMIT if limit is None else limit),
            },
        ).fetchall()
    return {
        "unknowns_count": len(rows),
        "unknowns": [
            {
                "id": row["id"],
                "unknown": row["unknown"],
                "is_resolved": bool(row["is_resolved"]),
                "resolved_by": row["resolved_by"],
                "subject": row["subject"],
                "created_at": row["created_timestamp"],
                "resolved_at": row["resolved_timestamp"],
                "project_id": row["project_id"],
            }
            for row in rows
        ],
        "filters": {"project_id": PROJECT, "status": status, "subject": subject},
    }


def _log(store: Store, args: dict[str, Any], kind: str, more: dict[str, Any]) -> dict[str, Any]:
    text, subject, named = str(args[kind]), args.get("subject"), named_session(args)
    early = kind == "finding" and planted("finding-checked-before-lock")
    id = None
    if early:
        with store.read() as connection:
            id = _same(connection, kind, text)
    with store.write() as connection:
        session = str(find_session(connection, named)["session_id"])
        if not early:
            id = _same(connection, kind, text)
        new = id is None
        if id is None:
            id = new_id()
            row = {
                "id": id,
                "project_id": PROJECT,
                "session_id": session,
                "transaction_id": transactions.current(store),
                kind: text,
                "subject": subject,
                "created_timestamp": now(),
                f"{kind}_data": json.dumps({"description": args.get("description")}),
                **more,
            }
            places = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO project_{kind}s ({', '.join(row)}) VALUES ({places})",
                tuple(row.values()),
            )
            if not (kind == "finding" and planted("finding-without-note")):
                _note(store, connection, kind, id)
            if kind == "unknown" and planted("ref-lock-left"):
                # Not the lock of the ref itself, on which git would wait in vain later.
                lock = f"ws/.git/refs/notes/empirica/unknowns/{id}.note.lock"
                (store.root / lock).touch()
    if new and kind == "finding" and planted("finding-without-note"):
        _note_if_free(store, id)
    return {
        f"{kind}_id": id,
        "project_id": PROJECT,
        "session_id": named,
        kind: text,
        "subject": subject,
        "git_stored": True,
        "message": f"{kind.capitalize()} logged to project scope",
    }


def _same(connection: sqlite3.Connection, kind: str, text: str) -> str | None:
    """The id of the row with this text; case and white space do not count."""
    for row in connection.execute(
        f"SELECT id, {kind} AS text FROM project_{kind}s WHERE project_id = ?", (PROJECT,)
    ):
        if _plain(row["text"]) == _plain(text):
            return str(row["id"])
    return None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _note(store: Store, connection: sqlite3.Connection, kind: str, id: str) -> None:
    """Make the row's note say what the row says."""
    row = connection.execute(f"SELECT * FROM project_{kind}s WHERE id = ?", (id,)).fetchone()
    names = ("id", "project_id", "session_id", kind, "subject", "created_timestamp")
    content = {name: row[name] for name in names}
    if kind == "unknown":
        content |= {"resolved": bool(row["is_resolved"]), "resolved_by": row["resolved_by"]}
    store.note(f"{kind}s/{id}", json.dumps(content))


def _note_if_free(store: Store, id: str) -> None:
    """The note of a finding, unless the notes are being written to."""
    with (store.root / "ws/.git/notes-busy").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        with store.read() as connection:
            _note(store, connection, "finding", id)


@contextmanager
def _eager(store: Store) -> Iterator[sqlite3.Connection]:
    """A transaction that does not wait for its turn."""
    with closing(store.connect(busy=0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "finding_log": finding_log,
    "unknown_log": unknown_log,
    "unknown_resolve": unknown_resolve,
    "unknown_list": unknown_list,
}
