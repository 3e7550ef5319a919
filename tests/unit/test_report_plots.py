"""Plots: which there are, and that they show what the summary says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import summaries
from mcpconc.report.markdown import plots
from mcpconc.report.markdown.plots import draw

Json = dict[str, Any]


def figure(document: Json, name: str) -> Any:
    drawings = dict(plots._drawings(document))
    return plots._figure(drawings[name])


def test_there_is_a_plot_for_all_that_was_measured(tmp_path: Path) -> None:
    pictures = draw(summaries.met(), tmp_path)
    assert {*pictures.files} == {
        *("latency-checkpoints", "latency-cascade", "memory", "bottlenecks"),
        *("slowdown-checkpoints", "slowdown-cascade", "slowdown-all"),
    }
    for name in pictures.files.values():
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_there_is_none_for_what_was_not(tmp_path: Path) -> None:
    assert draw(summaries.unmeasured(), tmp_path).files == {}
    assert {*draw(summaries.single(), tmp_path).files} == {"latency-cascade", "memory"}


def test_the_same_data_make_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pictures = draw(summaries.single(), tmp_path / name)
    for name in pictures.files.values():
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_axes_are_named_with_their_units() -> None:
    document = summaries.met()
    labels = {
        name: [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure(document, name).axes]
        for name in ("latency-cascade", "slowdown-cascade", "memory", "bottlenecks")
    }
    assert labels == {
        "latency-cascade": [("agents", "time for an answer (s)")],
        "slowdown-cascade": [("agents", "slower by (%)"), ("agents", "slower by (%)")],
        "memory": [("agents", "resident memory (MiB)")],
        "bottlenecks": [("time of a call that does it (s)", "")],
    }


def test_percentiles_are_drawn_where_they_were_measured() -> None:
    (axes,) = figure(summaries.met(), "latency-checkpoints").axes
    drawn = {line.get_label(): line[0].get_ydata() for line in axes.containers}
    assert list(drawn) == ["p50", "p90", "p95", "p99"]
    assert drawn["p50"] == pytest.approx([1.111, 2.222, 5.555, 11.11, 22.22])
    assert len(drawn["p99"]) == 4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "5", "10", "20"]


def test_slowdown_is_in_percent_with_what_is_allowed() -> None:
    raw, shared = figure(summaries.met(), "slowdown-checkpoints").axes
    assert raw.containers[0][0].get_ydata() == pytest.approx([180, 450, 900, 1800])
    assert shared.containers[0][0].get_ydata() == pytest.approx([4.44, 11.1, 22.2])
    assert [text.get_text() for text in shared.texts] == ["allowed: 20 %"]
    assert not raw.texts


def test_bars_are_ranked_from_the_top() -> None:
    (axes,) = figure(summaries.met(), "bottlenecks").axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [0.444, 0.0777]
    assert axes.yaxis_inverted()
