"""PREFLIGHT, CHECK, POSTFLIGHT and checkpoints: the rows of the CASCADE loop, each with a note."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mcpconc.reference import transactions
from mcpconc.reference.checkpoints import Checkpoint, indexing, latest_vectors
from mcpconc.reference.ids import find_session, named_session
from mcpconc.reference.notes import write_note
from mcpconc.reference.store import VECTORS, Refused, Store, new_id, now
from mcpconc.reference.switch import pause, planted

__all__ = ["TOOLS"]

PHASES = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")
WINDOW = 0.01
"""Seconds between counting a round and taking the write lock, with a planted bug."""

INVESTIGATE = 0.35
"""A CHECK more uncertain than this says so."""


def submit_preflight_assessment(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Begin a transaction of this instance."""
    vectors = _valid(args)
    if not {"know", "uncertainty"} <= vectors.keys():
        raise Refused("Invalid input: vectors must include know and uncertainty")
    transaction = new_id()
    answer = _assess(store, args, "PREFLIGHT", vectors, transaction)
    del answer["round"]
    return {**answer, "unclosed_transaction_warning": None}


def submit_check_assessment(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Whether to act or to investigate further, and which round of that question this is."""
    vectors = _valid(args)
    unsure = vectors.get("uncertainty", 0.0) > INVESTIGATE
    decision = args.get("decision") or ("investigate" if unsure else "proceed")
    answer = _assess(store, args, "CHECK", vectors)
    del answer["transaction_id"]
    return {**answer, "decision": decision, "cycle": None}


def submit_postflight_assessment(store: Store, args: dict[str, Any]) -> dict[str, Any]:
    """Close the instance's transaction."""
    answer = _assess(store, args, "POSTFLIGHT", _valid(args))
    del answer["round"]
    return {**answer, "internal_consistency": "not_assessed"}


def checkpoint_create(store: Store, args: dict[str, Any]) -> str:
    """A checkpoint has the vectors of the session's latest row. It is always round 1, and its
    note takes the place of the one that this phase and round had."""
    phase = args.get("phase")
    if phase not in PHASES:
        raise Refused(f"Invalid input: phase is one of {', '.join(PHASES)}")
    meta, named = _metadata(args.get("metadata")), named_session(args)
    with indexing(store) as index, store.write() as connection:
        session = str(find_session(connection, named)["session_id"])
        vectors = latest_vectors(connection, session, index.entries)
        entry = _entry(session, phase, 1, vectors, meta)
        row = _insert(connection, entry, transactions.current(store), None)
        _note(store, entry)
        index.update(connection, entry)
    return (
        "✅ Checkpoint created successfully\n"
        f"   ID: {row}\n   Phase: {phase}\n   Round: 1\n   Storage: git notes\n"
        f"   Metadata: {json.dumps(meta)}\n"
    )


def _assess(
    store: Store,
    args: dict[str, Any],
    phase: str,
    vectors: dict[str, float],
    transaction: str | None = None,
) -> dict[str, Any]:
    """Append an assessment; with `transaction`, begin that one."""
    reasoning, named = str(args.get("reasoning") or ""), named_session(args)
    early = None
    if planted("equal-rounds"):
        with store.read() as connection:
            session = str(find_session(connection, named)["session_id"])
            early = _due(connection, session, phase)
        pause(WINDOW)
    with indexing(store) as index, store.write() as connection:
        session = str(find_session(connection, named)["session_id"])
        round = _due(connection, session, phase)
        if early is not None:  # equal to the latest at worst: two calls suffice to show it
            round = max(early, round - 1)
        stamp = transaction or transactions.current(store)
        meta = {"reasoning": reasoning, "transaction_id": stamp}
        entry = _entry(session, phase, round, vectors, meta)
        _insert(connection, entry, stamp, reasoning)
        _note(store, entry)
        if transaction is not None:
            transactions.begin(store, transaction, session)
        elif phase == "POSTFLIGHT":
            transactions.close(store)
        index.update(connection, entry)
    return {
        "session_id": named,
        "round": round,
        "transaction_id": stamp,
        "reasoning": reasoning,
    }


def _due(connection: sqlite3.Connection, session: str, phase: str) -> int:
    """The round of the next assessment. Checkpoints do not count, automatic closes do."""
    (latest,) = connection.execute(
        "SELECT max(round) FROM reflexes WHERE session_id = ? AND phase = ?"
        " AND (reasoning IS NOT NULL OR json_extract(reflex_data, '$.auto_closed'))",
        (session, phase),
    ).fetchone()
    return int(latest or 0) + 1


def _entry(
    session: str, phase: str, round: int, vectors: Mapping[str, float], meta: Mapping[str, Any]
) -> Checkpoint:
    return {
        "session_id": session,
        "phase": phase,
        "round": round,
        "timestamp": now(),
        "vectors": dict(vectors),
        "meta": dict(meta),
    }


def _insert(
    connection: sqlite3.Connection,
    entry: Checkpoint,
    transaction: str | None,
    reasoning: str | None,
) -> int:
    """The id of the new row. Only assessments have a reasoning, be it empty."""
    row = {name: entry[name] for name in ("session_id", "phase", "round", "timestamp")}
    row |= {"transaction_id": transaction, "reasoning": reasoning, **entry["vectors"]}
    row["reflex_data"] = json.dumps(entry["meta"])
    places = ", ".join("?" * len(row))
    cursor = connection.execute(
        f"INSERT INTO reflexes ({', '.join(row)}) VALUES ({places})", tuple(row.values())
    )
    return int(cursor.lastrowid or 0)


def _note(store: Store, entry: Checkpoint) -> None:
    ref = f"session/{entry['session_id']}/{entry['phase']}/{entry['round']}"
    when = datetime.fromtimestamp(entry["timestamp"], UTC).isoformat()
    text = json.dumps({**entry, "timestamp": when})
    write_note(store, ref, text)


def _valid(args: dict[str, Any]) -> dict[str, float]:
    """:raises Refused: unless the vectors are known ones between 0 and 1."""
    given = args.get("vectors")
    if not isinstance(given, dict):
        raise Refused("Invalid input: vectors must be an object")
    found = {name: value for name, value in given.items() if value is not None}
    for name, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in VECTORS or not number or not 0 <= value <= 1:
            raise Refused(f"Invalid input: vector {name} must be between 0.0 and 1.0")
    return {str(name): float(value) for name, value in found.items()}


def _metadata(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if text is not None else {}
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise Refused("Invalid input: metadata is the text of a JSON object")
    return found


TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    "submit_preflight_assessment": submit_preflight_assessment,
    "submit_check_assessment": submit_check_assessment,
    "submit_postflight_assessment": submit_postflight_assessment,
    "checkpoint_create": checkpoint_create,
}
