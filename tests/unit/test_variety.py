"""Which programs come first: those that show what was not shown yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mcpconc.campaign import BATCH, CHOICE, FuzzConfig, programs
from mcpconc.program import Call, Program, Ref, refs
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.variety import Feature, features, focused, varied

GOAL = Ref("0.9", "goal_id")


def program(*lanes: Sequence[tuple[str, dict[str, Any]]], inflight: int = 1) -> Program:
    made = [
        tuple(Call(f"{agent}.{n}", agent, tool, args) for n, (tool, args) in enumerate(lane))
        for agent, lane in enumerate(lanes)
    ]
    return Program(len(lanes), lanes=tuple(made), inflight=inflight)


def meetings(of: Program) -> set[tuple[str, ...]]:
    return {feature for feature in features(of) if feature[0] != "call"}


def test_calls_of_two_agents_meet_on_an_object() -> None:
    of = program([("complete", {"goal_id": GOAL})], [("add_task", {"goal_id": GOAL})])
    assert meetings(of) == {("meet", "add_task", "goal_id", "complete", "goal_id")}


def test_an_object_may_have_two_names() -> None:
    of = program([("depend", {"depends_on": GOAL})], [("complete", {"goal_id": GOAL})])
    assert meetings(of) == {("meet", "complete", "goal_id", "depend", "depends_on")}


def test_calls_meet_on_what_a_batch_names() -> None:
    items = [{"type": "goal", "id": GOAL}]
    of = program([("delete", {"deletions": items})], [("complete", {"goal_id": GOAL})])
    assert meetings(of) == {("meet", "complete", "goal_id", "delete", "deletions")}


def test_a_task_is_a_part_of_its_goal() -> None:
    task = Call("0.8", 0, "add_task", {"goal_id": GOAL})
    lanes = (
        (Call("0.0", 0, "complete_task", {"task_id": Ref("0.8", "task_id")}),),
        (Call("1.0", 1, "progress", {"goal_id": GOAL}),),
    )
    assert meetings(Program(2, (task,), lanes)) == {
        ("meet", "complete_task", "<goal_id", "progress", "goal_id")
    }


def test_like_calls_meet_on_a_text_without_a_token() -> None:
    lane = [("create", {"objective": "cache layer"})]
    assert meetings(program(lane, lane)) == {
        ("beside", "create"),
        ("meet", "create", "objective", "create", "objective"),
    }
    token = Call("0.0", 0, "create", {"objective": "tok000x000z"}, "tok000x000z")
    assert meetings(Program(2, lanes=((token,), (token,)))) == set()


def test_a_session_is_no_meeting_for_different_tools() -> None:
    session = {"session_id": Ref("0.8", "session_id")}
    assert meetings(program([("note", session)], [("list", session)])) == set()


def test_calls_of_one_agent_meet_only_when_several_are_in_flight() -> None:
    lane = [("create", {"goal_id": GOAL}), ("list", {"goal_id": GOAL})]
    assert meetings(program(lane)) == set()
    assert meetings(program(lane, inflight=2)) == {
        ("inside", "create", "goal_id", "list", "goal_id")
    }


def test_what_is_read_twice_may_have_changed() -> None:
    read = ("read", {"goal_id": GOAL})
    assert meetings(program([read, ("list", {}), read])) == {
        ("again", "read", "goal_id", "read", "goal_id")
    }


def test_one_process_at_work_for_two_sessions() -> None:
    lane = [(tool, {"session_id": Ref(f"{tool}.0", "session_id")}) for tool in ("a", "b")]
    assert meetings(program(lane, inflight=2)) == {("apart", "a", "b")}


def test_what_is_new_comes_first() -> None:
    adds = [program([("add", {"goal_id": GOAL})], [("add", {"goal_id": GOAL})]) for _ in range(3)]
    rare = program([("rare", {})], [("rare", {})])
    assert list(varied([*adds, rare]))[1] == rare


def test_the_programs_are_the_same_and_a_few_of_them_show_nearly_all() -> None:
    written = [
        one for seed in range(4) for one in generate(CascadeMachine, Knobs(5, 20, 1.0, 3), seed, 6)
    ]
    ordered = list(varied(written))
    assert sorted(p.digest() for p in ordered) == sorted(p.digest() for p in written)
    assert shown(ordered[:8]) > shown(written[:8])


def test_what_was_seen_before_tells_less() -> None:
    add, rare = (program([(tool, {})], [(tool, {})]) for tool in ("add", "rare"))
    seen = Counter[Feature]()
    assert next(varied([add, rare], seen=seen)) == add
    assert next(varied([add, rare], seen=seen)) == rare


def test_of_what_is_written_a_campaign_runs_the_more_telling_half(tmp_path: Path) -> None:
    config = FuzzConfig(out=tmp_path, seed=3)
    ran = list(islice(programs(config), 3 * BATCH))
    written = [
        one
        for batch in range(2 * CHOICE)
        for one in generate(CascadeMachine, Knobs(), 3_000_009 + batch, BATCH)
    ]
    assert {p.digest() for p in ran} < {p.digest() for p in written}
    assert shown(ran[:BATCH]) > 1.5 * shown(written[:BATCH])


def shown(programs: Sequence[Program]) -> int:
    return len({feature for one in programs for feature in features(one)})


def test_small_programs_are_cut_out_of_a_large_one() -> None:
    (program,) = generate(CascadeMachine, Knobs(4, 20, 0.7), 5, 1)
    seen: Counter[Feature] = Counter()
    smalls = list(focused(program, seen, calls=4, lanes=2))
    for small in smalls:
        assert sum(map(bool, small.lanes)) <= 2
        assert small.concurrent() <= 4
        known: set[str] = set()
        for call in small.calls():
            assert {ref.call for ref in refs(call.args)} <= known
            known.add(call.id)
    concurrent = {call.id for lane in program.lanes for call in lane}
    met = {call.id for small in smalls for lane in small.lanes for call in lane}
    # A call that others need may be needed in the prefix of each.
    assert met == concurrent
    assert seen


def test_the_first_small_program_is_one_in_which_calls_meet() -> None:
    for program in generate(CascadeMachine, Knobs(3, 20, 1.0), 1, 5):
        first = next(focused(program, Counter(), calls=2, lanes=3))
        assert any(kind == "meet" for kind, *_ in features(first))
