"""The plots of the reports, as PNG. matplotlib is an optional dependency (extra ``plots``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpconc.report.document import Json
from mcpconc.report.markdown.common import Pictures, by_scenario, ladder
from mcpconc.report.markdown.stress import slowdown_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MISSING", "draw"]

MISSING = "Plots need matplotlib: pip install 'mcpconc[plots]'"

WIDTH, HEIGHT, DPI = 7.0, 4.0, 110
COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#404040")
SHAPES = ("o", "s", "^", "D", "v", "P")

Drawing = Callable[["Axes"], None]


def draw(document: Json, directory: Path) -> Pictures:
    """Write a file for each plot that has data, and say what they are called."""
    if find_spec("matplotlib") is None:
        return Pictures(why=MISSING)
    files = {}
    for name, drawing in _drawings(document):
        figure = _figure(name, drawing)
        files[name] = f"{name}.png"
        # without the version of matplotlib, so that the same data make the same file
        figure.savefig(directory / files[name], dpi=DPI, metadata={"Software": None})
    return Pictures(files)


def _figure(name: str, drawing: Drawing) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x" if name == "bottlenecks" else "y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    drawing(axes)
    return figure


def _drawings(document: Json) -> Iterator[tuple[str, Drawing]]:
    scenarios = by_scenario(ladder(document))
    for scenario, phases in scenarios.items():
        if any(phase["latency"]["p50"] for phase in phases):
            yield f"latency-{scenario}", _latency(scenario, phases)
    slower = by_scenario(document["slowdown"])
    for scenario, rows in slower.items():
        if any(row["raw"] or row["shared"] for row in rows):
            yield f"slowdown-{scenario}", _slowdown(scenario, rows, slowdown_limit(document))
    if any(p["rss_per_agent_mib"]["max"] is not None for p in ladder(document)):
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
    times: float = 1.0,
) -> None:
    """A line with intervals; the `n`-th of several lines stands a little beside the others."""
    beside = (n - (of - 1) / 2) * 0.07
    points = [(at + beside, value) for at, value in enumerate(values) if value is not None]
    if not points:
        return
    heights = [value["value"] * times for _, value in points]
    low = [(value["value"] - _end(value, "low")) * times for _, value in points]
    high = [(_end(value, "high") - value["value"]) * times for _, value in points]
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


def _end(value: Mapping[str, Any], name: str) -> float:
    return float(value["value"] if value[name] is None else value[name])


def _latency(scenario: str, phases: Sequence[Json]) -> Drawing:
    def drawing(axes: Axes) -> None:
        names = ("p50", "p90", "p95", "p99")
        shown = [name for name in names if any(phase["latency"][name] for phase in phases)]
        for n, name in enumerate(shown):
            values = [phase["latency"][name] for phase in phases]
            _estimates(axes, values, name, n, of=len(shown))
        _agents(axes, [phase["agents"] for phase in phases])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("time for an answer (s)")
        axes.set_title(f"{scenario}: latency, with 95 % intervals", loc="left")
        axes.legend(frameon=False)

    return drawing


def _slowdown(scenario: str, rows: Sequence[Json], limit: float | None) -> Drawing:
    def drawing(axes: Axes) -> None:
        ordered = sorted(rows, key=lambda row: int(row["agents"]))
        labels = {"raw": "raw: against one agent", "shared": "shared: against worlds of their own"}
        for n, (name, label) in enumerate(labels.items()):
            values = [row[name] for row in ordered]
            _estimates(axes, values, label, n, of=len(labels), times=100)
        axes.axhline(0, color="#404040", linewidth=0.8)
        if limit is not None:
            text = f"allowed, shared: {limit * 100:g} %"
            axes.axhline(limit * 100, color=COLOURS[1], linestyle="--", linewidth=1, label=text)
        _agents(axes, [row["agents"] for row in ordered])
        axes.set_ylabel("slower by (%)")
        axes.set_title(f"{scenario}: slowdown, with 95 % intervals", loc="left")
        axes.legend(frameon=False)

    return drawing


def _memory(scenarios: Mapping[str, Sequence[Json]]) -> Drawing:
    def drawing(axes: Axes) -> None:
        agents = sorted({phase["agents"] for phases in scenarios.values() for phase in phases})
        for n, (scenario, phases) in enumerate(scenarios.items()):
            points = [
                (agents.index(phase["agents"]), phase["rss_per_agent_mib"]["max"])
                for phase in phases
                if phase["rss_per_agent_mib"]["max"] is not None
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
        axes.set_ylim(bottom=0)
        axes.set_ylabel("resident memory (MiB)")
        axes.set_title("memory of one agent: server and child processes, most of any", loc="left")
        axes.legend(frameon=False)

    return drawing


def _bottlenecks(found: Sequence[Json]) -> Drawing:
    def drawing(axes: Axes) -> None:
        shown = [entry for entry in found if entry["saves_at_most_s"] is not None]
        savings = [entry["saves_at_most_s"] for entry in shown]
        bars = axes.barh(range(len(shown)), savings, color=COLOURS[0], height=0.6)
        axes.bar_label(bars, [f"{value:.2f} s" for value in savings], padding=4)
        axes.set_yticks(range(len(shown)), [entry["name"] for entry in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, max(savings) * 1.15 or 1)
        axes.set_xlabel("saves at most, per call that does it (s)")
        axes.set_title("what doing without it saves at most", loc="left")

    return drawing
