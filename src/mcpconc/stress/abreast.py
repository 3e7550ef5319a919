"""Lanes that begin at the same moment and wait for each other at their end, be they in one world or
in several: what is compared must have been at work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import anyio

from mcpconc.program import Program
from mcpconc.schedule.base import Surroundings, Uncontrolled

__all__ = ["Abreast", "Meeting"]


class Meeting:
    """Where `lanes` (numbers) meet. All of them must `leave` in the end, those of a world that
    cannot be run included. `opening` is called when the first calls are about to leave, `closing`
    when all lanes have ended."""

    def __init__(
        self,
        lanes: Iterable[int],
        *,
        rounds: bool,
        opening: Callable[[], None],
        closing: Callable[[], None],
    ) -> None:
        self.rounds = rounds
        self.over = anyio.Event()
        self._open = False
        self.opening, self.closing = opening, closing
        self._running = set(lanes)
        self._ready: dict[int, anyio.Event] = {}

    async def ready(self, lane: int) -> None:
        """Return when this lane's next call may leave: the first one together with everybody's, and
        with `rounds` each."""
        if self._open and not self.rounds:
            return
        go = self._ready[lane] = anyio.Event()
        self._meet()
        await go.wait()

    def leave(self, lane: int) -> None:
        """This lane has no further call. May be said again."""
        self._running.discard(lane)
        self._ready.pop(lane, None)
        self._meet()
        if not self._running and not self.over.is_set():
            if self._open:
                self.closing()
            self.over.set()

    def _meet(self) -> None:
        if self._ready and self._running <= self._ready.keys():
            if not self._open:
                self._open = True
                self.opening()
            ready, self._ready = self._ready, {}
            for go in ready.values():
                go.set()


class Abreast(Uncontrolled):
    """The scheduler of one world. Lane n of its program is lane `lanes[n]` of the `meeting`;
    `ended` is told whose call came back. It is called what replays it: ``barrier`` or ``free``."""

    def __init__(
        self,
        meeting: Meeting,
        lanes: Mapping[int, int],
        heard: Callable[[int], None] = lambda lane: None,
        seed: int = 0,
    ) -> None:
        self.name = "barrier" if meeting.rounds else "free"
        self.seed = seed
        self.remarks: list[str] = []
        self._meeting = meeting
        self._lanes = lanes
        self._heard = heard

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        pass

    async def serve(self) -> None:
        pass

    async def admit(self, agent: int, call: str) -> None:
        await self._meeting.ready(self._lanes[agent])

    def sent(self, agent: int, call: str) -> None:
        pass

    def ended(self, agent: int, call: str) -> None:
        self._heard(self._lanes[agent])

    def idle(self, agent: int) -> None:
        self._meeting.leave(self._lanes[agent])

    async def finish(self) -> None:
        """Wait for the others: what comes after a run is work for the machine, too."""
        await self._meeting.over.wait()
