"""Concurrent runs against sequential ones, on a server that is a function."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.history import Event, EventType, History, Operation, Outcome, Phase
from mcpconc.lineup.compare import LEFT, MOST, Alone, Comparison
from mcpconc.lineup.differ import changing, first
from mcpconc.lineup.observe import Id, Observation, Record, observe
from mcpconc.lineup.orders import consistent, fits
from mcpconc.lineup.same import Volatile
from mcpconc.program import Call, Program
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

NOTHING = Volatile()


def operation(call, start, end, tool="add", **data):
    return Operation(
        call=call,
        agent=int(call[0]),
        tool=tool,
        args={},
        token="",
        phase=Phase.LANE,
        invoked=start,
        returned=end,
        outcome=None if end is None else Outcome.SUCCESS,
        data=data,
    )


def table(*values):
    return Snapshot(tables={"db": {"t": [{"_rowid_": n, "v": v} for n, v in enumerate(values)]}})


def comparison(operations, after, volatile=NOTHING):
    return Comparison(tuple(operations), Snapshot(), after, volatile)


def counter(order):
    """`add` answers what the counter was before."""
    answers = {
        call: Record("add", call, {"(outcome)": "success", "was": n})
        for n, call in enumerate(order)
    }
    return Observation(answers, (Record("db.t", "", {"added": {"v": len(order)}}),))


def settle(compared, server=counter):
    """Make every run that is asked for; how many those were."""
    made = 0
    while (todo := compared.todo()) is not None:
        compared.add(Alone(*todo, server(todo[0])))
        made += 1
    return made


def both(first, second, left, volatile=NOTHING):
    overlapping = [operation("0.0", 0, 3, was=first), operation("1.0", 1, 2, was=second)]
    return comparison(overlapping, table(left), volatile)


# ------------------------------------------------------------------ verdicts


def test_a_run_that_some_order_explains_is_ok_after_one_sequential_run():
    compared = both(1, 0, 2)
    assert settle(compared) == 1  # the likeliest order is that of the answers
    assert compared.verdict() is Verdict.OK
    assert compared.explained == ("1.0", "0.0")


def test_a_lost_update_is_a_violation_once_every_order_was_run_twice_in_both_ways():
    compared = both(0, 0, 1)
    assert settle(compared) == 2 * 2 * 2
    assert compared.verdict() is Verdict.VIOLATION
    assert [why.prefix for _, why in compared.refuted()] == [("1.0", "0.0"), ("0.0", "1.0")]


def test_a_wrong_first_answer_refutes_all_orders_that_begin_so():
    compared = both(5, 0, 2)
    settle(compared)
    assert dict(compared.refuted())[("0.0", "1.0")].prefix == ("0.0",)


def test_right_answers_and_a_wrong_state_are_refuted_by_what_is_left():
    compared = both(0, 1, 1)
    settle(compared)
    assert compared.verdict() is Verdict.VIOLATION
    assert dict(compared.refuted())[("0.0", "1.0")].prefix == ("0.0", "1.0", LEFT)


def test_real_time_counts():
    later = [operation("0.0", 0, 1, was=1), operation("1.0", 2, 3, was=0)]
    compared = comparison(later, table(2))
    settle(compared)
    assert compared.verdict() is Verdict.VIOLATION


def test_an_order_that_only_explains_without_rests_explains():
    compared = both(0, 0, 2)
    lazy = counter(("0.0", "1.0"))
    lazy.answers["1.0"].term["was"] = 0
    while (todo := compared.todo()) is not None:
        compared.add(Alone(*todo, counter(todo[0]) if todo[1] else lazy))
    assert compared.verdict() is Verdict.OK


def test_runs_that_never_come_out_the_same_decide_nothing():
    numbers = iter(range(100, 1000))

    def moody(order):
        made = counter(order)
        made.answers[order[0]].term["was"] = next(numbers)
        return made

    compared = both(0, 0, 1, Volatile(steady=frozenset({"add.was"})))
    assert settle(compared, moody) == 2 * 2 * MOST
    assert compared.verdict() is Verdict.UNKNOWN


def test_one_sequential_run_each_is_not_enough():
    compared = both(0, 0, 1)
    for order in compared.orders:
        compared.add(Alone(order, True, counter(order)))
    assert compared.verdict() is Verdict.UNKNOWN


def test_sequential_runs_without_an_answer_say_nothing():
    compared = both(0, 0, 1)
    while (todo := compared.todo()) is not None:
        compared.add(Alone(*todo, None))
    assert compared.verdict() is Verdict.UNKNOWN


def test_a_call_that_nobody_answered_may_have_happened_or_not():
    for left, verdict in ((1, Verdict.OK), (2, Verdict.OK), (3, Verdict.VIOLATION)):
        late = [operation("0.0", 0, 3, was=0), operation("1.0", 1, None)]
        compared = comparison(late, table(left))
        settle(compared)
        assert compared.verdict() is verdict


def test_set_up_calls_that_answer_otherwise_leave_it_open():
    before = [
        Operation("0.9", 0, "make", {}, "", Phase.PREFIX, 0, 1, Outcome.SUCCESS, {"n": 1}),
        operation("0.0", 2, 5, was=0),
        operation("1.0", 3, 4, was=0),
    ]
    compared = comparison(before, table(1))
    other = counter(("1.0", "0.0"))
    other.answers["0.9"] = Record("make", "0.9", {"(outcome)": "success", "n": 2})
    compared.add(Alone(("1.0", "0.0"), True, other))
    assert compared.verdict() is Verdict.UNKNOWN
    assert compared.todo() is None
    assert "before the concurrent" in compared.unsettled


# ------------------------------------------------------------------ volatile fields


def test_fields_that_differ_between_equal_runs_are_learned():
    numbers = iter(range(10**6))

    def logging(order):
        made = counter(order)
        for answer in made.answers.values():
            answer.term["took"] = next(numbers)
        return made

    seen = [operation("0.0", 0, 3, was=1, took=-1), operation("1.0", 1, 2, was=0, took=-2)]
    compared = comparison(seen, table(2))
    assert settle(compared, logging) == 2
    assert compared.verdict() is Verdict.OK
    assert compared.volatile.values == {"add.took"}


def test_a_steady_field_is_never_masked():
    compared = both(1, 0, 2, Volatile(steady=frozenset({"add.was"})))
    for was in (7, 8):
        made = counter(("1.0", "0.0"))
        made.answers["1.0"].term["was"] = was
        compared.add(Alone(("1.0", "0.0"), True, made))
    assert "add.was" not in compared.volatile.values


def answer(**data):
    return [Record("list", "0.0", data)]


@pytest.mark.parametrize(
    ("one", "other", "values", "orders"),
    [
        (answer(at=1, v=1), answer(at=2, v=1), {"list.at"}, set()),
        (answer(of=()), answer(of=(), more=1), {"list.more"}, set()),
        (answer(of=(1, 2)), answer(of=(1, 2, 3)), {"list.of"}, set()),
        (answer(of=(1, 2)), answer(of=(2, 1)), set(), {"list.of"}),
        (
            answer(of=({"n": "a", "at": 1}, {"n": "b", "at": 2})),
            answer(of=({"n": "b", "at": 3}, {"n": "a", "at": 4})),
            {"list.of[].at"},
            {"list.of"},
        ),
        (
            [Record("db.log", "", {"added": {"v": 1}})],
            [Record("db.log", "", {"added": {"v": n}}) for n in (1, 2)],
            {"db.log"},
            set(),
        ),
    ],
)
def test_what_is_learned_from_two_runs(one, other, values, orders):
    learned = changing(one, other, Volatile())
    assert learned == Volatile(frozenset(values), frozenset(orders))


@pytest.mark.parametrize(
    "other",
    [
        [Record("add", "0.0", {"(outcome)": "refused"})],
        [Record("add", "0.0", {"(outcome)": "success"}), Record("add", "1.0", {})],
    ],
)
def test_whether_a_call_is_done_is_never_volatile(other):
    assert changing([Record("add", "0.0", {"(outcome)": "success"})], other, Volatile()) is None


def test_ids_that_change_places_are_not_volatile():
    a, b = Id("a"), Id("b")
    one = [Record("t", "", {"id": a, "v": 1}), Record("u", "", {"of": a})]
    other = [Record("t", "", {"id": a, "v": 1}), Record("u", "", {"of": b})]
    assert changing(one, other, Volatile()) is None


# ------------------------------------------------------------------ orders and programs


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6), st.booleans()), min_size=1, max_size=4)
)
def test_orders_are_those_that_real_time_allows(intervals):
    operations = [
        operation(f"{n}.0", start, start + length if answered else None)
        for n, (start, length, answered) in enumerate(intervals)
    ]
    by_call = {op.call: op for op in operations}
    must = {op.call for op in operations if op.answered}
    expected = {
        order
        for size in range(len(operations) + 1)
        for order in permutations(by_call, size)
        if must <= set(order)
        and not any(
            by_call[b].precedes(by_call[a]) for i, a in enumerate(order) for b in order[i + 1 :]
        )
    }
    found = consistent(operations)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_the_order_of_the_answers_comes_first():
    operations = [operation("0.0", 0, 5), operation("1.0", 1, 3), operation("2.0", 2, 4)]
    assert consistent(operations)[0] == ("1.0", "2.0", "0.0")


def test_what_fits():
    def lanes(*sizes):
        return Program(
            len(sizes),
            lanes=tuple(
                tuple(Call(f"{agent}.{n}", agent, "t", {}) for n in range(size))
                for agent, size in enumerate(sizes)
            ),
        )

    assert fits(lanes(2, 2, 2))
    assert fits(lanes(3, 3))
    assert not fits(lanes(3, 2, 2))
    assert not fits(lanes(1, 1, 1, 1))


# ------------------------------------------------------------------ observations


def answered(text):
    return Operation("0.0", 0, "t", {}, "", Phase.LANE, 0, 1, Outcome.SUCCESS, {}, text)


def test_generated_ids_are_seen_in_texts_and_those_of_the_template_are_not_generated():
    known, made = "0b7e4a52-1111-4222-8333-444455556666", "9f31c2ab-1111-4222-8333-444455556666"
    before = Snapshot(files={"id": known})
    said = observe([answered(f"goal {made} of {known}")], before, before)
    text = said.answers["0.0"].term["(text)"]
    assert text.parts == ("goal ", Id(made), f" of {known}")


def test_only_what_differs_from_the_template_is_left():
    before, after = table(1, 2), table(2, 3)
    left = observe([], before, after).left
    assert [(r.kind, r.term) for r in left] == [
        ("db.t", {"added": {"v": 3}}),
        ("db.t", {"removed": {"v": 1}}),
    ]


def test_json_in_text_is_read_and_notes_lose_their_numbers():
    after = Snapshot(notes={"refs/notes/x/7": {"HEAD": '{"round": 7}'}})
    (left,) = observe([], Snapshot(), after).left
    assert left.kind == "notes refs/notes/x/*"
    assert left.term["added"]["note"] == {"round": 7}


def test_text_that_is_nested_without_end_is_text():
    endless = "[" * 5000 + "]" * 5000
    assert observe([answered(endless)], None, None).answers["0.0"].term["(text)"] == endless


def test_notes_of_a_run_carry_no_operation():
    # What sequential runs are noted as must not look like calls of this one.
    assert History.of([Event(0, EventType.NOTE, -1, "", {"what": "alone"})]).operations == ()


# ------------------------------------------------------------------ servers of other habits


def correct(says, volatile=NOTHING):
    """What becomes of a run of a correct server that answers `says(position)`."""
    concurrent = [
        operation("0.0", 0, 3, **says(1)),
        operation("1.0", 1, 2, **says(0)),
    ]
    compared = Comparison(tuple(concurrent), Snapshot(), Snapshot(), volatile)

    def alone(order):
        calls = [operation(call, 2 * n, 2 * n + 1, **says(n)) for n, call in enumerate(order)]
        return observe(calls, Snapshot(), Snapshot())

    settle(compared, alone)
    return compared


def fresh(form, start=0):
    numbers = iter(range(start, 1000))
    return lambda: form.format(next(numbers))


@pytest.mark.parametrize(
    "key", [fresh("0b7e4a52-1111-4222-8333-4444555{:05}"), fresh("task_{:06}ab"), fresh("zz{:06}")]
)
def test_ids_may_be_the_names_of_fields(key):
    assert correct(lambda n: {key(): {"was": n}}).verdict() is Verdict.OK
    assert correct(lambda n: {"of": {key(): {"was": n}}}).verdict() is Verdict.OK


def test_ids_with_a_prefix_are_compared_and_not_masked():
    key = fresh("task_{:06}ab")
    compared = correct(lambda n: {"id": key(), "was": n})
    assert (compared.verdict(), compared.volatile.values) == (Verdict.OK, set())


def test_an_id_of_random_hex_digits_may_have_no_letter():
    made = iter(["12345678", *(f"{n:06}ab" for n in range(99))])
    assert correct(lambda n: {"id": next(made), "was": n}).verdict() is Verdict.OK


@pytest.mark.parametrize("path", ["at the top", "below"])
def test_the_name_of_a_field_may_be_such_an_id(path):
    made = iter(["12345678", *(f"{n:06}ab" for n in range(99))])

    def says(n):
        named = {f"task_{next(made)}": n}
        return named if path == "at the top" else {"tasks": named}

    compared = correct(says)
    assert (compared.verdict(), compared.volatile.values) == (Verdict.OK, set())


def test_digits_are_no_id_where_ids_are_not_as_long():
    seen = [operation("0.0", 0, 1, n="12345678", id="0123456789ab")]
    compared = comparison(seen, Snapshot())
    assert compared.seen.answers["0.0"].term["n"] == "12345678"


@pytest.mark.parametrize("length", [0, 100])
def test_times_in_texts_are_masked_and_the_texts_are_not(length):
    seconds = iter([0, 0, *[1] * 99])

    def says(n):
        return {"said": f"{'x' * length} no. {n} at 2026-01-01T10:00:0{next(seconds)}Z"}

    compared = correct(says)
    assert compared.verdict() is Verdict.OK
    assert compared.volatile.values == {"add.said.(time)"}
    assert correct(lambda n: {**says(0), "was": n}).explained == ("1.0", "0.0")


def test_a_wrong_text_is_found_beside_a_time():
    def says(what):
        return {"said": f"no. {what} at 2026-01-01T10:00:00Z"}

    seen = [operation("0.0", 0, 3, **says(0)), operation("1.0", 1, 2, **says(0))]
    compared = comparison(seen, Snapshot())

    def alone(order):
        made = [operation(call, 2 * n, 2 * n + 1, **says(n)) for n, call in enumerate(order)]
        return observe(made, Snapshot(), Snapshot())

    settle(compared, alone)
    assert compared.verdict() is Verdict.VIOLATION


@pytest.mark.parametrize("phase", [Phase.PREFIX, Phase.SUFFIX])
def test_a_call_beside_the_concurrent_ones_that_nobody_answered_leaves_it_open(phase):
    lost = Operation("0.9", 0, "make", {}, "", phase, 9, None, None)
    compared = comparison([operation("0.0", 0, 3, was=5), lost], table(1))
    assert settle(compared) == 0
    assert compared.verdict() is Verdict.UNKNOWN
    assert "not answered" in compared.unsettled


def test_a_field_that_is_null_is_told_from_one_that_is_missing():
    (mine,), (yours,) = answer(v=None), answer()
    told = first(Observation({"0.0": mine}, ()), Observation({"0.0": yours}, ()), ["0.0"], NOTHING)
    assert (told.field, told.expected, told.seen) == ("v", "nothing", None)


def test_rows_that_moved_are_compared_with_their_like():
    def rows(order, late):
        return [Record("db.log", "", {"added": {"v": n, "at": n + late}}) for n in order]

    learned = changing(rows(range(60), 0.25), rows(reversed(range(60)), 0.5), NOTHING)
    assert learned.values == {"db.log.added.at"}


def test_lists_in_lists_are_compared_in_time():
    def nested(late):
        leaves = tuple({"n": n, "at": late} for n in range(4))
        for _ in range(3):
            leaves = tuple({"n": n, "of": leaves} for n in range(4))
        return answer(of=leaves)

    learned = changing(nested(0.25), nested(0.5), NOTHING)
    assert learned.values == {"list.of" + "[].of" * 3 + "[].at"}
