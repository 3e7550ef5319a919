"""The self-test: planted bugs in, a table out that says which oracle caught each.

One rig on the reference server serves everything: a bug is switched while the servers stay up.
First the correct server runs programs that must draw neither a finding nor a doubt. Then every
bug meets the same programs until the oracle that must catch it has a finding, which is
minimised; and the minimal program runs once more with the bug switched off, which must be
silent again. What is left between the two runs is the bug alone.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import (
    Emit,
    FalseAlarm,
    InfraTrouble,
    PlantProgress,
    PlantState,
    PlantTried,
    SelftestFinished,
    TargetProgress,
)
from mcpconc.interrupt import interrupts
from mcpconc.keep import as_trace
from mcpconc.minimise import Minimised, minimise
from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Finding, Oracle
from mcpconc.program import Program
from mcpconc.reference.plants import PLANTS, Plant
from mcpconc.rig import Execution, Rig, rig
from mcpconc.strategies import CascadeMachine, Knobs, ProgramMachine, generate
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.trace import Shrink
from mcpconc.variety import varied

__all__ = [
    "CANARY",
    "LIMIT",
    "PLANTS",
    "SelftestConfig",
    "canary",
    "chosen",
    "passing",
    "selftest",
]

CANARY = (
    *("stdout-polluted", "refused-goal-is-stored", "intermediate-read"),
    *("transaction-from-shared-file", "blob-disagrees"),
)
"""Bugs of different oracles that almost any program shows."""

LIMIT = 4
"""Concurrent calls that a minimal program has at most."""

LONGEST = 8
"""Calls of a minimal program in which nothing overlaps: those that set up are among them."""

RUNS = 250
"""Programs after which a bug has escaped."""

NEEDY = 20
"""The same for one that needs a controlled schedule: luck may have it."""

SILENT = 40
"""Programs that the correct server runs first."""

RESERVE = 10.0
"""Seconds of a bug's time that are kept for minimising."""

POLISH, POLISH_RUNS = 4.0, 12.0
"""Seconds of minimising after which a program within the limits is small enough; where runs
are slow, the time of so many."""

LABEL = 4.0
"""Seconds for the label of a minimal program."""

ALONE = 60
"""Attempts at making a sequential program smaller: some findings blame no call."""

ORDERS = 6
"""One-at-a-time orders that are tried for it: all of three calls, a sample of four."""

TROUBLES = 3
"""Times in a row that the servers may fail to come up again."""

BATCHES = 10
BATCH = 6
"""Programs of one Hypothesis run. Those of several runs are put in an order in which each bug
soon meets all kinds of calls that meet."""

SHARES = (1.0, 0.7)
"""Races are among calls on common objects; mixing up needs some that are not."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestConfig:
    """What a self-test does. `plants` are tried in this order with each of `seeds` seeds from
    `seed` on; all of them share `budget` seconds per seed. `runs` programs are an escape, and
    `silent` programs prove that the correct server is. Without `shrink` a bug is done with once it
    is caught: what many seeds are for."""

    out: Path
    plants: Sequence[Plant] = PLANTS
    budget: float = 600.0
    seed: int = 0
    seeds: int = 1
    agents: int = 5
    inflight: int = 3
    calls: int = 20
    runs: int = RUNS
    silent: int = SILENT
    batches: int = BATCHES
    shrink: bool = True
    machine: type[ProgramMachine] = CascadeMachine
    clock: Callable[[], float] = field(default=time.monotonic)


def canary(config: SelftestConfig) -> SelftestConfig:
    """The same with a few bugs only, to be caught in seconds: what shows that a gate can fail."""
    few = tuple(plant for plant in PLANTS if plant.name in CANARY)
    return replace(config, plants=few, agents=3, silent=5, batches=3, shrink=False)


def chosen(words: Sequence[str], plants: Sequence[Plant] = PLANTS) -> tuple[Plant, ...]:
    """The bugs that `words` name: each is a bug, a class or an oracle that must catch.

    :raises UsageError: for a word that names nothing.
    """
    known = {word for plant in plants for word in _words(plant)}
    for word in words:
        if word.lower() not in known:
            near = difflib.get_close_matches(word.lower(), sorted(known), 3, 0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "see `mcpconc list`"
            raise UsageError(f"no planted bug, class or oracle is called {word!r}; {hint}")
    wanted = {word.lower() for word in words}
    return tuple(plant for plant in plants if wanted & _words(plant))


def _words(plant: Plant) -> set[str]:
    """``lost update: column`` is also a ``lost update``."""
    return {plant.name, plant.kind.lower(), plant.kind.lower().partition(":")[0], plant.oracle}


def passing(tried: Sequence[PlantTried]) -> bool:
    """Whether a bug that was tried with these seeds is caught often enough: in nine of ten."""
    caught = sum(one.state in (PlantState.CAUGHT, PlantState.EXCUSED) for one in tried)
    return caught * 10 >= len(tried) * 9


async def selftest(
    config: SelftestConfig, emit: Emit, oracles: Sequence[tuple[str, Oracle]] = ORACLES
) -> SelftestFinished:
    """Try every planted bug against `oracles`.

    The first SIGINT or SIGTERM ends it: what is known by then is in the result.

    :raises TargetError: if the reference server cannot be started at all.
    :raises UsageError: if the output directory cannot be written.
    """

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    target = ReferenceTarget()
    started = config.clock()
    stop = "interrupted"
    broken = False
    tried: list[PlantTried] = []
    alarms: list[FalseAlarm] = []
    bench: _Bench | None = None
    async with interrupts(progress) as signals:
        await target.install(progress)
        async with rig(
            target, Identity.ISOLATED, config.agents, config.out / "work", progress
        ) as on:
            on.oracles = oracles
            bench = _Bench(config, target, on, emit, tried, alarms)
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                try:
                    for n in range(config.seeds):
                        await _one_seed(bench, config.seed + n)
                    stop = "all bugs tried"
                except TargetError as error:
                    broken, stop = True, f"the servers do not come up: {error}"
    done = SelftestFinished(
        exit=_exit(config, bool(signals), broken, tried, alarms),
        stop=stop,
        seed=config.seed,
        seeds=config.seeds,
        seconds=config.clock() - started,
        out=config.out,
        tried=(*tried, *_not_run(config, tried)),
        silent=bench.silent if bench else 0,
        alarms=tuple(alarms),
        infra=bench.infra if bench else 0,
    )
    emit(done)
    return done


def _exit(
    config: SelftestConfig,
    interrupted: bool,
    broken: bool,
    tried: Sequence[PlantTried],
    alarms: Sequence[FalseAlarm],
) -> Exit:
    if interrupted:
        return Exit.INTERRUPTED
    if broken:
        return Exit.TARGET
    wrong = {PlantState.ESCAPED, PlantState.WRONG_ORACLE, PlantState.NOT_MINIMAL}
    if alarms:
        return Exit.VIOLATION
    for plant in config.plants:
        mine = [one for one in tried if one.name == plant.name]
        if not passing(mine) and any(one.state in wrong for one in mine):
            return Exit.VIOLATION
    late = {PlantState.OUT_OF_TIME, PlantState.NOT_RUN}
    if not config.plants or any(one.state in late for one in tried):
        return Exit.INCONCLUSIVE
    return Exit.PASSED


def _not_run(config: SelftestConfig, tried: Sequence[PlantTried]) -> list[PlantTried]:
    """Entries for what an early end has left out."""
    known = {(one.name, one.seed) for one in tried}
    return [
        _entry(plant, seed, PlantState.NOT_RUN)
        for seed in range(config.seed, config.seed + config.seeds)
        for plant in config.plants
        if (plant.name, seed) not in known
    ]


def _entry(plant: Plant, seed: int, state: PlantState) -> PlantTried:
    return PlantTried(
        name=plant.name,
        kind=plant.kind,
        oracle=plant.oracle,
        alone=plant.alone,
        state=state,
        seed=seed,
    )


@dataclass(slots=True)
class _Bench:
    """The rig with its switch, and what came out so far."""

    config: SelftestConfig
    target: ReferenceTarget
    rig: Rig
    emit: Emit
    tried: list[PlantTried]
    alarms: list[FalseAlarm]
    silent: int = 0
    infra: int = 0

    async def run(self, plant: str, program: Program, seed: int) -> Execution:
        """One run with this bug planted (empty: none)."""
        self.target.plant = plant
        return await self.patiently(partial(self.rig.run, program, "mixed", seed))

    async def patiently(self, action: Callable[[], Awaitable[T]]) -> T:
        """:raises TargetError: if it fails `TROUBLES` times in a row."""
        for _ in range(TROUBLES - 1):
            try:
                return await action()
            except TargetError as error:
                self.infra += 1
                self.emit(InfraTrouble(str(error)))
        return await action()

    async def must_be_silent(self, program: Program, seed: int, name: str) -> None:
        """Run a program on the correct server; whatever an oracle says is a false alarm."""
        execution = await self.run("", program, seed)
        self.silent += 1
        said = execution.judgement
        if said.findings:
            path = self.save(name, execution, said.findings[0], seed)
            self._alarm(f"{said.findings[0].fingerprint}: {said.findings[0].summary}", path)
        for line in said.unknown:
            self._alarm(f"undecided: {line}", None)

    def _alarm(self, text: str, path: Path | None) -> None:
        self.alarms.append(FalseAlarm(text, path))
        self.emit(self.alarms[-1])

    def save(
        self,
        name: str,
        execution: Execution,
        finding: Finding,
        seed: int,
        best: Minimised | None = None,
    ) -> Path:
        """Keep a trace called `name`, of the first seed that has one."""
        how = best.shrink if best else Shrink(finished=False)
        trace = as_trace(self.rig, execution, finding, seed, how, best.basis if best else "")
        path = self.config.out / "traces" / name
        return path if seed > self.config.seed and path.exists() else trace.save(path)


# ------------------------------------------------------------------ one seed


class _Programs:
    """Programs by number, the same ones for the same seed, written when they are asked for."""

    def __init__(self, config: SelftestConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._known: list[Program] = []

    async def get(self, n: int) -> Program:
        while n >= len(self._known):
            self._known += await anyio.to_thread.run_sync(self._more)
        return self._known[n]

    def _more(self) -> list[Program]:
        config = self._config
        seed = self._seed * 1_000_003 + len(self._known)
        return varied(
            [
                program
                for batch in range(config.batches)
                for program in generate(
                    config.machine,
                    Knobs(config.agents, config.calls, SHARES[batch % 2], config.inflight),
                    seed + batch,
                    BATCH,
                )
            ]
        )


async def _one_seed(bench: _Bench, seed: int) -> None:
    config = bench.config
    end = config.clock() + config.budget
    programs = _Programs(config, seed)
    of = len(config.plants)
    share = config.budget / max(of, 1)
    for n in range(config.silent):
        bench.emit(PlantProgress("the correct server", 0, of, seed, n))
        await bench.must_be_silent(await programs.get(n), _schedule(seed, n), f"false-alarm-{n}")
    # What may escape comes last: it must not use up the time of the others.
    for n, plant in enumerate(sorted(config.plants, key=lambda plant: bool(plant.needs))):
        left = end - config.clock()
        if left <= 0:
            entry = _entry(plant, seed, PlantState.NOT_RUN)
        else:
            entry = await _try(bench, plant, seed, programs, n + 1, _slice(left, of - n, share))
        bench.tried.append(entry)
        bench.emit(entry)


def _slice(left: float, bugs: int, share: float) -> float:
    """Seconds for the next one of so many bugs: four times its share of the whole, as long as
    each of the others keeps half of theirs."""
    return max(left / bugs, min(4 * share, left - (bugs - 1) * share / 2))


def _schedule(seed: int, n: int) -> int:
    return seed * 7919 + n


async def _try(
    bench: _Bench, plant: Plant, seed: int, programs: _Programs, n: int, seconds: float
) -> PlantTried:
    """Run programs until the right oracle sees the bug, and minimise what it saw."""
    clock = bench.config.clock
    began = clock()
    until = began + seconds
    search_until = until - min(RESERVE, seconds / 2)
    runs = calls = 0
    seen: dict[str, None] = {}
    undecided: dict[str, None] = {}
    first: tuple[Execution, Finding] | None = None
    caught: tuple[Execution, Finding] | None = None
    most = min(NEEDY, bench.config.runs) if plant.needs else bench.config.runs
    while caught is None and runs < most and clock() < search_until:
        bench.emit(PlantProgress(plant.name, n, len(bench.config.plants), seed, runs))
        program = await programs.get(runs)
        execution = await bench.run(plant.name, program, _schedule(seed, runs))
        runs += 1
        calls += len(execution.run.history.operations)
        undecided.update(dict.fromkeys(execution.judgement.unknown))
        findings = execution.judgement.findings
        seen.update(dict.fromkeys(finding.fingerprint.oracle for finding in findings))
        first = first or ((execution, findings[0]) if findings else None)
        right = [finding for finding in findings if finding.fingerprint.oracle == plant.oracle]
        if right:
            caught = execution, min(right, key=lambda finding: len(finding.calls) or 99)
    entry = replace(
        _entry(plant, seed, PlantState.NOT_RUN),
        runs=runs,
        calls=calls,
        seen=tuple(seen),
        undecided=tuple(undecided),
    )
    if caught is None:
        path = bench.save(plant.name, *first, seed) if first else None
        state = _uncaught(plant, bool(first), runs, most)
        entry = replace(entry, state=state, trace=path)
        after = program if runs else await programs.get(0)
    elif not bench.config.shrink:
        path = bench.save(plant.name, *caught, seed)
        entry = replace(entry, state=PlantState.CAUGHT, trace=path)
        after = caught[0].run.program
    else:
        best = await _minimal(bench, caught, until)
        entry = _caught(
            entry, best, bench.save(plant.name, best.execution, best.finding, seed, best)
        )
        after = best.execution.run.program
    await bench.must_be_silent(after, _schedule(seed, runs), f"false-alarm-after-{plant.name}")
    return replace(entry, seconds=clock() - began)


def _uncaught(plant: Plant, others: bool, runs: int, most: int) -> PlantState:
    if plant.needs and runs:
        return PlantState.EXCUSED
    if runs < most:
        return PlantState.OUT_OF_TIME if runs else PlantState.NOT_RUN
    return PlantState.WRONG_ORACLE if others else PlantState.ESCAPED


def _caught(entry: PlantTried, best: Minimised, path: Path) -> PlantTried:
    program = best.execution.run.program
    overlapping = program.concurrent() > 0
    left = program.concurrent() or sum(1 for _ in program.calls())
    minimal = left <= (LIMIT if overlapping else LONGEST)
    seen = (*entry.seen, *(f.fingerprint.oracle for f in best.execution.judgement.findings))
    return replace(
        entry,
        state=PlantState.CAUGHT if minimal else PlantState.NOT_MINIMAL,
        seen=tuple(dict.fromkeys(seen)),
        left=left,
        overlapping=overlapping,
        label=best.finding.label.value,
        trace=path,
    )


async def _minimal(bench: _Bench, caught: tuple[Execution, Finding], until: float) -> Minimised:
    """The smallest program that time allows, and its label if that is soon found."""
    clock = bench.config.clock
    began = clock()
    polish = max(POLISH, POLISH_RUNS * caught[0].seconds)
    smallest = caught[0].run.program.concurrent()
    ended: float | None = None

    def progress(calls: int, attempts: int, finished: bool) -> None:
        nonlocal smallest, ended
        smallest = calls
        if finished:
            ended = clock()

    def enough() -> bool:
        now = clock()
        return now >= until - LABEL or (smallest <= LIMIT and now >= began + polish)

    def expired() -> bool:
        return clock() >= (until if ended is None else min(until, ended + LABEL))

    return await bench.patiently(
        partial(
            minimise,
            bench.rig,
            *caught,
            expired=expired,
            enough=enough,
            progress=progress,
            orders=ORDERS,
            alone_budget=ALONE,
        )
    )
