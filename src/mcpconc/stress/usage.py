"""What processes use while lanes run: looks at everything alive in the worlds, a few times a
second, from a thread of its own. Only sums and maxima are kept, whatever the length of a phase.

A short-lived process is seen if it lives at a look; what it used before is not lost where its
server waits for its end, because the kernel adds that up there (processor time and I/O). Where
looks take long, the pauses between them grow, up to a share of one core that is never exceeded.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mcpconc import procs
from mcpconc.drive.tap import Traffic
from mcpconc.rig import Rig
from mcpconc.stress.phases import Load, Storage, Use
from mcpconc.target.base import MARKER
from mcpconc.vitals import agent_of
from mcpconc.world import World

__all__ = ["Sampler", "stored"]

LOOSE = 38
"""Characters of the file name of a loose git object."""
SHARE = 0.02
"""Of one core's time, at most this much is spent on looking."""


@dataclass(slots=True)
class _Seen:
    """One process and what it used: own processor seconds, those of children that it has waited
    for, bytes read from and written to disks (children that were waited for included)."""

    process: psutil.Process
    lane: int
    server: bool
    first: tuple[float, float, int, int]
    last: tuple[float, float, int, int]


@dataclass(slots=True)
class _Lane:
    rss: int = 0
    server_rss: int = 0
    threads: int = 0
    descriptors: int = 0


@dataclass(slots=True)
class Sampler:
    """Looks at `rigs` from `begin` to `end`. Agent a of the n-th rig is lane `lanes[n][a]`; `every`
    is the pause in seconds between two looks."""

    rigs: Sequence[Rig]
    lanes: Sequence[Mapping[int, int]]
    every: float
    growth: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Lane → (answered calls, resident bytes of its server) after each call."""
    uses: dict[int, Use] = field(default_factory=dict)
    """Lane → what it used, known at the end."""
    load: Load = field(default_factory=Load)
    storage: Storage = field(default_factory=Storage)
    """What all worlds gained, known at the end."""
    _wal: dict[int, int] = field(default_factory=dict)
    """Rig → the largest that its write-ahead logs were together."""
    _before: list[Storage] = field(default_factory=list)
    _traffic: dict[int, Traffic] = field(default_factory=dict)
    _lanes: dict[int, _Lane] = field(default_factory=dict)
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _gone: list[_Seen] = field(default_factory=list)
    _others: dict[int, int] = field(default_factory=dict)
    """Process of nobody's → times that it was looked at: a young one may become somebody's."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _times: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def begin(self) -> None:
        """Servers are known from here on, so that what they used before does not count."""
        self._before = [stored(rig.world) for rig in self.rigs]
        for rig, lanes in zip(self.rigs, self.lanes, strict=True):
            for agent, lane in lanes.items():
                self._traffic[lane] = rig.fleet.sessions[agent].metered()
        self._times = _cpu_times()
        self._look()
        self._thread = threading.Thread(target=self._go_on, name="usage", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The last look."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._look()
        self.uses = {lane: self._use(lane) for lane in sorted(self._lanes)}
        for n, (rig, before) in enumerate(zip(self.rigs, self._before, strict=True)):
            self.storage += stored(rig.world).since(before, self._wal.get(n, 0))

    def answered(self, lane: int) -> None:
        """A call of this lane came back: note how large its server is (one read of /proc)."""
        for rig, lanes in zip(self.rigs, self.lanes, strict=True):
            for agent, its in lanes.items():
                pid = rig.fleet.sessions[agent].pid if its == lane else None
                if pid is not None:
                    noted = self.growth.setdefault(lane, [])
                    resident = procs.resident(rig.world.group(pid)) * 1024
                    noted.append((len(noted) + 1, resident))

    def _go_on(self) -> None:
        pause = self.every
        while not self._stop.wait(pause):
            pause = max(self.every, self._look() / SHARE)

    def _look(self) -> float:
        """One look; the processor time that it took."""
        began = time.thread_time()
        for n, rig in enumerate(self.rigs):
            sizes = (_size(f"{path}-wal") for path in rig.world.databases.values())
            self._wal[n] = max(self._wal.get(n, 0), sum(sizes))
        now: dict[int, _Lane] = {}
        for pid in psutil.pids():
            with suppress(psutil.Error, OSError):
                self._one(pid, now)
        for lane, seen in now.items():
            most = self._lanes.setdefault(lane, _Lane())
            for name in _Lane.__slots__:
                setattr(most, name, max(getattr(most, name), getattr(seen, name)))
        times = _cpu_times()
        took = time.thread_time() - began
        self.load += _load(self._times, times, took)
        self._times = times
        return took

    def _one(self, pid: int, now: dict[int, _Lane]) -> None:
        seen = self._seen.get(pid)
        if seen is not None and not seen.process.is_running():
            self._gone.append(self._seen.pop(pid))
            seen = None
        if seen is None:
            seen = self._new(pid)
            if seen is None:
                return
            self._seen[pid] = seen
        with seen.process.oneshot():
            seen.last = _used(seen.process)
            resident = seen.process.memory_info().rss
            threads, descriptors = seen.process.num_threads(), seen.process.num_fds()
        most = now.setdefault(seen.lane, _Lane())
        most.rss += resident
        most.server_rss += resident if seen.server else 0
        most.threads += threads
        most.descriptors += descriptors

    def _new(self, pid: int) -> _Seen | None:
        """What is known of this process from now on; None if it is nobody's, or of all agents."""
        if self._others.get(pid, 0) > 1:
            return None
        root, agent = procs.variable(pid, MARKER), agent_of(pid)
        for n, rig in enumerate(self.rigs):
            if root == str(rig.world.root) and agent is not None and agent in self.lanes[n]:
                process = psutil.Process(pid)
                server = pid in rig.world.servers
                if not server and _unborn(process):
                    return None
                used = _used(process)
                first = used if server else (0.0, 0.0, 0, 0)
                return _Seen(process, self.lanes[n][agent], server, first, used)
        self._others[pid] = self._others.get(pid, 0) + 1
        return None

    def _use(self, lane: int) -> Use:
        mine = [one for one in (*self._seen.values(), *self._gone) if one.lane == lane]
        own, waited, read, written = _sum(one for one in mine if one.server)
        others, _, their_read, their_written = _sum(one for one in mine if not one.server)
        seen = self._lanes[lane]
        return Use(
            rss=seen.rss,
            server_rss=seen.server_rss,
            # Whom a server waited for is known whole; of whom nobody waited for, what was seen.
            cpu=own + max(waited, others),
            threads=seen.threads,
            descriptors=seen.descriptors,
            read=int(max(read, their_read)),
            written=int(max(written, their_written)),
            sent=self._traffic[lane].sent,
            received=self._traffic[lane].received,
        )


def stored(world: World) -> Storage:
    """What is stored in a world now: its databases, git objects, and what is called ``*.log`` or
    was said on stderr."""
    git_objects = git = logs = 0
    repository = world.target.layout.repository
    objects = f"{world.root / repository}/.git/objects" if repository is not None else ""
    for top in (world.root, world.logs):
        for directory, _, files in os.walk(top):
            inside = bool(objects) and directory.startswith(objects)
            for name in files:
                if inside:
                    git += _size(f"{directory}/{name}")
                    git_objects += len(name) == LOOSE
                elif name.endswith(".log") or top is world.logs:
                    logs += _size(f"{directory}/{name}")
    database = sum(_size(path) for path in world.databases.values())
    return Storage(database=database, logs=logs, git_objects=git_objects, git=git)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _unborn(process: psutil.Process) -> bool:
    """Whether it has not executed yet what it was forked for: its memory is still its parent's."""
    return procs.command_line(process.pid) == procs.command_line(process.ppid())


def _used(process: psutil.Process) -> tuple[float, float, int, int]:
    times, io = process.cpu_times(), process.io_counters()
    waited = times.children_user + times.children_system
    return times.user + times.system, waited, io.read_bytes, io.write_bytes


def _sum(seen: Iterable[_Seen]) -> tuple[float, float, float, float]:
    sums = [0.0, 0.0, 0.0, 0.0]
    for one in seen:
        for n, (before, after) in enumerate(zip(one.first, one.last, strict=True)):
            sums[n] += after - before
    return sums[0], sums[1], sums[2], sums[3]


def _cpu_times() -> tuple[float, float, float]:
    """All, idle and waiting processor seconds of the machine since its start."""
    times = psutil.cpu_times()
    waiting = getattr(times, "iowait", 0.0)
    # Time of guests is part of user time already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - guests, times.idle + waiting, waiting


def _load(before: tuple[float, float, float], now: tuple[float, float, float], took: float) -> Load:
    whole, idle, waiting = (b - a for a, b in zip(before, now, strict=True))
    memory = psutil.virtual_memory()
    return Load(
        seconds=whole / (psutil.cpu_count() or 1),
        capacity=whole,
        busy=max(0.0, whole - idle),
        waiting=max(0.0, waiting),
        most=max(0.0, 1 - idle / whole) if whole > 0 else 0.0,
        load=os.getloadavg()[0],
        memory=memory.total - memory.available,
        looks=1,
        looking=took,
    )
