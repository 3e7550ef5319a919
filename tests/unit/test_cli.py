"""The command line: what reaches the functions that do the work, and how every ending is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import mcpconc
from mcpconc import oracle
from mcpconc.cli import main
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import CampaignFinished, CampaignStarted, InfraTrouble, ReplayTried
from mcpconc.lineup.same import Volatile
from mcpconc.oracle.base import Finding, Fingerprint, Result, Run
from mcpconc.strategies import CascadeMachine
from mcpconc.trace import Trace, load
from mcpconc.verbs import said
from mcpconc.verdict import Verdict
from samples import lost_task

Golden = Callable[[str, str], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def saved() -> Path:
    return lost_task().save(Path("traces/lost-task-4fd1c2aa"))


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Put a module of ours in the place of the one that would start a target."""
    module = ModuleType(f"mcpconc.{name}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(mcpconc, name, module, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the campaign was asked to do; ends as ``asked["ends"]`` says."""
    record: dict[str, Any] = {}

    async def fuzz(config: Any, emit: Any) -> CampaignFinished:
        record.update(vars(config))
        end = record.get("ends", Exit.PASSED)
        if isinstance(end, BaseException):
            raise end
        emit(InfraTrouble("a server did not start"))
        done = CampaignFinished(
            exit=end, stop="time is up", runs=3, calls=36, seconds=5, seed=1, out=config.out
        )
        emit(done)
        return done

    stand_in(monkeypatch, "campaign", fuzz=fuzz, FuzzConfig=SimpleNamespace)
    return record


# ------------------------------------------------------------------ help


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "fuzz",
        "replay",
        "check",
        "shrink",
        "explore",
        "show",
        "doctor",
        "selftest",
        "bench",
        "stress",
        "gate",
        "diff",
        "list",
    ],
)
def test_help(verb: str, golden: Golden, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([verb, "--help"] if verb else ["--help"]) == 0
    golden(f"help-{verb or 'mcpconc'}", capsys.readouterr().out)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mcpconc.cli import main; main(['fuzz', '--help']);"
        "print([m for m in ('hypothesis', 'mcp', 'anyio', 'structlog') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mcpconc {mcpconc.__version__}\n"


# ------------------------------------------------------------------ fuzz


def test_every_flag_of_fuzz_arrives(asked: dict[str, Any]) -> None:
    words = (
        "fuzz --target empirica==1.14.18 --agents 7 --max-time 1m30s --runs 9 --seed 5 --out o"
        " --identity isolated,shared --identity explicit --inflight 3 --scheduler convoy"
        " --calls 20 --share 0.25 --no-shrink --start fork --nemesis cancel,hold-lock"
        " --bad-input 0.5"
    )
    assert main(words.split()) == 0
    del asked["machine"]
    assert asked == {
        "itself": None,
        "control": False,
        "observe": False,
        "target": "empirica==1.14.18",
        "agents": 7,
        "max_time": 90.0,
        "runs": 9,
        "seed": 5,
        "out": Path("o"),
        "identities": ("isolated", "shared", "explicit"),
        "inflight": 3,
        "scheduler": "convoy",
        "calls": 20,
        "share": 0.25,
        "shrink": False,
        "start": "fork",
        "nemesis": ("cancel", "hold-lock"),
        "bad_input": 0.5,
    }


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--nemesis kill-serve", "did you mean kill-server"),
        ("--nemesis cancel --scheduler random", "it comes by time; give --scheduler free"),
        ("--nemesis kill-point", "it comes inside the calls; give --scheduler random"),
        ("--nemesis all --model self", "no target is its own model"),
    ],
)
def test_faults_that_cannot_be_injected(
    asked: dict[str, Any], capsys: Capture, words: str, why: str
) -> None:
    assert main(["fuzz", *words.split()]) == Exit.USAGE
    assert why in capsys.readouterr().err


def test_the_target_as_its_own_model(asked: dict[str, Any]) -> None:
    words = "--model self --volatile t.at,t.took --volatile u --steady v"
    assert main(["fuzz", *words.split()]) == 0
    assert asked["itself"] == Volatile(frozenset({"t.at", "t.took", "u"}), steady=frozenset({"v"}))
    assert (asked["agents"], asked["calls"]) == (3, 4)


@pytest.mark.parametrize(
    ("words", "control", "calls"),
    [
        ("--scheduler random", True, 4),
        ("--scheduler pct:2", True, 4),
        ("--scheduler portfolio --calls 7", True, 7),
        ("--scheduler portfolio --probe control", True, 4),
        ("--scheduler portfolio --probe observe", False, 12),
        ("--scheduler portfolio --probe off", False, 12),
        ("--scheduler portfolio --no-probe", False, 12),
        ("--scheduler convoy", False, 12),
    ],
)
def test_schedulers_that_decide_inside_the_calls_need_the_probe(
    asked: dict[str, Any], words: str, control: bool, calls: int
) -> None:
    assert main(["fuzz", *words.split()]) == 0
    assert (asked["control"], asked["calls"]) == (control, calls)


@pytest.mark.parametrize("probe", ["", "--probe off", "--probe observe", "--no-probe"])
def test_counting_has_to_be_asked_for(asked: dict[str, Any], probe: str) -> None:
    assert main(["fuzz", *probe.split()]) == 0
    assert (asked["control"], asked["observe"]) == (False, "observe" in probe)


def test_control_is_nothing_that_these_schedulers_need(
    asked: dict[str, Any], capsys: Capture
) -> None:
    assert main(["fuzz", "--probe", "control", "--scheduler", "convoy"]) == Exit.USAGE
    assert "--scheduler random" in capsys.readouterr().err
    assert not asked


def test_what_fuzz_does_unasked(asked: dict[str, Any]) -> None:
    assert main(["fuzz"]) == 0
    assert asked["target"] == "empirica"
    assert asked["max_time"] == 300
    assert asked["identities"] == ("isolated", "explicit")
    assert asked["machine"] is CascadeMachine
    assert asked["shrink"] is True
    assert asked["start"] == "fork"


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ("--start ordinary", "ordinary"),
        ("--target reference", "ordinary"),  # nothing there could be forked
        ("--probe observe", "ordinary"),  # imports count, too
        ("--probe observe --start fork", "fork"),
        ("--scheduler random", "fork"),
    ],
)
def test_calls_are_forked_where_that_is_possible(
    asked: dict[str, Any], words: str, start: str
) -> None:
    assert main(["fuzz", *words.split()]) == 0
    assert asked["start"] == start


@pytest.mark.parametrize("verb", ["fuzz --target reference", "replay lost-task --target reference"])
def test_only_what_starts_programs_is_forked(
    asked: dict[str, Any], saved: Path, verb: str, capsys: Capture
) -> None:
    assert main([*verb.split(), "--start", "fork"]) == Exit.USAGE
    assert "leave --start fork out" in capsys.readouterr().err
    assert asked == {}


def test_a_number_of_runs_is_limit_enough(asked: dict[str, Any]) -> None:
    assert main(["fuzz", "--runs", "3"]) == 0
    assert asked["max_time"] is None


def test_seeds_differ(asked: dict[str, Any]) -> None:
    seeds = set()
    for _ in range(3):
        main(["fuzz"])
        seeds.add(asked["seed"])
    assert len(seeds) > 1


@pytest.mark.parametrize("target", ["", "--target reference", "--target reference+equal-rounds"])
def test_a_planted_bug_is_the_target(asked: dict[str, Any], target: str) -> None:
    assert main(f"fuzz --plant equal-rounds {target}".split()) == 0
    assert asked["target"] == "reference+equal-rounds"
    assert asked["identities"] == ("isolated",)


@pytest.mark.parametrize("target", ["empirica", "empirica==1.13.0", "reference+memory-grows"])
def test_bugs_are_planted_in_nothing_else(
    asked: dict[str, Any], capsys: Capture, target: str
) -> None:
    assert main(["fuzz", "--plant", "equal-rounds", "--target", target]) == Exit.USAGE
    assert f"and not in {target}; leave --target out" in capsys.readouterr().err
    assert asked == {}


def test_a_machine_of_ones_own(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my_machines.py").write_text(
        "from mcpconc.strategies import ProgramMachine\nclass Mine(ProgramMachine): pass\n"
    )
    assert main(["fuzz", "--machine", "my_machines:Mine"]) == 0
    assert asked["machine"].__name__ == "Mine"


@pytest.mark.parametrize("name", ["nope:X", "json:nothing", "json:loads", "json"])
def test_no_machine(asked: dict[str, Any], capsys: Capture, name: str) -> None:
    assert main(["fuzz", "--machine", name]) == Exit.USAGE
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("end", [Exit.VIOLATION, Exit.INCONCLUSIVE, Exit.INTERRUPTED])
def test_the_exit_code_is_the_campaigns(asked: dict[str, Any], end: Exit) -> None:
    asked["ends"] = end
    assert main(["fuzz"]) == end


def test_the_log_has_every_event(asked: dict[str, Any]) -> None:
    main(["fuzz", "--out", "o"])
    lines = [json.loads(line) for line in Path("o/mcpconc.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["InfraTrouble", "CampaignFinished"]
    assert lines[0]["text"] == "a server did not start"
    assert lines[1]["exit"] == "passed"


def test_quiet(asked: dict[str, Any], capsys: Capture) -> None:
    main(["fuzz", "-q"])
    said = capsys.readouterr()
    assert said.err == ""
    assert "PASSED" in said.out
    assert "InfraTrouble" not in Path("out/mcpconc.log").read_text()


def test_colours(
    asked: dict[str, Any], capsys: Capture, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(said, "_is_terminal", lambda stream: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["show", "lost-task"])
    assert "\x1b[1;31m✗" in capsys.readouterr().out
    main(["show", "lost-task", "--no-color"])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["show", "lost-task"])
    assert "\x1b" not in capsys.readouterr().out


# ------------------------------------------------------------------ bad requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "nothing to do"),
        ("fuz", "invalid choice: 'fuz'"),
        ("fuzz --agents 0", "'0' is not a whole number from 1 on"),
        ("fuzz --agents two", "'two' is not a whole number"),
        ("fuzz --share 2", "'2' is not a number from 0 to 1"),
        ("fuzz --max-time soon", "'soon' is not a time such as 90s, 5m or 1h30m"),
        ("fuzz --max-time 0", "'0' is no time at all"),
        ("fuzz --scheduler lucky", "unknown scheduler 'lucky': use one of free"),
        ("fuzz --identity nobody", "unknown identity mode 'nobody': this target has isolated"),
        ("fuzz --target mysql", "unknown target 'mysql'"),
        ("fuzz --model other", "invalid choice: 'other'"),
        ("fuzz --model self --agents 4", "--agents 4: with --model self every order"),
        ("fuzz --model self --calls 7", "--calls 7: with --model self every order"),
        ("fuzz --volatile t.at", "--volatile and --steady are for --model self"),
        ("fuzz --plant nope", "reference+nope: no planted bug has that name"),
        ("fuzz --nope", "unrecognized arguments: --nope; see `mcpconc --help`"),
        ("replay", "the following arguments are required: PATH|ID; see `mcpconc replay --help`"),
        ("show nope", "no trace nope"),
        ("check ./nope", "no trace at nope: there is no such directory"),
    ],
)
def test_one_line_and_exit_4(asked: dict[str, Any], capsys: Capture, words: str, said: str) -> None:
    assert main(words.split()) == Exit.USAGE
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("mcpconc: ")
    assert err.count("\n") == 1
    assert out == ""
    assert "target" not in asked


def test_errors_for_programs(capsys: Capture) -> None:
    assert main(["show", "nope", "--json"]) == Exit.USAGE
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "usage"
    assert error["exit"] == 4
    assert error["message"].startswith("no trace nope")


def test_an_output_directory_that_cannot_be_written(
    asked: dict[str, Any], capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["fuzz", "--out", "file/below"]) == Exit.USAGE
    assert "cannot write to file/below: Not a directory; choose" in capsys.readouterr().err
    assert "target" not in asked


@pytest.mark.parametrize("words", ["fuzz", "doctor", "replay lost-task", "shrink lost-task"])
def test_no_git(saved: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    stand_in(monkeypatch, "doctor")
    assert main(words.split()) == Exit.TARGET
    assert capsys.readouterr().err.startswith("mcpconc: git is not on PATH")


def test_show_and_check_need_no_git(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["show", "lost-task"]) == 0


# ------------------------------------------------------------------ what goes wrong inside


def test_an_unusable_target(asked: dict[str, Any], capsys: Capture) -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("inner", [TargetError("no network")])])
    asked["ends"] = group
    assert main(["fuzz"]) == Exit.TARGET
    assert capsys.readouterr().err.endswith("mcpconc: no network\n")


def test_a_bug_of_ours(asked: dict[str, Any], capsys: Capture) -> None:
    asked["ends"] = ExceptionGroup("tasks", [UsageError("x"), ZeroDivisionError("oh")])
    assert main(["fuzz", "--out", "o"]) == Exit.BUG
    err = capsys.readouterr().err
    assert "this is a bug in mcpconc" in err
    assert "Traceback" not in err
    details = Path(err.strip().rsplit(" ", 1)[-1])
    assert details.parent == Path("o")
    assert "ZeroDivisionError: oh" in details.read_text()


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), BaseExceptionGroup("tasks", [KeyboardInterrupt()])]
)
def test_interrupted_before_anything_ran(
    asked: dict[str, Any], capsys: Capture, end: BaseException
) -> None:
    asked["ends"] = end
    assert main(["fuzz", "--json"]) == Exit.INTERRUPTED
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "interrupted"


def test_a_reader_who_left_is_no_error(saved: Path) -> None:
    command = f"{sys.executable} -m mcpconc show lost-task; echo $? >&2"
    shell = subprocess.run(
        ["bash", "-c", f"({command}) | true; sleep 0.1"], capture_output=True, text=True
    )
    assert shell.stderr.strip() == "0"


# ------------------------------------------------------------------ one document


def test_fuzz_in_json(asked: dict[str, Any], capsys: Capture) -> None:
    asked["ends"] = Exit.VIOLATION
    main(["--json", "fuzz"])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert out.count("\n") == 1
    assert err == ""
    assert (document["verdict"], document["exit"], document["programs"]) == ("violation", 1, 3)


def test_show_in_json(saved: Path, capsys: Capture) -> None:
    assert main(["show", "lost-task", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["label"] == "race"
    assert len(document["history"]) == document["events"] == 10


def test_show(saved: Path, capsys: Capture) -> None:
    assert main(["show", "4fd1"]) == 0
    assert "0.2 goals_add_task" in capsys.readouterr().out


# ------------------------------------------------------------------ check


def oracle_saying(*findings: Finding, unknown: tuple[str, ...] = ()) -> Any:
    def judge(run: Run) -> Result:
        assert run.after is not None or findings == ()
        return Result("effects", findings, unknown)

    return (("effects", judge),)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def judge_as(*findings: Finding, unknown: tuple[str, ...] = ()) -> None:
        says = oracle_saying(*findings, unknown=unknown)
        monkeypatch.setattr(oracle, "ORACLES", says, raising=False)

    return judge_as


def other(finding: Finding) -> Finding:
    return replace(finding, fingerprint=Fingerprint("effects", "torn", "task"))


def test_the_recorded_finding_is_there(
    saved: Path, judged: Callable[..., None], golden: Golden, capsys: Capture
) -> None:
    judged(lost_task().findings[0])
    assert main(["check", "lost-task"]) == Exit.VIOLATION
    golden("check-same", capsys.readouterr().out)


def test_other_findings_than_recorded(
    saved: Path, judged: Callable[..., None], golden: Golden, capsys: Capture
) -> None:
    judged(other(lost_task().findings[0]), unknown=("order: out of steps",))
    assert main(["check", "lost-task"]) == Exit.VIOLATION
    golden("check-different", capsys.readouterr().out)


def test_a_recorded_finding_that_is_gone_is_no_pass(
    saved: Path, judged: Callable[..., None], capsys: Capture
) -> None:
    judged()
    assert main(["check", "lost-task"]) == Exit.INCONCLUSIVE
    assert capsys.readouterr().out.startswith("DIFFERENT ok, was violation")


def test_nothing_recorded_and_nothing_found(judged: Callable[..., None], capsys: Capture) -> None:
    judged()
    replace(lost_task(), findings=(), verdict=Verdict.OK).save(Path("traces/fine"))
    assert main(["check", "fine"]) == 0
    assert capsys.readouterr().out.startswith("SAME      ok  traces/fine")


def test_a_killed_run_can_be_checked(judged: Callable[..., None], capsys: Capture) -> None:
    whole = lost_task().save(Path("whole"))
    run = Path("out/work/run-1")
    replace(lost_task(), findings=(), verdict=Verdict.UNKNOWN).begin(run)
    lines = (whole / "history.jsonl").read_text().splitlines(True)
    (run / "history.jsonl").write_text("".join(lines[:6]))
    judged(unknown=("linearizability: nothing was read back",))
    assert main(["check", str(run)]) == Exit.INCONCLUSIVE
    assert "PARTIAL   unknown, judged on the 6 events" in capsys.readouterr().out


def test_a_damaged_trace_does_not_hide_the_others(
    saved: Path, judged: Callable[..., None], capsys: Capture
) -> None:
    judged(lost_task().findings[0])
    assert main(["check", "nope", "lost-task"]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert "SAME" in out
    assert err.startswith("mcpconc: no trace nope")


def test_check_in_json(saved: Path, judged: Callable[..., None], capsys: Capture) -> None:
    judged(lost_task().findings[0])
    assert main(["check", "nope", "lost-task", "--json"]) == Exit.USAGE
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["checks"][0]["status"] == "SAME"
    assert document["checks"][0]["gone"] == []
    assert document["unreadable"][0].startswith("no trace nope")


def test_a_target_that_is_not_here_can_be_checked(
    judged: Callable[..., None], capsys: Capture
) -> None:
    judged(lost_task().findings[0])
    for target in ("empirica@/nowhere", "gone.toml"):
        replace(lost_task(), target=target).save(Path("traces/t"))
        assert main(["check", "traces/t"]) == Exit.VIOLATION


# ------------------------------------------------------------------ replay, shrink, doctor, list


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    record: dict[str, Any] = {"hits": 2}

    async def replay(
        trace: Trace, times: int, target: str, work: Path, emit: Any, start: str, rigs: Any
    ) -> Any:
        record.update(trace=trace.path, times=times, target=target, work=work, start=start)
        for n in range(times):
            emit(ReplayTried(n=n + 1, of=times, reproduced=n < record["hits"]))
        hits = min(record["hits"], times)
        status = "REPRODUCED" if hits == times else "FLAKY" if hits else "FIXED"
        error = record.get("error", "")
        return SimpleNamespace(
            trace=trace.path,
            reproduced=hits,
            tried=times,
            others=(),
            error=error,
            interrupted=record.get("interrupted", False),
            diverged=record.get("diverged", 0),
            divergence=record.get("divergence", ""),
            waited=record.get("waited", 0),
            status=SimpleNamespace(value="ERROR" if error else status),
        )

    async def shrink_trace(
        trace: Trace, *, out: Path, max_time: float, target: str, work: Path, emit: Any
    ) -> tuple[Trace, bool]:
        record.update(out=out, max_time=max_time, target=target, work=work)
        return trace, record.get("interrupted", False)

    stand_in(monkeypatch, "replay", replay=replay, shrink_trace=shrink_trace)
    return record


@pytest.mark.parametrize(
    ("hits", "said", "code"),
    [(3, "REPRODUCED 3/3", 1), (1, "FLAKY 1/3", 1), (0, "FIXED 0/3", 0)],
)
def test_replay(
    saved: Path, replayed: dict[str, Any], capsys: Capture, hits: int, said: str, code: int
) -> None:
    replayed["hits"] = hits
    words = "replay lost-task --times 3 --target empirica==1.14.0 --out o --start fork"
    assert main(words.split()) == code
    assert capsys.readouterr().out == f"{said}  traces/lost-task-4fd1c2aa\n"
    assert replayed["target"] == "empirica==1.14.0"
    assert replayed["work"] == Path("o/work")
    assert replayed["start"] == "fork"


def test_replay_that_went_wrong(saved: Path, replayed: dict[str, Any], capsys: Capture) -> None:
    replayed["error"] = "no server"
    assert main(["replay", "lost-task"]) == Exit.TARGET
    assert replayed["start"] == "ordinary"
    assert "ERROR" in capsys.readouterr().out


def test_an_interrupted_replay_says_how_far_it_got(
    saved: Path, replayed: dict[str, Any], capsys: Capture
) -> None:
    replayed["interrupted"] = True
    assert main(["replay", "lost-task", "lost-task", "--json"]) == Exit.INTERRUPTED
    assert len(json.loads(capsys.readouterr().out)["replays"]) == 1


def test_shrink(saved: Path, replayed: dict[str, Any]) -> None:
    words = "shrink lost-task --max-time 2m --target empirica==1.14.0 --out o"
    assert main(words.split()) == 0
    assert replayed["out"] == Path("traces/lost-task-4fd1c2aa")
    assert replayed["max_time"] == 120
    assert replayed["target"] == "empirica==1.14.0"
    assert replayed["work"] == Path("o/work")


def test_shrinking_may_be_interrupted(saved: Path, replayed: dict[str, Any]) -> None:
    replayed["interrupted"] = True
    assert main(["shrink", "lost-task"]) == Exit.INTERRUPTED


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    async def examine(target: str, work: Path, emit: Any) -> Any:
        emit(CampaignStarted)
        return SimpleNamespace(
            exit=3, text=lambda: f"{target} in {work}\n", to_json=lambda: {"target": target}
        )

    stand_in(monkeypatch, "doctor", doctor=lambda *a: _later(examine, a))
    monkeypatch.setattr("mcpconc.log.recorded", lambda emit: lambda event: None)
    assert main(["doctor", "--target", "empirica==1.9.0"]) == Exit.TARGET
    assert capsys.readouterr().out == "empirica==1.9.0 in out/work\n"
    assert main(["doctor", "--json"]) == Exit.TARGET
    assert json.loads(capsys.readouterr().out) == {"target": "empirica"}


async def _later(function: Any, args: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return await function(*args)


def test_list(saved: Path, judged: Callable[..., None], capsys: Capture) -> None:
    judged()
    assert main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert {"oracles", "schedulers", "identity modes", "machines", "tools"} <= set(listing)
    assert "free" in [entry["name"] for entry in listing["schedulers"]]
    assert listing["traces"][0]["about"].startswith("race: lost task")
    assert main(["list"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "mcpconc.strategies:CascadeMachine PREFLIGHT" in said
    assert "mcpconc.strategies:StoryMachine Whole loops of CASCADE" in said
    modes = {entry["name"]: entry["about"] for entry in listing["identity modes"]}
    promising = {name for name, about in modes.items() if "; promised: " in about}
    assert promising == {"explicit", "isolated"}
    assert all("; nothing promised: " in modes[name] for name in modes.keys() - promising)


def test_a_trace_that_cannot_be_read_is_listed(
    saved: Path, judged: Callable[..., None], capsys: Capture
) -> None:
    judged()
    (saved / "trace.json").write_text("{")
    assert main(["list"]) == 0
    assert "unreadable: " in capsys.readouterr().out


# ------------------------------------------------------------------ for real


def test_the_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcpconc", "show", "nope"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("mcpconc: no trace nope")


def test_a_verbose_log_has_lines_for_every_program(tmp_path: Path) -> None:
    import structlog

    from mcpconc import log

    for verbose, lines in ((1, 1), (0, 0)):
        path = tmp_path / f"{verbose}.log"
        log.configure(path, verbose=verbose)
        structlog.get_logger().debug("RunFinished", finding=lost_task().findings[0])
        assert len(path.read_text().splitlines()) == lines


def test_a_log_that_cannot_be_written() -> None:
    from mcpconc import log

    with pytest.raises(UsageError, match="cannot write the log"):
        log.configure(Path("no/such/place.log"))


def test_saved_traces_are_found_in_out_too() -> None:
    lost_task().save(Path("out/traces/lost-task-00112233"))
    assert main(["show", "0011"]) == 0
    assert load(Path("out/traces/lost-task-00112233")).complete


def test_a_replay_says_what_could_not_follow_its_schedule(
    replayed: dict[str, Any], saved: Path, capsys: Capture
) -> None:
    replayed.update(diverged=1, divergence="replay diverged at step 2", waited=2)
    main(["replay", "lost-task", "--times", "3"])
    said = capsys.readouterr().out
    assert "1 of 3 did not follow the recorded schedule\n  replay diverged at step 2\n" in said
    assert "2 of 3 waited for a lock that was not foreseen" in said
