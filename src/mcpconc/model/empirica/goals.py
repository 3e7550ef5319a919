"""Goals and their tasks, one partition per goal.

A goal is planned, in progress or completed; completing is possible at any time and repeatable,
activating only while it is planned. Being stale is a mark on an open goal. Tasks are added and
completed whatever the goal's status, and a task's evidence is overwritten each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.empirica.common import OK, Quirky, Refusal, refused, spurious

__all__ = ["Goal", "GoalModel", "Shown", "Task"]

RULES = {
    "spurious-goal-not-found": "No call removes a goal: once made it is always found.",
    "spurious-task-not-found": "No call removes a task: once added it is found.",
    "total_subtasks": "No call removes a task or undoes it, nor does completing its goal.",
}

READS = frozenset({"goals_get_tasks", "goals_progress", "goals_list", SNAPSHOT})


@dataclass(frozen=True, slots=True)
class Task:
    """`evidence` is the column's, `told` the evidence that reads tell (from the JSON copy)."""

    id: str
    description: str
    done: bool = False
    evidence: str | None = None
    told: str | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What a goal is. `status` is "" while there is none."""

    status: str = ""
    reason: str | None = None
    stale: str | None = None
    tasks: frozenset[Task] = frozenset()

    @property
    def exists(self) -> bool:
        return bool(self.status)

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, slots=True)
class Shown:
    """How `goals_list` shows a goal."""

    status: str
    is_completed: bool
    progress: str
    reason: str | None = None


State = Goal


@dataclass(frozen=True)
class GoalModel(Quirky):
    """State: the `Goal`.

    Inputs: ``goals_create`` its status; ``goals_add_task`` (task id or None, description);
    ``goals_complete_task`` (task id, evidence); ``goals_complete`` and ``goals_mark_stale`` the
    reason; ``goals_list`` whether it asks for completed goals. Outputs: ``goals_get_tasks`` a
    frozenset of (id, description, done, evidence), ``goals_progress`` (total, completed),
    ``goals_list`` `Shown` or OK where it leaves the goal out, a snapshot (`Goal`, is_completed).

    Quirk ``evidence-cleared``: completing a task once more without evidence clears the column
    and leaves the JSON copy (trigger: no evidence given, and the task has some).
    """

    name: str = "goal"
    known_quirks: frozenset[str] = field(default=frozenset({"evidence-cleared"}))

    def initial(self) -> State:
        return Goal()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name in READS:
            reject = _read(state, op)
            return reject if reject is not None else (state,)
        if op.name == "goals_create":
            if state.exists or isinstance(op.output, Refusal):
                return Reject("goal_id", "a new goal", op.output)
            return (replace(state, status=str(op.input)),)
        if op.name == "goals_mark_stale":
            marked = state.exists and not state.completed
            return (replace(state, stale=str(op.input)) if marked else state,)
        if op.name == "goals_complete_task":
            return self._complete_task(state, op)
        if op.name == "goals_activate" and state.exists:
            return _activate(state, op)
        if op.name == "goals_refresh":
            due = state.stale is None or state.completed
            reject = refused(op.output, "not-stale", due)
            if reject is not None:
                return reject
            return (state if due else replace(state, stale=None),)
        reject = refused(op.output, "goal-not-found", not state.exists)
        if reject is not None:
            return reject
        if not state.exists:
            return (state,)
        if op.name == "goals_complete":
            return (replace(state, status="completed", reason=str(op.input)),)
        if op.name == "goals_add_task":
            return _add_task(state, op)
        raise ValueError(f"no goal operation: {op.name}")

    def _complete_task(self, state: State, op: Op) -> Sequence[State] | Reject:
        assert isinstance(op.input, tuple)
        id, evidence = op.input
        task = next((t for t in state.tasks if t.id == id), None)
        reject = refused(op.output, "task-not-found", task is None)
        if reject is not None:
            return reject
        if task is None:
            return (state,)
        done = replace(task, done=True)
        if evidence is not None:
            done = replace(done, evidence=evidence, told=evidence)
        others = state.tasks - {task}
        result = [replace(state, tasks=others | {done})]
        if evidence is None and task.evidence is not None and "evidence-cleared" in self.quirks:
            result.append(replace(state, tasks=others | {replace(done, evidence=None)}))
        return result

    def pure(self, op: Op) -> bool:
        return op.name in READS or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        return RULES.get(field, "")

    def describe(self, state: State) -> str:
        if not state.exists:
            return "no such goal"
        done = sum(t.done for t in state.tasks)
        stale = ", stale" if state.stale is not None else ""
        return f"{state.status}{stale}, {done} of {len(state.tasks)} tasks done"


def _activate(state: State, op: Op) -> Sequence[State] | Reject:
    due = state.status != "planned"
    reject = refused(op.output, "not-planned", due)
    if reject is not None:
        return reject
    if isinstance(op.output, Refusal) and op.output.detail not in (None, state.status):
        return Reject("status", state.status, op.output.detail)
    return (state if due else replace(state, status="in_progress"),)


def _add_task(state: State, op: Op) -> Sequence[State] | Reject:
    assert isinstance(op.input, tuple)
    id, description = op.input
    if id is None:
        return (state,)
    if any(t.id == id for t in state.tasks):
        return Reject("task_id", "a new task", id)
    return (replace(state, tasks=state.tasks | {Task(id, description)}),)


def _read(state: State, op: Op) -> Reject | None:
    if op.output is None:
        return None
    if op.name == SNAPSHOT:
        assert isinstance(op.output, tuple)
        return _left(state, *op.output)
    if op.name == "goals_get_tasks":
        due = frozenset((t.id, t.description, t.done, t.told) for t in state.tasks)
        if isinstance(op.output, Refusal) or not due:
            return refused(op.output, "no-tasks", not due)
        return None if op.output == due else Reject("tasks", due, op.output)
    if op.name == "goals_progress":
        if isinstance(op.output, Refusal) or not state.exists:
            return refused(op.output, "goal-not-found", not state.exists)
        counts = (len(state.tasks), sum(t.done for t in state.tasks))
        if op.output == counts:
            return None
        return Reject("total_subtasks", _counted(counts), _counted(op.output))
    return _listed(state, op)


def _counted(counts: object) -> object:
    return "{} ({} completed)".format(*counts) if isinstance(counts, tuple) else counts


def _tasks(progress: str) -> str:
    done, _, number = progress.partition("/")
    return f"{progress} ({done} of {number} tasks done)" if number else progress


def _listed(state: State, op: Op) -> Reject | None:
    if isinstance(op.output, Refusal):
        return spurious(op.output)
    listed = state.exists and state.completed == op.input
    if not listed or op.output == OK:
        if listed == (op.output != OK):
            return None
        seen = "not listed" if op.output == OK else "listed"
        return Reject("goals", "listed" if listed else "not listed", seen)
    assert isinstance(op.output, Shown)
    progress = f"{sum(t.done for t in state.tasks)}/{len(state.tasks)}"
    due = Shown(state.status, state.completed, progress, state.reason)
    for name in ("status", "is_completed", "progress", "reason"):
        expected, seen = getattr(due, name), getattr(op.output, name)
        if expected != seen:
            words = [_tasks(v) if name == "progress" else v for v in (expected, seen)]
            return Reject(f"goals.{name}", *words)
    return None


def _left(state: State, goal: Goal, is_completed: bool) -> Reject | None:
    """Where the rows left differ from what they should be."""
    if goal.exists != state.exists:
        return Reject("rows", state.exists, goal.exists)
    for name in ("status", "reason", "stale"):
        expected, seen = getattr(state, name), getattr(goal, name)
        if expected != seen:
            return Reject(name, expected, seen)
    if state.completed != is_completed:
        return Reject("is_completed", state.completed, is_completed)
    due, seen_tasks = {t.id: t for t in state.tasks}, {t.id: t for t in goal.tasks}
    if due.keys() != seen_tasks.keys():
        return Reject("tasks", sorted(due), sorted(seen_tasks))
    for id, task in due.items():
        for name in ("description", "done", "evidence", "told"):
            expected, seen = getattr(task, name), getattr(seen_tasks[id], name)
            if expected != seen:
                return Reject(f"tasks.{name}", expected, seen)
    return None
