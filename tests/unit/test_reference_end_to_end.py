"""From a planted bug to a minimal trace, and from the trace back to the bug: what a user does
with a server of his own, on one that answers in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import mcpconc

BUG = "text-checked-before-lock"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A minimal trace of the bug, found by a campaign."""
    out = tmp_path_factory.mktemp("campaign")
    code, said = mcpconc(
        *("fuzz", "--plant", BUG, "--runs", "30", "--seed", "3"),
        *("--inflight", "2", "--out", str(out)),
    )
    assert code == 1
    (found, *_) = [f for f in said["findings"] if f["fingerprint"] and f["label"] == "race"]
    return str(found["trace"])


def test_the_trace_is_small_and_says_what_it_is(trace: str) -> None:
    code, said = mcpconc("show", trace)
    assert code in (0, 1)
    text = json.dumps(said)
    assert f"reference+{BUG}" in text
    saved = json.loads(Path(trace, "trace.json").read_text())
    assert sum(len(lane) for lane in saved["program"]["lanes"]) <= 4


def test_it_is_judged_again_without_a_server(trace: str) -> None:
    code, said = mcpconc("check", trace)
    assert (code, said["checks"][0]["status"]) == (1, "SAME")


def test_it_comes_back_on_the_server_with_the_bug(trace: str, tmp_path: Path) -> None:
    code, said = mcpconc("replay", trace, "--times", "5", "--out", str(tmp_path))
    assert code == 1
    assert said["replays"][0]["reproduced"] >= 1


def test_it_is_fixed_on_the_server_without(trace: str, tmp_path: Path) -> None:
    code, said = mcpconc(
        *("replay", trace, "--times", "3", "--target", "reference", "--out", str(tmp_path))
    )
    assert code == 0
    assert said["replays"][0]["reproduced"] == 0
