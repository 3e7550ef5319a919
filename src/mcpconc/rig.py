"""One world with its servers up, on which programs are run and judged one after another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from mcpconc import trace as traces
from mcpconc.aftermath import Aftermath
from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.errors import InvariantError, cause
from mcpconc.history import EventType, History
from mcpconc.nemesis import KINDS, Weather
from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Judgement, Oracle, Run, judge
from mcpconc.program import Program
from mcpconc.schedule import Scheduler, make
from mcpconc.schedule.controlled import Controlled
from mcpconc.schedule.points import Step
from mcpconc.target.base import Identity, Progress, Target
from mcpconc.target.warm import Start, warmed
from mcpconc.trace import Trace
from mcpconc.vitals import Vitals
from mcpconc.world import ProbeMode, World, world

__all__ = ["Execution", "Ran", "Rig", "in_flight", "outcomes", "pairs", "rig"]


@dataclass(frozen=True, slots=True)
class Execution:
    """One program, run and judged. `scheduler` is the one that really ran (never ``mixed``),
    `seconds` the wall time from restore to verdict."""

    run: Run
    judgement: Judgement
    scheduler: str
    seed: int
    seconds: float
    schedule: tuple[Any, ...] = ()
    """What was decided inside the calls; ``replay`` follows it (`mcpconc.schedule.points`)."""
    steps: tuple[Step, ...] = ()
    """The same, with what each step touched."""

    def heads(self) -> frozenset[tuple[str, str, str, str]]:
        return frozenset(f.fingerprint.head() for f in self.judgement.findings)


@dataclass(frozen=True, slots=True)
class Ran:
    """One program, run and not judged yet. `directory` holds its history for as long as nothing
    else does."""

    run: Run
    scheduler: Scheduler
    directory: Path


@dataclass(slots=True)
class Rig:
    """A world, its fleet of sessions, and the oracles."""

    target: Target
    world: World
    fleet: Fleet
    identity: Identity
    directory: Path
    environment: dict[str, str]
    clock: Callable[[], float] = time.monotonic
    runs: int = 0
    oracles: Sequence[tuple[str, Oracle]] = ORACLES
    inquire: Callable[[Rig, Run], Awaitable[Run]] | None = None
    """What is done between a run and its verdict, where oracles need more than the run: the same
    run with more notes in its history, and without a specification if it is to be judged
    without."""
    answered: dict[int, set[str]] = field(default_factory=dict)
    """Server process id → tools that it has answered in earlier runs: it is warm for those."""

    async def run(self, program: Program, scheduler: str | Scheduler, seed: int) -> Execution:
        """Restore the world, run the program, read the state back and judge. The scheduler is
        one that has not run yet, or the name of one.

        :raises TargetError: if a server that died does not come up again.
        :raises InvariantError: if what a run started cannot be stopped.
        """
        started = self.clock()
        ran = await self.execute(program, scheduler, seed)
        run = ran.run
        if self.inquire is not None:
            run = await self.inquire(self, run)
        judgement = await anyio.to_thread.run_sync(judge, run, self.oracles)
        traces.discard(ran.directory)
        chosen = ran.scheduler
        return Execution(
            run,
            judgement,
            chosen.name,
            chosen.seed,
            self.clock() - started,
            tuple(chosen.schedule),
            tuple(chosen.steps),
        )

    async def execute(
        self, program: Program, scheduler: str | Scheduler, seed: int, *, resting: bool = False
    ) -> Ran:
        """Run the program, unjudged. With `resting` the world comes to rest after every call of
        the prefix.

        While it goes on, ``run.json`` and ``history.jsonl`` in a numbered directory below
        `directory` hold what is known so far; they are for the caller to discard.

        :raises TargetError: if a server that died does not come up again.
        :raises InvariantError: if what a run started cannot be stopped.
        """
        here = self._fresh()
        chosen = make(scheduler, seed) if isinstance(scheduler, str) else scheduler
        await self.settle()
        await self.world.restore()
        self.trace(program, History((), ()), chosen.name, seed).begin(here)
        with Recorder(here / "history.jsonl", time.monotonic_ns) as recorder:
            vitals = Vitals(self.world, self.fleet.sessions, recorder, self.answered)
            watch = Aftermath(self.world, self.fleet, recorder, vitals)
            weather = (
                Weather(self.world, self.fleet, recorder, program, KINDS)
                if program.faults
                else None
            )
            if weather is not None and isinstance(chosen, Controlled):
                chosen.doomed = weather.doomed
            history = await self.fleet.run(
                program,
                chosen,
                recorder,
                self.world,
                self.world.quiesce,
                watch,
                weather,
                resting=resting,
            )
        after = await self.world.snapshot()
        if self.world.probe == "observe" and self.world.control is not None:
            self.world.control.costs.ran(history)
        run = Run(
            program=program,
            history=history,
            before=self.world.before,
            after=after,
            spec=self.target.spec,
            identity=self.identity.value,
            quiescent=watch.quiescent,
        )
        return Ran(run, chosen, here)

    def _fresh(self) -> Path:
        """The next directory that no earlier run, cut off perhaps, has left something in."""
        while True:
            self.runs += 1
            here = self.directory / f"run-{self.identity.value}-{self.runs:05d}"
            if not here.exists():
                return here

    async def tools(self) -> frozenset[str]:
        """Names of the tools that the target offers.

        :raises TargetError: if it does not say.
        """
        return frozenset(tool.name for tool in await self.fleet.sessions[0].tools())

    async def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Tool → JSON schema of its input.

        :raises TargetError: if the target does not say.
        """
        return {tool.name: tool.input_schema for tool in await self.fleet.sessions[0].tools()}

    async def settle(self) -> None:
        """Make sure that nothing of the last run is still at work or holds a database open.

        :raises InvariantError: if something does, even after it was killed.
        """
        await self.fleet.heal()
        calm = await self.world.quiesce()
        if not calm:
            await self.world.kill_strays()
            calm = await self.world.quiesce()
        if calm:
            holders = set(self.world.holders())
            if not holders:
                return
            await self.fleet.restart(lambda pid: bool(holders & self.world.group(pid)))
            if await self.world.quiesce() and not self.world.holders():
                return
        await self.fleet.restart()
        if not await self.world.quiesce():
            await self.world.kill_strays()  # what the old servers were still busy with
        if not await self.world.quiesce():
            raise InvariantError(f"cannot be stopped: {self.world.busy()}")

    def trace(self, program: Program, history: History, scheduler: str, seed: int) -> Trace:
        """A trace of this rig with nothing judged yet."""
        return Trace(
            program=program,
            history=history,
            target=self.target.name,
            target_version=self.target.version,
            identity=self.identity.value,
            timeout_scale=max(1.0, self.fleet.call_timeout / self.target.call_timeout),
            scheduler=scheduler,
            scheduler_seed=seed,
            environment=self.environment,
            model="self" if self.inquire is not None else "",
            complete=False,
        )


@asynccontextmanager
async def rig(
    target: Target,
    identity: Identity,
    agents: int,
    base: Path,
    progress: Progress,
    start: Start = Start.ORDINARY,
    probe: ProbeMode | None = None,
) -> AsyncIterator[Rig]:
    """A rig with its servers up; on leaving, servers and world are gone. What is known of an
    unfinished run stays in `base`. `start` is how processes of calls come to be, `probe` what the
    probe in them does, if it is to be loaded.

    :raises UsageError: if the target cannot be started like that.
    :raises TargetError: if the target cannot be prepared or started.
    """
    progress(f"preparing a world ({identity.value})")
    trouble: BaseException | None = None
    try:
        async with (
            world(target, identity) as made,
            made.watched(probe),
            warmed(made, start, progress),
            Fleet.open(made, agents, made.logs, stretch=made.stretch, progress=progress) as fleet,
        ):
            yield Rig(target, made, fleet, identity, base, traces.environment())
    except BaseExceptionGroup as group:  # of the tasks beside the servers
        trouble = cause(group)
    if trouble is not None:
        raise trouble


def outcomes(history: History) -> dict[str, dict[str, int]]:
    """Tool → outcome (or ``info``) → times."""
    counts: dict[str, Counter[str]] = {}
    for op in history.operations:
        what = op.outcome.value if op.outcome is not None else "info"
        counts.setdefault(op.tool, Counter())[what] += 1
    return {tool: dict(counter) for tool, counter in counts.items()}


def in_flight(history: History) -> tuple[float, int]:
    """Mean (over invocations) and greatest number of calls in flight in the concurrent part."""
    lane = {op.call for op in history.operations if op.phase.value == "lane"}
    now = total = count = most = 0
    for event in history.events:
        if event.call not in lane:
            continue
        if event.type is EventType.INVOKE:
            now += 1
            total, count, most = total + now, count + 1, max(most, now)
        elif event.type is not EventType.NOTE:
            now -= 1
    return (total / count if count else 0.0), most


def pairs(history: History) -> tuple[tuple[str, str], ...]:
    """The pairs of tools that were in flight at once in the concurrent part, each sorted."""
    tools = {op.call: op.tool for op in history.operations if op.phase.value == "lane"}
    now: Counter[str] = Counter()
    met: set[tuple[str, str]] = set()
    for event in history.events:
        tool = tools.get(event.call)
        if tool is None or event.type is EventType.NOTE:
            continue
        if event.type is EventType.INVOKE:
            met |= {(min(tool, other), max(tool, other)) for other in +now}
            now[tool] += 1
        else:
            now[tool] -= 1
    return tuple(sorted(met))
