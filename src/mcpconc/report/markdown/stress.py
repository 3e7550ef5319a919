"""MULTI_AGENT_STRESS_TEST_REPORT.md: what held with how many agents, and where it breaks first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from mcpconc.oracle.base import Label
from mcpconc.report.document import Json
from mcpconc.report.finding import MEANING
from mcpconc.report.markdown.common import (
    Pictures,
    again,
    at,
    beginning,
    busy,
    by_scenario,
    ending,
    is_probed,
    joined,
    ladder,
    slowdowns,
)
from mcpconc.report.markdown.figures import (
    NOT,
    code,
    counted,
    estimate,
    latencies,
    machine,
    number,
    part,
    percent,
    prose,
    rate,
    table,
)

__all__ = ["held", "slowdown_limit", "stress_report"]

RATES = ("errors", "refusals", "timeouts", "locks")
HEAD = (
    *("agents", "verdict", "programs", "calls", "in flight, mean", "in flight, most", "throughput"),
    *("mean", "p50", "p90", "p95", "p99", "max", "machine"),
)
ALL = "all"
"""What a slowdown over all scenarios is called."""
BREAKS = ("first violation", "first error", "first time-out", "first lock error")


def stress_report(document: Json, pictures: Pictures | None = None) -> str:
    """The whole report. Ends with a newline."""
    shown = pictures or Pictures()
    target = document["target"]
    lines = [
        *beginning(
            document, f"Multi-agent stress test: {target['name']} {target['version'] or ''}"
        ),
        *_breaks(document),
        *_held(document, shown),
        *_slowdown(document, shown),
        *_errors(document),
        *_violations(document),
        *ending(document),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _breaks(document: Json) -> Iterator[str]:
    yield from ("## Where it breaks first", "")
    scenarios = by_scenario(ladder(document))
    if not scenarios:
        yield from ("No number of agents was measured.", "")
        return
    limit = slowdown_limit(document)
    head = ["scenario", "agents measured", *BREAKS, "slower than allowed (shared)"]
    rows = []
    for scenario, phases in scenarios.items():
        tests: list[Callable[[Json], bool | None]] = [
            lambda phase: bool(phase["violations"]),
            *(_counted(name) for name in ("errors", "timeouts", "locks")),
        ]
        firsts = [_first(phases, test) for test in tests]
        agents = joined(number(phase["agents"]) for phase in phases)
        rows.append([scenario, agents, *firsts, _slow(document, scenario, limit)])
    yield from table(head, rows)
    yield from again(document, ladder(document))


def _counted(name: str) -> Callable[[Json], bool | None]:
    def some(phase: Json) -> bool | None:
        count = phase["counts"][name]
        return None if count is None else count > 0

    return some


def _first(phases: Sequence[Json], test: Callable[[Json], bool | None]) -> str:
    """The fewest agents with which it happened, or up to how many it did not."""
    measured = 0
    for phase in phases:
        happened = test(phase)
        if happened:
            busy = percent(part(phase["saturation"], "cpu_mean"))
            return f"**{counted(phase['agents'], 'agent')}**, CPU {busy}"
        if happened is not None:
            measured = phase["agents"]
    return f"none up to {counted(measured, 'agent')}" if measured else NOT


def slowdown_limit(document: Json) -> float | None:
    """The share that the first threshold on `slowdown.shared` allows."""
    for threshold in document["thresholds"]:
        if re.match(r"slowdown\.shared\b", threshold["expr"]) and threshold["limit"] is not None:
            limit = float(threshold["limit"])
            return limit / 100 if threshold["unit"] == "%" else limit
    return None


def _slow(document: Json, scenario: str, limit: float | None) -> str:
    rows = [row for row in slowdowns(document) if row["scenario"] == scenario]
    measured = [row for row in rows if row["shared"] is not None]
    if limit is None or not measured:
        return NOT
    for row in sorted(measured, key=lambda row: int(row["agents"])):
        if row["shared"]["value"] >= limit:
            return f"**{counted(row['agents'], 'agent')}**, {estimate(row['shared'], percent)}"
    return f"none up to {counted(max(row['agents'] for row in measured), 'agent')}"


def _held(document: Json, pictures: Pictures) -> Iterator[str]:
    yield from ("## What held with how many agents", "")
    for scenario, phases in by_scenario(ladder(document)).items():
        rows = [
            (
                *(number(phase["agents"]), held(document, phase), number(phase["programs"])),
                *(number(phase["calls"]), number(phase["overlap"]["mean"])),
                *(number(phase["overlap"]["max"]), rate(phase["throughput"])),
                *(*latencies(phase["latency"]), machine(phase)),
            )
            for phase in phases
        ]
        yield from (f"### {scenario}", "")
        yield from table(HEAD, rows)
        yield from pictures.show(f"latency-{scenario}", f"latency of {scenario} against agents")
        yield from again(document, phases, within=True)
    if ladder(document):
        yield from again(document)
    else:
        yield from ("Not measured.", "")


def held(document: Json, phase: Json) -> str:
    """The verdict on a phase; one on what the baseline lists is not in bold."""
    known = {f["fingerprint"] for f in document["findings"] if f["status"] == "known"}
    said = "held"
    if phase["violations"]:
        said = "violated, listed" if known.issuperset(phase["violations"]) else "**violated**"
    undecided = f"{counted(phase['undecided'], 'program')} undecided"
    return f"{said}; {undecided}" if phase["undecided"] else said


def _slowdown(document: Json, pictures: Pictures) -> Iterator[str]:
    yield from ("## Slowdown", "")
    slower = slowdowns(document)
    if not slower:
        yield from ("Not measured.", "")
        return
    yield (
        "*Raw* compares agents in one world with one agent alone, so it includes that they share"
        " the machine. *Shared* compares agents in one world with as many agents in a world each"
        " at the same time, so it is what sharing the database costs."
    )
    yield ""
    phases = ladder(document)
    rows = [
        (
            *(row["scenario"], number(row["agents"]), estimate(row["raw"], percent)),
            *(number(row["n"]), estimate(row["shared"], percent), number(row.get("pairs"))),
            busy(
                phase
                for phase in phases
                if phase["agents"] == row["agents"] and row["scenario"] in (ALL, phase["scenario"])
            ),
        )
        for row in slower
    ]
    head = ("scenario", "agents", "raw", "calls", "shared", "pairs of calls", "machine")
    yield from table(head, rows)
    for scenario in dict.fromkeys(row["scenario"] for row in slower):
        yield from pictures.show(f"slowdown-{scenario}", f"slowdown of {scenario}, raw and shared")
    yield from again(document, ladder(document))


def _errors(document: Json) -> Iterator[str]:
    yield from ("## Errors, refusals, time-outs and lock errors", "")
    rows = []
    for phase in document["phases"]:
        if not is_probed(phase):
            shares = [_share(phase, name) for name in RATES]
            answered = number(phase["counts"]["answered"])
            what = [phase["scenario"], number(phase["agents"]), phase["placement"]]
            rows.append([*what, phase["settings"], answered, *shares, machine(phase)])
    head = ("scenario", "agents", "worlds", "settings", "answered", *RATES, "machine")
    yield from table(head, rows) or ("Not measured.", "")
    if rows:
        yield from again(document, [p for p in document["phases"] if not is_probed(p)])


def _share(phase: Json, name: str) -> str:
    count, share = phase["counts"][name], phase["rates"][name]
    if count is None or share is None:
        return NOT
    return f"{count} ({percent(share)})" if count else "none"


def _violations(document: Json) -> Iterator[str]:
    yield from ("## Violations", "")
    if not document["findings"]:
        yield from ("No violation was found in what was run.", "")
    for finding in document["findings"]:
        yield from _violation(document, finding)


def _violation(document: Json, finding: Json) -> Iterator[str]:
    """One finding: what, how often, where, and how to see it again."""
    meaning = {label.value: text for label, text in MEANING.items() if isinstance(label, Label)}
    seen = [
        at(phase) for phase in document["phases"] if finding["fingerprint"] in phase["violations"]
    ]
    field = f".{finding['field']}" if finding["field"] else ""
    said = meaning.get(finding["label"])
    yield from (f"### {prose(finding['title'])}", "")
    yield from (prose(finding["summary"]), "")
    yield f"* label: {finding['label']}" + (f" ({said})" if said else "")
    yield f"* oracle: {finding['oracle']}, {finding['property']} of {finding['kind']}{field}"
    yield f"* fingerprint: {code(finding['fingerprint'])}, {finding['status'] or 'not compared'}"
    where = joined(seen, "; ") or "in no phase of the stress run"
    yield f"* seen: {counted(finding['times'], 'time')}; {where}"
    yield f"* trace: {code(finding['trace']) if finding['trace'] else 'could not be written'}"
    if finding["command"]:
        yield f"* again: {code(finding['command'])}"
    yield ""
