"""Run a saved program again, and shrink it further."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import anyio

from mcpconc.alone import its_own_model
from mcpconc.errors import TargetError, TraceError
from mcpconc.events import Emit, ReplayTried, ShrinkProgress, TargetProgress, TraceSaved
from mcpconc.interrupt import interrupts
from mcpconc.keep import as_trace
from mcpconc.minimise import minimise
from mcpconc.oracle import ORACLES, SELF
from mcpconc.oracle.base import Label, judge
from mcpconc.oracle.itself import volatile_of
from mcpconc.recheck import spec_of
from mcpconc.rig import Execution, Rig, rig
from mcpconc.rigs import Rigs, Wanted, standing
from mcpconc.schedule import REPLAY, make
from mcpconc.schedule.points import named_anew, unpack
from mcpconc.schedule.policies import DIVERGED
from mcpconc.target import resolve
from mcpconc.target.base import Hurries, Identity, Target
from mcpconc.target.warm import Start
from mcpconc.trace import Trace, to_run
from mcpconc.world import ProbeMode

__all__ = ["Replay", "Status", "replay", "shrink_trace", "wanted_rig"]

UNFORESEEN = "waited for a lock that could not be foreseen"
"""Part of the remark of a controlled scheduler."""


class Status(StrEnum):
    REPRODUCED = "REPRODUCED"
    FLAKY = "FLAKY"
    FIXED = "FIXED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Replay:
    """How often a trace failed again with the head of its fingerprint.

    `others` are further fingerprints that came up. `tried` may be less than was asked for when
    the replay was interrupted (`interrupted`) or went wrong (`error`). `diverged` tries did not
    take the recorded steps, all of them and no others; `divergence` says where the first of them
    left the schedule. In `waited` tries a call waited for a lock that was not foreseen.
    """

    trace: Path | None
    reproduced: int
    tried: int
    others: tuple[str, ...] = ()
    error: str = ""
    interrupted: bool = False
    diverged: int = 0
    divergence: str = ""
    waited: int = 0

    @property
    def status(self) -> Status:
        if self.error or not self.tried:
            return Status.ERROR
        if self.reproduced == self.tried:
            return Status.REPRODUCED
        return Status.FLAKY if self.reproduced else Status.FIXED


async def replay(
    trace: Trace,
    times: int,
    target: str,
    work: Path,
    emit: Emit,
    start: Start = Start.ORDINARY,
    enough: Callable[[int, int], bool] = lambda reproduced, tried: False,
    rigs: Rigs | None = None,
) -> Replay:
    """Run the program of `trace` `times` times with its scheduler and identity mode, on the
    target SPEC `target` (the trace's own where that is empty); calls start as `start` says.
    Fewer tries are made where `enough` says so of those that reproduced it and all. What is up in
    `rigs` is used if it fits, and stays up.

    Where a schedule was recorded each try follows it. Elsewhere the recorded scheduler seed comes
    first, and further tries draw new ones, so that a race of timing gets more than one chance.

    :raises TraceError: if the trace holds no finding to look for.
    """
    wanted = trace.finding
    if wanted is None:
        raise TraceError(f"{trace.path}: holds no finding, so there is nothing to reproduce")
    head = wanted.fingerprint.head()
    hits = tried = diverged = waited = 0
    divergence = ""
    others: set[str] = set()
    error = ""

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    async with interrupts(progress) as signals, AsyncExitStack() as stack:
        if rigs is None:
            rigs = await stack.enter_async_context(standing())
        try:
            on = await rigs.get(wanted_rig(trace, target, start), work, progress)
            _as_model(trace, on)
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                for n in range(times):
                    seed = trace.scheduler_seed + n
                    how = make(REPLAY, seed, trace.schedule) if trace.schedule else None
                    result = await on.run(trace.program, how or trace.scheduler, seed)
                    tried += 1
                    where = _divergence(trace, result) if how is not None else ""
                    diverged += bool(where)
                    divergence = divergence or where
                    waited += any(UNFORESEEN in remark for remark in _remarks(result))
                    hit = head in result.heads()
                    hits += hit
                    others |= {
                        str(f.fingerprint)
                        for f in result.judgement.findings
                        if f.fingerprint.head() != head
                    }
                    emit(ReplayTried(n=n + 1, of=times, reproduced=hit))
                    if enough(hits, tried):
                        break
            if scope.cancelled_caught:  # nobody knows what its servers are still at
                await rigs.close()
        except TargetError as trouble:
            error = str(trouble)
            emit(ReplayTried(n=tried + 1, of=times, reproduced=None, text=error))
            await rigs.close()
    return Replay(
        *(trace.path, hits, tried, tuple(sorted(others)), error, bool(signals)),
        *(diverged, divergence, waited),
    )


def wanted_rig(trace: Trace, target: str, start: Start) -> Wanted:
    """The rig on which this trace is run again on the target SPEC `target` (its own if empty)."""
    return Wanted(
        target or trace.target,
        Identity(trace.identity),
        trace.program.agents,
        start,
        _probe(trace),
        hurried=bool(trace.program.faults),
        own=str(trace.path) if trace.model else "",
    )


async def shrink_trace(
    trace: Trace,
    out: Path,
    max_time: float | None,
    target: str,
    work: Path,
    emit: Emit,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Trace, bool]:
    """Go on minimising a saved trace for at most `max_time` seconds; the result, saved at
    `out`, is never larger than what it began with. Also whether a signal cut it short: then
    what was reached is saved, and where nothing was, the trace stays as it is.

    :raises TraceError: if the trace holds no finding, or one that is not found any more.
    :raises TargetError: if the target cannot be started, or the finding does not come back.
    """
    wanted = trace.finding
    if wanted is None:
        raise TraceError(f"{trace.path}: holds no finding, so there is nothing to shrink")
    end = None if max_time is None else clock() + max_time
    system = resolve(target or trace.target)
    first = _as_executed(trace)
    smaller: Trace | None = None

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    async with interrupts(progress) as signals:
        await system.install(progress)
        _hurried(trace, system)
        async with rig(
            *(system, Identity(trace.identity), trace.program.agents, work, progress),
            probe=_probe(trace),
        ) as on:
            _as_model(trace, on)
            # From here on the first signal ends the search, not the run that it is at.
            signals.scopes.append(anyio.CancelScope())
            best = await minimise(
                on,
                first,
                wanted,
                expired=lambda: bool(signals) or (end is not None and clock() >= end),
                progress=lambda calls, attempts, finished: emit(
                    ShrinkProgress(
                        fingerprint=wanted.fingerprint,
                        from_calls=trace.program.concurrent(),
                        calls=calls,
                        attempts=attempts,
                        finished=finished,
                    )
                ),
            )
            if best.execution is not first or best.finding.label is not Label.UNLABELLED:
                smaller = as_trace(
                    on, best.execution, best.finding, trace.seed, best.shrink, best.basis
                )
    if smaller is not None:
        smaller = replace(smaller, path=smaller.save(out))
        emit(TraceSaved(out, best.finding))
    elif not signals:
        raise TargetError(
            f"{trace.path}: the finding did not come back in this time, so the trace stays as it "
            "is; see how often it does with `mcpconc replay --times 50`"
        )
    return smaller or trace, bool(signals)


def _hurried(trace: Trace, target: Target) -> None:
    """Faults were injected into a target that had short limits."""
    if trace.program.faults and isinstance(target, Hurries):
        target.hurry()


def _probe(trace: Trace) -> ProbeMode | None:
    return "control" if trace.schedule else None


def _remarks(execution: Execution) -> list[str]:
    return [str(note.value.get("text")) for note in execution.run.history.notes("scheduler")]


def _divergence(trace: Trace, execution: Execution) -> str:
    """Where this run left the recorded schedule; empty if it did not."""
    for remark in _remarks(execution):
        if remark.startswith(DIVERGED):
            return remark
    recorded, done = unpack(trace.schedule), unpack(execution.schedule)
    if done.kills != recorded.kills:
        return f"{DIVERGED}: not all processes were killed where they were to be"
    if named_anew(done.steps) == named_anew(recorded.steps):
        return ""
    further = done.steps[len(recorded.steps) :]
    agent, thread, label = further[0] if further else recorded.steps[-1]
    return (
        f"{DIVERGED} after its last step: {len(further)} more were made, first that of thread "
        f"{agent}.{thread} from {label!r}"
    )


def _as_model(trace: Trace, on: Rig) -> None:
    """Where the target itself was the model it is so again, and what was volatile is so still."""
    if trace.model:
        its_own_model(on, volatile_of(trace.history))


def _as_executed(trace: Trace) -> Execution:
    """The saved run as if it had just been made: shrinking begins with the calls involved, and
    those may show again what the whole program seldom does.

    :raises TraceError: if today's oracles do not find in it what it was kept for.
    """
    run = to_run(trace, spec_of(trace.target))
    oracles = (*ORACLES, SELF) if trace.model else ORACLES
    execution = Execution(run, judge(run, oracles), trace.scheduler, trace.scheduler_seed, 0.0)
    execution = replace(execution, schedule=trace.schedule)
    wanted = trace.finding
    if wanted is None or wanted.fingerprint.head() not in execution.heads():
        raise TraceError(
            f"{trace.path}: its history does not show the finding any more, see `mcpconc check`"
        )
    return execution
