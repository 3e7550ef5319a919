"""A stress run: scenarios, each by one agent, then by ever more, in one world and in worlds of
their own; all of it judged as any campaign's runs are.

What is recorded of a phase is in `mcpconc.stress.phases`, what becomes of it in
`mcpconc.stress.summary`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc.campaign import Tally
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import (
    Emit,
    InfraTrouble,
    Kept,
    PhaseFinished,
    PhaseStarted,
    StressFinished,
    TargetProgress,
)
from mcpconc.interrupt import interrupts
from mcpconc.keep import Keeper
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule.counts import Costs
from mcpconc.strategies import Knobs
from mcpconc.strategies.scenarios import SCENARIOS, Scenario, written
from mcpconc.stress.abreast import Abreast, Meeting
from mcpconc.stress.figures import latency
from mcpconc.stress.machine import machine
from mcpconc.stress.phases import Group, Measured, Placement, apart, in_flight, timed
from mcpconc.stress.plan import Leg, legs
from mcpconc.stress.summary import document
from mcpconc.stress.usage import Sampler
from mcpconc.target import resolve
from mcpconc.target.base import Identity, Progress, Setting, Target, Tunes
from mcpconc.target.warm import Start

__all__ = ["StressConfig", "Stressed", "stress"]

TROUBLES = 3
"""Times in a row that the target may fail to come up again before a leg is given up."""

SEED = 1_000_003
"""Programs of one leg have seeds that no other leg has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StressConfig:
    """What a stress run does.

    Each of `scenarios` (names in `known`) is run by each number of `agents`. One agent is the
    baseline and makes about `baseline` calls; every other number makes about `calls` calls in all
    in one world, and the same calls again in worlds of their own, as long as there are at most
    `own` agents (0: never). Each agent makes about `lane` calls in a program, and each program has
    a fresh world. `share` is the probability that agents work on common objects.

    `settings` are names of the target's configurations (`mcpconc.target.base.Tunes`); of those
    after the first one only the baseline and the numbers of agents in `settings_agents` are run, in
    one world. With `observe` the probe counts what `observed` calls of each scenario do inside the
    target, in phases of their own, from which no latency is taken.

    `minimise` are seconds that may be spent, at the end of the phases with one number of agents, on
    making what was found there smaller. `sample` is the pause in seconds between two looks at the
    processes. It ends after `max_time` seconds, when the program that runs then is done."""

    out: Path
    target: str = "empirica"
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    agents: tuple[int, ...] = (1, 2, 5, 10, 20)
    baseline: int = 40
    calls: int = 200
    lane: int = 20
    own: int = 10
    observed: int = 40
    share: float = 0.7
    seed: int = 0
    identity: Identity | None = None
    start: Start = Start.ORDINARY
    observe: bool = False
    settings: tuple[str, ...] = ("default",)
    settings_agents: tuple[int, ...] = (5,)
    max_time: float | None = None
    minimise: float = 0.0
    sample: float = 0.25
    known: Mapping[str, Scenario] = field(default_factory=lambda: SCENARIOS)
    clock: Callable[[], float] = field(default=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stressed:
    """What came of it, however it ended. `exit` says of violations alone: thresholds are the
    caller's. Where calls were forked, a finding that `Kept.counts` denies is no violation yet."""

    exit: Exit
    stop: str
    seconds: float
    seed: int
    out: Path
    kept: tuple[Kept, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The parts of the summary document that a stress run knows, as plain data: ``target``,
        ``machine``, ``phases``, ``slowdown``, ``bottlenecks``, ``settings``, ``findings`` (without
        ``status``), ``unmeasured``, ``stop``."""
        return dict(self.parts)


async def stress(config: StressConfig, emit: Emit) -> Stressed:
    """Run all phases.

    The first SIGINT or SIGTERM ends it: what was measured and found by then is in the result.

    :raises TargetError: if the target cannot be installed, prepared or started at all.
    :raises UsageError: for a name that there is not, or a directory that cannot be written.
    """

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    target = resolve(config.target)
    settings = _settings(config, target)
    plan = legs(config.agents, config.own, tuple(settings), config.settings_agents, config.observe)
    forked = config.start is not Start.ORDINARY
    keeper = Keeper(config.out / "traces", config.seed, emit, config.clock, forked)
    session = _Session(config, target, keeper, emit, progress, config.clock())
    stop = "interrupted"
    async with interrupts(progress) as signals:
        await target.install(progress)
        session.machine = await machine(config.out)
        session.started = config.clock()
        with anyio.CancelScope() as scope:
            signals.scopes.append(scope)
            stop = await session.all(plan)
    done = Stressed(
        exit=_exit(bool(signals), session),
        stop=stop,
        seconds=config.clock() - session.started,
        seed=config.seed,
        out=config.out,
        kept=keeper.kept(),
        parts=document(
            session.phases,
            seed=config.seed,
            target={
                "name": target.name,
                "version": target.version,
                "spec": config.target,
                "identity": session.identity.value,
                "start": config.start.value,
            },
            machine=session.machine,
            settings=list(settings.values()),
            kept=keeper.kept(),
            unmeasured=session.unmeasured,
            stop=stop,
        ),
    )
    emit(
        StressFinished(
            exit=done.exit,
            stop=stop,
            phases=len(session.phases),
            calls=sum(len(phase.calls) for phase in session.phases),
            seconds=done.seconds,
            seed=config.seed,
            out=config.out,
            kept=done.kept,
            infra=session.tally.infra,
        )
    )
    return done


def _settings(config: StressConfig, target: Target) -> dict[str, Setting]:
    """:raises UsageError: for a scenario or a configuration that there is not."""
    if unknown := [name for name in config.scenarios if name not in config.known]:
        raise UsageError(f"no scenario is called {unknown[0]!r}; use {', '.join(config.known)}")
    if not config.scenarios or not config.settings or min(config.agents, default=0) < 1:
        raise UsageError("a stress run needs a scenario, a configuration and a number of agents")
    offered = target.settings if isinstance(target, Tunes) else {}
    offered = offered or {"default": Setting("default", "as installed", {})}
    if unknown := [name for name in config.settings if name not in offered]:
        known = ", ".join(offered)
        raise UsageError(f"{target.name} has no configuration {unknown[0]!r}; use {known}")
    return {name: offered[name] for name in dict.fromkeys(config.settings)}


def _exit(interrupted: bool, session: _Session) -> Exit:
    if interrupted:
        return Exit.INTERRUPTED
    kept = session.keeper.kept()
    if any(entry.counts for entry in kept):
        return Exit.VIOLATION
    if session.broken:
        return Exit.TARGET
    if not session.tally.runs or session.tally.unknown or kept:
        return Exit.INCONCLUSIVE
    return Exit.PASSED


@dataclass(slots=True)
class _Session:
    """A stress run on its way."""

    config: StressConfig
    target: Target
    keeper: Keeper
    emit: Emit
    progress: Progress
    started: float
    phases: list[Measured] = field(default_factory=list)
    unmeasured: list[dict[str, str]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    broken: bool = False
    alone: list[Rig] = field(default_factory=list)
    """Worlds for one agent each."""

    @property
    def identity(self) -> Identity:
        return self.config.identity or self.target.identities[0]

    @property
    def late(self) -> bool:
        most = self.config.max_time
        return most is not None and self.config.clock() - self.started >= most

    async def all(self, plan: list[Leg]) -> str:
        """:raises TargetError: if not even the first leg can be begun."""
        async with AsyncExitStack() as stack:
            for n, leg in enumerate(plan):
                if self.late:
                    self._skip(leg.name, "time was up")
                    continue
                try:
                    await self._leg(leg, n, len(plan), stack)
                except TargetError as error:
                    if not self.phases:
                        raise
                    self._trouble(error)
                    self.broken = True
                    self._skip(leg.name, str(error))
        return "time is up" if self.late else "all phases done"

    async def _leg(self, leg: Leg, n: int, of: int, stack: AsyncExitStack) -> None:
        """All scenarios with these agents, on rigs that stay up meanwhile. Worlds for one agent
        stay up for later legs, too: `stack` closes them."""
        config = self.config
        if isinstance(self.target, Tunes):
            self.target.tune(leg.settings)
        while leg.own and len(self.alone) < leg.agents:
            made = self._rig(1, f"own-{len(self.alone)}", leg)
            self.alone.append(await stack.enter_async_context(made))
        own = self.alone[: leg.agents] if leg.own else []
        async with self._rig(leg.agents, "one", leg) as one:
            for m, name in enumerate(config.scenarios):
                placements = (Placement.ONE, Placement.OWN) if own else (Placement.ONE,)
                self.emit(
                    PhaseStarted(
                        n=n * len(config.scenarios) + m + 1,
                        of=of * len(config.scenarios),
                        scenario=name,
                        agents=leg.agents,
                        placements=tuple(place.value for place in placements),
                        settings=leg.settings,
                        observed=leg.observed,
                    )
                )
                await self._scenario(leg, config.known[name], one, own, m)
            if config.minimise > 0:
                await self._minimise()

    def _rig(self, agents: int, name: str, leg: Leg) -> AbstractAsyncContextManager[Rig]:
        return rig(
            *(self.target, self.identity, agents, self.config.out / "work" / name, self.progress),
            self.config.start,
            "observe" if leg.observed else None,
        )

    async def _scenario(
        self, leg: Leg, scenario: Scenario, one: Rig, own: list[Rig], m: int
    ) -> None:
        programs = await self._programs(leg, scenario, one, m)
        phases = {
            place: Measured(scenario.name, leg.agents, place, leg.settings, leg.observed)
            for place in ([Placement.ONE, Placement.OWN] if own else [Placement.ONE])
        }
        if leg.observed and one.world.control is not None:
            one.world.control.costs = Costs()
        self.phases += phases.values()
        troubles = 0
        for n, program in enumerate(programs):
            if self.late:
                self._skip(f"{leg.name}, {scenario.name}: programs from {n + 1} on", "time was up")
                break
            # What comes first finds another machine than what comes second: take turns.
            order = list(phases) if n % 2 == 0 else list(phases)[::-1]
            for place in order:
                try:
                    where = [one] if place is Placement.ONE else own
                    phases[place].groups.append(await self._run(program, n, where, scenario))
                    troubles = 0
                except TargetError as error:
                    self._trouble(error)
                    troubles += 1
            if troubles >= TROUBLES:
                self.broken = True
                self._skip(f"{leg.name}, {scenario.name}", f"the target failed {troubles} times")
                break
        if leg.observed and one.world.control is not None:
            phases[Placement.ONE].inside = one.world.control.costs.table()
        for phase in phases.values():
            self._told(phase)

    async def _programs(self, leg: Leg, scenario: Scenario, one: Rig, m: int) -> list[Program]:
        """The programs of a scenario with so many agents; none where the target lacks what it is
        about."""
        config = self.config
        offered = await one.tools()
        if scenario.machine.tools and scenario.machine.tools[0] not in offered:
            self._skip(scenario.name, f"{self.target.name} has no {scenario.machine.tools[0]}")
            return []
        calls = config.baseline if leg.agents == 1 else config.calls
        calls = config.observed if leg.observed else calls
        count = max(1, round(calls / (leg.agents * config.lane)))
        knobs = Knobs(
            agents=leg.agents,
            calls=max(leg.agents, calls // count),
            # Nobody shares anything with one agent.
            share=config.share if leg.agents > 1 else 0.0,
            schemas=await one.schemas(),
        )
        seed = (config.seed * SEED + leg.agents) * 101 + m
        return await anyio.to_thread.run_sync(
            written, scenario.offered(offered), knobs, seed, count
        )

    async def _run(self, program: Program, n: int, rigs: list[Rig], scenario: Scenario) -> Group:
        """One program in one world, or its lanes in worlds of their own at the same time.

        :raises TargetError: if a server does not come up again.
        """
        parts = [program] if len(rigs) == 1 else apart(program)
        used = [k for k, part in enumerate(parts) if part.concurrent()]
        lanes: list[dict[int, int]] = [
            {a: a for a in range(program.agents)} if len(rigs) == 1 else {0: k} for k in used
        ]
        sampler = Sampler([rigs[k] for k in used], lanes, self.config.sample)
        meeting = Meeting(
            (lane for its in lanes for lane in its.values()),
            rounds=scenario.rounds,
            opening=sampler.begin,
            closing=sampler.end,
        )
        ran: dict[int, Execution] = {}
        failed: list[TargetError] = []

        async def each(k: int, its: Mapping[int, int]) -> None:
            scheduler = Abreast(meeting, its, sampler.answered, self.config.seed)
            try:
                ran[k] = await rigs[k].run(parts[k], scheduler, self.config.seed)
            except TargetError as error:
                failed.append(error)
            finally:
                for lane in its.values():
                    meeting.leave(lane)

        async with anyio.create_task_group() as together:
            for k, its in zip(used, lanes, strict=True):
                together.start_soon(each, k, its)
        for k, execution in sorted(ran.items()):
            self.emit(self.tally.add(execution, parts[k].digest(), self.identity.value))
            self.keeper.note(rigs[k], execution)
        if failed:
            raise failed[0]
        return _group(n, [(ran[k], its) for k, its in zip(used, lanes, strict=True)], sampler)

    async def _minimise(self) -> None:
        until = self.config.clock() + self.config.minimise
        while self.keeper.pending and not self.late:
            left = until - self.config.clock()
            if left <= 0:
                return
            await self.keeper.minimise_next(left)

    def _told(self, phase: Measured) -> None:
        times = latency([call.seconds for call in phase.calls])
        median = times.percentiles["p50"] if times is not None else None
        self.emit(
            PhaseFinished(
                scenario=phase.scenario,
                agents=phase.agents,
                placement=phase.placement.value,
                settings=phase.settings,
                observed=phase.observed,
                programs=len(phase.groups),
                calls=len(phase.calls),
                seconds=phase.seconds,
                median=None if median is None else median.value,
                errors=sum(call.end.error for call in phase.calls),
                violations=len({head for group in phase.groups for head in group.heads}),
                undecided=sum(len(group.undecided) for group in phase.groups),
            )
        )

    def _skip(self, what: str, why: str) -> None:
        entry = {"what": what, "why": why}
        if entry not in self.unmeasured:
            self.unmeasured.append(entry)

    def _trouble(self, error: TargetError) -> None:
        self.tally.infra += 1
        self.emit(InfraTrouble(str(error)))


def _group(n: int, ran: list[tuple[Execution, Mapping[int, int]]], sampler: Sampler) -> Group:
    made = [
        call
        for execution, lanes in ran
        for call in timed(execution.run.history, execution.judgement, n, lanes)
    ]
    calls = tuple(sorted(made, key=lambda call: call.sent))
    findings = [finding for execution, _ in ran for finding in execution.judgement.findings]
    return Group(
        calls=calls,
        seconds=max(c.back for c in calls) - min(c.sent for c in calls) if calls else 0.0,
        in_flight=in_flight(calls),
        uses=sampler.uses,
        growth=tuple(tuple(points) for points in sampler.growth.values()),
        storage=sampler.storage,
        load=sampler.load,
        heads=tuple(dict.fromkeys(finding.fingerprint.head() for finding in findings)),
        undecided=tuple(line for execution, _ in ran for line in execution.judgement.unknown),
    )
