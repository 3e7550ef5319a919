"""Schedulers by name."""

from __future__ import annotations

import random
from collections.abc import Callable

from mcpconc.errors import UsageError
from mcpconc.schedule.barrier import Barrier
from mcpconc.schedule.base import Scheduler, Surroundings
from mcpconc.schedule.convoy import Convoy
from mcpconc.schedule.free import Free

__all__ = ["MIXED", "NAMES", "Scheduler", "Surroundings", "make"]

MIXED = "mixed"
"""Not a scheduler itself: one of the others for each run, by seed."""

_MAKERS: dict[str, Callable[[int], Scheduler]] = {
    "free": Free,
    "barrier": Barrier,
    "convoy": Convoy,
}

NAMES = (*_MAKERS, MIXED)


def make(name: str, seed: int) -> Scheduler:
    """A scheduler for one run. Its `name` and `seed` say what it really is: `mixed` gives one
    of the others.

    :raises UsageError: for an unknown name.
    """
    if name == MIXED:
        name = random.Random(f"{MIXED}/{seed}").choice(tuple(_MAKERS))
    try:
        return _MAKERS[name](seed)
    except KeyError:
        raise UsageError(f"unknown scheduler {name!r}: use one of {', '.join(NAMES)}") from None
