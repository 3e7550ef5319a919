"""From a finding to a minimal, labelled trace: one per distinct finding.

Nothing waits for the minimiser: a new finding is saved at once as it was met, marked
unfinished, and replaced when something smaller is known.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcpconc.events import Emit, FindingFound, Kept, ShrinkProgress, TraceSaved
from mcpconc.minimise import Minimised, among, fault_names, involved_tools, minimise
from mcpconc.oracle.base import Finding, Fingerprint, Label
from mcpconc.oracle.storms import storms
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig
from mcpconc.schedule import Scheduler
from mcpconc.steer import followed
from mcpconc.target.base import Identity
from mcpconc.trace import Shrink, Trace, discard, slug

__all__ = ["Keeper", "as_trace"]


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a finding takes: all that may matter until its program is minimal, then all that
    does."""

    tools: frozenset[str]
    faults: frozenset[str]

    @classmethod
    def of(cls, program: Program, finding: Finding) -> _Needs:
        """As long as the program may not be minimal."""
        tools, faults = involved_tools(program, finding), fault_names(program)
        return cls(frozenset(tools), frozenset(faults))

    @classmethod
    def left(cls, fingerprint: Fingerprint) -> _Needs:
        return cls(frozenset(fingerprint.tools), frozenset(fingerprint.faults))

    def __le__(self, other: _Needs) -> bool:
        return self.tools <= other.tools and self.faults <= other.faults


@dataclass(slots=True)
class _Entry:
    """A distinct finding of this campaign, not necessarily minimal yet."""

    rig: Rig
    execution: Execution
    finding: Finding
    needs: _Needs
    met: float
    times: int = 1
    how: Shrink = field(default_factory=lambda: Shrink(finished=False))
    basis: str = ""
    confirmed: tuple[int, int] | None = None
    path: Path | None = None
    from_calls: int = 0
    to_calls: int = 0


@dataclass(slots=True)
class Keeper:
    """All findings of a campaign, which `began` then, as `clock` says. `spent` is the time in
    seconds that minimising took. Where calls were `forked`, findings do not count until `confirm`
    has seen them."""

    directory: Path
    seed: int
    emit: Emit
    clock: Callable[[], float]
    forked: bool = False
    began: float = 0.0
    spent: float = 0.0
    _entries: list[_Entry] = field(default_factory=list)
    _pending: list[_Entry] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def closed(self, on: Rig) -> None:
        """This rig is closed: what was met on it and is not minimal stays as it is."""
        self._pending = [entry for entry in self._pending if entry.rig is not on]

    @property
    def doubtful(self) -> int:
        """How many findings do not count yet."""
        return sum(entry.confirmed == (0, 0) for entry in self._entries)

    def note(self, on: Rig, execution: Execution) -> None:
        """Take in the findings of a run: count those known, save and queue the others."""
        for finding in execution.judgement.findings:
            needs = _Needs.of(execution.run.program, finding)
            known = self._known(finding.fingerprint, needs)
            if known is not None:
                known.times += 1
                continue
            entry = self._entry(on, execution, finding, needs)
            entry.from_calls = entry.to_calls = execution.run.program.concurrent()
            self._entries.append(entry)
            self.emit(FindingFound(finding, execution.run.program))
            self._save(entry, finding, execution, Shrink(finished=False), "")
            # A quirk is named, explained and labelled by the oracle that knows it.
            if finding.label is Label.UNLABELLED:
                self._pending.append(entry)

    def _entry(self, on: Rig, execution: Execution, finding: Finding, needs: _Needs) -> _Entry:
        doubt = (0, 0) if self.forked else None
        return _Entry(on, execution, finding, needs, self.clock() - self.began, confirmed=doubt)

    def _known(self, fingerprint: Fingerprint, needs: _Needs) -> _Entry | None:
        """The entry that a finding with this fingerprint most likely repeats, if any.

        Which tools and faults matter is known only once the program is minimal. Until then
        everything with the same head waits for the first; afterwards it is the same if it contains
        what was left; a sequential program is less minimal, so there it is enough to have one tool
        in common. Three of one kind are enough for one campaign.
        """
        head = fingerprint.head()
        same = [e for e in self._entries if e.finding.fingerprint.head() == head]
        for entry in same:
            # Equal fingerprints have one trace, also where nothing is to be minimised.
            if entry.finding.fingerprint == fingerprint or entry.needs <= needs:
                return entry
            alone = entry.finding.label is Label.SEQUENTIAL
            if alone and entry.needs.tools & needs.tools and entry.needs.faults <= needs.faults:
                return entry
            if entry in self._pending:
                return entry
        return same[-1] if len(same) >= 3 else None

    def ready(self, late: bool) -> bool:
        """Whether there is something worth minimising now. What was seen once may be hard to
        see again, and what is likely sequential can wait: both are for `late`."""
        return bool(self._pending) and (
            late or min(map(_promise, self._pending))[:2] < (False, True)
        )

    async def minimise_next(self, limit: float = math.inf) -> None:
        """Minimise and label the most promising finding in at most its share of `limit` seconds,
        which those that wait have in common: a race that seldom comes back must not eat it all."""
        started = self.clock()
        self._pending.sort(key=lambda one: (_promise(one)[0], self._met_before(one), _promise(one)))
        entry = self._pending.pop(0)
        limit = max(limit / (1 + max(1, len(self._pending))), min(limit, LEAST))

        def passed(share: float) -> bool:
            return self.clock() >= started + share * limit

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
                expired=lambda: passed(1.0),
                enough=lambda: passed(SHRINKING),
                progress=progress,
            )
        finally:
            self.spent += self.clock() - started
        self._replace(entry, best)
        for other in best.also:
            self._adopt(entry.rig, other)

    def _met_before(self, entry: _Entry) -> bool:
        """Whether the same was minimised already, of other calls: what is new comes first."""
        head = entry.finding.fingerprint.head()
        return any(
            other.finding.fingerprint.head() == head and other.finding.label is not Label.UNLABELLED
            for other in self._entries
        )

    def _adopt(self, on: Rig, other: Minimised) -> None:
        """Take in a further finding that a minimal program showed: it needs no minimising."""
        head = other.finding.fingerprint.head()
        waiting = [e for e in self._pending if e.finding.fingerprint.head() == head]
        needs = _Needs.left(other.finding.fingerprint)
        if waiting:
            self._pending.remove(waiting[0])
            self._replace(waiting[0], other)
        elif self._known(other.finding.fingerprint, needs) is None:
            entry = self._entry(on, other.execution, other.finding, needs)
            entry.from_calls = other.shrink.from_calls
            self._entries.append(entry)
            self._replace(entry, other)

    def _replace(self, entry: _Entry, best: Minimised) -> None:
        old = entry.path
        entry.execution, entry.finding = best.execution, best.finding
        entry.needs = _Needs.left(best.finding.fingerprint)
        entry.to_calls = best.shrink.to_calls
        twin = self._twin(entry)
        if twin is not None:
            # Two findings that looked different were one: keep the first trace.
            twin.times += entry.times
            twin.met = min(twin.met, entry.met)
            self._entries.remove(entry)
            if old is not None:
                discard(old)
            return
        self._save(entry, best.finding, best.execution, best.shrink, best.basis)
        if old is not None and old != entry.path:
            discard(old)

    def _twin(self, entry: _Entry) -> _Entry | None:
        """An entry that says the same: the same fingerprint, or a sequential defect with the
        same head and under the same faults, which is listed once however it was met."""
        mine = entry.finding
        for other in self._entries:
            theirs = other.finding
            if other is entry or other in self._pending:
                continue
            if theirs.fingerprint == mine.fingerprint or (
                theirs.fingerprint.head() == mine.fingerprint.head()
                and theirs.fingerprint.faults == mine.fingerprint.faults
                and theirs.label is mine.label is Label.SEQUENTIAL
            ):
                return other
        return None

    def _save(
        self, entry: _Entry, finding: Finding, execution: Execution, how: Shrink, basis: str
    ) -> None:
        entry.how, entry.basis = how, basis
        trace = as_trace(entry.rig, execution, finding, self.seed, how, basis)
        trace = replace(trace, confirmed=entry.confirmed)
        entry.path = trace.save(self.directory / slug(finding))
        self.emit(TraceSaved(entry.path, finding))

    async def confirm(
        self, ordinary: Callable[[Identity], Awaitable[Rig]], expired: Callable[[], bool]
    ) -> None:
        """Run what was found with forked calls again with ordinary starts, each at most
        `CONFIRMING` times: forks change how long calls take, and with it what can meet. What comes
        back easily is first, of that races. The trace is then of the run that showed it
        ordinarily. Nothing is begun after `expired`."""
        for entry in sorted(self._ranked(), key=_comes_back, reverse=True):
            if entry.confirmed != (0, 0):
                continue  # another one's run showed it
            if expired():
                return
            head, first = entry.finding.fingerprint.head(), entry.execution
            on = await ordinary(entry.rig.identity)
            schedulers: Iterable[str | Scheduler] = among(first.scheduler, CONFIRMING)
            if first.schedule:
                schedulers = (followed(first, first.seed + n) for n in range(CONFIRMING))
            for n, scheduler in enumerate(schedulers):
                result = await on.run(first.run.program, scheduler, first.seed + n)
                entry.confirmed = (0, n + 1)
                self._see(entry, result)
                for other in self._entries:
                    if other.confirmed == (0, 0):
                        self._see(other, result)
                if head in result.heads() or expired():
                    break
            if entry.execution is first:  # and not of a run that confirmed it
                self._save(entry, entry.finding, first, entry.how, entry.basis)

    def _see(self, entry: _Entry, result: Execution) -> None:
        """Confirm a finding if this run shows it, of the same tools and faults where the program
        is another one."""
        own = result.run.program.digest() == entry.execution.run.program.digest()
        for found in result.judgement.findings:
            f, needs = entry.finding.fingerprint, _Needs.of(result.run.program, found)
            same = found.fingerprint.head() == f.head()
            if same and (own or entry.needs <= needs):
                found = found.needing(f.tools, f.faults)
                entry.execution = result
                entry.finding = replace(found, label=entry.finding.label)
                entry.confirmed = (1, max(1, (entry.confirmed or (0, 0))[1]))
                self._save(entry, entry.finding, result, entry.how, entry.basis)
                return

    def _ranked(self) -> list[_Entry]:
        rank = {Label.RACE: 0, Label.CROSS_AGENT: 1, Label.UNLABELLED: 2, Label.SEQUENTIAL: 3}
        return sorted(self._entries, key=lambda e: rank[e.finding.label])

    def kept(self) -> tuple[Kept, ...]:
        """All distinct findings, races first."""
        return tuple(
            Kept(e.finding, e.path, e.times, e.from_calls, e.to_calls, e.confirmed, e.met)
            for e in self._ranked()
        )


PROMISE = ("linearizability", "effects", "isolation", "footprint", "order", "protocol")
"""Oracles whose findings are mostly races, most of all the first. Copies that disagree mostly do
so for one agent alone, too, and come last."""

LEAST = 90.0
"""Seconds that are worth beginning with: some twenty runs of two calls of a real server."""

CONFIRMING = 10
"""Runs with ordinary starts after which a finding counts as not confirmed."""

SHRINKING = 0.6
"""Of the time of one finding; the rest is for its label and for how often it comes back."""


def _promise(entry: _Entry) -> tuple[bool, bool, int, int]:
    """What to minimise first: what is likely a race, was seen again (it comes back easily),
    and has few calls."""
    oracle = entry.finding.fingerprint.oracle
    rank = PROMISE.index(oracle) if oracle in PROMISE else len(PROMISE)
    late = rank == len(PROMISE) or not entry.finding.promised
    return late, entry.times == 1, rank, len(entry.finding.calls) or 99


def _comes_back(entry: _Entry) -> float:
    """The share (0 to 1) of runs that are likely to show it. What its oracle labels itself was not
    run again, and is there for one agent alone."""
    how = entry.how
    return how.failed / how.of if how.of else float(entry.finding.label is Label.SEQUENTIAL)


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
        schedule=execution.schedule,
        faults=tuple(met.to_json() for met in storms(execution.run)),
        shrink=how,
        complete=True,
    )
