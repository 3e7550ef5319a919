"""What one run showed, in a form that can be compared with another run of the same calls.

Everything is a *term*: JSON data in which text is cut at the ids that the target generated, so
that those can be compared up to a bijection. Text that is JSON is read as such, and of the state
only what differs from the template counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.history import Operation
from mcpconc.snapshot import Snapshot

__all__ = [
    "GENERATED",
    "OUTCOME",
    "TEXT",
    "Bag",
    "Id",
    "Observation",
    "Record",
    "Term",
    "Text",
    "observe",
]

GENERATED = re.compile(
    r"\b(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}"
    r"|[0-7][0-9A-HJKMNP-TV-Z]{25})\b",
    re.I,
)
"""What is taken for a generated id: a UUID, eight and more hex digits of which some are letters
and some are not, a ULID."""


OUTCOME, TEXT = "(outcome)", "(text)"


@dataclass(frozen=True, slots=True)
class Id:
    """An id that the target has made in this run."""

    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text with generated ids in it."""

    parts: tuple[str | Id, ...]


@dataclass(frozen=True, slots=True)
class Bag:
    """Terms in no order."""

    items: tuple[Term, ...]


Term = Any
"""None, bool, int, float, str, `Id`, `Text`, a tuple of terms, a `Bag`, a dict of text → term."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that a run showed: an answer (`key` is the call), or a piece of the state that
    it added or removed (`key` is empty, because nothing tells equal ones apart).

    `kind` is the tool, ``database.table``, ``notes REF`` or ``file NAME``, the last two without
    ids and numbers.
    """

    kind: str
    key: str
    term: Term


@dataclass(frozen=True, slots=True)
class Observation:
    """A run's answers, call → record, and what it left."""

    answers: Mapping[str, Record]
    left: tuple[Record, ...]


def _known(before: Snapshot | None, operations: Iterable[Operation]) -> frozenset[str]:
    """Ids that no run has generated: those of the template, which all runs begin with."""
    found: set[str] = set()
    if before is not None:
        for value in _strings(before.to_json()):
            found.update(match.group() for match in GENERATED.finditer(value))
    # An id among the arguments that no answer brought was written into the program.
    answered: set[str] = set()
    for operation in sorted(operations, key=lambda op: op.invoked):
        for value in _strings(operation.args):
            found.update(m.group() for m in GENERATED.finditer(value) if m.group() not in answered)
        for value in _strings([operation.data, operation.text]):
            answered.update(match.group() for match in GENERATED.finditer(value))
    return frozenset(found)


def observe(
    operations: Sequence[Operation], before: Snapshot | None, after: Snapshot | None
) -> Observation:
    """What a run showed. Calls that nobody answered have no record."""
    known = _known(before, operations)
    answers = {
        op.call: Record(
            op.tool,
            op.call,
            {
                # In brackets, because an answer may have fields of these names.
                OUTCOME: op.outcome.value,
                **({TEXT: _term(op.text, known)} if op.text else {}),
                **{str(key): _term(value, known) for key, value in op.data.items()},
            },
        )
        for op in operations
        if op.outcome is not None
    }
    left = tuple(_left(before or Snapshot(), after, known)) if after is not None else ()
    return Observation(answers, left)


def _left(before: Snapshot, after: Snapshot, known: frozenset[str]) -> Iterator[Record]:
    for database in sorted({*before.tables, *after.tables}):
        tables = {*before.tables.get(database, {}), *after.tables.get(database, {})}
        for table in sorted(tables):
            yield from _difference(
                f"{database}.{table}",
                map(_row, before.rows(database, table)),
                map(_row, after.rows(database, table)),
                known,
            )
    # Object names of git hold the time of a commit: what is behind a ref is compared instead.
    yield from _difference(
        "refs", ({"ref": r} for r in before.refs), ({"ref": r} for r in after.refs), known
    )
    for ref in sorted({*before.notes, *after.notes}):
        yield from _difference(
            f"notes {_masked(ref, known)}",
            ({"ref": ref, "on": k, "note": v} for k, v in before.notes.get(ref, {}).items()),
            ({"ref": ref, "on": k, "note": v} for k, v in after.notes.get(ref, {}).items()),
            known,
        )
    for path in sorted({*before.files, *after.files}):
        yield from _difference(
            f"file {_masked(path.rpartition('/')[2], known)}",
            ({"path": path, "content": before.files[path]} for _ in [0] if path in before.files),
            ({"path": path, "content": after.files[path]} for _ in [0] if path in after.files),
            known,
        )


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    # Where the rowid means something it is a column of its own.
    return {column: value for column, value in row.items() if column != "_rowid_"}


def _difference(
    kind: str,
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    known: frozenset[str],
) -> Iterator[Record]:
    old = Counter(json.dumps(item, sort_keys=True) for item in before)
    new = Counter(json.dumps(item, sort_keys=True) for item in after)
    for change, items in (("added", new - old), ("removed", old - new)):
        for item in items.elements():
            yield Record(kind, "", {change: _term(json.loads(item), known)})


def _term(value: Any, known: frozenset[str]) -> Term:
    if isinstance(value, Mapping):
        keys = {str(key): _term(str(key), known) for key in value}
        if any(isinstance(key, Id | Text) for key in keys.values()):
            return Bag(
                tuple({"key": keys[str(k)], "value": _term(v, known)} for k, v in value.items())
            )
        return {str(key): _term(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_term(item, known) for item in value)
    if not isinstance(value, str):
        return value
    if value[:1] in ("{", "["):
        try:
            return _term(json.loads(value), known)
        except ValueError:
            pass
    parts: list[str | Id] = []
    end = 0
    for match in GENERATED.finditer(value):
        if match.group() not in known:
            parts += [value[end : match.start()], Id(match.group())]
            end = match.end()
    if not parts:
        return value
    parts.append(value[end:])
    kept = tuple(part for part in parts if part != "")
    return kept[0] if len(kept) == 1 else Text(kept)


def _masked(text: str, known: frozenset[str]) -> str:
    masked = GENERATED.sub(lambda m: m.group() if m.group() in known else "*", text)
    return re.sub(r"\d+(-\d+)*", "*", masked)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
