"""Statistics of calls: percentiles, ratios and slopes, each with its 95 % confidence interval, and
nothing where there is too little to say it from.

Percentiles have the distribution-free interval of order statistics (David and Nagaraja, "Order
Statistics", 2003, section 7.1). Ratios compare like with like: the mean of each kind of call,
weighted by how often it was made (direct standardisation), so that another mix of calls is no
slowdown. Their intervals are percentiles of a bootstrap that draws blocks of calls (Künsch, Ann.
Statist. 17(3), 1989): calls that follow each other meet the same moment of the machine, and are not
independent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

__all__ = ["Block", "Est", "Latency", "latency", "percentile", "slope", "slower", "standardised"]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
ENOUGH = 5
"""Calls beyond a percentile that must be expected, or it is not told."""
CONFIDENCE = 0.95
RESAMPLES = 1000
LEAST_BLOCKS = 3
"""Blocks on each side without which a ratio has no interval, and so is not told."""
LEAST_POINTS = 4

Block = Sequence[tuple[str, float]]
"""Calls that belong together: (kind, seconds). What is of one kind ought to cost the same."""


@dataclass(frozen=True, slots=True)
class Est:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `n` calls, in seconds. `percentiles` is name → estimate, None where `n` is too small."""

    n: int
    mean: float
    most: float
    percentiles: Mapping[str, Est | None]

    def to_json(self) -> dict[str, Any]:
        told = {name: est and est.to_json() for name, est in self.percentiles.items()}
        return {"n": self.n, "mean": _rounded(self.mean), **told, "max": _rounded(self.most)}


def latency(seconds: Sequence[float]) -> Latency | None:
    """None without any call."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Latency(
        n=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        most=ordered[-1],
        percentiles={name: percentile(ordered, p) for name, p in PERCENTILES.items()},
    )


def percentile(ordered: Sequence[float], p: float) -> Est | None:
    """The `p`-th quantile (0 < p < 1) of sorted values, with the two of them between which the true
    one lies; None for fewer than 5/(1-p) values."""
    n = len(ordered)
    # Not n < 5 / (1 - p): that is 50.00000000000001 for p = 0.9.
    if n * (1 - p) < ENOUGH - 1e-9:
        return None
    low, high = _ranks(n, p)
    rank = min(n, max(1, math.ceil(n * p - 1e-9)))
    return Est(ordered[rank - 1], ordered[low - 1], ordered[high - 1])


def _ranks(n: int, p: float) -> tuple[int, int]:
    """Ranks (from 1) of the values between which the quantile lies: how many values are below it is
    binomial, and the chance to miss is at most 2.5 % on either side, where n allows that."""
    tail = (1 - CONFIDENCE) / 2
    below = 0.0
    low, high = 1, n
    for k in range(n + 1):
        if below <= tail:
            low = max(1, k)
        below += _binomial(k, n, p)
        if below >= 1 - tail:
            high = min(n, k + 1)
            break
    return low, high


def _binomial(k: int, n: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def slower(
    ours: Sequence[Block], theirs: Sequence[Block], luck: Random, *, paired: bool = False
) -> Est | None:
    """By how much our calls take longer than theirs of the same kinds: 0.2 is 20 %.

    With `paired` the n-th block of ours holds the same calls as the n-th of theirs, and both are
    drawn together. None where they have no kind in common, or too few blocks.
    """
    if min(len(ours), len(theirs)) < LEAST_BLOCKS or (paired and len(ours) != len(theirs)):
        return None
    mine, other = [*map(_sums, ours)], [*map(_sums, theirs)]
    value = standardised(_total(mine), _total(other))
    if value is None:
        return None
    drawn = []
    for _ in range(RESAMPLES):
        picks = luck.choices(range(len(mine)), k=len(mine))
        others = picks if paired else luck.choices(range(len(other)), k=len(other))
        again = standardised(_total(mine[n] for n in picks), _total(other[n] for n in others))
        if again is not None:
            drawn.append(again)
    if len(drawn) < RESAMPLES // 2:
        return None
    drawn.sort()
    tail = (1 - CONFIDENCE) / 2
    low, high = (drawn[round(share * (len(drawn) - 1))] for share in (tail, 1 - tail))
    return Est(value, min(low, value), max(high, value))


Sums = Mapping[str, tuple[int, float]]
"""Kind → calls, seconds."""


def standardised(ours: Sums, theirs: Sums) -> float | None:
    """The time that ours took beyond what theirs would have taken for the same calls, as a share of
    that; kinds that only one side has do not count."""
    mine = other = 0.0
    for kind, (count, seconds) in ours.items():
        if kind in theirs:
            their_count, their_seconds = theirs[kind]
            mine += seconds
            other += count * their_seconds / their_count
    return mine / other - 1 if other > 0 else None


def _sums(block: Block) -> dict[str, tuple[int, float]]:
    return _total({kind: (1, seconds)} for kind, seconds in block)


def _total(several: Iterable[Sums]) -> dict[str, tuple[int, float]]:
    counts: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, float] = defaultdict(float)
    for sums in several:
        for kind, (count, took) in sums.items():
            counts[kind] += count
            seconds[kind] += took
    return {kind: (count, seconds[kind]) for kind, count in counts.items()}


def slope(series: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """By how much y grows for each x, the same in all series, wherever each begins (least squares
    with an intercept for each). None for fewer than `LEAST_POINTS` points that tell anything."""
    above = below = 0.0
    points = 0
    for one in series:
        if len(one) < 2:
            continue
        x0 = math.fsum(x for x, _ in one) / len(one)
        y0 = math.fsum(y for _, y in one) / len(one)
        above += math.fsum((x - x0) * (y - y0) for x, y in one)
        below += math.fsum((x - x0) ** 2 for x, _ in one)
        points += len(one)
    return above / below if points >= LEAST_POINTS and below > 0 else None


def _rounded(value: float) -> float:
    """Six digits that count: more is noise, and makes documents hard to read."""
    return float(f"{value:.6g}")
