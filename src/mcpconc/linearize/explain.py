"""Why no order explains a partition, in plain English.

A violation stops at one answer (or at the read-back): the *stuck* operation. What it could not
follow is nearly always the last cluster of operations that overlapped before it. Where this
window is small, each order of it is played, and what that would have left or answered is set
against what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, permutations
from typing import Any

from mcpconc.linearize.search import Linearization
from mcpconc.model.base import SNAPSHOT, Model, Op, Partition, Reject

__all__ = ["Explanation", "explain", "show"]

LARGEST = 6
"""Windows of up to so many calls are explained order by order, …"""
MOST = 24
"""… where there are no more orders than those of four concurrent calls."""
WIDTH = 160


@dataclass(frozen=True, slots=True)
class Explanation:
    """`call` cannot be placed: the state after `prefix` makes its `field` `expected`, and
    `seen` is something else. `pair` overlapped and most likely raced; `calls` are all calls
    that the lines speak of. `lines` hold no ids, only agents, tools and values.
    """

    call: str
    field: str
    expected: Any
    seen: Any
    prefix: tuple[str, ...]
    pair: tuple[str, str] | None
    calls: tuple[str, ...]
    lines: tuple[str, ...]


def explain(partition: Partition, found: Linearization) -> Explanation:
    """Explain a violation.

    :raises ValueError: if `found` is not stuck anywhere.
    """
    if not found.stuck:
        raise ValueError("nothing to explain: the search is not stuck")
    call, why = found.stuck[0]
    model = partition.model
    ops = sorted(partition.ops, key=lambda op: op.invoked)
    stuck = next(op for op in reversed(ops) if op.call == call)
    before, window = _window(ops, stuck, found.order, model)
    named = _names([op for op in window if op.call != SNAPSHOT])
    lines = _orders(model, before, window, named) or _longest(stuck, why, named)
    pair = _pair(window, stuck, model)
    if pair is not None:
        a, b = (named(op) for op in pair)
        lines.append(f"{a} and {b} overlapped: each was invoked before the other was answered.")
    elif not any(_overlap(a, b) for a, b in combinations(ops, 2)):
        lines.append("No two of these calls overlapped: they go wrong one at a time.")
    return Explanation(
        call=call,
        field=why.field,
        expected=why.expected,
        seen=why.seen,
        prefix=found.order,
        pair=(pair[0].call, pair[1].call) if pair is not None else None,
        calls=tuple(dict.fromkeys(op.call for op in window)),
        lines=tuple(lines),
    )


def _window(
    ops: Sequence[Op], stuck: Op, order: Sequence[str], model: Model
) -> tuple[list[Op], list[Op]]:
    """The operations placed before the window, and those in it: from the last cluster of
    overlapping operations that changes something to whatever may precede `stuck`.

    A cluster is what lies between two moments at which no answered operation is open.
    """
    last = stuck.returned if stuck.returned is not None else stuck.invoked
    clusters: list[list[Op]] = []
    end = stuck.invoked
    for op in ops:
        if op.returned is None or op.invoked > last:
            continue
        if not clusters or op.invoked > end:
            clusters.append([])
            end = op.returned
        clusters[-1].append(op)
        end = max(end, op.returned)
    home = next(i for i, cluster in enumerate(clusters) if stuck in cluster)
    late = [op for op in ops if op.returned is None and op.invoked <= last and not model.pure(op)]

    def races(cluster: Sequence[Op]) -> bool:
        """Whether something overlaps here and something is changed."""
        changing = [op for op in cluster if op.call != SNAPSHOT and not model.pure(op)]
        return bool(changing) and (len(cluster) > 1 or any(_overlap(op, cluster[0]) for op in late))

    racing = (i for i in range(home, -1, -1) if races(clusters[i]))
    window = [op for cluster in clusters[next(racing, home) :] for op in cluster]
    start = window[0].invoked
    waiting: dict[str, list[Op]] = {}
    for op in ops:
        waiting.setdefault(op.call, []).append(op)
    placed = [queue.pop(0) for call in order if (queue := waiting.get(call))]
    first = next((i for i, op in enumerate(placed) if op in window), len(placed))
    before = [op for op in placed[:first] if op.returned is None or op.returned < start]
    window += [op for op in late if op not in before]
    return before, sorted(window, key=lambda op: op.invoked)


def _longest(stuck: Op, why: Reject, named: Callable[[Op], str]) -> list[str]:
    """The lines for a window too large, or too small, to be explained order by order."""
    left = stuck.call == SNAPSHOT
    seen = f"{show(why.seen)}{_difference(why.expected, why.seen)}"
    return [
        f"No order of the calls explains what {'is left' if left else f'{named(stuck)} got'}:",
        f"  as far as they can be explained, {why.field} is {show(why.expected)}, "
        + (f"but {seen} was found." if left else f"but {named(stuck)} got {seen}."),
    ]


def _orders(
    model: Model, before: Sequence[Op], window: Sequence[Op], named: Callable[[Op], str]
) -> list[str]:
    """The head line, and what each order of the window would give; nothing where the window
    is too large for that, holds one call only, or some order explains it as far as it goes."""
    calls = [op for op in window if op.call != SNAPSHOT]
    if not 2 <= len(calls) <= LARGEST:
        return []
    orders = list(islice(_permitted(window), MOST + 1))
    states = _replay(model, {model.initial()}, before)
    endings = [_play(model, states, order) for order in orders]
    if len(orders) > MOST or None in endings:
        return []
    # Whatever stands in one place in every order need not be said.
    moving = [op for op in calls if any(_overlap(op, other) for other in calls if other is not op)]
    if not moving:
        return []
    said: dict[str, list[str]] = {}
    stops: dict[str, Reject] = {}
    for order, (op, why) in zip(orders, (end for end in endings if end), strict=True):
        text = _stops(op, why, named)
        told = [o for o in order[: order.index(op) + 1] if o in moving]
        words = _said(told, op, named)
        if words not in said.setdefault(text, []):
            said[text].append(words)
        stops[named(op) if op.call != SNAPSHOT else ""] = why
    left = "" in stops
    what = "what is left" if left else "what they got"
    if len(stops) == 1 and not left:
        what = f"what {next(iter(stops))} got"
    lines = [f"No order of {_and([named(op) for op in calls])} explains {what}:"]
    lines += [f"  {_or(orders_said)} {text};" for text, orders_said in said.items()]
    if not left:
        lines[-1] = lines[-1].removesuffix(";") + "."
        return lines
    why = stops[""]
    every = "both calls were" if len(calls) == 2 else "all of these calls were"
    acknowledged = f", and {every} answered" if all(op.answered for op in calls) else ""
    difference = _difference(why.expected, why.seen)
    return [*lines, f"  found {why.field} {show(why.seen)}{difference}{acknowledged}."]


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


def _replay(model: Model, states: set[Any], order: Sequence[Op]) -> set[Any]:
    for op in order:
        results = [model.step(state, op) for state in states]
        after = {new for r in results if not isinstance(r, Reject) for new in r}
        states = after or states
    return states


def _play(model: Model, states: set[Any], order: Sequence[Op]) -> tuple[Op, Reject] | None:
    """Where an order stops and why; None where it goes through."""
    for op in order:
        results = [model.step(state, op) for state in states]
        states = {new for r in results if not isinstance(r, Reject) for new in r}
        if not states:
            refused = [r for r in results if isinstance(r, Reject)]
            return op, min(refused, key=lambda r: (r.field, repr(r.expected)))
    return None


def _stops(op: Op, why: Reject, named: Callable[[Op], str]) -> str:
    if op.call == SNAPSHOT:
        return f"leaves {why.field} {show(why.expected)}"
    return f"makes {named(op)} get {why.field} {show(why.expected)}, but it got {show(why.seen)}"


def _overlap(a: Op, b: Op) -> bool:
    first, second = (a, b) if a.invoked <= b.invoked else (b, a)
    return first.returned is None or first.returned >= second.invoked


def _pair(window: Sequence[Op], stuck: Op, model: Model) -> tuple[Op, Op] | None:
    """The overlapping pair that most likely raced: one that changes something, with the stuck
    operation in it, in which both change something, of different agents, the latest."""
    acting = [op for op in window if op.call != SNAPSHOT]
    pairs = [(a, b) for a, b in combinations(acting, 2) if a.call != b.call and _overlap(a, b)]
    return min(
        pairs,
        key=lambda pair: (
            all(model.pure(op) for op in pair),
            stuck not in pair,
            sum(model.pure(op) for op in pair),
            pair[0].agent == pair[1].agent,
            -pair[0].invoked,
            -pair[1].invoked,
        ),
        default=None,
    )


def _names(ops: Sequence[Op]) -> Callable[[Op], str]:
    """How lines call an operation: ``A (tool)``, with a number where agent A has several."""
    of_agent: dict[int, list[str]] = {}
    for op in sorted(ops, key=lambda op: op.invoked):
        calls = of_agent.setdefault(op.agent, [])
        if op.call not in calls:
            calls.append(op.call)

    def name(op: Op) -> str:
        agent = chr(ord("A") + op.agent) if 0 <= op.agent < 26 else f"agent {op.agent + 1}"
        calls = of_agent.get(op.agent, [])
        number = f"{calls.index(op.call) + 1}" if len(calls) > 1 else ""
        return f"{agent}{number} ({op.name})"

    return name


def _said(order: Sequence[Op], stop: Op, named: Callable[[Op], str]) -> str:
    """An order in words, up to where it stops. Tools are named in the head line already."""
    short = [named(op).partition(" (")[0] for op in order]
    if not short:
        return "each"
    if len(short) == 1:
        return f"{short[0]} {'alone' if stop.call == SNAPSHOT else 'first'}"
    return " before ".join(short) if len(short) == 2 else ", then ".join(short)


def _or(items: Sequence[str]) -> str:
    return " or ".join(f"({item})" if len(items) > 1 and ", " in item else item for item in items)


def _and(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else list(items))


def _difference(expected: Any, seen: Any) -> str:
    """What collections differ by, in brackets; nothing for other values."""
    if not all(isinstance(value, tuple | list | set | frozenset) for value in (expected, seen)):
        return ""
    missing = [item for item in expected if item not in seen]
    surplus = [item for item in seen if item not in expected]
    said = [f"{show(item)} is missing" for item in missing[:3]]
    said += [f"{show(item)} is one too many" for item in surplus[:3]]
    return f" ({', '.join(said)})" if said else ""


def show(value: Any) -> str:
    """A value for people: lists in brackets, sets sorted, long ones cut."""
    if isinstance(value, frozenset | set):
        text = "{" + ", ".join(sorted(map(show, value))) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(show, value)) + "]"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{k}: {show(v)}" for k, v in value.items()) + "}"
    elif value is None:
        text = "nothing"
    else:
        text = str(value) if isinstance(value, str) and value else repr(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
