"""Schedulers by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from mcpconc.errors import UsageError
from mcpconc.schedule.barrier import Barrier
from mcpconc.schedule.base import Scheduler, Surroundings
from mcpconc.schedule.controlled import Controlled
from mcpconc.schedule.convoy import Convoy
from mcpconc.schedule.explore import Plan
from mcpconc.schedule.free import Free
from mcpconc.schedule.points import Kill, Recorded, unpack
from mcpconc.schedule.policies import First, Follow, Pct, Policy, Walk

__all__ = [
    "CONTROLLED",
    "MIXED",
    "NAMES",
    "PORTFOLIO",
    "REPLAY",
    "REPLAY_LOOSELY",
    "Scheduler",
    "Surroundings",
    "is_controlled",
    "make",
    "members",
    "planned",
]

MIXED = "mixed"
"""Not a scheduler itself: one of the others for each run, by seed."""

PORTFOLIO = "portfolio"
"""One of those that control the target for each run, by seed: no one of them finds everything."""

PORTFOLIO_OF = ("random", "pct:2", "pct:3", "pct:5")

REPLAY = "replay"
"""Follows a recorded schedule; after it, or where it diverges, whoever is first goes on."""

REPLAY_LOOSELY = "replay:loose"
"""The same for a schedule that was changed: looks at threads only, not at labels."""

REPLAY_RANDOM = "replay+random"
"""Follows a recorded schedule, then goes on at random."""

_MAKERS: dict[str, Callable[[int], Scheduler]] = {
    "free": Free,
    "barrier": Barrier,
    "convoy": Convoy,
}

CONTROLLED = ("random", "pct:D")
"""Schedulers that need the probe; D is a depth from 1 on."""

NAMES = (*_MAKERS, *CONTROLLED, MIXED, PORTFOLIO)


def members(name: str) -> tuple[str, ...]:
    """The schedulers that one of this name is for a run."""
    return {MIXED: tuple(_MAKERS), PORTFOLIO: PORTFOLIO_OF}.get(name, (name,))


def is_controlled(name: str) -> bool:
    """Whether a scheduler of this name needs the probe."""
    return name.partition(":")[0] in ("random", "pct", PORTFOLIO, REPLAY, REPLAY_RANDOM)


def make(
    name: str, seed: int, schedule: Sequence[Any] = (), kills: Sequence[Kill] = ()
) -> Scheduler:
    """A scheduler for one run. Its `name` and `seed` say what it really is: `mixed` and
    `portfolio` give one of the others. `schedule` is what those that replay follow; at `kills`
    controlled ones kill.

    :raises UsageError: for an unknown name.
    :raises TraceError: if `schedule` is none.
    """
    if len(of := members(name)) > 1:
        name = random.Random(f"{name}/{seed}").choice(of)
    if name in _MAKERS:
        return _MAKERS[name](seed)
    if name == "random":
        return Controlled(name, seed, lambda *_: Walk(seed), kills=kills)
    kind, _, depth = name.partition(":")
    if kind == "pct" and depth.isdecimal() and int(depth) > 0:
        return Controlled(name, seed, lambda *seen: Pct(seed, int(depth), *seen), kills=kills)
    if name in (REPLAY, REPLAY_LOOSELY, REPLAY_RANDOM):
        recorded = unpack(schedule)

        def follow(*seen: Any) -> Policy:
            then = Walk(seed) if name == REPLAY_RANDOM else First()
            return Follow(recorded.steps, then, loose=name == REPLAY_LOOSELY)

        return Controlled(name, seed, follow, recorded, kills)
    raise UsageError(f"unknown scheduler {name!r}: use one of {', '.join(NAMES)}")


def planned(plan: Plan, skip: tuple[frozenset[str], ...] | None) -> Controlled:
    """A scheduler for one run of `mcpconc.schedule.explore`; `skip` must be the same in all of
    them."""
    return Controlled(
        REPLAY,
        0,
        lambda *_: Follow(plan.prefix, First(), asleep=plan.asleep),
        Recorded(skip=skip),
    )
