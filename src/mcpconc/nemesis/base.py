"""What a fault is: how it begins and is healed, what it needs, what may happen under it.

A fault is a context manager: what is after its ``yield`` heals, and so it is healed however the
run ends, by cancellation too. Faults know nothing of each other and several may be on at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import anyio
import anyio.to_thread

from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.drive.session import Session
from mcpconc.program import Fault
from mcpconc.target.base import Hurries
from mcpconc.vitals import agent_of
from mcpconc.world import World

__all__ = ["PATIENCE", "Act", "Family", "Kind", "Missed", "Strike", "everywhere", "undone"]

PATIENCE = 30.0
"""Seconds that a call waits for a lock where the target does not say: the usual limit."""
HINDERED = 60.0
"""Seconds in which another fault must be over that keeps one from being healed."""


class Family(StrEnum):
    """What a fault is done to."""

    PROCESS = "processes"
    CLIENT = "the client's side"
    LOCK = "locks"
    FILES = "files and disk"
    GIT = "git"
    DATA = "stored data"


class Missed(Exception):
    """There is nothing now that this fault could be done to; the message says what."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault about to be done: to whom, where, with what. `gates` holds the agents whose
    server is away; who wants to send them something waits."""

    fault: Fault
    agent: int
    world: World
    fleet: Fleet
    recorder: Recorder
    begins: Callable[..., None]
    """Called by the fault, once, just before it is done: with a sentence for people and details."""
    gates: dict[int, anyio.Event] = field(default_factory=dict)

    @property
    def session(self) -> Session:
        return self.fleet.sessions[self.agent]

    @property
    def patience(self) -> float:
        """Seconds after which a call of the target has given up waiting."""
        target = self.world.target
        return target.patience if isinstance(target, Hurries) else PATIENCE

    def server(self) -> set[int]:
        """The processes of the agent's server, without those of its calls.

        :raises Missed: if it is not up.
        """
        session = self.session
        if not session.alive or session.pid is None:
            raise Missed("the server is not up")
        return self.world.group(session.pid) & self.world.members() or {session.pid}

    def callers(self) -> set[int]:
        """The processes that are at work on calls of the agent. Of a warm start that is the fork;
        what only waits for it in the place of the program is none."""
        shims = str(self.world.shims or "\0")
        strays = self.world.strays().items()
        return {p for p, command in strays if shims not in command and agent_of(p) == self.agent}

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """For the length of a block nothing is sent to the agent's server."""
        gate = self.gates[self.agent] = anyio.Event()
        try:
            yield
        finally:
            gate.set()
            if self.gates.get(self.agent) is gate:
                del self.gates[self.agent]


Act = Callable[[Strike], AbstractAsyncContextManager[None]]
"""Says that it begins (`Strike.begins`), does it, and heals.

It may raise `Missed`, or OSError where the system does not allow it.
"""


async def undone(step: Callable[[], object]) -> None:
    """Do one step of healing, whoever cancels it, and also where another fault forbids it for a
    while: files that are locked may be read-only, too.

    :raises OSError: if it still does after `HINDERED` seconds.
    """
    with anyio.CancelScope(shield=True):
        end = anyio.current_time() + HINDERED
        while True:
            try:
                await anyio.to_thread.run_sync(step)
                return
            except OSError:
                if anyio.current_time() > end:
                    raise
            await anyio.sleep(0.05)


def everywhere(root: Path) -> str:
    """For faults that need nothing: never lacks anything."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A fault by its name.

    `needs` says in a word what it takes, `lacking` why that is not to be had for a world at this
    root ("" if it is). `seconds` is how long it lasts; a fault that is over when it is done lasts
    none. `of_agent` is false where it is done to the whole world. One that comes `inside` the calls
    needs the probe and a scheduler that decides there; the others come by time, and do not go with
    such schedulers.

    What may happen under it: calls in flight may be left unanswered always; with `refuses` they
    may also be refused, and then nobody knows what they did. With `spoils` the fault itself
    destroys state for good: nothing that is found there afterwards can be held against the
    target, but for the classification of its recovery and what the oracles named in `spares` say.
    """

    name: str
    about: str
    family: Family
    act: Act
    seconds: Callable[[Strike], float] = lambda strike: 0.0
    needs: str = ""
    lacking: Callable[[Path], str] = everywhere
    of_agent: bool = True
    refuses: bool = False
    spoils: str = ""
    spares: tuple[str, ...] = ()
    inside: bool = False
