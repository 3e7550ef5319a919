"""Scenarios: programs long enough to be measured, of calls that models know."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from mcpconc.model.empirica.spec import MODELLED
from mcpconc.program import Program, refs
from mcpconc.reference.server import TOOLS as REFERENCE
from mcpconc.strategies import Knobs
from mcpconc.strategies.cascade import READS
from mcpconc.strategies.scenarios import CLASSES, SCENARIOS, class_of, written

NAMES = tuple(SCENARIOS)


@cache
def some(name: str, agents: int = 5, calls: int = 60, count: int = 3) -> list[Program]:
    return written(SCENARIOS[name], Knobs(agents=agents, calls=calls), 1, count)


def tools(programs: list[Program]) -> Counter[str]:
    return Counter(call.tool for p in programs for lane in p.lanes for call in lane)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_writes_the_same_programs(name: str) -> None:
    again = written(SCENARIOS[name], Knobs(agents=5, calls=60), 1, 3)
    assert [p.digest() for p in some(name)] == [p.digest() for p in again]
    assert len(some(name)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_agents_have_about_as_much_to_do(name: str) -> None:
    for program in some(name):
        lengths = sorted(map(len, program.lanes))
        assert 60 <= sum(lengths) <= 75
        assert lengths[-1] <= 2 * lengths[0]


@pytest.mark.parametrize("name", NAMES)
def test_one_agent_alone_has_its_programs_too(name: str) -> None:
    for program in written(SCENARIOS[name], Knobs(agents=1, calls=12, share=0.0), 1, 3):
        assert len(program.lanes) == 1
        assert not program.prefix
        assert program.concurrent() >= 12


@pytest.mark.parametrize("name", NAMES)
def test_references_point_to_what_the_agent_can_know(name: str) -> None:
    for program in some(name):
        common = {call.id for call in program.prefix}
        for lane in program.lanes:
            own: set[str] = set()
            for call in lane:
                assert call.bad or all(ref.call in common | own for ref in refs(call.args))
                own.add(call.id)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_target_lacks_is_left_out(name: str) -> None:
    scenario = SCENARIOS[name].offered(tuple(REFERENCE))
    programs = written(scenario, Knobs(agents=3, calls=30), 1, 3)
    assert set(tools(programs)) <= set(REFERENCE)
    assert all(program.concurrent() >= 30 for program in programs)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tools"])
def test_calls_are_such_that_models_know(name: str) -> None:
    assert set(tools(some(name))) <= set(MODELLED)


def test_bootstrap_lets_everybody_do_the_same_at_the_same_moment() -> None:
    assert SCENARIOS["bootstrap"].rounds
    for program in some("bootstrap"):
        for row in zip(*program.lanes, strict=False):
            assert len({call.tool for call in row}) == 1
        assert {lane[0].tool for lane in program.lanes} == {"session_create"}


def test_checkpoints_are_of_each_agents_own_session() -> None:
    made = tools(some("checkpoints"))
    assert made["checkpoint_create"] > made.total() / 3
    assert made["checkpoint_load"] > 0
    for program in some("checkpoints"):
        for lane in program.lanes:
            (session,) = [call.id for call in lane if call.tool == "session_create"]
            assert {ref.call for call in lane for ref in refs(call.args)} == {session}


def test_the_database_is_read_about_as_much_as_it_is_written() -> None:
    made = tools(some("database"))
    reads = sum(n for tool, n in made.items() if tool in READS)
    assert 0.2 < reads / made.total() < 0.6


def test_tools_are_many() -> None:
    assert len(tools(some("tools"))) > 2 * len(tools(some("bootstrap")))
    assert len(tools(some("tools"))) >= 25


def test_every_profile_goes_through_whole_loops() -> None:
    made = tools(some("cascade"))
    loop = [made[f"submit_{phase}_assessment"] for phase in ("preflight", "check", "postflight")]
    assert min(loop) > 0
    assert any(call.bad for p in some("cascade") for lane in p.lanes for call in lane)


def test_every_scenario_says_what_it_is() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert scenario.about.startswith("Agents ")
        assert scenario.about.endswith(".")


def test_every_tool_is_of_one_class() -> None:
    listed = [tool for those in CLASSES.values() for tool in those]
    assert len(listed) == len(set(listed))
    assert class_of("goals_list") == "reads"
    assert class_of("goals_create") == "goals"
    assert class_of("somebody_elses") == "somebody_elses"
