"""What a stress run is asked to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcpconc.strategies.scenarios import SCENARIOS, Scenario
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

__all__ = ["StressConfig"]


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
