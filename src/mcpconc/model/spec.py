"""What oracles know of a target, as data that a target's specification produces per run.

Oracles are generic: all knowledge of tools, tables and columns comes from here. Every member
is computed from operations and snapshot alone, without I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from mcpconc.history import Operation
from mcpconc.model.base import Partition
from mcpconc.snapshot import Snapshot

__all__ = [
    *("SHORTEST", "Companion", "Copies", "Effect", "Footprint", "Log", "Mode", "Seen", "Spec"),
    *("View", "whole"),
]

SHORTEST = 8
"""Characters that a beginning of an id must have; a server may take shorter ones here and there."""


def whole(id: str, ids: Collection[str]) -> str:
    """The one of `ids` that the beginning of an id means, if it is one's; else as it is."""
    if len(id) < SHORTEST or id in ids:
        return id
    meant = [one for one in ids if one.startswith(id)]
    return meant[0] if len(meant) == 1 else id


class Mode(StrEnum):
    APPEND = "append"
    OVERWRITE = "overwrite"
    DEDUPLICATE = "deduplicate"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Companion:
    """What must stand beside a written row: a row elsewhere, or a git notes ref.

    For a row, `table` and `where` (in `database`, by default the one of the written row); for a
    note, `ref` (and `contains`, a text the note holds).
    """

    name: str
    table: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    ref: str = ""
    contains: str = ""
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One write of one call on one object.

    `where` selects the row(s) written (by id where the answer gave one, else by token);
    `values` are the columns written and what this call wrote there; `owner` the columns that
    must name the call's own session, agent, project or transaction. `target` names the object
    overwritten, `key` the natural key de-duplicated by, `id` the row id answered.
    """

    call: str
    mode: Mode
    kind: str
    database: str
    table: str
    where: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    owner: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    key: str = ""
    id: str | None = None
    companions: tuple[Companion, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """An insert-only sequence as the database committed it and as the target shows it.

    `rows` are in commit order: (call that wrote the row or "", shown order key). Shown keys
    that are equal where the target numbers things are ties, and a finding when `distinct`.
    """

    kind: str
    key: str
    shown_by: str
    rows: tuple[tuple[str, Any], ...]
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What one read saw of an append-only list: the ids, oldest first. `complete` is false
    where the read may have left some out (a limit, a filter)."""

    call: str
    kind: str
    key: str
    ids: tuple[str, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """A place where something private to an agent shows: a row's column or a response field.

    `found` is the value seen by, or stored for, `agent`; it is private to `owners`. `why` says
    in sentences how the owners came by it, and by which rule it is nobody else's. `expected` is a
    clause: what an agent relies on, and what is broken if `agent` is none of the owners. `call`
    is "" where it is part of what is left for the agent.
    """

    call: str
    agent: int
    kind: str
    field: str
    found: str
    owners: frozenset[int]
    why: str = ""
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """One fact kept in several places (column, blob, note, file): place → value."""

    kind: str
    key: str
    fact: str
    places: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one call of this tool and outcome changes, as learned from sequential runs.

    Keys name a change with ids masked: ``rows:sessions.reflexes``, ``ref:…/session/*/CHECK/*``,
    ``file:…``; values are (least, most) times per call. Changes under ``rows:``, ``ref:`` and
    ``file:`` are things that appear, and those of several calls add up; any other prefix means
    a change in place, where several calls may change the same thing or undo each other, so
    that only the most is a bound. `foreign` holds the changes that carry another owner than
    the call's own (a session that the call closes).
    """

    changes: Mapping[str, tuple[int, int]]
    foreign: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Spec(Protocol):
    """Everything target-specific that oracles use. A target without a model has none."""

    name: str

    def partitions(
        self, operations: Sequence[Operation], snapshot: Snapshot | None
    ) -> Sequence[Partition]:
        """The objects of the run, each with its operations and the read-back as last one."""
        ...

    def effects(self, operations: Sequence[Operation]) -> Sequence[Effect]:
        """What each call that was sent means to write: also refused and unanswered ones."""
        ...

    def attribute(
        self, operations: Sequence[Operation], snapshot: Snapshot
    ) -> Sequence[tuple[str, str, str, str]]:
        """Rows of modelled tables that the run added: (kind, table, row id, call or "")."""
        ...

    def logs(self, operations: Sequence[Operation], snapshot: Snapshot) -> Sequence[Log]: ...

    def seen(self, operations: Sequence[Operation]) -> Sequence[Seen]: ...

    def views(
        self, operations: Sequence[Operation], snapshot: Snapshot | None
    ) -> Sequence[View]: ...

    def copies(self, snapshot: Snapshot) -> Sequence[Copies]: ...

    def footprint(self, operation: Operation) -> Footprint | None:
        """The learned footprint of this call's tool and outcome; None where none is known."""
        ...

    def changes(self, before: Snapshot, after: Snapshot) -> Mapping[tuple[str, str], int]:
        """(change key, owner) → times, between two snapshots; owner is "" where none shows."""
        ...

    def owner(self, operation: Operation) -> str:
        """The owner that this call's changes carry (a session id, mostly)."""
        ...

    def promises_json(self, tool: str) -> bool: ...
