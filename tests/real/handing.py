"""A script of what agents do with each other's work: handoffs, earlier sessions, issues, the bus,
and the overviews."""

from __future__ import annotations

from real.script import GHOST, GOOD
from real.scripts import Ruled

__all__ = ["handing"]

REPORT = {"key_findings": '["one"]', "next_session_context": "go on"}
PAYLOAD = '{"token": "{}"}'


def handing(script: Ruled) -> dict[str, set[str]]:
    """Every tool of this kind with every refusal; kind → quirks that its objects need."""
    s = script
    session = s.make(0, "session_create", "session_id", "subject", ai_id="ai-0")
    s.refused("no-assessments", 0, "handoff_create", "task_summary", session_id=session, **REPORT)
    s.call(0, "handoff_create", "task_summary", session_id=session, planning_only=True, **REPORT)
    s.call(0, "submit_preflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(1, "handoff_create", "task_summary", session_id=session, **REPORT)
    s.refused("invalid-input", 1, "handoff_create", "task_summary", session_id=session)
    s.call(0, "submit_check_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(0, "handoff_create", "task_summary", session_id=session, **REPORT)
    s.call(1, "resume_previous_session", ai_id="ai-0")
    s.call(1, "epistemics_show", session_id=session)
    s.call(1, "epistemics_show", session_id=session, phase="CHECK")
    s.refused("session-not-found", 1, "epistemics_show", session_id=GHOST)
    s.call(0, "submit_postflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(0, "handoff_create", "task_summary", session_id=session, **REPORT)
    s.call(1, "session_create", "subject", ai_id="ai-0")
    s.call(0, "session_create", "subject", ai_id="ai-0")
    s.call(1, "resume_previous_session", count=5)
    s.usage(1, "resume_previous_session", count=1.5)
    s.call(0, "handoff_create", "task_summary", session_id=GHOST, planning_only=True, **REPORT)
    bus(s)
    s.call(0, "workspace_overview")
    s.call(0, "sync_status")
    s.call(0, "calibration_report", ai_id="ai-0")
    s.call(0, "efficiency_report", session_id=session)
    s.call(0, "lesson_list")
    s.call(0, "get_empirica_introduction")
    issues(s, session)
    needed = {"handoff": {"ghost-session"}, "reflexes": {"phase-of-cascade", "auto-close-round"}}
    if s.isolated:
        needed["issues"] = {"issue-list-empty"}
    return needed


def bus(s: Ruled) -> None:
    s.call(0, "bus_register", "subscribes", instance_id="a", type="cli", capabilities="git, sh")
    s.call(1, "bus_register", "subscribes", instance_id="b", type="cli")
    s.call(1, "bus_register", "subscribes", instance_id="a", type="web", capabilities="git")
    s.usage(0, "bus_register", instance_id="c")
    s.call(0, "bus_instances")
    s.call(0, "bus_instances", capability="git")
    one = {"action": "look", "payload": PAYLOAD}
    s.call(0, "bus_dispatch", "payload", from_instance="a", to_instance="b", **one)
    s.call(0, "bus_dispatch", "payload", to_instance="*", **one)
    s.call(0, "bus_dispatch", "payload", to_instance="*", required_capabilities="git", **one)
    able = {"to_instance": "*", "required_capabilities": "fly"}
    s.refused("no-instance", 0, "bus_dispatch", "payload", **able, **one)
    s.usage(0, "bus_dispatch", to_instance="b", action="look", priority="soon")
    s.call(1, "bus_status", instance_id="a")
    s.call(1, "bus_status", instance_id="nobody")
    s.call(1, "bus_poll", ai_id="b")
    s.call(1, "bus_poll", ai_id="b", limit=1)
    s.call(1, "bus_poll", ai_id="a", status="read")


def issues(s: Ruled, session: object) -> None:
    s.call(0, "issue_list")
    if not s.isolated:
        return
    s.refused("no-input", 0, "memory_compact")
    told = "breadcrumbs.auto_captured_issues.0.id"
    issue = s.make(0, "project_bootstrap", told, session_id=session, depth="full")
    s.call(0, "issue_list")
    s.call(1, "issue_resolve", "resolution", session_id=session, issue_id=issue)
    s.call(1, "issue_resolve", "resolution", session_id=session, issue_id=issue)
    missing = {"session_id": session, "issue_id": GHOST}
    s.refused("issue-not-found", 1, "issue_resolve", "resolution", **missing)
    s.usage(1, "issue_resolve", issue_id=GHOST, resolution="x")
