"""Is the difference between two paired series more than luck? A permutation test, and Holm's
correction for several questions at once. Pure.

Under the hypothesis that it does not matter which of the two a program ran on, the sign of each
pair's difference is a coin. The p-value is the share of all sign patterns whose sum is at least as
far from zero as the one seen: exactly where there are few pairs, else by sampling (Good 2005; the
observed pattern counts as one of the sample, so that no p-value is ever 0).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TypeVar

__all__ = ["Tested", "holm", "paired"]

EXACT = 14
"""Pairs up to which all sign patterns are tried: 2 to this power."""

SAMPLES = 10_000
CLOSE = 1e-12
"""Sums that differ by rounding are equal, relative to the size of the differences."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Tested:
    """`p` is the two-sided p-value of `n` pairs, `difference` the mean of second minus first.
    `exact` says whether all sign patterns were tried."""

    n: int
    difference: float
    p: float
    exact: bool


def paired(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Tested:
    """Test whether second and first differ in these pairs. No pairs give a p-value of 1."""
    differences = [second - first for first, second in pairs]
    n = len(differences)
    if not n:
        return Tested(0, 0.0, 1.0, True)
    total = math.fsum(differences)
    size = [abs(d) for d in differences]
    least = abs(total) - CLOSE * math.fsum(size)
    if n <= EXACT:
        sums = (
            math.fsum(sign * d for sign, d in zip(signs, size, strict=True))
            for signs in product((1, -1), repeat=n)
        )
        hits, of = sum(abs(value) >= least for value in sums), 2**n
    else:
        random, hits, of = Random(seed), 1, SAMPLES + 1
        for _ in range(SAMPLES):
            bits = random.getrandbits(n)
            value = math.fsum(d if bits >> k & 1 else -d for k, d in enumerate(size))
            hits += abs(value) >= least
    return Tested(n, total / n, hits / of, n <= EXACT)


def holm(values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values: below α, the chance of any false alarm is below α (Holm 1979)."""
    adjusted: dict[Name, float] = {}
    highest = 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        highest = max(highest, min(1.0, p * (len(values) - rank)))
        adjusted[name] = highest
    return adjusted
