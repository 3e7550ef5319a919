"""The operations of one run, as the models of goals see them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition
from mcpconc.model.empirica.common import OK, Refusal, answer, op, partition
from mcpconc.model.empirica.facts import Facts, blob
from mcpconc.model.empirica.goals import Goal, GoalModel, Shown, Task
from mcpconc.model.empirica.missing import missing
from mcpconc.snapshot import Row

__all__ = ["goal_left", "partitions"]

ON_GOAL = (
    *("goals_add_task", "goals_complete", "goals_activate", "goals_refresh"),
    *("goals_get_tasks", "goals_progress"),
)


def partitions(known: Facts) -> Iterator[Partition]:
    """One per goal that the run made or named, and one per task that nothing has."""
    ops: dict[str, list[Op]] = defaultdict(list)
    projected: dict[str, set[str]] = defaultdict(set)
    for o in known.of("goals_create"):
        gid = known.id(o, "goal_id", "goals")
        if gid:
            ops[gid].append(op(o, str(o.args.get("status") or "in_progress"), answer(o, OK)))
    for o in known.of(*ON_GOAL):
        if o.args.get("goal_id"):
            ops[str(o.args["goal_id"])].append(_on_goal(known, o))
    for o in known.of("goals_complete_task"):
        gid = known.goal_of_task.get(str(o.args.get("task_id")), "")
        if gid:
            ops[gid].append(op(o, (str(o.args["task_id"]), o.args.get("evidence")), answer(o, OK)))
    made = {gid: None for gid in known.session_of_goal if gid in ops}
    of_session: dict[str, list[str]] = defaultdict(list)
    for gid in made:
        of_session[known.session_of_goal[gid]].append(gid)
    for o in known.of("goals_mark_stale"):
        for gid in of_session.get(str(o.args.get("session_id")), ()):
            if not _refused(o):
                reason = str(o.args.get("reason") or "memory_compact")
                ops[gid].append(op(o, reason, answer(o, OK)))
    for o in known.of("goals_list"):
        for gid, shown in _list_shows(known, o, made):
            ops[gid].append(op(o, bool(o.args.get("completed")), answer(o, shown)))
            projected[gid].add(o.tool)
    left = {str(row["id"]): row for row in known.rows("goals")}
    tasks: dict[str, list[Row]] = defaultdict(list)
    for row in known.rows("subtasks"):
        tasks[str(row["goal_id"])].append(row)
    for gid in ops:
        snapshot = None
        if known.snapshot is not None:
            snapshot = goal_left(left.get(gid), tasks.get(gid, []))
        yield partition("goal", gid, GoalModel(), ops[gid], snapshot, projected[gid])
    lost = (o for o in known.of("goals_complete_task") if not _task_known(known, o))
    yield from missing("task", "task-not-found", ((str(o.args.get("task_id")), o) for o in lost))


def _task_known(known: Facts, o: Operation) -> bool:
    return str(o.args.get("task_id")) in known.goal_of_task


def _refused(o: Operation) -> bool:
    return isinstance(answer(o, OK), Refusal)


def _on_goal(known: Facts, o: Operation) -> Op:
    said: Hashable = OK
    input: Hashable = None
    detail: Hashable = None
    if o.tool == "goals_add_task":
        input = (known.id(o, "task_id", "subtasks") or None, str(o.args.get("description")))
    elif o.tool == "goals_complete":
        input = str(o.args.get("reason") or "completed")
    elif o.tool == "goals_activate":
        detail = _status_told(str(o.data.get("message", "")))
    elif o.tool == "goals_progress":
        said = (o.data.get("total_subtasks"), o.data.get("completed_subtasks"))
    elif o.tool == "goals_get_tasks":
        said = frozenset(
            (str(t["task_id"]), t["description"], t["status"] == "completed", _evidence(t))
            for t in o.data.get("tasks") or ()
        )
    return op(o, input, answer(o, said, detail))


def _evidence(task: Any) -> str | None:
    evidence = task.get("completion_evidence")
    return None if evidence is None else str(evidence)


def _status_told(message: str) -> str | None:
    """The status that a refused `goals_activate` says the goal has."""
    if "is already in_progress" in message:
        return "in_progress"
    before, found, _ = message.partition(", not planned")
    return before.rsplit(" ", 1)[-1] if found else None


def _list_shows(
    known: Facts, o: Operation, made: Collection[str]
) -> Iterator[tuple[str, Hashable]]:
    """What a list says of each goal of which it says anything: not of one that is cut off, or
    in another project."""
    if not o.succeeded:
        if _refused(o):
            yield from ((gid, OK) for gid in made)
        return
    shown = {str(goal.get("goal_id")): goal for goal in reversed(o.data.get("goals") or ())}
    for gid, goal in shown.items():
        if gid in made:
            yield (
                gid,
                Shown(
                    status=str(goal.get("status")),
                    is_completed=bool(goal.get("is_completed")),
                    progress=str(goal.get("progress")),
                    reason=goal.get("completion_reason"),
                ),
            )
    project = (o.data.get("filters") or {}).get("project_id")
    if o.data.get("truncated") or project is None:
        return
    for gid in made:
        if gid not in shown and known.project.get(known.session_of_goal[gid]) == project:
            yield gid, OK


def goal_left(row: Row | None, tasks: list[Row]) -> tuple[Goal, bool]:
    """A goal's rows as the model knows them, with the column `is_completed`."""
    if row is None:
        return (Goal(tasks=frozenset(_task(t) for t in tasks)), False)
    metadata = blob(row, "goal_data").get("metadata") or {}
    goal = Goal(
        status=str(row.get("status")),
        reason=row.get("completion_reason"),
        stale=metadata.get("stale_reason") if metadata.get("stale_since") else None,
        tasks=frozenset(_task(t) for t in tasks),
    )
    return (goal, bool(row.get("is_completed")))


def _task(row: Row) -> Task:
    copy = blob(row, "subtask_data")
    return Task(
        id=str(row["id"]),
        description=str(row["description"]),
        done=row.get("status") == "completed",
        evidence=row.get("completion_evidence"),
        told=_evidence(copy),
    )
