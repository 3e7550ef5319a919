"""Answers that no call over MCP changes: there is no way to make a lesson or to log a saving of
tokens, and the introduction is a text."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, Quirky, Refusal, answer, op, partition, spurious
from mcpconc.model.empirica.facts import Facts

__all__ = ["CONSTANTS", "Constant", "partitions"]

CONSTANTS: Mapping[str, tuple[str, Hashable, Callable[[Mapping[str, Any]], Hashable]]] = {
    "lesson_list": ("count", 0, lambda data: data.get("count")),
    "efficiency_report": ("total_tokens_saved", 0, lambda data: data.get("total_tokens_saved")),
    "get_empirica_introduction": (
        "workflow",
        "PREFLIGHT → CHECK → work → POSTFLIGHT",
        lambda data: data.get("workflow"),
    ),
}
"""Tool → a field of its answer, the value that it always has, and how it is read."""


@dataclass(frozen=True)
class Constant(Quirky):
    """State: nothing. The answer of the tool is always the same."""

    field: str = ""
    value: Hashable = None
    name: str = "constant"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> str:
        return ""

    def step(self, state: str, op: Op) -> Sequence[str] | Reject:
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.output is None or op.output == self.value:
            return (state,)
        return Reject(self.field, self.value, op.output)

    def pure(self, op: Op) -> bool:
        return True

    def describe(self, state: str) -> str:
        return f"{self.field} is {self.value!r}"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per tool that was called."""
    for tool, (field, value, read) in CONSTANTS.items():
        ops = [op(o, None, answer(o, read(o.data))) for o in known.of(tool)]
        if ops:
            yield partition("constant", tool, Constant(field=field, value=value), ops)
