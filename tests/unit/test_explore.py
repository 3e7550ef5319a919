"""The reduced search finds each interleaving that trying all of them finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpconc.schedule.conflicts import conflict, interleaving
from mcpconc.schedule.explore import Explored, Plan, explore
from mcpconc.schedule.points import Step

LOCK = frozenset({"lock:db"})


@dataclass(frozen=True)
class Op:
    """A step of a little program: objects, and whether it takes or lets go of the one lock."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    takes: bool = False
    frees: bool = False


Lanes = tuple[tuple[Op, ...], ...]

objects = st.frozensets(st.sampled_from("xyz"), max_size=2)
ops = st.builds(Op, objects, objects)


@st.composite
def lanes(draw: st.DrawFn) -> Lanes:
    """Two or three agents with few steps; in some, a part of the steps is under the lock."""

    def lane() -> tuple[Op, ...]:
        steps = draw(st.lists(ops, min_size=1, max_size=3))
        if draw(st.booleans()):
            begin = draw(st.integers(0, len(steps) - 1))
            end = draw(st.integers(begin, len(steps)))
            steps.insert(end, Op(writes=LOCK, frees=True))
            steps.insert(begin, Op(writes=LOCK, takes=True))
        return tuple(steps)

    return tuple(lane() for _ in range(draw(st.integers(2, 3))))


@dataclass
class Machine:
    """Runs lanes one step at a time."""

    lanes: Lanes
    done: list[Step]
    at: list[int]
    holder: int | None = None

    @classmethod
    def fresh(cls, lanes: Lanes) -> Machine:
        return cls(lanes, [], [0] * len(lanes))

    def copy(self) -> Machine:
        return Machine(self.lanes, list(self.done), list(self.at), self.holder)

    def options(self) -> list[int]:
        return [
            agent
            for agent, lane in enumerate(self.lanes)
            if self.at[agent] < len(lane)
            and not (lane[self.at[agent]].takes and self.holder is not None)
        ]

    def step(self, agent: int) -> Step:
        op = self.lanes[agent][self.at[agent]]
        made = Step(
            agent,
            1,
            f"{agent}.{self.at[agent]}",
            reads=op.reads,
            writes=op.writes,
            lock="db" if op.takes else "",
            holds=frozenset({"db"}) if self.holder == agent else frozenset(),
            options=tuple((other, 1) for other in self.options()),
        )
        self.at[agent] += 1
        if op.takes:
            self.holder = agent
        if op.frees:
            self.holder = None
        self.done.append(made)
        return made


def all_runs(machine: Machine) -> Iterator[list[Step]]:
    options = machine.options()
    if not options:
        yield machine.done
    for agent in options:
        after = machine.copy()
        after.step(agent)
        yield from all_runs(after)


def follow(lanes: Lanes, plan: Plan) -> list[Step]:
    """A run as the plan wants it."""
    machine, asleep = Machine.fresh(lanes), dict(plan.asleep)
    for agent, _, label in plan.prefix:
        assert machine.step(agent).label == label
    while options := machine.options():
        awake = [agent for agent in options if agent not in asleep]
        made = machine.step((awake or options)[0])
        asleep = {
            agent: step
            for agent, step in asleep.items()
            if agent != made.agent and not conflict(step, made)
        }
    return machine.done


def search(lanes: Lanes) -> tuple[Explored, list[Sequence[Step]]]:
    runs: list[Sequence[Step]] = []
    search = explore()
    plan = next(search)
    while True:
        runs.append(follow(lanes, plan))
        try:
            plan = search.send(runs[-1])
        except StopIteration as end:
            return end.value, runs


@settings(max_examples=150, deadline=None)
@given(lanes())
def test_it_finds_every_interleaving(program: Lanes) -> None:
    explored, runs = search(program)
    wanted = {interleaving(run) for run in all_runs(Machine.fresh(program))}
    assert {interleaving(run) for run in runs} == wanted
    assert explored.interleavings == len(wanted)
    assert explored.complete


def op(text: str) -> Op:
    """``rx wy``"""
    words = text.split()
    return Op(
        frozenset(w[1:] for w in words if w[0] == "r"),
        frozenset(w[1:] for w in words if w[0] == "w"),
    )


def lane(*texts: str) -> tuple[Op, ...]:
    return tuple(op(text) for text in texts)


def test_what_does_not_conflict_is_run_in_one_order() -> None:
    explored, _ = search((lane("rx", "ry", "wz"), lane("rx", "ry", "rx")))
    assert (explored.runs, explored.interleavings) == (1, 1)
    assert str(explored) == "all 1 interleavings explored, as far as the points seen go"


def test_two_updates_of_one_object_have_six_orders() -> None:
    """Read and write by two agents: 4! / (2! 2!) = 6 schedules; the two reads commute."""
    explored, runs = search((lane("rx", "wx"), lane("rx", "wx")))
    assert sum(1 for _ in all_runs(Machine.fresh((lane("rx", "wx"), lane("rx", "wx"))))) == 6
    assert explored.interleavings == 4
    assert len(runs) == 4


def test_long_programs_that_meet_once_are_two_interleavings() -> None:
    program = (lane(*["wa"] * 10, "wx", *["wa"] * 10), lane(*["wb"] * 10, "wx", *["wb"] * 10))
    explored, _ = search(program)
    assert explored.interleavings == 2
    assert explored.runs <= 3


def test_a_run_that_did_not_follow_is_told() -> None:
    program = (lane("wx"), lane("wx"))
    search = explore()
    first = next(search)
    run = follow(program, first)
    plan = search.send(run)
    with pytest.raises(StopIteration) as end:
        search.send([replace(step, label="something else") for step in follow(program, plan)])
    explored = end.value.value
    assert not explored.complete
    assert "1 runs diverged" in str(explored)


def test_a_limit_is_not_all() -> None:
    search = explore(limit=1)
    next(search)
    with pytest.raises(StopIteration) as end:
        search.send(follow((lane("wx"), lane("wx")), Plan((), {})))
    assert not end.value.value.complete
