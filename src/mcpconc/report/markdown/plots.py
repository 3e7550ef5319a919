"""The plots of the reports, as PNG. matplotlib is an optional dependency (extra ``plots``)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mcpconc.report.document import Json
from mcpconc.report.markdown.common import Pictures, by_scenario, ladder, slowdowns
from mcpconc.report.markdown.figures import part
from mcpconc.report.markdown.stress import slowdown_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MISSING", "draw"]

MISSING = "Plots need matplotlib: pip install 'mcpconc[plots]'"

WIDTH, HEIGHT, DPI = 7.0, 4.0, 110
COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#404040")
SHAPES = ("o", "s", "^", "D", "v", "P")

AT_LINE = {"ha": "right", "va": "bottom"}
"""Where a text stands that names a line: above its right end."""

Drawing = Callable[["Figure"], None]


def draw(document: Json, directory: Path) -> Pictures:
    """Write a file for each plot that has data, and say what they are called."""
    if find_spec("matplotlib") is None:
        return Pictures(why=MISSING)
    files = {}
    for name, drawing in _drawings(document):
        figure = _figure(drawing)
        files[name] = f"{name}.png"
        # without the version of matplotlib, so that the same data make the same file
        figure.savefig(directory / files[name], dpi=DPI, metadata={"Software": None})
    return Pictures(files)


def _figure(drawing: Drawing) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    drawing(figure)
    return figure


def _plain(axes: Axes, title: str, *, along: Literal["x", "y"] = "y") -> Axes:
    """No frame, faint lines to read values by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize="medium")
    return axes


def _drawings(document: Json) -> Iterator[tuple[str, Drawing]]:
    scenarios = by_scenario(ladder(document))
    for scenario, phases in scenarios.items():
        if any(part(phase["latency"], "p50") for phase in phases):
            yield f"latency-{scenario}", _latency(scenario, phases)
    slower = by_scenario(slowdowns(document))
    for scenario, rows in slower.items():
        if any(row["raw"] or row["shared"] for row in rows):
            yield f"slowdown-{scenario}", _slowdown(scenario, rows, slowdown_limit(document))
    if any(part(p["rss_per_agent_mib"], "max") is not None for p in ladder(document)):
        yield "memory", _memory(scenarios)
    if any(found["saves_at_most_s"] is not None for found in document["bottlenecks"]):
        yield "bottlenecks", _bottlenecks(document["bottlenecks"])


def _agents(axes: Axes, agents: Sequence[int]) -> None:
    """Numbers of agents stand at equal distances: 1, 2, 5, 10, 20 would crowd at the left."""
    axes.set_xticks(range(len(agents)), [str(n) for n in agents])
    axes.set_xlim(-0.4, len(agents) - 0.6)
    axes.set_xlabel("agents")


def _estimates(
    axes: Axes,
    values: Sequence[Mapping[str, Any] | None],
    label: str,
    n: int,
    *,
    of: int,
) -> None:
    """A line with intervals; the `n`-th of several lines stands a little beside the others."""
    beside = (n - (of - 1) / 2) * 0.07 if of > 1 else 0.0
    points = [(at + beside, value) for at, value in enumerate(values) if value is not None]
    if not points:
        return
    heights = [value["value"] for _, value in points]
    low = [value["value"] - _end(value, "low") for _, value in points]
    high = [_end(value, "high") - value["value"] for _, value in points]
    axes.errorbar(
        [at for at, _ in points],
        heights,
        yerr=[[max(end, 0.0) for end in low], [max(end, 0.0) for end in high]],
        label=label,
        color=COLOURS[n % len(COLOURS)],
        marker=SHAPES[n % len(SHAPES)],
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=3,
    )


def _percent(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {key: None if end is None else end * 100 for key, end in value.items()}


def _end(value: Mapping[str, Any], name: str) -> float:
    return float(value["value"] if value[name] is None else value[name])


def _latency(scenario: str, phases: Sequence[Json]) -> Drawing:
    def drawing(figure: Figure) -> None:
        axes = _plain(figure.add_subplot(), f"{scenario}: latency, with 95 % intervals")
        names = ("p50", "p90", "p95", "p99")
        shown = [name for name in names if any(part(phase["latency"], name) for phase in phases)]
        for n, name in enumerate(shown):
            values = [part(phase["latency"], name) for phase in phases]
            _estimates(axes, values, name, n, of=len(shown))
        _agents(axes, [phase["agents"] for phase in phases])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("time for an answer (s)")
        axes.legend(frameon=False)

    return drawing


def _slowdown(scenario: str, rows: Sequence[Json], limit: float | None) -> Drawing:
    """Raw and shared beside each other: the one is often a hundred times the other."""

    def drawing(figure: Figure) -> None:
        ordered = sorted(rows, key=lambda row: int(row["agents"]))
        titles = {"raw": "raw: against one agent", "shared": "shared: against worlds of their own"}
        shown = {k: title for k, title in titles.items() if any(row[k] for row in ordered)}
        for n, (name, title) in enumerate(shown.items()):
            axes = _plain(figure.add_subplot(1, len(shown), n + 1), title)
            _estimates(
                axes, [_percent(row[name]) for row in ordered], name, [*titles].index(name), of=1
            )
            axes.axhline(0, color="#404040", linewidth=0.8)
            _agents(axes, [row["agents"] for row in ordered])
            axes.set_ylabel("slower by (%)")
            if name == "shared" and limit is not None:
                axes.axhline(limit * 100, color="#404040", linestyle="--", linewidth=1)
                text = f"allowed: {limit * 100:g} %"
                axes.annotate(
                    text,
                    (1, limit * 100),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                )
        figure.suptitle(f"{scenario}: slowdown, with 95 % intervals", x=0.01, ha="left")

    return drawing


def _memory(scenarios: Mapping[str, Sequence[Json]]) -> Drawing:
    def drawing(figure: Figure) -> None:
        title = "memory of one agent, server and child processes: the most that any took"
        axes = _plain(figure.add_subplot(), title)
        agents = sorted({phase["agents"] for phases in scenarios.values() for phase in phases})
        for n, (scenario, phases) in enumerate(scenarios.items()):
            points = [
                (agents.index(phase["agents"]), most)
                for phase in phases
                if (most := part(phase["rss_per_agent_mib"], "max")) is not None
            ]
            axes.plot(
                [at for at, _ in points],
                [height for _, height in points],
                label=scenario,
                color=COLOURS[n % len(COLOURS)],
                marker=SHAPES[n % len(SHAPES)],
                markersize=5,
                linewidth=1.5,
            )
        _agents(axes, agents)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        axes.set_ylabel("resident memory (MiB)")
        axes.legend(frameon=False)

    return drawing


def _bottlenecks(found: Sequence[Json]) -> Drawing:
    def drawing(figure: Figure) -> None:
        shown = [entry for entry in found if entry["saves_at_most_s"] is not None]
        figure.set_figheight(1.3 + 0.5 * len(shown))
        axes = _plain(figure.add_subplot(), "what doing without it saves at most", along="x")
        savings = [entry["saves_at_most_s"] for entry in shown]
        bars = axes.barh(range(len(shown)), savings, color=COLOURS[0], height=0.6)
        axes.bar_label(bars, [f"{value:.2f} s" for value in savings], padding=4)
        names = [textwrap.fill(entry["name"], 34) for entry in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, max(savings) * 1.2 or 1)
        axes.set_xlabel("time of a call that does it (s)")

    return drawing
