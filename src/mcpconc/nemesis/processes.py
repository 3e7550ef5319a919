"""Faults of processes: servers and calls are killed, or stopped for a while (SIGSTOP)."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import anyio

from mcpconc import procs
from mcpconc.nemesis.base import Family, Kind, Missed, Strike

__all__ = ["KINDS"]

DEATH = 3.0
"""Seconds until a dead server is noticed."""
APPEARS = 3.0
"""Within so many times what a call takes, its process is there."""
STOPPED = 3.0
"""Times what a call takes that a stopped process stands still."""


@asynccontextmanager
async def _kill_server(strike: Strike) -> AsyncIterator[None]:
    """The processes of calls go on: nobody tells them. The client starts the server again."""
    async with strike.away():
        pids = strike.server()
        strike.begins(f"the server of agent {strike.agent} is killed", pids=sorted(pids))
        _signal(pids, signal.SIGKILL)
        try:
            yield
        finally:
            with anyio.move_on_after(DEATH):  # who waits for an answer hears of it first
                while strike.session.alive:
                    await anyio.sleep(0.005)
            await strike.fleet.revive(strike.agent, strike.recorder, kill=False)


@asynccontextmanager
async def _kill_call(strike: Strike) -> AsyncIterator[None]:
    pid, command = await _call(strike)
    strike.begins(f"the process of a call is killed: {command}", pids=[pid])
    _signal([pid], signal.SIGKILL)
    yield


def _kill_point(strike: Strike) -> AbstractAsyncContextManager[None]:
    """It is the scheduler that does it, see `mcpconc.nemesis.storm.Weather.doomed`."""
    raise Missed("nobody decides inside the calls")


@asynccontextmanager
async def _stop_server(strike: Strike) -> AsyncIterator[None]:
    pids = strike.server()
    strike.begins(f"the server of agent {strike.agent} stands still", pids=sorted(pids))
    async with _stopped(pids):
        yield


@asynccontextmanager
async def _stop_call(strike: Strike) -> AsyncIterator[None]:
    pid, command = await _call(strike)
    strike.begins(f"the process of a call stands still: {command}", pids=[pid])
    async with _stopped([pid]):
        yield


@asynccontextmanager
async def _stopped(pids: Iterable[int]) -> AsyncIterator[None]:
    pids = sorted(pids)
    try:
        _signal(pids, signal.SIGSTOP)
        yield
    finally:
        _signal(pids, signal.SIGCONT)


async def _call(strike: Strike) -> tuple[int, str]:
    """A process that is at work on a call of the agent: those that serve a call come before
    their children, and of several calls the one that `pick` says is taken.

    :raises Missed: if none appears while the call is in flight.
    """
    with anyio.move_on_after(APPEARS * strike.world.call_seconds):
        while strike.session.inflight:
            found = strike.callers()
            first = sorted(pid for pid in found if (s := procs.stat(pid)) and s.parent not in found)
            if first:
                pid = first[strike.fault.pick % len(first)]
                return pid, procs.command_line(pid)
            await anyio.sleep(0.002)
    raise Missed("no process of a call was there")


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _stands(strike: Strike) -> float:
    return STOPPED * strike.world.call_seconds


KINDS = (
    Kind(
        name="kill-server",
        about="one agent's server is killed and started again; what its calls do goes on",
        family=Family.PROCESS,
        act=_kill_server,
    ),
    Kind(
        name="kill-call",
        about="the process that serves one call, or a part of it, is killed",
        family=Family.PROCESS,
        act=_kill_call,
        refuses=True,
    ),
    Kind(
        name="kill-point",
        about="the process that serves one call is killed just before one of the things it writes",
        family=Family.PROCESS,
        act=_kill_point,
        needs="the probe, and --scheduler random, pct:D or portfolio",
        refuses=True,
        inside=True,
    ),
    Kind(
        name="stop-server",
        about="one agent's server stands still for a few calls' time",
        family=Family.PROCESS,
        act=_stop_server,
        seconds=_stands,
    ),
    Kind(
        name="stop-call",
        about="the process that serves one call stands still for a few calls' time",
        family=Family.PROCESS,
        act=_stop_call,
        seconds=_stands,
    ),
)
