"""Small hand-written runs that tests of traces and reports share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import Finding, Fingerprint, Label
from mcpconc.program import Call, Program, Ref, bind, token_for
from mcpconc.snapshot import Snapshot
from mcpconc.trace import Shrink, Trace
from mcpconc.verdict import Verdict

SESSION = "e371faec-f8ee-4037-8075-9e3a3ecd5558"
GOAL = "17cdf1b1-a58f-4a2f-9ce4-734f1b276d57"
TASKS = ("5582eccb-be59-49b1-ad44-b94dca91800c", "8ee39a18-5b69-49e2-a36f-7401200b563f")


def call(id: str, tool: str, token: bool = False, **args: Any) -> Call:
    agent, position = (int(part) for part in id.split("."))
    return Call(id, agent, tool, args, token_for(agent, position) if token else "")


def told(program: Program, steps: Iterable[tuple[Any, ...]]) -> History:
    """The history in which these things happen in this order.

    A step is ``("0.1",)`` for an invocation, ``("0.1", {…})`` for an answer and
    ``("0.1", "why")`` for an outcome that nobody knows.
    """
    calls = {c.id: c for c in program.calls()}
    phases = {c.id: "prefix" for c in program.prefix} | {c.id: "suffix" for c in program.suffix}
    answers: dict[str, Any] = {}
    events = []
    for index, (name, *end) in enumerate(steps):
        c = calls[name]
        if not end:
            args = bind(c.args, answers)
            phase = phases.get(name, "lane")
            value = {"tool": c.tool, "args": args, "token": c.token, "phase": phase}
            kind = EventType.INVOKE
        elif isinstance(end[0], str):
            kind, value = EventType.INFO, {"why": end[0], "text": ""}
        else:
            answers[name] = end[0]
            outcome = "success" if end[0].get("ok", True) else "refused"
            kind, value = EventType.OK, {"outcome": outcome, "data": end[0]}
        events.append(Event(index, kind, c.agent, name, value, index * 1_000_000))
    return History.of(events)


def lost_task() -> Trace:
    """Two agents add a task to one goal at once; both are told so, one task is left."""
    goal = Ref("0.1", "goal_id")
    program = Program(
        agents=3,
        prefix=(
            call("0.0", "session_create", ai_id="ai-0"),
            call(
                "0.1",
                "goals_create",
                token=True,
                session_id=Ref("0.0", "session_id"),
                objective=token_for(0, 1),
            ),
        ),
        lanes=(
            (call("0.2", "goals_add_task", True, goal_id=goal, description=token_for(0, 2)),),
            (),
            (call("2.0", "goals_add_task", True, goal_id=goal, description=token_for(2, 0)),),
        ),
        suffix=(call("0.3", "goals_get_tasks", goal_id=goal),),
    )
    left = {"task_id": TASKS[1], "description": token_for(2, 0), "status": "planned"}
    history = told(
        program,
        [
            ("0.0",),
            ("0.0", {"ok": True, "session_id": SESSION, "ai_id": "ai-0"}),
            ("0.1",),
            ("0.1", {"ok": True, "goal_id": GOAL, "session_id": SESSION}),
            ("0.2",),
            ("2.0",),
            ("0.2", {"ok": True, "task_id": TASKS[0], "goal_id": GOAL}),
            ("2.0", {"ok": True, "task_id": TASKS[1], "goal_id": GOAL}),
            ("0.3",),
            ("0.3", {"ok": True, "tasks_count": 1, "tasks": [left]}),
        ],
    )
    migrations = [{"_rowid_": n, "version": n, "name": f"migration {n}"} for n in range(1, 78)]
    before = Snapshot(
        tables={"sessions": {"schema_migrations": migrations, "subtasks": []}},
        schema={"sessions": "d1"},
        refs={"refs/heads/main": "c0"},
        files={"ws/.empirica/config.yaml": "root: .\n", "ws/seen": "0"},
        checks={"sessions.integrity_check": []},
    )
    row = {"_rowid_": 2, "id": TASKS[1], "goal_id": GOAL, "description": token_for(2, 0)}
    after = Snapshot(
        tables={"sessions": {"schema_migrations": migrations, "subtasks": [row]}},
        schema={"sessions": "d1"},
        refs={"refs/heads/main": "c0", f"refs/notes/empirica/goals/{GOAL}": "c1"},
        notes={f"refs/notes/empirica/goals/{GOAL}": {"c0": '{"tasks": 1}'}},
        files={"ws/.empirica/config.yaml": "root: .\n"},
        checks={"sessions.integrity_check": []},
    )
    finding = Finding(
        Fingerprint("effects", "lost", "task", "", ("goals_add_task", "goals_add_task")),
        summary=f"an acknowledged goals_add_task left no row in subtasks: task {TASKS[0]}",
        reason=(
            "No order of these calls explains what is left:",
            "  0.2 was acknowledged, nothing deletes tasks, and no row carries its token",
            f"  {token_for(0, 2)}.",
        ),
        calls=("0.2", "2.0"),
        evidence={"expected": {"id": TASKS[0], "goal_id": GOAL}, "found": [row]},
        label=Label.RACE,
    )
    return Trace(
        program=program,
        history=history,
        before=before,
        after=after,
        findings=(finding,),
        verdict=Verdict.VIOLATION,
        label_basis="both one-at-a-time orders were tried, neither shows it",
        target="empirica",
        target_version="1.14.18",
        identity="isolated",
        scheduler="convoy",
        scheduler_seed=7,
        seed=8121,
        shrink=Shrink(finished=True, attempts=63, failed=10, of=10, from_calls=41, to_calls=5),
        environment={"platform": "Linux", "python": "3.11.7", "cpus": "2"},
        stderr={"agent-0.txt": "ready\n"},
    )
