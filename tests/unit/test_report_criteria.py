"""The table of criteria, and the place for it in a file that somebody else writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import summaries
from mcpconc.errors import UsageError
from mcpconc.report.markdown.criteria import BEGIN, END, criteria, write_criteria

Golden = Callable[[str, str], None]

AROUND = b"# Tasks\n\n- [ ] five agents  \n\xff\xfe not text\n<!-- mcpconc:criteria -->"
AFTER = b"<!-- /mcpconc:criteria -->\ttrailing \n\n\n"


@pytest.mark.parametrize("name", summaries.ALL)
def test_the_table_reads_like_this(name: str, golden: Golden) -> None:
    golden(f"reports/criteria-{name}", criteria(summaries.ALL[name]()))


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    file = tmp_path / "TASKS.md"
    file.write_bytes(AROUND + b" old " + AFTER)
    write_criteria(summaries.met(), file)
    once = file.read_bytes()
    assert once == AROUND + b"\n\n" + criteria(summaries.met()).encode() + b"\n" + AFTER
    write_criteria(summaries.met(), file)
    assert file.read_bytes() == once


def test_lines_end_as_the_others_of_the_file_do(tmp_path: Path) -> None:
    file = tmp_path / "TASKS.md"
    file.write_bytes(f"a\r\n{BEGIN}\r\n{END}\r\nb\r\n".encode())
    write_criteria(summaries.met(), file)
    data = file.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > 5
    assert data.startswith(b"a\r\n<!--")
    assert data.endswith(b"-->\r\nb\r\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", f"`{BEGIN}` is missing"),
        (BEGIN, f"`{END}` is missing"),
        (f"{BEGIN}{BEGIN}{END}", f"`{BEGIN}` is there 2 times; it must stand there once"),
        (f"{BEGIN}{END} {END}", f"`{END}` is there 2 times"),
        (f"{END}{BEGIN}", f"`{END}` stands before `{BEGIN}`"),
    ],
)
def test_without_its_place_nothing_is_written(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "TASKS.md"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        write_criteria(summaries.met(), file)
    assert f"{file}: {says}" in str(error.value)
    assert file.read_text() == text


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TASKS\.md: No such file"):
        write_criteria(summaries.met(), tmp_path / "TASKS.md")


def test_a_miss_is_excused_by_the_gate_alone() -> None:
    document = summaries.missed()
    row = "| `slowdown.shared(10) < 20%` | not met, listed | 66.6 % |"
    assert row in criteria(document)
    document["thresholds"][2].update(listed=None, why="accepted until 2002-02-02")
    row = "| `slowdown.shared(10) < 20%` | **not met** | 66.6 % | accepted until 2002-02-02 |"
    assert row in criteria(document)


def test_what_nobody_could_judge_is_not_met() -> None:
    document = summaries.met()
    document["findings"][0]["status"] = "unconfirmed"
    document["traces"][1].update(status="NOT JUDGED", why="2 of 10 tries")
    table = criteria(document)
    assert "| nothing is found that is not listed | not measured |  | lost entry.amount" in table
    assert "| no saved trace fails that is not listed | not measured |  | NOT JUDGED: " in table


def test_a_cell_names_three_of_many() -> None:
    document = summaries.missed()
    (one,) = [entry for entry in document["baseline"] if entry["status"] == "not judged"]
    document["baseline"] = [{**one, "fingerprint": f"eeee000{n}"} for n in range(5)]
    (row,) = [r for r in criteria(document).splitlines() if "nothing is listed that is not" in r]
    assert [f"eeee000{n}" in row for n in range(5)] == [True, True, True, False, False]
    assert row.endswith("; and others |")


def test_of_a_run_that_was_cut_short_nothing_can_be_said() -> None:
    table = criteria(summaries.unmeasured())
    what = "nothing is found that is not listed"
    assert f"| {what} | not measured |  | the run did not come to its end |" in table
    assert f"| {what} | met |" in criteria(summaries.single())
