"""The search against ground truth, and its promises about budgets and fairness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpconc.linearize.brute import brute
from mcpconc.linearize.search import check, check_all, decide
from mcpconc.model.base import SNAPSHOT, Model, Op, Partition, Reject
from mcpconc.model.kv import KeyValue
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register
from mcpconc.verdict import Verdict

MANY = settings(max_examples=400, deadline=None)
SOME = settings(max_examples=150, deadline=None)


@dataclass(frozen=True, slots=True)
class Bag:
    """A branching toy: `draw` takes out any one member and does not say which."""

    name: str = "bag"
    quirks: frozenset[str] = frozenset()
    known_quirks: frozenset[str] = frozenset()

    def initial(self) -> tuple[int, ...]:
        return (0, 1, 2)

    def step(self, state: tuple[int, ...], op: Op) -> Sequence[tuple[int, ...]] | Reject:
        if op.name == "has":
            has = op.input in state
            return (state,) if op.output in (None, has) else Reject("has", has, op.output)
        if op.name == "put":
            return (tuple(sorted((*state, op.input))),)
        if op.output not in (None, bool(state)):
            return Reject("drawn", bool(state), op.output)
        return [state[:i] + state[i + 1 :] for i in range(len(state))] or [state]

    def pure(self, op: Op) -> bool:
        return op.name == "has" or (op.name == "draw" and op.output is False)

    def excusing(self, quirks: frozenset[str]) -> Bag:
        return self

    def describe(self, state: tuple[int, ...]) -> str:
        return str(state)


VALUES = st.integers(0, 2)
CALLS = {
    "register": st.one_of(
        st.tuples(st.just("read"), st.none(), VALUES),
        st.tuples(st.just("write"), VALUES, st.just(True)),
        st.tuples(st.just("cas"), st.tuples(VALUES, VALUES), st.booleans()),
    ),
    "kv": st.one_of(
        st.tuples(st.just("get"), st.none(), st.text("ab", max_size=2)),
        st.tuples(st.sampled_from(("put", "append")), st.sampled_from("ab"), st.just(True)),
    ),
    "log": st.one_of(
        st.tuples(st.just("read"), st.none(), st.lists(VALUES, max_size=2).map(tuple)),
        st.tuples(st.just("append"), VALUES, VALUES),
    ),
    "bag": st.one_of(
        st.tuples(st.just("draw"), st.none(), st.booleans()),
        st.tuples(st.just("put"), VALUES, st.just(True)),
        st.tuples(st.just("has"), VALUES, st.booleans()),
    ),
}
MODELS: dict[str, Model] = {
    "register": Register(),
    "kv": KeyValue(),
    "log": AppendLog(),
    "bag": Bag(),
}


@st.composite
def histories(draw: st.DrawFn, kind: str, size: int = 6) -> Partition:
    """Any answers at all, in random closed intervals, some calls never answered."""
    ops = []
    for number in range(draw(st.integers(1, size))):
        name, given_, answer = draw(CALLS[kind])
        invoked = draw(st.integers(0, 8))
        returned = None if draw(st.integers(0, 3)) == 0 else invoked + draw(st.integers(0, 5))
        output = None if returned is None else answer
        ops.append(
            Op(f"c{number}", draw(st.integers(0, 1)), name, given_, output, invoked, returned)
        )
    return Partition(kind, "it", MODELS[kind], tuple(ops))


@pytest.mark.parametrize("kind", MODELS)
def test_the_search_agrees_with_brute_force(kind: str) -> None:
    @MANY
    @given(histories(kind))
    def agrees(partition: Partition) -> None:
        explained, most = brute(partition)
        found = check(partition)
        assert (found.verdict is Verdict.OK) == explained
        answered = {op.call for op in partition.ops if op.answered}
        assert len(answered.intersection(found.order)) == most
        assert explained == (not found.stuck)

    agrees()


@pytest.mark.parametrize("kind", MODELS)
def test_the_order_found_is_one_that_the_model_accepts(kind: str) -> None:
    @SOME
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


@st.composite
def linearizable(draw: st.DrawFn, kind: str, size: int = 25) -> Partition:
    """A history with a hidden order: call number i took effect at time 10 * i."""
    model = MODELS[kind]
    state = model.initial()
    ops = []
    for number in range(draw(st.integers(1, size))):
        name, given_, _ = draw(CALLS[kind])
        op = Op(f"c{number}", draw(st.integers(0, 2)), name, given_, None, 0, None)
        answers: list[object] = (
            [True, False, 0, 1, 2, 3, state, len(state) if state else 0]
            if (isinstance(state, str | tuple))
            else [True, False, 0, 1, 2]
        )
        fitting = [
            tried
            for answer in answers
            if not isinstance(
                model.step(state, tried := replace(op, output=answer, returned=0)), Reject
            )
        ]
        if not fitting:
            continue
        chosen = draw(st.sampled_from(fitting))
        invoked = 10 * number - draw(st.integers(0, 60))
        returned = 10 * number + draw(st.integers(0, 60))
        if draw(st.integers(0, 4)) == 0:
            ops.append(replace(chosen, invoked=invoked, returned=None, output=None))
            if draw(st.booleans()):
                continue  # it never took effect
        else:
            ops.append(replace(chosen, invoked=invoked, returned=returned))
        state = draw(st.sampled_from(list(successors(model, state, chosen))))
    return Partition(kind, "it", model, tuple(draw(st.permutations(ops))))


@pytest.mark.parametrize("kind", MODELS)
def test_histories_with_a_hidden_order_are_never_refused(kind: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(linearizable(kind))
    def explained(partition: Partition) -> None:
        assert check(partition, 200_000).verdict is not Verdict.VIOLATION

    explained()


def op(
    call: str, name: str, input: object, output: object, invoked: int, returned: int | None
) -> Op:
    return Op(call, 0, name, input, output, invoked, returned)


def register(*ops: Op) -> Partition:
    return Partition("register", "it", Register(), ops)


def hopeless(clients: int = 9) -> Partition:
    """All appends overlap and the read shows none of their orders: nearly n! configurations."""
    appends = tuple(op(f"a{i}", "append", i, None, i, 100) for i in range(clients))
    read = op("r", "read", None, (*range(clients - 1), -1), 101, 102)
    return Partition("log", "hopeless", AppendLog(), (*appends, read))


WRONG_READ = register(op("w", "write", 1, None, 0, 1), op("r", "read", None, 2, 2, 3))


def test_intervals_are_closed() -> None:
    write = op("w", "write", 1, None, 5, 6)
    assert check(register(op("r", "read", None, 1, 0, 5), write)).verdict is Verdict.OK
    assert check(register(op("r", "read", None, 1, 0, 4), write)).verdict is Verdict.VIOLATION


def test_an_unanswered_call_takes_effect_at_any_later_time_or_never() -> None:
    lost = op("lost", "write", 1, None, 0, None)
    for seen in ((0, 0), (0, 1), (1, 1)):
        reads = (op(f"r{i}", "read", None, v, 10 + 2 * i, 11 + 2 * i) for i, v in enumerate(seen))
        assert check(register(lost, *reads)).verdict is Verdict.OK
    back = (op("r0", "read", None, 1, 10, 11), op("r1", "read", None, 0, 12, 13))
    assert check(register(lost, *back)).verdict is Verdict.VIOLATION


def test_an_unanswered_call_does_not_take_effect_before_it_is_invoked() -> None:
    read = op("r", "read", None, 1, 0, 4)
    assert check(register(read, op("w", "write", 1, None, 5, None))).verdict is Verdict.VIOLATION


def test_an_unanswered_call_takes_effect_once() -> None:
    lost = op("lost", "append", "x", None, 0, None)
    twice = op("r", "read", None, ("x", "x"), 10, 11)
    assert check(Partition("log", "it", AppendLog(), (lost, twice))).verdict is Verdict.VIOLATION


def test_each_twin_takes_effect_on_its_own() -> None:
    twins = tuple(op(f"t{i}", "append", "x", None, i, None) for i in range(3))
    for count, verdict in ((3, Verdict.OK), (4, Verdict.VIOLATION)):
        read = op("r", "read", None, ("x",) * count, 10, 11)
        assert check(Partition("log", "it", AppendLog(), (*twins, read))).verdict is verdict


def test_a_state_reached_by_spending_much_does_not_hide_the_way_that_spends_little() -> None:
    # Both lost writes of 1 lead to one state; the last read needs one of them to be left.
    lost = (op("l1", "write", 1, None, 0, None), op("l2", "write", 1, None, 1, None))
    answers = (1, 0, 1)
    zero = op("z", "write", 0, None, 4, 5)
    reads = [op(f"r{i}", "read", None, v, 2 + 4 * i, 3 + 4 * i) for i, v in enumerate(answers)]
    assert check(register(*lost, zero, *reads)).verdict is Verdict.OK


def test_every_branch_is_followed() -> None:
    draws = tuple(op(f"d{i}", "draw", None, True, i, i) for i in range(2))
    for left in range(3):
        has = [op(f"h{v}", "has", v, v == left, 5, 6) for v in range(3)]
        assert check(Partition("bag", "it", Bag(), (*draws, *has))).verdict is Verdict.OK


def test_a_snapshot_is_a_read_after_all_that_was_answered() -> None:
    last = op(SNAPSHOT, SNAPSHOT, None, 2, 20, 21)
    writes = (op("a", "write", 1, None, 0, 5), op("b", "write", 2, None, 1, 6))
    found = check(register(*writes, last))
    assert (found.verdict, found.order) == (Verdict.OK, ("a", "b", SNAPSHOT))


def test_a_violation_says_where_the_longest_order_stops() -> None:
    found = check(WRONG_READ)
    assert (found.verdict, found.order, found.state) == (Verdict.VIOLATION, ("w",), 1)
    assert found.stuck == (("r", Reject("value", 1, 2)),)


@pytest.mark.parametrize("budget", [1, 10, 5_000])
def test_a_hopeless_history_ends_within_its_budget(budget: int) -> None:
    found = check(hopeless(), budget)
    assert found.verdict is Verdict.UNKNOWN
    assert found.steps <= budget + 2 * len(hopeless().ops)


def test_a_violation_is_told_before_a_hopeless_partition_is_given_up() -> None:
    number, answer = next(decide([hopeless(), WRONG_READ], budget_each=10**9))
    assert (number, answer.verdict) == (1, Verdict.VIOLATION)


def test_every_partition_is_decided_in_the_order_given() -> None:
    answers = check_all([hopeless(), WRONG_READ, register()], budget_each=20_000, slice=100)
    assert [a.verdict for a in answers] == [Verdict.UNKNOWN, Verdict.VIOLATION, Verdict.OK]


def test_slices_change_nothing() -> None:
    partitions = [hopeless(5), WRONG_READ]
    assert check_all(partitions, slice=7) == [check(p) for p in partitions]


def test_overlapping_reads_cost_one_step_each() -> None:
    reads = (op(f"r{i}", "read", None, 0, i, 10_000) for i in range(1_000))
    assert check(register(*reads)).steps == 1_000


def test_long_histories_cost_time_in_proportion() -> None:
    def steps(calls: int) -> int:
        writes = (op(f"w{i}", "write", i % 3, None, 10 * i, 10 * i + 25) for i in range(calls))
        return check(register(*writes)).steps

    assert steps(4_000) <= 2 * steps(2_000) + 10


def test_an_interval_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(ValueError, match="operation r returns before it is invoked"):
        check(register(op("r", "read", None, 0, 5, 4)))
