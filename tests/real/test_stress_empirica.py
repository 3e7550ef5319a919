"""A stress run on the real Empirica, as short as one can be."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcpconc.stress.run import StressConfig, stress
from mcpconc.target.warm import Start

pytestmark = pytest.mark.real


def test_two_agents_and_a_few_calls(tmp_path: Path) -> None:
    config = StressConfig(
        out=tmp_path,
        scenarios=("bootstrap",),
        agents=(2,),
        baseline=2,
        calls=8,
        lane=4,
        own=0,
        start=Start.FORK,
        observe=True,
        observed=4,
        seed=1,
    )
    done = anyio.run(stress, config, lambda event: None)
    found = done.document()
    assert [(p["agents"], p["calls"], p["observed"]) for p in found["phases"]] == [
        (1, 2, False),
        (2, 8, False),
        (2, 4, True),
    ]
    two, inside = found["phases"][1:]
    assert two["counts"]["errors"] == 0
    for use in two["usage"]:
        assert use["rss_mib"] > use["server_rss_mib"] > 20  # each call is a process of its own
        assert use["cpu_s"] > 0
        assert use["received_bytes"] > 400
    assert two["storage"]["git_objects"] > 0
    assert {row["tool"] for row in inside["inside"]} >= {"session_create", "project_bootstrap"}
    names = {row["name"] for row in found["bottlenecks"]}
    assert {"git processes", "schema statements", "connections"} <= names
    # Findings of forked calls are none yet, and of worlds that were never minimised no baseline is.
    assert all(entry["confirmed"] == [0, 0] for entry in found["findings"])
