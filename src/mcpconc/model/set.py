"""A set: add, remove, contains, members."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import UNSEEN, Pair

__all__ = ["Set"]

NONE: frozenset[str] = frozenset()

State = frozenset[Hashable]

WHOLE = ("members", SNAPSHOT)


@dataclass(frozen=True, slots=True)
class Set:
    """A set of hashable things, empty at first.

    ``add`` and ``remove``: input is the element, output whether that changed the set.
    ``contains``: input is the element, output whether it is there. ``members``: output is the
    frozenset of all. A snapshot reads the members. An output of None fits anything.

    Without reads of all members every element is an object of its own: `keyed.by_key`.
    """

    name: str = "set"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        """The set afterwards, or the field ``members``, ``contains``, ``added``, ``removed``."""
        if op.name in WHOLE:
            if op.output is None or op.output == state:
                return (state,)
            return Reject("members", state, op.output)
        there = op.input in state
        if op.name == "contains":
            return (state,) if op.output in (None, there) else Reject(op.name, there, op.output)
        if op.name == "add":
            if op.output not in (None, not there):
                return Reject("added", not there, op.output)
            return (state | {op.input},)
        if op.name == "remove":
            if op.output not in (None, there):
                return Reject("removed", there, op.output)
            return (state - {op.input},)
        raise ValueError(f"a set has add, remove, contains and members, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in (*WHOLE, "contains") or op.output is False

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """An element that nobody removes is added after every read that does not show it."""
        adds: dict[Hashable, list[int]] = defaultdict(list)
        removed: set[Hashable] = set()
        reads: list[tuple[int, int, State]] = []
        for i, op in enumerate(ops):
            if op.name == "add":
                adds[op.input].append(i)
            elif op.name == "remove":
                removed.add(op.input)
            elif op.name in WHOLE and isinstance(op.output, frozenset):
                reads.append((-op.invoked, i, op.output))
        kept = [element for element in adds if element not in removed]
        for _, read, shown in sorted(reads, key=lambda each: each[:2]):
            for element in kept:
                for then in () if element in shown else adds[element]:
                    yield read, then, UNSEEN
            kept = [element for element in kept if element in shown]

    def excusing(self, quirks: frozenset[str]) -> Set:
        return self

    def describe(self, state: State) -> str:
        return "{" + ", ".join(sorted(map(str, state))) + "}"
