"""Faults on the client's side: it loses patience, or its pipes are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcpconc.nemesis.base import Family, Kind, Missed, Strike

__all__ = ["KINDS"]


@asynccontextmanager
async def _cancel(strike: Strike) -> AsyncIterator[None]:
    call = strike.fault.call
    if not strike.session.flying(call):
        raise Missed("the call was answered already")
    strike.begins(f"the client cancels {call}")
    strike.session.cancel(call)
    yield


@asynccontextmanager
async def _disconnect(strike: Strike) -> AsyncIterator[None]:
    strike.server()
    async with strike.away():
        strike.begins(f"the client of agent {strike.agent} closes its pipes and connects anew")
        yield
        await strike.fleet.revive(strike.agent, strike.recorder, kill=False)


KINDS = (
    Kind(
        name="cancel",
        about="the client cancels a call that is in flight",
        family=Family.CLIENT,
        act=_cancel,
    ),
    Kind(
        name="disconnect",
        about="one agent's client closes its pipes in the middle of calls and connects anew",
        family=Family.CLIENT,
        act=_disconnect,
    ),
)
