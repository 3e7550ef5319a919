"""Programs of Empirica's CASCADE loop: sessions, assessments, findings, unknowns, goals, tasks,
checkpoints, and the reads that show them.

Objects made before the concurrent part are common: every agent may use them, with the
probability `Knobs.share`. Texts that the target de-duplicates by come from a small pool with
the same probability, because races of checks against inserts live there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple

from mcpconc.program import Call, Program, Ref
from mcpconc.strategies.artifacts import ARTIFACT_READS, ARTIFACT_WRITES, ArtifactRules
from mcpconc.strategies.brief import brief
from mcpconc.strategies.bus import BUS_READS, BUS_WRITES, BusRules
from mcpconc.strategies.handover import HANDOVER_READS, HANDOVER_WRITES, HandoverRules
from mcpconc.strategies.machine import MISSING, Obj, ProgramMachine, act, chance, needs

__all__ = ["CascadeMachine"]

COMMON_TEXTS = ("cache layer", "retry budget", "index rebuild")
"""Natural keys that agents share. None contains another: Empirica refuses goals by substring."""

COMMON_AI = "ai-common"

BRIEF = 4
"""Of so many programs one is of agents in a hurry, who shorten two of three calls, where the target
understands that."""

READS = (
    *HANDOVER_READS,
    *BUS_READS,
    *ARTIFACT_READS,
    "unknown_list",
    "goals_list",
    "goals_get_tasks",
    "goals_progress",
    "epistemics_list",
    "checkpoint_load",
    "assess_state",
)
WRITES = (
    "session_create",
    "submit_preflight_assessment",
    "submit_check_assessment",
    "submit_postflight_assessment",
    "finding_log",
    "unknown_log",
    "unknown_resolve",
    "goals_create",
    "goals_add_task",
    "goals_complete_task",
    "goals_complete",
    "goals_activate",
    "goals_mark_stale",
    "goals_refresh",
    "goals_add_dependency",
    "checkpoint_create",
    *HANDOVER_WRITES,
    *BUS_WRITES,
    *ARTIFACT_WRITES,
)
TOOLS = WRITES + READS

grades = st.sampled_from((0.1, 0.3, 0.5, 0.7, 0.9))
texts = st.sampled_from(COMMON_TEXTS)
vectors = st.fixed_dictionaries({"know": grades, "uncertainty": grades, "engagement": grades})


class CascadeMachine(HandoverRules, BusRules, ArtifactRules, ProgramMachine):
    """PREFLIGHT → INVESTIGATE → CHECK → ACT → POSTFLIGHT, by several agents at once."""

    tools = TOOLS
    sessions = Bundle("sessions")
    goals = Bundle("goals")
    tasks = Bundle("tasks")
    unknowns = Bundle("unknowns")

    def __init__(self) -> None:
        super().__init__()
        self._own: dict[int, Obj] = {}
        self._common: Obj | None = None
        self._goals: list[Obj] = []
        self._share = self.knobs.share
        self._brief = False

    # What one example is like as a whole: swarm testing (Groce et al., ISSTA 2012) on top of
    # the random subset of rules that Hypothesis itself picks for each example.
    @initialize(share=st.sampled_from((1.0, 1.0, 0.5)), inflight=st.integers(1, 8))
    def swarm(self, share: float, inflight: int) -> None:
        self._share = self.knobs.share * share
        self.inflight = 1 + inflight % self.knobs.inflight

    # Initialize rules come in any order; each makes in the prefix what it needs.
    @needs("goals_create")
    @initialize(target=goals, made=st.integers(0, 2), planned=st.booleans())
    def common_goals(self, made: int, planned: bool) -> Any:
        with self.prefix():
            for n in range(made if self.knobs.share else 0):
                status = {"status": "planned"} if planned and n == 0 else {}
                self._goals.append(self._goal(0, self.common_session().ref, None, status))
        return multiple(*self._goals)

    @needs("goals_create", "goals_add_task")
    @initialize(target=tasks, made=st.integers(0, 2))
    def common_tasks(self, made: int) -> Any:
        """Of one goal: what is known of a goal from several tasks is where calls race."""
        if not (made and self.knobs.share):
            return multiple()
        with self.prefix():
            if not self._goals:
                self._goals.append(self._goal(0, self.common_session().ref, None))
            return multiple(*(self._task(0, self._goals[0].ref) for _ in range(made)))

    @needs("unknown_log")
    @initialize(target=unknowns, made=st.booleans())
    def common_unknown(self, made: bool) -> Any:
        with self.prefix():
            if not (made and self.knobs.share):
                return multiple()
            return self._unknown(0, self.common_session().ref, None)

    @classmethod
    def shortening(cls) -> type[ProgramMachine]:
        if "briefness" in vars(cls):
            return cls
        return type(cls.__name__, (cls,), {"briefness": _BRIEF, "__module__": cls.__module__})

    def call(
        self, agent: int, tool: str, args: Mapping[str, Any], token_in: str = "", form: Any = "{}"
    ) -> Call:
        if self._brief and self.stage == "lane" and sum(map(len, self._lanes)) % 3:
            args = brief(tool, args)
        return super().call(agent, tool, args, token_in, form)

    def common_session(self) -> Obj:
        """Agent 0's session from the prefix, which every agent may use."""
        if 0 not in self._own:
            with self.prefix():
                call = self.call(0, "session_create", {"ai_id": "ai-0"}, "subject")
                self._own[0] = self._common = self.made(call, "session_id")
        return self._own[0]

    # ------------------------------------------------------------------ who acts on what

    def sharing(self, percent: int) -> bool:
        return percent < self._share * 100

    def session(self, agent: int, percent: int) -> Obj:
        """The common session, or the agent's own one, made now if there is none."""
        if self._common is not None and self.sharing(percent):
            return self._common
        if agent not in self._own:
            call = self.call(agent, "session_create", {"ai_id": f"ai-{agent}"}, "subject")
            self._own[agent] = self.made(call, "session_id")
        return self._own[agent]

    def _goal(
        self, agent: int, session: Ref, text: str | None, more: dict[str, Any] | None = None
    ) -> Obj:
        args: dict[str, Any] = {"session_id": session, **(more or {})}
        if text is None:
            call = self.call(agent, "goals_create", args, token_in="objective")
        else:
            args["objective"] = text
            call = self.call(agent, "goals_create", args, token_in="description")
        return self.made(call, "goal_id")

    def _task(self, agent: int, goal: Ref | str) -> Obj:
        call = self.call(agent, "goals_add_task", {"goal_id": goal}, token_in="description")
        return self.made(call, "task_id")

    def _unknown(self, agent: int, session: Ref, text: str | None) -> Obj:
        if text is None:
            call = self.call(agent, "unknown_log", {"session_id": session}, token_in="unknown")
        else:
            args = {"session_id": session, "unknown": text}
            call = self.call(agent, "unknown_log", args, token_in="subject")
        return self.made(call, "unknown_id")

    def _id(self, obj: Obj, percent: int) -> Ref | str:
        """The object's id, or now and then one that nothing has: refusals must occur too."""
        return MISSING if percent >= 97 else obj.ref

    def worthwhile(self, program: Program) -> bool:
        """Reads alone race with nothing."""
        return any(c.tool not in READS for lane in program.lanes for c in lane)

    # ------------------------------------------------------------------ the CASCADE loop

    @act(target=sessions, theirs=chance)
    def session_create(self, agent: int, theirs: int) -> Any:
        ai = COMMON_AI if self.sharing(theirs) else f"ai-{agent}"
        session = self.made(
            self.call(agent, "session_create", {"ai_id": ai}, "subject"), "session_id"
        )
        self._own[agent] = session
        return session

    @act(theirs=chance, vectors=vectors)
    @needs("submit_preflight_assessment")
    def preflight(self, agent: int, theirs: int, vectors: dict[str, float]) -> None:
        self._assess(agent, theirs, "submit_preflight_assessment", vectors)

    @act(theirs=chance, vectors=vectors)
    @needs("submit_check_assessment")
    def check(self, agent: int, theirs: int, vectors: dict[str, float]) -> None:
        self._assess(agent, theirs, "submit_check_assessment", vectors)

    @act(theirs=chance, vectors=vectors)
    @needs("submit_postflight_assessment")
    def postflight(self, agent: int, theirs: int, vectors: dict[str, float]) -> None:
        self._assess(agent, theirs, "submit_postflight_assessment", vectors)

    def _assess(self, agent: int, theirs: int, tool: str, vectors: dict[str, float]) -> None:
        session = self.session(agent, theirs)
        args = {"session_id": session.ref, "vectors": vectors}
        self.call(agent, tool, args, token_in="reasoning")

    # ------------------------------------------------------------------ findings, unknowns

    @act(theirs=chance, same=chance, text=texts)
    def finding_log(self, agent: int, theirs: int, same: int, text: str) -> None:
        session = self.session(agent, theirs)
        args: dict[str, Any] = {"session_id": session.ref, "impact": 0.5}
        if self.sharing(same):
            args["finding"] = text
            self.call(agent, "finding_log", args, token_in="subject")
        else:
            self.call(agent, "finding_log", args, token_in="finding")

    @act(target=unknowns, theirs=chance, same=chance, text=texts)
    def unknown_log(self, agent: int, theirs: int, same: int, text: str) -> Any:
        session = self.session(agent, theirs)
        return self._unknown(agent, session.ref, text if self.sharing(same) else None)

    @act(unknown=unknowns, theirs=chance, miss=chance)
    def unknown_resolve(self, agent: int, unknown: Obj, theirs: int, miss: int) -> None:
        args = {"unknown_id": self._id(unknown, miss)}
        who = self.actor(agent, theirs, unknown)
        self.call(who, "unknown_resolve", args, token_in="resolved_by")

    @act(theirs=chance, everything=st.booleans())
    def unknown_list(self, agent: int, theirs: int, everything: bool) -> None:
        session = self.session(agent, theirs)
        args = {"session_id": session.ref, **({"all": True} if everything else {})}
        self.call(agent, "unknown_list", args)

    # ------------------------------------------------------------------ goals and tasks

    @act(
        target=goals,
        theirs=chance,
        same=chance,
        text=texts,
        status=st.sampled_from((None, None, "planned", "in_progress")),
    )
    def goals_create(
        self, agent: int, theirs: int, same: int, text: str, status: str | None
    ) -> Any:
        session = self.session(agent, theirs)
        more = {"status": status} if status else {}
        key = text if self.sharing(same) else None
        return self._goal(agent, session.ref, key, more)

    @act(target=tasks, goal=goals, theirs=chance, miss=chance)
    def goals_add_task(self, agent: int, goal: Obj, theirs: int, miss: int) -> Any:
        return self._task(self.actor(agent, theirs, goal), self._id(goal, miss))

    @act(task=tasks, theirs=chance, miss=chance)
    def goals_complete_task(self, agent: int, task: Obj, theirs: int, miss: int) -> None:
        args = {"task_id": self._id(task, miss)}
        who = self.actor(agent, theirs, task)
        self.call(who, "goals_complete_task", args, token_in="evidence")

    @act(goal=goals, theirs=chance, miss=chance)
    def goals_complete(self, agent: int, goal: Obj, theirs: int, miss: int) -> None:
        args = {"goal_id": self._id(goal, miss)}
        self.call(self.actor(agent, theirs, goal), "goals_complete", args, token_in="reason")

    @act(goal=goals, theirs=chance, miss=chance)
    def goals_activate(self, agent: int, goal: Obj, theirs: int, miss: int) -> None:
        args = {"goal_id": self._id(goal, miss)}
        self.call(self.actor(agent, theirs, goal), "goals_activate", args)

    @act(theirs=chance)
    def goals_mark_stale(self, agent: int, theirs: int) -> None:
        session = self.session(agent, theirs)
        args = {"session_id": session.ref}
        self.call(agent, "goals_mark_stale", args, token_in="reason")

    @act(goal=goals, theirs=chance, miss=chance)
    def goals_refresh(self, agent: int, goal: Obj, theirs: int, miss: int) -> None:
        args = {"goal_id": self._id(goal, miss)}
        self.call(self.actor(agent, theirs, goal), "goals_refresh", args)

    @act(goal=goals, other=goals, theirs=chance, turn=st.booleans())
    def goals_add_dependency(
        self, agent: int, goal: Obj, other: Obj, theirs: int, turn: bool
    ) -> None:
        if goal.ref == other.ref:
            return
        if turn != self.echo:  # an echo is the reversed pair
            goal, other = other, goal
        bound = {o.agent for o in (goal, other) if not o.common}
        if len(bound) > 1:
            return
        who = bound.pop() if bound else self.actor(agent, theirs, goal)
        args = {"goal_id": goal.ref, "depends_on": other.ref}
        self.call(who, "goals_add_dependency", args, token_in="description")

    @act(
        goal=goals,
        theirs=chance,
        miss=chance,
        tool=st.sampled_from(("goals_get_tasks", "goals_progress")),
    )
    def read_goal(self, agent: int, goal: Obj, theirs: int, miss: int, tool: str) -> None:
        if tool in self.tools:
            self.call(self.actor(agent, theirs, goal), tool, {"goal_id": self._id(goal, miss)})

    @act(theirs=chance, completed=st.booleans())
    def goals_list(self, agent: int, theirs: int, completed: bool) -> None:
        session = self.session(agent, theirs)
        args = {"session_id": session.ref, **({"completed": True} if completed else {})}
        self.call(agent, "goals_list", args)

    # ------------------------------------------------------------------ checkpoints, reads

    @act(
        theirs=chance,
        phase=st.sampled_from(("ACT", "CHECK", "PREFLIGHT", "POSTFLIGHT")),
    )
    def checkpoint_create(self, agent: int, theirs: int, phase: str) -> None:
        session = self.session(agent, theirs)
        args = {"session_id": session.ref, "phase": phase}
        self.call(agent, "checkpoint_create", args, "metadata", '{"token": "{}"}')

    @act(
        theirs=chance,
        tool=st.sampled_from(("epistemics_list", "checkpoint_load", "assess_state")),
    )
    def read_session(self, agent: int, theirs: int, tool: str) -> None:
        if tool in self.tools:
            session = self.session(agent, theirs)
            self.call(agent, tool, {"session_id": session.ref})


def _briefly(self: CascadeMachine, drawn: int) -> None:
    self._brief = drawn % BRIEF == BRIEF - 1


_BRIEF = initialize(drawn=st.integers(0, 63))(_briefly)
