"""Figures: what is known of a sample, and what is not."""

from __future__ import annotations

from random import Random

import pytest

from mcpconc.stress.figures import (
    RESAMPLES,
    Block,
    Est,
    latency,
    percentile,
    slope,
    slower,
    standardised,
)


def sample(seed: int, n: int) -> list[float]:
    luck = Random(seed)
    return sorted(luck.expovariate(1.0) for _ in range(n))


# ------------------------------------------------------------------ percentiles


@pytest.mark.parametrize(("p", "least"), [(0.5, 10), (0.9, 50), (0.95, 100), (0.99, 500)])
def test_a_percentile_is_told_only_where_five_values_lie_beyond_it(p: float, least: int) -> None:
    assert percentile(sample(1, least - 1), p) is None
    assert percentile(sample(1, least), p) is not None


@pytest.mark.parametrize(("p", "true"), [(0.5, 0.6931), (0.9, 2.3026)])
def test_the_interval_holds_the_true_quantile_in_19_of_20_samples(p: float, true: float) -> None:
    told = [percentile(sample(seed, 60), p) for seed in range(1000)]
    held = sum(est is not None and est.low <= true <= est.high for est in told)
    # Ranks are whole, so the interval is a little wide; 1000 samples are off by 1.5 % at most.
    assert 0.935 <= held / 1000 <= 0.995
    assert all(est is not None and est.low <= est.value <= est.high for est in told)


def test_ranks_are_those_of_the_tables() -> None:
    # For n = 25 and the median: values 8 and 18 (exact level 0.957), as tables have it.
    est = percentile([float(n) for n in range(1, 26)], 0.5)
    assert est == Est(13.0, 8.0, 18.0)


def test_a_large_sample_does_not_overflow() -> None:
    est = percentile([float(n) for n in range(1, 20_001)], 0.99)
    assert est is not None
    assert est.value == 19_800
    assert 19_760 < est.low < est.value < est.high < 19_840


def test_latency_says_what_it_does_not_know() -> None:
    assert latency([]) is None
    told = latency([0.1] * 9 + [1.0])
    assert told is not None
    assert told.to_json() == {
        "n": 10,
        "mean": 0.19,
        "p50": {"value": 0.1, "low": 0.1, "high": 0.1},
        "p90": None,
        "p95": None,
        "p99": None,
        "max": 1.0,
    }


# ------------------------------------------------------------------ ratios


def blocks(seed: int, n: int, kinds: dict[str, float], factor: float = 1.0) -> list[Block]:
    """`n` blocks of three calls of these kinds (name → mean), which vary by 10 %."""
    luck = Random(seed)
    names = list(kinds)
    return [
        [
            (kind, kinds[kind] * factor * luck.uniform(0.9, 1.1))
            for kind in (luck.choice(names) for _ in range(3))
        ]
        for _ in range(n)
    ]


KINDS = {"read": 0.01, "write": 1.0}


def test_what_takes_half_as_long_again_is_50_percent_slower() -> None:
    est = slower(blocks(1, 60, KINDS, 1.5), blocks(2, 60, KINDS), Random(0))
    assert est is not None
    assert est.low < 0.5 < est.high
    assert est.high - est.low < 0.2


def test_another_mix_is_no_slowdown() -> None:
    mostly_writes = [[("write", 1.0), ("write", 1.0), ("read", 0.01)]] * 10
    mostly_reads = [[("write", 1.0), ("read", 0.01), ("read", 0.01)]] * 10
    assert slower(mostly_writes, mostly_reads, Random(0)) == Est(0.0, 0.0, 0.0)


def test_kinds_that_one_side_lacks_do_not_count() -> None:
    assert standardised({"a": (1, 2.0), "b": (1, 9.0)}, {"a": (2, 2.0)}) == 1.0
    assert standardised({"b": (1, 9.0)}, {"a": (2, 2.0)}) is None


def test_pairs_are_drawn_together() -> None:
    # What one block takes varies tenfold from block to block, and the other side's with it.
    luck = Random(3)
    ours = [[("call", took)] for took in (luck.uniform(0.1, 1.0) for _ in range(40))]
    theirs = [[("call", took / 1.25)] for ((_, took),) in ours]
    together = slower(ours, theirs, Random(0), paired=True)
    apart = slower(ours, theirs, Random(0))
    assert together is not None
    assert apart is not None
    assert together.value == pytest.approx(0.25)
    assert together.high - together.low < 1e-9 < apart.high - apart.low


def test_too_little_gives_no_ratio() -> None:
    two = [[("call", 1.0)]] * 2
    assert slower(two, two, Random(0)) is None
    assert slower([[("a", 1.0)]] * 5, [[("b", 1.0)]] * 5, Random(0)) is None
    with_pairs = [[("call", 1.0)]] * 5
    assert slower(with_pairs, with_pairs[:4], Random(0), paired=True) is None


def test_the_same_luck_gives_the_same_interval() -> None:
    assert RESAMPLES >= 1000
    pairs = blocks(1, 20, KINDS, 1.2), blocks(2, 20, KINDS)
    assert slower(*pairs, Random("seed")) == slower(*pairs, Random("seed"))
    assert slower(*pairs, Random("seed")) != slower(*pairs, Random("another"))


# ------------------------------------------------------------------ slopes


def test_a_slope_is_that_of_all_series_wherever_they_begin() -> None:
    series = [[(x, 100 + 2.0 * x) for x in range(5)], [(x, -7 + 2.0 * x) for x in range(3, 9)]]
    assert slope(series) == pytest.approx(2.0)


def test_nothing_is_said_of_a_few_points() -> None:
    assert slope([[(0, 1.0), (1, 2.0), (2, 3.0)]]) is None
    assert slope([[(1, 1.0), (1, 2.0), (1, 3.0), (1, 4.0)]]) is None
    assert slope([[(0, 1.0)]] * 10) is None
