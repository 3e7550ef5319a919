"""PERFORMANCE_OPTIMIZATION_REPORT.md: baselines, bottlenecks with what the probe counted, and what
removing each would save at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcpconc.report.document import Json
from mcpconc.report.markdown.common import (
    Pictures,
    again,
    at,
    beginning,
    by_scenario,
    ending,
    joined,
    ladder,
    probed,
)
from mcpconc.report.markdown.figures import (
    NOT,
    counted,
    estimate,
    latencies,
    machine,
    mib,
    number,
    part,
    percent,
    prose,
    seconds,
    size,
    table,
)

__all__ = ["performance_report"]

MARKS = ("mean", "p50", "p90", "p95", "p99", "max")
COUNTED = {
    "statements": "statements",
    "connections": "connections",
    "transactions": "transactions",
    "lock_waits": "waits for locks",
    "git": "git",
    "processes": "other processes",
    "files": "files",
    "files_written": "files",
    "sql_s": "time in SQL",
    "git_s": "time in git",
    "process_s": "time in other processes",
    "lock_wait_s": "time waiting for locks",
}
"""What the probe counts, and what it is called; files are those opened for writing."""


def performance_report(document: Json, pictures: Pictures | None = None) -> str:
    """The whole report. Ends with a newline."""
    shown = pictures or Pictures()
    target = document["target"]
    lines = [
        *beginning(document, f"Performance: {target['name']} {target['version'] or ''}"),
        *_recommendations(document),
        *_bottlenecks(document, shown),
        *_evidence(document),
        *_baseline(document),
        *_load(document),
        *_growth(document),
        *ending(document),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _recommendations(document: Json) -> Iterator[str]:
    yield from ("## Recommendations, by what they save at most", "")
    if not document["bottlenecks"]:
        unseen = "what calls do inside the target was not measured"
        why = "nothing that the probe counted stands out" if probed(document) else unseen
        yield from (f"None: {why}.", "")
        return
    for found in document["bottlenecks"]:
        tools = joined(found["tools"])
        yield (
            f"* **{prose(found['name'])}**: doing without it saves at most"
            f" {seconds(found['saves_at_most_s'])} a call, which does it"
            f" {number(found['per_call']['count'])} times on average; most of all {tools}."
            f" {prose(found['about'])}"
        )
    yield ""
    yield from _where(document)


def _where(document: Json) -> Iterator[str]:
    """Where the probe counted, how busy the machine was, and the command."""
    phases = probed(document)
    if phases:
        yield from (f"Counted in: {joined(map(at, phases), '; ')}.", "")
    yield from again(document, phases)


def _bottlenecks(document: Json, pictures: Pictures) -> Iterator[str]:
    rows = [
        (
            *(prose(found["name"]), number(found["per_call"]["count"])),
            *(seconds(found["per_call"]["seconds"]), percent(found["share"])),
            *(seconds(found["saves_at_most_s"]), joined(found["tools"])),
            prose(found["evidence"] or ""),
        )
        for found in document["bottlenecks"]
    ]
    head = (
        *("what", "times a call", "time a call", "share of the call", "saves at most, a call"),
        *("tools", "evidence"),
    )
    yield from ("## Bottlenecks", "")
    yield from table(head, rows) or (
        "None was found." if probed(document) else "Not measured.",
        "",
    )
    if rows:
        yield from pictures.show("bottlenecks", "what removing each bottleneck saves at most")
        yield from _where(document)


def _evidence(document: Json) -> Iterator[str]:
    yield from ("## What calls do inside the target", "")
    phases = probed(document)
    if not phases:
        yield from ("Not measured: the probe did not count in this run.", "")
    else:
        yield from ("Sums over all calls of a tool in a phase.", "")
    for phase in phases:
        yield from (f"### {at(phase)}", "")
        yield from _counted(phase["inside"] or ())
        yield from again(document, [phase], within=True)
    if phases:
        yield from again(document)


def _counted(rows: Sequence[Json]) -> Iterator[str]:
    """A column for everything that was seen at all; what was not is named below."""
    seen = [name for name in COUNTED if any(name in row for row in rows)]
    if not rows:
        yield from ("Nothing was counted.", "")
        return
    yield from table(
        ("tool", "calls", *(COUNTED[name] for name in seen), "whole calls"),
        [
            (
                *(row["tool"], number(row["calls"])),
                *(_one(name, row[name]) if name in row else "none" for name in seen),
                seconds(row["seconds"]),
            )
            for row in rows
        ],
    )
    unseen = {what for name, what in COUNTED.items() if name not in seen}
    if unseen := unseen - {COUNTED[name] for name in seen}:
        yield from (f"Seen in no call: {'; '.join(sorted(unseen))}.", "")


def _one(name: str, value: float) -> str:
    return seconds(value) if name.endswith("_s") else number(value)


def _baseline(document: Json) -> Iterator[str]:
    yield from ("## One agent", "")
    alone = [phase for phase in ladder(document) if phase["agents"] == 1]
    if not alone:
        yield from ("Not measured.", "")
    for phase in alone:
        rows = [_tool(row) for row in phase["tools"]]
        yield from (f"### {at(phase)}", "")
        yield from table(("tool", "calls", *MARKS, "errors"), rows) or (
            "Not measured tool by tool.",
            "",
        )
        yield from again(document, [phase], within=True)
    if alone:
        yield from again(document)


def _tool(row: Json) -> tuple[str, ...]:
    errors = percent(row["rates"]["errors"])
    return (row["tool"], number(row["calls"]), *latencies(row["latency"]), errors)


def _load(document: Json) -> Iterator[str]:
    yield from ("## Several agents, tool by tool", "")
    several = by_scenario(phase for phase in ladder(document) if phase["agents"] > 1)
    if not several:
        yield from ("Not measured.", "")
        return
    yield from ("The median, or the mean where there are too few calls for it.", "")
    for scenario, phases in several.items():
        yield from (f"### {scenario}", "")
        by_tool = [phase for phase in phases if phase["tools"] != phase.get("classes")]
        yield from _compared(by_tool, "tools")
        yield from _compared([phase for phase in phases if "classes" in phase], "classes")
        yield from again(document, phases, within=True)
    yield from again(document)


def _compared(phases: Sequence[Json], key: str) -> list[str]:
    """Numbers of agents beside each other, by tool or by class of tools."""
    if not phases:
        return []
    tools = sorted({row["tool"] for phase in phases for row in phase[key]})
    rows = [[tool, *(_typical(phase[key], tool) for phase in phases)] for tool in tools]
    rows.append(["*machine*", *(machine(phase) for phase in phases)])
    what = "tool" if key == "tools" else "class of tools"
    return table([what, *(counted(phase["agents"], "agent") for phase in phases)], rows)


def _typical(told: Sequence[Json], tool: str) -> str:
    for row in told:
        if row["tool"] == tool:
            latency = row["latency"]
            if part(latency, "p50") is not None:
                return estimate(latency["p50"], seconds)
            if part(latency, "mean") is not None:
                return f"mean {seconds(latency['mean'])} (n = {latency['n']})"
            return NOT
    return "not called"


def _growth(document: Json) -> Iterator[str]:
    yield from ("## What grows", "")
    phases = ladder(document)
    rows = [_grown(phase) for phase in phases]
    head = (
        *(
            "scenario",
            "agents",
            "calls",
            "latency, first to last third",
            "memory, per hundred calls",
        ),
        *("database", "WAL", "logs", "git objects", "git", "machine"),
    )
    yield from table(head, rows) or ("Not measured.", "")
    if phases:
        yield from again(document, phases)


def _grown(phase: Json) -> Sequence[str]:
    left = phase["storage"]
    return (
        *(phase["scenario"], number(phase["agents"]), number(phase["calls"])),
        *(_slower(phase), mib(phase["rss_growth_mib_per_100_calls"])),
        *(size(part(left, name)) for name in ("database_bytes", "wal_bytes", "log_bytes")),
        *(number(part(left, "git_objects")), size(part(left, "git_bytes")), machine(phase)),
    )


def _slower(phase: Json) -> str:
    interval = phase.get("latency_growth_interval")
    return estimate(interval, percent) if interval else percent(phase["latency_growth"])
