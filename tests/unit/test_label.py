"""Labels: what one-at-a-time orders show."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from mcpconc.label import Labelled, label, orders
from mcpconc.oracle.base import Label
from mcpconc.program import Call, Program, Ref

HEAD = ("effects", "lost-append", "finding", "")


def program(*lanes: str, inflight: int = 1) -> Program:
    """One lane per word, one call per letter; each agent has a session in the prefix."""
    sessions = tuple(Call(f"s{a}", a, "session", {}) for a in range(len(lanes)))
    return Program(
        len(lanes),
        sessions,
        tuple(
            tuple(Call(c, a, "write", {"session": Ref(f"s{a}", "id")}) for c in lane)
            for a, lane in enumerate(lanes)
        ),
        inflight=inflight,
    )


def decide(
    of: Program, shows: Callable[[Program], bool], expired: Callable[[], bool] = lambda: False
) -> tuple[Labelled, list[Program]]:
    ran: list[Program] = []

    async def run(candidate: Program) -> set[tuple[str, str, str, str]]:
        assert sum(1 for lane in candidate.lanes if lane) <= 1
        assert candidate.inflight == 1
        ran.append(candidate)
        return {HEAD} if shows(candidate) else {("effects", "torn", "finding", "note")}

    async def main() -> Labelled:
        return await label(of, HEAD, run, expired=expired)

    return anyio.run(main), ran


def word(candidate: Program) -> str:
    return "".join(c.id for c in candidate.calls() if c.tool == "write")


def agents(candidate: Program) -> set[int]:
    return {c.agent for c in candidate.calls()}


def texts(of: Program) -> list[str]:
    return ["".join(c.id for c in order) for order in orders(of)[1]]


def test_orders_respect_lanes() -> None:
    assert texts(program("ab", "x")) == ["abx", "axb", "xab"]


def test_several_calls_in_flight_may_be_served_in_any_order() -> None:
    assert texts(program("ab", inflight=2)) == ["ab", "ba"]


def test_orders_respect_refs() -> None:
    of = Program(
        1, lanes=((Call("a", 0, "write", {}), Call("b", 0, "write", {"id": Ref("a", "id")})),)
    )
    assert texts(Program(1, lanes=of.lanes, inflight=2)) == ["ab"]


def test_many_orders_are_counted_and_sampled() -> None:
    possible, sample = orders(program("abc", "uvw", "xyz"), limit=10, seed=3)
    assert possible == 1680
    assert len({"".join(c.id for c in order) for order in sample}) == 10
    assert sample == orders(program("abc", "uvw", "xyz"), limit=10, seed=3)[1]


def test_one_agent_alone_shows_it() -> None:
    result, ran = decide(program("a", "x"), lambda p: word(p) == "xa")
    assert result.label is Label.SEQUENTIAL
    assert result.shown is not None
    assert agents(result.shown) == {0}
    assert result.shown.agents == 1
    assert [word(p) for p in ran] == ["ax", "xa"]


def test_explicit_ids_survive_the_change_of_agent() -> None:
    _, ran = decide(program("a", "x"), lambda p: False)
    written = {c.id: c.args["session"] for c in ran[0].calls() if c.tool == "write"}
    assert written == {"a": Ref("s0", "id"), "x": Ref("s1", "id")}


def test_several_agents_one_at_a_time_show_it() -> None:
    result, ran = decide(program("a", "x"), lambda p: word(p) == "xa" and len(agents(p)) == 2)
    assert result.label is Label.CROSS_AGENT
    assert "order 2 of 2" in result.basis
    assert len(ran) == 4


def test_no_order_shows_it() -> None:
    result, ran = decide(program("ab", "x"), lambda p: False)
    assert result.label is Label.RACE
    assert result.exhaustive
    assert result.basis == "all 3 one-at-a-time orders were tried, none shows it"
    assert len(ran) == 6


def test_sampled_orders_are_said_to_be_sampled() -> None:
    result, ran = decide(program("abc", "uvw", "xyz"), lambda p: False)
    assert result.label is Label.RACE
    assert not result.exhaustive
    assert result.basis == (
        "24 of 1680 one-at-a-time orders, sampled, were tried, none of them shows it"
    )
    assert len(ran) == 48


def test_one_agent_needs_no_second_round() -> None:
    result, ran = decide(program("ab", inflight=2), lambda p: False)
    assert result.label is Label.RACE
    assert len(ran) == 2


def test_program_without_concurrency_is_run_as_it_is() -> None:
    alone = Program(1, (Call("a", 0, "write", {}),), ((),))
    result, ran = decide(alone, lambda p: word(p) == "a")
    assert result.label is Label.SEQUENTIAL
    assert len(ran) == 1


def test_without_time_there_is_no_label() -> None:
    result, ran = decide(program("a", "x"), lambda p: False, expired=lambda: True)
    assert result.label is Label.UNLABELLED
    assert not ran


def test_a_race_is_claimed_only_when_every_order_was_tried() -> None:
    left = iter([False, False, False, True])
    result, _ = decide(program("a", "x"), lambda p: False, expired=lambda: next(left))
    assert result.label is Label.UNLABELLED
    assert "1 of 2" in result.basis
