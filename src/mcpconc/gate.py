"""The release gate: doctor → canary → saved traces → fuzz → faults → stress → thresholds.

The stages are in `mcpconc.stages`. Here they are put in order, what they found is held against
the baseline and the thresholds, and one summary document is made of it, from which every report
is. Whatever ends a gate early, the document says what is known.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mcpconc import __version__
from mcpconc.baseline import Baseline, Tolerated
from mcpconc.errors import Exit, TargetError, UsageError, leaves
from mcpconc.events import Emit, InfraTrouble, TargetProgress
from mcpconc.interrupt import interrupts
from mcpconc.known import Entry, Met, matching, settled
from mcpconc.settings import Settings, budget
from mcpconc.stages import STAGES, Gate, Stage
from mcpconc.target import resolve
from mcpconc.thresholds import evaluate, parse
from mcpconc.trace import environment

__all__ = ["STAGES", "SUMMARY", "GateConfig", "Gated", "gate"]

SUMMARY = 1
"""Version of the summary document."""

NEEDS = {"recovery.lost": "faults"}
"""Metric → the stage without which there is none; of the others that is stress."""

NEW, KNOWN, UNCONFIRMED = "new", "known", "unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What a gate does. `skip` are stages that are left out, `command` the words that started it,
    `kind` what the document calls itself (``gate``, or ``stress`` where that is all). `now` says
    when it began, and so what has expired."""

    out: Path
    settings: Settings
    baseline: Baseline = field(default_factory=Baseline)
    skip: frozenset[str] = frozenset()
    command: str = "mcpconc gate"
    kind: str = "gate"
    stages: Mapping[str, Stage] = field(default_factory=lambda: STAGES)
    clock: Callable[[], float] = field(default=time.monotonic)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @property
    def today(self) -> date:
        return self.now().date()


@dataclass(frozen=True, slots=True)
class Gated:
    """The end of a gate: its summary document, and what it met. If a stage ended over a mistake of
    ours, this is the `failure`."""

    document: Mapping[str, Any]
    found: tuple[Met, ...] = ()
    entries: tuple[Entry, ...] = ()
    failure: Exception | None = None

    @property
    def exit(self) -> Exit:
        return Exit(self.document["exit"])


async def gate(config: GateConfig, emit: Emit) -> Gated:
    """Run all stages that are not left out.

    The first SIGINT or SIGTERM ends the stage that is running, and with it the gate.

    :raises UsageError: for a target, an identity mode or a scheduler that there is not.
    """
    began, started = config.now(), config.clock()
    failure: Exception | None = None
    work = Gate(
        settings=config.settings,
        target=resolve(config.settings.target),
        baseline=config.baseline,
        out=config.out,
        emit=emit,
        clock=config.clock,
        today=config.today,
    )

    def progress(text: str) -> None:
        emit(TargetProgress(text))

    async with interrupts(progress) as signals:
        work.signals = signals
        stages = {n: s for n, s in config.stages.items() if n not in config.skip}
        for n, (name, stage) in enumerate(stages.items(), 1):
            progress(f"gate: {n} of {len(stages)}: {name}")
            try:
                await stage(work)
            except TargetError as error:
                emit(InfraTrouble(str(error)))
                work.ended = (Exit.TARGET, f"{name}: {error}")
            except UsageError:
                raise
            except Exception as error:  # what was measured before is told all the same
                failure = error
                work.ended = (Exit.BUG, f"{name}: a bug in mcpconc: {leaves(error)[0]!r}")
            if signals or work.ended is not None:
                break
    if signals:
        work.ended = (Exit.INTERRUPTED, "interrupted")
    return replace(_judged(config, work, began, config.clock() - started), failure=failure)


def _judged(config: GateConfig, work: Gate, began: datetime, seconds: float) -> Gated:
    """Findings, baseline and thresholds, and what follows of them."""
    findings, shown = _findings(config, work)
    listed = {finding["listed_as"] for finding in findings if finding["listed_as"]}
    unread = {
        known.fingerprint: f"no trace at {config.baseline.trace(known)}"
        for known in config.baseline.findings
        if not config.baseline.trace(known).is_dir()
    }
    entries = settled(
        config.baseline, listed, work.replayed, config.today, {**work.unread, **unread}
    )
    document = {
        **_frame(config, work, began, seconds),
        **work.parts,
        "findings": findings,
        "phases": [
            {**phase, "violations": sorted({shown.get(name, name) for name in phase["violations"]})}
            for phase in work.parts.get("phases", ())
        ],
        "baseline": [_entry(config, work, entry) for entry in entries],
    }
    document["unmeasured"] = work.unmeasured
    document["thresholds"] = [_threshold(config, document, t) for t in config.settings.thresholds]
    document["vacuous"] = [*work.vacuous, *_vacuous(config, work, document)]
    exit_, stop = _verdict(config, work, document, entries)
    document |= {"passed": exit_ is Exit.PASSED, "exit": int(exit_), "stop": stop}
    return Gated(document, tuple(work.found), entries)


def _frame(config: GateConfig, work: Gate, began: datetime, seconds: float) -> dict[str, Any]:
    """What every summary says, for stages that were not reached to fill in."""
    settings = config.settings
    target, facts = work.target, environment()
    return {
        "mcpconc_summary": SUMMARY,
        "kind": config.kind,
        "made_by": {
            "name": "mcpconc",
            "version": __version__,
            "command": config.command,
            "seed": settings.seed,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
        },
        "target": {
            "name": target.name,
            "version": target.version,
            "spec": settings.target,
            "identity": work.identities()[0].value,
            "start": work.start().value,
        },
        "machine": {
            "cores": int(facts["cpus"]),
            "cpu": platform.processor() or platform.machine(),
            "memory_mib": None,
            "python": facts["python"],
            "sqlite": facts["sqlite"],
            "git": facts["git"],
            "kernel": facts["platform"],
            "filesystem": None,
        },
        "profile": {
            "name": settings.profile,
            "about": settings.about,
            "agents": settings.agents,
            "budget": budget(settings),
        },
        "skipped": [name for name in config.stages if name in config.skip],
        "phases": [],
        "slowdown": [],
        "bottlenecks": [],
        "settings": [],
        "faults": {},
        "traces": [],
        "canary": None,
        "doctor": None,
        "fuzz": None,
        "seen": {
            "programs": work.seen.programs,
            "undecided": work.seen.undecided,
            "tools": dict(sorted(work.seen.tools.items())),
            "pairs": len(work.seen.pairs),
        },
    }


def _findings(config: GateConfig, work: Gate) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Each distinct finding once, new ones first; and under which fingerprint each is there that
    was met: several may be one finding that is listed."""
    found: dict[str, dict[str, Any]] = {}
    shown: dict[str, str] = {}
    for met in work.found:
        digest = met.finding.fingerprint.digest()
        known = matching(met.finding, config.baseline.findings, met.involved, met.faults)
        name = known.fingerprint if known else digest
        status = KNOWN if known else NEW if met.counts else UNCONFIRMED
        shown[digest] = name
        if name in found:
            found[name]["times"] += met.times
            if status == NEW:
                found[name]["status"] = NEW
            continue
        f = met.finding.fingerprint
        trace = str(met.path) if met.path else None
        found[name] = {
            "fingerprint": name,
            "title": (known and known.title)
            or replace(
                f, tools=f.tools or met.involved or (), faults=f.faults or met.faults
            ).title(),
            "label": known.label if known else met.finding.label.value,
            "oracle": f.oracle,
            "property": f.property,
            "kind": f.kind,
            "field": f.field,
            "tools": list(known.tools if known else f.tools),
            "faults": list(known.faults if known else f.faults),
            "summary": met.finding.summary,
            "trace": trace,
            "command": trace and f"mcpconc replay {trace} --times 10",
            "status": status,
            "listed_as": known.fingerprint if known else None,
            "reason": known.reason if known else None,
            "times": met.times,
        }
    ranks = {NEW: 0, UNCONFIRMED: 1, KNOWN: 2}
    return sorted(found.values(), key=lambda finding: ranks[finding["status"]]), shown


def _entry(config: GateConfig, work: Gate, entry: Entry) -> dict[str, Any]:
    known = entry.known
    elsewhere = work.elsewhere.get(known.fingerprint) if entry.status == "not judged" else None
    return {
        "fingerprint": known.fingerprint,
        "title": known.title,
        "status": entry.status,
        "why": elsewhere or entry.why or None,
        "reason": known.reason,
        "expires": known.expires and known.expires.isoformat(),
        "trace": str(config.baseline.trace(known)),
        "failed": entry.failed,
        "of": entry.of,
    }


def _threshold(config: GateConfig, document: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The threshold against the document. One that is missed is listed if the baseline allows so
    much; one that belongs to a stage that was left out says so."""
    threshold = parse(text)
    told = evaluate(threshold, document)
    stage = NEEDS.get(threshold.metric, "stress")
    if told["passed"] is None and stage in config.skip:
        told["why"] = f"not measured: {stage} was left out (--skip {stage})"
    tolerated = config.baseline.tolerated(text)
    if told["passed"] is False and tolerated is not None:
        why = _not_allowed(config, tolerated, told["actual"])
        told |= {"why": why} if why else {"listed": tolerated.to_json()}
    return told


def _not_allowed(config: GateConfig, tolerated: Tolerated, actual: float) -> str:
    """Why a tolerated miss fails all the same; empty if it does not."""
    if tolerated.expires is not None and tolerated.expires < config.today:
        return f"the baseline accepted it until {tolerated.expires.isoformat()}"
    if tolerated.allows(actual):
        return ""
    return (
        f"the baseline accepts {tolerated.value:g}, and {tolerated.tolerance:.0%} more or less; "
        "it is worse"
    )


def _vacuous(config: GateConfig, work: Gate, document: Mapping[str, Any]) -> list[str]:
    """Why this run could hardly have failed."""
    floors, seen = config.settings.floors, work.seen
    if not seen.programs:
        return ["no program was run: neither fuzzing nor stress"]
    decided = seen.programs - seen.undecided
    said = [
        f"{what} {number} is below {floor}"
        for what, number, floor in (
            ("programs with a verdict", decided, floors.programs),
            ("tools called", len(seen.tools), floors.tools),
            ("pairs of tools in flight at once", len(seen.pairs), floors.pairs),
        )
        if number < floor
    ]
    fuzz, load = document["fuzz"], evaluate(parse("overlap.avg >= 0"), document)
    overlaps = {
        "fuzz": fuzz["overlap"]["mean"] if fuzz and fuzz["programs"] else None,
        "stress": load["actual"] if document["phases"] else None,
    }
    for name, overlap in overlaps.items():
        if overlap is not None and overlap < floors.overlap:
            said.append(f"overlap.avg {overlap:g} of {name} is below {floors.overlap:g}")
    return said


def _verdict(
    config: GateConfig, work: Gate, document: Mapping[str, Any], entries: tuple[Entry, ...]
) -> tuple[Exit, str]:
    """What the gate comes to: what was seen to be wrong counts more than what was not seen."""
    if work.ended is not None:
        return work.ended
    statuses = [finding["status"] for finding in document["findings"]]
    thresholds = document["thresholds"]
    missed = [t for t in thresholds if t["passed"] is False and t["listed"] is None]
    wrong = [
        _many(statuses.count(NEW), "new finding"),
        _many(len(missed), "threshold", "missed"),
        _many(sum(entry.status == "stale" for entry in entries), "stale entry"),
        _many(sum(entry.status == "expired" for entry in entries), "expired entry"),
    ]
    if any(wrong):
        return Exit.VIOLATION, ", ".join(filter(None, wrong))
    left = [
        "vacuous: " + "; ".join(document["vacuous"]) if document["vacuous"] else "",
        _many(statuses.count(UNCONFIRMED), "finding", "seen with forked calls only"),
        _many(
            sum(t["passed"] is None and "left out" not in t["why"] for t in thresholds),
            "threshold",
            "not measured",
        ),
    ]
    if any(left):
        return Exit.INCONCLUSIVE, ", ".join(filter(None, left))
    without = f" without {', '.join(document['skipped'])}" if document["skipped"] else ""
    return Exit.PASSED, f"all that was asked holds{without}"


def _many(number: int, what: str, more: str = "") -> str:
    """``2 new findings``; nothing for none."""
    several = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else several} {more}".rstrip() if number else ""
