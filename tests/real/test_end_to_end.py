"""The main job on the real Empirica: a campaign, and a race that comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import mcpconc

pytestmark = pytest.mark.real

CORPUS = Path(__file__).parents[2] / "traces"
RACE = "round-reflexes"


def test_a_short_campaign_runs_and_keeps_what_it_finds(tmp_path: Path) -> None:
    code, said = mcpconc(
        *("fuzz", "--runs", "3", "--seed", "5", "--identity", "isolated"),
        *("--start", "ordinary", "--no-shrink", "--out", str(tmp_path)),
    )
    assert code in (0, 1)
    assert said["programs"] == 3
    assert said["infra"] == 0
    assert said["overlap"]["max"] > 1
    for finding in said["findings"]:
        assert mcpconc("check", finding["trace"])[1]["checks"][0]["status"] == "SAME"


def test_agents_that_share_nothing_do_not_race(tmp_path: Path) -> None:
    _, said = mcpconc(
        *("fuzz", "--runs", "2", "--seed", "6", "--identity", "isolated", "--agents", "3"),
        *("--share", "0", "--out", str(tmp_path)),
    )
    assert {finding["label"] for finding in said["findings"]} <= {"sequential"}


def test_a_saved_race_comes_back(tmp_path: Path) -> None:
    trace = next(path for path in sorted(CORPUS.iterdir()) if path.name.startswith(RACE))
    code, said = mcpconc("replay", str(trace), "--times", "5", "--out", str(tmp_path))
    assert code == 1
    assert said["replays"][0]["tried"] == 5
    assert said["replays"][0]["reproduced"] >= 1


def test_doctor_finds_the_target_fit(tmp_path: Path) -> None:
    code, said = mcpconc("doctor", "--out", str(tmp_path))
    assert code == 0
    states = {check["name"]: check["state"] for check in said["checks"]}
    assert states["target"] == states["server"] == states["processes"] == "ok"
