"""How figures and tables are written, so that each figure can be found in the summary again.

A figure is followed by its unit (``1.84 s``, ``97.0 %``, ``212.4 MiB``), in a range only the last
one is (``1.52 to 2.31 s``), and nothing is added up, divided or rounded twice on the way. What is
None was not measured and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mcpconc.report.document import Json

__all__ = [
    "CONTROL",
    "NOT",
    "READING",
    "cell",
    "code",
    "counted",
    "estimate",
    "given",
    "latencies",
    "line",
    "machine",
    "mib",
    "number",
    "part",
    "percent",
    "percentile",
    "prose",
    "rate",
    "seconds",
    "size",
    "table",
]

NOT = "not measured"

READING = (
    "Figures in brackets are a 95 % confidence interval. A percentile is printed where at least"
    " 5 / (1 − p) calls were measured. CPU is that of the whole machine, all cores being 100 %."
)
"""Stands once in every report; its numbers are definitions, and the only ones that are not in the
summary."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PERCENTILES = ("p50", "p90", "p95", "p99")


def seconds(value: float | None) -> str:
    if value is None:
        return NOT
    if abs(value) < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if abs(value) < 10 else f"{value:.1f} s"


def percent(share: float | None) -> str:
    if share is None:
        return NOT
    return f"{share * 100:.1f} %" if share == 0 or abs(share) >= 0.01 else f"{share * 100:.2f} %"


def mib(value: float | None) -> str:
    return NOT if value is None else f"{value:.1f} MiB"


def size(value: float | None) -> str:
    """Of bytes."""
    if value is None:
        return NOT
    return f"{value / 1024:.1f} KiB" if abs(value) < 1 << 20 else f"{value / (1 << 20):.1f} MiB"


def rate(value: float | None) -> str:
    return NOT if value is None else f"{value:.2f} calls/s"


def number(value: float | None) -> str:
    if value is None:
        return NOT
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"


def given(value: float | None, unit: str, limit: float | None = None) -> str:
    """A figure in a unit that the summary names, with as many digits as it takes to see on which
    side of a limit it is."""
    if value is None:
        return NOT
    for digits in range(2, 9):
        text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
        if limit is None or _side(float(text), limit) == _side(value, limit):
            break
    return f"{text} {unit}".rstrip()


def _side(value: float, limit: float) -> tuple[bool, bool]:
    return value < limit, value > limit


def counted(n: float | None, what: str) -> str:
    """``5 agents``"""
    return f"{number(n)} {what}{'s' * (n != 1)}"


def estimate(value: Mapping[str, Any] | None, form: Callable[[float | None], str]) -> str:
    """``1.84 s (1.52 to 2.31 s)``"""
    if value is None:
        return NOT
    if value["low"] is None or value["high"] is None:
        return form(value["value"])
    low, high = form(value["low"]), form(value["high"])
    if low.split()[-1] == high.split()[-1]:
        low = low.split()[0]
    return f"{form(value['value'])} ({low} to {high})"


def part(whole: Json | None, name: str) -> Any:
    """A figure of several that were perhaps not measured at all."""
    return None if whole is None else whole.get(name)


def percentile(latency: Json | None, name: str) -> str:
    """One percentile of a latency, with its interval."""
    if latency is None:
        return NOT
    if latency[name] is None:
        return f"{NOT} (n = {latency['n']})"
    return estimate(latency[name], seconds)


def latencies(latency: Json | None) -> list[str]:
    """Mean, the percentiles and the maximum."""
    marks = [percentile(latency, name) for name in PERCENTILES]
    return [seconds(part(latency, "mean")), *marks, seconds(part(latency, "max"))]


def machine(phase: Json) -> str:
    """How much of the machine was saturated."""
    busy = phase["saturation"]
    if busy is None or busy["cpu_mean"] is None:
        return NOT
    most = "" if busy["cpu_max"] is None else f", peak {percent(busy['cpu_max'])}"
    wait = "" if busy["iowait_mean"] is None else f", I/O wait {percent(busy['iowait_mean'])}"
    return f"CPU {percent(busy['cpu_mean'])}{most}{wait}"


def line(text: str) -> str:
    """A text in one line; what cannot be printed is replaced."""
    return CONTROL.sub("\ufffd", " ".join(text.split()))


def prose(text: str) -> str:
    """A text that others wrote, in one line; what looks like a tag is shown."""
    return line(text).replace("<", "\\<")


def cell(text: str) -> str:
    """A text in one line that does not end a cell of a table."""
    return line(text).replace("|", "\\|")


def code(text: str) -> str:
    """A text in one line, as it would be typed; a backtick in it is kept."""
    typed = line(text)
    return f"`` {typed} ``" if "`" in typed else f"`{typed}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and an empty line. A column in which nothing was measured is left out and named
    below; without rows there is no table."""
    filled = [list(row) for row in rows]
    if not filled:
        return []
    bare = [n for n in range(1, len(head)) if all(row[n].startswith(NOT) for row in filled)]
    shown = [n for n in range(len(head)) if n not in bare]
    lines = [_row(head, shown), "|" + "---|" * len(shown), *(_row(row, shown) for row in filled)]
    if bare:
        lines += ["", f"Not measured in any row: {'; '.join(head[n] for n in bare)}."]
    return [*lines, ""]


def _row(cells: Sequence[str], shown: Sequence[int]) -> str:
    return f"| {' | '.join(cell(cells[n]) for n in shown)} |"
