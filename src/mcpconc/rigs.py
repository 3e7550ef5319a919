"""A rig that stays up from one replay to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc

from mcpconc.errors import cause
from mcpconc.rig import Rig, rig
from mcpconc.target import resolve
from mcpconc.target.base import Hurries, Identity, Progress
from mcpconc.target.warm import Start
from mcpconc.world import ProbeMode

__all__ = ["Rigs", "Wanted", "standing"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rig must be like: the target's SPEC, how agents are told apart, how many there are,
    how calls start, what the probe does, and whether the target's own limits are short. `own` is
    not empty where nobody else can use it."""

    target: str
    identity: Identity
    agents: int
    start: Start
    probe: ProbeMode | None
    hurried: bool
    own: str = ""


@dataclass(slots=True)
class Rigs:
    """At most one rig, which stays up as long as the same is wanted: to start servers takes longer
    than most replays do. It has a task of its own, so that whoever uses it may be cancelled."""

    _owners: anyio.abc.TaskGroup
    _up: tuple[Wanted, Rig] | None = None
    _leave: anyio.Event = field(default_factory=anyio.Event)
    _left: anyio.Event = field(default_factory=anyio.Event)

    async def get(self, wanted: Wanted, work: Path, progress: Progress) -> Rig:
        """:raises UsageError: if the target cannot be started like that.
        :raises TargetError: if it cannot be prepared or started.
        """
        if self._up is not None and self._up[0] == wanted:
            return self._up[1]
        await self.close()
        self._leave, self._left = anyio.Event(), anyio.Event()
        on: Rig = await self._owners.start(self._own, wanted, work, progress)
        self._up = (wanted, on)
        return on

    async def close(self) -> None:
        """End the servers, if there are any."""
        if self._up is not None:
            self._up = None
            self._leave.set()
            await self._left.wait()

    async def _own(
        self,
        wanted: Wanted,
        work: Path,
        progress: Progress,
        *,
        task_status: anyio.abc.TaskStatus[Rig],
    ) -> None:
        leave, left = self._leave, self._left
        try:
            system = resolve(wanted.target)
            await system.install(progress)
            if wanted.hurried and isinstance(system, Hurries):
                system.hurry()
            async with rig(
                *(system, wanted.identity, wanted.agents, work, progress, wanted.start),
                wanted.probe,
            ) as on:
                task_status.started(on)
                await leave.wait()
        finally:
            left.set()


@asynccontextmanager
async def standing() -> AsyncIterator[Rigs]:
    """Whatever is up when this is left is ended."""
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as owners:
            rigs = Rigs(owners)
            try:
                yield rigs
            except Exception as error:  # not out of the group, which would put it into one
                failure = error
            await rigs.close()
    except BaseExceptionGroup as group:  # of the tasks beside the servers
        failure = failure or cause(group)
    if failure is not None:
        raise failure
