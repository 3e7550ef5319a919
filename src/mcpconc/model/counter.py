"""A counter: add, read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import SHOWN, UNSEEN, Pair

__all__ = ["Counter"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Counter:
    """A whole number, 0 at first.

    ``add``: input is what is added (it may be negative), output the number afterwards.
    ``read``: output is the number. A snapshot reads. An output of None fits any number.
    """

    name: str = "counter"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> int:
        return 0

    def step(self, state: int, op: Op) -> Sequence[int] | Reject:
        """The number afterwards, or the field ``count`` (of a read) or ``added`` (of an add)."""
        if op.name in ("read", SNAPSHOT):
            if op.output is None or op.output == state:
                return (state,)
            return Reject("count", state, op.output)
        if op.name == "add":
            assert isinstance(op.input, int)
            after = state + op.input
            if op.output is not None and op.output != after:
                return Reject("added", after, op.output)
            return (after,)
        raise ValueError(f"a counter has add and read, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in ("read", SNAPSHOT) or op.input == 0

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """A counter that only grows is its own clock."""
        if any(op.name == "add" and isinstance(op.input, int) and op.input <= 0 for op in ops):
            return
        clock = sorted(
            (op.output, op.name != "add", op.invoked, i)
            for i, op in enumerate(ops)
            if isinstance(op.output, int)
        )
        add = read = None
        for _, reads, _, i in clock:
            if reads:
                # Of reads of one number the last invoked comes last here; see `latest`.
                read = i
                continue
            if add is not None:
                yield add, i, SHOWN
            if read is not None:
                yield read, i, UNSEEN
            add, read = i, None

    def excusing(self, quirks: frozenset[str]) -> Counter:
        return self

    def describe(self, state: int) -> str:
        return f"count {state}"
