"""The stages of a gate, each a function that leaves behind what it found.

Each is bounded in time: when its time is up it ends as if it had been interrupted, and what it
knows by then counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import anyio

from mcpconc import campaign, nemesis, selftest
from mcpconc import doctor as doctors
from mcpconc import replay as replays
from mcpconc.baseline import Baseline, Known
from mcpconc.errors import Exit, McpconcError, UsageError
from mcpconc.events import (
    CampaignEvent,
    CampaignStarted,
    Emit,
    PlantState,
    RunFinished,
    TargetProgress,
)
from mcpconc.interrupt import Interrupts
from mcpconc.known import Met, entry_of, met, needed
from mcpconc.rigs import Rigs, Wanted, standing
from mcpconc.settings import Settings
from mcpconc.stress.run import StressConfig, stress
from mcpconc.target.base import Identity, Target
from mcpconc.target.warm import Start, best_start
from mcpconc.trace import Trace, load
from mcpconc.verdict import Verdict

__all__ = ["STAGES", "Gate", "Seen", "Stage", "family", "within"]

STARTING = 60.0
"""Seconds in which a stage may bring its servers up, which its time does not count."""

LATE = "cut short, for its time was up"

GRACE = 20.0
"""Seconds that a stage has to clean up when its time is up, before it is cut short again."""

TRIES = 5
"""Replays of a saved trace of which nobody recorded how often it fails."""

T = TypeVar("T")


@dataclass(slots=True)
class Seen:
    """What all judged runs had in them: without it a run could not have failed."""

    programs: int = 0
    undecided: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str]] = field(default_factory=set)

    def add(self, run: RunFinished) -> None:
        self.programs += 1
        self.undecided += run.verdict is Verdict.UNKNOWN
        self.pairs |= {*run.pairs}
        for tool, outcomes in run.outcomes.items():
            self.tools[tool] += sum(outcomes.values())


@dataclass(slots=True)
class Gate:
    """A gate that is under way. `parts` are those of its summary document; `replayed` says of
    entries of the baseline in how many of how many replays their traces failed, and `unread` why a
    trace could not be read. `ended` is why the rest was not done, with the exit code for it."""

    settings: Settings
    target: Target
    baseline: Baseline
    out: Path
    emit: Emit
    clock: Callable[[], float]
    today: date
    signals: Interrupts = field(default_factory=Interrupts)
    parts: dict[str, Any] = field(default_factory=dict)
    found: list[Met] = field(default_factory=list)
    replayed: dict[str, tuple[int, int]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    unmeasured: list[dict[str, str]] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    ended: tuple[Exit, str] | None = None
    begun: anyio.Event = field(default_factory=anyio.Event)
    """Set when a campaign has its servers up."""

    @property
    def work(self) -> Path:
        return self.out / "work"

    def tell(self, event: CampaignEvent) -> None:
        """What stages emit: looked at, and passed on."""
        if isinstance(event, RunFinished):
            self.seen.add(event)
        if isinstance(event, CampaignStarted):
            self.begun.set()
        self.emit(event)

    def start(self) -> Start:
        """How calls start where that is left to us: forked where the target can."""
        wanted = self.settings.start
        return best_start(self.target) if wanted == "auto" else Start(wanted)

    def identities(self) -> tuple[Identity, ...]:
        """Those asked for, or of the usual ones those that the target knows."""
        usual = (Identity.ISOLATED, Identity.EXPLICIT)
        known = self.target.identities
        wanted = tuple(map(Identity, self.settings.identity)) or usual
        return tuple(mode for mode in wanted if mode in known) or tuple(known[:1])

    def lacks(self, what: str, why: str) -> None:
        self.unmeasured.append({"what": what, "why": why})


Stage = Callable[[Gate], Awaitable[None]]


async def within(gate: Gate, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """Do this; when the time is up, end it as a signal would, and harder after a while. The time
    begins when a campaign does, or after `STARTING` seconds."""
    gate.begun = anyio.Event()
    failure: Exception | None = None
    result: list[T] = []

    async def end() -> None:
        with anyio.move_on_after(STARTING):
            await gate.begun.wait()
        for wait in (seconds, GRACE, GRACE):
            await anyio.sleep(wait)
            if gate.signals.inner is not None:
                gate.signals.inner.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        try:
            result.append(await work())
        except Exception as error:  # not out of the group, which would put it into one
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]


async def doctor(gate: Gate) -> None:
    """Can the target be used at all?"""
    asked = partial(doctors.doctor, gate.settings.target, gate.work, gate.tell, start=gate.start())
    # To install a target takes as long as it takes, once.
    await gate.target.install(lambda text: gate.tell(TargetProgress(text)))
    health = await within(gate, gate.settings.doctor.time, asked)
    gate.parts["doctor"] = health.to_json()
    if health.exit is Exit.TARGET:
        bad = next(check for check in health.checks if check.state == "bad")
        gate.ended = (Exit.TARGET, f"the target cannot be used: {bad.name}: {bad.answer}")
    elif health.interrupted and not gate.signals:
        gate.lacks("doctor", f"not done in {gate.settings.doctor.time:g} s")


async def canary(gate: Gate) -> None:
    """Are planted bugs seen? Where they are not, nothing that follows means anything."""
    budget = gate.settings.canary.time
    config = selftest.SelftestConfig(
        out=gate.out / "canary", budget=budget, seed=gate.settings.seed, clock=gate.clock
    )
    done = await within(
        gate, budget, partial(selftest.selftest, selftest.canary(config), gate.emit)
    )
    caught = sum(one.state is PlantState.CAUGHT for one in done.tried)
    gate.parts["canary"] = {
        "passed": done.exit is Exit.PASSED,
        "caught": caught,
        "of": len(done.tried),
        "seconds": round(done.seconds, 3),
    }
    if done.exit is Exit.VIOLATION:
        what = f"{len(done.alarms)} false alarms" if done.alarms else "a planted bug escaped"
        gate.ended = (Exit.BUG, f"the canary: {what}, so this gate would mean nothing")
    elif done.exit is not Exit.PASSED and not gate.signals:
        gate.vacuous.append(
            f"the canary: {caught} of {len(done.tried)} planted bugs caught in time"
        )


def family(spec: str) -> str:
    """What a SPEC is a version of: traces of one are replayed on another."""
    for mark in ("==", "@", "+"):
        spec = spec.partition(mark)[0]
    return spec


async def traces(gate: Gate) -> None:
    """Do saved traces still fail? Those in the baseline come first, for they must be judged; those
    that can be run on the same servers follow each other."""
    end = gate.clock() + gate.settings.replays.time
    listed: list[dict[str, Any]] = []
    gate.parts["traces"] = listed
    groups: dict[tuple[bool, Wanted], list[tuple[Trace, Known | None, Path]]] = {}
    for known, path in _saved(gate):
        trace = _trace(gate, known, path, listed)
        if trace is not None:
            wanted = replays.wanted_rig(trace, gate.settings.target, gate.start())
            groups.setdefault((known is None, wanted), []).append((trace, known, path))
    async with standing() as rigs:
        for trace, known, path in chain.from_iterable(groups.values()):
            if gate.clock() >= end or gate.signals:
                listed.append(_replayed(path, "NOT JUDGED", trace, why="there was no time left"))
                continue
            listed.append(await _again(gate, trace, known, path, end, rigs))


def _trace(
    gate: Gate, known: Known | None, path: Path, listed: list[dict[str, Any]]
) -> Trace | None:
    """A saved trace of this target, or nothing but what is said of it."""
    try:
        trace = load(path)
        if trace.finding is None:
            raise UsageError(f"{path}: holds no finding")
    except McpconcError as error:
        if known is not None:
            gate.unread[known.fingerprint] = str(error)
        listed.append(_replayed(path, "ERROR", why=str(error)))
        return None
    why = ""
    if family(trace.target) != family(gate.settings.target):
        why = f"its trace is of {trace.target}"
    elif trace.identity not in gate.target.identities:  # an older release, say
        why = f"its trace needs the identity mode {trace.identity}, which the target has not"
    if why:
        if known is not None:
            gate.elsewhere[known.fingerprint] = why
        gate.lacks(str(path), why)
        return None
    return trace


def _saved(gate: Gate) -> Iterator[tuple[Known | None, Path]]:
    """Each saved trace once, and the entry of the baseline that it belongs to."""
    seen: set[Path] = set()
    for known in sorted(gate.baseline.findings, key=lambda known: -known.rate()):
        path = gate.baseline.trace(known)
        seen.add(path.resolve())
        yield known, path
    for root in map(Path, gate.settings.traces):
        for file in sorted(root.glob("*/trace.json")):
            if file.parent.resolve() not in seen:
                yield None, file.parent


async def _again(
    gate: Gate, trace: Trace, known: Known | None, path: Path, end: float, rigs: Rigs
) -> dict[str, Any]:
    """Replay until it fails once, or until enough tries did not, or time is up."""
    assert trace.finding is not None
    recorded = known.rate() if known is not None else 0.0
    wanted = needed(recorded or entry_of(trace, str(path), "").rate()) or TRIES
    result = await within(
        gate,
        max(1.0, end - gate.clock()),
        partial(
            replays.replay,
            trace,
            min(wanted, gate.settings.replays.tries),
            gate.settings.target,
            gate.work,
            gate.tell,
            gate.start(),
            lambda reproduced, tried: reproduced > 0 or gate.clock() >= end,
            rigs,
        ),
    )
    if known is not None:
        gate.replayed[known.fingerprint] = (result.reproduced, result.tried)
    if result.reproduced:
        gate.found.append(Met(trace.finding, path))
        status = "STILL FAILS" if result.reproduced == result.tried else "FLAKY"
    elif result.error:
        status = "ERROR"
    else:
        status = "FIXED" if result.tried >= wanted else "NOT JUDGED"
    few = f"{result.tried} replays did not fail; {wanted} would tell"
    why = result.error or (few if status == "NOT JUDGED" else "")
    return _replayed(path, status, trace, result.reproduced, result.tried, why)


def _replayed(
    path: Path,
    status: str,
    trace: Trace | None = None,
    reproduced: int = 0,
    tried: int = 0,
    why: str = "",
) -> dict[str, Any]:
    finding = trace.finding if trace is not None else None
    return {
        "trace": str(path),
        "status": status,
        "reproduced": reproduced,
        "tried": tried,
        "fingerprint": finding and finding.fingerprint.digest(),
        "why": why or None,
    }


async def fuzz(gate: Gate) -> None:
    """Programs that nobody has written down."""
    wanted = gate.settings.fuzz
    gate.parts["fuzz"] = await _campaign(gate, _fuzzing(gate, gate.out), wanted.time + GRACE)


async def faults(gate: Gate) -> None:
    """The same while things break."""
    wanted = gate.settings.faults
    if not wanted.runs:
        return
    kinds = [n for n, kind in nemesis.KINDS.items() if not kind.inside]
    names = kinds if wanted.kinds == ("all",) else wanted.kinds
    config = replace(
        _fuzzing(gate, gate.out / "faults"),
        nemesis=nemesis.chosen(list(names), nemesis.KINDS),
        max_time=wanted.time,
        runs=wanted.runs,
    )
    told = await _campaign(gate, config, wanted.time + GRACE)
    gate.parts["faulty"] = told
    met = {toll["fault"]: toll["recovery"] for toll in told["faults"] if toll["began"]}
    gate.parts["faults"] = met
    if never := [name for name in config.nemesis if name not in met]:
        gate.lacks(f"recovery from {', '.join(never)}", "no program met it")


def _fuzzing(gate: Gate, out: Path) -> campaign.FuzzConfig:
    settings = gate.settings
    return campaign.FuzzConfig(
        out=out,
        target=settings.target,
        agents=settings.agents,
        identities=gate.identities(),
        max_time=settings.fuzz.time,
        runs=settings.fuzz.runs,
        seed=settings.seed,
        inflight=settings.fuzz.inflight,
        scheduler=settings.fuzz.scheduler,
        calls=settings.fuzz.calls,
        share=settings.fuzz.share,
        shrink=settings.fuzz.shrink,
        start=gate.start(),
        clock=gate.clock,
    )


async def _campaign(gate: Gate, config: campaign.FuzzConfig, limit: float) -> dict[str, Any]:
    config.out.mkdir(parents=True, exist_ok=True)
    done = await within(gate, limit, partial(campaign.fuzz, config, gate.tell))
    gate.found += map(met, done.kept)
    late = done.exit is Exit.INTERRUPTED and not gate.signals
    # Its findings stand with all others.
    return {**done.numbers(), "stop": LATE if late else done.stop}


async def load_(gate: Gate) -> None:
    """How fast, at what cost, and is it right under load?"""
    wanted, target = gate.settings.stress, gate.target
    known: Mapping[str, Any] = getattr(target, "settings", {})
    for name in wanted.settings:
        if name != "default" and name not in known:
            gate.lacks(f"settings {name}", f"{target.name} has no such configuration")
    config = StressConfig(
        out=gate.out / "stress",
        target=gate.settings.target,
        scenarios=wanted.scenarios,
        agents=wanted.agents,
        baseline=wanted.baseline,
        calls=wanted.calls,
        lane=wanted.lane,
        share=gate.settings.fuzz.share,
        minimise=wanted.minimise,
        own=wanted.own,
        observed=wanted.observed,
        seed=gate.settings.seed,
        identity=gate.identities()[0],
        start=Start(wanted.start),
        observe=wanted.observe,
        settings=tuple(n for n in wanted.settings if n == "default" or n in known),
        settings_agents=(gate.settings.agents,),
        max_time=wanted.time,
        clock=gate.clock,
    )
    config.out.mkdir(parents=True, exist_ok=True)
    done = await within(gate, wanted.time, partial(stress, config, gate.tell))
    gate.found += map(met, done.kept)
    told = dict(done.document())
    gate.unmeasured += told.pop("unmeasured", [])
    for key in ("findings", "stop", "vacuous", "seconds"):
        told.pop(key, None)
    gate.parts.update(told)
    if done.exit is Exit.INTERRUPTED and not gate.signals:
        gate.lacks("stress", LATE)
    if done.exit is Exit.TARGET:
        gate.ended = (Exit.TARGET, f"under load: {done.stop}")


STAGES: Mapping[str, Stage] = {
    "doctor": doctor,
    "canary": canary,
    "traces": traces,
    "fuzz": fuzz,
    "faults": faults,
    "stress": load_,
}
"""In their order; thresholds come at the end and are no stage that could be left out."""
