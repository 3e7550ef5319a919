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
    "MOMENT",
    "OUTCOME",
    "TEXT",
    "Bag",
    "Id",
    "Moment",
    "Observation",
    "Record",
    "Term",
    "Text",
    "lengths",
    "observe",
    "recut",
]

GENERATED = re.compile(
    # Not \b, because of ids like task_0b7e4a52.
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}"
    r"|[0-7][0-9A-HJKMNP-TV-Z]{25})(?![0-9A-Za-z])",
    re.I,
)
"""What is taken for a generated id: a UUID, eight and more hex digits of which some are letters
and some are not, a ULID."""

MOMENT = re.compile(
    r"(?<!\d)\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z\b|[+-]\d\d:?\d\d\b))?"
)
"""A point in time."""

_HEX = re.compile(r"(?<![0-9A-Za-z])(?:\d{8,}|[a-f]{8,})(?![0-9A-Za-z])", re.I)
"""What a generated id may be if there are others as long: of 43 that are made of eight hex
digits at random, one has no letter."""

OUTCOME, TEXT, ITEMS = "(outcome)", "(text)", "(items)"


@dataclass(frozen=True, slots=True)
class Id:
    """An id that the target has made in this run."""

    value: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time within a text, that was neither given to the target nor in its template."""

    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text with generated ids or points in time in it."""

    parts: tuple[str | Id | Moment, ...]


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


def _found(text: str) -> Iterator[re.Match[str]]:
    """Generated ids and points in time."""
    moments = list(MOMENT.finditer(text))
    for match in GENERATED.finditer(text):
        if not any(m.start() < match.end() and match.start() < m.end() for m in moments):
            yield match
    yield from moments


def _known(before: Snapshot | None, operations: Iterable[Operation]) -> frozenset[str]:
    """Ids and points in time that no run has generated: those of the template, which all runs
    begin with."""
    found: set[str] = set()
    if before is not None:
        for value in _strings(before.to_json()):
            found.update(match.group() for match in _found(value))
    # An id among the arguments that no answer brought was written into the program.
    answered: set[str] = set()
    for operation in sorted(operations, key=lambda op: op.invoked):
        for value in _strings(operation.args):
            found.update(m.group() for m in _found(value) if m.group() not in answered)
        for value in _strings([operation.data, operation.text]):
            answered.update(match.group() for match in _found(value))
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
                **_fields(_term(op.data, known)),
            },
        )
        for op in operations
        if op.outcome is not None
    }
    left = tuple(_left(before or Snapshot(), after, known)) if after is not None else ()
    return Observation(answers, left)


def _fields(data: Term) -> dict[str, Term]:
    # Data whose names are ids are not fields.
    return data if isinstance(data, dict) else {ITEMS: data}


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
        return _named(
            [(_term(str(key), known), str(key), _term(item, known)) for key, item in value.items()]
        )
    if isinstance(value, list | tuple):
        return tuple(_term(item, known) for item in value)
    if not isinstance(value, str):
        return value
    if value[:1] in ("{", "["):
        try:
            return _term(json.loads(value), known)
        except (ValueError, RecursionError):  # the second where it is nested without end
            pass
    return _cut(value, (match for match in _found(value) if match.group() not in known))


def _named(fields: Sequence[tuple[Term, str, Term]]) -> Term:
    """Name as a term, name and value of each field: in no order where there are ids in names."""
    if any(isinstance(key, Id | Text) for key, _, _ in fields):
        return Bag(tuple({"key": key, "value": value} for key, _, value in fields))
    return {name: value for _, name, value in fields}


def _cut(value: str, matches: Iterable[re.Match[str]]) -> Term:
    """Text in parts. What is a point in time and nothing else stays as it is."""
    parts: list[str | Id | Moment] = []
    end = 0
    for match in sorted(matches, key=lambda m: m.start()):
        is_id = MOMENT.fullmatch(match.group()) is None
        parts.append(value[end : match.start()])
        parts.append(Id(match.group()) if is_id else Moment(match.group()))
        end = match.end()
    parts.append(value[end:])
    kept = tuple(part for part in parts if part != "")
    if len(kept) > 1:
        return Text(kept)
    return kept[0] if kept and isinstance(kept[0], Id) else value


def lengths(observation: Observation) -> frozenset[int]:
    """How long the generated ids are that are hex digits and nothing else."""
    return frozenset(
        len(value)
        for record in (*observation.answers.values(), *observation.left)
        for value in _id_values(record.term)
        if "-" not in value
    )


def _id_values(term: Term) -> Iterator[str]:
    if isinstance(term, Id):
        yield term.value
    elif isinstance(term, Mapping):
        for item in term.values():
            yield from _id_values(item)
    elif isinstance(term, tuple | Bag | Text):
        for item in _items(term):
            yield from _id_values(item)


def _items(term: tuple[Term, ...] | Bag | Text) -> tuple[Term, ...]:
    if isinstance(term, Bag):
        return term.items
    return term.parts if isinstance(term, Text) else term


def recut(observation: Observation, of: frozenset[int]) -> Observation:
    """The same with what consists of digits alone, or of letters alone, taken for an id where
    it is as long as one of those: random hex digits are that now and then."""

    def record(it: Record) -> Record:
        own = {name: it.term[name] for name in (OUTCOME, TEXT) if name in it.term}
        rest = {name: value for name, value in it.term.items() if name not in own}
        own = {name: _recut(value, of) for name, value in own.items()}
        return Record(it.kind, it.key, own | _fields(_recut(rest, of)))

    return Observation(
        {call: record(it) for call, it in observation.answers.items()},
        tuple(record(it) for it in observation.left),
    )


def _recut(term: Term, of: frozenset[int]) -> Term:
    if isinstance(term, str):
        return _cut(term, (m for m in _HEX.finditer(term) if len(m.group()) in of))
    if isinstance(term, Mapping):
        return _named([(_recut(key, of), key, _recut(item, of)) for key, item in term.items()])
    if isinstance(term, Bag):
        return Bag(tuple(_recut(item, of) for item in term.items))
    if isinstance(term, tuple):
        return tuple(_recut(item, of) for item in term)
    if isinstance(term, Text):
        parts: list[str | Id | Moment] = []
        for part in term.parts:
            cut = _recut(part, of) if isinstance(part, str) else part
            parts += cut.parts if isinstance(cut, Text) else [cut]
        return Text(tuple(parts))
    return term


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
