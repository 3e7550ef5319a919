"""What calls cost inside the target, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcpconc.schedule.counts import COUNTED, OUTSIDE, UNSURE, Cost

__all__ = ["costs_document", "costs_table"]

WIDEST = 29
"""Characters of a tool's name."""
_SUMS = ("statements", "transactions", "lock_wait_ns", "git", "processes", "files_written")
_MEANS = ("sql_ns", "git_ns")
_HEAD = ("tool", "calls", "stmts", "trans", "lock ms", "git", "procs", "files")
_HEAD_MEANS = ("sql ms", "git ms", "ms")
NOTHING = "  inside the calls: nothing was counted; no process of the target loaded the probe"


def costs_table(costs: Sequence[Cost]) -> list[str]:
    """What all calls of a tool did, and the mean times of one: statements, transactions that take
    the write lock, waits for it, git and other processes, files opened for writing."""
    if not any(cost.counts for cost in costs):
        return [NOTHING]
    rows = [_row(cost) for cost in costs]
    widths = [max(len(row[n]) for row in [_HEAD, *(left for left, _ in rows)]) for n in range(8)]
    means = [
        max(len(row[n]) for row in [_HEAD_MEANS, *(right for _, right in rows)]) for n in (0, 1, 2)
    ]
    lines = [_line(left, right, widths, means) for left, right in [(_HEAD, _HEAD_MEANS), *rows]]
    return [
        "  inside the calls: what those of a tool did in all, and the mean times of one",
        *lines,
    ]


def costs_document(costs: Sequence[Cost]) -> dict[str, Any]:
    """Sums by tool; times in milliseconds. What belongs to no one call stands beside them."""
    named = {OUTSIDE: "outside_calls", UNSURE: "not_certain"}
    return {
        "tools": {
            cost.tool: {
                "calls": cost.calls,
                "answered": cost.answered,
                "call_ms": _ms(cost.ns),
                **_counts(cost),
            }
            for cost in costs
            if cost.tool not in named
        },
        **{
            key: _counts(cost) for name, key in named.items() for cost in costs if cost.tool == name
        },
    }


def _row(cost: Cost) -> tuple[tuple[str, ...], tuple[str, ...]]:
    sums = [_number(name, cost.counts.get(name, 0)) for name in _SUMS]
    tool = cost.tool if len(cost.tool) <= WIDEST else cost.tool[: WIDEST - 1] + "…"
    if not cost.calls:
        return (tool, "", *sums), ("", "", "")
    means = [f"{cost.counts.get(name, 0) / cost.calls / 1e6:.1f}" for name in _MEANS]
    whole = f"{cost.ns / cost.answered / 1e6:.1f}" if cost.answered else "-"
    return (tool, str(cost.calls), *sums), (*means, whole)


def _line(
    left: Sequence[str], right: Sequence[str], widths: Sequence[int], means: Sequence[int]
) -> str:
    cells = [left[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(left[1:], widths[1:], strict=True)]
    timed = [cell.rjust(width) for cell, width in zip(right, means, strict=True)]
    return f"    {'  '.join(cells)} │ {'  '.join(timed)}".rstrip()


def _number(name: str, value: int) -> str:
    return f"{value / 1e6:.0f}" if name.endswith("_ns") else str(value)


def _counts(cost: Cost) -> dict[str, float]:
    return {
        f"{name.removesuffix('_ns')}_ms" if name.endswith("_ns") else name: (
            _ms(cost.counts.get(name, 0)) if name.endswith("_ns") else cost.counts.get(name, 0)
        )
        for name in COUNTED
    }


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)
