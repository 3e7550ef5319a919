"""Two runs are the same if a bijection of their generated ids makes them so, and only then."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.lineup.observe import Bag, Id, Record, Text
from mcpconc.lineup.same import Volatile, same

NOTHING = Volatile()


def row(kind="db.t", key="", **fields):
    return Record(kind, key, fields)


def ids(*names):
    return [Id(name) for name in names]


def test_equal_up_to_the_names_of_ids():
    a, b, x, y = ids("a", "b", "x", "y")
    assert same([row(id=a, of=b)], [row(id=x, of=y)], NOTHING)


def test_one_id_for_two_is_not_the_same():
    a, b, x = ids("a", "b", "x")
    assert not same([row(id=a), row(id=b)], [row(id=x), row(id=x)], NOTHING)


def test_an_id_that_points_elsewhere_is_not_the_same():
    a, b, x, y = ids("a", "b", "x", "y")
    told = [row(id=a, name="one"), row(id=b, name="two")]
    seen = [row(id=x, name="one"), row(id=y, name="two")]
    assert same([*told, row("db.edge", of=a)], [*seen, row("db.edge", of=x)], NOTHING)
    assert not same([*told, row("db.edge", of=a)], [*seen, row("db.edge", of=y)], NOTHING)


def test_what_only_refinement_cannot_tell():
    """Two triangles and a hexagon: every id has the same neighbourhood."""

    def ring(*names):
        made = ids(*names)
        pairs = zip(made, made[1:] + made[:1], strict=True)
        return [row(edge=Bag(pair)) for pair in pairs]

    hexagon = ring(*"abcdef")
    triangles = [*ring(*"uvw"), *ring(*"xyz")]
    assert same(hexagon, ring(*"lmnopq"), NOTHING)
    assert not same(hexagon, triangles, NOTHING)


def test_answers_are_compared_by_call_and_rows_as_a_bag():
    assert same([row(v=1), row(v=2)], [row(v=2), row(v=1)], NOTHING)
    one, other = (row("tool", key, v=v) for key, v in (("0.0", 1), ("1.0", 2)))
    crossed = [row("tool", "0.0", v=2), row("tool", "1.0", v=1)]
    assert not same([one, other], crossed, NOTHING)


@pytest.mark.parametrize(
    ("volatile", "equal"),
    [
        (NOTHING, False),
        (Volatile(values=frozenset({"db.t.at"})), True),
        (Volatile(values=frozenset({"db.t"})), True),
        (Volatile(values=frozenset({"db.other.at"})), False),
        (Volatile(frozenset({"db.t.at"}), steady=frozenset({"db.t.at"})) | NOTHING, False),
    ],
)
def test_a_volatile_field_is_masked_by_its_path(volatile, equal):
    assert same([row(at=1, v=1)], [row(at=2, v=1)], volatile) is equal


def test_the_order_of_a_list_counts_unless_it_is_volatile():
    a, b = row("tool", "0.0", items=(1, 2)), row("tool", "0.0", items=(2, 1))
    assert not same([a], [b], NOTHING)
    assert same([a], [b], Volatile(orders=frozenset({"tool.items"})))


def test_types_of_values_count():
    assert not same([row(v=1)], [row(v=True)], NOTHING)
    assert not same([row(v=1)], [row(v="1")], NOTHING)


leaf = st.one_of(
    st.integers(0, 1), st.sampled_from("abc").map(Id), st.just(Text(("goal ", Id("a"))))
)
records = st.lists(
    st.builds(
        lambda kind, x, y: Record(kind, "", {"x": x, "y": y}),
        st.sampled_from(["s", "t"]),
        leaf,
        st.one_of(leaf, st.tuples(leaf, leaf)),
    ),
    max_size=4,
)


@given(records, st.randoms(use_true_random=False))
def test_renaming_ids_and_shuffling_rows_changes_nothing(told, random):
    names = dict(zip("abc", random.sample("uvwxyz", 3), strict=True))
    other = [renamed(record, names) for record in told]
    random.shuffle(other)
    assert same(told, other, NOTHING)


@given(records, records)
def test_agrees_with_trying_every_bijection(told, seen):
    def canon(some, names):
        return sorted(repr(renamed(record, names)) for record in some)

    brute = any(
        canon(told, dict(zip("abc", order, strict=True)))
        == canon(seen, {name: name for name in "abc"})
        for order in permutations("abc")
    )
    assert same(told, seen, NOTHING) is brute


def renamed(record, names):
    def each(term):
        if isinstance(term, Id):
            return Id(names[term.value])
        if isinstance(term, Text):
            return Text(tuple(each(part) for part in term.parts))
        return tuple(each(item) for item in term) if isinstance(term, tuple) else term

    return Record(record.kind, record.key, {k: each(v) for k, v in record.term.items()})


def test_many_ids_that_look_alike_are_paired_in_time():
    random = Random(1)
    told = [row(id=Id(f"a{n}"), name="same") for n in range(40)]
    seen = [row(id=Id(f"b{n}"), name="same") for n in range(40)]
    random.shuffle(seen)
    assert same(told, seen, NOTHING)


def pairs(letter, count, kind="db.t", shift=0):
    return [
        row(kind, id=Id(f"{letter}{n}"), of=Id(f"{letter}{(n + shift) % count}'"))
        for n in range(count)
    ]


def test_very_many_pairs_of_ids_that_look_alike():
    assert same(pairs("a", 500), pairs("b", 500), NOTHING)


def test_ids_that_look_alike_are_paired_the_same_way_everywhere():
    told = [*pairs("a", 6), *pairs("a", 6, "db.u")]
    assert same(told, [*pairs("b", 6, shift=2), *pairs("b", 6, "db.u", shift=2)], NOTHING)
    assert not same(told, [*pairs("b", 6), *pairs("b", 6, "db.u", shift=1)], NOTHING)
