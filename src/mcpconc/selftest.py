"""The self-test: planted bugs in, a table out that says which oracle caught each.

One rig on the reference server serves everything: a bug is switched while the servers stay up.
First the correct server runs programs that must draw neither a finding nor a doubt. Then every
bug meets the same programs until the oracle that must catch it has a finding, which is
minimised; and the minimal program runs once more with the bug switched off, which must be
silent again. What is left between the two runs is the bug alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import anyio

from mcpconc.catching import Bench, SelftestConfig, blank, one_seed
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import (
    Emit,
    FalseAlarm,
    PlantState,
    PlantTried,
    SelftestFinished,
    TargetProgress,
)
from mcpconc.interrupt import interrupts
from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Oracle
from mcpconc.reference.plants import PLANTS, Plant
from mcpconc.rig import rig
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget

__all__ = [
    "CANARY",
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
    bench: Bench | None = None
    async with interrupts(progress) as signals:
        await target.install(progress)
        async with rig(
            target, Identity.ISOLATED, config.agents, config.out / "work", progress
        ) as on:
            on.oracles = oracles
            config = replace(config, machine=config.machine.offered(await on.tools()))
            bench = Bench(config, target, on, emit, tried, alarms)
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                try:
                    for n in range(config.seeds):
                        await one_seed(bench, config.seed + n)
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
        blank(plant, seed, PlantState.NOT_RUN)
        for seed in range(config.seed, config.seed + config.seeds)
        for plant in config.plants
        if (plant.name, seed) not in known
    ]
