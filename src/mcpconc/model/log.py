"""An append-only log: append, read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject

__all__ = ["AppendLog"]

NONE: frozenset[str] = frozenset()

Entries = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class AppendLog:
    """A list that only grows.

    ``append``: input is the entry, output its position from 0. ``read``: output is the tuple
    of all entries, oldest first. A snapshot reads. An output of None fits anything.
    """

    name: str = "log"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> Entries:
        return ()

    def step(self, state: Entries, op: Op) -> Sequence[Entries] | Reject:
        """The list afterwards, or the field ``entries`` (of a read) or ``position``."""
        if op.name in ("read", SNAPSHOT):
            if op.output is None or op.output == state:
                return (state,)
            return Reject("entries", state, op.output)
        if op.name == "append":
            if op.output is not None and op.output != len(state):
                return Reject("position", len(state), op.output)
            return ((*state, op.input),)
        raise ValueError(f"a log has append and read, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in ("read", SNAPSHOT)

    def excusing(self, quirks: frozenset[str]) -> AppendLog:
        return self

    def describe(self, state: Entries) -> str:
        return f"[{', '.join(map(str, state))}]"
