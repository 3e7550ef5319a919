"""A register: read, write, compare-and-set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import SHOWN, Epoch, Pair, apart, overlap

__all__ = ["Register"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Register:
    """One value.

    ``read``: output is the value. ``write``: input is the new value. ``cas``: input is
    (expected, new), output whether it was set. A snapshot reads. Values are never None: an
    output of None is an answer that nobody knows, and fits any value.
    """

    first: Hashable = 0
    name: str = "register"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> Hashable:
        return self.first

    def step(self, state: Hashable, op: Op) -> Sequence[Hashable] | Reject:
        """The value afterwards, or the field ``value`` (of a read) or ``set`` (of a cas)."""
        if op.name in ("read", SNAPSHOT):
            if op.output is None or op.output == state:
                return (state,)
            return Reject("value", state, op.output)
        if op.name == "write":
            return (op.input,)
        if op.name == "cas":
            pair: Any = op.input
            expected, new = pair
            fits = state == expected
            if op.output is not None and op.output != fits:
                return Reject("set", fits, op.output)
            return (new if fits else state,)
        raise ValueError(f"a register has read, write and cas, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in ("read", SNAPSHOT) or (op.name == "cas" and op.output is False)

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """The register holds a value that has one writer, and is not the first one, once and
        without interruption: an epoch, with all that saw the value in it. A cas that was set
        ends the epoch of what it expected."""
        writers: dict[Hashable, list[int]] = defaultdict(list)
        readers: dict[Hashable, list[int]] = defaultdict(list)
        setters: dict[Hashable, list[int]] = defaultdict(list)
        for i, op in enumerate(ops):
            pair: Any = op.input
            if op.name == "write":
                writers[op.input].append(i)
            elif op.name == "cas":
                if op.output is not False:
                    writers[pair[1]].append(i)
                if op.output is True:
                    setters[pair[0]].append(i)
            elif op.output is not None:
                readers[op.output].append(i)
        epochs = [Epoch(None, readers[self.first])] if self.first not in writers else []
        for value, by in writers.items():
            if len(by) == 1 and value != self.first and (value in readers or value in setters):
                epochs.append(Epoch(by[0], (by[0], *readers[value])))
        yield from apart(ops, epochs)
        for epoch in epochs:
            held = self.first if epoch.opens is None else _written(ops[epoch.opens])
            for then in setters[held]:
                for i in epoch.members:
                    if i != then and overlap(ops[i], ops[then]):
                        yield i, then, SHOWN

    def excusing(self, quirks: frozenset[str]) -> Register:
        return self

    def describe(self, state: Hashable) -> str:
        return f"value {state!r}"


def _written(op: Op) -> Hashable:
    pair: Any = op.input
    return pair[1] if op.name == "cas" else op.input
