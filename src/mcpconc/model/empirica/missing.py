"""Objects that nothing has: every call on their ids is refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, OK, Quirky, answer, op, partition, refused

__all__ = ["Missing", "missing"]


@dataclass(frozen=True)
class Missing(Quirky):
    """State: nothing. Each call has to be refused as `error`."""

    error: str = ""
    name: str = "missing"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> str:
        return ""

    def step(self, state: str, op: Op) -> Sequence[str] | Reject:
        reject = refused(op.output, self.error, True)
        return reject if reject is not None else (state,)

    def pure(self, op: Op) -> bool:
        return True

    def describe(self, state: str) -> str:
        return "nothing"


def missing(kind: str, error: str, calls: Iterable[tuple[str, Operation]]) -> Iterator[Partition]:
    """One partition per id that nothing has."""
    ops: dict[str, list[Op]] = defaultdict(list)
    for id, o in calls:
        ops[id].append(op(o, None, answer(o, OK)))
    for id in ops:
        yield partition(kind, id, Missing(error=error), ops[id])
