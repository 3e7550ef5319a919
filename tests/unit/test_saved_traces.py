"""The regression corpus: every trace in `traces/` says today what it said when it was kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcpconc import oracle
from mcpconc.oracle.base import Label
from mcpconc.recheck import recheck, spec_of
from mcpconc.trace import load

CORPUS = Path(__file__).parents[2] / "traces"
SAVED = sorted(path.parent for path in CORPUS.glob("*/trace.json"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.name)
def test_a_saved_trace_is_judged_as_recorded(path: Path) -> None:
    trace = load(path)
    assert recheck(trace, spec_of(trace.target), oracle.ORACLES).status == "SAME"


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.name)
def test_a_saved_trace_is_minimal_and_labelled(path: Path) -> None:
    trace = load(path)
    assert trace.shrink is not None
    assert trace.shrink.finished
    assert trace.label in (Label.RACE, Label.CROSS_AGENT)
    assert trace.program.concurrent() <= 4


def test_the_corpus_holds_distinct_findings_each_with_a_sentence() -> None:
    fingerprints = {load(path).findings[0].fingerprint for path in SAVED}
    assert len(fingerprints) == len(SAVED) >= 6
    told = re.findall(r"^\| `([^`]+)` \|", (CORPUS / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == [path.name for path in SAVED]
