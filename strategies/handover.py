"""Agents that hand their work over and take up other agents' work: handoffs, earlier sessions,
issues that were filed, and the overviews that one reads before one begins."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple

from mcpconc.strategies.machine import MISSING, Obj, ProgramMachine, act, chance, needs

__all__ = ["FIRST_ISSUE", "HANDOVER_READS", "HANDOVER_WRITES", "OVERVIEWS", "HandoverRules"]

HANDOVER_WRITES = ("handoff_create", "issue_resolve", "memory_compact")
OVERVIEWS = (
    "workspace_overview",
    "sync_status",
    "issue_list",
    "calibration_report",
    "efficiency_report",
    "lesson_list",
    "get_empirica_introduction",
)
HANDOVER_READS = ("resume_previous_session", "project_bootstrap", "epistemics_show", *OVERVIEWS)
FIRST_ISSUE = "breadcrumbs.auto_captured_issues.0.id"


class HandoverRules(ProgramMachine):
    """Rules to mix into a machine that has sessions."""

    issues = Bundle("issues")

    def session(self, agent: int, percent: int) -> Obj:
        raise NotImplementedError

    def common_session(self) -> Obj:
        raise NotImplementedError

    # Issues are filed by commands that fail, and only the full bootstrap tells their ids.
    @needs("memory_compact", "project_bootstrap", "issue_resolve")
    @initialize(target=issues, made=st.integers(0, 5))
    def common_issue(self, made: int) -> Any:
        if made or not self.knobs.share:
            return multiple()
        with self.prefix():
            args = {"session_id": self.common_session().ref, "depth": "full"}
            self.call(0, "memory_compact", {})
            return self.made(self.call(0, "project_bootstrap", args), FIRST_ISSUE)

    @act(issue=issues, theirs=chance, miss=chance)
    @needs("memory_compact", "project_bootstrap", "issue_resolve")
    def issue_resolve(self, agent: int, issue: Obj, theirs: int, miss: int) -> None:
        who = self.actor(agent, theirs, issue)
        args = {
            "session_id": self.session(who, theirs).ref,
            "issue_id": MISSING if miss >= 90 else issue.ref,
        }
        self.call(who, "issue_resolve", args, token_in="resolution")

    @act(theirs=chance, planning=st.booleans())
    @needs("handoff_create")
    def handoff_create(self, agent: int, theirs: int, planning: bool) -> None:
        args: dict[str, Any] = {
            "session_id": self.session(agent, theirs).ref,
            "key_findings": '["the index is stale"]',
            "next_session_context": "go on with the index",
            **({"planning_only": True} if planning else {}),
        }
        self.call(agent, "handoff_create", args, token_in="task_summary")

    @act(theirs=chance, ai=st.sampled_from((None, "ai-common")), count=st.sampled_from((1, 3, 20)))
    @needs("resume_previous_session")
    def resume_previous_session(self, agent: int, theirs: int, ai: str | None, count: int) -> None:
        args: dict[str, Any] = {"count": count}
        if not self.sharing(theirs):
            args["ai_id"] = f"ai-{agent}"
        elif ai is not None:
            args["ai_id"] = ai
        self.call(agent, "resume_previous_session", args)

    @act(theirs=chance, phase=st.sampled_from((None, "PREFLIGHT", "CHECK", "POSTFLIGHT")))
    @needs("epistemics_show")
    def epistemics_show(self, agent: int, theirs: int, phase: str | None) -> None:
        args = {
            "session_id": self.session(agent, theirs).ref,
            **({"phase": phase} if phase else {}),
        }
        self.call(agent, "epistemics_show", args)

    # Drawn twice, for Hypothesis likes the first of a list.
    @act(theirs=chance, first=st.integers(0, 6), then=st.integers(0, 6))
    @needs(*OVERVIEWS)
    def overview(self, agent: int, theirs: int, first: int, then: int) -> None:
        tool = OVERVIEWS[(first + then) % len(OVERVIEWS)]
        args: dict[str, Any] = {}
        if tool == "efficiency_report":
            args = {"session_id": self.session(agent, theirs).ref}
        elif tool == "calibration_report":
            args = {"ai_id": f"ai-{agent}"}
        self.call(agent, tool, args)
