"""Long histories of an Empirica that never goes wrong: agents in turn, times at random.

A small sequential Empirica answers each call at one moment inside its interval, so the history
is linearizable by construction. Agents know of a goal only once the call that made it returned;
all work on the same recent goals and draw findings from one pool, so their calls do meet. One
call in two hundred is never answered, and half of those never took effect.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from mcpconc.history import Operation, Outcome, Phase
from mcpconc.snapshot import Snapshot

__all__ = ["history", "late_defect"]

PROJECT = "p"
RECENT = 60
"""Goals, tasks and unknowns that agents still think of."""
SESSION_CALLS = 60
"""After so many calls, on average, an agent opens a new session."""
LOST = 0.005
MIX = {
    "goals_create": 6,
    "goals_add_task": 16,
    "goals_complete_task": 10,
    "goals_complete": 5,
    "goals_get_tasks": 14,
    "goals_progress": 10,
    "goals_list": 3,
    "goals_add_dependency": 3,
    "finding_log": 8,
    "unknown_log": 5,
    "unknown_resolve": 3,
    "unknown_list": 3,
    "submit_check_assessment": 6,
    "epistemics_list": 6,
}

Json = dict[str, Any]


class Refused(Exception):
    """The class of the refusal is its argument."""


@dataclass
class Empirica:
    """What there is, by id, and a method for each tool: arguments, token, agent → answer."""

    sessions: dict[str, Json] = field(default_factory=dict)
    current: dict[int, str] = field(default_factory=dict)
    goals: dict[str, Json] = field(default_factory=dict)
    newest: deque[str] = field(default_factory=deque)
    tasks: dict[str, Json] = field(default_factory=dict)
    of_goal: dict[str, list[Json]] = field(default_factory=dict)
    dependencies: dict[tuple[str, str], Json] = field(default_factory=dict)
    findings: dict[str, Json] = field(default_factory=dict)
    unknowns: dict[str, Json] = field(default_factory=dict)
    open_unknowns: deque[str] = field(default_factory=deque)
    reflexes: dict[str, list[Json]] = field(default_factory=dict)

    def session_create(self, args: Json, token: str, agent: int) -> Json:
        id, old = f"s-{token}", self.current.get(agent)
        if old is not None:
            self.sessions[old]["end_time"] = 1.0
            vectors = {
                k: v for row in self.reflexes.get(old, ()) for k, v in row["vectors"].items()
            }
            self._reflex(old, "POSTFLIGHT", 1, {**vectors, "completion": 1.0}, None)
        self.current[agent] = id
        self.sessions[id] = {
            "session_id": id,
            "ai_id": args["ai_id"],
            "instance_id": str(agent),
            "project_id": PROJECT,
            "subject": token,
            "end_time": None,
        }
        closed = [{"session_id": old}] if old is not None else []
        lifecycle = {"auto_closed_sessions": closed}
        return {"session_id": id, "project_id": PROJECT, "lifecycle": lifecycle}

    def submit_check_assessment(self, args: Json, token: str, agent: int) -> Json:
        rows = self.reflexes.get(args["session_id"], ())
        round = 1 + sum(row["phase"] == "CHECK" for row in rows)
        self._reflex(args["session_id"], "CHECK", round, args["vectors"], token)
        return {"session_id": args["session_id"], "round": round}

    def _reflex(self, id: str, phase: str, round: int, vectors: Json, token: str | None) -> None:
        row = {"session_id": id, "phase": phase, "round": round, "reasoning": token, **vectors}
        row |= {"reflex_data": "{}" if token else '{"auto_closed": true}', "vectors": vectors}
        self.reflexes.setdefault(id, []).append(row)

    def epistemics_list(self, args: Json, token: str, agent: int) -> Json:
        rows = self.reflexes.get(args["session_id"], ())
        return {"trajectories": [{k: row[k] for k in ("phase", "reasoning")} for row in rows]}

    def goals_create(self, args: Json, token: str, agent: int) -> Json:
        id = f"g-{token}"
        self.goals[id] = {
            "id": id,
            "session_id": args["session_id"],
            "objective": args["objective"],
            "description": token,
            "status": "in_progress",
            "is_completed": 0,
            "completion_reason": None,
            "goal_data": "{}",
        }
        self.of_goal[id] = []
        self.newest.appendleft(id)
        return {"goal_id": id, "session_id": args["session_id"]}

    def goals_add_task(self, args: Json, token: str, agent: int) -> Json:
        id = f"t-{token}"
        self.tasks[id] = {"id": id, "goal_id": args["goal_id"], "description": token}
        self.tasks[id] |= {"status": "pending", "completion_evidence": None, "subtask_data": "{}"}
        self.of_goal[args["goal_id"]].append(self.tasks[id])
        return {"task_id": id}

    def goals_complete_task(self, args: Json, token: str, agent: int) -> Json:
        told = json.dumps({"completion_evidence": token})
        self.tasks[args["task_id"]] |= {"status": "completed", "subtask_data": told}
        self.tasks[args["task_id"]]["completion_evidence"] = token
        return {}

    def goals_complete(self, args: Json, token: str, agent: int) -> Json:
        done = {"status": "completed", "is_completed": 1, "completion_reason": token}
        self.goals[args["goal_id"]] |= done
        if args["goal_id"] in self.newest:
            self.newest.remove(args["goal_id"])
        return {}

    def goals_get_tasks(self, args: Json, token: str, agent: int) -> Json:
        if not self.of_goal[args["goal_id"]]:
            raise Refused("no-tasks")
        names = ("description", "status", "completion_evidence")
        tasks = [
            {"task_id": t["id"], **{k: t[k] for k in names}} for t in self.of_goal[args["goal_id"]]
        ]
        return {"tasks": tasks}

    def goals_progress(self, args: Json, token: str, agent: int) -> Json:
        done, total = self._progress(args["goal_id"])
        return {"total_subtasks": total, "completed_subtasks": done}

    def _progress(self, id: str) -> tuple[int, int]:
        tasks = self.of_goal[id]
        return sum(task["status"] == "completed" for task in tasks), len(tasks)

    def goals_list(self, args: Json, token: str, agent: int) -> Json:
        shown = []
        for id in list(self.newest)[:20]:
            done, total = self._progress(id)
            goal = {"goal_id": id, "status": "in_progress", "is_completed": False}
            shown.append({**goal, "progress": f"{done}/{total}"})
        truncated = len(self.newest) > 20
        return {"goals": shown, "truncated": truncated, "filters": {"project_id": PROJECT}}

    def goals_add_dependency(self, args: Json, token: str, agent: int) -> Json:
        goal, other = args["goal_id"], args["depends_on"]
        if goal == other or (other, goal) in self.dependencies:
            raise Refused("dependency-cycle")
        if (goal, other) in self.dependencies:
            raise Refused("dependency-exists")
        row = {"goal_id": goal, "depends_on_goal_id": other, "description": token}
        self.dependencies[goal, other] = row
        return {}

    def finding_log(self, args: Json, token: str, agent: int) -> Json:
        text, session = args["finding"], args["session_id"]
        row = {"id": f"f-{token}", "project_id": PROJECT, "session_id": session}
        row |= {"finding": text, "subject": token}
        id = self.findings.setdefault(text, row)["id"]
        return {"finding_id": id, "project_id": PROJECT, "session_id": session}

    def unknown_log(self, args: Json, token: str, agent: int) -> Json:
        id = f"u-{token}"
        row = {"id": id, "project_id": PROJECT, "unknown": args["unknown"], "subject": token}
        self.unknowns[id] = {**row, "is_resolved": 0, "resolved_by": None}
        self.open_unknowns.appendleft(id)
        return {"unknown_id": id, "project_id": PROJECT}

    def unknown_resolve(self, args: Json, token: str, agent: int) -> Json:
        self.unknowns[args["unknown_id"]] |= {"is_resolved": 1, "resolved_by": token}
        if args["unknown_id"] in self.open_unknowns:
            self.open_unknowns.remove(args["unknown_id"])
        return {}

    def unknown_list(self, args: Json, token: str, agent: int) -> Json:
        shown = [self.unknowns[id] for id in list(self.open_unknowns)[:30]]
        names = ("id", "unknown", "is_resolved", "resolved_by")
        rows = [{name: row[name] for name in names} for row in shown]
        return {"unknowns": rows, "filters": {"project_id": PROJECT}}

    def snapshot(self) -> Snapshot:
        tables = {
            "sessions": self.sessions.values(),
            "goals": self.goals.values(),
            "subtasks": self.tasks.values(),
            "goal_dependencies": self.dependencies.values(),
            "project_findings": self.findings.values(),
            "project_unknowns": self.unknowns.values(),
            "reflexes": [row for rows in self.reflexes.values() for row in rows],
        }
        return Snapshot(tables={"sessions": {name: list(rows) for name, rows in tables.items()}})


@dataclass
class World:
    """An `Empirica`, and the ids that agents know, each with the time it was told."""

    dice: random.Random
    empirica: Empirica = field(default_factory=Empirica)
    known: dict[str, deque[tuple[float, str]]] = field(
        default_factory=lambda: {
            k: deque(maxlen=RECENT) for k in ("goal_id", "task_id", "unknown_id")
        }
    )

    def asks(self, agent: int, at: float, token: str) -> tuple[str, Json]:
        """What an agent calls next, with what it knows at that time."""
        session = self.empirica.current.get(agent)
        if session is None or self.dice.random() < 1 / SESSION_CALLS:
            return "session_create", {"ai_id": f"ai{agent}", "subject": token}
        while True:
            (tool,) = self.dice.choices(list(MIX), list(MIX.values()))
            args = self._args(tool, session, at, token)
            if args is not None:
                return tool, args

    def _args(self, tool: str, session: str, at: float, token: str) -> Json | None:
        def one(kind: str) -> str:
            ids = [id for told, id in self.known[kind] if told < at]
            return self.dice.choice(ids) if ids else ""

        of = {"session_id": session}
        fixed: Json | None = {
            "goals_create": of | {"objective": f"reach {token}", "description": token},
            "finding_log": of | {"finding": f"fact {self.dice.randrange(500)}", "subject": token},
            "unknown_log": of | {"unknown": f"why {token}", "subject": token},
            "unknown_list": of,
            "goals_list": of,
            "epistemics_list": of,
            "submit_check_assessment": of
            | {"reasoning": token, "vectors": {"know": self.dice.random(), "uncertainty": 0.2}},
        }.get(tool)
        if fixed is not None:
            return fixed
        if tool in ("goals_complete_task", "unknown_resolve"):
            name = "task_id" if tool == "goals_complete_task" else "unknown_id"
            word = "evidence" if tool == "goals_complete_task" else "resolved_by"
            id = one(name)
            return {name: id, word: token} if id else None
        goal = one("goal_id")
        if not goal:
            return None
        if tool == "goals_add_dependency":
            return {"goal_id": goal, "depends_on": one("goal_id"), "description": token}
        return {"goal_id": goal, "description": token, "reason": token}


def history(calls: int, agents: int, seed: int = 0) -> tuple[tuple[Operation, ...], Snapshot]:
    """The operations in order of invocation, and what is left in the database."""
    dice = random.Random(seed)
    world = World(dice)

    def starts(agent: int, free: float) -> tuple[float, int, float]:
        """When the next call takes effect, of whom, and when it is invoked."""
        invoked = free + dice.expovariate(1)
        return (invoked + dice.random(), agent, invoked)

    queue = [starts(agent, 0.0) for agent in range(agents)]
    heapq.heapify(queue)
    timed: list[tuple[float, float, Operation]] = []
    for number in range(calls):
        effect, agent, invoked = heapq.heappop(queue)
        token = f"tok{number:06d}x{agent:03d}z"
        tool, args = world.asks(agent, invoked, token)
        returned = effect + dice.random()
        lost = dice.random() < LOST and tool != "session_create"
        outcome, data = Outcome.SUCCESS, {}
        if not lost or dice.random() < 0.5:
            try:
                data = getattr(world.empirica, tool)(args, token, agent)
            except Refused as refusal:
                outcome, data = Outcome.REFUSED, {"error": refusal.args[0]}
        if not lost:
            for kind, ids in world.known.items():
                if kind in data:
                    ids.append((returned, data[kind]))
        operation = Operation(
            call=str(number),
            agent=agent,
            tool=tool,
            args=args,
            token=token,
            phase=Phase.LANE,
            invoked=0,
            returned=None if lost else 0,
            outcome=None if lost else outcome,
            data={} if lost else data,
        )
        timed.append((invoked, returned, operation))
        heapq.heappush(queue, starts(agent, returned))
    moments = sorted(moment for invoked, returned, _ in timed for moment in (invoked, returned))
    order = {moment: index for index, moment in enumerate(moments)}
    operations = [
        replace(o, invoked=order[invoked], returned=order[returned] if o.answered else None)
        for invoked, returned, o in sorted(timed, key=lambda each: each[0])
    ]
    return tuple(operations), world.empirica.snapshot()


def late_defect(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The same history, but the last list of tasks that could do so leaves out one that was
    added long ago."""
    added = {o.data["task_id"]: o.returned for o in operations if "task_id" in o.data}
    for place in range(len(operations) - 1, -1, -1):
        o = operations[place]
        tasks = o.data.get("tasks", ())
        old = [t for t in tasks if added.get(t["task_id"], o.invoked) < o.invoked]
        if old and len(tasks) > 1:
            left = [task for task in tasks if task is not old[0]]
            changed = replace(o, data={**o.data, "tasks": left})
            return (*operations[:place], changed, *operations[place + 1 :])
    raise ValueError("no list of tasks in this history could leave one out")
