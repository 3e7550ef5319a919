"""A fleet of sessions, and how one program runs through it.

    heal → prefix → (lanes ‖ scheduler) → quiesce → heal → suffix → afterwards

Faults come and go beside all of that up to the end of the lanes (`Storm`); then all of them are
healed, and what is left of them is looked at before the suffix.

Sessions outlive runs, because starting a server costs more than restoring a world. What died or
misbehaved is restarted, with a note: a dead server before the suffix, anything unsound before
the next run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc

from mcpconc.drive.record import ENDED, Recorder
from mcpconc.drive.session import GRACE, START_TIMEOUT, Session
from mcpconc.errors import InvariantError, UsageError, cause
from mcpconc.history import Event, EventType, History, Phase
from mcpconc.program import Call, Program, Unbound, bind, refs
from mcpconc.schedule.base import Scheduler, Surroundings
from mcpconc.target.base import Launch, Progress, Scales, Starts, Target

__all__ = ["AT_ONCE", "Fleet", "Make", "Quiesce", "Storm", "Watch"]

AT_ONCE = 4
"""Servers that start at the same time: importing is CPU work, more of them gain nothing."""

Quiesce = Callable[[], Awaitable[object]]
"""Returns when the world has come to rest; False if it has not within a bound of its own."""


Make = Callable[[Call], Awaitable[Event]]
"""Makes one call beyond the program and gives the event that ended it."""


class Storm(Protocol):
    """Who injects faults into a run."""

    async def serve(self) -> None:
        """Runs beside everything until `calm` is over; on cancellation everything is healed."""
        ...

    async def ready(self, agent: int) -> None:
        """Returns when the agent's server is there, if it is one of the faults that it is not."""
        ...

    async def calm(self) -> None:
        """Heal what is not healed; no fault begins after this."""
        ...

    async def recover(self, make: Make) -> None:
        """Called when the world has come to rest: see what works again."""
        ...


class Watch(Protocol):
    """Who watches a run from beside, and looks at what it left."""

    async def serve(self) -> None:
        """Runs from the first event of the run to the last; cancelled then."""
        ...

    async def afterwards(self) -> None:
        """Called after the suffix; what it notes is still part of the history."""
        ...


class Place(Protocol):
    """What a fleet needs of the world that its servers live in."""

    target: Target

    def launch(self, agent: int, agents: int) -> Launch:
        """How to start the server of one agent."""
        ...

    def adopt(self, pid: int) -> None:
        """This server is up and idle: only from now on does quiescence not wait for its end."""
        ...

    def discard(self, pid: int) -> None:
        """This server has ended."""
        ...


class Fleet:
    """One session per agent, up as long as `Fleet.open` is entered."""

    def __init__(
        self,
        place: Place,
        sessions: tuple[Session, ...],
        owners: anyio.abc.TaskGroup,
        call_timeout: float,
        progress: Progress,
    ) -> None:
        self.sessions = sessions
        self.call_timeout = call_timeout
        self._place = place
        self._owners = owners
        self._progress = progress
        self._starting = anyio.CapacityLimiter(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        place: Place,
        agents: int,
        stderr: Path,
        *,
        start_timeout: float | None = None,
        stretch: float = 1.0,
        progress: Progress = lambda text: None,
    ) -> AsyncIterator[Fleet]:
        """Start the servers; on leaving, by cancellation too, end them and whatever they are
        still busy with.

        `stderr` is a directory that gets a file for each agent's server; `start_timeout` is in
        seconds, by default what the target says; calls have `stretch` times as long as it says.

        :raises TargetError: if a server does not come up.
        :raises UsageError: if `stderr` cannot be written.
        """
        _make_directory(stderr)
        target = place.target
        limit = target.call_timeout
        if isinstance(target, Scales):
            limit = target.scaling(agents).get("call_timeout", limit)
        limit *= stretch
        if start_timeout is None:
            start_timeout = target.start_timeout if isinstance(target, Starts) else START_TIMEOUT
        sessions = tuple(
            Session(
                agent,
                place.launch(agent, agents),
                target.interpret,
                stderr=stderr / f"agent-{agent}.txt",
                call_timeout=limit,
                start_timeout=start_timeout,
            )
            for agent in range(agents)
        )
        trouble: BaseException | None = None
        try:
            async with anyio.create_task_group() as owners:
                fleet = cls(place, sessions, owners, limit, progress)
                await _each(sessions, fleet._start)
                yield fleet
                await _each(sessions, Session.leave)
        except BaseExceptionGroup as group:
            trouble = cause(group)
        if trouble is not None:
            raise trouble

    async def run(
        self,
        program: Program,
        scheduler: Scheduler,
        recorder: Recorder,
        surroundings: Surroundings,
        quiesce: Quiesce,
        watch: Watch | None = None,
        storm: Storm | None = None,
        *,
        resting: bool = False,
    ) -> History:
        """Run one program and return its history, which `recorder` holds too. With `resting`
        the world comes to rest after every call of the prefix. `storm` injects the program's
        faults.

        :raises TargetError: if a server does not come up again.
        :raises InvariantError: for a fault of our own; it never becomes part of the history.
        """
        if program.agents > len(self.sessions) or len(program.lanes) > program.agents:
            raise InvariantError(
                f"the program has {program.agents} agents and {len(program.lanes)} lanes, "
                f"the fleet {len(self.sessions)} sessions"
            )
        for session in self.sessions:
            session.attach(recorder)
        trouble: BaseException | None = None
        run = _Run(self.sessions, program, recorder, self.call_timeout + GRACE, storm)
        try:
            async with anyio.create_task_group() as beside:
                if watch is not None:
                    beside.start_soon(watch.serve)
                await self.heal(recorder)
                if storm is not None:
                    beside.start_soon(storm.serve)
                await run.sequential(program.prefix, Phase.PREFIX, quiesce if resting else None)
                if surroundings.control is not None and program.prefix and not resting:
                    await quiesce()  # what is still at work would come in at chance moments
                await run.concurrent(scheduler, surroundings)
                if storm is not None:
                    await storm.calm()
                if await quiesce() is False:
                    recorder.note("not-quiescent")
                if program.suffix or storm is not None:
                    await self._restart([s for s in self.sessions if not s.alive], recorder)
                if storm is not None:
                    await storm.recover(lambda call: run.make(call, Phase.SUFFIX))
                await run.sequential(program.suffix, Phase.SUFFIX)
                if watch is not None:
                    await watch.afterwards()
                beside.cancel_scope.cancel()
            recorder.note(ENDED)
        except BaseExceptionGroup as group:
            trouble = cause(group)
        finally:
            for session in self.sessions:
                session.detach()
        if trouble is not None:
            raise trouble
        return recorder.history()

    async def heal(self, recorder: Recorder | None = None) -> None:
        """Restart every session that is not sound; says so in `recorder`.

        :raises TargetError: if a server does not come up again.
        """
        await self._restart([s for s in self.sessions if not s.sound], recorder)

    async def revive(self, agent: int, recorder: Recorder, *, kill: bool = True) -> None:
        """Restart the server of one agent; without `kill` the old one's calls go on.

        :raises TargetError: if it does not come up again.
        """
        await self._restart([self.sessions[agent]], recorder, kill=kill)

    async def restart(self, which: Callable[[int], bool] = lambda pid: True) -> None:
        """Restart all servers, for example in a new world at the same path; or those with a
        process id that `which` says yes to.

        :raises TargetError: if a server does not come up again.
        """
        chosen = [s for s in self.sessions if s.pid is None or which(s.pid)]
        await self._restart(chosen, None)

    async def _restart(
        self, sessions: Sequence[Session], recorder: Recorder | None, *, kill: bool = True
    ) -> None:
        async def again(session: Session) -> None:
            why = "unsound" if session.alive else "dead"
            await session.leave(kill=kill)
            await self._start(session)
            if recorder is not None:
                recorder.note("server-restarted", session.agent, why=why)

        await _each(sessions, again)

    async def _start(self, session: Session) -> None:
        async with self._starting:
            await self._owners.start(self._live, session)
        if session.pid is not None:
            self._place.adopt(session.pid)
        up = sum(s.alive for s in self.sessions)
        self._progress(f"{up} of {len(self.sessions)} servers are up")

    async def _live(self, session: Session, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        try:
            await session.live(task_status=task_status)
        finally:
            if session.pid is not None:
                self._place.discard(session.pid)


class _Run:
    """One program on its way: what was answered so far, and who waits for it."""

    def __init__(
        self,
        sessions: tuple[Session, ...],
        program: Program,
        recorder: Recorder,
        limit: float,
        storm: Storm | None,
    ) -> None:
        self.sessions = sessions
        self.storm = storm
        self.program = program
        self.recorder = recorder
        self.limit = limit
        self.responses: dict[str, Any] = {}
        self.ended: dict[str, anyio.Event] = {call.id: anyio.Event() for call in program.calls()}

    async def sequential(
        self, calls: tuple[Call, ...], phase: Phase, rest: Quiesce | None = None
    ) -> None:
        for call in calls:
            await self.make(call, phase)
            if rest is not None and await rest() is False:
                self.recorder.note("not-quiescent", call.agent, call=call.id)

    async def concurrent(self, scheduler: Scheduler, surroundings: Surroundings) -> None:
        """Run the lanes; whatever happens, the scheduler lets go in the end."""
        if not self.program.concurrent():
            return
        self.recorder.note("schedule", name=scheduler.name, seed=scheduler.seed)
        scheduler.begin(self.program, surroundings)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(scheduler.serve)
                async with anyio.create_task_group() as lanes:
                    for agent, calls in enumerate(self.program.lanes):
                        lanes.start_soon(self.lane, agent, calls, scheduler)
                beside.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(self.limit, shield=True):
                await scheduler.finish()
        for what, more in scheduler.notes:
            self.recorder.note(what, **more)
        for remark in scheduler.remarks:
            self.recorder.note("scheduler", text=remark)

    async def lane(self, agent: int, calls: tuple[Call, ...], scheduler: Scheduler) -> None:
        """One agent's calls in their order, `inflight` of them unanswered at most."""
        earlier: set[str] = set()
        free = anyio.Semaphore(max(1, self.program.inflight))

        async def one(call: Call) -> None:
            try:
                await self.make(call, Phase.LANE)
            finally:
                scheduler.ended(agent, call.id)
                free.release()

        # Waiting for the others' calls is legal: one answer each at worst, and then us.
        patience = self.limit * (self.program.concurrent() + 1)
        try:
            async with anyio.create_task_group() as unanswered:
                for call in calls:
                    for name in sorted({r.call for r in refs(call.args)} & earlier):
                        await self.ended[name].wait()
                    await free.acquire()
                    try:
                        with anyio.fail_after(patience):
                            await scheduler.admit(agent, call.id)
                    except TimeoutError:
                        raise InvariantError(
                            f"scheduler {scheduler.name} did not admit call {call.id} "
                            f"within {patience:.0f} s"
                        ) from None
                    scheduler.sent(agent, call.id)
                    unanswered.start_soon(one, call)
                    earlier.add(call.id)
        finally:
            scheduler.idle(agent)

    async def make(self, call: Call, phase: Phase) -> Event:
        """Bind, send, keep the response; gives the event that ended the call. One whose
        references have no value is a `fail`."""
        session = self.sessions[call.agent]
        try:
            if self.storm is not None:
                await self.storm.ready(call.agent)
            args: Mapping[str, Any] = bind(call.args, self.responses)
        except Unbound as error:
            return session.refuse(call, call.args, phase, why="unbound", text=str(error))
        else:
            end = await session.call(call, args, phase)
            if end.type is EventType.OK:
                self.responses[call.id] = end.value["data"]
            return end
        finally:
            if call.id in self.ended:
                self.ended[call.id].set()


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


async def _each(
    sessions: Sequence[Session], act: Callable[[Session], Coroutine[Any, Any, None]]
) -> None:
    """Do something with all sessions at once."""
    trouble: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(act, session)
    except BaseExceptionGroup as several:
        trouble = cause(several)
    if trouble is not None:
        raise trouble
