"""Exploring every interleaving, on a rig that is nothing but its scheduler: when it may say that
it has seen them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from mcpconc.errors import UsageError
from mcpconc.exhaust import STARTS, WARM, Exhausted, exhaust, orders
from mcpconc.rig import Execution, Rig
from mcpconc.schedule.points import Step
from piloting import program

Harmless = Callable[[int], Any]
"""What is known to be harmless when it is asked for the n-th time."""

X = frozenset({"x"})
HEAD = ("effects", "lost-update", "task", "status")


class Machine:
    """A rig on which two agents make a step each; `writes` is what they touch. Those who are told
    to follow a plan do."""

    def __init__(self, harmless: Harmless, writes: frozenset[str] = X, **verdict: Any) -> None:
        self.asked = 0
        self.skips: list[Any] = []
        self.writes, self.verdict = writes, verdict
        self._harmless = harmless
        learned = SimpleNamespace(harmless=self.harmless)
        self.world = SimpleNamespace(control=SimpleNamespace(learned=learned))
        self.target = SimpleNamespace(name="machine")

    def harmless(self, shape: object) -> Any:
        self.asked += 1
        return self._harmless(self.asked)

    async def run(self, program: object, scheduler: Any, seed: int) -> Execution:
        self.skips.append(scheduler._recorded.skip if scheduler._recorded else None)
        first = 0
        if scheduler._recorded is not None:
            policy = scheduler._make(2, 2, True)
            first = policy.choose([self.step(0, 0, 1), self.step(1, 0, 1)], None)
        last = 1 - first
        done = SimpleNamespace(
            steps=(self.step(first, 0, 1), self.step(last, last)) if self.writes else (),
            judgement=SimpleNamespace(unknown=self.verdict.get("unknown", ())),
            heads=lambda: self.verdict.get("heads", {}).get(first, frozenset()),
        )
        return cast(Execution, done)

    def step(self, agent: int, *options: int) -> Step:
        threads = tuple((other, 1) for other in options)
        return Step(agent, 1, f"step {agent}", writes=self.writes, options=threads)


def explored(machine: Machine, limit: int = 100, **more: Any) -> Exhausted:
    return anyio.run(
        lambda: exhaust(cast(Rig, machine), program(["w"], ["w"]), limit=limit, **more)
    )


def settled(asked: int) -> tuple[frozenset[str], ...]:
    return (frozenset(), frozenset())


def test_two_steps_that_conflict_are_two_interleavings() -> None:
    machine = Machine(settled)
    done = explored(machine)
    assert (done.safe, done.explored.interleavings, done.runs) == (True, 2, WARM + 2)
    assert (done.met, done.steps) == ((1, 1), (1, 1))


def test_an_interleaving_that_fails_is_counted_and_shown() -> None:
    machine = Machine(settled, heads={1: frozenset({HEAD})})
    done = explored(machine)
    assert (done.safe, done.failing, list(done.shown)) == (False, {HEAD: 1}, [HEAD])


def test_what_no_oracle_could_decide_is_not_safe() -> None:
    done = explored(Machine(settled, unknown=("linearizability",)))
    assert (done.safe, done.undecided, done.failing) == (False, 2, {})


def test_where_more_turns_out_to_matter_it_begins_anew() -> None:
    """Counts are those of the last beginning; runs are all."""

    def harmless(asked: int) -> tuple[frozenset[str], ...]:
        return (frozenset({"r:y"} if asked == 1 else ()),) * 2

    machine = Machine(harmless, heads={0: frozenset({HEAD})})
    done = explored(machine)
    assert done.finished
    assert (done.failing, done.explored.interleavings) == ({HEAD: 1}, 2)
    assert done.runs == WARM + 2 * 2
    assert machine.skips[WARM] == harmless(1)
    assert machine.skips[-1] == harmless(2)


def test_where_that_never_settles_nothing_is_proven() -> None:
    machine = Machine(lambda asked: (frozenset({f"r:{asked}"}),) * 2)
    done = explored(machine)
    assert done.explored.complete
    assert not done.failing
    assert (done.finished, done.safe) == (False, False)
    assert done.runs == WARM + STARTS * 2


def test_stopped_early_it_is_not_finished() -> None:
    machine = Machine(settled)
    done = explored(machine, expired=lambda: len(machine.skips) > WARM)
    assert (done.finished, done.safe, done.explored.interleavings) == (False, False, 1)


def test_without_points_there_is_nothing_to_explore() -> None:
    with pytest.raises(UsageError, match="saw nothing"):
        explored(Machine(settled, writes=frozenset()))


@pytest.mark.parametrize(
    ("steps", "number"), [((), 1), ((3,), 1), ((1, 1), 2), ((2, 2), 6), ((2, 1, 1), 12)]
)
def test_orders_without_reduction(steps: Sequence[int], number: int) -> None:
    assert orders(steps) == number
