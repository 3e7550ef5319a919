"""Nobody waits for anybody: calls leave after a small random pause, a larger one at first."""

from __future__ import annotations

import random

import anyio

from mcpconc.program import Program
from mcpconc.schedule.base import Surroundings, Uncontrolled
from mcpconc.target.base import CALL_SECONDS

__all__ = ["JITTER", "START_JITTER", "Free"]

JITTER = 0.05
"""Of the time that a call takes: how long one waits at most before it leaves."""

START_JITTER = 0.3
"""The same for a lane's first call: it sets how the lanes lie to each other."""


class Free(Uncontrolled):
    """Pauses depend on seed, agent and call alone, not on who asked first."""

    name = "free"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.remarks: list[str] = []
        self._started: set[int] = set()
        self._call_seconds = CALL_SECONDS

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        self._call_seconds = surroundings.call_seconds
        self._started.clear()

    async def serve(self) -> None:
        pass

    def pause(self, agent: int, call: str) -> float:
        """Seconds before this call, the agent's next one, may leave."""
        longest = JITTER if agent in self._started else START_JITTER
        return random.Random(f"{self.seed}/{agent}/{call}").uniform(0, longest * self._call_seconds)

    async def admit(self, agent: int, call: str) -> None:
        pause = self.pause(agent, call)
        self._started.add(agent)
        await anyio.sleep(pause)

    def sent(self, agent: int, call: str) -> None:
        pass

    def ended(self, agent: int, call: str) -> None:
        pass

    def idle(self, agent: int) -> None:
        pass

    async def finish(self) -> None:
        pass
