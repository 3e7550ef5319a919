"""A server without a model, from a planted bug to a trace and back: it is judged by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import mcpconc

BUG = "goal-checked-before-lock"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A minimal trace of the bug, found by a campaign that knows no specification."""
    out = tmp_path_factory.mktemp("campaign")
    code, said = mcpconc(
        *("fuzz", "--model", "self", "--plant", BUG, "--runs", "60", "--seed", "1"),
        *("--share", "1", "--out", str(out)),
    )
    assert code == 1
    (found, *_) = [f for f in said["findings"] if f["oracle"] == "self"]
    assert found["label"] == "race"
    return str(found["trace"])


def test_the_trace_is_small_and_says_who_judged(trace: str) -> None:
    saved = json.loads(Path(trace, "trace.json").read_text())
    assert saved["model"] == "self"
    assert sum(len(lane) for lane in saved["program"]["lanes"]) == 2
    reason = saved["findings"][0]["reason"]
    assert "(goals_create) and " in reason[0]


def test_it_is_judged_again_without_a_server(trace: str) -> None:
    code, said = mcpconc("check", trace)
    assert (code, said["checks"][0]["status"]) == (1, "SAME")


def test_it_comes_back_with_the_bug_and_is_fixed_without(trace: str, tmp_path: Path) -> None:
    code, said = mcpconc("replay", trace, "--times", "8", "--out", str(tmp_path))
    assert code == 1
    assert said["replays"][0]["reproduced"] >= 1
    code, said = mcpconc(
        *("replay", trace, "--times", "3", "--target", "reference", "--out", str(tmp_path))
    )
    assert (code, said["replays"][0]["reproduced"]) == (0, 0)


def test_the_correct_server_agrees_with_itself(tmp_path: Path) -> None:
    code, said = mcpconc(
        *("fuzz", "--model", "self", "--target", "reference", "--runs", "24", "--seed", "2"),
        *("--share", "1", "--out", str(tmp_path)),
    )
    assert (code, said["findings"]) == (0, [])
