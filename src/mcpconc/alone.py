"""The sequential runs that a concurrent one is compared with where the target is its own model.

After each concurrent run an `Inquiry` makes sequential runs of the same calls in fresh worlds, as
few as settle the question, and notes them in the history, where the oracle `self` finds them,
now and whenever the trace is checked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from mcpconc import trace as traces
from mcpconc.cuts import overlaps, sequence
from mcpconc.drive.record import NOBODY
from mcpconc.history import Event, EventType, History, Phase
from mcpconc.lineup.compare import Alone, Comparison
from mcpconc.lineup.observe import observe
from mcpconc.lineup.orders import Order, fits
from mcpconc.lineup.same import Volatile
from mcpconc.oracle import ORACLES, SELF
from mcpconc.oracle.base import Run
from mcpconc.oracle.itself import ALONE, VOLATILE, note_of
from mcpconc.program import Call
from mcpconc.rig import Rig
from mcpconc.verdict import Verdict

__all__ = ["Inquiry", "its_own_model"]


PAUSE = 1.1
"""Seconds; longer than what is the same in points in time that are told in seconds."""

LARGE = "not compared: the program has too many orders"
BUSY = "not compared: the world did not come to rest"
LATE = "there was no time to see every order refuted on servers that were just started"

REMEMBERED = 8
"""Programs whose sequential runs are remembered: minimising comes back to few."""


def its_own_model(on: Rig, volatile: Volatile) -> None:
    """From now on, judge the runs of this rig by its target alone."""
    on.inquire = Inquiry(volatile=volatile)
    on.oracles = (*ORACLES, SELF)


@dataclass(slots=True)
class Inquiry:
    """Compares runs with sequential ones. At most `runs` of those are made for one concurrent
    run, and none is begun after `seconds`; then the verdict is what is known by then.

    What was learned to be volatile stays so for all later runs.

    A violation is believed only after one more sequential run, `pause` seconds later and on
    servers that were started for it. It is a twin of earlier ones, and so it teaches which
    fields stay the same for a second, or for as long as a server remembers, and no longer.
    """

    runs: int = 1000
    seconds: float = 300.0
    volatile: Volatile = field(default_factory=Volatile)
    pause: float = PAUSE
    clock: Callable[[], float] = time.monotonic
    made: int = 0
    """Sequential runs so far."""
    _known: dict[str, _Remembered] = field(default_factory=dict)

    async def __call__(self, on: Rig, run: Run) -> Run:
        """The run with its notes, and without a specification: the target is its own.

        :raises TargetError: if a server that died does not come up again.
        """
        run = replace(run, spec=None)
        if not overlaps(run.program):
            return run
        if not fits(run.program) or not run.quiescent:
            why = LARGE if run.quiescent else BUSY
            return replace(run, history=_noted(run.history, self.volatile, [], why))
        known = self._of(run)
        compared = Comparison(run.history.operations, run.before, run.after, self.volatile)
        used: list[dict[str, Any]] = []
        for alone, note in known.runs:
            compared.add(alone)
            used.append(note)
        end = self.clock() + self.seconds
        for _ in range(self.runs):
            if self.clock() >= end:
                break
            todo = compared.todo()
            doubted = todo is None and compared.verdict() is Verdict.VIOLATION
            fresh = doubted and not known.restarted
            if fresh:
                await anyio.sleep(self.pause)
                await on.fleet.restart()
                todo = compared.orders[0], True
            if todo is None:
                break
            alone, note = await self._run(on, run, *todo)
            known.runs.append((alone, note))
            used.append(note)
            compared.add(alone)
            # A run in which something was not answered has taught nothing.
            known.restarted |= fresh and alone.observation is not None
        self.volatile = compared.volatile
        untried = "" if known.restarted or compared.verdict() is not Verdict.VIOLATION else LATE
        return replace(run, history=_noted(run.history, compared.volatile, used, untried))

    def _of(self, run: Run) -> _Remembered:
        """What is remembered of these calls; those asked for longest ago are forgotten."""
        sent = sorted(op.call for op in run.history.operations if op.phase is not Phase.LANE)
        digest = " ".join([run.program.digest(), *sent])
        found = self._known.pop(digest, None) or _Remembered()
        self._known[digest] = found
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    async def _run(
        self, on: Rig, seen: Run, order: Order, rested: bool
    ) -> tuple[Alone, dict[str, Any]]:
        program = seen.program
        # A call that could not be sent, because what it refers to has no value, is not sent
        # alone either: it may have one there.
        known = {op.call for op in seen.history.operations}
        calls = {call.id: call for lane in program.lanes for call in lane}

        def sent(call: Call) -> Call | None:
            return call if call.id in (order if call.id in calls else known) else None

        one_by_one = sequence(program.map_calls(sent), [calls[call] for call in order])
        ran = await on.execute(one_by_one, "free", 0, resting=rested)
        traces.discard(ran.directory)
        self.made += 1
        run = ran.run
        note = note_of(order, rested, run)
        observation = (
            observe(run.history.operations, run.before, run.after) if note["events"] else None
        )
        return Alone(order, rested, observation), note


@dataclass(slots=True)
class _Remembered:
    """The sequential runs of a program. `restarted` says whether one of them was on servers that
    were started for it."""

    runs: list[tuple[Alone, dict[str, Any]]] = field(default_factory=list)
    restarted: bool = False


def _noted(
    history: History, volatile: Volatile, alone: list[dict[str, Any]], untried: str
) -> History:
    """The history with the notes before the one that ends it."""
    *events, last = history.events
    notes = [
        {"what": VOLATILE}
        | {name: sorted(getattr(volatile, name)) for name in ("values", "orders", "steady")}
        | ({"untried": untried} if untried else {}),
        *({"what": ALONE, **note} for note in alone),
    ]
    events += [
        Event(last.index + n, EventType.NOTE, NOBODY, "", value, last.ns)
        for n, value in enumerate(notes)
    ]
    events.append(replace(last, index=last.index + len(notes)))
    return History(tuple(events), history.operations)
