"""A stress run: scenarios, each by one agent, then by ever more, in one world and in worlds of
their own; all of it judged as any campaign's runs are.

What is recorded of a phase is in `mcpconc.stress.phases`, what becomes of it in
`mcpconc.stress.summary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from mcpconc.errors import Exit, UsageError
from mcpconc.events import Emit, Kept, StressFinished, TargetProgress
from mcpconc.interrupt import interrupts
from mcpconc.keep import Keeper
from mcpconc.strategies.scenarios import class_of
from mcpconc.stress.config import StressConfig
from mcpconc.stress.ladder import Ladder
from mcpconc.stress.machine import machine
from mcpconc.stress.plan import legs
from mcpconc.stress.summary import document
from mcpconc.target import resolve
from mcpconc.target.base import Setting, Target, Tunes
from mcpconc.target.warm import Start

__all__ = ["StressConfig", "Stressed", "stress"]


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
    ladder = Ladder(config, target, keeper, emit, progress, config.clock())
    stop = "interrupted"
    async with interrupts(progress) as signals:
        await target.install(progress)
        ladder.machine = await machine(config.out)
        ladder.started = config.clock()
        with anyio.CancelScope() as scope:
            signals.scopes.append(scope)
            stop = await ladder.all(plan)
    done = Stressed(
        exit=_exit(bool(signals), ladder),
        stop=stop,
        seconds=config.clock() - ladder.started,
        seed=config.seed,
        out=config.out,
        kept=keeper.kept(),
        parts=document(
            ladder.phases,
            seed=config.seed,
            target={
                "name": target.name,
                "version": target.version,
                "spec": config.target,
                "identity": ladder.identity.value,
                "start": config.start.value,
            },
            machine=ladder.machine,
            settings=list(settings.values()),
            kept=keeper.kept(),
            unmeasured=ladder.unmeasured,
            stop=stop,
            class_of=class_of,
        ),
    )
    emit(
        StressFinished(
            exit=done.exit,
            stop=stop,
            phases=len(ladder.phases),
            calls=sum(len(phase.calls) for phase in ladder.phases),
            seconds=done.seconds,
            seed=config.seed,
            out=config.out,
            kept=done.kept,
            infra=ladder.tally.infra,
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


def _exit(interrupted: bool, ladder: Ladder) -> Exit:
    if interrupted:
        return Exit.INTERRUPTED
    kept = ladder.keeper.kept()
    if any(entry.counts for entry in kept):
        return Exit.VIOLATION
    if ladder.broken:
        return Exit.TARGET
    if not ladder.tally.runs or ladder.tally.unknown or kept:
        return Exit.INCONCLUSIVE
    return Exit.PASSED
