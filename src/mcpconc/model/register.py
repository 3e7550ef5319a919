"""A register: read, write, compare-and-set."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.model.base import SNAPSHOT, Op, Reject

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

    def excusing(self, quirks: frozenset[str]) -> Register:
        return self

    def describe(self, state: Hashable) -> str:
        return f"value {state!r}"
