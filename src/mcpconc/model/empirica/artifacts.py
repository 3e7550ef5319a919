"""Artifacts: findings, dead ends, mistakes, assumptions, decisions, notes, sources.

Findings and dead ends are one row per project and text, whatever its case and spacing: logging
a text once more answers the id of the row that is there and changes nothing in it. Of the
others every call makes one. Closing and correcting is repeatable, the last one's words stay;
what is deleted is gone, and its text is free again. Unknowns are like findings and have a
module of their own, because they are listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.batches import DENIED, Changed, Logged, changed, logged
from mcpconc.model.empirica.common import (
    OK,
    Quirky,
    Refusal,
    answer,
    op,
    partition,
    refused,
    spurious,
)
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.kinds import KINDS, Kind, key_of
from mcpconc.model.empirica.missing import Missing

__all__ = ["Artifact", "Artifacts", "Change", "Listing", "change_of", "partitions", "project_of"]

Values = tuple[tuple[str, Hashable], ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One row: its id and the columns that are modelled, sorted."""

    id: str
    values: Values

    def but(self, changed: Values) -> Artifact:
        return Artifact(self.id, tuple(sorted({**dict(self.values), **dict(changed)}.items())))


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of the artifact `id`: the columns set, or None where it is deleted. Not
    `valid`: to be refused whatever there is. `successor`: it names one, which may be missing."""

    id: str
    values: Values | None
    valid: bool = True
    successor: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is asked for: whether this artifact, if there is one, is among it."""

    asked: bool = True


State = Artifact | None


@dataclass(frozen=True)
class Artifacts(Quirky):
    """State: the row of one (project, text), or of one id, if there is one.

    Calls that log: input is the `Artifact` that would be inserted (id "" where the call was not
    answered and no row carries its token), output the id answered. Calls that change it: input
    a `Change`, output OK or `DENIED`. ``source_list``: input a `Listing`, output the values
    shown, or OK where the list leaves it out. A snapshot's output is the rows.

    Quirks:
    ``deleted-not-ok``: a batch that deleted everything it was asked to says ``"ok": false``
    (trigger: it says so);
    ``filter-ignored``: a list shows what its filter leaves out (trigger: such a filter).
    """

    name: str = "artifact"
    field: str = "id"
    absent: str = "artifact-not-found"
    known_quirks: frozenset[str] = frozenset({"deleted-not-ok", "filter-ignored"})

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            assert isinstance(op.output, tuple)
            return _left(state, op.output)
        if isinstance(op.input, Listing):
            reject = self._listed(state, op.input, op.output)
            return reject if reject is not None else (state,)
        if isinstance(op.input, Change):
            return self.change(state, op.input, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        assert isinstance(op.input, Artifact)
        if state is None:
            return (op.input if op.input.id else None,)
        if op.output is not None and op.output != state.id:
            return Reject(self.field, state.id, op.output)
        return (state,)

    def change(self, state: State, change: Change, output: Hashable) -> Sequence[State] | Reject:
        """The state behind a change, or why it cannot be."""
        found = state is not None and state.id == change.id
        if isinstance(output, Refusal) and change.successor and output.error == "no-successor":
            return (state,)
        invalid = isinstance(output, Refusal) and output.error == "invalid-input"
        if not change.valid and (found or invalid):
            reject = refused(output, "invalid-input", True)
        else:
            reject = refused(output, self.absent, not found)
        if reject is not None:
            return reject
        if output == DENIED and "deleted-not-ok" not in self.quirks:
            return Reject("ok", "true, as it is done", "false")
        if state is None or not found or not change.valid:
            return (state,)
        return (state.but(change.values) if change.values is not None else None,)

    def _listed(self, state: State, asked: Listing, output: Hashable) -> Reject | None:
        if output is None:
            return None
        if isinstance(output, Refusal):
            return spurious(output)
        if state is not None and not asked.asked and "filter-ignored" in self.quirks:
            return None
        due = state if asked.asked else None
        if due is None or output == OK:
            listed = ("listed" if there else "not listed" for there in (due, output != OK))
            return None if (due is None) == (output == OK) else Reject("sources", *listed)
        assert isinstance(output, tuple)
        shown = dict(due.values) | {"id": due.id}
        for name, seen in output:
            if shown.get(name) != seen:
                return Reject(f"sources.{name}", shown.get(name), seen)
        return None

    def pure(self, op: Op) -> bool:
        return (
            op.name == SNAPSHOT
            or isinstance(op.input, Listing)
            or isinstance(op.output, Refusal)
            or (isinstance(op.input, Change) and not op.input.valid)
        )

    def describe(self, state: State) -> str:
        return "no row" if state is None else f"row {state.id}"


def _left(state: State, rows: tuple[Artifact, ...]) -> Sequence[State] | Reject:
    if len(rows) != (state is not None):
        return Reject("rows", int(state is not None), len(rows))
    for row in rows:
        assert state is not None
        if row.id != state.id:
            return Reject("id", state.id, row.id)
        expected = dict(state.values)
        for name, seen in row.values:
            if expected.get(name) != seen:
                return Reject(name, expected.get(name), seen)
    return (state,)


def project_of(known: Facts, one: Logged, rows: Mapping[str, Any]) -> str:
    """The project of an artifact: as answered, as stored, or that of the session."""
    row = rows.get(one.id) or {}
    told = one.op.data.get("project_id") or row.get("project_id") or one.op.args.get("project_id")
    return str(told or known.project.get(one.session, ""))


def partitions(known: Facts) -> Iterator[Partition]:
    """One per (kind, project, normalised text) or (kind, id), and one per id that nothing has."""
    made = list(logged(known.operations, known.rows))
    changes = list(changed(known.operations, made))
    for kind in KINDS.values():
        if kind.name != "unknown":
            yield from _of_kind(known, kind, made, changes)


def _of_kind(
    known: Facts, kind: Kind, made: Sequence[Logged], changes: Sequence[Changed]
) -> Iterator[Partition]:
    ops: dict[str, list[Op]] = defaultdict(list)
    projected: dict[str, set[str]] = defaultdict(set)
    stored = {str(row[kind.id]): row for row in known.rows(kind.table)}
    home: dict[str, str] = {}
    for one in made:
        if one.kind is not kind:
            continue
        project = project_of(known, one, stored)
        if not project and kind.key:
            continue
        values = {**one.values, **({"session_id": one.session} if kind.name != "source" else {})}
        key = key_of(kind, project, {**values, kind.id: one.id})
        if not one.id and not kind.key and not isinstance(one.output, Refusal):
            continue
        if one.id:
            home[one.id] = key
        ops[key].append(op(one.op, Artifact(one.id, _values(values)), one.output))
    nothing: dict[str, list[Op]] = defaultdict(list)
    for change in changes:
        if change.kind is not kind:
            continue
        call = op(change.op, change_of(change), change.output)
        if change.id in home:
            ops[home[change.id]].append(call)
        elif change.op.tool != "log_artifacts":
            nothing[change.id].append(call)
    if kind.name == "source":
        for o in known.of("source_list"):
            for id, input, shown in _list_shows(o, home):
                ops[home[id]].append(op(o, input, answer(o, shown)))
                projected[home[id]].add(o.tool)
    left: dict[str, list[Artifact]] = defaultdict(list)
    for id, row in stored.items():
        key = key_of(kind, str(row.get("project_id") or ""), row)
        left[key].append(Artifact(id, _values({name: row.get(name) for name in _shown(kind, row)})))
    for key in ops:
        rows = tuple(left[key]) if known.snapshot is not None else None
        model = Artifacts(
            name=kind.name.replace("_", " "), field=kind.answer or "id", absent=kind.absent
        )
        yield partition(kind.name, _name(key), model, ops[key], rows, projected[key])
    for id, calls in nothing.items():
        yield partition(kind.name, id, Missing(error=kind.absent), calls)


def _name(key: str) -> str:
    """What is told of a key: its texts without the project, or its id."""
    project, _, texts = key.partition("\n")
    return texts.replace("\n", " / ") or project


def change_of(change: Changed) -> Change:
    """The change as its artifact sees it."""
    told = None if change.values is None else _values(change.values)
    return Change(change.id, told, change.valid, change.successor)


def _values(values: Mapping[str, Any]) -> Values:
    """Sorted, and hashable whatever was sent."""
    return tuple(sorted((name, _plain(value)) for name, value in values.items()))


def _plain(value: Any) -> Hashable:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, Hashable) else repr(value)


def _shown(kind: Kind, row: Mapping[str, Any]) -> Iterator[str]:
    names = [*kind.begins, *(column for column, _ in kind.columns.values())]
    if kind.name != "source":
        names.append("session_id")
    return (name for name in names if name in row)


def _list_shows(o: Operation, home: Mapping[str, str]) -> Iterator[tuple[str, Listing, Hashable]]:
    """What a list says of each source: the values shown, or that it is not there."""
    if not o.succeeded:
        return
    # Every source is a pointer, and noetic.
    asked = o.args.get("type") in (None, "pointer") and o.args.get("direction") in (
        None,
        "all",
        "noetic",
    )
    shown = {str(source.get("id")): source for source in o.data.get("sources") or ()}
    for id in home:
        source = shown.get(id)
        said: Hashable = OK
        if source is not None:
            told = {name: source.get(name) for name in ("title", "description", "confidence")}
            said = _values({**told, "id": id})
        yield id, Listing(asked), said
