"""From a failing run to the smallest program that still fails, and what to call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from mcpconc.cuts import only, overlaps, sequence
from mcpconc.label import LIMIT, Labelled, label
from mcpconc.oracle.base import Finding, Label
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig
from mcpconc.schedule import Scheduler
from mcpconc.shrink import Attempt, shrink
from mcpconc.steer import fewest_switches, followed, steered
from mcpconc.trace import Shrink

__all__ = ["Head", "Minimised", "among", "fault_names", "involved_tools", "minimise"]

Head = tuple[str, str, str, str]

TRIES = 3
"""Runs of one shrink candidate before it counts as not failing (PULSE's ALWAYS, but any-of)."""

EASY_TRIES = 2
"""The same for a finding that came back at the first try so far."""

FINAL_TRIES = 5
"""Runs of the minimal program, to say how often it fails."""

ALONE = 8
"""Attempts at making a sequential program smaller: it is not what this tool is for."""

ALONE_SECONDS = 10.0
"""What more attempts may cost where runs are quick."""

SWITCHES = 40
"""Attempts at fewer switches in the schedule of a minimal program."""

ROTATION = ("barrier", "convoy", "free")


@dataclass(frozen=True, slots=True)
class Minimised:
    """The smallest program known, a run of it that failed, and what is known of both.

    `also` are other findings that runs of the same program showed and that no one-at-a-time
    order of it shows: one race mostly has several symptoms.
    """

    execution: Execution
    finding: Finding
    shrink: Shrink
    basis: str
    also: tuple[Minimised, ...] = ()


async def minimise(
    on: Rig,
    execution: Execution,
    finding: Finding,
    *,
    expired: Callable[[], bool],
    enough: Callable[[], bool] | None = None,
    progress: Callable[[int, int, bool], None],
    orders: int = LIMIT,
    alone_budget: int = ALONE,
) -> Minimised:
    """Shrink the program of a finding and say what it is: sequential, cross-agent or race.

    Nothing is begun after `expired`; shrinking ends at `enough`, which comes before that, so
    that there is time to find the label, for which at most so many one-at-a-time `orders` are
    tried. A sequential program is made smaller in at most `alone_budget` attempts.

    The cheapest question comes first: do the calls involved show it when one agent makes them
    one after another? Then it is a sequential defect, and done.
    """
    head = finding.fingerprint.head()
    program = execution.run.program
    from_calls = program.concurrent()
    seeds = count(execution.seed)

    runs = _Runs(latest=execution if execution.schedule else None)
    runs.add(program, execution)
    enough = enough or expired
    accepted: list[int] = []

    def tries(candidate: Program, most: int) -> Iterator[str | Scheduler]:
        if not overlaps(candidate):
            return iter(["free"])
        if runs.latest is not None:
            return steered(runs.latest, candidate, next(seeds), most)
        return among(execution.scheduler, most)

    async def attempt(candidate: Program) -> Attempt:
        made = 0
        easy = bool(accepted) and set(accepted) == {1}
        for scheduler in tries(candidate, EASY_TRIES if easy else TRIES):
            result = runs.add(candidate, await on.run(candidate, scheduler, next(seeds)))
            made += 1
            if head in result.heads():
                accepted.append(made)
                runs.latest = result if result.schedule else runs.latest
                return Attempt(1, made, _pick(result, head).calls)
            if enough() or not overlaps(candidate):
                break
        return Attempt(0, made)

    alone = _alone(execution, finding)
    first = await attempt(alone)
    if first.failed:
        budget = max(alone_budget, int(ALONE_SECONDS / max(execution.seconds, 0.01)))
        shrunk = await shrink(
            alone, first.calls, attempt, budget=budget, expired=enough, progress=progress
        )
        kept = runs.shown(shrunk.program, head)
        found = _pick(kept, head)
        return Minimised(
            kept,
            replace(
                found.needing(involved_tools(shrunk.program, found), fault_names(shrunk.program)),
                label=Label.SEQUENTIAL,
            ),
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
        return runs.add(ordered, await on.run(ordered, "free", next(seeds))).heads()

    involved = (*finding.calls, *(fault.call for fault in program.faults))
    shrunk = await shrink(program, involved, attempt, expired=enough, progress=progress)
    smallest = shrunk.program
    if shrunk.reproduced:
        labelled = await label(smallest, head, sequentially, limit=orders, expired=expired)
    else:
        labelled = Labelled(Label.UNLABELLED, "it did not come back", 0, 0)
    smallest = labelled.shown or smallest
    shown = runs.shown(smallest, head)
    if shown.schedule:
        shown = await fewest_switches(
            shown,
            lambda made: head in made.heads(),
            lambda which, how: on.run(which, how, next(seeds)),
            attempts=SWITCHES,
            expired=expired,
        )
        runs.prefer(smallest, head, shown)
    again: list[Execution] = []
    while len(again) < FINAL_TRIES and shrunk.reproduced and not expired():
        scheduler = followed(shown, next(seeds)) if shown.schedule else shown.scheduler
        again.append(runs.add(smallest, await on.run(smallest, scheduler, next(seeds))))

    def minimal(which: Head) -> Minimised:
        run = runs.shown(smallest, which)
        found = _pick(run, which)
        lanes = tuple(c.tool for lane in smallest.lanes for c in lane)
        seen = sum(which in result.heads() for result in again)
        return Minimised(
            run,
            replace(
                found.needing(lanes or involved_tools(smallest, found), fault_names(smallest)),
                label=labelled.label,
            ),
            Shrink(
                finished=shrunk.finished,
                attempts=shrunk.attempts,
                # Without further runs there is only the one that was chosen for failing.
                failed=seen if again else shrunk.failed,
                of=len(again) or shrunk.tries,
                from_calls=from_calls,
                to_calls=smallest.concurrent() or sum(1 for _ in smallest.calls()),
            ),
            labelled.basis,
        )

    also: tuple[Minimised, ...] = ()
    if labelled.label is Label.RACE and shrunk.finished:
        others = runs.heads(smallest) - runs.heads_in_order() - {head}
        also = tuple(
            minimal(other)
            for other in sorted(others)
            if _pick(runs.shown(smallest, other), other).label is Label.UNLABELLED
        )
    return replace(minimal(head), also=also)


@dataclass(slots=True)
class _Runs:
    """All runs of one minimisation: which program showed which heads, and when first."""

    latest: Execution | None = None
    """The last accepted run under control, whose schedule the next candidate is tried with."""
    _by_program: dict[str, dict[Head, Execution]] = field(default_factory=dict)
    _in_order: set[Head] = field(default_factory=set)

    def add(self, program: Program, execution: Execution) -> Execution:
        known = self._by_program.setdefault(program.digest(), {})
        for head in execution.heads():
            known.setdefault(head, execution)
        if not overlaps(program):
            self._in_order |= execution.heads()
        return execution

    def shown(self, program: Program, head: Head) -> Execution:
        """The first run of this program that showed this head."""
        return self._by_program[program.digest()][head]

    def prefer(self, program: Program, head: Head, execution: Execution) -> None:
        """From now on, this is the run that showed it."""
        self._by_program[program.digest()][head] = execution

    def heads(self, program: Program) -> set[Head]:
        return set(self._by_program[program.digest()])

    def heads_in_order(self) -> set[Head]:
        """What any program without overlap showed."""
        return self._in_order


def _alone(execution: Execution, finding: Finding) -> Program:
    """The calls involved and what they need, one after another in the order in which they
    were sent, all by one agent."""
    whole = execution.run.program
    # A fault stays only as long as the call does that it begins at.
    struck = [fault.call for fault in whole.faults]
    program = only(
        whole, [*finding.calls, *struck] if finding.calls else [c.id for c in whole.calls()]
    )
    sent = {op.call: op.invoked for op in execution.run.history.operations}
    calls = [call for lane in program.lanes for call in lane]
    return sequence(program, sorted(calls, key=lambda c: sent.get(c.id, 0)), one_agent=True)


def among(first: str, tries: int) -> Iterator[str]:
    """The scheduler that found it, then the others in turn."""
    rest = [name for name in ROTATION if name != first]
    for n in range(tries):
        yield first if n == 0 else rest[(n - 1) % len(rest)]


def _pick(execution: Execution, head: Head) -> Finding:
    return next(f for f in execution.judgement.findings if f.fingerprint.head() == head)


def involved_tools(program: Program, finding: Finding) -> tuple[str, ...]:
    """The distinct tools of the calls that a finding involves, sorted."""
    return tuple(sorted({c.tool for c in program.calls() if c.id in finding.calls}))


def fault_names(program: Program) -> tuple[str, ...]:
    """The distinct faults that a program meets, sorted."""
    return tuple(sorted({fault.name for fault in program.faults}))
