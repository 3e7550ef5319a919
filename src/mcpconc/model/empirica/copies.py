"""Facts that Empirica keeps more than once: in a column, in a JSON column, in a git note, in
the index of the workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcpconc.model.empirica.artifact_copies import artifacts_kept_twice
from mcpconc.model.empirica.assessments import reflex, vectors_of
from mcpconc.model.empirica.common import DATABASE, token_in
from mcpconc.model.empirica.effects import NOTES
from mcpconc.model.empirica.facts import blob
from mcpconc.model.empirica.whereabouts import kept_in_files
from mcpconc.model.spec import Copies
from mcpconc.snapshot import Row, Snapshot

__all__ = ["kept_twice"]


def kept_twice(snapshot: Snapshot) -> Iterator[Copies]:
    for row in snapshot.rows(DATABASE, "goals"):
        yield from _goal(row, _note(snapshot, f"{NOTES}/goals/{row['id']}"))
    for row in snapshot.rows(DATABASE, "subtasks"):
        yield from _task(row)
    yield from artifacts_kept_twice(snapshot)
    for row in snapshot.rows(DATABASE, "project_unknowns"):
        yield from _unknown(row, _note(snapshot, f"{NOTES}/unknowns/{row['id']}"))
    yield from _reflexes(snapshot, snapshot.rows(DATABASE, "reflexes"))
    yield from _sessions(snapshot)
    for row in snapshot.rows(DATABASE, "handoff_reports"):
        yield from _handoff(snapshot, row)
    yield from kept_in_files(snapshot)


def _note(snapshot: Snapshot, ref: str) -> Mapping[str, Any] | None:
    """The note's object; None where there is no note, or none that is JSON (the integrity
    oracle reports the latter by itself)."""
    texts = snapshot.notes.get(ref)
    if not texts:
        return None
    return blob({"note": next(iter(texts.values()))}, "note") or None


def _same(
    kind: str, key: str, row: Row, note: Mapping[str, Any] | None, facts: Sequence[str]
) -> Iterator[Copies]:
    for fact in facts:
        if note is not None and fact in note:
            yield Copies(kind, key, fact, {"column": row.get(fact), "note": note[fact]})


def _goal(row: Row, note: Mapping[str, Any] | None) -> Iterator[Copies]:
    key, data = str(row["id"]), blob(row, "goal_data")
    state = (note or {}).get("goal_data") or {}
    done = {"column": bool(row.get("is_completed")), "status": row.get("status") == "completed"}
    yield Copies("goal", key, "is_completed", done)
    if "is_completed" in data:
        copy = {"column": done["column"], "goal_data": bool(data["is_completed"])}
        yield Copies("goal", key, "goal_data.is_completed", copy)
    for fact in ("status", "completion_reason"):
        if fact in state:
            copy = {"column": row.get(fact), "note": state[fact]}
            yield Copies("goal", key, f"note.{fact}", copy)
    for fact in ("objective", "description"):
        if fact in data:
            yield Copies("goal", key, fact, {"column": row.get(fact), "goal_data": data[fact]})


def _task(row: Row) -> Iterator[Copies]:
    data = blob(row, "subtask_data")
    for fact in ("status", "completion_evidence", "completed_timestamp", "description"):
        if fact in data:
            copy = {"column": row.get(fact), "subtask_data": data[fact]}
            yield Copies("task", str(row["id"]), fact, copy)


def _unknown(row: Row, note: Mapping[str, Any] | None) -> Iterator[Copies]:
    key = str(row["id"])
    yield from _same("unknown", key, row, note, ("unknown", "subject", "session_id"))
    if note is not None and "resolved" in note:
        copy = {"column": bool(row.get("is_resolved")), "note": bool(note["resolved"])}
        yield Copies("unknown", key, "resolved", copy)
        by = {"column": row.get("resolved_by"), "note": note.get("resolved_by")}
        yield Copies("unknown", key, "resolved_by", by)


def _reflexes(snapshot: Snapshot, rows: Sequence[Row]) -> Iterator[Copies]:
    """The note under session, phase and round is the last such row's."""
    last: dict[str, Row] = {}
    for row in rows:
        if reflex(row).noted:
            last[f"{row['session_id']}/{row['phase']}/{row['round']}"] = row
    for place, row in last.items():
        known = reflex(row)
        note = _note(snapshot, f"{NOTES}/session/{place}")
        exists = {"row": True, "note": f"{NOTES}/session/{place}" in snapshot.refs}
        yield Copies("reflexes", place, "note", exists)
        if note is None:
            continue
        meta = note.get("meta") or {}
        if meta.get("auto_checkpoint"):  # it replaces the note of the CHECK that caused it
            words = {"row": row.get("reasoning"), "note": meta.get("reasoning")}
            yield Copies("reflexes", place, "reasoning", words)
        else:
            wrote = {"row": known.token, "note": token_in(meta)}
            yield Copies("reflexes", place, "writer", wrote)
        vectors = vectors_of(note.get("vectors"))
        if vectors is not None:
            both = {"row": known.vectors, "note": vectors}
            yield Copies("reflexes", place, "vectors", both)


def _handoff(snapshot: Snapshot, row: Row) -> Iterator[Copies]:
    """A report is a row and two notes: a short one for programs, a long one for people."""
    key = str(row["session_id"])
    ref = f"{NOTES}/handoff/{key}"
    for fact, column, place in (
        ("compressed_json", "compressed_json", ref),
        ("markdown", "markdown_report", f"{ref}/markdown"),
    ):
        texts = snapshot.notes.get(place, {})
        note = next(iter(texts.values()), None)
        text = str(row.get(column) or "")
        copy = {"column": text.strip(), "note": note.strip() if note is not None else None}
        yield Copies("handoff", key, fact, copy)


def _sessions(snapshot: Snapshot) -> Iterator[Copies]:
    index = {str(r["session_id"]): r for r in snapshot.rows("workspace", "global_sessions")}
    for row in snapshot.rows(DATABASE, "sessions"):
        entry = index.get(str(row["session_id"]))
        if entry is None:
            continue
        for fact, other in (
            ("ai_id", "ai_id"),
            ("instance_id", "instance_id"),
            ("project_id", "current_project_id"),
        ):
            copy = {"sessions": row.get(fact), "global_sessions": entry.get(other)}
            yield Copies("session", str(row["session_id"]), fact, copy)
        open_here = row.get("end_time") is None
        open_there = entry.get("status") == "active"
        both = {"sessions": open_here, "global_sessions": open_there}
        yield Copies("session", str(row["session_id"]), "open", both)
