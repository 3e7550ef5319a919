"""CASCADE as a story: agents that run whole loops, each in its own way.

    PREFLIGHT → INVESTIGATE → CHECK (proceed, or investigate again) → ACT → POSTFLIGHT

`CascadeMachine` calls anything at any time, because races live where nobody expects them; here
every session is one that a well-behaved agent might have, so that what is found happens in
practice. A `Profile` says how an agent works. Where the target offers it, work is handed over: a
loop ends with a handoff, and the next one begins by reading how another agent's ended. In the
prefix an agent may go through a loop of its own and leave its goal, task and unknown to all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from mcpconc.program import Program
from mcpconc.strategies.cascade import COMMON_TEXTS
from mcpconc.strategies.machine import MISSING, Obj, ProgramMachine, chance

__all__ = [
    "PROFILES",
    "BulkStory",
    "CarefulStory",
    "ErrorProneStory",
    "FastStory",
    "Profile",
    "StoryMachine",
]

LOOP = 6
"""Calls of a short loop: fewer agents take part where there are too few calls for all."""

MOST_CHECKS = 3
"""After so many an agent proceeds in any case."""


class Phase(StrEnum):
    BEGIN = "begin"
    PREFLIGHT = "preflight"
    INVESTIGATE = "investigate"
    CHECK = "check"
    ACT = "act"
    POSTFLIGHT = "postflight"
    HANDOVER = "handover"


@dataclass(frozen=True, slots=True)
class Profile:
    """How an agent works. `investigate` and `act` are the fewest and most calls of these phases,
    `findings` and `deeds` how often each tool is chosen in them, by weight. `again` is the
    percentage of CHECKs after which it investigates again, `handover` of loops that end with a
    handoff, `misses` of ids that nothing has; `careless` the share (0 to 1) of bad input."""

    name: str
    investigate: tuple[int, int]
    act: tuple[int, int]
    findings: Mapping[str, int]
    deeds: Mapping[str, int]
    again: int = 30
    handover: int = 40
    misses: int = 0
    careless: float = 0.0


FINDINGS = {
    "finding_log": 4,
    "unknown_log": 3,
    "deadend_log": 2,
    "unknown_resolve": 2,
    "unknown_list": 1,
}
DEEDS = {
    "goals_create": 3,
    "goals_add_task": 4,
    "goals_complete_task": 3,
    "decision_log": 2,
    "checkpoint_create": 1,
    "goals_complete": 1,
    "goals_get_tasks": 1,
}
READING = {"epistemics_list": 2, "checkpoint_load": 1, "goals_list": 2, "unknown_list": 2}

PROFILES = (
    Profile("careful", (2, 4), (2, 4), FINDINGS | READING, DEEDS | READING, again=50, handover=80),
    Profile("fast", (1, 1), (1, 2), FINDINGS, DEEDS, again=0, handover=20),
    Profile("error-prone", (1, 3), (1, 3), FINDINGS, DEEDS, misses=15, careless=0.25),
    Profile(
        *("bulk", (4, 8), (5, 9)),
        {"finding_log": 5, "unknown_log": 4, "deadend_log": 2},
        {"goals_create": 3, "goals_add_task": 6, "goals_complete_task": 4, "decision_log": 3},
        again=10,
    ),
)


@dataclass(slots=True)
class Story:
    """Where one agent is. `left` is how many calls its phase has left; `checks` how many CHECKs
    this loop had, `loops` how many loops are done."""

    profile: Profile
    phase: Phase = Phase.BEGIN
    session: Obj | None = None
    left: int = 0
    checks: int = 0
    loops: int = 0
    read: bool = False
    made: dict[str, list[Obj]] = field(default_factory=dict)


class StoryMachine(ProgramMachine):
    """Whole loops of CASCADE, each agent in a way of its own: careful, fast, error-prone, bulk."""

    profiles: ClassVar[tuple[Profile, ...]] = PROFILES
    tools = (
        *("session_create", "submit_preflight_assessment", "submit_check_assessment"),
        *("submit_postflight_assessment", "resume_previous_session", "handoff_create"),
        *dict.fromkeys([*FINDINGS, *DEEDS, *READING]),
    )

    def __init__(self) -> None:
        super().__init__()
        self.stories = [Story(self.profiles[0]) for _ in range(self.knobs.agents)]
        self.common: dict[str, list[Obj]] = {}

    @initialize(
        seed=st.integers(0, 2**64 - 1),
        ways=st.lists(st.integers(0, 63), min_size=1, max_size=8),
        legacy=st.booleans(),
        inflight=st.integers(1, 8),
    )
    def cast(self, seed: int, ways: list[int], legacy: bool, inflight: int) -> None:
        """Who works how, and what they start from. `seed` is of what error-prone agents send."""
        self._seed = seed
        self.inflight = 1 + inflight % self.knobs.inflight
        for agent, story in enumerate(self.stories):
            story.profile = self.profiles[(ways[agent % len(ways)] + agent) % len(self.profiles)]
        if legacy and self.knobs.share:
            with self.prefix():
                self.leave()

    def careless(self, agent: int) -> float:
        return max(self.knobs.bad, self.stories[agent].profile.careless)

    @property
    def active(self) -> int:
        """How many agents take part."""
        return min(self.knobs.agents, max(2, self.knobs.calls // LOOP))

    @rule(agent=st.integers(0, 63), pick=chance, which=chance, same=chance)
    def go_on(self, agent: int, pick: int, which: int, same: int) -> None:
        """One agent's next step."""
        if not self.full:
            self.step(self.turn(agent) % self.active, pick, which, same)

    # ------------------------------------------------------------------ the loop

    def step(self, agent: int, pick: int, which: int, same: int) -> None:
        """The next call of an agent's story. `pick` and `which` choose it; `same` is held against
        how much agents share."""
        story = self.stories[agent]
        profile = story.profile
        if story.phase is Phase.BEGIN:
            self._begin(agent, story, pick, same)
        elif story.phase is Phase.PREFLIGHT:
            self._assess(agent, "preflight", 0.3 + pick / 500, 0.5)
            self._enter(story, Phase.INVESTIGATE, profile.investigate, which)
        elif story.phase is Phase.INVESTIGATE:
            self._do(agent, profile.findings, pick, which, same)
            story.left -= 1
            if story.left <= 0:
                story.phase = Phase.CHECK
        elif story.phase is Phase.CHECK:
            again = pick < profile.again and story.checks + 1 < MOST_CHECKS
            self._assess(agent, "check", 0.5 + pick / 500, 0.6 if again else 0.2)
            story.checks += 1
            if again:
                self._enter(story, Phase.INVESTIGATE, profile.investigate, which)
            else:
                self._enter(story, Phase.ACT, profile.act, which)
        elif story.phase is Phase.ACT:
            self._do(agent, profile.deeds, pick, which, same)
            story.left -= 1
            if story.left <= 0:
                story.phase = Phase.POSTFLIGHT
        elif story.phase is Phase.POSTFLIGHT:
            self._assess(agent, "postflight", 0.7 + pick / 500, 0.1)
            story.checks, story.loops, story.read = 0, story.loops + 1, False
            hands_over = pick < profile.handover and "handoff_create" in self.tools
            again = which < 50
            story.phase = Phase.PREFLIGHT if again else Phase.BEGIN
            if hands_over:
                story.phase = Phase.HANDOVER
        else:
            self._hand_over(agent)
            story.phase = Phase.BEGIN

    def _enter(self, story: Story, phase: Phase, calls: tuple[int, int], draw: int) -> None:
        """Begin a phase of so many calls, at least and at most; a short program has short ones, or
        nobody would ever get to act."""
        least, most = calls
        room = max(1, self.knobs.calls // self.active // 4)
        story.phase, story.left = phase, min(room, least + draw % (most - least + 1))

    def finish(self) -> None:
        """Loops that were cut off are brought to their end: nobody leaves in the middle."""
        self.stage = "lane"
        for agent, story in enumerate(self.stories):
            if story.phase in (Phase.INVESTIGATE, Phase.CHECK) and not story.checks:
                self._assess(agent, "check", 0.6, 0.2)
            if story.phase in (Phase.INVESTIGATE, Phase.CHECK, Phase.ACT, Phase.POSTFLIGHT):
                self._assess(agent, "postflight", 0.7, 0.1)
        self.stage = "suffix"

    def worthwhile(self, program: Program) -> bool:
        """A story that one agent tells alone races with nothing."""
        return sum(bool(lane) for lane in program.lanes) > 1 or self.knobs.agents == 1

    # ------------------------------------------------------------------ calls

    def _begin(self, agent: int, story: Story, pick: int, same: int) -> None:
        """Read how somebody's work ended, where that can be asked, and open a session."""
        if not story.read and "resume_previous_session" in self.tools and pick < 50:
            story.read = True
            other = (agent + 1) % self.active if self.sharing(same) else agent
            args = {"ai_id": f"ai-{0 if self.common else other}", "count": 1 + pick % 3}
            self.call(agent, "resume_previous_session", args)
            return
        call = self.call(agent, "session_create", {"ai_id": f"ai-{agent}"}, "subject")
        story.session, story.phase = self.made(call, "session_id"), Phase.PREFLIGHT

    def _assess(self, agent: int, phase: str, know: float, uncertainty: float) -> None:
        vectors = {"know": round(know, 2), "uncertainty": uncertainty, "engagement": 0.7}
        tool = f"submit_{phase}_assessment"
        self.call(agent, tool, {**self._session(agent), "vectors": vectors}, "reasoning")

    def _session(self, agent: int) -> dict[str, Any]:
        session = self.stories[agent].session
        assert session is not None, "a loop begins with a session"
        return {"session_id": session.ref}

    def _hand_over(self, agent: int) -> None:
        args = {
            **self._session(agent),
            "key_findings": '["the index is stale"]',
            "next_session_context": "go on with the index",
        }
        self.call(agent, "handoff_create", args, token_in="task_summary")

    def _do(self, agent: int, tools: Mapping[str, int], pick: int, which: int, same: int) -> None:
        """One of these tools, by weight, on what there is to work on; where there is nothing, what
        would make it."""
        known = {tool: weight for tool, weight in tools.items() if tool in self.tools}
        by_weight = [tool for tool, weight in known.items() for _ in range(weight)]
        tool = by_weight[pick * len(by_weight) // 100]
        missing = which >= 100 - self.stories[agent].profile.misses
        for kind, users in WORKS_ON.items():
            if tool in users:
                found = self._some(agent, kind, which, same)
                if found is not None or missing:
                    id = MISSING if missing or found is None else found.ref
                    self._use(agent, tool, {f"{kind}_id": id})
                    return
                tool = MAKES[kind]
        self._tell(agent, tool, which, same)

    def _some(self, agent: int, kind: str, which: int, same: int) -> Obj | None:
        """Something of this kind: left to all, or the agent's own."""
        common = self.common.get(kind, []) if self.sharing(same) else []
        own = self.stories[agent].made.get(kind, [])
        choice = common or own
        return choice[which % len(choice)] if choice else None

    def _use(self, agent: int, tool: str, args: dict[str, Any]) -> None:
        call = self.call(agent, tool, args, token_in=TOKEN_IN.get(tool, ""))
        if tool == "goals_add_task":
            self._keep("task", self.made(call, "task_id"))

    def _tell(self, agent: int, tool: str, which: int, same: int) -> None:
        """A tool that needs nothing but the session."""
        args = self._session(agent)
        if tool in TEXTS and self.sharing(same) and which % 3 == 0:
            call = self.call(
                agent, tool, args | {TEXTS[tool]: COMMON_TEXTS[which % 2]}, token_in=BESIDE[tool]
            )
        elif tool == "checkpoint_create":
            call = self.call(agent, tool, args | {"phase": "ACT"}, "metadata", '{"token": "{}"}')
        elif tool == "deadend_log":
            call = self.call(agent, tool, args | {"why_failed": "too slow"}, token_in="approach")
        elif tool == "decision_log":
            call = self.call(agent, tool, args | {"rationale": "simpler"}, token_in="choice")
        else:
            call = self.call(agent, tool, args, token_in=TEXTS.get(tool, ""))
        if tool in ("goals_create", "unknown_log"):
            kind = "goal" if tool == "goals_create" else "unknown"
            self._keep(kind, self.made(call, f"{kind}_id"))

    def _keep(self, kind: str, obj: Obj) -> None:
        known = self.common if obj.common else self.stories[obj.agent].made
        known.setdefault(kind, []).append(obj)

    def leave(self) -> None:
        """A loop of agent 0, whose goal, task and unknown are left to all."""
        story = self.stories[0]
        self._begin(0, story, 99, 99)
        self._assess(0, "preflight", 0.3, 0.5)
        self._tell(0, "unknown_log", 1, 99)
        self._assess(0, "check", 0.5, 0.2)
        self._tell(0, "goals_create", 1, 99)
        self._use(0, "goals_add_task", {"goal_id": self.common["goal"][0].ref})
        self._assess(0, "postflight", 0.7, 0.1)
        if "handoff_create" in self.tools:
            self._hand_over(0)
        story.phase, story.session = Phase.BEGIN, None

    @classmethod
    def offered(cls, tools: Collection[str]) -> type[ProgramMachine]:
        """The same for a target that offers `tools`: agents do without the others."""
        left = tuple(tool for tool in cls.tools if tool in tools)
        if left == cls.tools:
            return cls
        return type(cls.__name__, (cls,), {"tools": left, "__module__": cls.__module__})


TEXTS = {"finding_log": "finding", "unknown_log": "unknown", "goals_create": "objective"}
"""Tool → the text that the target knows things by."""
BESIDE = {"finding_log": "subject", "unknown_log": "subject", "goals_create": "description"}
"""Where the token stands if that text is one that others use, too."""
TOKEN_IN = {
    "goals_add_task": "description",
    "goals_complete_task": "evidence",
    "goals_complete": "reason",
    "unknown_resolve": "resolved_by",
}
WORKS_ON = {
    "task": ("goals_complete_task",),
    "goal": ("goals_add_task", "goals_complete", "goals_get_tasks"),
    "unknown": ("unknown_resolve",),
}
MAKES = {"task": "goals_add_task", "goal": "goals_create", "unknown": "unknown_log"}


class CarefulStory(StoryMachine):
    """CASCADE by agents that investigate, check and read a lot, and hand over."""

    profiles = PROFILES[:1]


class FastStory(StoryMachine):
    """CASCADE by agents in a hurry."""

    profiles = PROFILES[1:2]


class ErrorProneStory(StoryMachine):
    """CASCADE by agents that send bad input and ids that nothing has."""

    profiles = PROFILES[2:3]


class BulkStory(StoryMachine):
    """CASCADE by agents that write a lot."""

    profiles = PROFILES[3:4]
