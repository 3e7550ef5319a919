"""Fake servers, and the little world around them that drives need."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.history import Answer, History, Outcome
from mcpconc.program import Call, Program
from mcpconc.schedule import Scheduler, make
from mcpconc.target.base import MARKER, Identity, Launch, Layout

SERVER = Path(__file__).with_name("server.py")


@dataclass
class FakeTarget:
    """Starts ``server.py``; `modes` are by agent, the last one for all others."""

    modes: Sequence[str] = ("good",)
    call_timeout: float = 20.0
    argv: tuple[str, ...] = ()
    name: str = "fake"
    version: str = "0"
    layout: Layout = field(default_factory=Layout)
    spec: None = None
    identities: Sequence[Identity] = (Identity.EXPLICIT,)

    async def install(self, progress: Any) -> None: ...

    async def prepare(self, root: Path) -> None: ...

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        mode = self.modes[min(agent, len(self.modes) - 1)]
        argv = self.argv or (sys.executable, "-S", str(SERVER), *mode.split())
        return Launch(argv, {MARKER: str(root), "PATH": os.defpath}, root)

    def interpret(self, tool: str, text: str) -> Answer:
        try:
            data = json.loads(text)
        except ValueError:
            return Answer(Outcome.GARBLED, {})
        if data.get("timed_out"):
            return Answer(Outcome.REFUSED, data, unknown="target-timeout")
        return Answer(Outcome.SUCCESS if data.get("ok") else Outcome.REFUSED, data)


class FakeWorld:
    """A directory with servers in it and no state; what a scheduler sees is set by the test."""

    def __init__(self, root: Path, target: FakeTarget | None = None) -> None:
        self.root = root
        self.target = target or FakeTarget()
        self.databases: dict[str, Path] = {}
        self.asleep = 0
        self.control = None
        self.call_seconds = 1.0
        self.servers: set[int] = set()

    def launch(self, agent: int, agents: int) -> Launch:
        return self.target.launch(self.root, agent, agents, Identity.EXPLICIT)

    def adopt(self, pid: int) -> None:
        self.servers.add(pid)

    def discard(self, pid: int) -> None:
        self.servers.discard(pid)

    def waiting(self) -> int:
        return self.asleep

    async def quiesce(self) -> None: ...

    def processes(self) -> list[int]:
        """What is alive with the marker of this world."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == str(self.root):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def left(self) -> list[int]:
        """What is still alive once those that were killed had ten seconds to be gone: the
        kernel takes its time, more so on a busy machine."""
        for _ in range(200):
            if not self.processes():
                break
            time.sleep(0.05)
        return self.processes()


@asynccontextmanager
async def fleet(
    root: Path, *modes: str, agents: int = 0, call_timeout: float = 20.0, **options: Any
) -> AsyncIterator[tuple[Fleet, FakeWorld]]:
    """Fake servers that are up, one per mode or `agents` of them."""
    world = FakeWorld(root, FakeTarget(modes or ("good",), call_timeout))
    async with Fleet.open(world, agents or len(modes) or 1, root / "stderr", **options) as up:
        yield up, world


_runs = itertools.count()


async def run(
    up: Fleet, world: FakeWorld, program: Program, scheduler: Scheduler | None = None
) -> History:
    """One run with nothing special about it, recorded in the world's directory."""
    with Recorder(world.root / f"history-{next(_runs)}.jsonl") as recorder:
        return await up.run(
            program, scheduler or make("barrier", 0), recorder, world, world.quiesce
        )


def call(name: str, tool: str = "echo", agent: int = 0, **args: Any) -> Call:
    """A call whose token is its name."""
    return Call(name, agent, tool, args, token=args.get("token", ""))


def alone(*calls: Call, agents: int = 1, inflight: int = 1) -> Program:
    """A program of one lane."""
    return Program(agents, lanes=(calls,), inflight=inflight)
