"""Which orders of conflicting statements were seen, and what that makes of programs."""

from __future__ import annotations

import random
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from mcpconc.program import Call, Program
from mcpconc.schedule.conflicts import Access, Learned, Pairs
from mcpconc.schedule.coverage import FLOOR, Coverage
from mcpconc.schedule.points import Step
from mcpconc.variety import varied

Tool = dict[str, Access]
"""Its statements."""


def access(reads: str = "", writes: str = "") -> Access:
    return Access(frozenset(reads.split()), frozenset(writes.split()))


def known(**tools: Tool) -> Learned:
    learned = Learned()
    for tool, statements in tools.items():
        for label, touched in statements.items():
            learned.add(tool, label, touched)
    return learned


def program(*lanes: str) -> Program:
    """A call for each tool that is named: ``"add list"`` are two."""
    made = [
        tuple(Call(f"{agent}.{n}", agent, tool, {}) for n, tool in enumerate(lane.split()))
        for agent, lane in enumerate(lanes)
    ]
    return Program(len(lanes), lanes=tuple(made))


def step(agent: int, tool: str, label: str, touched: Access) -> Step:
    return Step(agent, 1, label, tool, touched.reads, touched.writes)


ADD: Tool = {"SELECT t": access("t"), "INSERT t": access(writes="t lock:db")}
LIST: Tool = {"SELECT all": access("t")}
AWAY: Tool = {"UPDATE u": access(writes="u lock:db")}
SHUFFLES = 20


def coverage() -> Coverage:
    return Coverage(known(add=ADD, list=LIST, away=AWAY))


def test_every_conflicting_pair_is_possible_in_both_orders() -> None:
    seen = coverage()
    assert seen.possible("add", "list") == 2  # insert and select all
    assert seen.possible("add", "add") == 3  # insert and insert, insert and select, the reverse
    assert seen.possible("list", "list") == 0
    assert seen.possible("away", "away") == 1
    assert seen.total() == (0, 6)


def test_a_lock_in_common_is_no_conflict() -> None:
    assert coverage().possible("add", "away") == 0
    pairs = Pairs()
    pairs.add([step(0, "add", "INSERT t", ADD["INSERT t"]), step(1, "away", "u", AWAY["UPDATE u"])])
    assert not pairs.seen


def test_what_is_learned_later_makes_more_possible() -> None:
    seen = coverage()
    assert seen.total() == (0, 6)
    seen.learned.add("away", "DELETE t", access(writes="t"))
    assert seen.possible("add", "away") == 4
    assert seen.total() == (0, 6 + 4 + 2 + 1)


def test_what_was_seen_is_not_open() -> None:
    seen = coverage()
    assert seen.open("add", "list") == 1
    insert = step(0, "add", "INSERT t", ADD["INSERT t"])
    select = step(1, "list", "SELECT all", LIST["SELECT all"])
    seen.pairs.add([insert, select])
    assert seen.open("add", "list") == seen.open("list", "add") == 0.5
    seen.pairs.add([select, insert])
    assert seen.open("add", "list") == 0
    assert seen.total() == (2, 6)


def test_a_tool_that_never_ran_is_all_open() -> None:
    seen = coverage()
    assert seen.open("add", "unheard") == 1
    assert seen.open("away", "list") == 0


def test_programs_weigh_by_what_is_open_side_by_side() -> None:
    seen = coverage()
    assert seen.weight(program("unheard", "list")) == 1
    assert seen.weight(program("list", "list")) == FLOOR
    assert seen.weight(program("add list", "")) == FLOOR
    assert FLOOR < seen.weight(program("add", "list away")) < 1


def test_of_equal_programs_the_one_comes_first_that_has_more_open() -> None:
    seen = coverage()
    both = [program("list", "away"), program("add", "list")]
    assert list(varied(both)) == both
    assert list(varied(both, seen.weight)) == both[::-1]


def test_weights_are_asked_for_when_the_next_program_is() -> None:
    weights = {"add": 3.0, "list": 2.0, "away": 1.0}
    given = [program(tool, tool) for tool in weights]
    drawn = varied(given, lambda one: weights[one.lanes[0][0].tool])
    assert next(drawn) == given[0]
    weights["away"] = 9.0
    assert list(drawn) == [given[2], given[1]]


# ------------------------------------------------------------------ any target

accesses = st.builds(access, st.sampled_from(["", "x", "x y"]), st.sampled_from(["", "y", "x z"]))
targets = st.dictionaries(
    st.sampled_from(["one", "two", "three"]),
    st.dictionaries(st.sampled_from("abc"), accesses, min_size=1),
    min_size=1,
)


@given(targets, st.data())
def test_what_is_seen_is_possible(target: dict[str, Tool], data: st.DataObject) -> None:
    seen = Coverage(known(**target))
    statements = [(t, label) for t, labels in sorted(target.items()) for label in sorted(labels)]
    steps = st.builds(
        lambda agent, one: step(agent, *one, target[one[0]][one[1]]),
        st.integers(0, 2),
        st.sampled_from(statements),
    )
    for _ in range(3):
        seen.pairs.add(data.draw(st.lists(steps, max_size=12)))
        pairs, possible = seen.total()
        assert pairs <= possible
        for one, other in product(target, target):
            assert 0 <= seen.open(one, other) <= 1


# ------------------------------------------------------------------ a made-up target


def runs(seed: int, weighted: bool, count: int) -> int:
    """Pairs seen with so many programs on a target on which most tools have three statements on
    one table of eight, and a few have twenty on all of them."""
    tools: dict[str, Tool] = {
        f"tool{n}": {
            f"{n}.{k}": access(f"t{n % 8}", f"t{n % 8}" if k % 3 else "") for k in range(3)
        }
        for n in range(20)
    }
    for n in range(3):
        tools[f"long{n}"] = {f"{n}.{k}": access(writes=f"t{k % 8}") for k in range(20)}
    drawn = random.Random(seed)
    pool = [program(*drawn.choices(sorted(tools), k=2)) for _ in range(120)]
    seen = Coverage()
    order = varied(pool, seen.weight) if weighted else varied(pool)
    for chosen, _ in zip(order, range(count), strict=False):
        for _ in range(3):
            lanes = [
                [
                    step(agent, call.tool, label, touched)
                    for label, touched in tools[call.tool].items()
                ]
                for agent, (call,) in enumerate(chosen.lanes)
            ]
            made: list[Step] = []
            while any(lanes):
                made.append(drawn.choice([lane for lane in lanes if lane]).pop(0))
            for one in made:
                seen.learned.add(one.tool, one.label, Access(one.reads, one.writes))
            seen.pairs.add(made)
    return len(seen.pairs.seen)


def test_weighting_covers_more_of_a_target_with_the_same_runs() -> None:
    for seed in range(5):
        assert runs(seed, True, 30) > 1.1 * runs(seed, False, 30)


def test_the_same_observations_weigh_the_same() -> None:
    assert runs(1, True, 20) == runs(1, True, 20)
