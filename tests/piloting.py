"""A target that is nothing but its probe: what its threads say, and what they hear."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from fakes import FakeWorld, call
from mcpconc.program import Program
from mcpconc.schedule.control import Control
from mcpconc.schedule.controlled import Controlled

__all__ = ["Script", "Speaker", "Target", "piloted", "program", "say", "transaction"]

GO = b"g\n"
NOBODY = 2**22
"""No process has this number, or one above: the kernel knows nothing of it that moves."""

Script = Callable[["Target", int], Awaitable[None]]
"""What one call does: in this target, for this agent."""

_pids = itertools.count(NOBODY + 1)


@dataclass
class Speaker:
    """One thread of the target. `log` is what all threads did, in order."""

    stream: anyio.abc.SocketStream
    log: list[str]
    agent: int = 0

    async def say(self, message: Any) -> None:
        await self.stream.send(json.dumps(message).encode() + b"\n")

    async def at(self, label: str, kind: str = "sql", **more: Any) -> bytes:
        """Stand at a point until there is an answer; ``b""`` if nobody is there any more."""
        await self.say({"at": {"kind": kind, "label": label, **more}})
        try:
            answer = await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""
        if answer[:1] in (b"g", b"m"):
            self.log.append(f"{self.agent} {label}")
        return answer


@dataclass
class Target:
    """All its threads; `scripts` are what the calls do, by tool."""

    address: Path
    scripts: Mapping[str, Script] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    beside: Any = None
    """Where a call can start what goes on after it was answered."""

    @asynccontextmanager
    async def thread(self, agent: int = 0, name: str = "call", pid: int = 0) -> Any:
        """A thread that has said hello; of a process of its own if no other is given."""
        pid = pid or next(_pids)
        async with await anyio.connect_unix(self.address) as stream:
            speaker = Speaker(stream, self.log, agent)
            who = {"pid": pid, "ppid": 1, "tid": next(_pids), "agent": agent, "name": name}
            await speaker.say({"hello": who})
            yield speaker


def say(*labels: str, **more: Any) -> Script:
    """A call in a process of its own, which stands at these points. What it touches is what the
    others touch."""

    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            for label in labels:
                await thread.at(label, **{"writes": ["x"], **more})

    return script


def transaction(*databases: str) -> Script:
    """A call that takes the write locks of these databases one after another."""

    async def script(target: Target, agent: int) -> None:
        held: list[str] = []
        async with target.thread(agent) as thread:
            for db in databases:
                await thread.at(f"BEGIN {db}", db=db, needs="write", holds=held, writes=[f"{db}:t"])
                held.append(db)
            for db in databases:
                await thread.at(f"COMMIT {db}", db=db, needs="commit", holds=held)
                held.remove(db)

    return script


def program(*lanes: Sequence[str]) -> Program:
    """Lanes of calls, given their tools."""
    return Program(
        max(len(lanes), 1),
        lanes=tuple(
            tuple(call(f"{agent}.{n}", tool, agent) for n, tool in enumerate(lane))
            for agent, lane in enumerate(lanes)
        ),
    )


@asynccontextmanager
async def controlled(root: Path, scripts: Mapping[str, Script]) -> AsyncIterator[Any]:
    async with Control.open(root) as control:
        yield control, Target(control.address, scripts)


async def run(control: Control, target: Target, lanes: Program, scheduler: Controlled) -> None:
    """What the runner does with these lanes."""
    world = FakeWorld(target.address.parent)
    world.control = control  # type: ignore[assignment]

    async def lane(agent: int) -> None:
        for one in lanes.lanes[agent]:
            await scheduler.admit(agent, one.id)
            scheduler.sent(agent, one.id)
            await target.scripts[one.tool](target, agent)
            scheduler.ended(agent, one.id)
        scheduler.idle(agent)

    scheduler.begin(lanes, world)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as target.beside:
            try:
                async with anyio.create_task_group() as serving:
                    serving.start_soon(scheduler.serve)
                    async with anyio.create_task_group() as tasks:
                        for agent in range(lanes.agents):
                            tasks.start_soon(lane, agent)
                    serving.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    await scheduler.finish()


def piloted(
    root: Path, scripts: Mapping[str, Script], lanes: Program, *schedulers: Controlled
) -> list[list[str]]:
    """Run the lanes under one scheduler after another; what the target's threads did in each."""

    async def main() -> list[list[str]]:
        logs = []
        async with controlled(root, scripts) as (control, target):
            for scheduler in schedulers:
                target.log = []
                await run(control, target, lanes, scheduler)
                logs.append(target.log)
        return logs

    return anyio.run(main)


def connect(address: Path) -> socket.socket:
    """A connection that has said nothing yet."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(str(address))
    return made
