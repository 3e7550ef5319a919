"""Two targets, or two versions of one, run the same programs in turns; what differs is told with
a test that says whether luck explains it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc import __version__, differences
from mcpconc.campaign import Tally
from mcpconc.differences import Head, Pair, Shown
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import Emit, InfraTrouble, TargetProgress
from mcpconc.history import EventType, History
from mcpconc.interrupt import interrupts
from mcpconc.keep import as_trace
from mcpconc.oracle.base import Finding
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule.counts import COUNTED
from mcpconc.strategies import CascadeMachine, Knobs, ProgramMachine, generate
from mcpconc.target import resolve
from mcpconc.target.base import Identity, Target
from mcpconc.target.warm import Start
from mcpconc.trace import Shrink
from mcpconc.verdict import Verdict

__all__ = ["CompareConfig", "Compared", "compare"]

VERSION = 1
BATCH = 20
SCHEDULERS = ("free", "barrier")
"""By turns. Both leave calls as fast as they are; a convoy would not."""

WARM = 1
"""Programs that are run first and do not count: servers are slower at their first calls."""

AGAIN = 10
"""Further runs on each of a program that showed something on one of them alone: what always comes
back is then no luck (2 of 1024 sign patterns)."""

AGAIN_PROGRAMS = 3
"""Programs at most that are run again."""

TROUBLES = 3
"""Times in a row that a target may fail before the comparison gives up."""

SIDES = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """What is compared: targets `a` and `b`, by `runs` programs of about `calls` calls each, none
    begun after `max_time` seconds. `alpha` is the chance of any false alarm among all latencies
    (and among all findings, and all counts). With `observe` the probe counts what calls do."""

    out: Path
    a: str
    b: str
    agents: int = 5
    runs: int = 12
    calls: int = 12
    share: float = 0.7
    seed: int = 0
    identity: str = ""
    start: Start = Start.ORDINARY
    observe: bool = False
    alpha: float = 0.05
    max_time: float | None = None
    command: str = "mcpconc diff"
    machine: type[ProgramMachine] = CascadeMachine
    clock: Callable[[], float] = field(default=time.monotonic)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Compared:
    """The end of a comparison: one document."""

    document: Mapping[str, Any]

    @property
    def exit(self) -> Exit:
        return Exit(self.document["exit"])


@dataclass(slots=True)
class _Work:
    """A comparison that is under way."""

    config: CompareConfig
    targets: tuple[Target, Target]
    emit: Emit
    rigs: list[Rig] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    first: dict[Head, tuple[Program, int]] = field(default_factory=dict)
    """The program, by number, that showed a finding first."""
    again: dict[Head, list[Pair]] = field(default_factory=dict)
    tools: dict[str, list[str]] = field(default_factory=dict)
    traces: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    counted: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    tally: Tally = field(default_factory=Tally)
    infra: int = 0
    broken: str = ""


async def compare(config: CompareConfig, emit: Emit) -> Compared:
    """Run the programs on both. The first SIGINT or SIGTERM ends it; pairs that are complete count.

    :raises TargetError: if a target cannot be installed, prepared or started.
    :raises UsageError: if the two have no tool in common, or an identity mode is unknown.
    """

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    began, started = config.now(), config.clock()
    work = _Work(config, (resolve(config.a), resolve(config.b)), emit)
    identity = _identity(config, work.targets)
    stop = "interrupted"
    async with interrupts(progress) as signals:
        for target in work.targets:
            await target.install(progress)
        async with AsyncExitStack() as stack:
            for side, target in zip(SIDES, work.targets, strict=True):
                made = rig(
                    *(target, identity, config.agents, config.out / "work" / side, progress),
                    config.start,
                    "observe" if config.observe else None,
                )
                work.rigs.append(await stack.enter_async_context(made))
            machine = await _common(work)
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                since = config.clock()
                stop = await _all(work, machine, since)
                await _once_more(work, since)
    return Compared(_document(work, stop, bool(signals), began, config.clock() - started))


def _identity(config: CompareConfig, targets: tuple[Target, Target]) -> Identity:
    """:raises UsageError: if not both have it, or they have none in common."""
    common = [mode for mode in targets[0].identities if mode in targets[1].identities]
    if not config.identity and common:
        return Identity.ISOLATED if Identity.ISOLATED in common else common[0]
    if config.identity not in common:
        raise UsageError(
            f"--identity {config.identity}: both targets must have it; they have in common "
            f"{', '.join(common) or 'none'}"
        )
    return Identity(config.identity)


async def _common(work: _Work) -> type[ProgramMachine]:
    """The machine that calls what both offer.

    :raises UsageError: if that is nothing that it calls.
    """
    offered = [await on.tools() for on in work.rigs]
    both = offered[0] & offered[1]
    machine = work.config.machine
    if not set(machine.tools) & both:
        raise UsageError("these targets have no tool in common that programs call")
    machine = machine.offered(both)
    work.tools = {
        "both": sorted(both),
        "only_a": sorted(offered[0] - both),
        "only_b": sorted(offered[1] - both),
        "called": sorted(machine.tools),
    }
    return machine


async def _all(work: _Work, machine: type[ProgramMachine], started: float) -> str:
    """Run pair by pair until something says stop; returns what."""
    config = work.config
    programs = _programs(config, machine)
    troubles = 0
    for n in count():
        if len(work.pairs) >= config.runs:
            return f"{config.runs} programs done"
        if _late(config, started):
            return "time is up"
        program = await anyio.to_thread.run_sync(next, programs, None)
        if program is None:
            return "the strategy has no more programs"
        try:
            pair = await _pair(work, program, n)
            troubles = 0
            if n >= WARM:
                work.pairs.append(pair)
                for finding in (f for one in pair for f in one.findings):
                    work.first.setdefault(finding.fingerprint.head(), (program, n))
        except TargetError as error:
            work.infra += 1
            troubles += 1
            work.emit(InfraTrouble(str(error)))
            if troubles >= TROUBLES:
                work.broken = str(error)
                return f"a target failed {troubles} times in a row"
    raise AssertionError("count() does not end")


def _programs(config: CompareConfig, machine: type[ProgramMachine]) -> Iterator[Program]:
    knobs = Knobs(agents=config.agents, calls=config.calls, share=config.share)
    for batch in count():
        fresh = list(generate(machine, knobs, config.seed * 1_000_003 + batch, BATCH))
        if not fresh:
            return
        yield from islice(fresh, BATCH)


def _late(config: CompareConfig, started: float) -> bool:
    return config.max_time is not None and config.clock() - started >= config.max_time


async def _once_more(work: _Work, started: float) -> None:
    """Run programs again that showed on one target alone what so few programs cannot tell from
    luck."""
    config = work.config
    rows = differences.findings(work.pairs, config.alpha, config.seed)
    heads: list[Head] = [
        row["head"] for row in rows if not row["changed"] and 0 in (row["in_a"], row["in_b"])
    ]
    wanted = {work.first[head][0].digest(): work.first[head] for head in heads}
    for program, n in list(wanted.values())[:AGAIN_PROGRAMS]:
        pairs = []
        try:
            for turn in range(AGAIN):
                if _late(config, started):
                    break
                pairs.append(await _pair(work, program, n, turn))
        except TargetError as error:
            work.infra += 1
            work.emit(InfraTrouble(str(error)))
        for head in heads:
            if work.first[head][0].digest() == program.digest():
                work.again[head] = pairs


async def _pair(work: _Work, program: Program, n: int, turn: int = 0) -> Pair:
    """One program on both, the first one first in every other pair: what comes second finds the
    machine as the first one left it."""
    shown: dict[int, Shown] = {}
    for side in (0, 1) if (n + turn) % 2 == 0 else (1, 0):
        scheduler = SCHEDULERS[n // 2 % len(SCHEDULERS)]
        execution = await work.rigs[side].run(program, scheduler, work.config.seed * 7919 + n)
        work.emit(work.tally.add(execution, program.digest(), SIDES[side]))
        shown[side] = _shown(work, side, execution)
        for finding in execution.judgement.findings:
            _keep(work, side, execution, finding)
    return shown[0], shown[1]


def _shown(work: _Work, side: int, execution: Execution) -> Shown:
    return Shown(
        times(execution.run.history),
        execution.judgement.findings,
        _counted(work, side),
        execution.judgement.verdict is Verdict.UNKNOWN,
    )


def times(history: History) -> dict[str, list[float]]:
    """Tool → seconds from request to answer of its calls in the concurrent part."""
    tools = {op.call: op.tool for op in history.operations if op.phase.value == "lane"}
    sent = {e.call: e.ns for e in history.events if e.type is EventType.INVOKE}
    found: dict[str, list[float]] = {}
    for event in history.events:
        if event.type is EventType.OK and event.call in tools:
            seconds = (event.ns - sent[event.call]) / 1e9
            found.setdefault(tools[event.call], []).append(seconds)
    return found


def _counted(work: _Work, side: int) -> dict[str, float]:
    """What the probe has counted since it was asked last."""
    control = work.rigs[side].world.control
    if not work.config.observe or control is None:
        return {}
    sums: Counter[str] = Counter()
    for cost in control.costs.table():
        sums.update(cost.counts)
    fresh = sums - work.counted[side]
    work.counted[side] = sums
    # How long something took is not what it did.
    return {name: float(fresh[name]) for name in COUNTED if not name.endswith("_ns")}


def _keep(work: _Work, side: int, execution: Execution, finding: Finding) -> None:
    """The first run of each side that shows a finding is a trace."""
    known = work.traces.setdefault(finding.fingerprint.head(), {})
    if SIDES[side] in known:
        return
    how = Shrink(finished=False)
    trace = as_trace(work.rigs[side], execution, finding, work.config.seed, how, "")
    name = f"{SIDES[side]}-{finding.fingerprint.property}-{finding.fingerprint.digest()}"
    known[SIDES[side]] = str(trace.save(work.config.out / "traces" / name.lower()))


def _document(
    work: _Work, stop: str, interrupted: bool, began: datetime, seconds: float
) -> dict[str, Any]:
    config, pairs = work.config, work.pairs
    rows = differences.findings(pairs, config.alpha, config.seed, work.again)
    for row in rows:
        row["traces"] = work.traces.get(row.pop("head"), {})
    document: dict[str, Any] = {
        "mcpconc_diff": VERSION,
        "kind": "diff",
        "made_by": {
            "name": "mcpconc",
            "version": __version__,
            "command": config.command,
            "seed": config.seed,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
        },
        **{
            side: {"spec": spec, "name": target.name, "version": target.version}
            for side, spec, target in zip(SIDES, (config.a, config.b), work.targets, strict=True)
        },
        "agents": config.agents,
        "start": config.start.value,
        "alpha": config.alpha,
        "programs": len(pairs),
        "undecided": {s: sum(pair[k].undecided for pair in pairs) for k, s in enumerate(SIDES)},
        "infra": work.infra,
        "tools": work.tools,
        "findings": rows,
        "latencies": differences.latencies(pairs, config.alpha, config.seed),
        "counts": differences.counts(pairs, config.alpha, config.seed),
    }
    exit_, why = _verdict(work, document, interrupted)
    return {**document, "exit": int(exit_), "stop": stop, "said": why}


def _worse(row: Mapping[str, Any]) -> bool:
    """Whether b shows it more often, in what was tested."""
    tested = row["again"] or row
    return bool(tested["in_b"] > tested["in_a"])


def _verdict(work: _Work, document: Mapping[str, Any], interrupted: bool) -> tuple[Exit, str]:
    if interrupted:
        return Exit.INTERRUPTED, "interrupted"
    if work.broken and not work.pairs:
        return Exit.TARGET, work.broken
    if not work.pairs:
        return Exit.INCONCLUSIVE, "nothing was compared"
    rows = document["findings"]
    more = [row for row in rows if row["changed"] and _worse(row)]
    slower = [row for row in document["latencies"] if row["changed"] and row["b"] > row["a"]]
    alone = [row for row in rows if row["in_b"] and not row["in_a"] and not row["changed"]]
    if more or slower:
        parts = [
            f"{len(more)} finding{'s' * (len(more) != 1)} more often" if more else "",
            f"slower in {', '.join(row['tool'] for row in slower)}" if slower else "",
        ]
        return Exit.VIOLATION, f"b is worse: {' and '.join(filter(None, parts))}"
    if alone:
        return (
            Exit.INCONCLUSIVE,
            f"{len(alone)} seen in b alone, too seldom to tell: give more --runs",
        )
    return Exit.PASSED, "b is not worse, as far as these programs tell"
