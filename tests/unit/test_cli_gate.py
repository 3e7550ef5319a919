"""gate, stress and diff on the command line: what reaches the functions that do the work, what
is refused, and which files are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mcpconc
from gated import finding, summary
from mcpconc.baseline import read
from mcpconc.cli import main
from mcpconc.errors import Exit
from mcpconc.events import CampaignFinished, InfraTrouble
from mcpconc.jsontext import readable
from mcpconc.report.markdown import criteria
from mcpconc.settings import schema
from samples import lost_task

Capture = pytest.CaptureFixture[str]

MADE = {"seed": 0, "seconds": 3.0, "command": "mcpconc gate"}
REST = {
    "made_by": MADE,
    "target": {"name": "reference", "version": "1"},
    **{name: [] for name in ("thresholds", "baseline", "skipped", "vacuous", "unmeasured")},
    **dict.fromkeys(("doctor", "canary")),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Put a module of ours in the place of the one that would start a target."""
    module = ModuleType(f"mcpconc.{name}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(mcpconc, name.split(".")[-1], module, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the gate was asked to do; it ends as ``asked["ends"]`` says."""
    record: dict[str, Any] = {}

    async def gate(config: Any, emit: Any) -> Any:
        record.update(vars(config))
        end = record.get("ends", Exit.PASSED)
        emit(InfraTrouble("a server did not start"))
        emit(
            CampaignFinished(exit=end, stop="", runs=3, calls=36, seconds=5, seed=1, out=config.out)
        )
        found = record.get("finds", [])
        document = summary(**{**REST, "findings": found, "exit": int(end), "stop": "so it ended"})
        failure = record.get("fails")
        return SimpleNamespace(document=document, exit=end, entries=(), found=(), failure=failure)

    from mcpconc import accept
    from mcpconc import gate as real

    stages = dict(real.STAGES)
    assert accept  # imported before its `gate` is replaced
    stand_in(monkeypatch, "gate", gate=gate, GateConfig=SimpleNamespace, STAGES=stages)
    return record


# ------------------------------------------------------------------ gate


def test_every_flag_of_gate_arrives(asked: dict[str, Any]) -> None:
    words = (
        "gate --profile smoke --target reference --agents 4 --seed 7 --identity isolated"
        " --start ordinary --traces t,u --traces v --skip doctor,canary --skip stress --out o"
        " --set fuzz.runs=3 --set stress.scenarios=['tools'] --set fuzz.scheduler=convoy"
    )
    assert main([*words.split(), "--threshold", "calls.p95 < 2s"]) == 0
    settings = asked["settings"]
    assert (settings.profile, settings.target, settings.agents, settings.seed) == (
        "smoke",
        "reference",
        4,
        7,
    )
    assert (settings.identity, settings.start) == (("isolated",), "ordinary")
    assert settings.traces == ("t", "u", "v")
    assert (settings.fuzz.runs, settings.fuzz.scheduler) == (3, "convoy")
    assert settings.stress.scenarios == ("tools",)
    assert settings.thresholds == ("calls.p95 < 2s",)
    assert asked["skip"] == {"doctor", "canary", "stress"}
    assert asked["out"] == Path("o")
    assert asked["command"].startswith("mcpconc ")


def test_a_file_of_settings(asked: dict[str, Any]) -> None:
    Path("mine.toml").write_text("target = 'reference'\nagents = 3\n")
    assert main(["gate", "--config", "mine.toml"]) == 0
    assert asked["settings"].agents == 3
    assert main(["gate", "--config", "mine.toml", "--agents", "2"]) == 0
    assert asked["settings"].agents == 2


def test_the_baseline_is_read_unless_nothing_is_known(asked: dict[str, Any]) -> None:
    Path("b.toml").write_text(
        "version = 1\n[[threshold]]\nexpr = 'calls.p95 < 2s'\nvalue = 3\nreason = 'x'\n"
    )
    words = ["gate", "--target", "reference"]
    assert main([*words, "--baseline", "b.toml"]) == 0
    assert [t.value for t in asked["baseline"].thresholds] == [3.0]
    assert main([*words, "--baseline", "b.toml", "--no-baseline"]) == 0
    assert asked["baseline"].thresholds == ()


@pytest.mark.parametrize("end", [Exit.VIOLATION, Exit.INCONCLUSIVE, Exit.TARGET, Exit.INTERRUPTED])
def test_the_exit_code_is_the_gates(asked: dict[str, Any], end: Exit) -> None:
    asked["ends"] = end
    assert main(["gate", "--target", "reference"]) == end


def test_the_summary_is_written_and_with_json_it_is_all(
    asked: dict[str, Any], capsys: Capture
) -> None:
    assert main(["gate", "--target", "reference", "--json", "--out", "o"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(Path("o/summary.json").read_text())
    assert said.err == ""


def test_a_mistake_of_ours_comes_after_the_summary(asked: dict[str, Any], capsys: Capture) -> None:
    asked["fails"], asked["ends"] = RuntimeError("no such group"), Exit.BUG
    assert main(["gate", "--target", "reference", "--out", "o"]) == Exit.BUG
    assert json.loads(Path("o/summary.json").read_text())["exit"] == Exit.BUG
    said = capsys.readouterr()
    assert said.out.startswith("gate release of reference")
    assert "this is a bug in mcpconc: RuntimeError: no such group; details in o/" in said.err


def test_a_stages_own_last_word_is_not_told(asked: dict[str, Any], capsys: Capture) -> None:
    assert main(["gate", "--target", "reference"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("gate release of reference 1 in 3s")
    assert said.out.splitlines()[-1] == "PASSED · so it ended · exit 0"
    assert "3 programs" not in said.out
    assert "a server did not start" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gate --skip docter", "--skip docter: the stages are doctor, canary"),
        ("gate --profile smok", "there is no profile 'smok'; did you mean smoke?"),
        ("gate --set fuzz.run=3", "fuzz.run is not a key; did you mean runs?"),
        ("gate --set fuzz.runs", "--set fuzz.runs: write KEY=VALUE"),
        ("gate --set fuzz.scheduler=random", "fuzz.scheduler: random needs `mcpconc fuzz`"),
        ("gate --set faults.kinds=['kill-serve']", "did you mean kill-server"),
        ("gate --threshold fast", "'fast' is no metric"),
        ("gate --target mysql", "unknown target 'mysql'"),
        ("gate --target reference --start fork", "leave --start fork out"),
        ("gate --target reference --identity shared", "unknown identity mode 'shared'"),
        ("gate --target reference --baseline nope.toml", "nope.toml: No such file"),
        ("gate --config nope.toml", "nope.toml: there is no such file"),
        ("gate --target reference --report html", "--report html: use junit, sarif"),
        ("gate --agents 0", "'0' is not a whole number from 1 on"),
        ("gate --seed -1", "'-1' is not a whole number from 0 on"),
        ("diff --a reference", "the following arguments are required: --b"),
        ("diff --a reference --b mysql", "unknown target 'mysql'"),
        ("diff --a reference --b reference --alpha 2", "'2' is not a number between 0 and 1"),
        ("diff --a reference --b reference --start fork", "leave --start fork out"),
        ("stress --ladder 1,x", "'x' is not a whole number from 1 on"),
    ],
)
def test_one_line_and_exit_4(asked: dict[str, Any], capsys: Capture, words: str, said: str) -> None:
    assert main(words.split()) == Exit.USAGE
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert "settings" not in asked


def test_the_schema_can_be_printed(asked: dict[str, Any], capsys: Capture) -> None:
    assert main(["gate", "--print-schema"]) == 0
    assert capsys.readouterr().out == f"{readable(schema())}\n"  # the file that is published
    assert asked == {}


# ------------------------------------------------------------------ the baseline


def test_saved_traces_become_a_baseline(asked: dict[str, Any], capsys: Capture) -> None:
    lost_task().save(Path("traces/lost-task-4fd1c2aa"))
    words = ["gate", "--baseline", "gate/b.toml", "--baseline-from-traces", "--reason", "because"]
    assert main(words) == 0
    (entry,) = read(Path("gate/b.toml")).findings
    assert (entry.trace, entry.reason) == ("../traces/lost-task-4fd1c2aa", "because")
    assert "gate/b.toml lists 1 findings and 0 thresholds now" in capsys.readouterr().out
    assert asked == {}


@pytest.mark.parametrize("end", [Exit.VIOLATION, Exit.TARGET])
def test_what_a_gate_found_becomes_the_baseline(asked: dict[str, Any], end: Exit) -> None:
    trace = lost_task().save(Path("out/traces/lost"))
    asked["finds"] = [finding(trace=str(trace))]
    asked["ends"] = end
    words = "gate --target reference --baseline gate/b.toml --update-baseline"
    assert main(words.split()) == (0 if end is Exit.VIOLATION else end)
    assert Path("gate/b.toml").exists() is (end is Exit.VIOLATION)
    if end is Exit.VIOLATION:
        (entry,) = read(Path("gate/b.toml")).findings
        assert Path("gate", entry.trace, "trace.json").is_file()


# ------------------------------------------------------------------ reports


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that say of what they were made."""

    def told(name: str) -> Callable[..., str]:
        return lambda document: f"{name} of a {document['kind']}\n"

    def write(document: Any, directory: Path, plots: bool = True) -> list[Path]:
        file = directory / "REPORT.md"
        file.write_text(f"markdown of a {document['kind']}\n")
        return [file]

    stand_in(monkeypatch, "report.junit", junit=told("junit"))
    stand_in(monkeypatch, "report.sarif", sarif=told("sarif"))
    stand_in(monkeypatch, "report.markdown", write=write)
    stand_in(
        monkeypatch,
        "report.github",
        annotations=told("annotations"),
        step_summary=told("steps"),
    )


def test_reports_are_written(asked: dict[str, Any], reports: None, capsys: Capture) -> None:
    words = "gate --target reference --report junit,sarif,github --report markdown --report-dir r"
    assert main(words.split()) == 0
    written = {file.name: file.read_text() for file in Path("r").iterdir()}
    assert written == {
        "junit.xml": "junit of a gate\n",
        "mcpconc.sarif": "sarif of a gate\n",
        "REPORT.md": "markdown of a gate\n",
        "step-summary.md": "steps of a gate\n",
        "annotations.txt": "annotations of a gate\n",
    }
    out = capsys.readouterr().out
    assert "annotations of a gate" in out
    assert "written: r/junit.xml" in out


def test_reports_are_beside_the_traces_unless_told_otherwise(
    asked: dict[str, Any], reports: None
) -> None:
    assert main(["gate", "--target", "reference", "--report", "junit", "--out", "o"]) == 0
    assert Path("o/reports/junit.xml").is_file()


def test_github_says_where_its_summary_goes(
    asked: dict[str, Any], reports: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("steps.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "steps.md")
    assert main(["gate", "--target", "reference", "--report", "github", "--json"]) == 0
    assert Path("steps.md").read_text() == "before\nsteps of a gate\n"
    json.loads(capsys.readouterr().out)


# ------------------------------------------------------------------ stress


def test_every_flag_of_stress_arrives(asked: dict[str, Any]) -> None:
    words = (
        "stress database tools --target reference --ladder 1,3 --calls 30 --baseline-calls 9"
        " --own 0 --observe --profile smoke --settings default,minimal --max-time 2m"
        " --start ordinary --out o"
    )
    assert main(words.split()) == 0
    stress = asked["settings"].stress
    assert stress.scenarios == ("database", "tools")
    assert (stress.agents, stress.calls, stress.baseline, stress.own) == ((1, 3), 30, 9, 0)
    assert (stress.observe, stress.settings, stress.time) == (True, ("default", "minimal"), 120.0)
    assert stress.start == "ordinary"
    assert asked["kind"] == "stress"
    assert list(asked["stages"]) == ["stress"]


@pytest.mark.parametrize(("flag", "observed"), [("", True), (" --no-observe", False)])
def test_stress_counts_inside_unless_told_not_to(
    asked: dict[str, Any], flag: str, observed: bool
) -> None:
    assert main(f"stress bootstrap --target reference{flag}".split()) == 0
    assert asked["settings"].stress.observe is observed


def test_stress_asks_nothing_of_how_much_is_tried(asked: dict[str, Any]) -> None:
    assert main(["stress", "bootstrap", "--target", "reference"]) == 0
    floors = asked["settings"].floors
    assert (floors.overlap, floors.tools, floors.pairs, floors.programs) == (0, 0, 0, 1)
    assert asked["settings"].stress.calls == 40


def test_stress_forks_only_where_it_can(asked: dict[str, Any], capsys: Capture) -> None:
    assert main(["stress", "--target", "reference", "--start", "fork"]) == Exit.USAGE
    assert "leave --start fork out" in capsys.readouterr().err


# ------------------------------------------------------------------ diff


def test_every_flag_of_diff_arrives(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    record: dict[str, Any] = {}

    async def compare(config: Any, emit: Any) -> Any:
        record.update(vars(config))
        document = {
            "kind": "diff",
            "made_by": MADE,
            **{side: {"name": "reference", "version": "1"} for side in ("a", "b")},
            "agents": 3,
            "programs": 0,
            "undecided": {"a": 0, "b": 0},
            "infra": 0,
            **{name: [] for name in ("findings", "latencies", "counts")},
            "tools": {},
            "exit": 2,
            "stop": "time is up",
            "said": "nothing was compared",
        }
        return SimpleNamespace(document=document, exit=Exit.INCONCLUSIVE)

    stand_in(monkeypatch, "compare", compare=compare, CompareConfig=SimpleNamespace)
    words = (
        "diff --a empirica==1.13.51 --b empirica --agents 3 --runs 9 --calls 7 --seed 4"
        " --identity explicit --start fork --observe --alpha 0.01 --max-time 90 --out o"
    )
    assert main(words.split()) == Exit.INCONCLUSIVE
    assert record.pop("command").startswith("mcpconc ")
    assert record == {
        "a": "empirica==1.13.51",
        "b": "empirica",
        "agents": 3,
        "runs": 9,
        "calls": 7,
        "seed": 4,
        "identity": "explicit",
        "start": "fork",
        "observe": True,
        "alpha": 0.01,
        "max_time": 90.0,
        "out": Path("o"),
    }
    assert "INCONCLUSIVE · nothing was compared" in capsys.readouterr().out
    assert json.loads(Path("o/diff.json").read_text())["exit"] == 2


MARKED = "before\n<!-- mcpconc:criteria -->\nold\n<!-- /mcpconc:criteria -->\nafter\n"


@pytest.mark.parametrize("verb", ["gate", "stress"])
def test_criteria_are_written_between_their_markers(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(criteria, "criteria", lambda document: "the table\n")
    Path("TASKS.md").write_text(MARKED)
    assert main([verb, "--target", "reference", "--criteria", "TASKS.md"]) == 0
    told = Path("TASKS.md").read_text()
    assert told.startswith("before\n")
    assert told.endswith("after\n")
    assert "the table" in told
    assert "old" not in told


def test_a_file_that_criteria_cannot_go_into_is_refused_before_anything_starts(
    asked: dict[str, Any], capsys: Capture
) -> None:
    Path("TASKS.md").write_text("no markers\n")
    assert main(["gate", "--target", "reference", "--criteria", "TASKS.md"]) == Exit.USAGE
    assert "`<!-- mcpconc:criteria -->` is missing" in capsys.readouterr().err
    assert "settings" not in asked
    assert Path("TASKS.md").read_text() == "no markers\n"
