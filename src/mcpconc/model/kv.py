"""One key of a key-value store of texts: get, put, append."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject

__all__ = ["KeyValue"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """The text under one key, empty at first; keys are independent, so each is a partition.

    ``get``: output is the text. ``put``: input is the new text. ``append``: input is put
    behind the text. A snapshot gets. An output of None fits any text.
    """

    name: str = "kv"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> str:
        return ""

    def step(self, state: str, op: Op) -> Sequence[str] | Reject:
        """The text afterwards, or the field ``value`` of a get."""
        if op.name in ("get", SNAPSHOT):
            if op.output is None or op.output == state:
                return (state,)
            return Reject("value", state, op.output)
        if op.name == "put":
            return (str(op.input),)
        if op.name == "append":
            return (state + str(op.input),)
        raise ValueError(f"a key has get, put and append, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in ("get", SNAPSHOT)

    def excusing(self, quirks: frozenset[str]) -> KeyValue:
        return self

    def describe(self, state: str) -> str:
        return repr(state)
