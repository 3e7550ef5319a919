"""How a campaign shares out its time among running, minimising and confirming."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Budget"]

SHRINK_SHARE = 0.4
"""Of the time spent so far, at most this much on minimising."""

CONFIRM_SHARE, CONFIRM_LEAST = 0.2, 60.0
"""Of the whole time, this much at most to see with ordinary starts what was found with forks; or a
minute, or half of it, if that is more."""

CONFIRM_EACH = 15.0
"""Seconds to keep for each finding: two calls and a new world, some five times."""

LEARN_SHARE = 0.2
"""Of the whole time, at most this much on learning what tools touch."""

LATE = 0.4
"""Of the whole time; from here on also what was seen only once is minimised."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The `whole` time of a campaign in seconds, None if only its runs are limited, which `began`
    then, as `clock` says. Findings are `doubtful` if they have to be confirmed before they count:
    for each of them some time is kept."""

    whole: float | None
    began: float
    clock: Callable[[], float]

    def elapsed(self) -> float:
        return self.clock() - self.began

    def left(self, doubtful: int) -> float:
        """Seconds for running and minimising."""
        if self.whole is None:
            return math.inf
        most = max(CONFIRM_SHARE * self.whole, min(CONFIRM_LEAST, self.whole / 2))
        return self.whole - min(most, CONFIRM_EACH * doubtful) - self.elapsed()

    def late(self) -> bool:
        return self.whole is None or self.elapsed() >= LATE * self.whole

    def learned(self) -> bool:
        """Whether learning has had its share."""
        return self.whole is not None and self.elapsed() >= LEARN_SHARE * self.whole

    def shrinking(self, spent: float, doubtful: int) -> float:
        """Seconds that minimising may go on for, which took `spent` so far."""
        if spent > SHRINK_SHARE * self.elapsed():
            return 0.0
        if self.whole is None:
            return math.inf
        return min(SHRINK_SHARE * self.whole - spent, self.left(doubtful))

    def confirming(self) -> Callable[[], bool]:
        """What says when the time to confirm is over: what is left now of the whole, or a share on
        top of what a campaign without a limit took."""
        end = self.clock() + max(CONFIRM_LEAST, CONFIRM_SHARE * self.elapsed())
        if self.whole is not None:
            end = self.began + self.whole
        return lambda: self.clock() >= end
