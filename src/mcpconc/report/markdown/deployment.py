"""PRODUCTION_DEPLOYMENT_VALIDATION.md: whole workflows, faults and recovery, what a deployment
needs, and what to do about what was seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcpconc.oracle.storms import CLASSES, LOST
from mcpconc.report.document import Json
from mcpconc.report.markdown.common import (
    Pictures,
    again,
    at,
    beginning,
    ending,
    joined,
    ladder,
)
from mcpconc.report.markdown.criteria import criteria
from mcpconc.report.markdown.figures import (
    code,
    counted,
    latencies,
    machine,
    mib,
    number,
    part,
    percent,
    prose,
    rate,
    seconds,
    size,
    table,
)
from mcpconc.report.markdown.stress import held

__all__ = ["WORKFLOW", "deployment_report", "most"]

WORKFLOW = "cascade"
"""The scenario that runs whole loops of work."""

SYMPTOMS = {
    "timeouts": "calls are not answered in time",
    "locks": "calls fail because the database is locked",
    "errors": "calls fail, die, or are refused although they should not be",
}


HARD = {
    "after a restart": "calls fail until the server is started again",
    "needs a person": "calls fail until somebody repairs it",
    LOST: "what was acknowledged is not there",
}
"""What the target does not recover from by itself."""


def deployment_report(document: Json, pictures: Pictures | None = None) -> str:
    """The whole report. Ends with a newline."""
    shown = pictures or Pictures()
    target = document["target"]
    lines = [
        *beginning(document, f"Deployment: {target['name']} {target['version'] or ''}"),
        *("## Criteria", "", criteria(document)),
        *_workflow(document),
        *_faults(document),
        *_needs(document, shown),
        *_troubles(document),
        *_listed(document),
        *ending(document),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _workflow(document: Json) -> Iterator[str]:
    yield from ("## The whole workflow", "")
    phases = [phase for phase in ladder(document) if phase["scenario"] == WORKFLOW]
    rows = [
        (
            *(number(phase["agents"]), held(document, phase)),
            *(number(phase["programs"]), number(phase["calls"])),
            *(rate(phase["throughput"]), *latencies(phase["latency"])),
            *(percent(phase["rates"]["errors"]), machine(phase)),
        )
        for phase in phases
    ]
    head = (
        *("agents", "verdict", "programs", "calls", "throughput"),
        *("mean", "p50", "p90", "p95", "p99", "max", "errors", "machine"),
    )
    why = f"Not measured: the scenario {WORKFLOW} was not run."
    yield from table(head, rows) or (why, "")
    if phases:
        yield from again(document, phases)


def _faults(document: Json) -> Iterator[str]:
    yield from ("## Faults and recovery", "")
    known = [*CLASSES]
    faults = document["faults"]
    known += sorted({name for met in faults.values() for name in met} - set(known))
    shown = [name for name in known if any(name in met for met in faults.values())]
    rows = [
        [fault, *(number(met[name]) if met.get(name) else "" for name in shown)]
        for fault, met in faults.items()
    ]
    if not rows:
        yield from ("Not measured: no fault was injected.", "")
        return
    yield from (
        "How often a fault ended in what: when the target worked again, or that what had been"
        " acknowledged was lost.",
        "",
    )
    yield from table(["fault", *shown], rows)
    yield from again(document)


def _needs(document: Json, pictures: Pictures) -> Iterator[str]:
    """What each number of agents took; what one would need is what was measured."""
    yield from ("## What a deployment needs", "")
    on = document["machine"]
    software = joined(
        f"{name} {on[key]}" if on[key] else ""
        for name, key in (("Python", "python"), ("SQLite", "sqlite"), ("git", "git"))
    )
    cores, memory = number(on["cores"]), mib(on["memory_mib"])
    yield f"Measured with {software or 'unknown software'}, on {cores} cores with {memory}."
    yield ""
    phases = ladder(document)
    rows = [_need(phase) for phase in phases]
    head = (
        *("scenario", "agents", "calls", "memory of an agent, mean", "memory of an agent, most"),
        *("memory of the machine in use", "CPU of a call", "CPU of an agent, most"),
        "threads of an agent, most",
        *("descriptors of an agent, most", "database grew", "WAL grew", "logs grew", "git grew"),
        "machine",
    )
    yield from table(head, rows) or ("Not measured.", "")
    yield from pictures.show("memory", "memory of an agent against agents")
    if phases:
        yield from again(document, phases)


def _need(phase: Json) -> Sequence[str]:
    each, left, busy = phase["rss_per_agent_mib"], phase["storage"], phase["saturation"]
    disk = ("database_bytes", "wal_bytes", "log_bytes", "git_bytes")
    return (
        *(phase["scenario"], number(phase["agents"]), number(phase["calls"])),
        *(mib(part(each, "mean")), mib(part(each, "max")), mib(part(busy, "memory_used_mib"))),
        seconds(phase.get("cpu_per_call")),
        *(seconds(most(phase, "cpu_s")), number(most(phase, "threads"))),
        number(most(phase, "descriptors")),
        *(size(part(left, name)) for name in disk),
        machine(phase),
    )


def most(phase: Json, name: str) -> float | None:
    """The highest figure of any agent."""
    values = [usage[name] for usage in phase["usage"] if usage[name] is not None]
    return max(values, default=None)


def _troubles(document: Json) -> Iterator[str]:
    """What was seen to go wrong, and the command that shows it; nothing that was not seen."""
    rows = [*_symptoms(document), *_hard_faults(document), *_examined(document)]
    rows += [
        (
            f"{prose(finding['title'])} ({finding['label']})",
            joined((at(p) for p in _with(document, finding)), "; ") or "no phase of the stress run",
            prose(finding["summary"]),
            code(finding["command"]) if finding["command"] else "no trace could be written",
        )
        for finding in document["findings"]
    ]
    yield from ("## Troubleshooting", "")
    head = ("symptom", "seen in", "what is known", "see it again")
    yield from table(head, rows) or ("Nothing was seen to go wrong in what was run.", "")


def _with(document: Json, finding: Json) -> list[Json]:
    return [p for p in document["phases"] if finding["fingerprint"] in p["violations"]]


def _symptoms(document: Json) -> Iterator[tuple[str, ...]]:
    command = code(document["made_by"]["command"])
    for name, symptom in SYMPTOMS.items():
        seen = [phase for phase in document["phases"] if phase["counts"][name]]
        if seen:
            phase = min(seen, key=lambda phase: int(phase["agents"]))
            share = percent(phase["rates"][name])
            known = f"with the fewest agents: {share} of {number(phase['calls'])} calls"
            yield symptom, at(phase), known, command


def _hard_faults(document: Json) -> Iterator[tuple[str, ...]]:
    """Faults that the target does not recover from by itself."""
    command = code(document["made_by"]["command"])
    for fault, met in document["faults"].items():
        for outcome, symptom in HARD.items():
            if met.get(outcome):
                times = counted(met[outcome], "time")
                yield f"after {fault}, {symptom}", "runs with faults", f"seen {times}", command


def _examined(document: Json) -> Iterator[tuple[str, ...]]:
    for check in (document["doctor"] or {}).get("checks", ()):
        if check["state"] != "ok":
            lines = joined([check["answer"], *check.get("lines", ())], "; ")
            command = f"mcpconc doctor --target {document['target']['spec']}"
            yield check["name"], "doctor", prose(lines), code(command)


def _listed(document: Json) -> Iterator[str]:
    yield from ("## What the baseline lists", "")
    rows = [
        (
            *(
                code(entry["fingerprint"]),
                entry["status"],
                prose(joined([entry.get("reason") or "", entry["why"] or ""], "; ")),
            ),
            code(entry["trace"]) if entry["trace"] else "none",
            "" if entry["of"] is None else f"{entry['failed']} of {entry['of']}",
        )
        for entry in document["baseline"]
    ]
    head = ("fingerprint", "status", "why", "trace", "replays that failed")
    yield from table(head, rows) or ("Nothing, or there was no baseline.", "")
    saved = [
        (code(trace["trace"]), trace["status"], f"{trace['reproduced']} of {trace['tried']}")
        for trace in document["traces"]
    ]
    if saved:
        yield from ("## Saved traces", "")
        yield from table(("trace", "status", "replays that failed"), saved)
