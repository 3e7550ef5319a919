"""Phase after phase: rigs up, programs through them in both placements, what came of it kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from mcpconc.campaign import Tally
from mcpconc.errors import TargetError
from mcpconc.events import Emit, InfraTrouble, PhaseFinished, PhaseStarted
from mcpconc.keep import Keeper
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.strategies import Knobs
from mcpconc.strategies.scenarios import Scenario, written
from mcpconc.stress.abreast import Abreast, Meeting
from mcpconc.stress.config import StressConfig
from mcpconc.stress.figures import latency
from mcpconc.stress.phases import Group, Measured, Placement, apart, in_flight, timed
from mcpconc.stress.plan import Leg
from mcpconc.stress.usage import Sampler
from mcpconc.target.base import Identity, Progress, Target, Tunes

__all__ = ["Ladder"]

TROUBLES = 3
"""Times in a row that the target may fail to come up again, in one placement, before a scenario
is given up."""

SEED = 1_000_003
"""Programs of one leg have seeds that no other leg has."""


@dataclass(slots=True)
class Ladder:
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
        if leg.observed:
            # Servers tell what they counted once a second, and the rest when they end.
            for m, name in enumerate(config.scenarios):
                async with self._rig(leg.agents, "one", leg) as one:
                    counted = one.world.control.costs if one.world.control else None
                    await self._scenario(leg, name, one, [], (n, m, of))
                self.keeper.closed(one)
                if counted is not None:
                    self.phases[-1].inside = counted.table()
            return
        async with self._rig(leg.agents, "one", leg) as one:
            for m, name in enumerate(config.scenarios):
                await self._scenario(leg, name, one, own, (n, m, of))
            if config.minimise > 0:
                await self._minimise()
        self.keeper.closed(one)

    def _rig(self, agents: int, name: str, leg: Leg) -> AbstractAsyncContextManager[Rig]:
        return rig(
            *(self.target, self.identity, agents, self.config.out / "work" / name, self.progress),
            self.config.start,
            "observe" if leg.observed else None,
        )

    async def _scenario(
        self, leg: Leg, name: str, one: Rig, own: list[Rig], place: tuple[int, int, int]
    ) -> None:
        """One scenario with so many agents: the `place[1]`-th of the `place[0]`-th leg of
        `place[2]`."""
        n, m, of = place
        scenarios = len(self.config.scenarios)
        placements = (Placement.ONE, Placement.OWN) if own else (Placement.ONE,)
        self.emit(
            PhaseStarted(
                n=n * scenarios + m + 1,
                of=of * scenarios,
                scenario=name,
                agents=leg.agents,
                placements=tuple(each.value for each in placements),
                settings=leg.settings,
                observed=leg.observed,
            )
        )
        scenario = self.config.known[name]
        programs = await self._programs(leg, scenario, one, m)
        phases = {
            each: Measured(name, leg.agents, each, leg.settings, leg.observed)
            for each in placements
        }
        self.phases += phases.values()
        troubles = dict.fromkeys(phases, 0)
        for p, program in enumerate(programs):
            if self.late:
                self._skip(f"{leg.name}, {scenario.name}: programs from {p + 1} on", "time was up")
                break
            # What comes first finds another machine than what comes second: take turns.
            order = list(phases) if p % 2 == 0 else list(phases)[::-1]
            for each in order:
                try:
                    where = [one] if each is Placement.ONE else own
                    phases[each].groups.append(await self._run(program, p, where, scenario))
                    troubles[each] = 0
                except TargetError as error:
                    self._trouble(error)
                    troubles[each] += 1
            if (worst := max(troubles.values())) >= TROUBLES:
                self.broken = True
                self._skip(f"{leg.name}, {scenario.name}", f"the target failed {worst} times")
                break
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
