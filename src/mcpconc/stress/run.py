"""A stress run: scenarios, each by one agent, then by ever more, in one world and in worlds of
their own; all of it judged as any campaign's runs are.

What is measured is in `mcpconc.stress.phases`, what becomes of it in `mcpconc.stress.summary`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcpconc.errors import Exit
from mcpconc.events import Emit, Kept
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

__all__ = ["StressConfig", "Stressed", "stress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressConfig:
    """What a stress run does.

    Each of `scenarios` (names of `mcpconc.strategies.scenarios.SCENARIOS`) is run by each number of
    `agents`. One agent is the baseline and makes about `baseline` calls; every other number makes
    about `calls` calls in all in one world, and the same calls again in worlds of their own, as far
    as there are at most `own` agents (0: never). A phase is cut into `programs` programs, each in a
    fresh world.

    `settings` are names of the target's configurations (`mcpconc.target.base.Tunes`); of those
    beside the first one only the numbers of agents in `settings_agents` are run. `observe` has the
    probe count what calls do inside the target, in phases of their own, which no latency is taken
    from. `sample` is the pause in seconds between two looks at the processes."""

    out: Path
    target: str = "empirica"
    scenarios: tuple[str, ...] = ("bootstrap", "checkpoints", "database", "tools", "cascade")
    agents: tuple[int, ...] = (1, 2, 5, 10, 20)
    baseline: int = 40
    calls: int = 200
    programs: int = 4
    own: int = 10
    observed: int = 40
    seed: int = 0
    identity: Identity | None = None
    start: Start = Start.ORDINARY
    observe: bool = False
    settings: tuple[str, ...] = ("default",)
    settings_agents: tuple[int, ...] = (5,)
    max_time: float | None = None
    sample: float = 0.25
    clock: Callable[[], float] = field(default=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stressed:
    """What came of it, however it ended. `exit` says of violations alone: thresholds are the
    caller's. Where calls were forked, a finding that `Kept.counts` denies is not a violation yet."""

    exit: Exit
    stop: str
    seconds: float
    seed: int
    out: Path
    kept: tuple[Kept, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Parts of the summary document: ``target``, ``machine``, ``phases``, ``slowdown``,
        ``bottlenecks``, ``settings``, ``unmeasured``, ``findings`` (without ``status``), ``stop``.
        A copy that the caller may change."""
        return dict(self.parts)


async def stress(config: StressConfig, emit: Emit) -> Stressed:
    """Run all phases.

    The first SIGINT or SIGTERM ends it: what was measured and found by then is in the result.

    :raises TargetError: if the target cannot be installed, prepared or started at all.
    :raises UsageError: for a name that there is not, or a directory that cannot be written.
    """
    raise NotImplementedError
