"""Nobody waits for anybody: calls leave after a small random pause, a larger one at first."""

from __future__ import annotations

import random

import anyio

from mcpconc.program import Program
from mcpconc.schedule.base import Surroundings

__all__ = ["JITTER", "START_JITTER", "Free"]

JITTER = 0.05
"""Seconds that a call waits at most before it leaves."""

START_JITTER = 0.3
"""Seconds that a lane's first call waits at most: it sets how the lanes lie to each other."""


class Free:
    """Pauses depend on seed, agent and call alone, not on who asked first."""

    name = "free"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.remarks: list[str] = []
        self._started: set[int] = set()

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        self._started.clear()

    async def serve(self) -> None:
        pass

    def pause(self, agent: int, call: str) -> float:
        """Seconds before this call, the agent's next one, may leave."""
        longest = JITTER if agent in self._started else START_JITTER
        return random.Random(f"{self.seed}/{agent}/{call}").uniform(0, longest)

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
