"""Shrinking, against made-up targets whose bug is known exactly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from random import Random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpconc import cuts
from mcpconc.program import Call, Fault, Program, Ref, refs
from mcpconc.shrink import Attempt, Shrunk, shrink

Bug = Callable[[Program], bool]


def call(id: str, tool: str = "write", **args: object) -> Call:
    agent = int(id.split(".")[0])
    return Call(id, agent, tool, args, f"tok{id}")


def typical(agents: int = 5, each: int = 3, inflight: int = 1) -> Program:
    """A session per agent and one goal in the prefix; lanes of `each` calls; reads behind."""
    sessions = [call(f"{a}.s", "session", name=f"agent{a}") for a in range(agents)]
    goal = call("0.g", "goal", session=Ref("0.s", "id"), text="a shared goal")
    lanes = tuple(
        tuple(
            call(f"{a}.{n}", session=Ref(f"{a}.s", "id"), goal=Ref("0.g", "id"), text=f"tok{a}.{n}")
            for n in range(each)
        )
        for a in range(agents)
    )
    reads = tuple(call(f"{a}.r", "read", goal=Ref("0.g", "id")) for a in range(agents))
    return Program(agents, (*sessions, goal), lanes, reads, inflight)


def together(*ids: str) -> Bug:
    """Fails where all these calls are concurrent, each in a lane of its own."""

    def bug(program: Program) -> bool:
        where = [n for n, lane in enumerate(program.lanes) for c in lane if c.id in ids]
        return len(where) == len(set(where)) == len(ids)

    return bug


def present(*ids: str) -> Bug:
    """Fails where these calls are made at all, in this order."""
    return lambda program: [c.id for c in program.calls() if c.id in ids] == list(ids)


def test_faults_that_it_does_not_need_go() -> None:
    stormy = replace(typical(), faults=(Fault("cancel", "0.0"), Fault("hold-lock", "1.0")))

    def bug(program: Program) -> bool:
        struck = any(fault.name == "cancel" for fault in program.faults)
        return struck and together("0.0", "1.0")(program)

    made = anyio.run(shrink, stormy, ("0.0", "1.0"), attempts_on(bug))
    assert made.program.faults == (Fault("cancel", "0.0"),)
    assert made.program.concurrent() == 2


def attempts_on(
    bug: Bug, seen: list[Program] | None = None, p: float = 1.0, tries: int = 3
) -> Callable[[Program], Awaitable[Attempt]]:
    random = Random(7)

    async def attempt(program: Program) -> Attempt:
        check(program)
        if seen is not None:
            seen.append(program)
        for n in range(1, tries + 1):
            if bug(program) and random.random() < p:
                return Attempt(1, n)
        return Attempt(0, tries)

    return attempt


def check(program: Program) -> None:
    """No candidate may hold a Ref to a call that is gone or comes later, or a foreign call."""
    known: set[str] = set()
    for part in (program.prefix, *program.lanes, program.suffix):
        for c in part:
            assert {ref.call for ref in refs(c.args)} <= known
            assert c.agent < program.agents
            known.add(c.id)
    for agent, lane in enumerate(program.lanes):
        assert all(c.agent == agent for c in lane)


def minimise(
    program: Program,
    bug: Bug,
    calls: Collection[str] = (),
    p: float = 1.0,
    **more: object,
) -> Shrunk:
    async def run() -> Shrunk:
        return await shrink(program, calls, attempts_on(bug, p=p), **more)  # type: ignore[arg-type]

    return anyio.run(run)


def ids(program: Program) -> set[str]:
    return {c.id for c in program.calls()}


def test_the_first_jump_keeps_only_what_is_involved() -> None:
    seen: list[Program] = []

    async def run() -> Shrunk:
        bug = together("1.1", "3.2")
        return await shrink(typical(), ["1.1", "3.2"], attempts_on(bug, seen))

    result = anyio.run(run)
    assert ids(seen[0]) == {"1.1", "3.2", "1.s", "3.s", "0.s", "0.g"}
    assert result.finished
    assert result.program.concurrent() == 2
    assert result.attempts <= 10


def test_one_session_and_one_agent_less_where_they_do_not_matter() -> None:
    result = minimise(typical(), together("1.1", "3.2"), ["1.1", "3.2"])
    assert [c.tool for c in result.program.prefix] == ["session", "goal"]
    assert result.program.agents == 2


def test_wrong_hint_costs_tries_but_not_the_result() -> None:
    result = minimise(typical(), together("1.1", "3.2"), ["0.0", "4.2"])
    assert {c.id for lane in result.program.lanes for c in lane} == {"1.1", "3.2"}
    assert result.attempts <= 40


def test_sequential_finding_loses_its_lanes() -> None:
    result = minimise(typical(), present("1.1", "3.2"), ["1.1", "3.2"])
    assert result.program.concurrent() == 0
    assert {"1.1", "3.2"} <= ids(result.program)
    assert result.attempts <= 15


def test_calls_that_matter_only_before_or_after_leave_the_lanes() -> None:
    def bug(program: Program) -> bool:
        order = [c.id for c in program.calls()]
        return (
            together("1.1", "3.2")(program)
            and {"1.0", "3.1", "1.2"} <= set(order)
            and order.index("1.0") < order.index("1.1") < order.index("1.2")
            and order.index("3.1") < order.index("3.2")
        )

    program = minimise(typical(), bug, ["1.1", "3.2"]).program
    assert [c.id for lane in program.lanes for c in lane] == ["1.1", "3.2"]
    assert {"1.0", "3.1"} <= {c.id for c in program.prefix}
    assert "1.2" in {c.id for c in program.suffix}


def test_calls_that_matter_only_as_a_pair_go_together() -> None:
    def bug(program: Program) -> bool:
        both = {"0.0", "0.1"} & ids(program)
        return together("1.1", "3.2")(program) and len(both) != 1

    program = minimise(typical(), bug, ["0.0", "0.1", "1.1", "3.2"]).program
    assert not {"0.0", "0.1"} & ids(program)


def test_concurrency_within_one_lane_is_kept_where_it_matters() -> None:
    def bug(program: Program) -> bool:
        return program.inflight > 1 and any(
            {"1.0", "1.2"} <= {c.id for c in lane} for lane in program.lanes
        )

    program = minimise(typical(inflight=3), bug, ["1.0", "1.2"]).program
    assert program.inflight == 2
    assert [c.id for lane in program.lanes for c in lane] == ["1.0", "1.2"]
    assert minimise(typical(inflight=3), together("1.0", "2.0"), ["1.0"]).program.inflight == 1


def test_three_lanes_merge_to_two() -> None:
    def bug(program: Program) -> bool:
        return {"0.0", "1.0", "2.0"} <= ids(program) and cuts.overlaps(program)

    program = minimise(typical(3, 1), bug, ["0.0", "1.0", "2.0"]).program
    assert sum(1 for lane in program.lanes if lane) == 2


def test_optional_arguments_go_and_tokens_stay() -> None:
    def write(id: str) -> Call:
        return call(id, text=f"a long and winding text with tok{id} in it", size=1, kind="x")

    program = Program(2, lanes=((write("0.0"),), (write("1.0"),)))

    def bug(p: Program) -> bool:
        return together("0.0", "1.0")(p) and all("kind" in c.args for c in p.calls())

    result = minimise(program, bug, ["0.0", "1.0"], optional=lambda c: {"size", "kind"})
    assert [dict(c.args) for c in result.program.calls()] == [
        {"text": "tok0.0", "kind": "x"},
        {"text": "tok1.0", "kind": "x"},
    ]


def test_texts_that_were_equal_stay_equal_and_others_stay_different() -> None:
    texts = ["the same long beginning, one", "the same long beginning, two"]
    calls = [call(f"{n}.0", name=text) for n, text in enumerate([texts[0], texts[0], texts[1]])]
    short = [c.args["name"] for c in cuts.shorten(Program(3, prefix=tuple(calls))).calls()]
    assert short[0] == short[1] != short[2]
    assert max(map(len, short)) <= 15


def test_finding_that_does_not_come_back() -> None:
    result = minimise(typical(), lambda program: False, ["1.1"])
    assert not result.reproduced
    assert result.program == typical()
    assert result.attempts <= 5


def test_budget_ends_the_search_with_the_best_so_far() -> None:
    result = minimise(typical(), together("1.1", "3.2"), ["0.0"], budget=6)
    assert result.attempts == 6
    assert not result.finished
    assert result.reproduced


def test_deadline_ends_the_search() -> None:
    left = iter([False, False, False, True])
    result = minimise(typical(), together("1.1", "3.2"), ["1.1", "3.2"], expired=lambda: next(left))
    assert result.attempts == 3
    assert not result.finished


def test_progress_and_every_better_program_are_told() -> None:
    told: list[tuple[int, int, bool]] = []
    better: list[int] = []
    result = minimise(
        typical(),
        together("1.1", "3.2"),
        ["1.1", "3.2"],
        progress=lambda *now: told.append(now),
        better=lambda program, attempt: better.append(len(list(program.calls()))),
    )
    assert told[-1] == (2, result.attempts, True)
    assert [attempts for _, attempts, finished in told if not finished] == list(
        range(1, result.attempts + 1)
    )
    assert better == sorted(better, reverse=True)


def test_what_an_attempt_raises_passes_through() -> None:
    async def broken(program: Program) -> Attempt:
        raise RuntimeError("the world is gone")

    async def run() -> None:
        await shrink(typical(), ["1.1"], broken)

    with pytest.raises(RuntimeError, match="world is gone"):
        anyio.run(run)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), agents=st.integers(2, 5), each=st.integers(1, 4))
def test_any_race_of_a_few_calls_is_found_minimal(
    data: st.DataObject, agents: int, each: int
) -> None:
    lanes = data.draw(st.sets(st.integers(0, agents - 1), min_size=2, max_size=3))
    needed = [f"{a}.{data.draw(st.integers(0, each - 1))}" for a in sorted(lanes)]
    hint = needed if data.draw(st.booleans()) else needed[:1]
    result = minimise(typical(agents, each), together(*needed), hint)
    assert result.finished
    assert {c.id for lane in result.program.lanes for c in lane} == set(needed)
    assert [c.tool for c in result.program.prefix] == ["session", "goal"]
    assert not result.program.suffix
    assert result.attempts <= 40


@pytest.mark.parametrize("p", [0.7, 0.4])
def test_flaky_failures_converge(p: float) -> None:
    result = minimise(typical(), together("1.1", "3.2"), ["1.1", "3.2"], p=p)
    assert result.program.concurrent() == 2
    assert 0 < result.failed <= result.tries
