"""Thresholds: what the summary document of a run must say, in the style of k6.

    calls.p95 < 2s
    slowdown.shared(5) < 20%
    calls.p95(10){scenario=database,tool=goals_create} < 3s

``metric[(agents)][{name=value,…}] OP value[unit]``. Without a number of agents a metric of calls is
that of the profile's own number, over all scenarios run in one world. What was not measured is
neither passed nor missed, and says why. Pure: a document goes in, data come out.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mcpconc.errors import UsageError
from mcpconc.metrics import METRICS, Asked, Metric, Unmeasured

__all__ = ["Threshold", "evaluate", "parse"]

Document = Mapping[str, Any]

UNITS: dict[str, tuple[str, float]] = {
    "": ("number", 1.0),
    "%": ("share", 0.01),
    "s": ("time", 1.0),
    "ms": ("time", 0.001),
    "KB": ("memory", 1e3),
    "MB": ("memory", 1e6),
    "GB": ("memory", 1e9),
    "KiB": ("memory", 2.0**10),
    "MiB": ("memory", 2.0**20),
    "GiB": ("memory", 2.0**30),
}
"""Unit → what it measures, and how many seconds, bytes or wholes it is."""

SPELLED = {
    "number": "no unit",
    "share": "% or no unit",
    "time": "s or ms",
    "memory": "KB, MB, GB, KiB, MiB or GiB",
}
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

_METRIC = re.compile(r"[a-z][a-z0-9_.]*")
_AGENTS = re.compile(r"\(\s*([0-9]+)\s*\)")
_FILTER = re.compile(r"\{([^{}]*)\}")
_PAIR = re.compile(r"\s*(\w+)\s*=\s*([\w.:-]+)\s*")
_OP = re.compile(r"<=|>=|==|<|>")
_VALUE = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z%]*)")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Threshold:
    """One comparison. `value` is in `unit`; `where` are the filters, sorted by their names. Its
    text is what it is called, however it was written."""

    metric: str
    op: str
    value: float
    unit: str = ""
    agents: int | None = None
    where: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        agents = "" if self.agents is None else f"({self.agents})"
        filters = ",".join(f"{name}={value}" for name, value in self.where)
        where = f"{{{filters}}}" if filters else ""
        number = int(self.value) if self.value.is_integer() else self.value
        return f"{self.metric}{agents}{where} {self.op} {number}{self.unit}"

    def holds(self, actual: float) -> bool:
        """Whether a value in `unit` passes."""
        return COMPARE[self.op](actual, self.value)

    def excess(self, actual: float) -> float:
        """By how much a value in `unit` is on the wrong side; of several the greatest counts."""
        if self.op == "==":
            return abs(actual - self.value)
        return actual - self.value if self.op in ("<", "<=") else self.value - actual


def parse(text: str) -> Threshold:
    """Read one threshold.

    :raises UsageError: in one line, with the place.
    """
    at = _past(_SPACE, text, 0)
    match = _METRIC.match(text, at)
    if match is None or match[0] not in METRICS:
        word = match[0] if match else text[at:].split(" ")[0]
        raise _wrong(text, at, f"{word!r} is no metric{_near(word)}")
    name, at = match[0], _past(_SPACE, text, match.end())
    metric = METRICS[name]
    agents = None
    if text.startswith("(", at):
        match = _AGENTS.match(text, at)
        if match is None or int(match[1]) < 1:
            raise _wrong(text, at, "a number of agents in brackets is expected, such as (5)")
        if "agents" not in metric.takes:
            raise _wrong(text, at, f"{name} is of the whole run and takes no number of agents")
        agents, at = int(match[1]), _past(_SPACE, text, match.end())
    where, at = _filters(text, at, name, metric)
    match = _OP.match(text, at)
    if match is None:
        raise _wrong(text, at, "one of < <= > >= == is expected")
    op, at = match[0], _past(_SPACE, text, match.end())
    match = _VALUE.match(text, at)
    if match is None:
        raise _wrong(text, at, "a number is expected, such as 2s, 20% or 500MB")
    value, unit = float(match[1]), match[2]
    if unit not in UNITS or not _fits(unit, metric):
        raise _wrong(text, match.start(2), f"{name} is measured in {SPELLED[metric.kind]}")
    at = _past(_SPACE, text, match.end())
    if at != len(text):
        raise _wrong(text, at, f"nothing is expected after the value, but {text[at:]!r} is there")
    return Threshold(name, op, value, unit, agents, where)


def _filters(
    text: str, at: int, name: str, metric: Metric
) -> tuple[tuple[tuple[str, str], ...], int]:
    if not text.startswith("{", at):
        return (), at
    match = _FILTER.match(text, at)
    if match is None:
        raise _wrong(text, at, "this bracket is never closed")
    found: dict[str, str] = {}
    place = match.start(1)
    for part in match[1].split(","):
        pair = _PAIR.fullmatch(part)
        known = [key for key in metric.takes if key != "agents"]
        if pair is None or pair[1] not in known or pair[1] in found:
            takes = f"takes {', '.join(known)}, each once" if known else "takes no filters"
            raise _wrong(text, place, f"{part.strip()!r} is no filter here: {name} {takes}")
        found[pair[1]] = pair[2]
        place += len(part) + 1
    return tuple(sorted(found.items())), _past(_SPACE, text, match.end())


def _fits(unit: str, metric: Metric) -> bool:
    kind = UNITS[unit][0]
    return kind == metric.kind or (metric.kind == "share" and kind == "number")


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _wrong(text: str, at: int, what: str) -> UsageError:
    return UsageError(f"threshold {text!r}, character {at + 1}: {what}")


def _near(word: str) -> str:
    near = get_close_matches(word, METRICS, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(METRICS)}"


def evaluate(threshold: Threshold, document: Document) -> dict[str, Any]:
    """Hold a threshold against a summary document. `actual` and `limit` are in `unit`; `passed`
    and `actual` are None where it was not measured, and `why` says why. `where` names the scenario
    whose value it is, where one of several decided."""
    told: dict[str, Any] = {
        "expr": str(threshold),
        "passed": None,
        "actual": None,
        "unit": threshold.unit,
        "limit": threshold.value,
        "why": None,
        "where": None,
        "listed": None,
    }
    scale = UNITS[threshold.unit][1]
    agents = threshold.agents or (document.get("profile") or {}).get("agents")
    asked = Asked(
        document,
        agents,
        dict(threshold.where),
        lambda value: threshold.excess(_in(value, scale)),
    )
    try:
        value, where = METRICS[threshold.metric].read(asked)
    except Unmeasured as why:
        return {**told, "why": f"not measured: {why}"}
    actual = _in(value, scale)
    return {**told, "passed": threshold.holds(actual), "actual": actual, "where": where or None}


def _in(value: float, unit: float) -> float:
    """A value in another unit, without what binary fractions add to it: 0.07 is 7 %."""
    return float(f"{value / unit:.12g}")
