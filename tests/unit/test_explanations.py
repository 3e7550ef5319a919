"""Ten bugs, each told to somebody who knows nothing but the names of the tools.

Every directory of `golden/explanations` is the saved minimal run of one bug that was planted in
the reference server. It is judged again without a server, and the text beside it is what is said
of it. Whoever changes a text reads it and asks: what happened, and why does no order work?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Finding
from mcpconc.recheck import recheck, spec_of
from mcpconc.report.finding import finding_report
from mcpconc.trace import Trace, load

HERE = Path(__file__).parents[1] / "golden" / "explanations"
BUGS = sorted(path.name for path in HERE.iterdir() if path.is_dir())


def judged_again(name: str) -> tuple[Trace, Finding]:
    """The saved run, and what is found in it today, with the label that it was given then."""
    trace = load(HERE / name)
    saved = trace.findings[0]
    found = recheck(trace, spec_of(trace.target), ORACLES).judgement.findings
    told = next(f for f in found if f.fingerprint.head() == saved.fingerprint.head())
    return trace, replace(told, fingerprint=saved.fingerprint, label=saved.label)


@pytest.mark.parametrize("name", BUGS)
def test_what_happened_and_why_no_order_works(
    name: str, golden: Callable[[str, str], None]
) -> None:
    trace, told = judged_again(name)
    report = finding_report(replace(trace, findings=(told,)), Path("traces") / name)
    golden(f"explanations/{name}", report)


@pytest.mark.parametrize("name", BUGS)
def test_every_call_that_is_spoken_of_is_in_the_picture_and_no_id_is(name: str) -> None:
    trace, told = judged_again(name)
    report = finding_report(replace(trace, findings=(told,)))
    picture, _, reason = report.partition("a text that only call")
    assert told.calls
    assert all(f" {call} " in picture and call in reason for call in told.calls)
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|tok\d{3}", report)


def test_they_are_ten_different_bugs_and_most_are_for_the_search_to_find() -> None:
    traces = [load(HERE / name) for name in BUGS]
    assert len({trace.target for trace in traces}) == len(BUGS) == 10
    assert Counter(t.findings[0].fingerprint.oracle for t in traces)["linearizability"] >= 6
