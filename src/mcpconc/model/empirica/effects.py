"""What each call means to write, for the oracle `effects`.

Only whole columns are declared here. Marks inside JSON columns (staleness) and rows without a
column that tells them apart (checkpoints) are the models' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.empirica.artifact_effects import NOTES, artifact_effects
from mcpconc.model.empirica.assessments import vectors_of
from mcpconc.model.empirica.common import DATABASE
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.reflexes import RISKY
from mcpconc.model.spec import Companion, Effect, Mode

__all__ = ["NOTES", "effects_of"]

PHASES = {
    "submit_preflight_assessment": "PREFLIGHT",
    "submit_check_assessment": "CHECK",
    "submit_postflight_assessment": "POSTFLIGHT",
}


def effects_of(known: Facts) -> Iterator[Effect]:
    """The effects of all operations."""
    for o in known.operations:
        declare = DECLARED.get(o.tool)
        if declare is not None:
            yield from declare(known, o)
    yield from artifact_effects(known)


def _id(o: Operation, field: str) -> str | None:
    value = o.data.get(field) if o.succeeded else None
    return str(value) if value else None


def _where(o: Operation, id: str | None, *columns: str, name: str = "id") -> Mapping[str, Any]:
    """The row by its id, or by the first argument that carries the call's token."""
    if id is not None:
        return {name: id}
    for column in columns:
        value = o.args.get(column)
        if o.token and isinstance(value, str) and o.token in value:
            return {column: value}
    return {}


def _given(o: Operation, *names: str) -> dict[str, Any]:
    """Arguments that are stored as they are in columns of their name."""
    return {name: o.args[name] for name in names if isinstance(o.args.get(name), str)}


def _session_create(known: Facts, o: Operation) -> Iterator[Effect]:
    id = _id(o, "session_id")
    where = _where(o, id, "subject", name="session_id")
    if not where:
        return
    index = Companion(
        "workspace index", "global_sessions", {"session_id": id}, database="workspace"
    )
    yield Effect(
        call=o.call,
        mode=Mode.APPEND,
        kind="session",
        database=DATABASE,
        table="sessions",
        where=where,
        values=_given(o, "subject"),
        owner=_given(o, "ai_id"),
        id=id,
        companions=(index,) if id else (),
    )


def _assessment(known: Facts, o: Operation) -> Iterator[Effect]:
    phase = PHASES[o.tool]
    reasoning = o.args.get("reasoning")
    if not o.token or not isinstance(reasoning, str) or o.token not in reasoning:
        return
    session = _id(o, "session_id") or str(o.args.get("session_id") or "")
    vectors = vectors_of(o.args.get("vectors"))
    values: dict[str, Any] = dict(vectors or ())
    companions: tuple[Companion, ...] = ()
    if o.tool == "submit_check_assessment" and o.succeeded and o.data.get("round"):
        values["round"] = o.data["round"]
        again = values.get("uncertainty", 0) > RISKY or any(
            c.args.get("session_id") == session and c.args.get("phase") == phase
            for c in known.of("checkpoint_create")
        )
        # A checkpoint of the same phase and round replaces the note, by design.
        ref = f"{NOTES}/session/{session}/{phase}/{o.data['round']}"
        companions = (Companion("note", ref=ref, contains="" if again else o.token),)
    yield Effect(
        call=o.call,
        mode=Mode.APPEND,
        kind="reflexes",
        database=DATABASE,
        table="reflexes",
        where={"reasoning": reasoning, "phase": phase},
        values=values,
        owner={"session_id": session} if session else {},
        companions=companions,
    )


def _unknown_resolve(known: Facts, o: Operation) -> Iterator[Effect]:
    id = str(o.args.get("unknown_id"))
    yield Effect(
        call=o.call,
        mode=Mode.OVERWRITE,
        kind="unknown",
        database=DATABASE,
        table="project_unknowns",
        where={"id": id},
        values={"is_resolved": 1, **_given(o, "resolved_by")},
        target=id,
    )


def _goals_create(known: Facts, o: Operation) -> Iterator[Effect]:
    id = _id(o, "goal_id")
    where = _where(o, id, "description", "objective")
    if not where:
        return
    beside = (
        Companion("success criterion", "success_criteria", {"goal_id": id}),
        Companion("note", ref=f"{NOTES}/goals/{id}"),
    )
    yield Effect(
        call=o.call,
        mode=Mode.APPEND,
        kind="goal",
        database=DATABASE,
        table="goals",
        where=where,
        values={"status": "in_progress", **_given(o, "objective", "description", "status")},
        owner=_given(o, "session_id"),
        id=id,
        companions=beside if id else (),
    )


def _goal_status(known: Facts, o: Operation, values: Mapping[str, Any]) -> Effect:
    id = str(o.args.get("goal_id"))
    return Effect(
        call=o.call,
        mode=Mode.OVERWRITE,
        kind="goal",
        database=DATABASE,
        table="goals",
        where={"id": id},
        values=values,
        target=id,
    )


def _goals_complete(known: Facts, o: Operation) -> Iterator[Effect]:
    reason = o.args.get("reason") or "completed"
    values = {"status": "completed", "is_completed": 1, "completion_reason": reason}
    yield _goal_status(known, o, values)


def _goals_activate(known: Facts, o: Operation) -> Iterator[Effect]:
    yield _goal_status(known, o, {"status": "in_progress"})


def _goals_add_task(known: Facts, o: Operation) -> Iterator[Effect]:
    id = _id(o, "task_id")
    where = _where(o, id, "description")
    if where:
        yield Effect(
            call=o.call,
            mode=Mode.APPEND,
            kind="task",
            database=DATABASE,
            table="subtasks",
            where=where,
            values=_given(o, "description"),
            owner=_given(o, "goal_id"),
            id=id,
        )


def _goals_complete_task(known: Facts, o: Operation) -> Iterator[Effect]:
    id = str(o.args.get("task_id"))
    evidence = o.args.get("evidence")
    told = {"completion_evidence": evidence} if isinstance(evidence, str) else {}
    yield Effect(
        call=o.call,
        mode=Mode.OVERWRITE,
        kind="task",
        database=DATABASE,
        table="subtasks",
        where={"id": id},
        values={"status": "completed", **told},
        target=id,
    )


def _goals_add_dependency(known: Facts, o: Operation) -> Iterator[Effect]:
    id = _id(o, "dependency_id")
    where = _where(o, id, "description")
    if where:
        yield Effect(
            call=o.call,
            mode=Mode.APPEND,
            kind="dependency",
            database=DATABASE,
            table="goal_dependencies",
            where=where,
            values={"depends_on_goal_id": o.args.get("depends_on"), **_given(o, "description")},
            owner=_given(o, "goal_id"),
            id=id,
        )


def _handoff_create(known: Facts, o: Operation) -> Iterator[Effect]:
    session = _id(o, "session_id") or str(o.args.get("session_id") or "")
    if session:
        note = Companion("note", ref=f"{NOTES}/handoff/{session}", contains=o.token)
        yield Effect(
            call=o.call,
            mode=Mode.OVERWRITE,
            kind="handoff",
            database=DATABASE,
            table="handoff_reports",
            where={"session_id": session},
            values=_given(o, "task_summary", "next_session_context"),
            target=session,
            companions=(note,),
        )


def _issue_resolve(known: Facts, o: Operation) -> Iterator[Effect]:
    id = str(o.args.get("issue_id"))
    yield Effect(
        call=o.call,
        mode=Mode.OVERWRITE,
        kind="issue",
        database=DATABASE,
        table="auto_captured_issues",
        where={"id": id},
        values={"status": "resolved", **_given(o, "resolution")},
        target=id,
    )


DECLARED: Mapping[str, Callable[[Facts, Operation], Iterator[Effect]]] = {
    "session_create": _session_create,
    **dict.fromkeys(PHASES, _assessment),
    "unknown_resolve": _unknown_resolve,
    "goals_create": _goals_create,
    "goals_complete": _goals_complete,
    "goals_activate": _goals_activate,
    "goals_add_task": _goals_add_task,
    "goals_complete_task": _goals_complete_task,
    "goals_add_dependency": _goals_add_dependency,
    "handoff_create": _handoff_create,
    "issue_resolve": _issue_resolve,
}
