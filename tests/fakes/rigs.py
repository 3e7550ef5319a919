"""A rig without a target: what runs show and how long they take is written down by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio.lowlevel
import pytest

from fakes.ledger import LedgerMachine
from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import Finding, Fingerprint, Judgement, Result, Run
from mcpconc.program import Program
from mcpconc.rig import Execution
from mcpconc.snapshot import Snapshot
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start
from mcpconc.trace import Trace
from samples import told

__all__ = ["Clock", "Script", "lost"]


@dataclass
class Clock:
    """Stands still until somebody moves it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """What every rig does: a run takes `seconds` of `clock`, and shows what `shows` says.

    `shows` may raise; `undecided` says what the oracle leaves open. `ran` holds
    (identity, program, scheduler, seed) of each run.
    """

    shows: Callable[[Program], Sequence[Finding]] = lambda program: ()
    undecided: Callable[[Program], Sequence[str]] = lambda program: ()
    seconds: float = 1.0
    clock: Clock = field(default_factory=Clock)
    tools: frozenset[str] = frozenset(LedgerMachine.tools)
    ran: list[tuple[str, Program, str, int]] = field(default_factory=list)
    opened: list[tuple[str, str, int]] = field(default_factory=list)
    """(target, identity, agents) of each rig."""
    starts: list[Start] = field(default_factory=list)
    """How each rig starts its calls."""
    probes: list[str | None] = field(default_factory=list)
    """What each rig has loaded into its target."""
    target: Any = None
    """The target of the last rig."""
    schedule: tuple[Any, ...] = ()
    """What each run does inside its calls, and what its scheduler remarks:"""
    remarks: Sequence[str] = ()

    def take_over(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Script:
        """Stand in for the rigs that these modules open."""
        for module in modules:
            monkeypatch.setattr(module, "rig", self.rig)
        return self

    @asynccontextmanager
    async def rig(
        self,
        target: Any,
        identity: Identity,
        agents: int,
        base: Path,
        progress: Any,
        start: Start = Start.ORDINARY,
        probe: str | None = None,
    ) -> AsyncIterator[ScriptedRig]:
        self.opened.append((target.name, identity.value, agents))
        self.starts.append(start)
        self.probes.append(probe)
        self.target = target
        yield ScriptedRig(self, identity)


@dataclass
class ScriptedRig:
    script: Script
    identity: Identity
    world: Any = field(default_factory=lambda: SimpleNamespace(root=Path("/nowhere"), control=None))

    async def schemas(self) -> dict[str, dict[str, object]]:
        return {}

    async def tools(self) -> frozenset[str]:
        return self.script.tools

    async def run(self, program: Program, scheduler: str, seed: int) -> Execution:
        script = self.script
        script.ran.append((self.identity.value, program, scheduler, seed))
        script.clock.now += script.seconds
        result = Result("effects", tuple(script.shows(program)), tuple(script.undecided(program)))
        for _ in range(10):  # as in a real run, there is time to hear a signal
            await anyio.lowlevel.checkpoint()
        calls = list(program.calls())
        history = told(program, [(c.id,) for c in calls] + [(c.id, {"ok": True}) for c in calls])
        remarks = [
            Event(
                len(history.events) + n, EventType.NOTE, -1, "", {"what": "scheduler", "text": text}
            )
            for n, text in enumerate(script.remarks)
        ]
        history = History.of((*history.events, *remarks))
        run = Run(program, history, Snapshot(), Snapshot(), None, self.identity.value)
        name = "barrier" if scheduler == "mixed" else scheduler
        judgement = Judgement((result,))
        return Execution(run, judgement, name, seed, script.seconds, script.schedule)

    def trace(self, program: Program, history: History, scheduler: str, seed: int) -> Trace:
        return Trace(
            program=program,
            history=history,
            identity=self.identity.value,
            scheduler=scheduler,
            scheduler_seed=seed,
        )


def lost(program: Program, field: str = "") -> Finding:
    """A finding that blames all concurrent calls."""
    calls = tuple(call.id for lane in program.lanes for call in lane)
    return Finding(Fingerprint("effects", "lost", "entry", field), "an entry is lost", calls=calls)
