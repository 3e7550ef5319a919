"""What the snapshot and the reads say beside the models: which call wrote each row, and in what
orders rows are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.empirica.batches import dry
from mcpconc.model.empirica.batches import logged as artifacts_of
from mcpconc.model.empirica.common import answer, token_in
from mcpconc.model.empirica.effects import PHASES
from mcpconc.model.empirica.facts import TOKEN_COLUMNS, Facts, blob
from mcpconc.model.empirica.kinds import KINDS
from mcpconc.model.empirica.sessions import closed_by
from mcpconc.model.empirica.unknowns import LIST_LIMIT
from mcpconc.model.spec import Log, Seen
from mcpconc.snapshot import Row

__all__ = ["attributed", "lists_seen", "logged"]

MADE: Mapping[str, tuple[str, str, str, str]] = {
    "sessions": ("session", "session_create", "session_id", "session_id"),
    "goals": ("goal", "goals_create", "goal_id", "id"),
    "subtasks": ("task", "goals_add_task", "task_id", "id"),
    "goal_dependencies": ("dependency", "goals_add_dependency", "dependency_id", "id"),
}
"""Table → (kind, tool that inserts, field of its answer, column) that name a row."""

UNREASONED = "Batch deletion — non-pertinent"
"""What is written down of a deletion for which no reason was given."""


def attributed(known: Facts) -> Iterator[tuple[str, str, str, str]]:
    """(kind, table, row id, call) of each row of the modelled tables; call "" if none wrote it.

    Empirica's template holds no row of these tables, so all are the run's.
    """
    tokens = {o.token: o for o in known.operations if o.token}
    for table, (kind, tool, field, column) in MADE.items():
        answered = {str(o.data[field]): o for o in known.of(tool) if o.data.get(field)}
        for row in known.rows(table):
            # Of de-duplicated calls only the one whose words are in the row inserted it.
            writer = tokens.get(token_in(*(row.get(c) for c in TOKEN_COLUMNS[table])))
            if writer is None or writer.tool != tool:
                writer = answered.get(str(row[column]))
            yield (kind, table, str(row[column]), writer.call if writer is not None else "")
    yield from _artifacts_attributed(known, tokens)
    closing = defaultdict(list)
    for o in known.of("session_create"):
        for sid in closed_by(o):
            closing[sid].append(o)
    maybe = [o for o in known.of("session_create") if answer(o, "") is None]
    for row in known.rows("reflexes"):
        kind, writer = _reflex_writer(known, row, tokens, closing, maybe)
        yield (kind, "reflexes", str(row["id"]), writer.call if writer is not None else "")


def _artifacts_attributed(
    known: Facts, tokens: Mapping[str, Operation]
) -> Iterator[tuple[str, str, str, str]]:
    """As `attributed`, of artifacts; what is written down of a deletion is a decision too."""
    made = list(artifacts_of(known.operations, known.rows))
    deletions = [o for o in known.of("delete_artifacts") if not dry(o)]
    for kind in KINDS.values():
        makers = {one.op.call for one in made if one.kind is kind}
        answered = {one.id: one.op for one in made if one.kind is kind and one.output == one.id}
        for row in known.rows(kind.table):
            name, id = kind.name, str(row[kind.id])
            writer = tokens.get(token_in(*(row.get(c) for c in TOKEN_COLUMNS[kind.table])))
            if writer is None or writer.call not in makers:
                writer = answered.get(id)
            if writer is None and kind.name == "decision":
                reasons = {o.args.get("reason") or UNREASONED: o for o in reversed(deletions)}
                name, writer = "audit", reasons.get(row.get("rationale"))
            yield (name, kind.table, id, writer.call if writer is not None else "")


def _reflex_writer(
    known: Facts,
    row: Row,
    tokens: Mapping[str, Operation],
    closing: dict[str, list[Operation]],
    maybe: list[Operation],
) -> tuple[str, Operation | None]:
    data, session = blob(row, "reflex_data"), str(row["session_id"])
    if data.get("auto_closed"):
        listed = closing.get(session)
        return ("automatic close", listed.pop(0) if listed else next(iter(maybe), None))
    writer = tokens.get(token_in(row.get("reasoning")) or token_in(data))
    if writer is None:
        phase = row["phase"]
        alike = (
            o
            for o in known.of(*PHASES, "checkpoint_create")
            if not o.token
            and PHASES.get(o.tool, o.args.get("phase")) == phase
            and session in (o.args.get("session_id"), o.data.get("session_id"))
        )
        writer = next(alike, None)
    kind = "checkpoint" if row.get("reasoning") is None else "reflexes"
    return (kind, writer)


def logged(known: Facts) -> Iterator[Log]:
    """Every list in the order of commits, with what the target orders or numbers it by."""
    calls = {(table, id): call for _, table, id, call in attributed(known)}
    for table, kind, group, column in (
        ("reflexes", "reflexes", "session_id", "timestamp"),
        ("goals", "goal", "project_id", "created_timestamp"),
        ("subtasks", "task", "goal_id", "created_timestamp"),
        ("project_unknowns", "unknown", "project_id", "created_timestamp"),
        ("epistemic_sources", "source", "project_id", "discovered_at"),
    ):
        lists: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for row in known.rows(table):
            entry = (calls.get((table, str(row["id"])), ""), row.get(column))
            lists[str(row.get(group))].append(entry)
        for key, rows in lists.items():
            yield Log(kind, key, column, tuple(rows))
    rounds: dict[tuple[str, str], list[tuple[str, Any]]] = defaultdict(list)
    for row in known.rows("reflexes"):
        if row.get("reasoning") is not None:  # checkpoints do not number on
            entry = (calls.get(("reflexes", str(row["id"])), ""), row.get("round"))
            rounds[str(row["session_id"]), str(row["phase"])].append(entry)
    for (session, phase), rows in rounds.items():
        yield Log("reflexes", f"{session} {phase}", "round", tuple(rows), distinct=True)


def lists_seen(known: Facts) -> Iterator[Seen]:
    """Reads of lists whose past cannot change, oldest entry first."""
    for o in known.operations:
        if not o.succeeded:
            continue
        session = str(o.args.get("session_id"))
        if o.tool == "epistemics_list" or (o.tool == "epistemics_show" and not o.args.get("phase")):
            shown = o.data.get("trajectories") or ()
            ids = tuple(f"{t.get('phase')} {t.get('timestamp')}" for t in shown)
            yield Seen(o.call, "reflexes", session, ids)
        elif o.tool == "goals_get_tasks":
            ids = tuple(str(t["task_id"]) for t in o.data.get("tasks") or ())
            yield Seen(o.call, "task", str(o.args.get("goal_id")), ids)
        elif o.tool == "unknown_list" and not o.args.get("subject"):
            ids = tuple(str(u["id"]) for u in reversed(o.data.get("unknowns") or ()))
            limit = o.args.get("limit", LIST_LIMIT)
            whole = bool(o.args.get("all")) and not 0 <= limit <= len(ids)
            project = str((o.data.get("filters") or {}).get("project_id"))
            yield Seen(o.call, "unknown", project, ids, complete=whole)
        elif o.tool == "source_list":
            shown = o.data.get("sources") or ()
            ids = tuple(str(source.get("id")) for source in reversed(shown))
            whole = not {"type", "direction"} & o.args.keys()
            yield Seen(o.call, "source", str(o.data.get("project_id")), ids, complete=whole)
        elif o.tool == "goals_list":
            # Goals come and go between the two lists by being completed.
            ids = tuple(str(g["goal_id"]) for g in reversed(o.data.get("goals") or ()))
            project = str((o.data.get("filters") or {}).get("project_id"))
            yield Seen(o.call, "goal", project, ids, complete=False)
