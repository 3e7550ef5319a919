"""What callers may leave out: the end of an id, and the session where the server knows one.

Models, effects and footprints see calls with both written out. What a call did not say at all is
kept apart (`Implied`), because which session it should have meant is a question of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from mcpconc.history import Operation, Outcome
from mcpconc.model.spec import whole
from mcpconc.snapshot import Row

__all__ = ["IMPLYING", "TAKES", "Implied", "spelled_out"]

MADE = {
    "session_id": ("session_create", "sessions", "session_id"),
    "goal_id": ("goals_create", "goals", "id"),
    "task_id": ("goals_add_task", "subtasks", "id"),
    "unknown_id": ("unknown_log", "project_unknowns", "id"),
}
"""Argument → the tool whose answer has such an id in a field of that name, table and column."""

TAKES = {
    **dict.fromkeys(
        (
            "submit_preflight_assessment",
            "submit_check_assessment",
            "submit_postflight_assessment",
        ),
        "session_id",
    ),
    **dict.fromkeys(
        (
            *("goals_add_task", "goals_get_tasks", "goals_progress", "goals_activate"),
            "goals_complete",
        ),
        "goal_id",
    ),
    "goals_complete_task": "task_id",
    "unknown_resolve": "unknown_id",
}
"""Tool → the argument that may be the beginning of an id. All others want the whole id."""

IMPLYING = frozenset(
    {
        *("finding_log", "unknown_log", "goals_create", "goals_mark_stale", "epistemics_list"),
        *("submit_check_assessment", "submit_postflight_assessment", "handoff_create"),
        *("deadend_log", "mistake_log", "assumption_log", "decision_log", "note"),
    }
)
"""Tools that find a session by themselves where they are not told one."""


@dataclass(frozen=True, slots=True)
class Implied:
    """A call that named no session, and the one that it was answered with: "" if it was refused
    for want of one, None if nobody knows."""

    operation: Operation
    session: str | None


def spelled_out(
    operations: Sequence[Operation],
    rows: Mapping[str, Sequence[Row]],
    sessions: Mapping[str, str] = MappingProxyType({}),
) -> tuple[tuple[Operation, ...], tuple[Implied, ...]]:
    """The operations with ids and sessions written out, and those that implied a session.

    A call that was refused because no session could be found did nothing, and is only among the
    latter. `rows` are those left, by table; `sessions` says in which one each token was stored, for
    not every answer does.
    """
    ids = {
        name: {str(o.data[name]) for o in operations if o.tool == tool and o.data.get(name)}
        | {str(row[column]) for row in rows.get(table, ())}
        for name, (tool, table, column) in MADE.items()
    }
    done: list[Operation] = []
    implied: list[Implied] = []
    for o in operations:
        name = TAKES.get(o.tool, "")
        if name and o.args.get(name) and isinstance(o.args[name], str):
            done.append(_whole(o, name, ids[name]))
        elif o.tool in IMPLYING and not o.args.get("session_id"):
            told = o.data.get("session_id") or sessions.get(o.token) if o.succeeded else None
            if o.outcome is Outcome.REFUSED and o.data.get("error") == "no-session":
                implied.append(Implied(o, ""))
                continue
            implied.append(Implied(o, str(told) if told else None))
            done.append(replace(o, args={**o.args, "session_id": told}) if told else o)
        else:
            done.append(o)
    return tuple(done), tuple(implied)


def _whole(o: Operation, name: str, ids: set[str]) -> Operation:
    return replace(o, args={**o.args, name: whole(str(o.args[name]), ids)})
