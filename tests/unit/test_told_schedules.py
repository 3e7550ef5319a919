"""Three races of Empirica, told with the switches inside the calls to somebody who was not there.

Each is a saved trace whose schedule was controlled; it is judged again without a server, and the
golden file is what is said of it. Whoever changes a text reads it and asks: who did what between
which two statements of whom?
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mcpconc.oracle import ORACLES
from mcpconc.recheck import recheck, spec_of
from mcpconc.report.finding import finding_report
from mcpconc.report.schedule import inside, switched
from mcpconc.trace import Trace, load

CORPUS = Path(__file__).parents[2] / "traces"
TOLD = sorted(path.parent for path in CORPUS.glob("*/trace.json") if load(path.parent).schedule)


def told(path: Path) -> Trace:
    """The saved run with what is found in it today, named as it was then."""
    trace = load(path)
    saved = trace.findings[0]
    found = recheck(trace, spec_of(trace.target), ORACLES).judgement.findings
    now = next(f for f in found if f.fingerprint.head() == saved.fingerprint.head())
    return replace(
        trace, findings=(replace(now, fingerprint=saved.fingerprint, label=saved.label),)
    )


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_what_happened_inside_the_calls(path: Path, golden: Callable[[str, str], None]) -> None:
    golden(f"schedules/{path.name}", finding_report(told(path), Path("traces") / path.name))


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_somebody_stops_between_two_statements_and_goes_on_later(path: Path) -> None:
    trace = load(path)
    lines = " ".join(inside(trace.schedule, trace.program))
    assert re.search(r"agent (\d) ran \S+ \w+.* up to .*then agent (?!\1).*agent \1 went on", lines)
    assert 2 <= switched(trace.schedule) <= 4


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_no_id_and_no_token_is_left_in_the_text(path: Path) -> None:
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|tok\d{3}", finding_report(told(path)))


def test_they_are_different_kinds_of_finding() -> None:
    kinds = {load(path).findings[0].fingerprint.oracle for path in TOLD}
    assert len(TOLD) == len(kinds) == 3
