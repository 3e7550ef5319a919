"""What read-back found, as plain data. Reading it is `readback`'s job; oracles only see this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.errors import TraceError

__all__ = ["Row", "Snapshot"]

Row = Mapping[str, Any]
"""Column → value. ``_rowid_`` is always present (None for tables without one)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a world after quiescence.

    `tables` is database name → table → rows in rowid order. `schema` is ``database/kind name``
    (``sessions/table goals``) → the columns of a table, the digest of anything else. `refs` is
    ref name → object id; `notes` is notes ref → annotated object → text. `files` is path
    relative to the world → text. `checks` is the name of a built-in check
    (``sessions.integrity_check``, ``sessions.foreign_key_check``, ``git.fsck``) → its
    complaints; an empty tuple means that it ran and found nothing.
    """

    tables: Mapping[str, Mapping[str, Sequence[Row]]] = field(default_factory=dict)
    schema: Mapping[str, str] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def rows(self, database: str, table: str) -> Sequence[Row]:
        """The rows of a table; none where database or table do not exist."""
        return self.tables.get(database, {}).get(table, ())

    def to_json(self) -> dict[str, Any]:
        return {
            "tables": self.tables,
            "schema": self.schema,
            "refs": self.refs,
            "notes": self.notes,
            "files": self.files,
            "checks": self.checks,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """Inverse of `to_json`.

        :raises TraceError: if the data does not have the shape of a snapshot.
        """
        try:
            return cls(**{name: data[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError) as error:
            raise TraceError(f"not a snapshot: {error!r}") from error
