"""The search against every order there is, over every ready model and a branching one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import KINDS, history, mistold, pair
from mcpconc.linearize import plan
from mcpconc.linearize.brute import brute
from mcpconc.linearize.product import products
from mcpconc.linearize.search import check
from mcpconc.model.base import Model, Op, Ordering, Partition, Reject
from mcpconc.verdict import Verdict

MANY = settings(max_examples=150, deadline=None)


@st.composite
def histories(draw: st.DrawFn, kind: str, size: int = 6, races: bool = True) -> Partition:
    def upto(n: int) -> int:
        return draw(st.integers(0, n))

    partition = history(upto, kind, size, races=races)
    for _ in range(upto(2) if races else 0):
        partition = mistold(upto, partition)
    return partition


def agree(partition: Partition) -> bool:
    """Whether the history has an order, as everybody says."""
    explained, most = brute(partition)
    found = check(partition)
    assert (found.verdict is Verdict.OK) == explained
    answered = {op.call for op in partition.ops if op.answered}
    assert len(answered.intersection(found.order)) == most
    assert explained == (not found.stuck)
    assert check(partition, brief=True).verdict is found.verdict
    return explained


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_agrees_with_brute_force(kind: str) -> None:
    @MANY
    @given(histories(kind))
    def agreed(partition: Partition) -> None:
        agree(partition)

    agreed()


@pytest.mark.parametrize("far", [0, 1, 2])
def test_it_agrees_however_few_overlapping_calls_make_one_far(
    far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FAR", far)
    assert tally(1_500, seed=far)


def tally(times: int, seed: int) -> Counter[bool]:
    """How many random histories had an order and how many had none, all agreed upon. In turn:
    with a hidden order, the same with one answer changed, with races, with races and changes."""
    dice = random.Random(seed)
    kinds = list(KINDS)
    counted: Counter[bool] = Counter()
    for number in range(times):
        turn = number % 4
        partition = history(upto(dice), dice.choice(kinds), 7, races=turn > 1)
        for _ in range((0, 1, 0, 2)[turn]):
            partition = mistold(upto(dice), partition)
        explained = agree(partition)
        assert explained or turn
        counted[explained] += 1
    return counted


def upto(dice: random.Random):  # type: ignore[no-untyped-def]
    return lambda n: dice.randint(0, n)


def test_they_agree_on_histories_with_and_without_an_order() -> None:
    counted = tally(4_000, seed=1)
    assert min(counted.values()) > 200


@pytest.mark.long
def test_they_agree_on_a_hundred_thousand_histories() -> None:
    print(tally(100_000, seed=2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_found_is_one_that_the_model_accepts(kind: str) -> None:
    @MANY
    @given(histories(kind))
    def accepted(partition: Partition) -> None:
        found = check(partition)
        ops = {op.call: op for op in partition.ops}
        order = [ops[call] for call in found.order]
        states = {partition.model.initial()}
        for op in order:
            states = {new for s in states for new in successors(partition.model, s, op)}
        assert found.state in states
        for place, op in enumerate(order):
            assert all(
                later.returned is None or later.returned >= op.invoked for later in order[place:]
            )

    accepted()


def successors(model: Model, state: object, op: Op) -> Sequence[object]:
    result = model.step(state, op)
    return () if isinstance(result, Reject) else result


@pytest.mark.parametrize("kind", KINDS)
def test_histories_with_a_hidden_order_are_never_refused(kind: str) -> None:
    dice = random.Random(kind)
    for _ in range(40):
        partition = history(upto(dice), kind, 26)
        assert check(partition, 100_000).verdict is not Verdict.VIOLATION


@pytest.mark.parametrize("kind", [k for k in KINDS if isinstance(KINDS[k].model, Ordering)])
def test_what_a_model_says_of_order_holds_in_every_complete_order(kind: str) -> None:
    @MANY
    @given(histories(kind))
    def holds(partition: Partition) -> None:
        assert isinstance(partition.model, Ordering)
        pairs = list(partition.model.order(partition.ops))
        for order in complete(partition):
            place = {number: at for at, number in enumerate(order)}
            for first, then, why in pairs:
                assert then not in place or place.get(first, 99) < place[then], why

    holds()


def complete(partition: Partition) -> Iterator[tuple[int, ...]]:
    """Every order that explains all answered operations."""
    ops = partition.ops
    late = [i for i, op in enumerate(ops) if not op.answered]
    for size in range(len(late) + 1):
        for chosen in combinations(late, size):
            numbers = [i for i, op in enumerate(ops) if op.answered or i in chosen]
            yield from _orders(partition, {partition.model.initial()}, numbers, ())


def _orders(
    partition: Partition, states: set[object], left: Sequence[int], done: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    ops = partition.ops
    if not left:
        yield done
    for i in left:
        if any((end := ops[j].returned) is not None and end < ops[i].invoked for j in left):
            continue
        after = {new for s in states for new in successors(partition.model, s, ops[i])}
        if after:
            yield from _orders(partition, after, [j for j in left if j != i], (*done, i))


def test_joined_objects_agree_with_brute_force() -> None:
    dice = random.Random(3)
    counted: Counter[bool] = Counter()
    for _ in range(800):
        for joined in products(pair(upto(dice), 6)):
            counted[agree(joined)] += 1
    assert min(counted.values()) > 20
