"""What is left when a run is over: processes, locks, servers that answer nobody.

It is looked at once, after the suffix, and noted (``oracle/liveness.py`` judges):

    aftermath   did the world come to rest; if not, who is still at work; if so, what is locked
    asked       what a server said that had left its last call unanswered

Where all is well it costs one empty transaction per database, a walk over ``.git`` and a look at
what the servers have open: about 2 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc import locks
from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.drive.session import Session
from mcpconc.target.base import Answers
from mcpconc.vitals import Vitals, below, who
from mcpconc.world import World

__all__ = ["Aftermath", "lock_files"]

PATIENCE = 0.5
"""Seconds for which a lock is tried before it counts as left behind."""
ASK_TIMEOUT = 30.0
"""Seconds at most for each answer of a server that seems stuck."""


@dataclass(slots=True)
class Aftermath:
    """Watches one run (`mcpconc.drive.runner.Watch`) and looks at what it left. `quiescent` is
    known afterwards. Make it when the world is as its template and at rest."""

    world: World
    fleet: Fleet
    recorder: Recorder
    vitals: Vitals
    quiescent: bool = False
    _before: frozenset[str] = field(init=False)
    _held: frozenset[tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._before = frozenset(lock_files(self._git()))
        self._held = frozenset(self._holding())

    async def serve(self) -> None:
        await self.vitals.serve()

    async def afterwards(self) -> None:
        """Wait for rest, look, note."""
        self.quiescent = await self.world.quiesce()
        await self.vitals.look(patient=False)
        if self.quiescent:
            left = await anyio.to_thread.run_sync(partial(self._locks, self.world.members()))
        else:
            left = {"strays": [who(pid) for pid in sorted(self.world.strays())]}
        self.recorder.note("aftermath", quiescent=self.quiescent, **left)
        silent = self._silent()
        if silent:
            await self._ask(silent)
            self.quiescent = await self.world.quiesce() and self.quiescent
        self.vitals.note()

    def _locks(self, pids: set[int]) -> dict[str, Any]:
        """What is locked although nobody is at work; nothing where all is well."""
        left: dict[str, Any] = {}
        databases = self.world.databases
        tried = {name: locks.stays_locked(path, PATIENCE) for name, path in databases.items()}
        if any(tried.values()):
            listed = locks.listed()
            left["databases"] = {
                name: [who(pid) for pid in sorted(locks.holders(databases[name], listed))]
                for name, locked in tried.items()
                if locked
            }
        files = [name for name in lock_files(self._git()) if name not in self._before]
        if files:
            left["lock_files"] = files
        held = sorted(self._holding(pids) - self._held)
        if held:
            left["held"] = [{**who(pid), "path": path} for pid, path in held]
        return left

    def _holding(self, pids: set[int] | None = None) -> set[tuple[int, str]]:
        """(pid, path) of file locks held in the world, SQLite's on known databases left out."""
        sqlite = {
            f"{path}{suffix}"
            for path in self.world.databases.values()
            for suffix in ("", *locks.SIDE_FILES)
        }
        root = self.world.root
        return {
            (pid, below(root, path))
            for pid in (self.world.servers if pids is None else pids)
            for path in locks.held(pid, root)
            if path not in sqlite
        }

    def _git(self) -> Path | None:
        repository = self.world.target.layout.repository
        return None if repository is None else self.world.root / repository / ".git"

    def _silent(self) -> list[Session]:
        """Sessions that are up, gave up their last call and have answered none sent later."""
        if not any(e.value.get("why") == "timeout" for e in self.recorder.events):
            return []
        lost: dict[int, bool] = {}
        for op in self.recorder.history().operations:
            if op.why == "timeout" and not op.answered:
                lost[op.agent] = True
            elif op.answered:
                lost[op.agent] = False
        return [s for s in self.fleet.sessions if s.alive and lost.get(s.agent)]

    async def _ask(self, sessions: Sequence[Session]) -> None:
        target = self.world.target
        question = target.question if isinstance(target, Answers) else None
        timeout = min(ASK_TIMEOUT, self.fleet.call_timeout)

        async def ask(session: Session) -> None:
            said = await session.ask(question, timeout)
            text = "; ".join(f"{what}: {answer}" for what, answer in said.items())
            self.recorder.note("asked", session.agent, said=said, seconds=timeout, text=text)

        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(ask, session)


def lock_files(git: Path | None) -> list[str]:
    """``*.lock`` below a ``.git`` directory, relative to it: git locks a ref, an index or a
    configuration by making such a file, and whoever finds one gives up."""
    if git is None:
        return []
    return sorted(_lock_files(str(git)))


def _lock_files(git: str) -> Iterator[str]:
    for directory, below_it, files in os.walk(git):
        if os.path.basename(directory) == "objects":
            # Objects are written under names that nobody waits for.
            below_it[:] = [name for name in below_it if name in ("info", "pack")]
        for name in files:
            if name.endswith(".lock"):
                yield os.path.relpath(os.path.join(directory, name), git)
