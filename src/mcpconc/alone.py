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

from mcpconc import trace as traces
from mcpconc.cuts import overlaps, sequence
from mcpconc.drive.record import NOBODY
from mcpconc.history import Event, EventType, History
from mcpconc.lineup.compare import Alone, Comparison
from mcpconc.lineup.observe import observe
from mcpconc.lineup.orders import Order, fits
from mcpconc.lineup.same import Volatile
from mcpconc.oracle import ORACLES, SELF
from mcpconc.oracle.base import Run
from mcpconc.oracle.itself import ALONE, VOLATILE, note_of
from mcpconc.program import Call, Program
from mcpconc.rig import Rig

__all__ = ["Inquiry", "its_own_model"]


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
    """

    runs: int = 1000
    seconds: float = 300.0
    volatile: Volatile = field(default_factory=Volatile)
    clock: Callable[[], float] = time.monotonic
    made: int = 0
    """Sequential runs so far."""
    _known: dict[str, list[tuple[Alone, dict[str, Any]]]] = field(default_factory=dict)

    async def __call__(self, on: Rig, run: Run) -> Run:
        """The run with its notes, and without a specification: the target is its own.

        :raises TargetError: if a server that died does not come up again.
        """
        run = replace(run, spec=None)
        if not overlaps(run.program) or not fits(run.program) or not run.quiescent:
            return run
        known = self._of(run.program)
        compared = Comparison(run.history.operations, run.before, run.after, self.volatile)
        used: list[dict[str, Any]] = []
        for alone, note in known:
            compared.add(alone)
            used.append(note)
        end = self.clock() + self.seconds
        for _ in range(self.runs):
            todo = compared.todo()
            if todo is None or self.clock() >= end:
                break
            alone, note = await self._run(on, run.program, *todo)
            known.append((alone, note))
            used.append(note)
            compared.add(alone)
        self.volatile = compared.volatile
        return replace(run, history=_noted(run.history, compared.volatile, used))

    def _of(self, program: Program) -> list[tuple[Alone, dict[str, Any]]]:
        """What is remembered of this program; the one asked for longest ago is forgotten."""
        digest = program.digest()
        found = self._known.pop(digest, [])
        self._known[digest] = found
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    async def _run(
        self, on: Rig, program: Program, order: Order, rested: bool
    ) -> tuple[Alone, dict[str, Any]]:
        calls = {call.id: call for lane in program.lanes for call in lane}

        def sent(call: Call) -> Call | None:
            return call if call.id not in calls or call.id in order else None

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


def _noted(history: History, volatile: Volatile, alone: list[dict[str, Any]]) -> History:
    """The history with the notes before the one that ends it."""
    *events, last = history.events
    notes = [
        {"what": VOLATILE}
        | {name: sorted(getattr(volatile, name)) for name in ("values", "orders", "steady")},
        *({"what": ALONE, **note} for note in alone),
    ]
    events += [
        Event(last.index + n, EventType.NOTE, NOBODY, "", value, last.ns)
        for n, value in enumerate(notes)
    ]
    events.append(replace(last, index=last.index + len(notes)))
    return History(tuple(events), history.operations)
