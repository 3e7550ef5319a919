"""Many independent objects of one kind, under keys: apart (`by_key`) or as one (`together`).

Apart is what to do wherever each operation touches one key (P-compositionality, Horn & Kroening,
FORTE 2015); together is for comparison, and for models that `products` does not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.model.base import Model, Op, Ordering, Partition, Reject

__all__ = ["Keyed", "by_key", "together"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Keyed:
    """An object of the kind `part` under each of `keys`. An operation's input is (key, input)."""

    part: Model
    keys: tuple[Hashable, ...]
    name: str = "keyed"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> tuple[Hashable, ...]:
        return (self.part.initial(),) * len(self.keys)

    def step(self, state: tuple[Hashable, ...], op: Op) -> Sequence[tuple[Hashable, ...]] | Reject:
        place = self.keys.index(_key(op))
        result = self.part.step(state[place], _bare(op))
        if isinstance(result, Reject):
            return result
        return [(*state[:place], new, *state[place + 1 :]) for new in result]

    def pure(self, op: Op) -> bool:
        return self.part.pure(_bare(op))

    def order(self, ops: Sequence[Op]) -> Iterator[tuple[int, int, str]]:
        """What each key tells alone: an order of all is one of each."""
        if not isinstance(self.part, Ordering):
            return
        of_key: dict[Hashable, list[int]] = defaultdict(list)
        for i, op in enumerate(ops):
            of_key[_key(op)].append(i)
        for numbers in of_key.values():
            for first, then, why in self.part.order([_bare(ops[i]) for i in numbers]):
                yield numbers[first], numbers[then], why

    def excusing(self, quirks: frozenset[str]) -> Keyed:
        return replace(self, part=self.part.excusing(quirks))

    def describe(self, state: tuple[Hashable, ...]) -> str:
        return "; ".join(
            f"{key}: {self.part.describe(s)}" for key, s in zip(self.keys, state, strict=True)
        )


def by_key(kind: str, part: Model, ops: Iterable[Op]) -> list[Partition]:
    """One partition per key, of operations whose input is (key, input)."""
    of_key: dict[Hashable, list[Op]] = defaultdict(list)
    for op in ops:
        of_key[_key(op)].append(_bare(op))
    return [Partition(kind, str(key), part, tuple(of_key[key])) for key in of_key]


def together(kind: str, part: Model, ops: Iterable[Op]) -> Partition:
    """All keys as one object."""
    listed = tuple(ops)
    keys = tuple(dict.fromkeys(map(_key, listed)))
    return Partition(kind, ", ".join(map(str, keys)), Keyed(part, keys), listed)


def _key(op: Op) -> Hashable:
    pair: Any = op.input
    key: Hashable = pair[0]
    return key


def _bare(op: Op) -> Op:
    """The operation as its own object sees it."""
    pair: Any = op.input
    return replace(op, input=pair[1])
