"""Integrity: what is stored is well-formed, and copies of one fact agree.

Always compared with the template: what was wrong before the run is not the run's doing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mcpconc.model.spec import Copies
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import NO_READ_BACK, as_json, collect, finding, masked, mentioning
from mcpconc.snapshot import Row, Snapshot

__all__ = ["integrity"]

NAME = "integrity"
JSON_NAMES = ("_data", "_json", "json", "metadata")
HARMLESS = ("dangling ", "unreachable ", "notice:", "Checking ", "ok")
"""What `git fsck` and `integrity_check` say of a healthy state."""


def integrity(run: Run) -> Result:
    """Built-in checks, schemas, JSON in columns and notes, copies."""
    if run.after is None:
        return Result(NAME, unknown=(NO_READ_BACK,))
    before = run.before or Snapshot()
    findings = [
        *_checks(before, run.after),
        *_schemas(before, run.after),
        *_columns(run, before, run.after),
        *_notes(run, before, run.after),
        *_copies(run, before, run.after),
    ]
    unknown = [f"{name} did not run" for name in before.checks if name not in run.after.checks]
    return collect(NAME, findings, unknown)


def _checks(before: Snapshot, after: Snapshot) -> Iterator[Finding]:
    for name, complaints in after.checks.items():
        old = set(before.checks.get(name, ()))
        new = [c for c in complaints if c not in old and not c.startswith(HARMLESS)]
        if new:
            where, _, check = name.rpartition(".")
            yield finding(
                NAME,
                check,
                where or name,
                summary=f"{check} of {where or 'the state'} complains: {new[0]}",
                reason=new[:10],
                evidence={"check": name, "complaints": new[:10]},
            )


def _schemas(before: Snapshot, after: Snapshot) -> Iterator[Finding]:
    """What was there must stay. Targets add tables, columns and indexes when they first need
    them, so an addition is no finding."""
    there = {name.partition("/")[0] for name in after.schema}
    for database in sorted({name.partition("/")[0] for name in before.schema} - there):
        yield finding(NAME, "database-gone", database, summary=f"database {database} is gone")
    for name, old in before.schema.items():
        database, _, what = name.partition("/")
        if database not in there:
            continue
        new = after.schema.get(name)
        lost = [c for c in old.split() if c not in (new or "").split()]
        if new is None:
            change, said = "schema-gone", "is gone"
        elif lost and what.startswith("table "):
            change, said = "columns-gone", f"has lost {', '.join(lost)}"
        elif lost:
            change, said = "schema-changed", "is another one than before"
        else:
            continue
        summary = f"{what} of database {database} {said}"
        evidence = {"before": old, "after": new}
        yield finding(NAME, change, database, what, summary=summary, evidence=evidence)


def _columns(run: Run, before: Snapshot, after: Snapshot) -> Iterator[Finding]:
    for database, tables in after.tables.items():
        for table, rows in tables.items():
            old = before.rows(database, table)
            for column in rows[0] if rows else ():
                for row in _broken(column, old, rows):
                    yield finding(
                        NAME,
                        "json-broken",
                        table,
                        column,
                        summary=f"{table}.{column} holds text that is not JSON",
                        reason=(f"{database}.{table}: {as_json(row)[column]!r}",),
                        calls=_writers(run, row),
                        evidence={"database": database, "row": as_json(row)},
                    )


def _broken(column: str, old: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Rows whose text in `column` is not JSON, if the column is one of JSON.

    It is if its name says so, or if two or more other rows hold documents and none in the
    template holds anything else. A bad text must itself look like a document, or be alone
    among good ones: free text is not to be taken for broken JSON.
    """

    def texts(of: Sequence[Row]) -> list[tuple[str, Row]]:
        return [(v, row) for row in of if isinstance(v := row.get(column), str) and v]

    now = texts(rows)
    named = column.endswith(JSON_NAMES)
    if not any(_document(text) for text, _ in now):
        return []
    bad = [(text, row) for text, row in now if not _parses(text)]
    good = sum(1 for text, _ in now if _document(text) and _parses(text))
    if not bad or any(not _parses(text) for text, _ in texts(old)):
        return []
    if not named and good < 2:
        return []
    return [row for text, row in bad if _document(text) or (named and good)]


def _document(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _parses(text: str) -> bool:
    """As Python's own reader, which also takes NaN: it is what targets read with."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _notes(run: Run, before: Snapshot, after: Snapshot) -> Iterator[Finding]:
    for ref, texts in after.notes.items():
        for object_id, text in texts.items():
            was = before.notes.get(ref, {}).get(object_id, "")
            if text == was or not (_document(text) or _document(was)) or _documents(text):
                continue
            yield finding(
                NAME,
                "json-broken",
                masked(ref),
                summary=f"a note of {masked(ref)} is not JSON",
                reason=(f"{ref}: {text[:200]!r}",),
                calls=[
                    call
                    for part in ref.split("/")
                    if masked(part) != part
                    for call in mentioning(run, part)
                ],
                evidence={"ref": ref, "text": text[:1000]},
            )


def _documents(text: str) -> bool:
    """Whether a note is a sequence of JSON documents: git joins them when notes are appended."""
    decoder = json.JSONDecoder()
    position = 0
    try:
        while position < len(text):
            _, position = decoder.raw_decode(text, position)
            while position < len(text) and text[position].isspace():
                position += 1
    except (ValueError, RecursionError):
        return False
    return True


def _copies(run: Run, before: Snapshot, after: Snapshot) -> Iterator[Finding]:
    if run.spec is None:
        return
    old = {
        (c.kind, c.key, c.fact) for c in run.spec.copies(before) if _differ(list(c.places.values()))
    }
    for copy in run.spec.copies(after):
        values = list(copy.places.values())
        if not _differ(values) or (copy.kind, copy.key, copy.fact) in old:
            continue
        yield finding(
            NAME,
            "copies-disagree",
            copy.kind,
            copy.fact,
            summary=f"the copies of {copy.kind}.{copy.fact} disagree",
            reason=[f"{place}: {value!r}" for place, value in copy.places.items()],
            calls=_about(run, copy),
            evidence={"key": copy.key, "places": dict(copy.places)},
        )


def _about(run: Run, copy: Copies) -> list[str]:
    """Calls that speak of the object or wrote one of its copies; failing that, those that speak
    of a part of its key (``session/phase/round``)."""
    stored = [str(value) for value in copy.places.values()]
    calls = [
        *(o.call for o in run.history.operations if o.token and any(o.token in s for s in stored)),
        *mentioning(run, copy.key),
    ]
    return calls or [c for part in re.split(r"[/\s:]", copy.key) for c in mentioning(run, part)]


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values[1:])


def _writers(run: Run, row: Row) -> tuple[str, ...]:
    """Calls whose token is in the row."""
    cells = [value for value in row.values() if isinstance(value, str)]
    return tuple(
        op.call
        for op in run.history.operations
        if op.token and any(op.token in cell for cell in cells)
    )
