"""State machines write programs and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from mcpconc.program import Program, Ref, refs
from mcpconc.strategies import CascadeMachine, Knobs, ProgramMachine, act, generate, needs
from mcpconc.strategies.brief import brief

GOAL = Ref("0.1", "goal_id")


@cache
def cascade(seed: int = 1, count: int = 20, **knobs: Any) -> list[Program]:
    return generate(CascadeMachine, Knobs(**knobs), seed, count)


def test_the_same_seed_writes_the_same_programs() -> None:
    again = generate(CascadeMachine, Knobs(), 1, 20)
    assert [p.digest() for p in cascade()] == [p.digest() for p in again]
    assert [p.digest() for p in cascade()] != [p.digest() for p in cascade(2)]


def test_programs_survive_json() -> None:
    for program in cascade():
        assert Program.from_json(program.to_json()) == program


def test_a_reference_points_to_an_earlier_call_that_the_agent_can_know() -> None:
    for program in cascade():
        common = {c.id for c in program.prefix}
        for lane in program.lanes:
            own: set[str] = set()
            for call in lane:
                assert all(r.call in common | own for r in refs(call.args))
                own.add(call.id)


def test_tokens_are_unique_and_stand_in_an_argument() -> None:
    for program in cascade():
        tokens = [c.token for c in program.calls() if c.token]
        assert len(tokens) == len(set(tokens))
        for call in program.calls():
            assert call.token in str(dict(call.args))


def test_without_sharing_no_agent_touches_what_another_made() -> None:
    for program in cascade(share=0.0):
        assert not program.prefix
        for lane in program.lanes:
            own = {c.id for c in lane}
            assert all(r.call in own for c in lane for r in refs(c.args))
            assert all(c.args.get("ai_id") != "ai-common" for c in lane)


@pytest.mark.parametrize(("agents", "calls"), [(1, 6), (50, 60)])
def test_knobs_bound_the_size(agents: int, calls: int) -> None:
    programs = cascade(agents=agents, calls=calls, count=5)
    assert programs
    for program in programs:
        assert len(program.lanes) == agents
        # A rule may need a session first, so one call more is possible.
        assert program.concurrent() <= calls + 1


def test_inflight_is_used_up_to_its_bound() -> None:
    assert {p.inflight for p in cascade(inflight=3, count=40)} == {1, 2, 3}
    assert {p.inflight for p in cascade()} == {1}


def test_every_tool_is_called_sooner_or_later() -> None:
    called = {c.tool for seed in range(1, 13) for p in cascade(seed) for c in p.calls()}
    assert called == set(CascadeMachine.tools)


def test_reads_alone_are_not_worth_running() -> None:
    reads = CascadeMachine.tools[-7:]
    for program in cascade():
        assert any(c.tool not in reads for lane in program.lanes for c in lane)


def test_a_subclass_adds_tools_in_a_few_lines() -> None:
    class Noted(CascadeMachine):
        @act(loud=st.booleans())
        def note(self, agent: int, loud: bool) -> None:
            self.call(agent, "note", {"tag": "loud" if loud else "low"}, token_in="text")

    tools = {c.tool for p in generate(Noted, Knobs(), 3, 20) for c in p.calls()}
    assert "note" in tools


def test_under_pytest_the_machine_delivers_and_fails_with_the_report_not_with_flakiness() -> None:
    class Ping(ProgramMachine):
        @act()
        def ping(self, agent: int) -> None:
            self.call(agent, "ping", {}, token_in="text")

    verdicts: dict[str, AssertionError] = {}

    def deliver(program: Program) -> None:
        raise verdicts.setdefault(program.digest(), AssertionError(f"minimised {program.digest()}"))

    class Bound(Ping):
        pass

    Bound.deliver = deliver
    case = Bound.TestCase
    case.settings = settings(max_examples=5, stateful_step_count=4, deadline=None)
    with pytest.raises(AssertionError, match="minimised"):
        case("runTest").runTest()


def test_what_the_target_does_not_offer_is_left_out() -> None:
    class Noted(CascadeMachine):
        tools = (*CascadeMachine.tools, "jot")

        @act(loud=st.booleans())
        @needs("jot")
        def jot(self, agent: int, loud: bool) -> None:
            self.call(agent, "jot", {"tag": "loud" if loud else "low"}, token_in="text")

    without = Noted.offered(CascadeMachine.tools)
    assert without.tools == CascadeMachine.tools
    digests = [p.digest() for p in generate(without, Knobs(), 1, 20)]
    assert digests == [p.digest() for p in cascade()]
    assert Noted.offered(Noted.tools) is Noted


def test_for_a_target_that_knows_them_some_calls_are_written_in_short() -> None:
    machine = CascadeMachine.shortening()
    assert machine.shortening() is machine
    assert machine.tools == CascadeMachine.tools
    programs = [p for seed in range(1, 8) for p in generate(machine, Knobs(), seed, 20)]
    short = [p for p in programs if any(r.keep for c in p.calls() for r in refs(c.args))]
    assert 0 < len(short) < len(programs) / 2
    logs = [c for p in programs for c in p.calls() if c.tool == "finding_log"]
    assert {"session_id" in c.args for c in logs} == {True, False}
    assert not [r for p in cascade() for c in p.calls() for r in refs(c.args) if r.keep]


@pytest.mark.parametrize(
    ("tool", "args", "short"),
    [
        (
            "goals_progress",
            {"goal_id": Ref("0.1", "goal_id")},
            {"goal_id": Ref("0.1", "goal_id", 8)},
        ),
        ("goals_refresh", {"goal_id": Ref("0.1", "goal_id")}, {"goal_id": Ref("0.1", "goal_id")}),
        ("goals_progress", {"goal_id": "no-such"}, {"goal_id": "no-such"}),
        ("finding_log", {"session_id": Ref("0.0", "session_id"), "finding": "x"}, {"finding": "x"}),
        ("goals_list", {"session_id": "s"}, {"session_id": "s"}),
    ],
)
def test_what_is_left_out_is_what_the_tool_does_not_need(
    tool: str, args: dict[str, Any], short: dict[str, Any]
) -> None:
    assert brief(tool, args) == short


@pytest.mark.parametrize("kept", range(4))
def test_no_rule_calls_what_is_not_offered(kept: int) -> None:
    """Of the tools that not every release of Empirica has, a quarter is offered at a time."""
    core = {"session_create", "goals_create"}
    tools = core | set(CascadeMachine.tools[kept::4])
    machine = CascadeMachine.offered(tools)
    programs = [p for seed in range(1, 6) for p in generate(machine, Knobs(), seed, 10)]
    called = {c.tool for p in programs for c in p.calls()}
    assert called <= tools
    assert len(called) > 4


def test_tokens_may_stand_deep_in_an_argument() -> None:
    class Deep(ProgramMachine):
        @act()
        def log(self, agent: int) -> None:
            form = [{"data": {"text": "of {}", "weight": 1}}]
            self.call(agent, "log", {}, token_in="nodes", form=form)

    call = next(next(iter(generate(Deep, Knobs(), 1, 2))).calls())
    assert call.args == {"nodes": [{"data": {"text": f"of {call.token}", "weight": 1}}]}
