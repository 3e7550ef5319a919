"""A script of calls that are refused for their arguments alone, tool by tool: what is wanted and
missing or empty, of the wrong type, out of range, no choice, or an id of the wrong kind."""

from __future__ import annotations

from typing import Any

from mcpconc.program import Ref
from real.script import GHOST, GOOD
from real.scripts import Ruled

__all__ = ["arguments"]

REQUIRED: dict[str, dict[str, Any]] = {
    "finding_log": {"finding": "x"},
    "unknown_log": {"unknown": "x"},
    "deadend_log": {"approach": "x", "why_failed": "y"},
    "assumption_log": {"assumption": "x"},
    "decision_log": {"choice": "x"},
}
"""Tool that logs → the texts that it wants and that must not be empty."""

WANTED: dict[str, dict[str, Any]] = {
    "mistake_log": {"mistake": "x", "why_wrong": "y"},
    "unknown_resolve": {"unknown_id": GHOST, "resolved_by": "x"},
    "finding_resolve": {"finding_id": GHOST, "resolution": "x"},
    "goals_complete": {"goal_id": GHOST},
    "goals_add_task": {"goal_id": GHOST, "description": "x"},
    "goals_get_tasks": {"goal_id": GHOST},
    "goals_complete_task": {"task_id": GHOST},
    "goals_progress": {"goal_id": GHOST},
    "goals_activate": {"goal_id": GHOST},
    "goals_refresh": {"goal_id": GHOST},
    "goals_add_dependency": {"goal_id": GHOST, "depends_on": GHOST},
    "checkpoint_create": {"session_id": GHOST, "phase": "ACT"},
    "checkpoint_load": {"session_id": GHOST},
    "issue_resolve": {"session_id": GHOST, "issue_id": GHOST, "resolution": "x"},
    "bus_register": {"instance_id": "x", "type": "cli"},
    "bus_dispatch": {"to_instance": "x", "action": "look"},
    "bus_status": {"instance_id": "x"},
    "bus_poll": {"ai_id": "x"},
    "efficiency_report": {"session_id": GHOST},
}
"""Tool → the arguments that its command line wants."""

BLANK = (
    *("goals_complete", "goals_add_task", "goals_get_tasks", "goals_complete_task"),
    *("goals_progress", "goals_activate", "goals_add_dependency"),
)
"""Tools whose first argument is an id that must not be blank."""

COMPLETE = {"decision_log": {"rationale": "y"}}
"""What is wanted, too, but where it is missing nothing refuses it in good time."""

CHOICES: dict[str, tuple[str, ...]] = {
    "finding_log": ("scope", "entity_type", "visibility", "epistemic_source"),
    "unknown_log": ("scope", "entity_type", "visibility", "epistemic_source"),
    "deadend_log": ("scope", "entity_type", "visibility", "epistemic_source"),
    "mistake_log": ("scope", "entity_type", "visibility", "epistemic_source"),
    "assumption_log": ("entity_type", "visibility", "epistemic_source"),
    "decision_log": ("reversibility", "entity_type", "visibility", "epistemic_source"),
    "finding_resolve": ("kind",),
    "goals_create": ("status",),
    "goals_add_task": ("importance",),
    "goals_add_dependency": ("type",),
    "project_bootstrap": ("depth",),
    "checkpoint_create": ("phase",),
    "resume_previous_session": ("detail_level",),
    "bus_dispatch": ("priority",),
    "bus_poll": ("status",),
    "issue_list": ("status", "severity"),
    "source_list": ("direction",),
}
"""Tool → the arguments that must be one of a few words."""

WHOLE: dict[str, tuple[str, ...]] = {
    "unknown_list": ("limit",),
    "checkpoint_load": ("max_age",),
    "resume_previous_session": ("count",),
    "calibration_report": ("weeks",),
    "bus_dispatch": ("deadline", "ttl"),
    "bus_poll": ("limit",),
}
"""Tool → the arguments that must be whole numbers, whatever its schema says."""

NUMBERS: dict[str, tuple[str, ...]] = {
    "finding_log": ("impact",),
    "assumption_log": ("confidence",),
    "decision_log": ("confidence",),
    "goals_create": ("scope_breadth", "scope_duration", "estimated_complexity"),
}
"""Tool → the arguments that must be numbers."""


def arguments(script: Ruled) -> dict[str, set[str]]:
    """Every tool with all that its arguments alone can be refused for; no object needs a quirk."""
    s = script
    session = s.make(0, "session_create", "session_id", "subject", ai_id="ai-0")
    goal = s.make(0, "goals_create", "goal_id", "objective", session_id=session)
    if s.isolated:
        usage(s, session)
        assessments(s, session)
        texts(s, session)
        graph(s, session)
        ids(s, session, goal)
    else:
        lost(s)
    return {}


def complete(tool: str, session: Ref) -> dict[str, Any]:
    """Arguments that satisfy a tool."""
    if tool in REQUIRED:
        return {**COMPLETE.get(tool, {}), **REQUIRED[tool], "session_id": session}
    return {**WANTED.get(tool, {}), **({"objective": "x"} if tool == "goals_create" else {})}


def usage(s: Ruled, session: Ref) -> None:
    """What the command line refuses."""
    for tool, wanted in WANTED.items():
        for name in wanted:
            s.usage(0, tool, **{n: v for n, v in wanted.items() if n != name})
    for tool in BLANK:
        s.usage(0, tool, **{**WANTED[tool], next(iter(WANTED[tool])): "  "})
    for wrong, arguments in (("nothing", CHOICES), (1.5, WHOLE), ("many", NUMBERS)):
        for tool, names in arguments.items():
            for name in names:
                s.usage(0, tool, **{**complete(tool, session), name: wrong})
    s.usage(0, "goals_create", session_id=session, objective="-x")  # it is taken for an option


def assessments(s: Ruled, session: Ref) -> None:
    def invalid(phase: str, **args: Any) -> None:
        s.refused("invalid-input", 0, f"submit_{phase}_assessment", **args)

    for vectors in (
        {},
        {"know": 0.5},
        {"uncertainty": 0.5},
        {**GOOD, "other": 0.5},
        {**GOOD, "do": "much"},
        {**GOOD, "do": -0.1},
        {**GOOD, "do": {"much": 0.5}},
        [0.5, 0.5],
    ):
        invalid("preflight", session_id=session, vectors=vectors)
    invalid("preflight", session_id=session)
    invalid("preflight", session_id=session, vectors=GOOD, other=1)
    invalid("check", session_id=session, vectors={"know": "much", "uncertainty": "little"})
    invalid("postflight", session_id=session, vectors={})
    invalid("postflight", session_id=session, vectors=GOOD, other=1)
    for phase in ("preflight", "check", "postflight"):
        tool = f"submit_{phase}_assessment"
        s.refused("session-not-found", 0, tool, session_id="zz", vectors=GOOD)


def texts(s: Ruled, session: Ref) -> None:
    """What is wanted and is missing or empty."""
    for tool, wanted in REQUIRED.items():
        for name in wanted:
            left = {n: v for n, v in complete(tool, session).items() if n != name}
            s.refused("invalid-input", 0, tool, **left)
            s.refused("invalid-input", 0, tool, **{**left, name: ""})
    s.refused("invalid-input", 0, "note", session_id=session)
    s.refused("no-session", 0, "goals_create", session_id=session)  # it says so
    for name in ("scope_duration", "scope_coordination", "estimated_complexity"):
        args = {"session_id": session, "objective": "Fly", name: 1.5}
        s.refused("invalid-input", 0, "goals_create", **args)


def graph(s: Ruled, session: Ref) -> None:
    """Batches that are refused as a whole."""
    node = {"ref": "x", "type": "finding", "data": {"finding": "x"}}
    edge = {"from": "x", "to": GHOST, "relation": "evidence"}
    for nodes, edges in (
        ([{**node, "type": "thing"}], []),
        ([{"ref": "x", "data": {"finding": "x"}}], []),
        ([node], [{**edge, "relation": "cousin"}]),
        ([node], [{**edge, "from": "nothing"}]),
        ([], []),
    ):
        s.refused("invalid-input", 0, "log_artifacts", session_id=session, nodes=nodes, edges=edges)


def ids(s: Ruled, session: Ref, goal: Ref) -> None:
    """Ids of other kinds, beginnings where the whole is wanted, and too short ones."""
    for tool in ("goals_add_task", "goals_progress", "goals_activate"):
        args = {**WANTED[tool], "goal_id": session}
        s.refused("goal-not-found", 0, tool, **args)
    s.refused("no-tasks", 0, "goals_get_tasks", goal_id=GHOST)
    short = Ref(goal.call, goal.path, 5)
    begins = Ref(goal.call, goal.path, 13)
    s.refused("goal-not-found", 0, "goals_add_task", goal_id=short, description="x")
    s.refused("goal-not-found", 0, "goals_add_dependency", goal_id=begins, depends_on=goal)
    s.refused("not-stale", 0, "goals_refresh", goal_id=GHOST)
    s.refused("task-not-found", 0, "goals_complete_task", task_id=goal)
    s.refused("unknown-not-found", 0, "unknown_resolve", unknown_id=goal, resolved_by="x")
    s.refused(
        "session-not-found", 0, "epistemics_list", session_id=Ref(session.call, session.path, 13)
    )


def lost(s: Ruled) -> None:
    """Where the server knows of no session, whoever names none is refused."""
    for tool, wanted in REQUIRED.items():
        s.lost("no-session", 0, tool, **{**COMPLETE.get(tool, {}), **wanted})
    s.lost("no-session", 0, "note", text="x")
    s.lost("no-session", 0, "mistake_log", **WANTED["mistake_log"])
    s.lost("no-session", 0, "goals_create", objective="Fly")
    s.lost("no-session", 0, "goals_mark_stale")
    s.lost("no-session", 0, "epistemics_list")
    s.lost("invalid-input", 0, "submit_preflight_assessment", vectors=GOOD)
    s.lost("session-not-found", 0, "submit_check_assessment", vectors=GOOD)
    s.lost("no-session", 0, "submit_postflight_assessment", vectors=GOOD)
    s.lost("no-session", 0, "handoff_create", task_summary="x", key_findings="[]")
    node = {"ref": "x", "type": "finding", "data": {"finding": "x"}}
    s.lost("no-session", 0, "log_artifacts", nodes=[node])
    s.lost("no-project", 0, "source_list")
    s.lost("no-project", 0, "project_bootstrap")
