"""Every interleaving of a short program, each run once: what fails in how many of them.

Which steps there are is learned by running; what cannot matter to another agent's calls is let go
unasked, and where a later run shows that it can, exploring begins anew with that in mind. "All"
is relative to the points that the probe sees (`mcpconc.schedule.explore`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from mcpconc.errors import Exit, UsageError
from mcpconc.events import Emit, TargetProgress, TraceSaved
from mcpconc.interrupt import interrupts
from mcpconc.keep import as_trace
from mcpconc.oracle.base import Finding
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule import make, planned
from mcpconc.schedule.conflicts import interleaving
from mcpconc.schedule.controlled import Shape
from mcpconc.schedule.explore import Explored, explore
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start
from mcpconc.trace import Shrink, Trace, slug

__all__ = ["Exhausted", "Head", "Seen", "Verdicts", "exhaust", "explore_trace", "orders"]

Head = tuple[str, str, str, str]

WARM = 2
"""Runs before the first, from which is learned what the calls touch."""

STARTS = 4
"""Times that exploring begins anew at most."""


@dataclass(slots=True)
class Exhausted:
    """`failing` is for each head of a fingerprint how many interleavings show it, `shown` the first
    run that did; `undecided` interleavings have oracles that could not decide. `finished` is False
    where it was stopped before all were explored."""

    explored: Explored = field(default_factory=Explored)
    failing: dict[Head, int] = field(default_factory=dict)
    shown: dict[Head, Execution] = field(default_factory=dict)
    undecided: int = 0
    runs: int = 0
    """All that were made, those of earlier beginnings included."""
    finished: bool = True
    met: tuple[int, ...] = ()
    """For each agent, how many steps it made in the first run, when everything might matter."""
    steps: tuple[int, ...] = ()
    """The same for the interleavings explored: at most so many."""

    @property
    def safe(self) -> bool:
        """Whether every interleaving was run and none fails."""
        return self.finished and self.explored.complete and not (self.failing or self.undecided)


async def exhaust(
    on: Rig,
    program: Program,
    *,
    limit: int,
    expired: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda runs, failing: None,
) -> Exhausted:
    """Run every interleaving of the program's concurrent calls, `limit` at most.

    `progress` is told how many runs were made and how many heads were found so far.

    :raises UsageError: if the target's processes tell nothing, so that there is nothing to choose.
    :raises TargetError: if a server that died does not come up again.
    """
    control = on.world.control
    if control is None:
        raise UsageError("exploring every interleaving needs the probe in the target's processes")
    shape = tuple(tuple(call.tool for call in lane) for lane in program.lanes)
    done = Exhausted()
    for seed in range(WARM):
        warm = await on.run(program, make("random", seed), seed)
        done.runs += 1
        done.met = done.met or _made(warm, shape)
        if not warm.steps or not any(step.thread for step in warm.steps):
            raise UsageError(
                f"{on.target.name}: the probe saw nothing in its processes: only servers that run "
                "on Python can be explored"
            )
    for _ in range(STARTS):
        skip = control.learned.harmless(shape)
        search = explore(limit)
        done.failing, done.shown, done.undecided, done.steps = {}, {}, 0, ()
        known: set[str] = set()
        try:
            plan = next(search)
            while True:
                if expired():
                    done.finished = False
                    done.explored = Explored(len(known), len(known))
                    return done
                execution = await on.run(program, planned(plan, skip), 0)
                done.runs += 1
                made = _made(execution, shape)
                done.steps = tuple(map(max, made, done.steps or made))
                name = interleaving(execution.steps)
                if name not in known:
                    known.add(name)
                    _count(done, execution)
                progress(done.runs, len(done.failing))
                plan = search.send(execution.steps)
        except StopIteration as end:
            done.explored = end.value
        if control.learned.harmless(shape) == skip:
            break
    else:  # what may be let go unasked never settled
        done.finished = False
    return done


def _made(execution: Execution, shape: Shape) -> tuple[int, ...]:
    return tuple(
        sum(step.agent == agent for step in execution.steps) for agent in range(len(shape))
    )


def orders(steps: Sequence[int]) -> int:
    """How many orders there are of so many steps of each agent, if none waits for another: a
    multinomial coefficient, what exploring without reduction would have to run at most."""
    return math.factorial(sum(steps)) // math.prod(map(math.factorial, steps))


def _count(done: Exhausted, execution: Execution) -> None:
    done.undecided += bool(execution.judgement.unknown)
    for head in execution.heads():
        done.failing[head] = done.failing.get(head, 0) + 1
        done.shown.setdefault(head, execution)


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding, how many interleavings show it, and the trace of one."""

    finding: Finding
    interleavings: int
    trace: Path


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of exploring the program of `trace`."""

    trace: Path | None
    exhausted: Exhausted
    seen: tuple[Seen, ...]
    interrupted: bool

    @property
    def exit(self) -> Exit:
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.seen:
            return Exit.VIOLATION
        return Exit.PASSED if self.exhausted.safe else Exit.INCONCLUSIVE


TOLD = 25
"""Runs after which progress is told again."""


async def explore_trace(
    trace: Trace, target: str, out: Path, limit: int, emit: Emit, start: Start = Start.ORDINARY
) -> Verdicts:
    """Run every interleaving of a saved program, `limit` at most, on the target SPEC `target` (the
    trace's own where that is empty), and keep a trace in ``OUT/traces`` of each finding.

    :raises UsageError: if its processes tell nothing.
    :raises TargetError: if it cannot be started.
    """

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    def told(runs: int, failing: int) -> None:
        if runs % TOLD == 0:
            progress(f"{runs} runs, {failing} kinds of findings so far")

    system = resolve(target or trace.target)
    saved: list[Seen] = []
    async with interrupts(progress) as signals:
        await system.install(progress)
        async with rig(
            *(system, Identity(trace.identity), trace.program.agents, out / "work", progress),
            start,
            "control",
        ) as on:
            # The first signal ends exploring, not the run that it is at.
            signals.scopes.append(anyio.CancelScope())
            done = await exhaust(
                on, trace.program, limit=limit, expired=lambda: bool(signals), progress=told
            )
            for head, shown in done.shown.items():
                finding = next(f for f in shown.judgement.findings if f.fingerprint.head() == head)
                how = Shrink(
                    finished=False, failed=done.failing[head], of=done.explored.interleavings
                )
                kept = as_trace(on, shown, finding, trace.seed, how, "")
                path = kept.save(out / "traces" / slug(finding))
                emit(TraceSaved(path, finding))
                saved.append(Seen(finding, done.failing[head], path))
    return Verdicts(trace.path, done, tuple(saved), bool(signals))
