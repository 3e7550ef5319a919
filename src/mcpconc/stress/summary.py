"""From recorded phases to the parts of the summary document: plain data, in which None is what was
not measured. Pure; what is drawn at random for intervals follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from mcpconc.events import Kept
from mcpconc.schedule.counts import Cost, total
from mcpconc.stress.bottlenecks import bottlenecks
from mcpconc.stress.figures import Block, Est, latency, slope, slower
from mcpconc.stress.phases import (
    End,
    Load,
    Measured,
    Placement,
    Storage,
    Timed,
    Use,
    blocks,
    met,
)
from mcpconc.target.base import Setting

__all__ = ["ALL", "document"]

ALL = "all"
"""The name of all scenarios together."""

MIB = 2**20
BY_CLASS = 5
"""With more agents than that, tools are told by class: there are too few calls of each."""

WARM = 2
"""Calls of a server after which its memory is held against its calls: by then it has read what it
keeps."""


def document(
    phases: Sequence[Measured],
    *,
    seed: int,
    target: Mapping[str, Any],
    machine: Mapping[str, Any],
    settings: Sequence[Setting],
    kept: Sequence[Kept],
    unmeasured: Sequence[Mapping[str, str]],
    stop: str,
    class_of: Callable[[str], str],
) -> dict[str, Any]:
    """See `mcpconc.stress.run.Stressed.document`. `class_of` gives the class of a tool."""
    done = [phase for phase in phases if phase.calls]
    return {
        "target": dict(target),
        "machine": dict(machine),
        "phases": [_phase(phase, kept, seed, class_of) for phase in done],
        "pooled": list(_pooled(done)),
        "slowdown": slowdown(done, seed),
        "bottlenecks": bottlenecks(total(phase.inside or () for phase in done)),
        "settings": [
            {
                "name": setting.name,
                "about": setting.about,
                "environment": dict(setting.environment),
                "phases": [n for n, p in enumerate(done) if p.settings == setting.name],
            }
            for setting in settings
        ],
        "findings": [_finding(entry) for entry in kept],
        "sampling": _sampling(done),
        "unmeasured": [dict(entry) for entry in unmeasured] + list(_unmeasured(done)),
        "stop": stop,
    }


# -- one phase ---------------------------------------------------------------------------------


def _phase(
    phase: Measured, kept: Sequence[Kept], seed: int, class_of: Callable[[str], str]
) -> dict[str, Any]:
    calls, seconds = phase.calls, phase.seconds
    answered = sum(not call.end.error for call in calls)
    growth = grown(phase, Random(f"{seed} growth {_name(phase)}"))
    memory = kept_memory(phase)
    return {
        "scenario": phase.scenario,
        "agents": phase.agents,
        "placement": phase.placement.value,
        "settings": phase.settings,
        "observed": phase.observed,
        "programs": len(phase.groups),
        "calls": len(calls),
        "seconds": round(seconds, 3),
        "throughput": round(answered / seconds, 4) if seconds > 0 else None,
        "overlap": _overlap(phase),
        "pairs": sorted(map(list, set().union(*(met(group.calls) for group in phase.groups)))),
        "latency": _latency(calls),
        **_rates(calls),
        "tools": _tools(calls, class_of if phase.agents > BY_CLASS else str),
        "classes": _tools(calls, class_of),
        "usage": [_use(agent, use) for agent, use in sorted(_uses(phase).items())],
        "rss_per_agent_mib": _rss(phase),
        "rss_growth_mib_per_100_calls": None if memory is None else round(memory, 4),
        "cpu_per_call": _cpu_per_call(phase),
        "latency_growth": None if growth is None else round(growth.value, 4),
        "latency_growth_interval": growth and growth.to_json(),
        "storage": _storage(phase),
        "saturation": _saturation(phase),
        "inside": None if phase.inside is None else [_inside(cost) for cost in phase.inside],
        "violations": _violations(phase, kept),
        "undecided": sum(bool(group.undecided) for group in phase.groups),
        "undecided_lines": list(
            dict.fromkeys(line for group in phase.groups for line in group.undecided)
        )[:5],
    }


def _pooled(phases: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """The latencies of all scenarios with one number of agents together: there may be calls enough
    for a percentile where none of them has so many."""
    together: dict[tuple[int, str, str], list[Timed]] = {}
    for phase in phases:
        if not phase.observed:
            name = (phase.agents, phase.placement.value, phase.settings)
            together.setdefault(name, []).extend(phase.calls)
    for (agents, placement, settings), calls in together.items():
        yield {
            "agents": agents,
            "placement": placement,
            "settings": settings,
            "calls": len(calls),
            "latency": _latency(calls),
        }


def _name(phase: Measured) -> str:
    return f"{phase.scenario} {phase.agents} {phase.placement.value} {phase.settings}"


def _latency(calls: Iterable[Timed]) -> dict[str, Any] | None:
    times = latency([call.seconds for call in calls])
    return None if times is None else times.to_json()


def _rates(calls: Sequence[Timed]) -> dict[str, Any]:
    counts = {
        "errors": sum(call.end.error for call in calls),
        "refusals": sum(call.end in (End.REFUSED, End.SPURIOUS) for call in calls),
        "timeouts": sum(call.end is End.TIMEOUT for call in calls),
        "locks": sum(call.end is End.LOCKED for call in calls),
    }
    answered = sum(call.end in (End.ANSWERED, End.REFUSED, End.SPURIOUS) for call in calls)
    return {
        "rates": {name: round(n / len(calls), 6) for name, n in counts.items()},
        "counts": {**counts, "answered": answered},
    }


def _tools(calls: Sequence[Timed], named: Callable[[str], str]) -> list[dict[str, Any]]:
    groups: dict[str, list[Timed]] = {}
    for call in calls:
        groups.setdefault(named(call.tool), []).append(call)
    return [
        {"tool": name, "calls": len(those), "latency": _latency(those), **_rates(those)}
        for name, those in sorted(groups.items())
    ]


def _overlap(phase: Measured) -> dict[str, Any]:
    calls = len(phase.calls)
    mean = sum(group.in_flight[0] * len(group.calls) for group in phase.groups) / calls
    return {"mean": round(mean, 3), "max": max(group.in_flight[1] for group in phase.groups)}


def _uses(phase: Measured) -> dict[int, Use]:
    uses: dict[int, Use] = {}
    for group in phase.groups:
        for agent, use in group.uses.items():
            uses[agent] = uses.get(agent, Use()) + use
    return uses


def _use(agent: int, use: Use) -> dict[str, Any]:
    return {
        "agent": agent,
        "rss_mib": round(use.rss / MIB, 2),
        "server_rss_mib": round(use.server_rss / MIB, 2),
        "cpu_s": round(use.cpu, 3),
        "threads": use.threads,
        "descriptors": use.descriptors,
        "read_mib": round(use.read / MIB, 3),
        "written_mib": round(use.written / MIB, 3),
        "sent_bytes": use.sent,
        "received_bytes": use.received,
    }


def _rss(phase: Measured) -> dict[str, Any] | None:
    most = [use.rss / MIB for use in _uses(phase).values() if use.rss]
    if not most:
        return None
    return {"mean": round(sum(most) / len(most), 2), "max": round(max(most), 2)}


def _cpu_per_call(phase: Measured) -> float | None:
    """Processor seconds of the target for each call."""
    cpu = sum(use.cpu for use in _uses(phase).values())
    return round(cpu / len(phase.calls), 4) if cpu > 0 else None


def _storage(phase: Measured) -> dict[str, Any] | None:
    grown = sum((g.storage for g in phase.groups if g.storage is not None), Storage())
    return {
        "database_bytes": grown.database,
        "wal_bytes": grown.wal,
        "log_bytes": grown.logs,
        "git_objects": grown.git_objects,
        "git_bytes": grown.git,
    }


def _saturation(phase: Measured) -> dict[str, Any] | None:
    load = sum((group.load for group in phase.groups), Load())
    if load.capacity <= 0:
        return None
    return {
        "cpu_mean": round(load.busy / load.capacity, 4),
        "cpu_max": round(load.most, 4),
        "iowait_mean": round(load.waiting / load.capacity, 4),
        "load": round(load.load, 2),
        "memory_used_mib": load.memory // MIB,
    }


def _violations(phase: Measured, kept: Sequence[Kept]) -> list[str]:
    """Fingerprints of what was kept with the head of something that was found here."""
    heads = {head for group in phase.groups for head in group.heads}
    return sorted(
        {
            entry.finding.fingerprint.digest()
            for entry in kept
            if entry.finding.fingerprint.head() in heads
        }
    )


def _inside(cost: Cost) -> dict[str, Any]:
    """Sums over the calls of a tool; ``seconds`` from request to answer of those answered."""
    counts = {
        f"{name.removesuffix('_ns')}_s" if name.endswith("_ns") else name: (
            round(value / 1e9, 6) if name.endswith("_ns") else value
        )
        for name, value in cost.counts.items()
    }
    return {
        "tool": cost.tool,
        "calls": cost.calls,
        "answered": cost.answered,
        **counts,
        "seconds": round(cost.ns / 1e9, 6),
    }


# -- growth and slowdown -----------------------------------------------------------------------


def grown(phase: Measured, luck: Random) -> Est | None:
    """By how much calls of the last third of each program took longer than those of the first third
    of the same kinds."""
    early, late = phase.thirds()
    return slower(late, early, luck)


def kept_memory(phase: Measured) -> float | None:
    """MiB of resident memory that a server gains for each 100 calls that it answers."""
    series = [points[WARM:] for group in phase.groups for points in group.growth]
    per_call = slope([[(float(x), float(y)) for x, y in points] for points in series])
    return None if per_call is None else per_call * 100 / MIB


def slowdown(phases: Sequence[Measured], seed: int) -> list[dict[str, Any]]:
    """Of each scenario and number of agents, and of all scenarios together: against one agent
    (``raw``), and against as many in worlds of their own at the same time (``shared``)."""
    known = {(p.settings, p.scenario, p.agents, p.placement): p for p in phases if not p.observed}
    together: dict[tuple[str, int], list[tuple[Measured, Measured | None, Measured | None]]] = {}
    rows = []
    for (settings, scenario, agents, placement), phase in known.items():
        if agents == 1 or placement is not Placement.ONE:
            continue
        alone = known.get((settings, scenario, 1, Placement.ONE))
        own = known.get((settings, scenario, agents, Placement.OWN))
        together.setdefault((settings, agents), []).append((phase, alone, own))
        rows.append(_slowdown(scenario, settings, agents, [(phase, alone, own)], seed))
    for (settings, agents), parts in together.items():
        rows.append(_slowdown(ALL, settings, agents, parts, seed))
    return rows


def _slowdown(
    scenario: str,
    settings: str,
    agents: int,
    parts: Sequence[tuple[Measured, Measured | None, Measured | None]],
    seed: int,
) -> dict[str, Any]:
    ours: list[Block] = []
    alone: list[Block] = []
    one: list[Block] = []
    own: list[Block] = []
    for phase, single, apart in parts:
        if single is not None:
            ours += _named(phase.scenario, blocks(phase.calls))
            alone += _named(phase.scenario, blocks(single.calls))
        if apart is not None:
            mine, theirs = phase.paired(apart)
            one += mine
            own += theirs
    name = f"{seed} slowdown {scenario} {settings} {agents}"
    raw = slower(ours, alone, Random(f"{name} raw"))
    shared = slower(one, own, Random(f"{name} shared"), paired=True)
    return {
        "scenario": scenario,
        "settings": settings,
        "agents": agents,
        "raw": raw and raw.to_json(),
        "shared": shared and shared.to_json(),
        "n": sum(map(len, ours)),
        "pairs": sum(map(len, one)),
    }


def _named(scenario: str, several: Sequence[Block]) -> list[Block]:
    """A tool's calls of one scenario are not those of another."""
    return [[(f"{scenario} {kind}", seconds) for kind, seconds in block] for block in several]


# -- the rest ----------------------------------------------------------------------------------


def _finding(entry: Kept) -> dict[str, Any]:
    found = entry.finding
    print_ = found.fingerprint
    return {
        "fingerprint": print_.digest(),
        "title": str(print_),
        "label": found.label.value,
        "oracle": print_.oracle,
        "property": print_.property,
        "kind": print_.kind,
        "field": print_.field,
        "tools": list(print_.tools),
        "summary": found.summary,
        "trace": None if entry.path is None else str(entry.path),
        "command": None if entry.path is None else f"mcpconc replay {entry.path}",
        "status": None,
        "times": entry.times,
        "confirmed": entry.confirmed and list(entry.confirmed),
    }


def _sampling(phases: Sequence[Measured]) -> dict[str, Any] | None:
    """What it cost to look at the processes: its share of one core."""
    load = sum((group.load for phase in phases for group in phase.groups), Load())
    if not load.looks or load.seconds <= 0:
        return None
    return {
        "looks": load.looks,
        "seconds_per_look": round(load.looking / load.looks, 6),
        "share_of_a_core": round(load.looking / load.seconds, 6),
    }


def _unmeasured(phases: Sequence[Measured]) -> Iterable[dict[str, str]]:
    """Figures that a phase has too few calls for."""
    for phase in phases:
        if phase.observed or phase.placement is not Placement.ONE:
            continue
        times = latency([call.seconds for call in phase.calls])
        missing = [n for n, est in (times.percentiles if times else {}).items() if est is None]
        if missing:
            yield {
                "what": f"{', '.join(missing)} of {phase.scenario} with {phase.agents} agents"
                + ("" if phase.settings == "default" else f" ({phase.settings})"),
                "why": f"n = {len(phase.calls)}",
            }
    if phases and not any(phase.inside for phase in phases):
        yield {"what": "what calls do inside the target", "why": "no phase with the probe"}
