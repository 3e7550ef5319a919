"""The four documents: what they say, and that each of their figures is in the summary."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import summaries
from mcpconc.errors import UsageError
from mcpconc.report.markdown import DOCUMENTS, plots, write
from mcpconc.report.markdown.common import Pictures
from mcpconc.report.markdown.deployment import deployment_report
from mcpconc.report.markdown.figures import (
    NOT,
    estimate,
    given,
    latencies,
    number,
    percent,
    prose,
    seconds,
    size,
    table,
)
from mcpconc.report.markdown.founded import unfounded
from mcpconc.report.markdown.performance import performance_report
from mcpconc.report.markdown.release import release_report
from mcpconc.report.markdown.stress import stress_report

Golden = Callable[[str, str], None]
Json = dict[str, Any]

SHOWN = Pictures(
    {
        name: f"{name}.png"
        for name in (
            *("latency-checkpoints", "latency-cascade", "slowdown-checkpoints"),
            *("slowdown-cascade", "memory", "bottlenecks"),
        )
    }
)
PICTURES = {"met": None, "missed": SHOWN, "unmeasured": Pictures(why=plots.MISSING), "single": None}
EACH = [(name, file) for name in summaries.ALL for file in DOCUMENTS]


def report(name: str, file: str) -> str:
    return DOCUMENTS[file](summaries.ALL[name](), PICTURES[name])


@pytest.mark.parametrize(("name", "file"), EACH)
def test_reports_read_like_this(name: str, file: str, golden: Golden) -> None:
    golden(f"reports/{name}-{file.removesuffix('.md').lower()}", report(name, file))


@pytest.mark.parametrize(("name", "file"), EACH)
def test_every_number_is_in_the_summary(name: str, file: str) -> None:
    assert unfounded(summaries.ALL[name](), report(name, file)) == []


@pytest.mark.parametrize(("name", "file"), EACH)
def test_nothing_of_the_program_shows_through(name: str, file: str) -> None:
    assert not re.search(r"\bNone\b(?! was|:)|\bnan\b|\{\}|\[\]", report(name, file))


@pytest.mark.parametrize(("name", "file"), EACH)
def test_rows_have_as_many_cells_as_their_heads(name: str, file: str) -> None:
    cells = 0
    for line in report(name, file).splitlines():
        here = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert here in (cells, 0) or not cells
        cells = here


# ------------------------------------------------------------------ the check itself


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("it took 9.72 s", []),
        ("it took 9721.3 ms", []),
        ("it took 9.73 s", ["9.73 s"]),
        ("it took 9.72 MiB", ["9.72 MiB"]),
        ("it took 9.72", ["9.72"]),
        ("from 4.94 to 6.17 s", []),
        ("from 4.94 to 6.27 s", ["6.27 s"]),
        ("from 4.95 to 6.17 s", ["4.95 s"]),
        ("CPU 99.9 %, I/O wait 2.2 %", []),
        ("CPU 99.8 %", ["99.8 %"]),
        ("less by -26.7 to -4.9 %", ["-26.7 %", "-4.9 %"]),
        ("logs of 5.4 KiB, a database of 3.2 MiB", []),
        ("a database of 3.3 MiB", ["3.3 MiB"]),
        ("33.3 calls/s", ["33.3 calls/s"]),
        ("ledger 9.9.9 on Linux 6.66.6", []),
        ("ledger 9.9.8", ["9.9", ".8"]),
        ("p95 of aaaa1111", []),
        ("599 calls", ["599"]),
        ("| 600 | 600.5 |", ["600.5"]),
        ("-5 agents", ["-5"]),
        ("120.7 MB", []),
        ("120.7 MiB", ["120.7 MiB"]),
        ("LEDGER_BUSY_MS=5000", []),
        ("5000 calls", ["5000"]),
    ],
)
def test_a_figure_that_is_not_in_the_summary_is_told(text: str, bad: list[str]) -> None:
    found = [line.split(":")[0] for line in unfounded(summaries.met(), text)]
    assert found == [number for number in bad if not number.startswith(".")]


def test_a_fingerprint_of_digits_is_a_name() -> None:
    document = summaries.met()
    document["findings"][0]["fingerprint"] = "28769193"
    assert unfounded(document, "`28769193` is known") == []
    assert unfounded(document, "`28769194` is known") != []


def test_a_changed_digit_of_a_report_is_told() -> None:
    """Of most figures, that is: there are many numbers in a summary."""
    document = summaries.met()
    text = stress_report(document)
    times = sorted({t for t in re.findall(r"\d\d\.\d(?= s )", text) if t[-1] != "9"})
    changed = {time: f"{time[:-1]}{int(time[-1]) + 1} s" for time in times}
    told = [t for t in times if unfounded(document, text.replace(f"{t} s", changed[t], 1))]
    assert len(told) > len(times) / 2


# ------------------------------------------------------------------ figures


def test_figures_keep_what_matters() -> None:
    assert [seconds(v) for v in (0.0123, 1.834, 12.34, None)] == [
        *("12.3 ms", "1.83 s", "12.3 s", NOT),
    ]
    assert [percent(v) for v in (0.0, 0.0021, 0.974, -0.2, None)] == [
        *("0.0 %", "0.21 %", "97.4 %", "-20.0 %", NOT),
    ]
    assert [size(v) for v in (512, 3 << 20, None)] == ["0.5 KiB", "3.0 MiB", NOT]
    assert [number(v) for v in (3, 3.0, 333.33, None)] == ["3", "3.00", "333.3", NOT]


def test_a_figure_never_looks_as_if_it_were_on_the_other_side_of_its_limit() -> None:
    assert given(9.72125, "s", 2.0) == "9.72 s"
    assert given(19.99996, "%", 20.0) == "19.99996 %"
    assert given(2.0, "s", 2.0) == "2 s"
    assert given(None, "s") == NOT


def test_the_ends_of_an_interval_keep_their_units_where_these_differ() -> None:
    assert estimate({"value": 0.12, "low": 0.0911, "high": 0.2}, seconds) == (
        "0.12 s (91.1 ms to 0.20 s)"
    )
    assert estimate({"value": 0.12, "low": None, "high": 0.2}, seconds) == "0.12 s"


def test_a_percentile_without_enough_calls_says_how_many_there_were() -> None:
    assert latencies(summaries.latency(99, 1.0))[1:5] == [
        *("1.00 s (0.89 to 1.11 s)", "1.50 s (1.33 to 1.67 s)"),
        *("not measured (n = 99)", "not measured (n = 99)"),
    ]
    assert latencies(None) == [NOT] * 6


def test_columns_in_which_nothing_was_measured_are_named_and_left_out() -> None:
    assert table(("a", "b", "c"), [("1", NOT, "x|y"), ("2", f"{NOT} (n = 3)", NOT)]) == [
        "| a | c |",
        "|---|---|",
        "| 1 | x\\|y |",
        "| 2 | not measured |",
        "",
        "Not measured in any row: b.",
        "",
    ]
    assert table(("a",), []) == []


def test_what_looks_like_a_tag_is_shown() -> None:
    assert prose("row <none>\n left") == "row \\<none> left"
    document = summaries.met()
    document["findings"][0]["summary"] = "a <script> of 77 lines | and 5 more"
    text = stress_report(document)
    assert "a \\<script> of 77 lines" in text
    assert unfounded(document, text) == []


# ------------------------------------------------------------------ what is said


def breaks(document: Json) -> list[str]:
    """The row of the first scenario in the table of what breaks first."""
    lines = stress_report(document).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("| scenario | agents meas"))
    return [cell.strip() for cell in lines[head + 2].strip("|").split(" | ")]


def test_where_it_breaks_first_is_the_fewest_agents() -> None:
    assert breaks(summaries.missed())[2:] == [
        "**5 agents**, CPU 99.9 %",
        "**5 agents**, CPU 99.9 %",
        "**5 agents**, CPU 99.9 %",
        "**10 agents**, CPU 99.9 %",
        "**5 agents**, 44.4 % (39.5 to 49.3 %)",
    ]


def test_what_did_not_break_says_up_to_where_it_was_looked() -> None:
    document = summaries.met()
    document["phases"][3]["violations"] = []
    document["phases"][4]["counts"]["locks"] = None
    assert breaks(document)[2:6] == [
        *("none up to 20 agents", "none up to 20 agents", "none up to 20 agents"),
        "none up to 10 agents",
    ]


def test_worlds_of_their_own_and_the_probe_break_nothing() -> None:
    document = summaries.met()
    document["phases"][3]["violations"] = []
    for phase in document["phases"]:
        if phase["placement"] == "own" or phase["inside"] is not None:
            phase["violations"] = [summaries.KNOWN]
    assert breaks(document)[2] == "none up to 20 agents"


def test_without_a_threshold_no_slowdown_is_too_much() -> None:
    document = summaries.missed()
    document["thresholds"] = document["thresholds"][:1]
    assert len(breaks(document)) == 6
    assert "Not measured in any row: slower than allowed (shared)." in stress_report(document)


def test_a_violation_that_is_listed_is_not_in_bold() -> None:
    text = stress_report(summaries.met())
    assert "| 10 | violated, listed |" in text
    assert "**violated**" not in text
    assert "| 5 | **violated**; 2 programs undecided |" in stress_report(summaries.missed())


def test_a_finding_names_the_phases_that_it_was_seen_in_and_its_command() -> None:
    text = stress_report(summaries.missed())
    part = text.partition("### equal rounds")[2].partition("###")[0]
    assert "checkpoints, 5 agents (CPU" in part
    assert "checkpoints, 10 agents (CPU" in part
    assert "again: `mcpconc replay out/traces/lost-entry-aaaa1111 --times 10`" in part


def test_a_phase_with_a_command_of_its_own_is_told_with_it() -> None:
    document = summaries.met()
    for phase in document["phases"][:5]:
        phase["command"] = "mcpconc stress checkpoints"
    part = stress_report(document).partition("### checkpoints")[2].partition("### cascade")[0]
    assert "Again: `mcpconc stress checkpoints`" in part
    assert (
        "Again: "
        not in stress_report(summaries.met())
        .partition("### checkpoints")[2]
        .partition("### cascade")[0]
    )


def test_recommendations_come_in_the_order_of_what_they_save() -> None:
    text = performance_report(summaries.met()).partition("## Recommendations")[2]
    schema, git = text.index("**schema statements"), text.index("**git processes**")
    assert schema < git
    assert "saves at most 0.44 s a call" in text
    assert "most of all entry_write, entry_read, ledger_close" in text


def test_without_the_probe_there_are_no_recommendations() -> None:
    text = performance_report(summaries.single())
    assert "None: what calls do inside the target was not measured." in text
    assert "Not measured: the probe did not count in this run." in text


def test_what_the_probe_saw_in_no_call_is_named_and_left_out() -> None:
    document = summaries.met()
    (phase,) = [phase for phase in document["phases"] if phase["inside"]]
    for row in phase["inside"]:
        del row["git"], row["git_s"]
    del phase["inside"][0]["sql_s"]
    document["bottlenecks"] = []
    text = performance_report(document)
    part = text.partition("## What calls do")[2].partition("## One agent")[0]
    assert "| tool | calls | statements | connections | transactions | other proc" in part
    assert re.search(r"\| entry_write \| 30 \| .* \| none \| 0.0 ms \| 44.4 s \|", part)
    assert "Seen in no call: git; time in git; time in other processes; waits for locks." in part
    assert "None: nothing that the probe counted stands out." in text


def test_faults_are_told_from_harmless_to_bad() -> None:
    text = deployment_report(summaries.missed())
    assert "| fault | by itself | on the next call | after a restart | data lost |" in text
    assert "| after full-disk, what was acknowledged is not there |" in text
    assert "| after kill-server, calls fail until the server is started again |" in text


def test_configurations_are_faster_only_where_intervals_are_apart() -> None:
    document = summaries.met()
    assert "| p50 faster, p95 faster |" in release_report(document)
    document["phases"][-1]["latency"] = summaries.latency(600, 5.6)
    assert "| p50 no difference, p95 no difference |" in release_report(document)
    document["phases"][-1]["latency"] = summaries.latency(600, 9.9)
    assert "| p50 slower, p95 slower |" in release_report(document)
    document["phases"][-1]["latency"] = summaries.latency(3, 9.9)
    rows = [line for line in release_report(document).splitlines() if "| production |" in line]
    assert "| not measured | CPU" in rows[-1]


def test_stages_that_were_left_out_are_named_first() -> None:
    document = summaries.met()
    document["skipped"] = ["fuzz", "faults"]
    assert "| left out | fuzz, faults |" in stress_report(document)
    assert "left out" not in stress_report(summaries.met())


# ------------------------------------------------------------------ writing


def test_documents_and_plots_are_written(tmp_path: Path) -> None:
    written = write(summaries.met(), tmp_path / "new" / "reports")
    assert {path.name for path in written} >= {*DOCUMENTS, "memory.png", "bottlenecks.png"}
    assert all(path.stat().st_size for path in written)
    for path in written:
        if path.suffix == ".md":
            shown = re.findall(r"\]\((.*?\.png)\)", path.read_text())
            assert {path.parent / name for name in shown} <= {*written}
    used = "".join(path.read_text() for path in written if path.suffix == ".md")
    assert all(f"({path.name})" in used for path in written if path.suffix == ".png")


def test_without_plots_there_is_not_a_word_of_them(tmp_path: Path) -> None:
    written = write(summaries.met(), tmp_path, plots=False)
    assert [path.name for path in written] == [*DOCUMENTS]
    assert not any(".png" in path.read_text() or "lots" in path.read_text() for path in written)


def test_without_matplotlib_reports_say_what_plots_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    written = write(summaries.met(), tmp_path)
    assert [path.name for path in written] == [*DOCUMENTS]
    assert all("pip install 'mcpconc[plots]'" in path.read_text() for path in written)


def test_where_nothing_can_be_written_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/reports"):
        write(summaries.met(), tmp_path / "file" / "reports", plots=False)
