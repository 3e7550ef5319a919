"""Families of programs for load: what several agents do at once, long enough to be measured.

All of them call what models know, so that load is judged like any other run; what a target does not
offer is left out. They are drawn with the same `Knobs` as any program: `calls` is about how many
the concurrent part has, shared evenly by the agents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hypothesis.stateful import rule

from mcpconc.program import Program
from mcpconc.strategies.cascade import COMMON_AI, READS, WRITES, CascadeMachine
from mcpconc.strategies.machine import Knobs, Obj, ProgramMachine, chance, generate
from mcpconc.strategies.story import (
    FINDINGS,
    PROFILES,
    READING,
    Phase,
    Profile,
    Story,
    StoryMachine,
)
from mcpconc.variety import varied

__all__ = [
    "CLASSES",
    "SCENARIOS",
    "BootstrapMachine",
    "CheckpointMachine",
    "DatabaseMachine",
    "LoopMachine",
    "Scenario",
    "ToolsMachine",
    "written",
]

CLASSES: Mapping[str, tuple[str, ...]] = {
    "sessions": ("session_create", "resume_previous_session", "project_bootstrap"),
    "assessments": (
        *("submit_preflight_assessment", "submit_check_assessment"),
        *("submit_postflight_assessment",),
    ),
    "checkpoints": ("checkpoint_create", "checkpoint_load", "handoff_create"),
    "goals": tuple(tool for tool in WRITES if tool.startswith("goals_")),
    "artifacts": tuple(
        tool for tool in WRITES if tool.endswith(("_log", "_resolve", "_artifacts"))
    ),
    "bus": tuple(tool for tool in (*WRITES, *READS) if tool.startswith("bus_")),
}
"""Class → tools of it. Those that only read are ``reads``, unless they are named here."""

VECTORS = {"know": 0.5, "uncertainty": 0.3, "engagement": 0.7}
PHASES = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")

MIXED = (
    *FINDINGS.items(),
    *((tool, 2 * weight) for tool, weight in READING.items()),
    ("goals_create", 2),
    ("goals_add_task", 3),
    ("goals_complete_task", 2),
    ("goals_get_tasks", 2),
    ("decision_log", 1),
)
"""Tool → how often, where a database is to be busy: about as many reads as writes."""


def class_of(tool: str) -> str:
    """The class that a tool is of; a tool that none is known for is a class by itself."""
    for name, tools in CLASSES.items():
        if tool in tools:
            return name
    return "reads" if tool in READS else tool


class Even(ProgramMachine):
    """Whose turn it is depends on who has the fewest calls: the agents are at work for about as
    long as each other."""

    def turn(self, agent: int) -> int:
        fewest = min(map(len, self._lanes))
        behind = [n for n, lane in enumerate(self._lanes) if len(lane) == fewest]
        return behind[agent % len(behind)]


class StepMachine(Even):
    """Agents take turns, and each goes on where it was: `step` appends an agent's next call."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[int, Obj] = {}
        self.steps = [0] * self.knobs.agents
        self.offers = frozenset(self.tools)

    @rule(agent=chance, pick=chance, same=chance)
    def go_on(self, agent: int, pick: int, same: int) -> None:
        """One agent's next call."""
        if not self.full:
            who = self.turn(agent)
            self.step(who, pick, same)
            self.steps[who] += 1

    def step(self, agent: int, pick: int, same: int) -> None:
        raise NotImplementedError

    def enter(self, agent: int, ai: str) -> None:
        """Open a session, which is the agent's from now on."""
        call = self.call(agent, "session_create", {"ai_id": ai}, "subject")
        self.sessions[agent] = self.made(call, "session_id")

    def here(self, agent: int) -> dict[str, Any]:
        return {"session_id": self.sessions[agent].ref}

    def offered_of(self, *tools: str) -> tuple[str, ...]:
        return tuple(tool for tool in tools if tool in self.offers)

    @classmethod
    def offered(cls, tools: Collection[str]) -> type[ProgramMachine]:
        """The same for a target that offers `tools`: agents do without the others."""
        left = tuple(tool for tool in cls.tools if tool in tools)
        if left == cls.tools:
            return cls
        return type(cls.__name__, (cls,), {"tools": left, "__module__": cls.__module__})


class BootstrapMachine(StepMachine):
    """Agents create sessions at the same moment, look around, and begin their work."""

    tools = (
        *("session_create", "project_bootstrap", "submit_preflight_assessment"),
        *("resume_previous_session", "assess_state"),
    )
    ROUND: ClassVar[tuple[str, ...]] = (
        *("session_create", "project_bootstrap", "submit_preflight_assessment"),
        *("resume_previous_session", "session_create", "assess_state"),
    )

    def step(self, agent: int, pick: int, same: int) -> None:
        # Everybody is at the same step, so that like meets like.
        order = self.offered_of(*self.ROUND)
        tool = order[self.steps[agent] % len(order)]
        ai = COMMON_AI if self.sharing(same) else f"ai-{agent}"
        if tool == "session_create":
            self.enter(agent, ai)
        elif tool == "resume_previous_session":
            self.call(agent, tool, {"ai_id": ai, "count": 1 + pick % 3})
        elif tool == "submit_preflight_assessment":
            self.call(agent, tool, {**self.here(agent), "vectors": VECTORS}, "reasoning")
        else:
            self.call(agent, tool, self.here(agent))


class CheckpointMachine(StepMachine):
    """Agents make checkpoints of their sessions, all in one repository, and read them back."""

    tools = (
        *("session_create", "submit_preflight_assessment", "checkpoint_create"),
        *("checkpoint_load", "epistemics_list"),
    )

    def step(self, agent: int, pick: int, same: int) -> None:
        if agent not in self.sessions:
            self.enter(agent, f"ai-{agent}")
            return
        reads = self.offered_of("checkpoint_load", "checkpoint_load", "epistemics_list")
        if self.steps[agent] == 1 or pick < 10:
            args = {**self.here(agent), "vectors": {**VECTORS, "know": round(0.3 + pick / 200, 2)}}
            self.call(agent, "submit_preflight_assessment", args, "reasoning")
        elif pick < 70 or not reads:
            args = {**self.here(agent), "phase": PHASES[pick % len(PHASES)]}
            self.call(agent, "checkpoint_create", args, "metadata", '{"token": "{}"}')
        else:
            self.call(agent, reads[pick % len(reads)], self.here(agent))


class DatabaseMachine(Even, StoryMachine):
    """Agents read and write one database as much as they can."""

    profiles = (Profile("busy", (8, 12), (8, 12), dict(MIXED), dict(MIXED), again=0, handover=0),)
    tools = (
        *("session_create", "submit_preflight_assessment", "submit_check_assessment"),
        *("submit_postflight_assessment", *dict(MIXED)),
    )

    def _enter(self, story: Story, phase: Phase, calls: tuple[int, int], draw: int) -> None:
        # However short the program: most of it is to be what the phases are about.
        least, most = calls
        story.phase, story.left = phase, least + draw % (most - least + 1)


class ToolsMachine(Even, CascadeMachine):
    """Agents call all tools at once, in any order."""


class LoopMachine(Even, StoryMachine):
    """Agents go through whole loops of CASCADE, each in the way of its investigation profile."""

    tools = StoryMachine.tools
    profiles = PROFILES


@dataclass(frozen=True, slots=True)
class Scenario:
    """A family of programs. With `rounds` all agents send their next calls at the same moment;
    with `wide` programs are chosen among several times as many for the tools that they call."""

    name: str
    machine: type[ProgramMachine]
    rounds: bool = False
    wide: bool = False

    @property
    def about(self) -> str:
        """One sentence."""
        return (self.machine.__doc__ or "").partition("\n")[0]

    def offered(self, tools: Collection[str]) -> Scenario:
        """The same for a target that offers `tools`."""
        return replace(self, machine=self.machine.offered(tools)) if self.machine.tools else self


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("bootstrap", BootstrapMachine, rounds=True),
        Scenario("checkpoints", CheckpointMachine),
        Scenario("database", DatabaseMachine),
        Scenario("tools", ToolsMachine, wide=True),
        Scenario("cascade", LoopMachine),
    )
}

WIDE = 5
"""How many times as many programs are written as are run, where they are chosen."""


def written(scenario: Scenario, knobs: Knobs, seed: int, count: int) -> list[Program]:
    """`count` programs of a scenario, the same ones for the same seed; fewer where it has no
    more."""
    programs = generate(scenario.machine, knobs, seed, count * WIDE if scenario.wide else count)
    return list(varied(programs))[:count] if scenario.wide else programs
