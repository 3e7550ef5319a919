"""Stories: every session goes through whole loops of CASCADE, in the way of its agent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mcpconc.program import Call, Program, Ref, refs
from mcpconc.strategies import (
    BulkStory,
    CarefulStory,
    ErrorProneStory,
    FastStory,
    Knobs,
    ProgramMachine,
    StoryMachine,
    generate,
)
from mcpconc.strategies.story import DEEDS, FINDINGS, PROFILES

GOLDEN = Path(__file__).parents[1] / "golden" / "story.txt"
MACHINES = (StoryMachine, CarefulStory, FastStory, ErrorProneStory, BulkStory)
LETTERS = {
    "submit_preflight_assessment": "P",
    "submit_check_assessment": "C",
    "submit_postflight_assessment": "O",
    "handoff_create": "H",
    **dict.fromkeys(FINDINGS, "f"),
    **dict.fromkeys(DEEDS, "d"),
}
LOOPS = re.compile(r"(P[fdr]*C([fdr]*C)*[fdr]*OH?)*P?")


@cache
def told(machine: type[ProgramMachine], **knobs: Any) -> list[Program]:
    return generate(machine, Knobs(**{"agents": 3, "calls": 36, **knobs}), 3, 10)


def sessions(program: Program) -> Iterator[list[Call]]:
    """The good calls that each agent makes in each of its sessions."""
    for part in (program.prefix, *program.lanes):
        one: list[Call] = []
        for call in part:
            if call.tool == "session_create" and not call.bad:
                yield one
                one = []
            elif not call.bad and call.tool != "resume_previous_session":
                one.append(call)
        yield one


@pytest.mark.parametrize("machine", MACHINES)
def test_every_session_is_a_row_of_whole_loops(machine: type[ProgramMachine]) -> None:
    for program in told(machine):
        for session in sessions(program):
            loops = "".join(LETTERS.get(call.tool, "r") for call in session)
            assert LOOPS.fullmatch(loops), loops


@pytest.mark.parametrize("machine", MACHINES)
def test_an_agent_works_in_the_session_that_it_opened_last(machine: type[ProgramMachine]) -> None:
    for program in told(machine):
        for part in (program.prefix, *program.lanes):
            opened = ""
            for call in (c for c in part if not c.bad):
                session = call.args.get("session_id")
                assert session is None or session == Ref(opened, "session_id")
                opened = call.id if call.tool == "session_create" else opened


def test_references_point_to_what_the_agent_can_know() -> None:
    for program in told(StoryMachine):
        common = {c.id for c in program.prefix}
        for lane in program.lanes:
            own: set[str] = set()
            for call in lane:
                assert all(ref.call in common | own for ref in refs(call.args))
                own.add(call.id)


def of(machine: type[ProgramMachine]) -> Counter[str]:
    return Counter(call.tool for p in told(machine) for lane in p.lanes for call in lane)


def test_profiles_set_the_mix() -> None:
    careful, fast, bulk = of(CarefulStory), of(FastStory), of(BulkStory)
    checks = [
        c["submit_check_assessment"] / c["submit_preflight_assessment"] for c in (careful, fast)
    ]
    assert checks[0] > checks[1] == 1  # who is in a hurry never investigates again
    assert careful["goals_list"] + careful["epistemics_list"] > 0
    assert not bulk["goals_list"] + bulk["epistemics_list"] + bulk["unknown_list"]
    written = {
        name: sum(c[tool] for tool in (*FINDINGS, *DEEDS))
        for name, c in {"fast": fast, "bulk": bulk}.items()
    }
    assert written["bulk"] > 1.5 * written["fast"]


def test_only_the_error_prone_send_bad_input() -> None:
    for machine in MACHINES[1:]:
        spoilt = any(call.bad for program in told(machine) for call in program.calls())
        assert spoilt == (machine is ErrorProneStory)


def test_every_way_of_working_is_met_in_a_mixed_story() -> None:
    tools = of(StoryMachine)
    assert set(FINDINGS) | {"goals_create", "goals_add_task", "decision_log"} <= set(tools)
    assert {profile.name for profile in StoryMachine.profiles} == {p.name for p in PROFILES}
    assert len(PROFILES) == 4


def test_work_is_handed_over_where_the_target_knows_how() -> None:
    assert of(StoryMachine)["handoff_create"]
    assert of(StoryMachine)["resume_previous_session"]
    without = set(StoryMachine.tools) - {"handoff_create", "resume_previous_session", "deadend_log"}
    tools = of(StoryMachine.offered(without))
    assert set(tools) <= without
    assert tools["goals_create"]


def test_what_an_agent_left_in_the_prefix_is_worked_on_by_others() -> None:
    used = {
        call.tool
        for program in told(StoryMachine)
        for lane in program.lanes
        for call in lane
        if {r.call for r in refs(call.args)} & {c.id for c in program.prefix}
    }
    assert used & {"goals_add_task", "goals_complete_task", "goals_complete", "unknown_resolve"}


def test_without_sharing_nobody_sees_what_another_made() -> None:
    for program in told(StoryMachine, share=0.0):
        assert not program.prefix
        for agent, lane in enumerate(program.lanes):
            own = {call.id for call in lane}
            assert all(ref.call in own for call in lane for ref in refs(call.args))
            ais = {call.args.get("ai_id") for call in lane if not call.bad} - {None}
            assert ais <= {f"ai-{agent}"}


def story() -> str:
    """A careful agent and a fast one, told by hand: Hypothesis may draw something else tomorrow."""
    machine = StoryMachine.bound(Knobs(agents=2, calls=24))()
    machine.cast(0, [0, 0], True, 0)  # type: ignore[attr-defined]
    for n in range(28):
        machine.step(n % 2, n * 37 % 100, n * 53 % 100, n * 71 % 100)  # type: ignore[attr-defined]
    machine.finish()
    program = machine.program()
    lines = [_said(call) for call in program.prefix]
    for agent, lane in enumerate(program.lanes):
        lines += ["", f"agent {agent}", *map(_said, lane)]
    return "\n".join(lines) + "\n"


def _said(call: Call) -> str:
    given = ", ".join(
        f"{name}={value.call}.{value.path}" if isinstance(value, Ref) else f"{name}={value}"
        for name, value in call.args.items()
    )
    return f"{call.id} {call.tool}({given})" + (f"  {call.bad.kind}" if call.bad else "")


def test_a_story() -> None:
    assert story() == GOLDEN.read_text("utf-8")
