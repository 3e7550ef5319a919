"""Worlds: made once, put back between runs at the same path, torn down.

Starting a server takes over a second and restoring a world a few hundredths, so servers stay up
between runs. That is safe only when nothing of the last run is still at work, which is proven
and not waited for: see `World.quiesce`.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from mcpconc import locks, procs, readback, tree
from mcpconc.errors import InvariantError, TargetError, UsageError
from mcpconc.schedule.control import Control
from mcpconc.schedule.probe import environment
from mcpconc.snapshot import Snapshot
from mcpconc.target.base import (
    CALL_SECONDS,
    MARKER,
    REST_SECONDS,
    Identity,
    Launch,
    Light,
    Limited,
    Paces,
    Resets,
    Rests,
    Target,
)
from mcpconc.target.warm import shimmed

__all__ = ["ProbeMode", "World", "world"]

ProbeMode = Literal["control", "observe"]
"""What the probe in the target's processes does: stop them where a scheduler wants to choose, or
count."""

_LOOK_EVERY = 0.01
"""Seconds between two looks at the processes while somebody is at work."""
_LOOK_AGAIN = 0.002
"""Seconds until the look that confirms that nobody is; a look costs less than a millisecond, and
each run has five of them."""
_MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""
_ROOM = 512 * 2**20
"""Bytes that must be free there."""
STRETCH = 4.0
"""How much longer limits are where processes are stopped on purpose: agents take turns then, and
what one call does waits for what the others do."""
_SHORT = 0.5
"""Seconds that are given to those who had the whole time before."""
_OVERTIME = 4
"""How many times `rest_timeout` quiescence takes at most, however many end one by one."""


class World:
    """One isolated instance of a target's state, at `root`.

    `servers` are the process ids of servers that stay up between runs: whoever starts one adds
    it (see `adopt`), and takes it out when it has ended. `before` is what the template holds.
    `logs` is a directory for what belongs to a world but not to its state (stderr of servers);
    it is not put back.
    """

    def __init__(self, target: Target, identity: Identity, root: Path) -> None:
        """Use `World.make`."""
        self.target = target
        self.identity = identity
        # Servers resolve links in the paths that they are given.
        self.root = Path(os.path.realpath(root))
        self.servers: set[int] = set()
        self.shims: Path | None = None  # see `target.warm`
        self.control: Control | None = None  # see `watched`
        self.probe: ProbeMode | None = None
        self.before = Snapshot()
        self.logs = self.root.with_name(f"{self.root.name}.logs")
        self._template = self.root.with_name(f"{self.root.name}.template")
        self._manifest: tree.Manifest = {}
        self._census = procs.Census(MARKER, str(self.root))
        self._groups: dict[int, set[int]] = {}
        self._restless: frozenset[int] = frozenset()

    @classmethod
    async def make(cls, target: Target, identity: Identity, root: Path) -> World:
        """Prepare a world at `root`, which must not exist or be empty, and its template beside
        it (``ROOT.template``, ``ROOT.logs``).

        :raises UsageError: if the directory is in use or cannot be written.
        :raises TargetError: if the target cannot be prepared.
        """
        self = cls(target, identity, root)
        await anyio.to_thread.run_sync(self._claim)
        try:
            await target.prepare(self.root)
            if not await self.quiesce(60.0):
                raise TargetError(
                    f"{target.name}: still at work a minute after it was prepared: {self.busy()}"
                )
            await anyio.to_thread.run_sync(self._keep_template)
            self.before = await self.snapshot()
            await self.restore()
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def databases(self) -> dict[str, Path]:
        """Name → absolute path; the first is the one that writers contend for."""
        return {name: self.root / path for name, path in self.target.layout.databases.items()}

    @property
    def call_seconds(self) -> float:
        """Seconds that a call of the target takes as a rule."""
        return self.target.call_seconds if isinstance(self.target, Paces) else CALL_SECONDS

    def launch(self, agent: int, agents: int) -> Launch:
        """How to start the server of one agent in this world."""
        launch = self.target.launch(self.root, agent, agents, self.identity)
        launch = shimmed(launch, self.shims)
        if self.control is None or self.probe is None:
            return launch
        env = environment(self.probe, self.control.address, agent, launch.env)
        return replace(launch, env=env | self._stretched(launch.env))

    @property
    def stretch(self) -> float:
        """How much longer the target's own limits are than they would be, and so the time must be
        after which a client gives up."""
        limited = isinstance(self.target, Limited) and bool(self.target.variables)
        return STRETCH if self.probe == "control" and limited else 1.0

    def _stretched(self, env: Mapping[str, str]) -> dict[str, str]:
        if self.stretch == 1.0 or not isinstance(self.target, Limited):
            return {}
        limits = {
            name: _seconds(env.get(name, ""), least)
            for name, least in self.target.variables.items()
        }
        return {name: f"{math.ceil(seconds * STRETCH)}" for name, seconds in limits.items()}

    @asynccontextmanager
    async def watched(self, probe: ProbeMode | None) -> AsyncIterator[None]:
        """For the length of a block, servers that are started load the probe and report to
        `control`; with None nothing happens.

        :raises TargetError: if nothing can be reported here.
        """
        if probe is None:
            yield
            return
        async with Control.open(self.logs) as control:
            self.control, self.probe = control, probe
            if isinstance(self.target, Limited):
                control.tolerance = self.target.tolerance
            try:
                yield
            finally:
                self.control = self.probe = None

    # -- processes -----------------------------------------------------------------------------

    def adopt(self, pid: int) -> None:
        """Count `pid` and what it has started so far (a launcher's server) as an idle server.
        Call it when the server has answered `initialize` and nothing else was sent."""
        self._groups[pid] = {pid} | (procs.descendants(pid) & self.members())
        self.servers |= self._groups[pid]

    def discard(self, pid: int) -> None:
        """Take out a server that has ended, with what was adopted with it and has ended too."""
        self._groups.pop(pid, None)
        self.servers.discard(pid)
        self.servers &= self.members()

    def group(self, pid: int) -> set[int]:
        """An adopted server and what was adopted with it."""
        return self._groups.get(pid, set())

    def members(self) -> set[int]:
        """Process ids of everything alive in this world."""
        return self._census.pids()

    def strays(self) -> dict[int, str]:
        """Who is alive and no known server: process id → command line."""
        return {pid: procs.command_line(pid) for pid in self.members() - self.servers}

    def busy(self) -> dict[int, str]:
        """Who is at work now: process id → command line (empty while it is being started).
        Nobody is if there is no entry."""
        alive = self.members()
        idle = {pid for pid in alive & self.servers if not procs.at_work(pid)}
        # Who is just being started could be anybody's, and becomes known at the next look.
        at_work = (alive - idle) | self._census.unsettled
        return {pid: procs.command_line(pid) for pid in at_work}

    def waiting(self) -> int:
        """How many calls are asleep in SQLite's busy handler now: those that are processes of
        their own, and those that are threads of a server."""
        asleep = procs.asleep_in_busy_handler(self.members())
        # What a call's process does beside its call is not another call.
        return sum(n if pid in self.servers else 1 for pid, n in asleep.items())

    def cpu_seconds(self) -> float:
        """Processor time of the living processes and of those that they have waited for."""
        return procs.cpu_seconds(self.members())

    @property
    def rest_timeout(self) -> float:
        """Seconds without progress after which `quiesce` gives up."""
        return self.target.rest_timeout if isinstance(self.target, Rests) else REST_SECONDS

    async def quiesce(self, timeout: float | None = None) -> bool:
        """Wait until two looks in a row find nobody at work; False if `timeout` seconds are not
        enough. Without `timeout` it is `rest_timeout` seconds since the last time that a
        process ended, because a queue of detached workers is progress; and a moment if nobody
        is at work but those who would not rest the last time.

        At work is every process of the world, detached ones included, except a known server of
        which all threads sleep: a thread that has something to read or to do is runnable. Two
        looks, because a process list is not read in one instant: a process may start while
        another, seen idle before, hands over to it. What a server does on a timer of its own
        is not seen.
        """
        calm = 0
        before: set[int] = set()
        began = since = anyio.current_time()
        while True:
            busy = set(self.busy())
            calm = 0 if busy else calm + 1
            if calm == 2:
                self._restless = frozenset()
                return True
            now = anyio.current_time()
            if timeout is not None:
                if now - began >= timeout:
                    return False
            else:
                if before - busy - self.servers:
                    since = now
                before = busy
                known = bool(busy) and busy <= self._restless
                patience = min(_SHORT, self.rest_timeout) if known else self.rest_timeout
                if now - since >= patience or now - began >= _OVERTIME * self.rest_timeout:
                    self._restless = frozenset(busy)
                    return False
            await anyio.sleep(_LOOK_AGAIN if calm else _LOOK_EVERY)

    def holders(self) -> dict[int, str]:
        """Servers that keep one of the world's databases open: process id → database. They
        must be restarted before `restore`, or they would go on with the deleted file."""
        paths = {
            f"{path}{suffix}": name
            for name, path in self.databases.items()
            for suffix in ("", *locks.SIDE_FILES)
        }
        found = {}
        for pid in self.servers:
            for path in procs.open_files(pid):
                if path in paths:
                    found[pid] = paths[path]
        return found

    # -- state ---------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        """Read the state back."""
        return await readback.read(self.root, self.target.layout)

    async def restore(self) -> None:
        """Put the template back. Directories stay the same (servers have them as working
        directory), files become new ones; databases go together with their side files.

        :raises InvariantError: if something is still at work, a server keeps a database open,
            or the result is not equal to the template.
        """
        if not await self.quiesce(1.0):
            raise InvariantError(f"{self.root}: put back while at work: {self.busy()}")
        if holders := self.holders():
            raise InvariantError(f"{self.root}: put back while servers have it open: {holders}")
        await anyio.to_thread.run_sync(self._put_back)
        if isinstance(self.target, Resets):
            await self.target.reset(self.root)

    async def kill_strays(self) -> set[int]:
        """Kill every process of the world but its servers; gives those that are still alive."""
        return await procs.kill_all(self._census, spare=self.servers)

    async def kill(self) -> set[int]:
        """Kill every process of the world, servers too; gives those that are still alive."""
        self.servers.clear()
        self._groups.clear()
        return await procs.kill_all(self._census)

    async def close(self) -> None:
        """Kill what is alive and delete everything; also when cancelled, and bounded."""
        with anyio.CancelScope(shield=True):
            await self.kill()
            for path in (self.root, self._template, self.logs):
                await _remove(path)

    def _claim(self) -> None:
        try:
            for path in (self.root, self._template, self.logs):
                path.mkdir(parents=True, exist_ok=True)
                if any(path.iterdir()):
                    raise UsageError(f"{path}: not empty; a world needs a directory of its own")
            self._template.rmdir()
        except OSError as error:
            raise UsageError(f"{self.root}: {error.strerror}; a world cannot be made") from error

    def _keep_template(self) -> None:
        shared = {f"{path}-shm" for path in self.target.layout.databases.values()}
        # The index of a write-ahead log is made anew from the log when it is missing.
        tree.copy(self.root, self._template, skip=shared.__contains__)
        self._manifest = tree.manifest(self._template)

    def _put_back(self) -> None:
        tree.put_back(self._template, self.root)
        wrong = tree.difference(tree.manifest(self.root), self._manifest)
        if wrong:
            raise InvariantError(
                f"{self.root}: not as its template: {wrong[0]} ({len(wrong)} in all)"
            )


@asynccontextmanager
async def world(
    target: Target, identity: Identity, root: Path | None = None
) -> AsyncIterator[World]:
    """A world for the length of a block, in a temporary directory if `root` is not given."""
    async with AsyncExitStack() as stack:
        if root is None:
            parent = await anyio.to_thread.run_sync(
                partial(tempfile.mkdtemp, prefix="mcpconc-", dir=_parent(target))
            )
            stack.push_async_callback(_remove, Path(parent))
            root = Path(parent) / "world"
        made = await World.make(target, identity, root)
        stack.push_async_callback(made.close)
        yield made


def _seconds(text: str, otherwise: float) -> float:
    """What a variable is set to."""
    try:
        return float(text)
    except ValueError:
        return otherwise


def _parent(target: Target) -> Path | None:
    """Where a temporary world is made: in memory if the target likes that and there is room,
    else (None) wherever temporary files are."""
    if not isinstance(target, Light) or not target.in_memory:
        return None
    try:
        room = os.statvfs(_MEMORY)
    except OSError:
        return None
    enough = room.f_bavail * room.f_frsize >= _ROOM
    return _MEMORY if enough and os.access(_MEMORY, os.W_OK | os.X_OK) else None


async def _remove(path: Path) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(tree.remove, path)
