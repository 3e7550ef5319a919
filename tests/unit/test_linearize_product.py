"""Several objects together: reads that mix two moments."""

from __future__ import annotations

from mcpconc.linearize.product import LARGEST, products, searchable
from mcpconc.linearize.search import check
from mcpconc.model.base import SNAPSHOT, Op, Partition
from mcpconc.model.register import Register
from mcpconc.verdict import Verdict


def write(call: str, invoked: int, returned: int | None) -> Op:
    return Op(call, 0, "write", 1, None, invoked, returned)


def read(call: str, value: int, invoked: int, returned: int) -> Op:
    return Op(call, 1, "read", None, value, invoked, returned)


def register(key: str, *ops: Op) -> Partition:
    return Partition("register", key, Register(), ops)


def test_a_read_of_two_objects_that_mixes_two_moments_is_refused_only_together() -> None:
    # x is written before y, and one list shows the new y beside the old x.
    x = register("x", write("wx", 0, 1), read("list", 0, 0, 9))
    y = register("y", write("wy", 2, 3), read("list", 1, 0, 9))
    assert [check(p).verdict for p in (x, y)] == [Verdict.OK, Verdict.OK]
    (joined,) = products([x, y])
    found = check(joined)
    assert found.verdict is Verdict.VIOLATION
    assert found.stuck[0][1].field == "register.value"


def test_a_read_of_one_moment_is_accepted_together() -> None:
    x = register("x", write("wx", 0, 1), read("list", 1, 0, 9))
    y = register("y", write("wy", 2, 3), read("list", 0, 0, 9))
    (joined,) = products([x, y])
    assert check(joined).verdict is Verdict.OK


def test_a_call_that_nobody_answered_may_have_taken_effect_in_part() -> None:
    x = register("x", write("both", 0, None), read("list", 1, 5, 6))
    y = register("y", write("both", 0, None), read("list", 0, 5, 6))
    (joined,) = products([x, y])
    assert check(joined).verdict is Verdict.OK


def test_an_answered_call_takes_effect_on_all_its_objects_at_once() -> None:
    x = register("x", write("both", 0, 9), read("list", 1, 5, 6))
    y = register("y", write("both", 0, 9), read("list", 0, 5, 6))
    (joined,) = products([x, y])
    assert check(joined).verdict is Verdict.VIOLATION


def test_objects_are_joined_by_answered_calls_and_not_by_the_read_back() -> None:
    def last() -> Op:
        return Op(SNAPSHOT, -1, SNAPSHOT, None, 1, 20, 21)

    x = register("x", write("wx", 0, 1), last())
    y = register("y", write("wy", 0, 1), write("lost", 2, None), last())
    z = register("z", write("lost", 2, None), last())
    assert products([x, y, z]) == []


def test_each_component_is_a_product_of_its_own() -> None:
    parts = [
        register(key, write(f"w{pair}", 0, 1)) for pair in ("p", "q") for key in (f"{pair}1", pair)
    ]
    assert [p.key for p in products(parts)] == [
        "register p1, register p",
        "register q1, register q",
    ]


def test_what_each_object_tells_of_the_order_spares_the_search_of_the_whole() -> None:
    # Each list shows one of twelve objects as written and the next one not yet.
    parts = []
    for number in range(12):
        lists = [read(f"list{n}", 1 if n == number else 0, 0, 100) for n in (number - 1, number)]
        # Tried by return, the writes would all come in the wrong order.
        # A value that is written twice tells the model nothing.
        writes = (write(f"w{number}", 0, 99 - number), write(f"again{number}", 200, 201))
        parts.append(register(str(number), *writes, *lists))
    (joined,) = products(parts)
    found = check(joined, 2_000)
    assert found.verdict is Verdict.OK
    writes = [call for call in found.order if call.startswith("w")]
    assert writes == [f"w{number}" for number in range(12)]


def test_a_set_too_large_to_be_searched_is_known_as_such() -> None:
    parts = [register(key, write("w", 0, 1)) for key in "xy"]
    assert searchable(parts)
    many = (write("w", 0, 1),) * (LARGEST // 2)
    assert not searchable([*parts, Partition("register", "z", Register(), many)])


def test_questions_about_order_come_to_an_end() -> None:
    lists = [read(f"list{n}", n % 2, 0, 900) for n in range(300)]
    x = register("x", *(write(f"w{n}", 0, 900) for n in range(300)), *lists)
    (joined,) = products([x, register("y", *lists)])
    assert check(joined, 1_000, brief=True).verdict is Verdict.UNKNOWN
