"""Campaigns: Hypothesis in, findings out, under one budget.

Hypothesis writes programs in batches and knows nothing of their fate; the campaign runs them
on one rig per identity mode in turn, and for each finding that it has not met minimises,
labels and keeps a trace (`keep`). Whatever happens, what was found is on disk.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count, cycle, islice, repeat
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc.again import Turn, acquaint
from mcpconc.alone import its_own_model
from mcpconc.budget import Budget
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import (
    CampaignFinished,
    CampaignStarted,
    Covered,
    Emit,
    InfraTrouble,
    RunFinished,
    TargetProgress,
)
from mcpconc.interrupt import interrupts
from mcpconc.keep import Keeper
from mcpconc.lineup.orders import MOST_LANES
from mcpconc.lineup.same import Volatile
from mcpconc.nemesis import KINDS, possible, with_faults
from mcpconc.oracle.storms import Met, storms
from mcpconc.oracle.toll import tolls
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig, in_flight, outcomes, pairs, rig
from mcpconc.schedule import members
from mcpconc.schedule.counts import Costs, total
from mcpconc.schedule.coverage import Coverage
from mcpconc.strategies import CascadeMachine, Knobs, ProgramMachine, generate
from mcpconc.target import resolve
from mcpconc.target.base import Hurries, Identity, Progress, Shortens, Target
from mcpconc.target.warm import Start
from mcpconc.variety import Feature, focused, lessons, varied
from mcpconc.verdict import Verdict
from mcpconc.world import ProbeMode

__all__ = ["FuzzConfig", "fuzz", "programs"]

BATCH = 20
"""Programs of one Hypothesis run. Each run draws its own swarm, so many short runs vary more
than one long one."""

TROUBLES = 3
"""Times in a row that the target may fail to come up again before a campaign gives up."""

LARGE, CUTS = 20, 2
"""Calls of a program that small ones are cut out of, and how many are: more of them are alike."""

POOL, CHOICE = 3, 4
"""Batches that are written at once. Small programs are cut together out of those of 3, most telling
first; where programs are run as they are written, it is the more telling half of 4: Hypothesis
repeats itself, and a campaign against a real server runs a hundred."""

AGAIN = 3
"""Runs of each program where the target is its own model: its sequential runs, which cost most,
are made once."""

SAMPLE = 3
"""Lines on what oracles could not decide that the summary quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzConfig:
    """What a campaign does. It runs `runs` programs, and ends after `max_time` seconds or, without
    that, when all that was found is minimal; time to install and start the target does not count.
    `calls` is about how many calls a program has, `share` the probability that agents work on
    common objects.

    `itself` is given where the target is its own model: what is known to be volatile. Programs
    are then cut into small ones that can be compared with all their orders, of `calls` calls at
    most, and each is run several times.

    `bad_input` is the share of calls that are bad input, made with the `schemas` of the tools'
    input, which the campaign asks the target for.

    With `nemesis`, names of faults, each program meets one or more of them, and the target's own
    limits are as short as is sound.

    With `control` the target's processes load the probe; without it, schedulers that need one
    behave as `free`. Programs are small ones then, too, and are run for as long as that shows
    something new. With `observe` the probe counts instead what they do."""

    out: Path
    target: str = "empirica"
    agents: int = 5
    identities: tuple[Identity, ...] = ()
    max_time: float | None = None
    runs: int | None = None
    seed: int = 0
    inflight: int = 1
    scheduler: str = "mixed"
    calls: int = 12
    share: float = 0.7
    bad_input: float = 0.0
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shrink: bool = True
    machine: type[ProgramMachine] = CascadeMachine
    itself: Volatile | None = None
    start: Start = Start.ORDINARY
    nemesis: tuple[str, ...] = ()
    control: bool = False
    observe: bool = False
    clock: Callable[[], float] = field(default=time.monotonic)

    @property
    def probe(self) -> ProbeMode | None:
        return "control" if self.control else "observe" if self.observe else None


@dataclass(slots=True)
class Tally:
    """What the summary needs to know of all runs."""

    runs: int = 0
    calls: int = 0
    unknown: int = 0
    infra: int = 0
    broken: bool = False
    undecided: dict[str, None] = field(default_factory=dict)
    overlap: float = 0.0
    overlap_max: int = 0
    programs: set[str] = field(default_factory=set)
    exhausted: set[str] = field(default_factory=set)
    learning: int = 0
    coverage: Coverage | None = None
    costs: list[Costs] = field(default_factory=list)
    met: list[Met] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)

    def covered(self) -> Covered | None:
        if self.coverage is None:
            return None
        pairs, possible = self.coverage.total()
        return Covered(
            pairs=pairs,
            possible=possible,
            programs=len(self.programs),
            exhausted=len(self.exhausted),
            learning=self.learning,
        )

    def add(self, execution: Execution, program: str, identity: str) -> RunFinished:
        history = execution.run.history
        mean, most = in_flight(history)
        by_tool = outcomes(history)
        self.runs += 1
        self.calls += len(history.operations)
        self.unknown += execution.judgement.verdict is Verdict.UNKNOWN
        for line in execution.judgement.unknown:
            if len(self.undecided) < SAMPLE:
                self.undecided[line] = None
        self.overlap += (mean - self.overlap) / self.runs
        self.overlap_max = max(self.overlap_max, most)
        self.met += storms(execution.run)
        for tool, counts in by_tool.items():
            self.sent[tool] += sum(counts.values())
            self.succeeded[tool] += counts.get("success", 0)
        return RunFinished(
            n=self.runs,
            program=program,
            calls=len(history.operations),
            seconds=execution.seconds,
            overlap=mean,
            overlap_max=most,
            verdict=execution.judgement.verdict,
            info=sum(op.outcome is None for op in history.operations),
            identity=identity,
            scheduler=execution.scheduler,
            outcomes=by_tool,
            unknown=execution.judgement.unknown,
            pairs=pairs(history),
        )


async def fuzz(config: FuzzConfig, emit: Emit) -> CampaignFinished:
    """Run a campaign.

    The first SIGINT or SIGTERM ends it as if time were up: what was found is kept and
    reported. A second one also stops the cleaning up.

    :raises TargetError: if the target cannot be installed, prepared or started.
    :raises UsageError: if the output directory cannot be written, or a name is unknown.
    """

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    target = resolve(config.target)
    if config.nemesis and isinstance(target, Hurries):
        target.hurry()
    tally = Tally()
    forked = config.start is not Start.ORDINARY
    keeper = Keeper(config.out / "traces", config.seed, emit, config.clock, forked)
    stop = "interrupted"
    budget = Budget(config.max_time, config.clock(), config.clock)
    async with interrupts(progress) as signals:
        await target.install(progress)
        identities = config.identities or tuple(target.identities[:1])
        async with AsyncExitStack() as stack:
            work = config.out / "work"
            rigs = [
                await stack.enter_async_context(
                    rig(
                        *(target, identity, config.agents, work, progress),
                        config.start,
                        config.probe,
                    )
                )
                for identity in identities
            ]
            if config.itself is not None:
                for on in rigs:
                    its_own_model(on, config.itself)
            config = replace(config, machine=await _offered(target, rigs[0], config.machine))
            config = replace(config, schemas=await rigs[0].schemas())
            if config.nemesis:
                faults = possible(config.nemesis, KINDS, rigs[0].world.root, progress)
                config = replace(config, nemesis=faults)
            tally.coverage = _coverage(rigs) if config.control else None
            if config.observe:
                tally.costs = [on.world.control.costs for on in rigs if on.world.control]
            budget = replace(budget, began=config.clock())
            keeper.began = budget.began
            emit(
                CampaignStarted(
                    target=target.name,
                    version=target.version,
                    agents=config.agents,
                    identities=tuple(identity.value for identity in identities),
                    schedulers=members(config.scheduler),
                    seed=config.seed,
                    out=config.out,
                    max_time=config.max_time,
                    runs=config.runs,
                    inflight=config.inflight,
                    tools=config.machine.tools,
                )
            )
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                stop = await _loop(config, rigs, tally, keeper, emit, budget)
                if forked and keeper.kept():
                    try:
                        await _confirm(config, target, keeper, budget, progress)
                    except TargetError as error:
                        tally.infra += 1
                        emit(InfraTrouble(str(error)))
    done = CampaignFinished(
        exit=_exit(bool(signals), tally, keeper),
        stop=stop,
        runs=tally.runs,
        calls=tally.calls,
        seconds=budget.elapsed(),
        seed=config.seed,
        out=config.out,
        kept=keeper.kept(),
        never=tuple(sorted(t for t in tally.sent if not tally.succeeded[t])),
        unused=tuple(t for t in config.machine.tools if not tally.sent[t]),
        unknown=tally.unknown,
        undecided=tuple(tally.undecided),
        infra=tally.infra,
        overlap=tally.overlap,
        overlap_max=tally.overlap_max,
        faults=tolls(tally.met),
        coverage=tally.covered(),
        costs=total(costs.table() for costs in tally.costs) if config.observe else None,
    )
    emit(done)
    return done


def _coverage(rigs: Sequence[Rig]) -> Coverage | None:
    """What is learned of the target in one of its worlds holds in all of them."""
    coverage = Coverage()
    for on in rigs:
        if on.world.control is None:
            return None
        on.world.control.learned, on.world.control.pairs = coverage.learned, coverage.pairs
    return coverage


async def _offered(target: Target, on: Rig, machine: type[ProgramMachine]) -> type[ProgramMachine]:
    """The machine without the rules that call what the target does not offer.

    :raises UsageError: if it offers nothing that the machine calls.
    """
    offered = await on.tools() if machine.tools else frozenset(machine.tools)
    if machine.tools and not set(machine.tools) & offered:
        raise UsageError(
            f"{target.name} offers none of the tools that {machine.__name__} calls, but "
            f"{', '.join(sorted(offered)) or 'none'}; write a state machine that calls them and "
            "give it as --machine MODULE:CLASS"
        )
    machine = machine.offered(offered) if machine.tools else machine
    return machine.shortening() if isinstance(target, Shortens) and target.shorthand else machine


async def _loop(
    config: FuzzConfig,
    rigs: Sequence[Rig],
    tally: Tally,
    keeper: Keeper,
    emit: Emit,
    budget: Budget,
) -> str:
    """Run, keep, minimise, until something says stop; returns what.

    :raises TargetError: if the target does not even let the first run be made.
    """
    coverage = tally.coverage
    drawn = programs(config) if coverage is None else programs(config, coverage.weight)
    turns = cycle(rigs)
    troubles = 0
    turn: Turn | None = None
    on = rigs[0]
    if coverage is not None:
        await _learn(config, on, tally, emit, budget)
    for n in count():
        try:
            await _minimise(config, keeper, budget)
            if budget.left(keeper.doubtful) <= 0:
                return "time is up"
            if config.runs is not None and tally.runs >= config.runs:
                while (
                    config.shrink and keeper.pending and (left := budget.left(keeper.doubtful)) > 0
                ):
                    await keeper.minimise_next(left)
                return f"{tally.runs} run{'s' * (tally.runs > 1)} done"
            if turn is None or turn.exhausted:
                program = await anyio.to_thread.run_sync(next, drawn, None)
                if program is None:
                    return "the strategy has no more programs"
                on, turn = next(turns), Turn(program)
                tally.programs.add(turn.program.digest())
            seed = config.seed * 7919 + n
            program = with_faults(turn.program, config.nemesis, seed)
            execution = await on.run(program, config.scheduler, seed)
            if execution.steps and coverage is not None:
                turn.add(execution.steps, coverage.pairs)
                if turn.spent:
                    tally.exhausted.add(turn.program.digest())
            else:
                turn = None
        except TargetError as error:
            tally.infra += 1
            troubles += 1
            emit(InfraTrouble(str(error)))
            if troubles < TROUBLES:
                continue
            if not tally.runs:
                raise
            tally.broken = True
            return f"the target failed {troubles} times in a row"
        troubles = 0
        emit(tally.add(execution, program.digest(), on.identity.value))
        keeper.note(on, execution)
    raise AssertionError("count() does not end")


async def _learn(config: FuzzConfig, on: Rig, tally: Tally, emit: Emit, budget: Budget) -> None:
    """See what tools touch before anything is controlled, as far as its share of the time goes."""
    try:
        for lesson in await anyio.to_thread.run_sync(_lessons, config):
            if budget.learned():
                return
            tally.learning += await acquaint(on, lesson)
    except TargetError as error:
        tally.infra += 1
        emit(InfraTrouble(str(error)))


def _lessons(config: FuzzConfig) -> list[Program]:
    """Programs that have all the tools of the machine."""
    knobs = replace(_knobs(config), calls=LARGE, bad=0.0)
    return list(lessons(generate(config.machine, knobs, config.seed, BATCH)))


async def _minimise(config: FuzzConfig, keeper: Keeper, budget: Budget) -> None:
    """Minimise what waits for it, as far as its share of the time goes."""
    while config.shrink and keeper.ready(late=budget.late()):
        seconds = budget.shrinking(keeper.spent, keeper.doubtful)
        if seconds <= 0:
            return
        await keeper.minimise_next(seconds)


async def _confirm(
    config: FuzzConfig, target: Target, keeper: Keeper, budget: Budget, progress: Progress
) -> None:
    """See what was found with forked calls once more with ordinary starts."""
    expired = budget.confirming()
    made: dict[Identity, Rig] = {}
    async with AsyncExitStack() as stack:

        async def ordinary(identity: Identity) -> Rig:
            if identity not in made:
                on = rig(
                    *(target, identity, config.agents, config.out / "work", progress),
                    probe="control" if config.control else None,
                )
                made[identity] = await stack.enter_async_context(on)
                if config.itself is not None:
                    its_own_model(made[identity], config.itself)
            return made[identity]

        await keeper.confirm(ordinary, expired)


def _exit(interrupted: bool, tally: Tally, keeper: Keeper) -> Exit:
    if interrupted:
        return Exit.INTERRUPTED
    kept = [entry for entry in keeper.kept() if entry.finding.promised]
    if any(entry.counts for entry in kept):
        return Exit.VIOLATION
    if tally.broken:
        return Exit.TARGET
    if not tally.runs or tally.unknown or kept:
        return Exit.INCONCLUSIVE
    return Exit.PASSED


def _knobs(config: FuzzConfig) -> Knobs:
    return Knobs(
        agents=config.agents,
        calls=config.calls,
        share=config.share,
        inflight=config.inflight,
        bad=config.bad_input,
        schemas=config.schemas,
    )


def programs(
    config: FuzzConfig, weight: Callable[[Program], float] = lambda program: 1.0
) -> Iterator[Program]:
    """What a campaign runs, for as long as it runs: the same programs for the same seed and the
    same `weight`, which says of small ones how much more a program may show; it is asked when the
    next is taken."""
    small = config.itself is not None or config.control
    pool = POOL if small else CHOICE
    knobs = replace(_knobs(config), calls=LARGE if small else config.calls)
    seen: Counter[Feature] = Counter()
    given: set[str] = set()
    for start in count(0, pool):
        fresh = [
            program
            for batch in range(start, start + pool)
            for program in generate(config.machine, knobs, config.seed * 1_000_003 + batch, BATCH)
        ]
        if not fresh:
            return
        if not small:
            yield from islice(varied(fresh, seen=seen), (len(fresh) + 1) // 2)
            continue
        lanes = config.agents if config.itself is None else MOST_LANES
        cuts = {
            cut.digest(): cut
            for program in fresh
            for cut in islice(focused(program, seen, config.calls, lanes), CUTS)
        }
        new = [cut for digest, cut in cuts.items() if digest not in given]
        for cut in varied(new, weight):
            yield from repeat(cut, AGAIN if config.itself is not None else 1)
        given |= cuts.keys()
