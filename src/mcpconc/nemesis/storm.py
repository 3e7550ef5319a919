"""The nemesis of one run: begins the program's faults, heals them, and says so in the history.

    fault           it begins: which, done to what, and what may happen from now on
    healed          it is over
    fault-missed    it was to begin and did not, and why
    fault-failed    the system did not let it be done, or healed, to its end

A fault begins when its call has been sent, so a program that is run again meets it at the same
place; nothing here draws a number or looks at the time of day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import anyio

from mcpconc.drive.record import NOBODY, Recorder
from mcpconc.drive.runner import Fleet, Make
from mcpconc.errors import InvariantError, cause
from mcpconc.history import Event, EventType
from mcpconc.nemesis.base import Kind, Missed, Strike
from mcpconc.nemesis.recovery import recover
from mcpconc.program import Fault, Program
from mcpconc.schedule.points import Kill, Point, writes
from mcpconc.world import World

__all__ = ["Weather"]

FORKED = 0.4
"""Of an ordinary call's time, that a forked one takes."""
WITHIN = 8
"""Things that a call writes, before one of which its process is killed."""
HEALING = 90.0
"""Seconds within which everything is healed: a server may have to be started for it."""


class Weather:
    """What happens to one run (`mcpconc.drive.runner.Storm`). `kinds` are all faults by name.

    :raises InvariantError: if the program names a fault that there is not.
    """

    def __init__(
        self,
        world: World,
        fleet: Fleet,
        recorder: Recorder,
        program: Program,
        kinds: Mapping[str, Kind],
    ) -> None:
        self._world, self._fleet, self._recorder = world, fleet, recorder
        self._faults: Sequence[tuple[Fault, Kind, int]] = [
            (fault, _kind(kinds, fault), _agent(program, fault)) for fault in program.faults
        ]
        self._sent = {fault.call: anyio.Event() for fault in program.faults}
        self._gates: dict[int, anyio.Event] = {}
        self._calm = anyio.Event()
        self._over = [anyio.Event() for _ in self._faults]
        self._passed: Counter[int] = Counter()
        self._struck: set[int] = set()
        self._heard = recorder.heard
        recorder.heard = self.hear

    def hear(self, event: Event) -> None:
        """A call was sent: its fault is due."""
        self._heard(event)
        if event.type is EventType.INVOKE and event.call in self._sent:
            self._sent[event.call].set()

    async def serve(self) -> None:
        async with anyio.create_task_group() as group:
            for number, (fault, kind, agent) in enumerate(self._faults):
                group.start_soon(self._one, number, fault, kind, agent)

    async def ready(self, agent: int) -> None:
        while (gate := self._gates.get(agent)) is not None:
            await gate.wait()

    async def calm(self) -> None:
        """:raises InvariantError: if something cannot be healed."""
        self._calm.set()
        for sent in self._sent.values():
            sent.set()
        try:
            with anyio.fail_after(HEALING):
                for over in self._over:
                    await over.wait()
        except TimeoutError:
            left = [
                f.name
                for (f, _, _), o in zip(self._faults, self._over, strict=True)
                if not o.is_set()
            ]
            raise InvariantError(f"not healed within {HEALING:g} s: {', '.join(left)}") from None

    def doomed(self, kill: Kill, point: Point, due: bool | None) -> bool:
        """Whether a process is killed at the point where it stands
        (`mcpconc.schedule.controlled`): where the fault's call is at work, before the first to
        the `WITHIN`-th thing that it writes. A recorded kill is `due`, and then there is no
        other."""
        for number, (fault, kind, agent) in enumerate(self._faults):
            if not kind.inside or agent != kill.agent or number in self._struck:
                continue
            if due is None and self._sent[fault.call].is_set() and writes(point):
                self._passed[number] += 1
                due = self._passed[number] == 1 + fault.pick % WITHIN or None
            if due:
                self._struck.add(number)
                about = (number, kind, agent, fault.call)
                may = {"refuses": kind.refuses, "spoils": "", "spares": ()}
                text = f"agent {agent}'s call is killed before: {point.label}"
                self._note("fault", *about, text, {**may, "at": kill.to_json()})
                self._note("healed", *about, f"{kind.name} is over")
                return True
        return bool(due)

    async def recover(self, make: Make) -> None:
        await recover(self._world, self._fleet, self._recorder, make)

    def _pace(self) -> float:
        """Seconds that a call takes: of one that is forked, the imports are made already."""
        return self._world.call_seconds * (FORKED if self._world.shims else 1.0)

    async def _one(self, number: int, fault: Fault, kind: Kind, agent: int) -> None:
        about = (number, kind, agent, fault.call)
        begun = healed = False

        def begins(text: str, **details: Any) -> None:
            nonlocal begun
            begun = True
            may = {"refuses": kind.refuses, "spoils": kind.spoils, "spares": kind.spares}
            self._note("fault", *about, text, {**may, **details})

        try:
            await self._sent[fault.call].wait()
            if kind.inside:
                await self._calm.wait()
                if number not in self._struck:
                    raise Missed("the call did not write so many things, or nobody decided inside")
                return
            await anyio.sleep(fault.delay * self._pace())
            if self._calm.is_set():
                raise Missed("the calls are over")
            if why := kind.lacking(self._world.root):
                raise Missed(why)
            strike = Strike(
                fault, agent, self._world, self._fleet, self._recorder, begins, self._gates
            )
            async with kind.act(strike):
                with anyio.move_on_after(kind.seconds(strike)):
                    await self._calm.wait()
            healed = True
        except (Missed, OSError, ExceptionGroup) as trouble:
            # Out of a task group of the fault's own it comes as a group.
            error = cause(trouble) if isinstance(trouble, ExceptionGroup) else trouble
            if not isinstance(error, Missed | OSError):
                raise
            what = "fault-failed" if begun else "fault-missed"
            self._note(what, *about, f"{kind.name}: {error}")
        finally:
            # What is destroyed stays so until the world is put back.
            if healed and not kind.spoils:
                self._note("healed", *about, f"{kind.name} is over")
            self._over[number].set()

    def _note(
        self,
        what: str,
        number: int,
        kind: Kind,
        agent: int,
        call: str,
        text: str,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        whose = agent if kind.of_agent else NOBODY
        self._recorder.note(what, whose, call, fault=kind.name, n=number, text=text, **more)


def _kind(kinds: Mapping[str, Kind], fault: Fault) -> Kind:
    if fault.name not in kinds:
        raise InvariantError(f"no fault is named {fault.name!r}")
    return kinds[fault.name]


def _agent(program: Program, fault: Fault) -> int:
    return next((call.agent for call in program.calls() if call.id == fault.call), 0)
