"""Findings and unknowns of a project: one row, and one note, for each text."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from mcpconc.reference import transactions
from mcpconc.reference.epistemics import seen_until
from mcpconc.reference.ids import find_session, named_session
from mcpconc.reference.notes import write_note, write_note_if_free
from mcpconc.reference.store import PROJECT, Refused, Store, new_id, now
from mcpconc.reference.switch import pause, planted

__all__ = ["TOOLS"]

WINDOW = 0.01
"""Seconds between looking for a text and taking the write lock, with a planted bug."""

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
    with _swallowing(), _writing(store) as connection:
        changed = connection.execute(
            "UPDATE project_unknowns SET is_resolved = 1, resolved_by = ?,"
            " resolved_timestamp = ? WHERE id = ?",
            (by, now(), id),
        ).rowcount
        if not changed:
            raise Refused(f"No unknown matched '{id}' — nothing was resolved", unknown_id=id)
        write_note(store, f"unknowns/{id}", _told(connection, "unknown", id))
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
    text, named = str(args[kind]), named_session(args)
    new = {"id": new_id(), kind: text, "subject": args.get("subject"), **more}
    new[f"{kind}_data"] = json.dumps({"description": args.get("description")})
    early = planted("text-checked-before-lock")
    id = None
    if early:
        with store.read() as connection:
            id = _same(connection, kind, text)
        pause(WINDOW)
    with _swallowing(), _writing(store) as connection:
        new["session_id"] = find_session(connection, named)["session_id"]
        if not early:
            id = _same(connection, kind, text)
        if id is None:
            _insert(store, connection, kind, new)
    if id is None and planted("note-skipped"):
        write_note_if_free(
            store, f"{kind}s/{new['id']}", partial(_told_now, store, kind, new["id"])
        )
    return {
        f"{kind}_id": id or new["id"],
        "project_id": PROJECT,
        "session_id": named,
        kind: text,
        "subject": args.get("subject"),
        "git_stored": True,
        "message": f"{kind.capitalize()} logged to project scope",
    }


def _insert(store: Store, connection: sqlite3.Connection, kind: str, new: dict[str, Any]) -> None:
    row = {
        **new,
        "project_id": PROJECT,
        "transaction_id": transactions.current(store),
        "created_timestamp": now(),
    }
    places = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO project_{kind}s ({', '.join(row)}) VALUES ({places})", tuple(row.values())
    )
    if not planted("note-skipped"):
        write_note(store, f"{kind}s/{row['id']}", _told(connection, kind, row["id"]))
    if kind == "unknown" and planted("ref-lock-left"):
        # Not the lock of the ref itself, on which git would wait in vain later.
        lock = f"ws/.git/refs/notes/empirica/unknowns/{row['id']}.note.lock"
        (store.root / lock).touch()


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


def _told(connection: sqlite3.Connection, kind: str, id: str) -> str:
    """What the note of a row says."""
    row = connection.execute(f"SELECT * FROM project_{kind}s WHERE id = ?", (id,)).fetchone()
    names = ("id", "project_id", "session_id", kind, "subject", "created_timestamp")
    content = {name: row[name] for name in names}
    if kind == "unknown":
        content |= {"resolved": bool(row["is_resolved"]), "resolved_by": row["resolved_by"]}
    return json.dumps(content)


def _told_now(store: Store, kind: str, id: str) -> str:
    with store.read() as connection:
        return _told(connection, kind, id)


@contextmanager
def _writing(store: Store) -> Iterator[sqlite3.Connection]:
    """A transaction; with a planted bug one that does not wait for its turn."""
    impatient = planted("lock-swallowed")
    with (replace(store, busy=0) if impatient else store).write() as connection:
        yield connection


@contextmanager
def _swallowing() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError:
        if not planted("lock-swallowed"):
            raise


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "finding_log": finding_log,
    "unknown_log": unknown_log,
    "unknown_resolve": unknown_resolve,
    "unknown_list": unknown_list,
}
