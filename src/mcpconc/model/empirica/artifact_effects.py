"""What calls on artifacts mean to write, for the oracle `effects`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcpconc.history import Outcome
from mcpconc.model.empirica.artifacts import project_of
from mcpconc.model.empirica.batches import Changed, Logged, changed, dry, logged
from mcpconc.model.empirica.common import DATABASE, Refusal
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.kinds import key_of
from mcpconc.model.spec import Companion, Effect, Mode

__all__ = ["DECLARED_HERE", "NOTES", "artifact_effects"]

NOTES = "refs/notes/empirica"

DECLARED_HERE = frozenset(
    {
        *("finding_log", "unknown_log", "deadend_log", "mistake_log", "assumption_log"),
        *("decision_log", "note", "log_artifacts", "finding_resolve", "resolve_artifacts"),
        *("update_artifacts", "delete_artifacts"),
    }
)


def artifact_effects(known: Facts) -> Iterator[Effect]:
    """The effects of all calls that log, close, correct or delete artifacts."""
    made = list(logged(known.operations, known.rows))
    for one in made:
        unclear = one.output is None and one.op.answered
        refused = isinstance(one.output, Refusal) and one.op.outcome is not Outcome.REFUSED
        if not refused and not unclear:
            yield _logs(known, one)
    for change in changed(known.operations, made):
        unclear = change.output is None and change.op.answered
        if not isinstance(change.output, Refusal) and change.valid and not unclear:
            yield _changes(change)
    for o in known.of("delete_artifacts"):
        reason = o.args.get("reason")
        if o.data.get("audit") == "recorded" and isinstance(reason, str) and not dry(o):
            yield Effect(
                call=o.call,
                mode=Mode.APPEND,
                kind="audit",
                database=DATABASE,
                table="decisions",
                where={"rationale": reason},
            )


def _logs(known: Facts, one: Logged) -> Effect:
    kind = one.kind
    given = {
        column: one.values[column]
        for name, (column, _) in kind.columns.items()
        if isinstance(one.values[column], str) and name in one.args
    }
    where: Mapping[str, Any] = {kind.id: one.id} if one.id else _by_token(one, given)
    note = Companion("note", ref=f"{NOTES}/{kind.notes}/{one.id}")
    return Effect(
        call=one.op.call,
        mode=Mode.DEDUPLICATE if kind.key else Mode.APPEND,
        kind=kind.name,
        database=DATABASE,
        table=kind.table,
        where=where,
        values=given,
        owner={"session_id": one.session} if one.session and kind.name != "source" else {},
        key=key_of(kind, project_of(known, one, {}), one.values) if kind.key else "",
        id=one.id or None,
        companions=(note,) if one.id and kind.notes else (),
    )


def _by_token(one: Logged, given: Mapping[str, str]) -> Mapping[str, Any]:
    for column, text in given.items():
        if one.op.token and one.op.token in text:
            return {column: text}
    return {}


def _changes(change: Changed) -> Effect:
    deletes = change.values is None
    return Effect(
        call=change.op.call,
        mode=Mode.DELETE if deletes else Mode.OVERWRITE,
        kind=change.kind.name,
        database=DATABASE,
        table=change.kind.table,
        where={change.kind.id: change.id},
        values=change.values or {},
        target=change.id,
    )
