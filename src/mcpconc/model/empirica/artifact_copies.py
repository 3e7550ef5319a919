"""Facts about artifacts that are kept more than once: in columns, in a JSON column, in git notes,
and of edges in a table and in the JSON column of the artifact that they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mcpconc.model.empirica.artifact_effects import NOTES
from mcpconc.model.empirica.common import DATABASE
from mcpconc.model.empirica.facts import blob
from mcpconc.model.empirica.kinds import KINDS, Kind
from mcpconc.model.spec import Copies
from mcpconc.snapshot import Row, Snapshot

__all__ = ["artifacts_kept_twice"]

BY_ITSELF = "attached_to"
"""The relation of edges that the target draws: only the table holds them."""

STAMPED = ("is_resolved", "is_invalidated")
"""What a note says only once it is so."""


def artifacts_kept_twice(snapshot: Snapshot) -> Iterator[Copies]:
    drawn: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in snapshot.rows(DATABASE, "artifact_edges"):
        if row.get("relation") != BY_ITSELF:
            drawn[str(row.get("from_id"))].add((str(row.get("to_id")), str(row.get("relation"))))
    for kind in KINDS.values():
        ids = set()
        for row in snapshot.rows(DATABASE, kind.table):
            ids.add(str(row[kind.id]))
            yield from _noted(snapshot, kind, row)
            if kind.blob:
                yield _edges(kind, row, drawn)
        yield from _orphans(snapshot, kind, ids)


def _noted(snapshot: Snapshot, kind: Kind, row: Row) -> Iterator[Copies]:
    """What row and note both say. Unknowns' notes have words of their own for some of it."""
    id = str(row[kind.id])
    note = note_of(snapshot, f"{NOTES}/{kind.notes}/{id}") if kind.notes else None
    if note is None or kind.name == "unknown":
        return
    for column in (*(c for c, _ in kind.columns.values()), "session_id", *kind.begins):
        if column in note or (column in STAMPED and row.get(column)):
            told, kept = note.get(column), row.get(column)
            if column in STAMPED:
                told, kept = bool(told), bool(kept)
            if column == "impact" and told is None:
                continue  # the note says what was given, the row what holds without it
            yield Copies(kind.name, id, column, {"column": kept, "note": told})


def _edges(kind: Kind, row: Row, drawn: Mapping[str, set[tuple[str, str]]]) -> Copies:
    id, data = str(row[kind.id]), blob(row, kind.blob)
    told = data.get("edges")
    kept = {
        (str(edge.get("to")), str(edge.get("relation")))
        for edge in (told if isinstance(told, list) else ())
        if isinstance(edge, dict) and edge.get("relation") != BY_ITSELF
    }
    table: list[Any] = sorted(map(list, drawn.get(id, ())))
    return Copies(
        kind.name, id, "edges", {"artifact_edges": table, kind.blob: sorted(map(list, kept))}
    )


def _orphans(snapshot: Snapshot, kind: Kind, ids: set[str]) -> Iterator[Copies]:
    """Notes of artifacts that are not there: deleting one puts its note away."""
    prefix = f"{NOTES}/{kind.notes}/"
    for ref in snapshot.refs if kind.notes else ():
        if ref.startswith(prefix) and ref.removeprefix(prefix) not in ids:
            exists = {"row": False, "note": True}
            yield Copies(kind.name, ref.removeprefix(prefix), "row", exists)


def note_of(snapshot: Snapshot, ref: str) -> Mapping[str, Any] | None:
    """The note's object; None where there is none, or none that is JSON."""
    texts = snapshot.notes.get(ref)
    if not texts:
        return None
    return blob({"note": next(iter(texts.values()))}, "note") or None
