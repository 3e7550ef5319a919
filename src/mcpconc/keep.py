"""From a finding to a minimal, labelled trace: one per distinct finding.

Nothing waits for the minimiser: a new finding is saved at once as it was met, marked
unfinished, and replaced when something smaller is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from mcpconc.cuts import only, overlaps, sequence
from mcpconc.events import Emit, FindingFound, Kept, ShrinkProgress, TraceSaved
from mcpconc.label import Labelled, label
from mcpconc.oracle.base import Finding, Label
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig
from mcpconc.shrink import Attempt, shrink
from mcpconc.trace import Shrink, Trace, discard, slug

__all__ = ["Keeper", "Minimised", "minimise"]

Head = tuple[str, str, str, str]

TRIES = 3
"""Runs of one shrink candidate before it counts as not failing (PULSE's ALWAYS, but any-of)."""

FINAL_TRIES = 5
"""Runs of the minimal program, to say how often it fails."""

ALONE = 8
"""Attempts at making a sequential program smaller: it is not what this tool is for."""

ROTATION = ("barrier", "convoy", "free")


@dataclass(frozen=True, slots=True)
class Minimised:
    """The smallest program known, a run of it that failed, and what is known of both."""

    execution: Execution
    finding: Finding
    shrink: Shrink
    basis: str


@dataclass(slots=True)
class _Entry:
    """A distinct finding of this campaign, not necessarily minimal yet."""

    rig: Rig
    execution: Execution
    finding: Finding
    tools: frozenset[str]
    times: int = 1
    path: Path | None = None
    from_calls: int = 0
    to_calls: int = 0


@dataclass(slots=True)
class Keeper:
    """All findings of a campaign. `spent` is the time in seconds that minimising took."""

    directory: Path
    seed: int
    emit: Emit
    clock: Callable[[], float]
    spent: float = 0.0
    _entries: list[_Entry] = field(default_factory=list)
    _pending: list[_Entry] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def note(self, on: Rig, execution: Execution) -> None:
        """Take in the findings of a run: count those known, save and queue the others."""
        for finding in execution.judgement.findings:
            tools = frozenset(_tools(execution.run.program, finding))
            known = self._known(finding.fingerprint.head(), tools)
            if known is not None:
                known.times += 1
                continue
            entry = _Entry(on, execution, finding, tools)
            entry.from_calls = entry.to_calls = execution.run.program.concurrent()
            self._entries.append(entry)
            self.emit(FindingFound(finding, execution.run.program))
            self._save(entry, finding, execution, Shrink(finished=False), "")
            # A quirk is named, explained and labelled by the oracle that knows it.
            if finding.label is Label.UNLABELLED:
                self._pending.append(entry)

    def _known(self, head: Head, tools: frozenset[str]) -> _Entry | None:
        """The entry that a finding with this head most likely repeats, if any.

        Which tools matter is known only once the program is minimal. Until then everything
        with the same head waits for the first; afterwards it is the same if it contains the
        tools that were left. Three of one kind are enough for one campaign.
        """
        same = [e for e in self._entries if e.finding.fingerprint.head() == head]
        for entry in same:
            if entry in self._pending or entry.tools <= tools:
                return entry
        return same[-1] if len(same) >= 3 else None

    async def minimise_next(self, limit: float | None) -> None:
        """Minimise and label the most promising finding in at most `limit` seconds."""
        started = self.clock()
        self._pending.sort(key=_promise)
        entry = self._pending.pop(0)
        end = None if limit is None else started + limit

        def progress(calls: int, attempts: int, finished: bool) -> None:
            self.emit(
                ShrinkProgress(
                    fingerprint=entry.finding.fingerprint,
                    from_calls=entry.from_calls,
                    calls=calls,
                    attempts=attempts,
                    finished=finished,
                )
            )

        try:
            best = await minimise(
                entry.rig,
                entry.execution,
                entry.finding,
                expired=lambda: end is not None and self.clock() >= end,
                progress=progress,
            )
        finally:
            self.spent += self.clock() - started
        self._replace(entry, best)

    def _replace(self, entry: _Entry, best: Minimised) -> None:
        old = entry.path
        entry.execution, entry.finding = best.execution, best.finding
        entry.tools = frozenset(best.finding.fingerprint.tools)
        entry.to_calls = best.execution.run.program.concurrent()
        twin = self._twin(entry)
        if twin is not None:
            # Two findings that looked different were one: keep the first trace.
            twin.times += entry.times
            self._entries.remove(entry)
            if old is not None:
                discard(old)
            return
        self._save(entry, best.finding, best.execution, best.shrink, best.basis)
        if old is not None and old != entry.path:
            discard(old)

    def _twin(self, entry: _Entry) -> _Entry | None:
        for other in self._entries:
            if (
                other is not entry
                and other not in self._pending
                and other.finding.fingerprint == entry.finding.fingerprint
            ):
                return other
        return None

    def _save(
        self, entry: _Entry, finding: Finding, execution: Execution, how: Shrink, basis: str
    ) -> None:
        trace = as_trace(entry.rig, execution, finding, self.seed, how, basis)
        entry.path = trace.save(self.directory / slug(finding))
        self.emit(TraceSaved(entry.path, finding))

    def kept(self) -> tuple[Kept, ...]:
        """All distinct findings, races first."""
        rank = {Label.RACE: 0, Label.CROSS_AGENT: 1, Label.UNLABELLED: 2, Label.SEQUENTIAL: 3}
        entries = sorted(self._entries, key=lambda e: rank[e.finding.label])
        return tuple(Kept(e.finding, e.path, e.times, e.from_calls, e.to_calls) for e in entries)


PROMISE = ("effects", "linearizability", "isolation", "footprint", "order", "protocol")


def _promise(entry: _Entry) -> tuple[int, int]:
    """What to minimise first: oracles whose findings are mostly races, and few calls."""
    oracle = entry.finding.fingerprint.oracle
    rank = PROMISE.index(oracle) if oracle in PROMISE else len(PROMISE)
    return rank, len(entry.finding.calls) or 99


async def minimise(
    on: Rig,
    execution: Execution,
    finding: Finding,
    *,
    expired: Callable[[], bool],
    progress: Callable[[int, int, bool], None],
) -> Minimised:
    """Shrink the program of a finding and say what it is: sequential, cross-agent or race.

    The cheapest question comes first: do the calls involved show it when one agent makes them
    one after another? Then it is a sequential defect, and done.
    """
    head = finding.fingerprint.head()
    program = execution.run.program
    from_calls = program.concurrent()
    seeds = count(execution.seed)

    failing: dict[str, Execution] = {program.digest(): execution}

    async def attempt(candidate: Program) -> Attempt:
        made = 0
        for scheduler in _schedulers(execution.scheduler, TRIES):
            result = await on.run(candidate, scheduler, next(seeds))
            made += 1
            if head in result.heads():
                failing[candidate.digest()] = result
                return Attempt(1, made, _pick(result, head).calls)
            if expired() or not overlaps(candidate):
                break
        return Attempt(0, made)

    alone = _alone(execution, finding)
    first = await attempt(alone)
    if first.failed:
        shrunk = await shrink(
            alone, first.calls, attempt, budget=ALONE, expired=expired, progress=progress
        )
        winner = failing[shrunk.program.digest()]
        found = _pick(winner, head)
        return Minimised(
            winner,
            replace(found.with_tools(_tools(shrunk.program, found)), label=Label.SEQUENTIAL),
            Shrink(
                finished=True,
                attempts=1 + shrunk.attempts,
                failed=1,
                of=1,
                from_calls=from_calls,
                to_calls=sum(1 for _ in shrunk.program.calls()),
            ),
            "one agent alone shows it, in the order in which it was met",
        )

    async def sequentially(ordered: Program) -> frozenset[Head]:
        result = await on.run(ordered, "free", next(seeds))
        if head in result.heads():
            failing[ordered.digest()] = result
        return result.heads()

    shrunk = await shrink(program, finding.calls, attempt, expired=expired, progress=progress)
    smallest = shrunk.program
    if shrunk.reproduced:
        labelled = await label(smallest, head, sequentially, expired=expired)
    else:
        labelled = Labelled(Label.UNLABELLED, "it did not come back", 0, 0)
    if labelled.shown is not None:
        smallest = labelled.shown
    winner = failing[smallest.digest()]
    # The run that is kept failed, too, but it was chosen for that.
    failed, of = (shrunk.failed, shrunk.tries) if expired() else (0, 0)
    if not expired():
        for _ in range(FINAL_TRIES):
            if expired():
                break
            again = await on.run(smallest, winner.scheduler, next(seeds))
            of += 1
            failed += head in again.heads()
    found = _pick(winner, head)
    lanes = tuple(c.tool for lane in smallest.lanes for c in lane)
    return Minimised(
        winner,
        replace(found.with_tools(lanes or _tools(smallest, found)), label=labelled.label),
        Shrink(
            finished=shrunk.finished,
            attempts=shrunk.attempts,
            failed=failed,
            of=of,
            from_calls=from_calls,
            to_calls=smallest.concurrent() or sum(1 for _ in smallest.calls()),
        ),
        labelled.basis,
    )


def _alone(execution: Execution, finding: Finding) -> Program:
    """The calls involved and what they need, one after another in the order in which they
    were sent, all by one agent."""
    program = only(
        execution.run.program, finding.calls or [c.id for c in execution.run.program.calls()]
    )
    sent = {op.call: op.invoked for op in execution.run.history.operations}
    calls = [call for lane in program.lanes for call in lane]
    return sequence(program, sorted(calls, key=lambda c: sent.get(c.id, 0)), one_agent=True)


def as_trace(
    on: Rig, execution: Execution, finding: Finding, seed: int, how: Shrink, basis: str
) -> Trace:
    """The trace of a run, kept for `finding`; its other findings come after it."""
    others = tuple(
        f
        for f in execution.judgement.findings
        if f.fingerprint.head() != finding.fingerprint.head()
    )
    return replace(
        on.trace(execution.run.program, execution.run.history, execution.scheduler, execution.seed),
        before=execution.run.before,
        after=execution.run.after,
        findings=(finding, *others),
        unknown=execution.judgement.unknown,
        verdict=execution.judgement.verdict,
        label_basis=basis,
        seed=seed,
        quiescent=execution.run.quiescent,
        shrink=how,
        complete=True,
    )


def _schedulers(first: str, tries: int) -> Iterator[str]:
    """The scheduler that found it, then the others in turn."""
    rest = [name for name in ROTATION if name != first]
    for n in range(tries):
        yield first if n == 0 else rest[(n - 1) % len(rest)]


def _pick(execution: Execution, head: Head) -> Finding:
    return next(f for f in execution.judgement.findings if f.fingerprint.head() == head)


def _tools(program: Program, finding: Finding) -> tuple[str, ...]:
    return tuple(sorted({c.tool for c in program.calls() if c.id in finding.calls}))
