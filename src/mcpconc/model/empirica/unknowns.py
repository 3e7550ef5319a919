"""Unknowns: one row per project and text, open until it is resolved.

Logging a text once more answers the id of the row that is there, also of a resolved one.
Resolving is repeatable; the last one's words stay. What is deleted is gone, and its text is free
again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.artifacts import Artifact, Artifacts, Change, change_of, project_of
from mcpconc.model.empirica.batches import changed, logged
from mcpconc.model.empirica.common import (
    OK,
    Quirky,
    Refusal,
    answer,
    op,
    partition,
    refused,
    same_text,
    spurious,
)
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.missing import Missing, missing

__all__ = ["Unknown", "Unknowns", "partitions"]

LIST_LIMIT = 30


@dataclass(frozen=True, slots=True)
class Unknown:
    """One row."""

    id: str
    resolved: bool = False
    resolved_by: str | None = None


State = Unknown | None
Key = tuple[str, str]
"""Project, normalised text."""


@dataclass(frozen=True)
class Unknowns(Quirky):
    """State: the row of one (project, text), if there is one.

    ``unknown_log``: input is the id that the row has if this call makes it ("" where nobody
    knows), output the id answered. ``unknown_resolve``: input is (id, resolved_by).
    Batches that change it: input a `Change`. ``unknown_list``: input is which it asks for (open,
    resolved, all), output the `Unknown` shown, or OK where the list leaves it out. A snapshot's
    output is the rows of this text.

    Quirk ``deleted-not-ok``: as for other artifacts.
    """

    name: str = "unknown"
    known_quirks: frozenset[str] = frozenset({"deleted-not-ok"})

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            assert isinstance(op.output, tuple)
            return _left(state, op.output)
        if op.name == "unknown_list":
            reject = _listed(state, op)
            return reject if reject is not None else (state,)
        if op.name == "unknown_resolve":
            return _resolve(state, op)
        if isinstance(op.input, Change):
            return self._change(state, op.input, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if state is None:
            return (Unknown(str(op.input)) if op.input else None,)
        if op.output is not None and op.output != state.id:
            return Reject("unknown_id", state.id, op.output)
        return (state,)

    def _change(self, state: State, change: Change, output: Hashable) -> Sequence[State] | Reject:
        row = None
        if state is not None:
            told = (("is_resolved", state.resolved), ("resolved_by", state.resolved_by))
            row = Artifact(state.id, told)
        model = Artifacts(absent="unknown-not-found", quirks=self.quirks)
        after = model.change(row, change, output)
        return after if isinstance(after, Reject) else tuple(map(_seen_as, after))

    def pure(self, op: Op) -> bool:
        return op.name in ("unknown_list", SNAPSHOT) or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        if state is None:
            return "no row"
        return f"resolved by {state.resolved_by!r}" if state.resolved else "open"


def _seen_as(row: Artifact | None) -> State:
    if row is None:
        return None
    told = dict(row.values)
    by = told["resolved_by"]
    return Unknown(row.id, bool(told["is_resolved"]), None if by is None else str(by))


def _resolve(state: State, op: Op) -> Sequence[State] | Reject:
    assert isinstance(op.input, tuple)
    id, by = op.input
    found = state is not None and state.id == id
    reject = refused(op.output, "unknown-not-found", not found)
    if reject is not None:
        return reject
    if not found:
        return (state,)
    assert state is not None
    return (replace(state, resolved=True, resolved_by=by),)


def _listed(state: State, op: Op) -> Reject | None:
    if op.output is None:
        return None
    if isinstance(op.output, Refusal):
        return spurious(op.output)
    asked = {"open": (False,), "resolved": (True,), "all": (False, True)}[str(op.input)]
    due = state if state is not None and state.resolved in asked else OK
    if due == op.output:
        return None
    if isinstance(due, Unknown) and isinstance(op.output, Unknown):
        for name in ("id", "resolved", "resolved_by"):
            if getattr(due, name) != getattr(op.output, name):
                return Reject(f"unknowns.{name}", getattr(due, name), getattr(op.output, name))
    listed = ("not listed" if told == OK else "listed" for told in (due, op.output))
    return Reject("unknowns", *listed)


def _left(state: State, rows: tuple[Unknown, ...]) -> Sequence[State] | Reject:
    if len(rows) != (state is not None):
        return Reject("rows", int(state is not None), len(rows))
    for row in rows:
        for name in ("id", "resolved", "resolved_by"):
            expected, seen = getattr(state, name), getattr(row, name)
            if expected != seen:
                return Reject(name, expected, seen)
    return (state,)


def partitions(known: Facts) -> Iterator[Partition]:
    """One per (project, normalised text), and one per id that nothing has."""
    ops: dict[Key, list[Op]] = defaultdict(list)
    projected: dict[Key, set[str]] = defaultdict(set)
    stored = {str(row["id"]): row for row in known.rows("project_unknowns")}
    made = list(logged(known.operations, known.rows))
    home = dict(known.key_of_unknown)
    for one in made:
        if one.kind.name == "unknown" and one.id:
            project = project_of(known, one, stored)
            key = home.setdefault(one.id, (project, same_text(str(one.values["unknown"]))))
            ops[key].append(op(one.op, one.id, one.output))
    nothing: list[tuple[str, Operation]] = []
    for o in known.of("unknown_resolve"):
        id = str(o.args.get("unknown_id"))
        if id in home:
            ops[home[id]].append(op(o, (id, o.args.get("resolved_by")), answer(o, OK)))
        else:
            nothing.append((id, o))
    absent: dict[str, list[Op]] = defaultdict(list)
    for change in changed(known.operations, made):
        if change.kind.name == "unknown":
            calls = ops[home[change.id]] if change.id in home else absent[change.id]
            calls.append(op(change.op, change_of(change), change.output))
    for o in known.of("unknown_list"):
        for key, shown in _list_shows(o, ops):
            ops[key].append(op(o, _asked(o), answer(o, shown)))
            projected[key].add(o.tool)
    rows: dict[Key, list[Unknown]] = defaultdict(list)
    for row in known.rows("project_unknowns"):
        key = (str(row["project_id"]), same_text(row["unknown"]))
        rows[key].append(
            Unknown(str(row["id"]), bool(row.get("is_resolved")), row.get("resolved_by"))
        )
    for key in ops:
        left = tuple(rows[key]) if known.snapshot is not None else None
        yield partition("unknown", key[1], Unknowns(), ops[key], left, projected[key])
    yield from missing("unknown", "unknown-not-found", nothing)
    for id, calls in absent.items():
        yield partition("unknown", id, Missing(error="unknown-not-found"), calls)


def _asked(o: Operation) -> str:
    if o.args.get("all"):
        return "all"
    return "resolved" if o.args.get("resolved") else "open"


def _list_shows(o: Operation, keys: Collection[Key]) -> Iterator[tuple[Key, Hashable]]:
    """What a list says of each unknown of which it says anything."""
    if not o.succeeded or o.args.get("subject"):
        return
    project = str((o.data.get("filters") or {}).get("project_id"))
    shown = o.data.get("unknowns") or ()
    rows = {same_text(row.get("unknown", "")): row for row in reversed(shown)}
    for text, row in rows.items():
        if (project, text) in keys:
            told = Unknown(str(row["id"]), bool(row.get("is_resolved")), row.get("resolved_by"))
            yield (project, text), told
    if not 0 <= o.args.get("limit", LIST_LIMIT) <= len(shown):
        yield from ((key, OK) for key in keys if key[0] == project and key[1] not in rows)
