"""Whatever is wrong with the request, the files or the server: one clear line, the right exit
code, no traceback, and nothing lost."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fakes import ledger
from mcpconc import campaign
from mcpconc.cli import main
from mcpconc.errors import Exit
from mcpconc.strategies import ProgramMachine, act
from mcpconc.trace import load
from samples import lost_task

Capture = pytest.CaptureFixture[str]


class Unlucky(ProgramMachine):
    """Calls the tool with which the fake server goes wrong."""

    tools = ("unlucky",)

    @act(note=st.integers(0, 99))
    def unlucky(self, agent: int, note: int) -> None:
        self.call(agent, "unlucky", {"note": note})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "unlucky", sys.modules[__name__])
    monkeypatch.setattr(campaign, "BATCH", 2)  # to write more programs than are run takes time


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1]


def say(capsys: Capture, *words: str) -> Said:
    """What the command line answers; a traceback never is one."""
    code = main(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert not list(Path().glob("**/mcpconc-bug-*"))
    return Said(code, out, err)


# ------------------------------------------------------------------ requests

EVERY_WAY_TO_A_TARGET = ("fuzz --runs 1 --target", "doctor --target", "replay lost-task --target")


@pytest.fixture
def trace() -> Path:
    return lost_task().save(Path("traces/lost-task-4fd1c2aa"))


@pytest.mark.parametrize("words", [*EVERY_WAY_TO_A_TARGET, "shrink lost-task --target"])
def test_an_unknown_target(capsys: Capture, trace: Path, words: str) -> None:
    said = say(capsys, *words.split(), "nope")
    assert said.code == Exit.USAGE
    assert said.last.startswith("mcpconc: unknown target 'nope'; use empirica, ")


@pytest.mark.parametrize("words", EVERY_WAY_TO_A_TARGET)
def test_a_description_that_is_none(capsys: Capture, trace: Path, words: str) -> None:
    Path("bad.toml").write_text("[server]\nargv = 1")
    said = say(capsys, *words.split(), "bad.toml")
    assert said.code == Exit.USAGE
    assert said.last == "mcpconc: bad.toml: server.argv must be a list of strings"


def test_a_command_that_is_not_there(capsys: Capture) -> None:
    Path("absent.toml").write_text('[server]\nargv = ["no-such-command"]')
    said = say(capsys, "fuzz", "--runs", "1", "--target", "absent.toml")
    assert said.code == Exit.TARGET
    assert "the command no-such-command was not found; see server.argv" in said.last


def test_no_git(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    said = fuzz(capsys, "good")
    assert said.code == Exit.TARGET
    assert said.last.startswith("mcpconc: git is not on PATH; worlds are git repositories")


@pytest.mark.parametrize("words", ["fuzz", "doctor", "replay lost-task", "shrink lost-task"])
def test_output_that_cannot_be_written(capsys: Capture, trace: Path, words: str) -> None:
    Path("in-the-way").write_text("precious")
    said = say(capsys, *words.split(), "--out", "in-the-way")
    assert said.code == Exit.USAGE
    assert said.last == "mcpconc: cannot write to in-the-way: File exists; choose another --out"
    assert Path("in-the-way").read_text() == "precious"


def test_traces_that_cannot_be_written(capsys: Capture) -> None:
    """The directory is there, and only then something gets in the way."""
    Path("o").mkdir()
    Path("o/traces").write_text("precious")
    said = fuzz(capsys, "twice", "--out", "o")
    assert said.code == Exit.USAGE
    assert said.last.startswith("mcpconc: cannot write the trace o/traces/")
    assert Path("o/traces").read_text() == "precious"


def test_a_machine_that_is_not_there(capsys: Capture) -> None:
    said = say(capsys, "fuzz", "--machine", "unlucky:Nobody")
    assert said.code == Exit.USAGE
    assert said.last.startswith("mcpconc: no state machine 'unlucky:Nobody' (MODULE:CLASS)")


# ------------------------------------------------------------------ files

READERS = ("check", "show", "replay", "shrink")


@pytest.mark.parametrize("verb", READERS)
def test_a_trace_of_a_future_format(capsys: Capture, trace: Path, verb: str) -> None:
    document = json.loads((trace / "trace.json").read_text())
    (trace / "trace.json").write_text(json.dumps({**document, "format": 99}))
    said = say(capsys, verb, "lost-task")
    assert said.code == Exit.USAGE
    assert "trace format 99 is newer than format" in said.last
    assert said.last.endswith("upgrade mcpconc")


@pytest.mark.parametrize("verb", READERS)
def test_a_truncated_history(capsys: Capture, trace: Path, verb: str) -> None:
    history = trace / "history.jsonl"
    history.write_text(history.read_text()[:-30])
    said = say(capsys, verb, "lost-task")
    assert said.code == Exit.USAGE
    assert said.last.startswith(f"mcpconc: {history}, line 10: truncated: ")


@pytest.mark.parametrize("verb", READERS)
def test_a_history_that_lost_its_end(capsys: Capture, trace: Path, verb: str) -> None:
    history = trace / "history.jsonl"
    history.write_text("".join(history.read_text().splitlines(True)[:-2]))
    said = say(capsys, verb, "lost-task")
    assert said.code == Exit.USAGE
    assert said.last.endswith("truncated: it holds 8 events, trace.json says 10")


def test_a_run_that_was_killed_may_end_in_half_a_line(capsys: Capture, trace: Path) -> None:
    Path("run").mkdir()
    shutil.copy(trace / "history.jsonl", "run/history.jsonl")
    text = (trace / "history.jsonl").read_text()
    Path("run/history.jsonl").write_text(text[: len(text) // 2])
    said = say(capsys, "check", "run")
    assert said.code in (Exit.INCONCLUSIVE, Exit.PASSED)
    assert said.out.startswith("PARTIAL")


# ------------------------------------------------------------------ servers


def server(mode: str) -> Path:
    """Time-outs are short only where they are waited for."""
    start = 0.5 if mode in ("never-answers", "only-garbage") else 30
    call = 0.5 if mode == "swallow" else 30
    target = Path("server.toml")
    fake = ledger.HERE / "server.py"
    target.write_text(
        f"call_timeout = {call}\nstart_timeout = {start}\n"
        f'[server]\nargv = ["{{python}}", "-S", "{fake}", "{mode}"]'
    )
    return target


def fuzz(capsys: Capture, mode: str, *words: str) -> Said:
    """One program of two agents."""
    few = ["--runs", "1", "--agents", "2", "--calls", "2", "--machine", "unlucky:Unlucky"]
    return say(capsys, "fuzz", "--target", str(server(mode)), *few, *words)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (
            "exits",
            "ended before it answered `initialize`; its last words: cannot open the database",
        ),
        ("never-answers", "did not answer `initialize` within 0.5 s; it said nothing on stderr"),
        (
            "only-garbage",
            "did not answer `initialize` within 0.5 s and printed what is not MCP on its stdout "
            "('Welcome to the server!'); it said nothing on stderr",
        ),
        ("old", "gave a bad answer to `initialize` (Unsupported protocol version"),
    ],
)
def test_a_server_that_does_not_come_up(capsys: Capture, mode: str, said: str) -> None:
    told = fuzz(capsys, mode)
    assert told.code == Exit.TARGET
    assert told.last.startswith("mcpconc: the server of agent ")
    assert said in told.last


@pytest.mark.parametrize(
    ("mode", "property"),
    [
        ("garbage", "garbage"),
        ("twice", "duplicate-response"),
        ("stray", "stray-response"),
        ("malformed", "malformed"),
        ("dies", "server-died"),
    ],
)
def test_a_server_that_breaks_the_protocol(capsys: Capture, mode: str, property: str) -> None:
    told = fuzz(capsys, mode, "--no-shrink")
    assert told.code == Exit.VIOLATION
    (kept,) = Path("out/traces").iterdir()
    finding = load(kept).finding
    assert finding is not None
    assert finding.fingerprint.oracle == "protocol"
    assert finding.fingerprint.property == property
    assert say(capsys, "check", str(kept)).out.startswith("SAME")


def test_a_server_that_never_answers_a_call(capsys: Capture) -> None:
    told = fuzz(capsys, "swallow")
    assert told.code == Exit.INCONCLUSIVE
    assert "never succeeded: unlucky" in told.out
    assert "INCONCLUSIVE · 1 run done" in told.out
    undecided = r"undecided: protocol: unlucky \([01]\.0\) was not answered, nor was any later"
    assert re.search(undecided, told.out)


def test_the_same_defect_of_one_agent_alone_is_not_called_a_race(capsys: Capture) -> None:
    told = fuzz(capsys, "twice")
    assert told.code == Exit.VIOLATION
    (kept,) = Path("out/traces").iterdir()
    assert load(kept).label.value == "sequential"
    assert len(list(load(kept).program.calls())) == 1
