"""Which of the threads that can go on does: the choices of controlled schedulers, as pure
functions of seed and what was chosen before."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mcpconc.schedule.conflicts import conflict
from mcpconc.schedule.points import Step, ThreadId

__all__ = ["DIVERGED", "First", "Follow", "Pct", "Policy", "Walk"]


DIVERGED = "replay diverged"
"""First words of the remark that a recorded schedule could not be followed."""


class Policy(Protocol):
    def choose(self, options: Sequence[Step], last: ThreadId | None) -> int:
        """Index of the step to take. `options` are in order of agent and thread; `last` is who
        went last."""
        ...

    def remarks(self) -> list[str]:
        """What people should know of it, when the run is over."""
        ...


class First:
    """Whoever went last goes on as long as he can; then the first who can."""

    def choose(self, options: Sequence[Step], last: ThreadId | None) -> int:
        ids = [step.id for step in options]
        return ids.index(last) if last in ids else 0

    def remarks(self) -> list[str]:
        return []


class Walk:
    """A random walk: anybody who can, each with the same probability."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"walk/{seed}")

    def choose(self, options: Sequence[Step], last: ThreadId | None) -> int:
        return self._random.randrange(len(options))

    def remarks(self) -> list[str]:
        return []


class Pct:
    """Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): agents have random
    priorities, the highest who can goes on, and at `depth` - 1 random steps of the `length` that
    a run has, whoever is about to go falls below all others.

    `known` says whether `length` was seen or guessed.
    """

    def __init__(self, seed: int, depth: int, agents: int, length: int, known: bool) -> None:
        drawn = random.Random(f"pct/{seed}")
        self.depth, self.length = depth, max(length, 1)
        self._agents, self._known = agents, known
        order = list(range(agents))
        drawn.shuffle(order)
        self._priority = {agent: depth + place for place, agent in enumerate(order)}
        at = drawn.sample(range(1, self.length + 1), min(depth - 1, self.length))
        self._falls = {step: depth - 1 - n for n, step in enumerate(at)}
        self._steps = 0

    def choose(self, options: Sequence[Step], last: ThreadId | None) -> int:
        self._steps += 1
        chosen = self._highest(options)
        fall = self._falls.pop(self._steps, None)
        if fall is not None:
            self._priority[options[chosen].agent] = fall
            chosen = self._highest(options)
        return chosen

    def _highest(self, options: Sequence[Step]) -> int:
        # Of one agent's threads, the youngest: its parent waits for it as a rule.
        return max(
            range(len(options)),
            key=lambda n: (self._priority.get(options[n].agent, 0), options[n].thread),
        )

    def remarks(self) -> list[str]:
        n, k, d = self._agents, self.length, self.depth
        if not self._known:
            return [f"pct: change points were drawn over {k} steps, a guess: no run came before"]
        return [
            f"pct: n={n} agents, k={k} steps in the run before, d={d}: of the schedules among "
            f"the points seen, each ordering of depth {d} has a probability of at least "
            f"1/(n*k^(d-1)) = 1/{n * k ** (d - 1)}"
        ]


@dataclass(slots=True)
class Follow:
    """Follow recorded steps, then another policy.

    Where a step cannot be followed because its thread is not there or its label is another, that
    is told, and `then` goes on. Numbers of threads are names: where none has that number, one of
    the same agent that stands at this label is meant (where calls are started another way, more
    processes may have come before it). A `loose` one looks at threads only, and leaves out what
    cannot be done: a schedule that was changed is no record of what will happen.
    `asleep` agents are not chosen after the end, as `mcpconc.schedule.explore` wants it.
    """

    steps: Sequence[tuple[int, int, str]]
    then: Policy
    loose: bool = False
    asleep: Mapping[int, Step] = field(default_factory=dict)
    at: int = 0
    diverged: str = ""

    def choose(self, options: Sequence[Step], last: ThreadId | None) -> int:
        chosen = self._loosely(options) if self.loose else self._strictly(options)
        if chosen is not None:
            return chosen
        return self._on(options, last)

    @property
    def followed(self) -> bool:
        """Whether all steps were done as they were recorded."""
        return not self.diverged and self.at >= len(self.steps)

    def _strictly(self, options: Sequence[Step]) -> int | None:
        if self.diverged or self.at >= len(self.steps):
            return None
        agent, thread, label = self.steps[self.at]
        meant = [n for n, step in enumerate(options) if step.id == (agent, thread)]
        meant = meant or [
            n
            for n, step in enumerate(options)
            if step.agent == agent and step.label == label and min(step.thread, thread) > 0
        ]
        if meant and options[meant[0]].label == label:
            self.at += 1
            return meant[0]
        if meant:
            seen = f"it stands at {options[meant[0]].label!r}"
        else:
            there = ", ".join(f"{s.agent}.{s.thread} at {s.label!r}" for s in options)
            seen = f"it cannot go; who can: {there}"
        self.diverged = (
            f"step {self.at} of {len(self.steps)}: thread {agent}.{thread} was to go on from "
            f"{label!r}, but {seen}"
        )
        return None

    def _loosely(self, options: Sequence[Step]) -> int | None:
        while self.at < len(self.steps):
            wanted = self.steps[self.at][:2]
            self.at += 1
            for n, step in enumerate(options):
                if step.id == wanted:
                    return n
        return None

    def _on(self, options: Sequence[Step], last: ThreadId | None) -> int:
        awake = [n for n, step in enumerate(options) if step.agent not in self.asleep]
        if not awake:
            return self.then.choose(options, last)
        chosen = awake[self.then.choose([options[n] for n in awake], last)]
        made = options[chosen]
        self.asleep = {
            agent: step for agent, step in self.asleep.items() if not conflict(step, made)
        }
        return chosen

    def remarks(self) -> list[str]:
        found = self.then.remarks()
        if self.diverged:
            how = "at random" if isinstance(self.then, Walk) else "with whoever is first"
            found.append(f"{DIVERGED} at {self.diverged}; it went on {how}")
        elif not self.loose and self.at < len(self.steps):
            found.append(f"{DIVERGED} at step {self.at} of {len(self.steps)}: the run was over")
        return found
