"""The other end of the probe: a Unix socket at which the target's threads say where they stand.

A `Control` lives as long as the servers that were told of it. Nobody waits there except while a
`Pilot` has taken over: then a thread stands at its point until it is let go. Without one a thread
is told that it need not tell, except where its process holds a lock, until there is one: to tell
costs a call as much again as its own work. When the controller goes, connections end, and threads
run on by themselves.
"""

from __future__ import annotations

import math
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc
import orjson

from mcpconc.errors import TargetError
from mcpconc.schedule.conflicts import Access, Learned, Pairs, effective
from mcpconc.schedule.counts import Costs, Report
from mcpconc.schedule.points import Point

__all__ = ["Control", "Pilot", "Thread"]

GO, KILL, MUTE, UNMUTE = b"g\n", b"k\n", b"m\n", b"u\n"
LONGEST = 100
"""Characters of a path that every Unix takes for a socket's address."""
WAITED = 0.001
"""Seconds from which a refused lock was waited for: SQLite's first sleep is that long."""
LAST_WORDS = 0.5
"""Seconds at most that servers, which have ended as a rule, are listened to at the end."""
SOON = 0.01
LARGEST = 2**20
"""Bytes of a line; a longer one is no message of a probe."""


@dataclass(slots=True, eq=False)
class Thread:
    """One thread of the target, as long as its connection lasts. `point` is where it stands,
    None while it moves. `released` is set from when a pilot lets it go until it stands again or
    is known not to be at work. `waits` says what it is known to wait for meanwhile, if anything."""

    pid: int
    ppid: int
    tid: int
    agent: int
    name: str
    raw: socket.socket
    point: Point | None = None
    access: Access = field(default_factory=Access)
    unseen: dict[str, set[str]] = field(default_factory=dict)
    holds: frozenset[str] = frozenset()
    ordinal: int = 0
    released: bool = False
    waits: str = ""
    muted: bool = False
    """Whether it was told that it need not tell."""
    last: Point | None = None
    """Where it was let go."""
    stands_since: float = 0.0
    began: int = 0
    """When its process began, in nanoseconds of the monotonic clock."""
    server: bool = False
    """Whether its process is a server, and not started for a call."""
    family: tuple[int, frozenset[int]] = (0, frozenset())
    """What it had started when it was let go."""

    def __str__(self) -> str:
        return f"{self.name} (agent {self.agent}, process {self.pid})"


class Pilot(Protocol):
    """Who decides, while he has taken over."""

    def stands(self, thread: Thread) -> None:
        """It has come to a point and waits."""
        ...

    def gone(self, thread: Thread) -> None:
        """It has ended, and so may have its process."""
        ...


class Control:
    """Use `Control.open`. What it has learned of the target stays for as long as it lives."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self.threads: set[Thread] = set()
        self.learned = Learned()
        self.pairs = Pairs()
        self.lengths: dict[tuple[tuple[str, ...], ...], int] = {}
        """Steps of the last run of each shape of program (tools by lane)."""
        self.points = 0
        """How many were reported so far."""
        self.costs = Costs()
        """What was counted so far (probe in observe mode)."""
        self.tolerance = math.inf
        """Seconds for which a thread can stand before a limit of the target's own passes."""
        self.remarks: list[str] = []
        """What came of the target's own limits since a pilot took over: waits for locks that were
        given up, and who stood for longer than `tolerance`."""
        self.expired: list[Mapping[str, Any]] = []
        """The waits among them, as plain data."""
        self.faults: list[str] = []
        """What was said that no probe says."""
        self._pilot: Pilot | None = None
        self._event = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[Control]:
        """Listen in `directory`, or elsewhere where its path is too long.

        :raises TargetError: if no socket can be made.
        """
        with tempfile.TemporaryDirectory(prefix="mcpconc-") as short:
            address = directory / "control"
            if len(os.fsencode(address)) > LONGEST:
                address = Path(short) / "control"
            self = cls(address)
            try:
                listener = await anyio.create_unix_listener(address, backlog=512)
            except OSError as error:
                raise TargetError(
                    f"no socket for the probe at {address}: {error.strerror or error}"
                ) from error
            async with listener, anyio.create_task_group() as connections:
                connections.start_soon(listener.serve, self._serve)
                try:
                    yield self
                finally:
                    self._pilot = None
                    await self._last_words()
                    connections.cancel_scope.cancel()
                    with suppress(OSError):
                        address.unlink()

    async def _last_words(self) -> None:
        """Hear what processes that have ended by now said at their end."""
        with anyio.move_on_after(LAST_WORDS, shield=True):
            await anyio.sleep(SOON)  # who connected has not been heard of yet
            while any(thread.server for thread in self.threads):
                await anyio.sleep(SOON)

    # -- for pilots ----------------------------------------------------------------------------

    def take(self, pilot: Pilot) -> None:
        """From now on threads stand until `pilot` lets them go."""
        self._pilot = pilot
        self.remarks.clear()
        self.expired.clear()
        for thread in self.threads:
            _rest(thread)
            if thread.muted:
                thread.muted = False
                self._send(thread, UNMUTE)

    def leave(self) -> None:
        """Everybody goes on freely."""
        self._pilot = None
        for thread in list(self.threads):
            if thread.point is not None:
                self.go(thread)
            _rest(thread)
        self.poke()

    def of(self, agent: int) -> list[Thread]:
        """The threads of one agent, oldest first."""
        found = [thread for thread in self.threads if thread.agent == agent]
        return sorted(found, key=lambda thread: (thread.ordinal, thread.pid, thread.tid))

    def go(self, thread: Thread, kill: bool = False, skip: Iterable[str] = ()) -> None:
        """Let a thread go on; or have its process kill itself. Of what touches nothing but `skip`
        (``r:OBJECT``, ``w:OBJECT``) its process need not tell from now on."""
        if thread.point is not None and thread.point.frees:
            self._holds(thread.pid, thread.holds - {thread.point.frees})
        self._stood(thread)
        thread.last, thread.point = thread.point, None
        thread.released, thread.waits = True, ""
        told = sorted(skip)
        answer = b"g %b\n" % orjson.dumps({"skip": told}) if told else GO
        self._send(thread, KILL if kill else answer)

    def poke(self) -> None:
        """Wake who waits for something to have happened."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Until a thread has come to a point or ended, or `poke`; False if there was nothing for
        `timeout` seconds. What happened since the last `wait` counts."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
        happened = self._event.is_set()
        if happened:
            self._event = anyio.Event()
        return happened

    # -- the wire ------------------------------------------------------------------------------

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        thread: Thread | None = None
        rest = b""
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        try:
            async with stream:
                while True:
                    rest += await stream.receive()
                    *lines, rest = rest.split(b"\n")
                    for line in lines:
                        thread = self._said(orjson.loads(line), thread, raw)
                    if len(rest) > LARGEST:
                        raise ValueError("a line without end")
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Its connection ends, and so it runs on freely.
            self.faults.append(f"{thread or 'somebody'}: {error}"[:200])
        finally:
            if thread is not None:
                self.threads.discard(thread)
                thread.released, thread.point = False, None
                if self._pilot is not None:
                    self._pilot.gone(thread)
                self.poke()

    def _said(self, message: Any, thread: Thread | None, raw: socket.socket) -> Thread | None:
        if "hello" in message:
            said = message["hello"]
            pid, ppid, tid = int(said["pid"]), int(said["ppid"]), int(said["tid"])
            thread = Thread(pid, ppid, tid, int(said["agent"]), str(said["name"]), raw)
            thread.began, thread.server = int(said.get("began", 0)), bool(said.get("server"))
            self.threads.add(thread)
            return thread
        if thread is None:
            raise ValueError("it did not say who it is")
        if "at" in message:
            self._at(thread, Point.from_json(message["at"]))
        elif "expired" in message:
            self._expired(thread, message["expired"])
        elif "counts" in message:
            self.costs.heard(_report(thread, message))
        return thread

    def _expired(self, thread: Thread, said: Mapping[str, Any]) -> None:
        lock, label, waited = str(said["lock"]), str(said["label"]), int(said["waited"]) / 1e9
        if waited < WAITED or self._pilot is None:
            return  # refused at once: it never waited
        self.expired.append(
            {"agent": thread.agent, "command": thread.name, "path": lock, "label": label}
        )
        self.remarks.append(
            f"agent {thread.agent} waited for the lock of {lock} before {label!r} and gave up "
            f"after {waited:.1f} s"
        )

    def _stood(self, thread: Thread) -> None:
        stood = anyio.current_time() - thread.stands_since
        if thread.point is not None and self._pilot is not None and stood > self.tolerance:
            self.remarks.append(
                f"agent {thread.agent} stood for {stood:.0f} s before {thread.point.label!r}: a "
                "limit of the target's own may have passed"
            )

    def _send(self, thread: Thread, line: bytes) -> None:
        with suppress(OSError):  # it has died; its hang-up is on the way
            thread.raw.send(line)

    def _holds(self, pid: int, holds: frozenset[str]) -> None:
        """What a process holds is said by whichever of its threads spoke last."""
        for thread in self.threads:
            if thread.pid == pid:
                thread.holds = holds

    def _at(self, thread: Thread, point: Point) -> None:
        self.points += 1
        thread.access = effective(point, thread.unseen)
        self._holds(thread.pid, point.holds)
        if self._pilot is None:
            thread.muted = True
            self._send(thread, MUTE)
            return
        thread.point, thread.released, thread.waits = point, False, ""
        thread.stands_since = anyio.current_time()
        self._pilot.stands(thread)
        self.poke()


def _report(thread: Thread, message: Mapping[str, Any]) -> Report:
    return Report(
        thread.agent,
        thread.pid,
        thread.ppid,
        thread.began,
        thread.server,
        int(message.get("since", 0)),
        int(message.get("until", 0)),
        {str(name): int(value) for name, value in message["counts"].items()},
    )


def _rest(thread: Thread) -> None:
    """It is nobody's business now; what it held when it last stood, it may have let go of."""
    thread.released, thread.waits, thread.ordinal, thread.holds = False, "", 0, frozenset()
