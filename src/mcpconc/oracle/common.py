"""What several oracles need: rows by value, what became of a call, one finding per head."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mcpconc.history import Operation, Outcome
from mcpconc.oracle.base import Finding, Fingerprint, Result, Run
from mcpconc.snapshot import Row, Snapshot

__all__ = [
    "NO_READ_BACK",
    "Fate",
    "RowKey",
    "Rows",
    "as_json",
    "collect",
    "fate",
    "finding",
    "frozen",
    "masked",
    "mentioning",
]

KEPT = 3
"""How many instances of one finding the evidence keeps."""

NO_READ_BACK = "the state was not read back"

RowKey = tuple[str, str, int]
"""(database, table, position in the snapshot): which row, within one snapshot."""


class Fate(StrEnum):
    """What an answer says about the effects of a call."""

    DONE = "done"
    REFUSED = "refused"
    MAYBE = "maybe"
    """Nobody knows: no answer, or one that cannot be read."""


def fate(operation: Operation) -> Fate:
    if operation.outcome is Outcome.SUCCESS:
        return Fate.DONE
    if operation.outcome in (Outcome.REFUSED, Outcome.USAGE):
        return Fate.REFUSED
    return Fate.MAYBE


def frozen(value: Any) -> Hashable:
    """A hashable stand-in that is equal exactly where the JSON values are."""
    return value if isinstance(value, Hashable) else json.dumps(value, sort_keys=True)


@dataclass(slots=True)
class Rows:
    """Rows of a snapshot by the values of some columns.

    One index per set of columns asked for, made once: looking up every effect of a run costs
    time linear in rows plus effects.
    """

    snapshot: Snapshot
    _indexes: dict[tuple[str, str, tuple[str, ...]], dict[tuple[Hashable, ...], list[int]]] = field(
        default_factory=dict
    )

    def find(self, database: str, table: str, where: Mapping[str, Any]) -> list[RowKey]:
        """The rows with exactly these values; no row where `where` is empty."""
        if not where:
            return []
        columns = tuple(sorted(where))
        index = self._indexes.get((database, table, columns))
        if index is None:
            index = {}
            for position, row in enumerate(self.snapshot.rows(database, table)):
                if all(column in row for column in columns):
                    key = tuple(frozen(row[column]) for column in columns)
                    index.setdefault(key, []).append(position)
            self._indexes[database, table, columns] = index
        wanted = tuple(frozen(where[column]) for column in columns)
        return [(database, table, position) for position in index.get(wanted, ())]

    def row(self, key: RowKey) -> Row:
        database, table, position = key
        return self.snapshot.rows(database, table)[position]


def finding(
    oracle: str,
    property: str,
    kind: str,
    field: str = "",
    *,
    summary: str,
    reason: Iterable[str] = (),
    calls: Iterable[str] = (),
    evidence: Mapping[str, Any] | None = None,
) -> Finding:
    return Finding(
        Fingerprint(oracle, property, kind, field),
        summary,
        tuple(reason),
        tuple(dict.fromkeys(calls)),
        dict(evidence or {}),
    )


def collect(oracle: str, findings: Iterable[Finding], unknown: Sequence[str] = ()) -> Result:
    """One finding per fingerprint head.

    The instance that involves the fewest calls speaks for all, because it is the one that
    shrinks best; ``evidence["instances"]`` keeps the first few and ``["count"]`` says how many
    there were.
    """
    heads: dict[tuple[str, str, str, str], list[Finding]] = {}
    for one in findings:
        heads.setdefault(one.fingerprint.head(), []).append(one)
    merged = []
    for instances in heads.values():
        spokesman = min(instances, key=lambda f: (not f.calls, len(f.calls)))
        others = [f.evidence for f in instances if f is not spokesman]
        evidence = {"instances": [spokesman.evidence, *others][:KEPT], "count": len(instances)}
        merged.append(replace(spokesman, evidence=evidence))
    return Result(oracle, tuple(merged), tuple(dict.fromkeys(unknown)))


def mentioning(run: Run, text: str) -> tuple[str, ...]:
    """Calls whose arguments, token or response hold `text`: who may have had to do with it."""
    if len(text) < 4:  # short ids would match anything
        return ()
    return tuple(
        op.call
        for op in run.history.operations
        if text in json.dumps([op.args, op.data, op.token, op.text], default=str)
    )


_VARIES = re.compile(r"[^/]*\d[^/]*")


def masked(name: str) -> str:
    """A ref or path with every part that holds a digit (an id, a round) replaced by ``*``."""
    return "/".join("*" if _VARIES.fullmatch(part) else part for part in name.split("/"))


def as_json(row: Row) -> dict[str, Any]:
    """A row as evidence: long texts cut."""
    return {
        column: value[:200] + "…" if isinstance(value, str) and len(value) > 200 else value
        for column, value in row.items()
    }
