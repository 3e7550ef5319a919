"""Resources: neither memory nor the time of a call grows over a run.

The one oracle that looks at times, and a plain check rather than a measurement: it tells
growth by whole factors, on a machine that may do other things beside, and says nothing where
it cannot tell. All of it stands in the notes of the history (`mcpconc.vitals`); a run without
them has nothing to judge.

**Memory.** A server that was up before and has answered the same tools before has allocated and
imported what it needs for them. What its resident set still gains between its first answer in
this run and the rest after it is kept per call: allowed are 8 MiB for the allocator's moods and
1 MiB for each call.

**Latency.** A call is slow against an earlier answered call of the same tool with the same
outcome, the quickest one: its *witness* shows what the work costs. In between, it may have had
to share and to queue: whatever overlaps it may have gone first, in any order, because SQLite's
lock is not fair. So it is allowed the sum of what all overlapping calls cost (each by the
quickest call of its tool so far, or as the witness where there was none), itself and the
witness included, three times over, and half a second for the moods of a machine.

A machine that stands still for a moment delays what is in flight then, and is quick again
later. So growth is told only where it stays: no later call of the tool is quick again, and two
slow calls (of whichever tools) did not overlap, so that no one moment explains both. Not judged
at all are runs in which the client itself was served late, a server was started or hurt;
unanswered calls; calls that are their server's first of the tool, because it may have to
import and open things; and lane calls under a scheduler that holds calls back inside the target.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

from mcpconc.history import Event, History, Operation, Phase
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import collect, finding

__all__ = ["resources"]

NAME = "resources"
SERVER = "server"

KEPT_KIB = 8 * 1024
KEPT_KIB_PER_CALL = 1024
FACTOR = 3.0
MARGIN = 0.5
"""Seconds."""
LATE = 0.25
"""Seconds by which a beat of the client's heart may be late."""
OPEN_SCHEDULES = frozenset({"free", "barrier"})
"""Schedulers that hold calls back only before they are sent."""
DISTURBED = ("fault", "server-died", "server-restarted")


def resources(run: Run) -> Result:
    """``memory-growth`` and ``latency-growth``, both of the server: what slows all calls down is
    one finding and not one for each tool. Which tools show it is known once it is minimal."""
    findings: list[Finding] = []
    remarks: list[str] = []
    for note in run.history.notes("resources"):
        findings += _memory(run.history, note)
        why_not = _unfit(run.history, note)
        if why_not:
            remarks.append(f"latencies were not judged: {why_not}")
        else:
            findings += _latency(run.history, note)
    result = collect(NAME, findings)
    return Result(NAME, result.findings, result.unknown, tuple(remarks))


# -- memory ------------------------------------------------------------------------------------


def _memory(history: History, note: Event) -> Iterator[Finding]:
    for name, (first, last) in note.value["memory"].items():
        calls = [op for op in history.operations if op.agent == int(name)]
        if not {op.tool for op in calls} <= set(note.value["warm"].get(name, ())):
            continue
        grown, allowed = last - first, KEPT_KIB + KEPT_KIB_PER_CALL * len(calls)
        if grown > allowed:
            yield finding(
                NAME,
                "memory-growth",
                SERVER,
                summary=f"the server of agent {name} keeps {grown // 1024} MiB of memory after "
                f"{len(calls)} calls",
                reason=(
                    f"It had answered these tools in earlier runs. {first} KiB were resident "
                    f"after its first answer, {last} KiB at rest after the run; up to "
                    f"{allowed} KiB more are allowed.",
                ),
                calls=[op.call for op in calls],
                evidence={"first_kib": first, "last_kib": last, "calls": len(calls)},
            )


# -- latency -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Compared:
    """A call beside its witness; times in seconds. `quickest` is, by tool and outcome, the
    least that a call had taken until this one was sent."""

    op: Operation
    seconds: float
    witness: Operation
    witness_seconds: float
    quickest: Mapping[tuple[str, str], float]

    @property
    def suspect(self) -> bool:
        """Slower than it may be with nobody beside."""
        return self.seconds > 2 * FACTOR * self.witness_seconds + MARGIN


@dataclass(frozen=True, slots=True)
class _Slow:
    call: _Compared
    allowed: float
    beside: int


def _unfit(history: History, note: Event) -> str:
    """Why the times of this run say nothing; empty where they do."""
    if note.value["late"] > LATE:
        return f"the client itself was held up for {note.value['late']:.2f} s"
    for what in DISTURBED:
        if history.notes(what):
            return f"there was a {what} in the run"
    return ""


def _latency(history: History, note: Event) -> Iterator[Finding]:
    compared = _compared(history, note)
    verdicts = [_slow(call, history) if call.suspect else None for call in compared]
    slow = [verdict for verdict in verdicts if verdict is not None]
    quick = [call for call, verdict in zip(compared, verdicts, strict=True) if verdict is None]
    for one in slow:
        op = one.call.op
        if any(later.op.tool == op.tool and op.precedes(later.op) for later in quick):
            continue
        for other in slow:
            if op.precedes(other.call.op) or other.call.op.precedes(op):
                yield _told(one, other)
                break


def _compared(history: History, note: Event) -> list[_Compared]:
    """The calls that can be judged, in the order in which they were sent."""
    warm = note.value["warm"]
    schedules = {n.value["name"] for n in history.notes("schedule")}
    lanes = schedules <= OPEN_SCHEDULES
    times = {event.index: event.ns / 1e9 for event in history.events}
    answered = [op for op in history.operations if op.returned is not None]
    seconds = {op.call: times[op.returned or 0] - times[op.invoked] for op in answered}
    ended = deque(sorted(answered, key=lambda op: op.returned or 0))
    witness: dict[tuple[str, str], Operation] = {}
    quickest: dict[tuple[str, str], float] = {}
    known: set[tuple[int, str]] = set()
    result = []
    for op in answered:
        while ended and ended[0].precedes(op):
            before = ended.popleft()
            known.add((before.agent, before.tool))
            key = _key(before)
            if seconds[before.call] < quickest.get(key, inf):
                quickest = quickest | {key: seconds[before.call]}
                witness[key] = before
        key = _key(op)
        at_home = (op.agent, op.tool) in known or op.tool in warm.get(str(op.agent), ())
        if key in witness and at_home and (lanes or op.phase is not Phase.LANE):
            result.append(_Compared(op, seconds[op.call], witness[key], quickest[key], quickest))
    return result


def _slow(call: _Compared, history: History) -> _Slow | None:
    beside = [
        other
        for other in history.operations
        if other.call != call.op.call
        and not other.precedes(call.op)
        and not call.op.precedes(other)
    ]
    if not all(other.answered for other in beside):
        return None  # nobody knows what a call that was given up did meanwhile
    cost = sum(call.quickest.get(_key(other), call.witness_seconds) for other in beside)
    allowed = FACTOR * (2 * call.witness_seconds + cost) + MARGIN
    return _Slow(call, allowed, len(beside)) if call.seconds > allowed else None


def _told(one: _Slow, other: _Slow) -> Finding:
    call, tool = one.call, one.call.op.tool
    return finding(
        NAME,
        "latency-growth",
        SERVER,
        summary=f"{tool} takes ever longer: {call.seconds:.2f} s after "
        f"{call.witness_seconds:.2f} s",
        reason=(
            f"{call.witness.call} took {call.witness_seconds:.2f} s; {call.op.call}, sent later, "
            f"{call.seconds:.2f} s. It overlapped {one.beside} other calls, and waiting for all "
            f"of them explains {one.allowed:.2f} s.",
            f"So did {other.call.op.call} ({other.call.op.tool}) at another time, "
            f"{other.call.seconds:.2f} s for {other.call.witness_seconds:.2f} s; and no later "
            f"{tool} was quick again.",
        ),
        calls=[x.call for c in (call, other.call) for x in (c.witness, c.op)],
        evidence={
            "seconds": round(call.seconds, 3),
            "witness_seconds": round(call.witness_seconds, 3),
            "allowed_seconds": round(one.allowed, 3),
            "beside": one.beside,
        },
    )


def _key(op: Operation) -> tuple[str, str]:
    """What is compared: a refusal costs less than the same tool's work."""
    return op.tool, op.outcome.value if op.outcome is not None else ""
