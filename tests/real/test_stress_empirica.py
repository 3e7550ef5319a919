"""A stress run on the real Empirica, as short as one can be, and what its reports say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import mcpconc
from mcpconc.errors import Exit
from mcpconc.report.document import deviations
from mcpconc.report.markdown.founded import unfounded

pytestmark = pytest.mark.real

SMALL = {"agents": [2], "baseline": 2, "calls": 8, "lane": 4, "own": 0, "observed": 4}
REPORTS = {
    "MULTI_AGENT_STRESS_TEST_REPORT.md",
    "PERFORMANCE_OPTIMIZATION_REPORT.md",
    "PRODUCTION_DEPLOYMENT_VALIDATION.md",
    "RELEASE_PERFORMANCE_VALIDATION.md",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents and a few calls, forked."""
    here = tmp_path_factory.mktemp("stress")
    code, _ = mcpconc(
        *("stress", "bootstrap", "--observe", "--start", "fork", "--seed", "1", "--no-baseline"),
        *(word for key, value in SMALL.items() for word in ("--set", f"stress.{key}={value}")),
        *("--report", "markdown,junit,sarif,github", "--out", str(here)),
    )
    assert code in (Exit.PASSED, Exit.VIOLATION, Exit.INCONCLUSIVE)
    return here


@pytest.fixture(scope="module")
def summary(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())


def test_what_was_measured(summary: Any) -> None:
    assert [(p["agents"], p["calls"], p["observed"]) for p in summary["phases"]] == [
        (1, 2, False),
        (2, 8, False),
        (2, 4, True),
    ]
    two, inside = summary["phases"][1:]
    assert two["counts"]["errors"] == 0
    for use in two["usage"]:
        assert use["rss_mib"] > use["server_rss_mib"] > 20  # each call is a process of its own
        assert use["cpu_s"] > 0
        assert use["received_bytes"] > 400
    assert two["storage"]["git_objects"] > 0
    assert {row["tool"] for row in inside["inside"]} >= {"session_create", "project_bootstrap"}
    names = {row["name"] for row in summary["bottlenecks"]}
    assert {"git processes", "schema statements", "connections"} <= names


def test_findings_of_forked_calls_are_none_yet(summary: Any) -> None:
    assert {finding["status"] for finding in summary["findings"]} <= {"unconfirmed"}


def test_the_summary_is_as_its_schema_says(summary: Any) -> None:
    assert deviations(summary, strict=True) == []


def test_every_number_of_the_reports_is_in_the_summary(out: Path, summary: Any) -> None:
    pages = {path.name: path.read_text() for path in (out / "reports").glob("*.md")}
    assert pages.keys() >= REPORTS
    assert [found for name in REPORTS for found in unfounded(summary, pages[name])] == []
