"""Declared writes, looked up in what was read back: the ground that `effects` judges on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.spec import Companion, Effect, Mode
from mcpconc.oracle.base import Finding, Run
from mcpconc.oracle.common import Fate, RowKey, Rows, as_json, fate, finding, frozen
from mcpconc.snapshot import Snapshot

__all__ = [
    "NAME",
    "State",
    "Write",
    "companion_key",
    "content",
    "deleted",
    "duplicate",
    "half",
    "look_up",
    "lost",
    "present",
    "text",
    "torn",
]

NAME = "effects"


@dataclass(frozen=True, slots=True)
class Write:
    """A declared effect, the call it belongs to, and the rows found for it."""

    effect: Effect
    op: Operation
    fate: Fate
    rows: tuple[RowKey, ...]

    @property
    def acknowledged(self) -> bool:
        return self.fate is Fate.DONE

    def says(self) -> str:
        return f"{self.op.call} {self.op.tool}"


@dataclass(slots=True)
class State:
    """The read-back, seen from the declared writes."""

    run: Run
    rows: Rows
    writes: list[Write]
    claimed: set[RowKey] = field(default_factory=set)
    overwritten: set[tuple[RowKey, str]] = field(default_factory=set)
    companions: set[tuple[object, ...]] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def look_up(run: Run, after: Snapshot) -> State:
    assert run.spec is not None
    operations = {op.call: op for op in run.history.operations}
    rows = Rows(after)
    old = _positions(run.before, after)
    state = State(run, rows, [])
    for effect in run.spec.effects(run.history.operations):
        op = operations.get(effect.call)
        if op is None:  # the call never reached the target
            continue
        found = rows.find(effect.database, effect.table, effect.where)
        ending = fate(op)
        if effect.mode is Mode.APPEND or (
            ending is Fate.REFUSED and effect.mode is not Mode.OVERWRITE
        ):
            found = [key for key in found if key not in old]
        write = Write(effect, op, ending, tuple(found))
        state.writes.append(write)
        if write.fate is not Fate.REFUSED:
            state.claimed.update(found)
            state.companions.update(companion_key(c) for c in effect.companions)
            if effect.mode is Mode.OVERWRITE:
                state.overwritten.update((key, column) for key in found for column in effect.values)
    return state


def _positions(before: Snapshot | None, after: Snapshot) -> set[RowKey]:
    """Rows of `after` that the template held already, whatever was changed in them since."""
    if before is None:
        return set()
    old: set[RowKey] = set()
    for database, tables in after.tables.items():
        for table, rows in tables.items():
            known = {_identity(row) for row in before.rows(database, table)}
            old.update(
                (database, table, position)
                for position, row in enumerate(rows)
                if known and _identity(row) in known
            )
    return old


def _identity(row: Mapping[str, Any]) -> object:
    rowid = row.get("_rowid_")
    return rowid if rowid is not None else frozen(dict(row))


def lost(write: Write) -> Finding:
    effect = write.effect
    return finding(
        NAME,
        "lost-append",
        effect.kind,
        summary=f"{write.op.tool} was acknowledged, but its {effect.kind} is not in {effect.table}",
        reason=(
            f"{write.says()} answered success.",
            f"No row of {effect.database}.{effect.table} has {text(effect.where)}.",
        ),
        calls=(write.op.call,),
        evidence={"call": write.op.call, "where": dict(effect.where), "id": effect.id},
    )


def duplicate(state: State, writes: Sequence[Write], rows: Sequence[RowKey]) -> Finding:
    effect = writes[0].effect
    what = f"key {effect.key!r}" if effect.key else "one call"
    return finding(
        NAME,
        "duplicate",
        effect.kind,
        summary=f"{len(rows)} rows of {effect.table} for {what}, where there must be one",
        reason=[
            f"{w.says()}: {w.fate.value}" + (f", answered id {w.effect.id}" if w.effect.id else "")
            for w in writes
        ],
        calls=[w.op.call for w in writes],
        evidence={"rows": [as_json(state.rows.row(key)) for key in rows]},
    )


def content(state: State, writes: Sequence[Write], key: RowKey) -> Iterator[Finding]:
    """The row must be what one of `writes` wrote, later overwrites apart."""
    row = state.rows.row(key)

    def wrong(write: Write) -> tuple[list[str], list[str]]:
        def differing(wanted: Mapping[str, Any]) -> list[str]:
            return [
                column
                for column, value in wanted.items()
                if column in row and row[column] != value and (key, column) not in state.overwritten
            ]

        return differing(write.effect.owner), differing(write.effect.values)

    # Of several possible writers the one that explains the row best is blamed.
    nearest = min(writes, key=lambda w: sum(map(len, wrong(w))))
    owners, values = wrong(nearest)
    for property, columns, wanted in (
        ("misattributed", owners, nearest.effect.owner),
        ("altered", values, nearest.effect.values),
    ):
        for column in columns:
            yield finding(
                NAME,
                property,
                nearest.effect.kind,
                column,
                summary=f"the {nearest.effect.kind} of {nearest.op.tool} is stored with another "
                f"{column} than the call's",
                reason=(
                    f"{nearest.says()} wrote {column} = {wanted[column]!r}.",
                    f"{key[0]}.{key[1]} holds {row[column]!r}.",
                ),
                calls=[w.op.call for w in writes],
                evidence={"column": column, "wrote": wanted[column], "row": as_json(row)},
            )


def deleted(state: State, effect: Effect) -> bool:
    """Whether a call that was not refused deletes what `effect` wrote."""
    for write in state.writes:
        other = write.effect
        if (
            other.mode is Mode.DELETE
            and write.fate is not Fate.REFUSED
            and (other.database, other.table) == (effect.database, effect.table)
            and (
                (effect.target and other.target == effect.target)
                or other.where == effect.where
                or (effect.id is not None and effect.id in (other.id, *other.where.values()))
            )
        ):
            return True
    return False


def companion_key(companion: Companion) -> tuple[object, ...]:
    return (
        companion.database,
        companion.table,
        frozen(dict(companion.where)),
        companion.ref,
        companion.contains,
    )


def present(state: State, effect: Effect, companion: Companion) -> bool:
    after = state.rows.snapshot
    if companion.table:
        database = companion.database or effect.database
        return bool(state.rows.find(database, companion.table, companion.where))
    texts = after.notes.get(companion.ref)
    if texts is None:
        return companion.ref in after.refs and not companion.contains
    return any(companion.contains in text for text in texts.values())


def torn(state: State, writers: Sequence[Write]) -> Iterator[Finding]:
    """A row is there: so must be all companions of one of its possible writers."""

    def missing(write: Write) -> list[Companion]:
        return [c for c in write.effect.companions if not present(state, write.effect, c)]

    best = min(writers, key=lambda w: len(missing(w)))
    gone = missing(best)
    if gone and not state.run.quiescent:
        state.unknown.append("rows without their companions, but the target was still at work")
        return
    for companion in gone:
        where = companion.ref or f"{companion.table} with {text(companion.where)}"
        yield finding(
            NAME,
            "torn",
            best.effect.kind,
            companion.name,
            summary=f"{best.effect.kind} of {best.op.tool} is stored without its {companion.name}",
            reason=(
                f"{best.says()}: {best.fate.value}; its row of {best.effect.table} is there.",
                f"Missing: {where}"
                + (f" holding {companion.contains!r}" if companion.contains else "")
                + ".",
            ),
            calls=[w.op.call for w in writers],
            evidence={"where": dict(best.effect.where), "missing": where},
        )


def half(state: State, write: Write) -> Iterator[Finding]:
    """An unanswered call left no row: then no companion either."""
    if not state.run.quiescent:
        return
    there = [c.name for c in write.effect.companions if present(state, write.effect, c)]
    if there:
        yield finding(
            NAME,
            "torn",
            write.effect.kind,
            "row",
            summary=f"an unanswered {write.op.tool} left {', '.join(there)} but no "
            f"{write.effect.kind}",
            reason=(f"{write.says()} was never answered ({write.op.why or 'no answer'}).",),
            calls=(write.op.call,),
            evidence={"where": dict(write.effect.where), "there": there},
        )


def text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} = {value!r}" for column, value in values.items())
