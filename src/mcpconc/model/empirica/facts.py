"""What is known of the objects of one run, from responses and from the snapshot.

Objects are named by the ids that the target gives them. A call that was never answered has no
id to tell; what it wrote is found by its token in the snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.history import Operation, Outcome
from mcpconc.model.empirica.common import DATABASE, same_objective, same_text, token_in
from mcpconc.model.empirica.shorthand import Implied, spelled_out
from mcpconc.snapshot import Row, Snapshot

__all__ = ["Facts", "blob", "facts"]

MESSAGES = "refs/notes/empirica/messages/"

TOKEN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "sessions": ("subject",),
    "reflexes": ("reasoning", "reflex_data"),
    "goals": ("description", "objective"),
    "subtasks": ("description",),
    "goal_dependencies": ("description",),
    "project_findings": ("subject", "finding", "finding_data"),
    "project_unknowns": ("subject", "unknown", "unknown_data"),
    "project_dead_ends": ("subject", "approach", "dead_end_data"),
    "mistakes_made": ("mistake",),
    "assumptions": ("assumption",),
    "decisions": ("rationale", "choice"),
    "notes": ("text",),
    "epistemic_sources": ("title",),
    "handoff_reports": ("task_summary",),
}
"""Table → the columns that hold the token of the call that inserted the row."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One run, indexed.

    `operations` leaves usage errors out: they did nothing. Ids and sessions are written out in
    the others (see `shorthand`); `implied` are those that named no session. `project` is
    session → project, `instance` agent → instance id ("" where the target knows none),
    `goal_of_task`, `session_of_goal`, `objective_of_goal` and `key_of_unknown` ((project,
    normalised text)) are by id; `written` is table → token → row, `message` token → what the bus
    keeps of it.
    """

    operations: tuple[Operation, ...]
    snapshot: Snapshot | None
    sessions: Mapping[str, Row | None]
    project: Mapping[str, str]
    instance: Mapping[int, str]
    goal_of_task: Mapping[str, str]
    session_of_goal: Mapping[str, str]
    objective_of_goal: Mapping[str, str]
    key_of_unknown: Mapping[str, tuple[str, str]]
    written: Mapping[str, Mapping[str, Row]]
    message: Mapping[str, Mapping[str, Any]]
    implied: tuple[Implied, ...]

    def rows(self, table: str) -> Sequence[Row]:
        return self.snapshot.rows(DATABASE, table) if self.snapshot is not None else ()

    def of(self, *tools: str) -> Iterator[Operation]:
        """The operations of these tools, in order of invocation."""
        return (o for o in self.operations if o.tool in tools)

    def row(self, operation: Operation, table: str) -> Row | None:
        """The row that carries this call's token."""
        return self.written.get(table, {}).get(operation.token) if operation.token else None

    def id(self, operation: Operation, field: str, table: str, column: str = "id") -> str:
        """The id of what a call made: from its response, else from its row; "" if neither."""
        said = operation.data.get(field) if operation.succeeded else None
        if said:
            return str(said)
        row = None if operation.outcome is Outcome.REFUSED else self.row(operation, table)
        return str(row[column]) if row is not None else ""


def facts(operations: Sequence[Operation], snapshot: Snapshot | None) -> Facts:
    """Index a run."""
    written: dict[str, dict[str, Row]] = {}
    rows: dict[str, Sequence[Row]] = {}
    for table, columns in TOKEN_COLUMNS.items():
        rows[table] = snapshot.rows(DATABASE, table) if snapshot is not None else ()
        found = written[table] = {}
        for row in rows[table]:
            token = token_in(*(row.get(column) for column in columns))
            if token:
                found.setdefault(token, row)
    said = [o for o in operations if o.outcome is not Outcome.USAGE]
    stored = {
        token: str(row["session_id"])
        for found in written.values()
        for token, row in found.items()
        if row.get("session_id")
    }
    done, implied = spelled_out(said, rows, stored)
    known = Facts(done, snapshot, {}, {}, {}, {}, {}, {}, {}, written, {}, implied)
    sessions: dict[str, Row | None] = {str(r["session_id"]): r for r in rows["sessions"]}
    project = {key: str(r.get("project_id") or "") for key, r in sessions.items() if r is not None}
    instance: dict[int, str] = {}
    tasks = {str(r["id"]): str(r["goal_id"]) for r in rows["subtasks"]}
    of_session = {str(r["id"]): str(r["session_id"]) for r in rows["goals"]}
    objective = {str(r["id"]): same_objective(r["objective"]) for r in rows["goals"]}
    unknown = {
        str(r["id"]): (str(r["project_id"]), same_text(r["unknown"]))
        for r in rows["project_unknowns"]
    }
    for o in done:
        if o.tool == "session_create" and (
            sid := known.id(o, "session_id", "sessions", "session_id")
        ):
            made = sessions.setdefault(sid, None)
            project.setdefault(sid, str(o.data.get("project_id") or ""))
            if made is not None:
                instance[o.agent] = str(made.get("instance_id") or "")
        elif o.tool == "goals_create" and (gid := known.id(o, "goal_id", "goals")):
            of_session.setdefault(gid, str(o.data.get("session_id") or o.args.get("session_id")))
            objective.setdefault(gid, same_objective(o.args.get("objective", "")))
        elif o.tool == "goals_add_task" and (tid := known.id(o, "task_id", "subtasks")):
            tasks.setdefault(tid, str(o.args.get("goal_id")))
        elif o.tool == "unknown_log" and (uid := known.id(o, "unknown_id", "project_unknowns")):
            key = (str(o.data.get("project_id")), same_text(o.args.get("unknown", "")))
            unknown.setdefault(uid, key)
    return Facts(
        operations=done,
        snapshot=snapshot,
        sessions=sessions,
        project=project,
        instance=instance,
        goal_of_task=tasks,
        session_of_goal=of_session,
        objective_of_goal=objective,
        key_of_unknown=unknown,
        written=written,
        message=_messages(snapshot),
        implied=implied,
    )


def _messages(snapshot: Snapshot | None) -> Mapping[str, Mapping[str, Any]]:
    """Token → message, of all those that carry a token."""
    found: dict[str, Mapping[str, Any]] = {}
    for ref, texts in (snapshot.notes if snapshot is not None else {}).items():
        for text in texts.values() if ref.startswith(MESSAGES) else ():
            message = blob({"note": text}, "note")
            token = token_in(message.get("body"))
            if token:
                found.setdefault(token, message)
    return found


def blob(row: Row, column: str) -> Mapping[str, Any]:
    """A JSON column as an object; empty where it is missing or is no object."""
    try:
        value = json.loads(row.get(column) or "{}")
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
