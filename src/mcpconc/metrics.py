"""What thresholds speak of: names, and how each is read out of a summary document.

Percentiles of several scenarios cannot be put together, so the worst scenario decides where the
document does not have all of them pooled; counts are added up. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["METRICS", "Asked", "Metric", "Unmeasured", "Value"]

Document = Mapping[str, Any]

ALL = "all"
"""What the document calls all scenarios together."""

MIB = 2.0**20
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class Unmeasured(Exception):
    """Why there is no value."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is read, and of what. `excess` says by how much a value, in seconds, bytes or wholes,
    is on the wrong side."""

    document: Document
    agents: int | None
    filters: Mapping[str, str]
    excess: Callable[[float], float]

    def phases(self) -> list[Mapping[str, Any]]:
        """The phases in one world that are asked for.

        :raises Unmeasured: if there is none.
        """
        filters = self.filters
        found = [
            phase
            for phase in self.document.get("phases") or ()
            if phase["placement"] == "one"
            and not phase.get("observed")
            and phase["agents"] == self.agents
            and phase["settings"] == filters.get("settings", "default")
            and filters.get("scenario", phase["scenario"]) == phase["scenario"]
        ]
        if not found:
            what = "".join(f", {name} {value}" for name, value in self.filters.items())
            raise Unmeasured(f"no phase with {self.agents} agents in one world{what}")
        return found

    def parts(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The same, or what a tool did in each of them, with the name of the scenario."""
        tool = self.filters.get("tool")
        if tool is None:
            return [(phase["scenario"], phase) for phase in self.phases()]
        found = [
            (phase["scenario"], part)
            for phase in self.phases()
            for part in phase["tools"]
            if part["tool"] == tool
        ]
        if not found:
            raise Unmeasured(f"{tool} was not called with {self.agents} agents in one world")
        return found

    def worst(self, values: Sequence[tuple[str, float]], scale: float = 1.0) -> tuple[float, str]:
        """Of several scenarios the one that is furthest on the wrong side, and its name."""
        where, value = max(values, key=lambda pair: self.excess(pair[1] * scale))
        return value * scale, where


Value = tuple[float, str]
"""What was measured, in seconds, bytes or wholes, and where, if that is a part of the whole."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a name stands for. `kind` says which units it may have, `takes` which of ``agents``,
    ``scenario``, ``settings`` and ``tool`` may narrow it down."""

    about: str
    kind: str
    takes: tuple[str, ...]
    read: Callable[[Asked], Value] = field(compare=False)
    """:raises Unmeasured: if the document does not say."""


def _latency(which: str) -> Callable[[Asked], Value]:
    def read(asked: Asked) -> Value:
        pooled = _pooled(asked)
        parts = [("", pooled)] if pooled is not None else asked.parts()
        values = []
        for scenario, part in parts:
            value = part["latency"][which]
            if value is None:
                n = part["latency"]["n"]
                needs = f"; {which} needs {_needed(which)}" if which in PERCENTILES else ""
                of = f" of {scenario}" if scenario else ""
                raise Unmeasured(f"{n} calls{of}{needs}")
            values.append((scenario, value["value"] if isinstance(value, Mapping) else value))
        value, where = asked.worst(values)
        return value, where if len(values) > 1 else ""

    return read


def _needed(which: str) -> int:
    """Calls from which on a percentile is one: five beyond it."""
    return round(5 / (1 - PERCENTILES[which]))


def _pooled(asked: Asked) -> Mapping[str, Any] | None:
    """All scenarios together, where the document has that."""
    if {"scenario", "tool"} & asked.filters.keys():
        return None
    entries: Sequence[Mapping[str, Any]] = asked.document.get("pooled") or ()
    wanted = ("one", asked.agents, asked.filters.get("settings", "default"))
    for entry in entries:
        if (entry["placement"], entry["agents"], entry["settings"]) == wanted:
            return entry
    return None


def _mean(asked: Asked) -> Value:
    parts = [(part["latency"]["n"], part["latency"]["mean"]) for _, part in asked.parts()]
    known = [(n, mean) for n, mean in parts if n and mean is not None]
    if not known:
        raise Unmeasured("no call was answered")
    return sum(n * mean for n, mean in known) / sum(n for n, _ in known), ""


def _rate(which: str) -> Callable[[Asked], Value]:
    def read(asked: Asked) -> Value:
        parts = [part for _, part in asked.parts()]
        calls = sum(part["calls"] for part in parts)
        counts = [(part.get("counts") or {}).get(which) for part in parts]
        if not calls or None in counts:
            raise Unmeasured("they were not counted" if calls else "no call was made")
        return sum(count or 0 for count in counts) / calls, ""

    return read


def _slowdown(which: str) -> Callable[[Asked], Value]:
    def read(asked: Asked) -> Value:
        entries = [
            (entry["scenario"], entry)
            for entry in asked.document.get("slowdown") or ()
            if entry["agents"] == asked.agents
            and entry.get("settings", "default") == asked.filters.get("settings", "default")
            and asked.filters.get("scenario", entry["scenario"]) == entry["scenario"]
        ]
        if "scenario" not in asked.filters:
            entries = [pair for pair in entries if pair[0] == ALL] or entries
        known = [(name, entry[which]["value"]) for name, entry in entries if entry[which]]
        if not entries or len(known) < len(entries):
            missing = ", ".join(name for name, entry in entries if not entry[which])
            raise Unmeasured(
                f"{asked.agents} agents were not compared" + (f" in {missing}" if missing else "")
            )
        value, where = asked.worst(known)
        return value, where if len(known) > 1 else ""

    return read


def _of_phases(
    key: Callable[[Mapping[str, Any]], float | None], scale: float = 1.0
) -> Callable[[Asked], Value]:
    """The worst of the phases that know it."""

    def read(asked: Asked) -> Value:
        values = [(phase["scenario"], key(phase)) for phase in asked.phases()]
        known = [(name, value) for name, value in values if value is not None]
        if not known:
            raise Unmeasured("no phase says it")
        value, where = asked.worst(known, scale)
        return value, where if len(known) > 1 else ""

    return read


def _throughput(asked: Asked) -> Value:
    phases = asked.phases()
    seconds = sum(phase["seconds"] for phase in phases)
    if not seconds:
        raise Unmeasured("no time passed")
    return sum(phase["calls"] for phase in phases) / seconds, ""


def _cpu(asked: Asked) -> Value:
    phases = asked.phases()
    used = [usage["cpu_s"] for phase in phases for usage in phase.get("usage") or ()]
    calls = sum(phase["calls"] for phase in phases)
    if not calls or not used or None in used:
        raise Unmeasured("processor time was not read")
    return sum(used) / calls, ""


def _violations(*statuses: str) -> Callable[[Asked], Value]:
    def read(asked: Asked) -> Value:
        document = asked.document
        fuzz, traces = document.get("fuzz"), document.get("traces") or ()
        replayed = any(trace["tried"] for trace in traces)
        if not (document.get("phases") or replayed or (fuzz and fuzz["programs"])):
            raise Unmeasured("nothing was judged")
        findings = document.get("findings") or ()
        return float(sum(not statuses or f["status"] in statuses for f in findings)), ""

    return read


def _undecided(asked: Asked) -> Value:
    """Of all programs that were judged, in phases and while fuzzing."""
    pairs = [(p["undecided"], p["programs"]) for p in asked.document.get("phases") or ()]
    if fuzz := asked.document.get("fuzz"):
        pairs.append((fuzz["undecided"], fuzz["programs"]))
    programs = sum(of for _, of in pairs)
    if not programs:
        raise Unmeasured("nothing was judged")
    return sum(undecided for undecided, _ in pairs) / programs, ""


def _overlap(which: str) -> Callable[[Asked], Value]:
    """Of the phases; where there is none at all, of fuzzing."""

    def read(asked: Asked) -> Value:
        fuzz = asked.document.get("fuzz")
        of_phases = asked.document.get("phases") or asked.filters
        if fuzz and fuzz["programs"] and not of_phases:
            return float(fuzz["overlap"][which]), "fuzz"
        phases = [(p["calls"], p["overlap"][which]) for p in asked.phases() if p["calls"]]
        if not phases:
            raise Unmeasured("no call was made")
        if which == "max":
            return float(max(overlap for _, overlap in phases)), ""
        return sum(n * overlap for n, overlap in phases) / sum(n for n, _ in phases), ""

    return read


LOST = "data lost"
"""How the summary calls it (`mcpconc.oracle.storms`)."""


def _lost(asked: Asked) -> Value:
    faults = asked.document.get("faults")
    if not faults:
        raise Unmeasured("no fault was injected")
    return float(sum(outcomes.get(LOST, 0) for outcomes in faults.values())), ""


def _table() -> Iterator[tuple[str, Metric]]:
    calls = ("agents", "scenario", "settings", "tool")
    phases = ("agents", "scenario", "settings")
    for which in PERCENTILES:
        yield f"calls.{which}", Metric("latency of a call", "time", calls, _latency(which))
    yield "calls.max", Metric("the longest call", "time", calls, _latency("max"))
    yield "calls.mean", Metric("mean latency of a call", "time", calls, _mean)
    for which, about in (
        ("errors", "calls that ended as no model allows, of all"),
        ("refusals", "calls that were refused, of all"),
        ("timeouts", "calls that timed out, of all"),
        ("locks", "calls that met a lock which was not given up in time, of all"),
    ):
        yield f"{which}.rate", Metric(about, "share", calls, _rate(which))
    for which, about in (
        ("raw", "how much slower so many agents are than one"),
        ("shared", "how much slower so many are in one world than in worlds of their own"),
    ):
        yield f"slowdown.{which}", Metric(about, "share", phases, _slowdown(which))
    rss = _of_phases(lambda phase: (phase.get("rss_per_agent_mib") or {}).get("max"), MIB)
    yield "rss.per_agent", Metric("most memory of an agent's processes", "memory", phases, rss)
    growth = _of_phases(lambda phase: phase.get("rss_growth_mib_per_100_calls"), MIB)
    yield "rss.growth", Metric("memory that 100 calls add to a server", "memory", phases, growth)
    slower = _of_phases(lambda phase: phase.get("latency_growth"))
    about = "how much slower the last third of a phase is than the first"
    yield "latency.growth", Metric(about, "share", phases, slower)
    yield "throughput", Metric("calls per second", "number", phases, _throughput)
    yield "cpu.per_call", Metric("processor time of a call", "time", phases, _cpu)
    new = _violations("new")
    yield "violations.new", Metric("findings that no baseline lists", "number", (), new)
    yield "violations.total", Metric("findings, known ones too", "number", (), _violations())
    yield "undecided.rate", Metric("programs left undecided, of all", "share", (), _undecided)
    for which, word, about in (
        ("mean", "avg", "calls in flight, on average"),
        ("max", "max", "calls in flight, at most"),
    ):
        yield f"overlap.{word}", Metric(about, "number", phases, _overlap(which))
    yield "recovery.lost", Metric("faults after which data were lost", "number", (), _lost)


METRICS: dict[str, Metric] = dict(_table())
