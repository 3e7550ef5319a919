"""Why no order explains a partition, in plain English.

A violation stops at one answer (or at the read-back): the *stuck* operation. What it could not
follow is nearly always the last cluster of operations that overlapped before it. Where this
window is small, each order of it is played, and what that would have left or answered is set
against what was seen. Where it is large, it is said how far an order gets and what stops it. And
where operations have to come before each other in a circle (`cycle`), the circle is told.

Calls are named as pictures of the run name them, by call and tool: ``1.0 (goals_list)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, permutations
from typing import Any

from mcpconc.linearize.cycle import REAL_TIME, Edge, cycle
from mcpconc.linearize.product import TOLD, Product, because
from mcpconc.linearize.search import Linearization, check
from mcpconc.linearize.window import (
    BUDGET,
    WIDEST,
    any_overlap,
    overlap,
    placings,
    precedes,
    until,
    windows,
)
from mcpconc.linearize.words import both, difference, either, refusal, show, valued
from mcpconc.model.base import SNAPSHOT, Model, Op, Partition, Reject, Ruled
from mcpconc.verdict import Verdict

__all__ = ["Explanation", "explain", "show"]

LARGEST = 6
"""Windows of up to so many calls are explained order by order, …"""
MOST = 24
"""… where there are no more orders than those of four concurrent calls."""
SHORT = 6
"""Circles of up to so many calls are told, …"""
FEW = 3
"""… unless the orders are told in no more lines than these: that is easier to follow."""
READS = 24
"""Of so many reads it is asked whether the violation is there without them, …"""
STEPS = 20_000
"""… within so many steps each."""
NAMED = 8
"""So many calls of a longer order are named."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`call` cannot be placed: the state after `prefix` makes its `field` `expected`, and
    `seen` is something else. `pair` overlapped and most likely raced; `calls` are all calls
    that the lines speak of. `cycle` holds calls each of which has to come before the next one,
    and the last before the first, with the reason; it is empty where none is known.
    """

    call: str
    field: str
    expected: Any
    seen: Any
    prefix: tuple[str, ...]
    pair: tuple[str, str] | None
    calls: tuple[str, ...]
    lines: tuple[str, ...]
    cycle: tuple[tuple[str, str, str], ...] = ()
    rivals: tuple[str, ...] = ()
    """Calls that were all accepted, where each order has one of them refused."""


def explain(partition: Partition, found: Linearization) -> Explanation:
    """Explain a violation.

    :raises ValueError: if `found` is not stuck anywhere.
    """
    if not found.stuck:
        raise ValueError("nothing to explain: the search is not stuck")
    call, why = found.stuck[0]
    model = partition.model
    slim, order = _without_reads(partition, found)
    ops = sorted(slim.ops, key=lambda op: op.invoked)
    stuck = next(op for op in reversed(ops) if op.call == call)
    alone = not any_overlap(ops)
    lines: list[str] = []
    rivals: tuple[str, ...] = ()
    window: list[Op] = []
    for starts, larger in windows(ops, stuck, model):
        window = window or larger
        lines, rivals = ([], ()) if alone else _orders(model, starts, larger)
        if lines:
            window = larger
        if lines or alone or len(larger) > LARGEST + 1:
            break
    spoken = window
    told = len(lines)
    if alone:
        lines = _one_order(slim, order, stuck, why)
    elif not lines:
        lines = _longest(slim, order, stuck, why)
        last = stuck.returned if stuck.returned is not None else stuck.invoked
        lines += _outcomes(model, until(ops, last), stuck)
    circle = cycle(model, partition.ops)
    edges = [_edge(partition, edge) for edge in circle]
    if not alone and 0 < len(edges) <= SHORT and not 0 < told <= FEW + 2:
        round_ = [partition.ops[edge.first] for edge in circle]
        lines += _circle(round_, edges)
        if not told:
            spoken = [*round_, *([stuck] if stuck not in round_ else [])]
    if isinstance(model, Ruled) and (rule := model.rule(why.field)):
        lines.append(rule)
    pair = _pair(window, stuck, model)
    if spoken is not window:
        pair = _pair(spoken, stuck, model) or pair
    if pair is not None and set(pair) <= set(spoken):
        lines.append(
            f"{pair[0].call} and {pair[1].call} overlapped: each was invoked before the other was "
            "answered."
        )
    return Explanation(
        call=call,
        field=why.field,
        expected=why.expected,
        seen=why.seen,
        prefix=found.order,
        pair=(pair[0].call, pair[1].call) if pair is not None else None,
        calls=tuple(dict.fromkeys(op.call for op in (*spoken, *(pair or ())))),
        lines=tuple(lines),
        cycle=tuple(edges),
        rivals=rivals,
    )


def _without_reads(partition: Partition, found: Linearization) -> tuple[Partition, Sequence[str]]:
    """The partition without reads that have nothing to do with it, and its longest order.

    What is pure changes no state, so an order of all calls is one of these; if these have none,
    neither have all.
    """
    call, why = found.stuck[0]
    reads = [
        op
        for op in partition.ops
        if op.call not in (call, SNAPSHOT) and op.answered and partition.model.pure(op)
    ]
    if not reads or len(partition.ops) > 4 * READS:
        return partition, found.order

    def stays(gone: Sequence[Op]) -> Linearization | None:
        fewer = replace(partition, ops=tuple(op for op in partition.ops if op not in gone))
        answer = check(fewer, STEPS)
        same = answer.verdict is Verdict.VIOLATION and bool(answer.stuck)
        if not same or answer.stuck[0][0] != call or answer.stuck[0][1] != why:
            return None
        return answer

    gone: list[Op] = []
    order: Sequence[str] = found.order
    for some in (reads, *([read] for read in reads[:READS])):
        answer = stays([*gone, *some])
        if answer is not None:
            gone, order = [*gone, *some], answer.order
        if len(gone) == len(reads):
            break
    return replace(partition, ops=tuple(op for op in partition.ops if op not in gone)), order


def _one_order(partition: Partition, order: Sequence[str], stuck: Op, why: Reject) -> list[str]:
    """The lines for calls that came one after another."""
    shown = _placed(partition, order)
    head = "Of the calls that matter here no two overlapped, so there is one order only"
    which = "It" if stuck.call == SNAPSHOT else "After these" if shown else "There"
    return [
        f"{head}: {both(shown)}." if shown else f"{head}.",
        f"  {which} {_stops(stuck, why, _name(stuck))}{_found(stuck, why)}.",
    ]


def _longest(partition: Partition, order: Sequence[str], stuck: Op, why: Reject) -> list[str]:
    """The lines for more orders than can be told: how far the longest gets, what stops it."""
    answered = {op.call for op in partition.ops if op.answered and op.call != SNAPSHOT}
    got = len(answered.intersection(order))
    shown = both(_placed(partition, order))
    what = "what is left" if stuck.call == SNAPSHOT else f"what {_name(stuck)} got"
    stops = f"{_stops(stuck, why, _name(stuck))}{_found(stuck, why)}."
    head = f"No order of these {len(answered)} calls explains {what}:"
    if not got:
        return [head, f"  whatever comes first, {stops}"]
    if got == len(answered):
        return [
            head,
            f"  the answers fit together, for instance in the order {shown}; that {stops}",
        ]
    return [
        head,
        f"  the longest order found explains {got} of them, {shown}; after these {stops}",
    ]


def _placed(partition: Partition, order: Sequence[str]) -> list[str]:
    """The calls of an order by name, the last few of them if they are many."""
    names = {op.call: _name(op) for op in partition.ops if op.call != SNAPSHOT}
    placed = [names[call] for call in dict.fromkeys(order) if call in names]
    return [f"… {placed[-NAMED]}", *placed[1 - NAMED :]] if len(placed) > NAMED else placed


def _found(op: Op, why: Reject) -> str:
    """What was found, behind what should be left."""
    if op.call != SNAPSHOT:
        return ""
    return f", but {valued(why.field, why.seen)} was found{difference(why.expected, why.seen)}"


def _outcomes(model: Model, ops: Sequence[Op], stuck: Op) -> list[str]:
    """What `stuck` may be told in any order of `ops`, however many there are: one line, or none
    where that takes too long, or there is nothing to add, or too much."""
    others = [op for op in ops if op.call != stuck.call]
    if len(others) > WIDEST:
        return []
    must = sum(1 << i for i, op in enumerate(others) if precedes(op, stuck))
    due: dict[str, str] = {}
    left = BUDGET
    for placed, state in placings(model, [model.initial()], others, BUDGET):
        left -= 1
        if placed & must == must:
            result = model.step(state, stuck)
            if not isinstance(result, Reject) or len(due) > NAMED:
                return []
            due[valued(result.field, result.expected)] = result.field
    if not left or len(due) < 2 or len(set(due.values())) > 1:
        return []
    what = "may leave" if stuck.call == SNAPSHOT else f"may give {stuck.call}"
    return [f"  Such orders {what} {', or '.join(sorted(due))}, and nothing else."]


def _orders(
    model: Model, starts: Collection[Any], window: Sequence[Op]
) -> tuple[list[str], tuple[str, ...]]:
    """The head line, and what each order of the window would give; nothing where the window
    is too large for that, holds one call only, or does not tell why: some order explains it,
    or what it gives depends on what came before. And the rivals, see `Explanation`."""
    nothing: tuple[list[str], tuple[str, ...]] = ([], ())
    calls = [op for op in window if op.call != SNAPSHOT]
    if not 2 <= len(calls) <= LARGEST or not starts:
        return nothing
    # Whatever stands in one place in every order need not be said.
    moving = [op for op in calls if any(overlap(op, other) for other in calls if other is not op)]
    if not moving:
        return nothing
    stopped: list[tuple[tuple[Op, ...], Op, Reject, str]] = []
    times: dict[str, dict[str, tuple[Op, Reject]]] = {}
    for order in islice(_permitted(window), MOST + 1):
        endings = [_play(model, {state}, order) for state in starts]
        if endings[0] is None or any(end != endings[0] for end in endings):
            return nothing
        op, why, met = endings[0]
        text = _stops(op, why, met=met)
        stopped.append((order[: order.index(op) + 1], op, why, text))
        times.setdefault(text, {})[met] = (op, why)
    if len(stopped) > MOST:
        return nothing
    relevant = _relevant(moving, stopped)
    said: dict[str, list[str]] = {}
    stops: dict[str, tuple[Op, Reject]] = {}
    for order, op, why, text in stopped:
        words = _said([o for o in order if o in relevant], op)
        here = said.setdefault(text, [])
        if words not in here:
            here.append(words)
        stops[op.call] = (op, why)
    left = SNAPSHOT in stops
    what = "what is left" if left else "what they got"
    if len(stops) == 1 and not left:
        what = f"what {next(iter(stops))} got"
    lines = [f"No order of {both([_name(op) for op in calls])} explains {what}:"]
    for text, several in said.items():
        leaves = text.startswith("leaves")
        which = either(several)
        if len(said) == 1 and len(several) > 1:
            which = "every order" if leaves else "in every order"
        if len(times[text]) == 1:
            ((met, (op, why)),) = times[text].items()
            text = _stops(op, why, met=met, always=not model.pure(op))
        lines.append(f"  {which}{'' if leaves else ':'} {text};")
    if not left:
        lines[-1] = lines[-1].removesuffix(";") + "."
        blamed = {why.field for _, _, why, _ in stopped}
        if len(blamed) == 1 < len(stops) and all(map(_slipped, (w for _, w in stops.values()))):
            return lines, tuple(op.call for op in calls if op.call in stops)
        return lines, ()
    _, why = stops[SNAPSHOT]
    every = "both calls were" if len(calls) == 2 else "all of these calls were"
    acknowledged = f", and {every} answered" if all(op.answered for op in calls) else ""
    by = difference(why.expected, why.seen)
    return [*lines, f"  found {valued(why.field, why.seen)}{by}{acknowledged}."], ()


def _permitted(window: Sequence[Op]) -> Iterator[tuple[Op, ...]]:
    """All orders that respect real time, of the answered and each subset of the others."""
    answered = [op for op in window if op.answered]
    late = [op for op in window if not op.answered]
    for size in range(len(late), -1, -1):
        for chosen in combinations(late, size):
            for order in permutations([*answered, *chosen]):
                if not any(
                    b.returned is not None and b.returned < a.invoked
                    for a, b in combinations(order, 2)
                ):
                    yield order


def _relevant(
    moving: Sequence[Op], stopped: Sequence[tuple[tuple[Op, ...], Op, Reject, str]]
) -> list[Op]:
    """Without the operations whose place makes no difference to where orders stop and why."""
    relevant = list(moving)
    for out in moving:
        fewer = [op for op in relevant if op is not out]
        table: dict[tuple[str, ...], str] = {}
        for order, op, _, text in stopped:
            words = tuple(o.call for o in order if o in fewer)
            before = [o for o in order if o in relevant]
            if op is out or (len(words) < 2 <= len(before)):
                break
            if table.setdefault(words, text) != text:
                break
        else:
            # One order that begins like another has to end like it.
            if not any(
                a == b[: len(a)] and table[a] != table[b] for a, b in permutations(table, 2)
            ):
                relevant = fewer
    return relevant


def _play(model: Model, states: set[Any], order: Sequence[Op]) -> tuple[Op, Reject, str] | None:
    """Where an order stops, why, and the state there; None where it goes through."""
    for op in order:
        one = next(iter(states)) if len(states) == 1 else None
        met = "" if one is None else model.describe(one)
        if one is not None and isinstance(model, Product):
            met = model.met(one, op)
        results = [model.step(state, op) for state in states]
        states = {new for r in results if not isinstance(r, Reject) for new in r}
        if not states:
            refused = [r for r in results if isinstance(r, Reject)]
            return op, min(refused, key=lambda r: (r.field, repr(r.expected))), met
    return None


def _circle(calls: Sequence[Op], edges: Sequence[tuple[str, str, str]]) -> list[str]:
    names = both(list(dict.fromkeys(_name(op) for op in calls)))
    said = [f"  {a} comes before {b}: {why}" for a, b, why in edges]
    return [
        f"No order can hold {names}, because these go round in a circle:",
        *(f"{line};" for line in said[:-1]),
        f"{said[-1]}.",
    ]


def _edge(partition: Partition, edge: Edge) -> tuple[str, str, str]:
    """Calls and reason, in which "the first" and "the second" are said by name."""
    ops, model = partition.ops, partition.model
    first, then = ops[edge.first], ops[edge.then]
    if edge.why == REAL_TIME:
        return first.call, then.call, f"it was answered before {then.call} was invoked"
    if edge.why == TOLD and isinstance(model, Product):
        found = because(model, ops, edge.first, edge.then)
        if found is not None:
            return first.call, then.call, f"if {then.call} came first, {_stops(*found)}"
    why = edge.why.replace("the first", first.call).replace("the second", then.call)
    return first.call, then.call, why


def _stops(op: Op, why: Reject, name: str = "", met: str = "", always: bool = False) -> str:
    """What the state before `op`, called `met`, makes of it, against what was seen. Why a call
    must be refused is always to be said, why it must get a number only where `always`: there
    the same may be due for several reasons."""
    name = name or op.call
    if op.call == SNAPSHOT:
        return f"leaves {valued(why.field, why.expected)}"
    if _slipped(why):
        reason = f"{refusal(why.field)}; by then: {met}" if met else refusal(why.field)
        return f"{name} must be refused ({reason}), but it was accepted"
    if (why.expected, why.seen) == ("accepted", "refused"):
        return f"{name} must be accepted, but it was refused ({refusal(why.field)})"
    if str(why.expected).startswith("refused as "):
        return f"{name} must be {why.expected}, but it was {why.seen}"
    seen = "none" if why.seen is None else show(why.seen)
    seen += difference(why.expected, why.seen)
    due = valued(why.field, why.expected)
    if always and met and isinstance(why.expected, int) and met != show(why.expected):
        due += f" (by then: {met})"
    return f"{name} must get {due}, but it got {seen}"


def _slipped(why: Reject) -> bool:
    """Whether a call was accepted that must be refused."""
    return (why.expected, why.seen) == ("refused", "accepted")


def _pair(window: Sequence[Op], stuck: Op, model: Model) -> tuple[Op, Op] | None:
    """The overlapping pair that most likely raced: one that changes something, with the stuck
    operation in it, in which both change something, of different agents, the latest."""
    acting = [op for op in window if op.call != SNAPSHOT][-WIDEST:]
    if stuck.call != SNAPSHOT and stuck not in acting:
        acting.insert(0, stuck)
    pairs = [(a, b) for a, b in combinations(acting, 2) if a.call != b.call and overlap(a, b)]
    return min(
        pairs,
        key=lambda pair: (
            all(model.pure(op) for op in pair),
            stuck.call not in (pair[0].call, pair[1].call),
            sum(model.pure(op) for op in pair),
            pair[0].agent == pair[1].agent,
            -pair[0].invoked,
            -pair[1].invoked,
        ),
        default=None,
    )


def _name(op: Op) -> str:
    return f"{op.call} ({op.name})"


def _said(order: Sequence[Op], stop: Op) -> str:
    """An order in words, up to where it stops. Tools are named in the head line already."""
    short = [op.call for op in order]
    if not short:
        return "each"
    if len(short) == 1:
        return f"{short[0]} {'alone' if stop.call == SNAPSHOT else 'first'}"
    return " before ".join(short) if len(short) == 2 else ", then ".join(short)
