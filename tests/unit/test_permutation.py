"""The permutation test against what is known of it."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.permutation import EXACT, holm, paired

whole = st.integers(-20, 20).map(float)
pairs = st.lists(st.tuples(whole, whole), max_size=7)


@given(pairs)
def test_it_is_the_share_of_sign_patterns_that_are_as_extreme(
    seen: list[tuple[float, float]],
) -> None:
    differences = [b - a for a, b in seen]
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(seen))
    ]
    expected = sum(value >= abs(sum(differences)) for value in sums) / len(sums)
    result = paired(seen)
    assert (result.p, result.exact, result.n) == (expected, True, len(seen))


@given(pairs)
def test_it_does_not_matter_which_is_called_first(seen: list[tuple[float, float]]) -> None:
    turned = paired([(b, a) for a, b in seen])
    assert (turned.p, turned.difference) == (paired(seen).p, -paired(seen).difference)


@given(pairs, st.integers(1, 50).map(float), st.randoms(use_true_random=False))
def test_neither_order_nor_unit_matters(
    seen: list[tuple[float, float]], unit: float, random: Random
) -> None:
    shuffled = [(a * unit, b * unit) for a, b in seen]
    random.shuffle(shuffled)
    assert paired(shuffled).p == paired(seen).p


@given(st.lists(whole, max_size=20))
def test_equal_series_never_differ(values: list[float]) -> None:
    assert paired([(value, value) for value in values]).p == 1.0


def test_one_that_is_always_slower_is_found_as_far_as_so_few_pairs_can_tell() -> None:
    for n in range(1, EXACT + 1):
        assert paired([(1.0 + k, 2.0 + k) for k in range(n)]).p == 2 / 2**n
    many = paired([(1.0, 2.0)] * (EXACT + 10))
    assert not many.exact
    assert 0 < many.p < 0.001


def test_sampling_is_seeded_and_near_the_exact_value() -> None:
    random = Random(3)
    seen = [(random.gauss(0, 1), random.gauss(0.3, 1)) for _ in range(EXACT)]
    exact = paired(seen)
    more = [*seen, (0.0, 0.0)]  # a pair that says nothing makes it sample, and changes nothing
    sampled = paired(more, seed=1)
    assert not sampled.exact
    assert sampled == paired(more, seed=1)
    assert sampled.p == pytest.approx(exact.p, abs=0.03)


def test_luck_alone_is_seldom_significant() -> None:
    random = Random(0)
    values = [paired([(random.random(), random.random()) for _ in range(8)]).p for _ in range(300)]
    assert sum(p <= 0.05 for p in values) <= 30  # 15 expected


p_values = st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8)


@given(p_values)
def test_holm_never_makes_anything_more_significant_and_keeps_the_order(
    values: dict[str, float],
) -> None:
    adjusted = holm(values)
    assert adjusted.keys() == values.keys()
    for name, p in values.items():
        assert p <= adjusted[name] <= min(1.0, p * len(values))
        for other, q in values.items():
            assert p > q or adjusted[name] <= adjusted[other] or p == q


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
