"""A whole gate on a server that answers in milliseconds: correct, broken, and known to be broken;
and what a comparison says of the two."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.processes import members, start, until
from mcpconc.baseline import Baseline, read, render
from mcpconc.cli import main
from mcpconc.errors import Exit
from mcpconc.known import entry_of
from mcpconc.oracle.base import Fingerprint
from mcpconc.report.document import deviations
from mcpconc.trace import Shrink, load

BUG = "stdout-polluted"
"""One that each program shows, and one oracle alone sees."""

FUZZ = (
    *("--set", "fuzz.runs=6", "--set", "fuzz.time=60", "--set", "fuzz.shrink=false"),
    *("--agents", "3", "--set", "floors.overlap=1", "--set", "floors.tools=4"),
    *("--set", "floors.pairs=3", "--set", "floors.programs=3"),
    *("--threshold", "violations.new == 0"),
)
WITHOUT = ("--skip", "doctor,canary,faults,stress")


def gate(out: Path, *words: str, target: str = f"reference+{BUG}") -> tuple[int, Any]:
    """Exit code and summary of a gate in this process."""
    here = ("--target", target, "--traces", str(out / "none"), "--out", str(out), "--json")
    code = main(["gate", *here, *words])
    return code, json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline that a gate wrote of the broken server, which it refused before."""
    here = tmp_path_factory.mktemp("listed")
    file = here / "baseline.toml"
    words = (*FUZZ, *WITHOUT, "--baseline", str(file), "--reason", "planted")
    code, document = gate(here / "out", *words, "--update-baseline")
    assert code == 0
    assert document["exit"] == 1
    assert {f["status"] for f in document["findings"]} == {"new"}
    return file


def test_the_correct_server_passes_every_stage(tmp_path: Path) -> None:
    words = (
        *("--set", "stress.scenarios=['bootstrap']", "--set", "stress.agents=[1,3]"),
        *("--set", "stress.baseline=6", "--set", "stress.calls=12", "--set", "stress.own=0"),
        *("--set", "faults.runs=1", "--set", "faults.kinds=['cancel']"),
        *("--threshold", "calls.p50 < 60s", "--threshold", "overlap.avg >= 1"),
    )
    reports = ("--report", "junit,sarif,github,markdown", "--report-dir", str(tmp_path / "r"))
    code, document = gate(tmp_path, *FUZZ, *words, *reports, target="reference")
    assert (code, document["stop"]) == (0, "all that was asked holds")
    assert deviations(document, strict=True) == []
    written = {file.name for file in (tmp_path / "r").iterdir()}
    assert {"junit.xml", "mcpconc.sarif", "RELEASE_PERFORMANCE_VALIDATION.md"} <= written
    assert document["canary"]["passed"]
    assert document["doctor"]["exit"] == 0
    assert document["fuzz"]["programs"] == 6
    assert document["faults"].keys() == {"cancel"}
    assert {phase["agents"] for phase in document["phases"]} == {1, 3}
    assert document["findings"] == document["skipped"] == []
    assert all(t["passed"] for t in document["thresholds"])


def test_a_planted_bug_that_is_listed_passes(listed: Path, tmp_path: Path) -> None:
    code, document = gate(tmp_path, *FUZZ, *WITHOUT, "--baseline", str(listed))
    assert (code, document["stop"]) == (
        0,
        "all that was asked holds without doctor, canary, faults, stress",
    )
    assert {f["status"] for f in document["findings"]} == {"known"}
    assert {t["status"] for t in document["traces"]} == {"STILL FAILS"}


def test_without_its_entry_it_fails(listed: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline.toml"
    file.write_text(render(replace(read(listed), findings=())))
    code, document = gate(tmp_path, *FUZZ, *WITHOUT, "--baseline", str(file))
    assert code == 1
    assert [t["passed"] for t in document["thresholds"]] == [False]


def test_a_fictitious_entry_is_stale(listed: Path, tmp_path: Path) -> None:
    known = read(listed)
    trace = load(known.trace(known.findings[0]))
    assert trace.finding is not None
    fiction = replace(trace.finding, fingerprint=Fingerprint("effects", "fiction", "goal"))
    told = replace(trace, findings=(fiction,), shrink=Shrink(finished=True, failed=5, of=5))
    there = told.save(tmp_path / "traces" / "fiction")
    entry = entry_of(told, str(there), "it never was")
    file = tmp_path / "baseline.toml"
    entries = [replace(e, trace=str(known.trace(e))) for e in known.findings]
    file.write_text(render(Baseline(file, (*entries, entry))))
    code, document = gate(tmp_path, *FUZZ, *WITHOUT, "--baseline", str(file))
    assert (code, document["stop"]) == (1, "1 stale entry")
    statuses = {e["fingerprint"]: e["status"] for e in document["baseline"]}
    assert statuses.pop(entry.fingerprint) == "stale"
    assert set(statuses.values()) == {"found"}


def test_a_gate_that_tries_too_little_is_vacuous(tmp_path: Path) -> None:
    few = ("--set", "fuzz.runs=1", "--set", "floors.programs=5")
    code, document = gate(tmp_path, *FUZZ, *few, *WITHOUT, target="reference")
    assert code == 2
    assert "programs with a verdict 1 is below 5" in document["vacuous"]


def test_a_signal_ends_it_with_what_is_known(tmp_path: Path) -> None:
    words = ("--target", "reference", "--traces", "none", "--set", "fuzz.runs=100000")
    with start(tmp_path, "gate", *words, *WITHOUT) as process:
        log = tmp_path / "out" / "mcpconc.log"
        until(lambda: log.exists() and "CampaignStarted" in log.read_text())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == Exit.INTERRUPTED
    assert out.splitlines()[-1] == "INTERRUPTED · interrupted · exit 130"
    assert "Traceback" not in out + err
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["exit"] == Exit.INTERRUPTED
    assert document["fuzz"]["stop"] == "interrupted"
    assert members(tmp_path) == []


SOUND = ("slowdown.shared(5) < 60%", "latency.growth < 100%", "rss.growth < 20MiB")


@pytest.mark.long
@pytest.mark.parametrize(
    ("plant", "missed"),
    [
        ("", None),
        ("+slow-lock", SOUND[0]),
        ("+slower-with-calls", SOUND[1]),
        ("+memory-seeps", SOUND[2]),
    ],
)
def test_a_planted_cost_misses_its_threshold_and_no_other(
    tmp_path: Path, plant: str, missed: str | None
) -> None:
    words = ["stress", "bootstrap", "--target", f"reference{plant}", "--out", str(tmp_path)]
    words += ["--ladder", "1,5", "--baseline-calls", "40", "--calls", "100", "--json"]
    for expr in SOUND:
        words += ["--threshold", expr]
    assert main(words) == (1 if missed else 0)
    document = json.loads((tmp_path / "summary.json").read_text())
    failed = [t["expr"] for t in document["thresholds"] if not t["passed"]]
    assert failed == ([missed] if missed else [])


def diff(out: Path, b: str, *more: str) -> tuple[int, Any]:
    words = ("--agents", "3", "--calls", "8", "--seed", "3", "--out", str(out), *more)
    code = main(["diff", "--a", "reference", "--b", b, *words, "--json"])
    return code, json.loads((out / "diff.json").read_text())


def test_a_comparison_names_the_finding_that_differs(tmp_path: Path) -> None:
    code, document = diff(tmp_path, f"reference+{BUG}", "--runs", "3")
    assert code == 1
    (row,) = [row for row in document["findings"] if row["changed"]]
    assert row["oracle"] == "protocol"
    assert row["again"] == {"of": 10, "in_a": 0, "in_b": 10}
    assert load(Path(row["traces"]["b"])).finding is not None


@pytest.mark.parametrize(("b", "slower"), [("reference+slow-lock", True), ("reference", False)])
def test_a_comparison_says_whether_calls_are_slower(tmp_path: Path, b: str, slower: bool) -> None:
    code, document = diff(tmp_path, b, "--runs", "12", "--alpha", "0.005")
    (every,) = [row for row in document["latencies"] if row["tool"] == "all"]
    assert every["n"] == 12
    assert (code, every["changed"], document["findings"]) == (int(slower), slower, [])
    assert document["tools"]["only_a"] == document["tools"]["only_b"] == []
