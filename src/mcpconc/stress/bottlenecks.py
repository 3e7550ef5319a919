"""What costs most inside the target, from what the probe counted: named, with how often and how
long for each call, and what removing it altogether would save at most. Pure.

Times of what waits for something else contain it: a nested command loads its modules, too, and
makes its own statements. So savings do not add up, which `within` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.schedule.counts import OUTSIDE, UNSURE, Cost

__all__ = ["bottlenecks"]

TOOLS = 5
"""Tools that are named for each, those that pay most."""
LEAST = 0.001
"""Of the time of a call; what costs less is no bottleneck."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A cost: `count` and `ns` are counters of a probe. `per` says what is counted, for people;
    `less` are counters of times that are told under another name and do not belong here."""

    name: str
    about: str
    count: str
    ns: str
    per: str
    less: tuple[str, ...] = ()
    within: str = ""


KINDS = (
    _Kind(
        "start of a process",
        "each call starts a Python program of its own, which loads its modules anew",
        *("imports", "import_ns", "modules loaded"),
    ),
    _Kind(
        "nested commands",
        "commands that the program of a call starts itself, and waits for",
        *("nested", "nested_ns", "commands started by commands"),
        within="the modules that they load are also under 'start of a process'",
    ),
    _Kind(
        "git processes",
        "a process of git for each thing that is asked of it or told to it",
        *("git", "git_ns", "processes of git"),
    ),
    _Kind(
        "schema statements",
        "statements that make or check tables which are there already",
        *("schema", "schema_ns", "statements about the schema"),
    ),
    _Kind(
        "connections",
        "opening the database again and again within one call",
        *("connections", "connect_ns", "connections opened"),
    ),
    _Kind(
        "waiting for the write lock",
        "transactions that wait until somebody else's have ended",
        *("lock_waits", "lock_wait_ns", "waits"),
    ),
    _Kind(
        "other statements",
        "reading and writing what is asked for",
        *("statements", "sql_ns", "statements"),
        less=("schema_ns", "lock_wait_ns"),
    ),
)


def bottlenecks(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Ranked by what removing each would save at most. Empty where nothing was counted."""
    told = [cost for cost in costs if cost.tool not in (OUTSIDE, UNSURE) and cost.answered]
    calls = sum(cost.calls for cost in told)
    seconds = sum(cost.ns for cost in told) / 1e9
    if not calls or seconds <= 0:
        return []
    a_call = seconds / sum(cost.answered for cost in told)
    rows = [row for kind in KINDS if (row := _row(kind, told, calls, a_call)) is not None]
    return sorted(rows, key=lambda row: -row["saves_at_most_s"])


def _row(kind: _Kind, costs: Sequence[Cost], calls: int, a_call: float) -> dict[str, Any] | None:
    count = sum(_count(kind, cost) for cost in costs)
    took = sum(_seconds(kind, cost) for cost in costs)
    if count <= 0 or took / calls < LEAST * a_call:
        return None
    payers = sorted(costs, key=lambda cost: -_seconds(kind, cost) / max(1, cost.calls))
    return {
        "name": kind.name,
        "about": kind.about,
        "per_call": {"count": round(count / calls, 3), "seconds": round(took / calls, 5)},
        "share": round(took / calls / a_call, 4),
        "saves_at_most_s": round(took / calls, 5),
        "tools": [cost.tool for cost in payers[:TOOLS] if _count(kind, cost) > 0],
        "by_tool": [
            {
                "tool": cost.tool,
                "calls": cost.calls,
                "count": round(_count(kind, cost) / cost.calls, 2),
                "seconds": round(_seconds(kind, cost) / cost.calls, 5),
            }
            for cost in payers[:TOOLS]
            if _count(kind, cost) > 0
        ],
        "within": kind.within or None,
        "evidence": f"{count} {kind.per} in {calls} calls, {took:.2f} s of "
        f"{a_call * calls:.2f} s, counted by the probe",
    }


def _count(kind: _Kind, cost: Cost) -> int:
    count = cost.counts.get(kind.count, 0)
    return count - cost.counts.get("schema", 0) if kind.count == "statements" else count


def _seconds(kind: _Kind, cost: Cost) -> float:
    less = sum(cost.counts.get(name, 0) for name in kind.less)
    return max(0.0, (cost.counts.get(kind.ns, 0) - less) / 1e9)
