"""The difference between two snapshots, as JSON that people can read in a diff.

Nearly all of a snapshot is what the template held already (Empirica: some forty kilobytes of
migrations and configuration), so a trace keeps the template's snapshot once and of the state
left only what differs. Exact: ``patch(before, diff(before, after)) == after``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mcpconc.snapshot import Row, Snapshot

__all__ = ["diff", "patch"]

_FLAT = ("schema", "refs", "notes", "files", "checks")


def diff(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What turns `before` into `after`.

    A key that is not mentioned is unchanged, one that maps to null is gone. The rows of a table
    that changed are a list whose items are either a row or a pair ``[from, to]``: the rows
    with these indices (half open) of the same table in `before`.
    """
    delta: dict[str, Any] = {
        name: _changed(getattr(before, name), getattr(after, name)) for name in _FLAT
    }
    tables: dict[str, Any] = dict.fromkeys(before.tables.keys() - after.tables.keys())
    for database, new in after.tables.items():
        old = before.tables.get(database)
        changed = _changed(old or {}, new)
        for table in changed.keys() & new.keys():
            changed[table] = _pieces((old or {}).get(table, ()), new[table])
        if changed or old is None:
            tables[database] = changed
    delta["tables"] = tables
    return delta


def patch(before: Snapshot, delta: Mapping[str, Any]) -> Snapshot:
    """Inverse of `diff`.

    :raises KeyError, TypeError, IndexError, AttributeError: if `delta` is not one of `before`.
    """
    fields = {name: _merged(getattr(before, name), delta[name]) for name in _FLAT}
    tables: dict[str, Any] = dict(before.tables)
    for database, changed in delta["tables"].items():
        if changed is None:
            del tables[database]
            continue
        old = before.tables.get(database, {})
        tables[database] = _merged(
            old,
            {
                table: None if pieces is None else _rows(old.get(table, ()), pieces)
                for table, pieces in changed.items()
            },
        )
    return Snapshot(tables=tables, **fields)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    changed.update((key, value) for key, value in new.items() if old.get(key) != value)
    return changed


def _merged(old: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**old, **changed}
    return {key: value for key, value in merged.items() if value is not None}


def _pieces(old: Sequence[Row], new: Sequence[Row]) -> list[Any]:
    index = {_key(row): position for position, row in enumerate(old)}
    pieces: list[Any] = []
    for row in new:
        position = index.get(_key(row))
        if position is None:
            pieces.append(row)
        elif pieces and isinstance(pieces[-1], list) and pieces[-1][1] == position:
            pieces[-1][1] = position + 1
        else:
            pieces.append([position, position + 1])
    return pieces


def _key(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def _rows(old: Sequence[Row], pieces: Sequence[Any]) -> list[Row]:
    rows: list[Row] = []
    for piece in pieces:
        if isinstance(piece, list):
            start, stop = piece
            if not 0 <= start <= stop <= len(old):
                raise IndexError(f"rows {start} to {stop} of {len(old)}")
            rows.extend(old[start:stop])
        else:
            rows.append(piece)
    return rows
