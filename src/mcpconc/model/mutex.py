"""A lock: acquire, release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject

__all__ = ["Mutex"]

NONE: frozenset[str] = frozenset()

State = int | None


@dataclass(frozen=True, slots=True)
class Mutex:
    """A lock that is not re-entrant, free at first. The state is the agent that holds it.

    ``acquire``: output is whether the agent has it now, which it has not where the lock was
    held. ``release``: output is whether it was this agent's to release. A snapshot's output is
    the holder, -1 where there is none. An output of None fits anything.
    """

    name: str = "mutex"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        """The holder afterwards, or the field ``acquired``, ``released`` or ``holder``."""
        if op.name == SNAPSHOT:
            holder = -1 if state is None else state
            return (state,) if op.output in (None, holder) else Reject("holder", holder, op.output)
        if op.name not in ("acquire", "release"):
            raise ValueError(f"a mutex has acquire and release, not {op.name}")
        if op.name == "release":
            field, works, after = "released", state == op.agent, None
        else:
            field, works, after = "acquired", state is None, op.agent
        if op.output not in (None, works):
            return Reject(field, works, op.output)
        return (after if works else state,)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or op.output is False

    def excusing(self, quirks: frozenset[str]) -> Mutex:
        return self

    def describe(self, state: State) -> str:
        return "free" if state is None else f"held by agent {state + 1}"
