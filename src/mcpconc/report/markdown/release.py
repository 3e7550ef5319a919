"""RELEASE_PERFORMANCE_VALIDATION.md: platform, thresholds, configurations, scaling, resources and
tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcpconc.report.document import Json
from mcpconc.report.markdown.common import (
    DEFAULT,
    Pictures,
    again,
    beginning,
    busy,
    by_scenario,
    ending,
    facts,
    is_probed,
    joined,
    ladder,
    slowdowns,
)
from mcpconc.report.markdown.criteria import criteria
from mcpconc.report.markdown.deployment import most
from mcpconc.report.markdown.figures import (
    NOT,
    code,
    estimate,
    latencies,
    machine,
    mib,
    number,
    part,
    percent,
    percentile,
    prose,
    rate,
    seconds,
    size,
    table,
)

__all__ = ["release_report"]

USED = ("rss_mib", "server_rss_mib", "cpu_s", "threads", "descriptors", "read_mib", "written_mib")
SENT = ("sent_bytes", "received_bytes")


def release_report(document: Json, pictures: Pictures | None = None) -> str:
    """The whole report. Ends with a newline."""
    shown = pictures or Pictures()
    target = document["target"]
    lines = [
        *beginning(document, f"Release: {target['name']} {target['version'] or ''}"),
        *("## Platform", "", *facts(document)),
        *("## Criteria", "", criteria(document)),
        *_scaling(document, shown),
        *_settings(document),
        *_tuning(document),
        *_resources(document, shown),
        *ending(document),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _scaling(document: Json, pictures: Pictures) -> Iterator[str]:
    yield from ("## Scaling", "")
    phases = ladder(document)
    slower = {(row["scenario"], row["agents"]): row for row in slowdowns(document)}
    rows = []
    for phase in phases:
        row = slower.get((phase["scenario"], phase["agents"]), {"raw": None, "shared": None})
        rows.append(
            [
                *(phase["scenario"], number(phase["agents"]), rate(phase["throughput"])),
                *(percentile(phase["latency"], name) for name in ("p50", "p95")),
                *(estimate(row[name], percent) for name in ("raw", "shared")),
                machine(phase),
            ]
        )
    head = (
        *("scenario", "agents", "throughput", "p50", "p95", "raw slowdown", "shared slowdown"),
        "machine",
    )
    yield from table(head, rows) or ("Not measured.", "")
    yield from _pooled(document)
    for scenario in by_scenario(phases):
        yield from pictures.show(f"slowdown-{scenario}", f"slowdown of {scenario}, raw and shared")
    if phases:
        yield from again(document, phases)


def _pooled(document: Json) -> Iterator[str]:
    """All scenarios together, which is what thresholds on calls are about."""
    rows = [
        (
            *(number(pool["agents"]), number(pool["calls"]), *latencies(pool["latency"])),
            busy(phase for phase in ladder(document) if phase["agents"] == pool["agents"]),
        )
        for pool in document.get("pooled", ())
        if (pool["placement"], pool["settings"]) == ("one", DEFAULT)
    ]
    head = ("agents", "calls of all scenarios", "mean", "p50", "p90", "p95", "p99", "max")
    yield from table((*head, "machine"), rows)


def _settings(document: Json) -> Iterator[str]:
    yield from ("## Configurations", "")
    rows = [
        (
            *(setting["name"], prose(setting["about"])),
            " ".join(code(f"{key}={value}") for key, value in setting["environment"].items())
            or "nothing is set",
        )
        for setting in document["settings"]
    ]
    yield from table(("name", "what for", "environment"), rows) or (
        "Only the target as it comes was measured.",
        "",
    )


def _compared(document: Json) -> dict[tuple[str, int], list[Json]]:
    """Phases of one scenario and number of agents, as the target comes and with other settings."""
    groups: dict[tuple[str, int], list[Json]] = {}
    for phase in document["phases"]:
        if not is_probed(phase) and phase["placement"] == "one":
            groups.setdefault((phase["scenario"], phase["agents"]), []).append(phase)
    return {key: group for key, group in groups.items() if len(group) > 1}


def _tuning(document: Json) -> Iterator[str]:
    yield from ("## Tuning: what configurations change", "")
    groups = _compared(document)
    rows = [row for phases in groups.values() for row in _group(phases)]
    head = (
        *("scenario", "agents", "settings", "throughput", "p50", "p95", "errors"),
        *("memory of an agent, most", "against default", "machine"),
    )
    yield from table(head, rows) or ("Not measured: no two configurations were compared.", "")
    if rows:
        yield from (
            "Faster and slower are said only where the intervals of a percentile do not overlap.",
            "",
        )
        yield from again(document, [phase for group in groups.values() for phase in group])


def _group(phases: Sequence[Json]) -> Iterator[Sequence[str]]:
    base = next((phase for phase in phases if phase["settings"] == DEFAULT), None)
    for phase in phases:
        yield (
            *(phase["scenario"], number(phase["agents"]), phase["settings"]),
            rate(phase["throughput"]),
            *(percentile(phase["latency"], name) for name in ("p50", "p95")),
            percent(phase["rates"]["errors"]),
            *(mib(part(phase["rss_per_agent_mib"], "max")), _against(phase, base)),
            machine(phase),
        )


def _against(phase: Json, base: Json | None) -> str:
    """Whether a configuration is faster or slower than the default, as far as intervals show."""
    if base is None:
        return NOT
    if phase is base:
        return "is the default"
    said = []
    for name in ("p50", "p95"):
        here, there = part(phase["latency"], name), part(base["latency"], name)
        if here is None or there is None or None in (*here.values(), *there.values()):
            continue
        if here["high"] < there["low"]:
            said.append(f"{name} faster")
        elif here["low"] > there["high"]:
            said.append(f"{name} slower")
        else:
            said.append(f"{name} no difference")
    return joined(said) or NOT


def _resources(document: Json, pictures: Pictures) -> Iterator[str]:
    yield from ("## Resources of one agent", "")
    phases = ladder(document)
    rows = [_used(phase) for phase in phases]
    head = (
        *("scenario", "agents", "calls of all", "memory", "memory of the server alone", "CPU"),
        "threads",
        *("descriptors", "read", "written", "sent", "received", "machine"),
    )
    text = "The highest figure of any agent in the phase; of server and child processes."
    yield from ((text, "") if rows else ("Not measured.", ""))
    yield from table(head, rows)
    yield from pictures.show("memory", "memory of an agent against agents")
    if phases:
        yield from again(document, phases)


def _used(phase: Json) -> Sequence[str]:
    rss, server, cpu, threads, descriptors, read, written = (most(phase, name) for name in USED)
    return (
        *(phase["scenario"], number(phase["agents"]), number(phase["calls"])),
        *(mib(rss), mib(server), seconds(cpu)),
        *(number(threads), number(descriptors), mib(read), mib(written)),
        *(size(most(phase, name)) for name in SENT),
        machine(phase),
    )
