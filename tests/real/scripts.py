"""Scripts that call every modelled tool, one call at a time: what works as it is meant to with
every refusal, and the trigger of every known defect."""

from __future__ import annotations

from typing import Any

from mcpconc.history import Outcome
from mcpconc.target.base import Identity
from real.script import GHOST, GOOD, RISKY, Script

__all__ = ["SUCCESS", "Ruled", "defects", "meant"]

SUCCESS, REFUSED, USAGE = Outcome.SUCCESS, Outcome.REFUSED, Outcome.USAGE


class Ruled(Script):
    """A script whose calls say how they should end. Refusals do not depend on how agents are
    told apart, so one identity mode is enough for them."""

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self.isolated = identity is Identity.ISOLATED
        self.due: dict[str, tuple[Outcome, str]] = {}

    def refused(self, error: str, agent: int, tool: str, token_in: str = "", **args: Any) -> None:
        if self.isolated:
            self.due[self.call(agent, tool, token_in, **args).id] = (REFUSED, error)

    def usage(self, agent: int, tool: str, **args: Any) -> None:
        if self.isolated:
            self.due[self.call(agent, tool, **args).id] = (USAGE, "usage")

    def lost(self, error: str, agent: int, tool: str, **args: Any) -> None:
        """Refused where the server does not know what is left out."""
        if not self.isolated:
            self.due[self.call(agent, tool, **args).id] = (REFUSED, error)


def meant(script: Ruled) -> None:
    """What works as it is meant to, with every refusal."""
    s = script
    s.refused("invalid-input", 0, "session_create")
    session = s.make(0, "session_create", "session_id", "subject", ai_id="ai-0")
    other = s.make(1, "session_create", "session_id", "subject", ai_id="ai-1")
    s.call(0, "submit_preflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    bad = {"know": 1.5, "uncertainty": 0.1}
    s.refused("invalid-input", 0, "submit_preflight_assessment", session_id=session, vectors=bad)
    s.refused("session-not-found", 0, "submit_check_assessment", session_id="zz", vectors=GOOD)
    artifacts(s, session)
    goals(s, session)
    s.call(0, "checkpoint_load", session_id=other)
    s.call(0, "submit_check_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(1, "submit_check_assessment", "reasoning", session_id=session, vectors=GOOD)
    form = '{"token": "{}"}'
    s.call(0, "checkpoint_create", "metadata", session_id=session, phase="ACT", metadata=form)
    s.usage(0, "checkpoint_create", session_id=session, phase="BAD")
    s.call(0, "checkpoint_load", session_id=session)
    s.call(0, "epistemics_list", session_id=session)
    s.refused("session-not-found", 0, "epistemics_list", session_id=GHOST)
    s.call(1, "assess_state", session_id=session)
    s.call(0, "submit_postflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(1, "session_create", "subject", ai_id="ai-1")  # ends `other`
    s.call(1, "epistemics_list", session_id=other)


def artifacts(s: Ruled, session: object) -> None:
    s.call(0, "finding_log", "finding", session_id=session)
    s.call(0, "finding_log", "subject", session_id=session, finding="Common  ground")
    s.call(1, "finding_log", "subject", session_id=session, finding="common GROUND")
    unknown = s.make(0, "unknown_log", "unknown_id", "subject", session_id=session, unknown="why?")
    s.call(1, "unknown_log", "subject", session_id=session, unknown="Why?")
    s.call(0, "unknown_list", session_id=session)
    s.call(1, "unknown_resolve", "resolved_by", unknown_id=unknown)
    s.call(0, "unknown_resolve", "resolved_by", unknown_id=unknown)
    s.refused("unknown-not-found", 0, "unknown_resolve", "resolved_by", unknown_id=GHOST)
    s.call(0, "unknown_list", session_id=session, all=True)
    s.usage(0, "unknown_list", session_id=session, limit=1.5)


def goals(s: Ruled, session: object) -> None:
    goal = s.make(0, "goals_create", "goal_id", "description", session_id=session, objective="Dig")
    for similar in ("dig!", "Dig deep", "di"):  # the same, one that holds it, one that it holds
        s.refused("similar-goal", 1, "goals_create", session_id=session, objective=similar)
    s.refused(
        "invalid-input", 1, "goals_create", session_id=session, objective="Fly", scope_breadth=2
    )
    planned = s.make(
        0, "goals_create", "goal_id", "objective", session_id=session, status="planned"
    )
    s.refused("no-tasks", 0, "goals_get_tasks", goal_id=goal)
    task = s.make(0, "goals_add_task", "task_id", "description", goal_id=goal)
    s.call(1, "goals_add_task", "description", goal_id=goal)
    s.refused("goal-not-found", 0, "goals_add_task", "description", goal_id=GHOST)
    s.call(1, "goals_complete_task", "evidence", task_id=task)
    s.refused("task-not-found", 0, "goals_complete_task", "evidence", task_id=GHOST)
    s.call(0, "goals_get_tasks", goal_id=goal)
    s.call(0, "goals_progress", goal_id=goal)
    s.refused("goal-not-found", 0, "goals_progress", goal_id=GHOST)
    s.call(1, "goals_activate", goal_id=planned)
    s.refused("not-planned", 0, "goals_activate", goal_id=planned)
    s.refused("goal-not-found", 0, "goals_activate", goal_id=GHOST)
    pair = {"goal_id": goal, "depends_on": planned}
    s.call(0, "goals_add_dependency", "description", **pair)
    s.refused("dependency-exists", 0, "goals_add_dependency", "description", **pair)
    turned = {"goal_id": planned, "depends_on": goal}
    s.refused("dependency-cycle", 0, "goals_add_dependency", "description", **turned)
    s.refused("goal-not-found", 0, "goals_add_dependency", goal_id=goal, depends_on=GHOST)
    s.refused("goal-not-found", 0, "goals_add_dependency", goal_id=GHOST, depends_on=goal)
    s.refused("not-stale", 0, "goals_refresh", goal_id=goal)
    s.call(0, "goals_mark_stale", "reason", session_id=session)
    s.call(1, "goals_refresh", goal_id=goal)
    s.call(0, "goals_list", session_id=session)
    s.call(0, "goals_complete", "reason", goal_id=goal)
    s.refused("not-planned", 0, "goals_activate", goal_id=goal)
    s.refused("goal-not-found", 0, "goals_complete", "reason", goal_id=GHOST)
    s.call(0, "goals_list", session_id=session, completed=True)
    s.call(1, "goals_create", "description", session_id=session, objective="DIG")  # free again


def defects(script: Ruled) -> dict[str, set[str]]:
    """The triggers of all quirks; kind → quirks that some object of that kind needs. Only where
    POSTFLIGHT goes depends on the identity mode."""
    s = script
    session = s.make(0, "session_create", "session_id", "subject", ai_id="ai-0")
    other = s.make(1, "session_create", "session_id", "subject", ai_id="ai-1")
    s.call(0, "submit_preflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(0, "submit_check_assessment", "reasoning", session_id=session, vectors=RISKY)
    posted = s.call(0, "submit_postflight_assessment", session_id=GHOST, vectors=GOOD)
    s.call(0, "submit_postflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    s.call(0, "session_create", "subject", ai_id="ai-0")
    if not s.isolated:
        s.due[posted.id] = (REFUSED, "session-not-found")
        return {"reflexes": {"auto-close-round"}}
    s.call(1, "submit_check_assessment", "reasoning", session_id=other, vectors=GOOD)
    form = '{"token": "{}"}'
    s.call(0, "checkpoint_create", "metadata", session_id=other, phase="CHECK", metadata=form)
    s.call(1, "submit_check_assessment", "reasoning", session_id=other, vectors=GOOD)
    s.call(1, "submit_preflight_assessment", "reasoning", session_id=GHOST, vectors=GOOD)
    goal = s.make(1, "goals_create", "goal_id", "description", session_id=other, objective="Dig")
    task = s.make(1, "goals_add_task", "task_id", "description", goal_id=goal)
    s.call(1, "goals_complete_task", "evidence", task_id=task)
    s.call(1, "goals_complete_task", task_id=task)
    s.call(1, "goals_add_dependency", "description", goal_id=goal, depends_on=goal)
    return {
        "reflexes": {
            *("auto-close-round", "checkpoint-counts-as-round"),
            *("ghost-session", "postflight-redirected"),
        },
        "goal": {"evidence-cleared"},
        "dependency": {"self-dependency"},
    }
