"""Calls leave in rounds: when every lane that still has calls is ready, they all go at once."""

from __future__ import annotations

import anyio

from mcpconc.program import Program
from mcpconc.schedule.base import Surroundings, Uncontrolled

__all__ = ["Barrier"]


class Barrier(Uncontrolled):
    name = "barrier"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.remarks: list[str] = []
        self.rounds = 0
        self._running: set[int] = set()
        self._ready: dict[int, anyio.Event] = {}

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        self._running = {agent for agent, lane in enumerate(program.lanes) if lane}
        self._ready.clear()

    async def serve(self) -> None:
        pass

    async def admit(self, agent: int, call: str) -> None:
        go = self._ready[agent] = anyio.Event()
        self._meet()
        await go.wait()

    def sent(self, agent: int, call: str) -> None:
        pass

    def ended(self, agent: int, call: str) -> None:
        pass

    def idle(self, agent: int) -> None:
        self._running.discard(agent)
        self._ready.pop(agent, None)
        self._meet()

    async def finish(self) -> None:
        self._release()

    def _meet(self) -> None:
        if self._ready and self._running <= self._ready.keys():
            self.rounds += 1
            self._all_ready()

    def _all_ready(self) -> None:
        self._release()

    def _release(self) -> None:
        ready, self._ready = self._ready, {}
        for go in ready.values():
            go.set()
