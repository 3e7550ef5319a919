"""Random small histories over every ready model, for tests of the search against ground truth.

All choices are made by a function `upto(n)` that gives a whole number from 0 to n, so that the
same generators serve Hypothesis (which shrinks) and `random` (which is fast).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.model.base import Model, Op, Partition, Reject
from mcpconc.model.counter import Counter
from mcpconc.model.keyed import Keyed
from mcpconc.model.kv import KeyValue
from mcpconc.model.log import AppendLog
from mcpconc.model.mutex import Mutex
from mcpconc.model.queue import Queue
from mcpconc.model.register import Register
from mcpconc.model.set import Set

Upto = Callable[[int], int]
Asked = tuple[str, Hashable]
"""Name and input of a call."""


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


@dataclass(frozen=True, slots=True)
class Kind:
    """A model and its calls: what call number `i` asks for. Kinds with `once` write each value
    once, which is when models can tell what comes before what."""

    model: Model
    calls: Callable[[Upto, int], Asked]


def pick(upto: Upto, *options: Any) -> Any:
    return options[upto(len(options) - 1)]


def register(upto: Upto, i: int) -> Asked:
    name = pick(upto, "read", "write", "cas")
    asked = {"read": None, "write": upto(2), "cas": (upto(2), upto(2))}
    return name, asked[name]


def register_once(upto: Upto, i: int) -> Asked:
    name = pick(upto, "read", "read", "write", "cas")
    return name, {"read": None, "write": i + 1, "cas": (upto(i), i + 1)}[name]


def kv(upto: Upto, i: int) -> Asked:
    name = pick(upto, "get", "put", "append", "append")
    return name, None if name == "get" else "ab"[upto(1)]


def kv_once(upto: Upto, i: int) -> Asked:
    name = pick(upto, "get", "get", "put", "append", "append", "append")
    return name, None if name == "get" else "abcdefghijklmnopqrstuvwxyz"[i]


def kv_mostly_once(upto: Upto, i: int) -> Asked:
    name, value = kv_once(upto, i)
    return name, value if value is None or upto(3) else "a"


def kv_ambiguous(upto: Upto, i: int) -> Asked:
    name = pick(upto, "get", "append", "append", "put")
    return name, None if name == "get" else pick(upto, "a", "aa", "b", "ab")


def log(upto: Upto, i: int) -> Asked:
    return pick(upto, ("read", None), ("append", upto(1)))


def log_once(upto: Upto, i: int) -> Asked:
    return pick(upto, ("read", None), ("append", i))


def set_(upto: Upto, i: int) -> Asked:
    name = pick(upto, "add", "add", "remove", "contains", "members")
    return name, None if name == "members" else upto(2)


def set_once(upto: Upto, i: int) -> Asked:
    return pick(upto, ("add", i), ("members", None), ("contains", upto(i)))


def counter(upto: Upto, i: int) -> Asked:
    return pick(upto, ("read", None), ("add", upto(3) - 1), ("add", 1 + upto(1)))


def counter_up(upto: Upto, i: int) -> Asked:
    return pick(upto, ("read", None), ("add", 1 + upto(1)))


def queue(upto: Upto, i: int) -> Asked:
    name = pick(upto, "enqueue", "enqueue", "dequeue", "contents")
    return name, upto(1) if name == "enqueue" else None


def queue_once(upto: Upto, i: int) -> Asked:
    return pick(upto, ("enqueue", i), ("dequeue", None))


def mutex(upto: Upto, i: int) -> Asked:
    return pick(upto, ("acquire", None), ("release", None))


def bag(upto: Upto, i: int) -> Asked:
    name = pick(upto, "draw", "put", "has")
    return name, None if name == "draw" else upto(2)


def keyed(upto: Upto, i: int) -> Asked:
    name, value = kv_once(upto, i)
    return name, ("xy"[upto(1)], value)


KINDS: Mapping[str, Kind] = {
    "register": Kind(Register(), register),
    "register-once": Kind(Register(), register_once),
    "kv": Kind(KeyValue(), kv),
    "kv-once": Kind(KeyValue(), kv_once),
    "kv-mostly-once": Kind(KeyValue(), kv_mostly_once),
    "kv-ambiguous": Kind(KeyValue(), kv_ambiguous),
    "log": Kind(AppendLog(), log),
    "log-once": Kind(AppendLog(), log_once),
    "set": Kind(Set(), set_),
    "set-once": Kind(Set(), set_once),
    "counter": Kind(Counter(), counter),
    "counter-up": Kind(Counter(), counter_up),
    "queue": Kind(Queue(), queue),
    "queue-once": Kind(Queue(), queue_once),
    "mutex": Kind(Mutex(), mutex),
    "bag": Kind(Bag(), bag),
    "keyed": Kind(Keyed(KeyValue(), ("x", "y")), keyed),
}

NOTHING_LIKE_IT = "nothing that any model answers"


def due(model: Model, state: Hashable, op: Op) -> Hashable:
    """What `op` answers in `state`, which a refusal of something else tells."""
    result = model.step(state, replace(op, output=NOTHING_LIKE_IT, returned=0))
    return result.expected if isinstance(result, Reject) else True


def history(upto: Upto, kind: str, size: int, *, races: bool = False, info: int = 4) -> Partition:
    """Calls that took effect one after another, each somewhere in its interval.

    One in `info` is never answered, and half of those never took effect. With `races`, some
    answer from a state that was left behind, so that the history may have no order.
    """
    model, calls = KINDS[kind].model, KINDS[kind].calls
    states = [model.initial()]
    ops = []
    spread = pick(upto, 0, 1, 2, 4, 6)
    for i in range(1 + upto(size - 1)):
        name, asked = calls(upto, i)
        op = Op(f"c{i}", upto(2), name, asked, None, max(0, 2 * i - upto(spread)), None)
        lost = upto(info) == 0
        stale = upto(2) if races else 0
        seen = states[max(0, len(states) - 1 - stale)]
        if not lost:
            op = replace(op, output=due(model, seen, op), returned=2 * i + upto(spread))
        ops.append(op)
        if lost and upto(1):
            continue
        meant = replace(op, output=None if lost else due(model, states[-1], op))
        after = model.step(states[-1], meant)
        assert not isinstance(after, Reject)
        states.append(after[upto(len(after) - 1)])
    ops.sort(key=lambda op: op.invoked)
    return Partition(kind, "it", model, tuple(ops))


def mistold(upto: Upto, partition: Partition) -> Partition:
    """The history with the answer of one call replaced by that of another of its name."""
    ops = list(partition.ops)
    swaps = [
        (i, other.output)
        for i, op in enumerate(ops)
        for other in ops
        if op.answered and other.answered
        if op.name == other.name and op.output != other.output
    ]
    if swaps:
        i, output = pick(upto, *swaps)
        ops[i] = replace(ops[i], output=output)
    return replace(partition, ops=tuple(ops))


def pair(upto: Upto, size: int) -> list[Partition]:
    """Two registers that some calls write or read at once, in pieces of possibly two moments."""
    model = Register()
    states: list[list[Hashable]] = [[0], [0]]
    ops: list[list[Op]] = [[], []]
    for i in range(1 + upto(size - 1)):
        name, asked = register_once(upto, i)
        invoked, returned = max(0, 2 * i - upto(6)), 2 * i + upto(6)
        lost = upto(5) == 0
        for object in pick(upto, (0,), (1,), (0, 1)):
            op = Op(f"c{i}", 0, name, asked, None, invoked, None)
            seen = states[object][max(0, len(states[object]) - 1 - (upto(3) == 0))]
            if not lost:
                op = replace(op, output=due(model, seen, op), returned=returned)
            ops[object].append(op)
            if lost and upto(1):
                continue
            after = model.step(states[object][-1], replace(op, output=None))
            assert not isinstance(after, Reject)
            states[object].append(after[0])
    return [Partition("register", key, model, tuple(o)) for key, o in zip("xy", ops, strict=True)]


__all__ = ["KINDS", "Bag", "Kind", "Upto", "due", "history", "mistold", "pair"]
