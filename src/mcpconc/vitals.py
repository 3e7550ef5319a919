"""What is measured beside one run, without touching the target: was the client itself served in
time, what do the servers weigh, who waits for whose file lock.

Nothing is judged here. What was seen becomes notes of the history, so that oracles can judge a
saved run again:

    waits       processes that wait for file locks, and who holds these
    resources   memory of the servers, and how late the client itself was
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from mcpconc import locks, procs
from mcpconc.drive.record import Recorder
from mcpconc.drive.session import SERVER, Session
from mcpconc.history import Event, EventType

__all__ = ["Place", "Vitals", "agent_of", "waits"]

TICK = 0.05
"""Seconds between two beats of the heart."""
LOOK = 20
"""Beats between two looks at the file locks: whoever waits in two of them waits for a second."""

Edge = dict[str, Any]


class Place(Protocol):
    """What is needed of the world."""

    root: Path

    def members(self) -> set[int]: ...

    def group(self, pid: int) -> set[int]:
        """A server and what belongs to it."""
        ...


class Vitals:
    """Watches one run, of which it hears through `recorder`.

    `answered` is, by process id, the tools that this very server has answered in earlier runs;
    the tools of this run are added by `note`.
    """

    def __init__(
        self,
        place: Place,
        sessions: Sequence[Session],
        recorder: Recorder,
        answered: dict[int, set[str]],
    ) -> None:
        self._place = place
        self._sessions = sessions
        self._recorder = recorder
        self._answered = answered
        self._late = 0.0
        self._tools: dict[str, str] = {}
        self._calls: dict[int, list[str]] = {}
        self._baseline: dict[int, tuple[int, int]] = {}
        self._flying: set[str] = set()
        self._flew: set[str] = set()
        self._seen: list[Edge] = []
        self._noted: list[list[Edge]] = []
        recorder.heard = self.hear

    async def serve(self) -> None:
        """Beat until cancelled: a beat that comes late was not served, and nor were answers."""
        beats = 0
        while True:
            due = anyio.current_time() + TICK
            await anyio.sleep_until(due)
            self._late = max(self._late, anyio.current_time() - due)
            beats += 1
            if beats % LOOK == 0:
                await self.look()

    async def look(self, patient: bool = True) -> None:
        """Note who waits for file locks, if a call was in flight for the whole time since the
        last look, or was given up. Short waits are what locks are for, so a `patient` look
        notes only what the last one saw as well."""
        now: list[Edge] = []
        if self._flying & self._flew if patient else self._flying:
            listed = await anyio.to_thread.run_sync(locks.listed)
            now = waits(self._place, listed)
        if now and (not patient or now == self._seen) and now not in self._noted:
            self._noted.append(now)
            self._recorder.note("waits", edges=now)
        self._seen, self._flew = now, set(self._flying)

    def hear(self, event: Event) -> None:
        """The first answer of an agent is where its growth is counted from: by then its server
        has let go of what it kept for the last run, and has read the new world."""
        if event.type is EventType.INVOKE:
            self._tools[event.call] = event.value["tool"]
            self._flying.add(event.call)
        elif event.type is EventType.FAIL:
            self._flying.discard(event.call)
        elif event.type is EventType.OK:
            self._flying.discard(event.call)
            self._calls.setdefault(event.agent, []).append(self._tools[event.call])
            pid = self._sessions[event.agent].pid
            if event.agent not in self._baseline and pid is not None:
                self._baseline[event.agent] = (pid, procs.resident(self._place.group(pid)))

    def note(self) -> None:
        """Note the resources; called once, when the world is at rest.

        ``memory`` is, for each agent that was answered and whose server is still the same, KiB
        after the first answer and now. ``warm`` says of which tools of this run this very
        server had answered one before the run.
        """
        memory, warm = {}, {}
        for agent, (pid, first) in sorted(self._baseline.items()):
            session = self._sessions[agent]
            if session.pid != pid or not session.alive:
                continue
            known = self._answered.setdefault(pid, set())
            tools = set(self._calls[agent])
            memory[str(agent)] = [first, procs.resident(self._place.group(pid))]
            warm[str(agent)] = sorted(tools & known)
            known |= tools
        self._recorder.note("resources", late=round(self._late, 3), memory=memory, warm=warm)


def waits(place: Place, listed: Sequence[locks.Lock]) -> list[Edge]:
    """Who of the world waits for a file lock: process, path below the root, holders."""
    if not any(lock.waits for lock in listed):
        return []
    members = place.members()
    edges = []
    for lock in listed:
        if not lock.waits or lock.pid not in members:
            continue
        path = locks.open_inodes(lock.pid).get(lock.inode, "")
        held_by = {other.pid for other in listed if other.number == lock.number and not other.waits}
        edges.append(
            {
                **who(lock.pid),
                "path": below(place.root, path),
                "held_by": [who(pid) for pid in sorted(held_by)],
            }
        )
    return sorted(edges, key=lambda edge: (edge["pid"], edge["path"]))


def who(pid: int) -> Edge:
    """A process as evidence; `agent` is None where none of the world's servers started it."""
    return {"pid": pid, "agent": agent_of(pid), "command": procs.command_line(pid)}


def agent_of(pid: int) -> int | None:
    """Whose server this process is, or was started by."""
    agent = procs.variable(pid, SERVER).partition(".")[0]
    return int(agent) if agent.isdecimal() else None


def below(root: Path, path: str) -> str:
    """A path as seen from the root of the world."""
    return path.removeprefix(f"{root}/")
