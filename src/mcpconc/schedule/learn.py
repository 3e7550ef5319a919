"""One call after another, none held up, and the first of each tool watched: what tools touch is
known after it.

A scheduler that knows nothing of a tool must take each of its statements for one that matters, and
look at everybody before each; that takes longer than all that follows.
"""

from __future__ import annotations

import anyio

from mcpconc.program import Program
from mcpconc.schedule.base import Surroundings, Uncontrolled
from mcpconc.schedule.control import Control, Thread

__all__ = ["Learn"]

LEFT = 2.0
"""Seconds for which the next call waits for the end of what the last one left at work."""


class Learn(Uncontrolled):
    """Tells the `Control` what calls touch, and decides nothing. Lanes take turns."""

    name = "learn"

    def __init__(self) -> None:
        self.seed = 0
        self.remarks: list[str] = []
        self._turn = anyio.Semaphore(1)
        self._control: Control | None = None
        self._tools: dict[str, str] = {}
        self._now: dict[int, str] = {}
        """Agent → tool that it called last."""
        self._servers: frozenset[int] = frozenset()

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        self._tools = {call.id: call.tool for lane in program.lanes for call in lane}
        self._control = surroundings.control
        if self._control is not None:
            self._servers = frozenset(thread.pid for thread in self._control.threads)

    async def serve(self) -> None:
        pass

    async def admit(self, agent: int, call: str) -> None:
        await self._turn.acquire()
        await self._calm()
        tool = self._now[agent] = self._tools[call]
        if self._control is None:
            return
        if tool in self._control.learned.tools:
            self._control.leave()  # to be watched costs a call as much again
        else:
            self._control.take(self)

    def sent(self, agent: int, call: str) -> None:
        pass

    def ended(self, agent: int, call: str) -> None:
        self._turn.release()

    def idle(self, agent: int) -> None:
        pass

    async def finish(self) -> None:
        await self._calm()
        if self._control is not None:
            self._control.leave()

    async def _calm(self) -> None:
        """Until what was begun by calls has ended: it is theirs, not that of the next one."""
        control = self._control
        with anyio.move_on_after(LEFT):
            while control is not None and any(self._left(t) for t in control.threads):
                await control.wait(LEFT)

    def _left(self, thread: Thread) -> bool:
        return not (thread.server or thread.pid in self._servers)

    # -- what the probe tells ------------------------------------------------------------------

    def stands(self, thread: Thread) -> None:
        assert self._control is not None
        assert thread.point is not None
        tool = self._now.get(thread.agent)
        if tool is not None:
            self._control.learned.add(tool, thread.point.label, thread.access)
        self._control.go(thread)

    def gone(self, thread: Thread) -> None:
        pass
