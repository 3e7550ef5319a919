"""Catching planted bugs with one seed: programs are run until the right oracle sees the bug, and
what it saw is minimised.

Every bug meets the same programs, the ones that were silent on the correct server before; and
after each its minimal program runs once more without it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread

from mcpconc.errors import TargetError
from mcpconc.events import (
    Emit,
    FalseAlarm,
    InfraTrouble,
    PlantProgress,
    PlantState,
    PlantTried,
)
from mcpconc.keep import as_trace
from mcpconc.minimise import Minimised, minimise
from mcpconc.oracle.base import Finding
from mcpconc.program import Program
from mcpconc.reference.plants import PLANTS, Plant
from mcpconc.rig import Execution, Rig
from mcpconc.strategies import CascadeMachine, Knobs, ProgramMachine, generate
from mcpconc.target.reference import ReferenceTarget
from mcpconc.trace import Shrink
from mcpconc.variety import varied

__all__ = ["Bench", "SelftestConfig", "blank", "one_seed"]

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

LONG_POLISH = 2.5
"""How many times as long one in which nothing overlaps is worked on."""

LABEL = 4.0
"""Seconds for the label of a minimal program."""

ALONE = 60
"""Attempts at making a sequential program smaller: some findings blame no call."""

ORDERS = 6
"""One-at-a-time orders that are tried for it: all of three calls, a sample of four."""

BAD_SHARE = 0.3
"""Of the calls, for a bug that only bad input shows."""

TROUBLES = 3
"""Times in a row that the servers may fail to come up again."""

BATCHES = 10
BATCH = 6
"""Programs of one Hypothesis run. Those of several runs are put in an order in which each bug
soon meets all kinds of calls that meet."""

SHARES = (1.0, 0.7)
"""Races are among calls on common objects; mixing up needs some that are not."""

T = TypeVar("T")
Caught = tuple[Execution, Finding]


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


def blank(plant: Plant, seed: int, state: PlantState) -> PlantTried:
    """The entry of a bug of which nothing is known but its state."""
    return PlantTried(
        name=plant.name,
        kind=plant.kind,
        oracle=plant.oracle,
        alone=plant.alone,
        state=state,
        seed=seed,
    )


@dataclass(slots=True)
class Bench:
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


class _Programs:
    """Programs by number, the same ones for the same seed, written when they are asked for. With
    `schemas` some of their calls are bad input."""

    def __init__(
        self,
        config: SelftestConfig,
        seed: int,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._config = config
        self._seed = seed
        self._bad: dict[str, Any] = {}
        if schemas is not None:
            self._bad = {"bad": BAD_SHARE, "schemas": schemas}
        self._known: list[Program] = []

    async def get(self, n: int) -> Program:
        while n >= len(self._known):
            self._known += await anyio.to_thread.run_sync(self._more)
        return self._known[n]

    def _more(self) -> list[Program]:
        config = self._config
        seed = self._seed * 1_000_003 + len(self._known)
        written = [
            program
            for batch in range(config.batches)
            for program in generate(
                config.machine,
                Knobs(config.agents, config.calls, SHARES[batch % 2], config.inflight, **self._bad),
                seed + batch,
                BATCH,
            )
        ]
        return list(varied(written))


async def one_seed(bench: Bench, seed: int) -> None:
    """Try all bugs with one seed, and the correct server before.

    :raises TargetError: if the servers do not come up any more.
    """
    config = bench.config
    end = config.clock() + config.budget
    programs = spoilt = _Programs(config, seed)
    if any(plant.bad for plant in config.plants):
        spoilt = _Programs(config, seed, await bench.rig.schemas())
    of = len(config.plants)
    share = config.budget / max(of, 1)
    for n in range(config.silent):
        bench.emit(PlantProgress("the correct server", 0, of, seed, n))
        await bench.must_be_silent(await programs.get(n), _schedule(seed, n), f"false-alarm-{n}")
        if spoilt is not programs:
            name = f"false-alarm-bad-{n}"
            await bench.must_be_silent(await spoilt.get(n), _schedule(seed, n), name)
    # What may escape comes last: it must not use up the time of the others.
    for n, plant in enumerate(sorted(config.plants, key=lambda plant: bool(plant.needs))):
        left = end - config.clock()
        if left <= 0:
            entry = blank(plant, seed, PlantState.NOT_RUN)
        else:
            entry = await _try(
                bench,
                plant,
                seed,
                spoilt if plant.bad else programs,
                n + 1,
                _slice(left, of - n, share),
            )
        bench.tried.append(entry)
        bench.emit(entry)


def _slice(left: float, bugs: int, share: float) -> float:
    """Seconds for the next one of so many bugs: four times its share of the whole, as long as
    each of the others keeps half of theirs."""
    return max(left / bugs, min(4 * share, left - (bugs - 1) * share / 2))


def _schedule(seed: int, n: int) -> int:
    return seed * 7919 + n


@dataclass(slots=True)
class _Search:
    """The runs with one bug planted, in the order of the seed's programs."""

    bench: Bench
    plant: Plant
    seed: int
    programs: _Programs
    n: int
    until: float
    runs: int = 0
    calls: int = 0
    seen: dict[str, None] = field(default_factory=dict)
    undecided: dict[str, None] = field(default_factory=dict)
    first: Caught | None = None
    """The first finding, of whatever oracle."""

    @property
    def most(self) -> int:
        return min(NEEDY, self.bench.config.runs) if self.plant.needs else self.bench.config.runs

    async def catch(self) -> Caught | None:
        """Go on until the right oracle sees something; None where runs or time are used up."""
        bench, plant = self.bench, self.plant
        while self.runs < self.most and bench.config.clock() < self.until:
            bench.emit(
                PlantProgress(plant.name, self.n, len(bench.config.plants), self.seed, self.runs)
            )
            program = await self.programs.get(self.runs)
            execution = await bench.run(plant.name, program, _schedule(self.seed, self.runs))
            self.runs += 1
            self.calls += len(execution.run.history.operations)
            self.undecided.update(dict.fromkeys(execution.judgement.unknown))
            findings = execution.judgement.findings
            self.seen.update(dict.fromkeys(finding.fingerprint.oracle for finding in findings))
            self.first = self.first or ((execution, findings[0]) if findings else None)
            right = [f for f in findings if f.fingerprint.oracle == plant.oracle]
            if right:
                return execution, min(right, key=lambda finding: len(finding.calls) or 99)
        return None

    def entry(self) -> PlantTried:
        return replace(
            blank(self.plant, self.seed, PlantState.NOT_RUN),
            runs=self.runs,
            calls=self.calls,
            seen=tuple(self.seen),
            undecided=tuple(self.undecided),
        )


async def _try(
    bench: Bench, plant: Plant, seed: int, programs: _Programs, n: int, seconds: float
) -> PlantTried:
    """Run programs until the right oracle sees the bug, and minimise what it saw."""
    began = bench.config.clock()
    until = began + seconds
    search = _Search(bench, plant, seed, programs, n, until - min(RESERVE, seconds / 2))
    caught = await search.catch()
    entry = search.entry()
    if caught is None:
        path = bench.save(plant.name, *search.first, seed) if search.first else None
        entry = replace(entry, state=_uncaught(search), trace=path)
        after = await programs.get(max(search.runs - 1, 0))
    elif not bench.config.shrink:
        path = bench.save(plant.name, *caught, seed)
        entry = replace(entry, state=PlantState.CAUGHT, trace=path)
        after = caught[0].run.program
    else:
        best = await _minimal(bench, caught, until)
        # What did not come back, or stays large, is looked for in another program.
        while not _small(best) and (caught := await search.catch()) is not None:
            best = min(best, await _minimal(bench, caught, until), key=_size)
        path = bench.save(plant.name, best.execution, best.finding, seed, best)
        entry = _caught(entry, best, path)
        after = best.execution.run.program
    await bench.must_be_silent(after, _schedule(seed, search.runs), f"after-{plant.name}")
    return replace(entry, seconds=bench.config.clock() - began)


def _uncaught(search: _Search) -> PlantState:
    if search.plant.needs and search.runs:
        return PlantState.EXCUSED
    if search.runs < search.most:
        return PlantState.OUT_OF_TIME if search.runs else PlantState.NOT_RUN
    return PlantState.WRONG_ORACLE if search.first else PlantState.ESCAPED


def _size(best: Minimised) -> int:
    """Concurrent calls left; where nothing overlaps, all."""
    program = best.execution.run.program
    return program.concurrent() or sum(1 for _ in program.calls())


def _small(best: Minimised) -> bool:
    overlapping = best.execution.run.program.concurrent() > 0
    return _size(best) <= (LIMIT if overlapping else LONGEST)


def _caught(entry: PlantTried, best: Minimised, path: Path) -> PlantTried:
    seen = (*entry.seen, *(f.fingerprint.oracle for f in best.execution.judgement.findings))
    return replace(
        entry,
        state=PlantState.CAUGHT if _small(best) else PlantState.NOT_MINIMAL,
        seen=tuple(dict.fromkeys(seen)),
        left=_size(best),
        overlapping=best.execution.run.program.concurrent() > 0,
        label=best.finding.label.value,
        trace=path,
    )


async def _minimal(bench: Bench, caught: Caught, until: float) -> Minimised:
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
        if smallest == 0:  # nothing overlaps: how many calls there are is not told
            return now >= min(until - LABEL, began + LONG_POLISH * polish)
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
