"""The summary document and its published schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import summaries
from mcpconc.errors import UsageError
from mcpconc.report.document import VERSION, deviations, read, schema

Json = dict[str, Any]


@pytest.mark.parametrize("make", summaries.ALL.values(), ids=summaries.ALL)
def test_the_samples_are_as_the_schema_says(make: Callable[[], Json]) -> None:
    assert deviations(make(), strict=True) == []


def test_the_schema_is_one_and_names_its_version() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["mcpconc_summary"]["const"] == VERSION


def drop_exit(document: Json) -> None:
    del document["exit"]


def name_the_seed(document: Json) -> None:
    document["made_by"]["seed"] = "seven"


def judge_twice(document: Json) -> None:
    document["baseline"][0]["status"] = "lost"


def tell_of_nothing(document: Json) -> None:
    document["phases"][0]["violations"] = ["ffffffff"]


def count_too_far(document: Json) -> None:
    document["settings"][0]["phases"].append(len(document["phases"]))


def forget_an_interval(document: Json) -> None:
    del document["phases"][1]["latency"]["p95"]["low"]


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (drop_exit, "$: 'exit' is a required property"),
        (name_the_seed, "$.made_by.seed: 'seven' is not of type"),
        (judge_twice, "$.baseline[0].status: 'lost' is not one of"),
        (tell_of_nothing, "$.phases[0].violations: no finding has the fingerprint ffffffff"),
        (count_too_far, "$.settings[0].phases: there is no phase 18"),
        (forget_an_interval, "$.phases[1].latency: "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(spoil: Callable[[Json], None], where: str) -> None:
    document = summaries.met()
    spoil(document)
    (line,) = deviations(document)
    assert line.startswith(where)


def test_members_may_be_added_within_a_version() -> None:
    document = summaries.met()
    document["phases"][0]["colour"] = "blue"
    assert deviations(document) == []
    assert "colour" in deviations(document, strict=True)[0]


def test_a_saved_summary_is_read(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(summaries.met()))
    assert read(file) == summaries.met()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a summary"),
        ('{"kind": "gate"}', "`mcpconc_summary` is missing"),
        ('{"mcpconc_summary": 2}', "a summary of version 2; this mcpconc reads 1"),
    ],
)
def test_what_is_no_summary_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "summary.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        read(file)


def test_a_missing_summary_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "summary.json")
