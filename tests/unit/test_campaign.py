"""Campaigns: on the ledger, a small real server, and on scripted rigs where only time matters."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from fakes import ledger
from fakes.rigs import Script, lost
from mcpconc import campaign
from mcpconc.campaign import FuzzConfig
from mcpconc.cli import main
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import CampaignFinished, CampaignStarted, InfraTrouble, RunFinished, TraceSaved
from mcpconc.oracle.base import UNPROMISED, Finding, Label
from mcpconc.oracle.storms import Met, Torn
from mcpconc.program import Program
from mcpconc.strategies import CascadeMachine, Knobs
from mcpconc.target.base import MARKER, Identity
from mcpconc.trace import load

Capture = pytest.CaptureFixture[str]


@dataclass
class Campaign:
    """What a campaign said and did."""

    out: Path
    events: list[Any] = field(default_factory=list)
    done: CampaignFinished | None = None

    @property
    def labels(self) -> dict[str, Label]:
        assert self.done is not None
        return {str(k.finding.fingerprint): k.finding.label for k in self.done.kept}

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def fuzz(
    directory: Path,
    mode: str,
    machine: Any,
    *,
    watch: Callable[[Any], None] = lambda event: None,
    **config: Any,
) -> Campaign:
    """Two agents on the ledger, about six calls a program, first calls at once."""
    told = Campaign(directory / "out")

    def emit(event: Any) -> None:
        told.events.append(event)
        watch(event)

    whole: dict[str, Any] = {
        "out": told.out,
        "target": str(ledger.write(directory, mode)),
        "agents": 2,
        "calls": 6,
        "seed": 1,
        "scheduler": "barrier",
        "machine": machine,
        **config,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "BATCH", 5)  # to write more programs than are run takes time
        told.done = anyio.run(campaign.fuzz, FuzzConfig(**whole), emit)
    return told


@pytest.fixture(scope="module", autouse=True)
def the_ledger_has_a_model() -> Iterator[None]:
    with ledger.installed():
        yield


# ------------------------------------------------------------------ a server with a race


@pytest.fixture(scope="module")
def racy(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return fuzz(tmp_path_factory.mktemp("racy"), "racy", ledger.AddMachine, runs=2)


def test_a_race_is_found_minimised_and_labelled(racy: Campaign) -> None:
    assert racy.done is not None
    assert racy.done.exit is Exit.VIOLATION
    assert racy.labels == {
        "effects: lost-append entry (add ‖ add)": Label.RACE,
        "linearizability: position ledger (add ‖ add)": Label.RACE,
    }
    assert [kept.to_calls for kept in racy.done.kept] == [2, 2]
    assert all(kept.from_calls > 2 for kept in racy.done.kept)


def test_there_is_one_trace_per_distinct_finding_and_nothing_else(racy: Campaign) -> None:
    assert racy.done is not None
    traces = sorted((racy.out / "traces").iterdir())
    assert traces == sorted(kept.path for kept in racy.done.kept if kept.path)
    assert [load(trace).complete for trace in traces] == [True, True]
    assert [load(trace).shrink.finished for trace in traces] == [True, True]  # type: ignore[union-attr]
    assert list((racy.out / "work").iterdir()) == []


def test_a_finding_is_saved_before_it_is_minimised(racy: Campaign) -> None:
    first = racy.of(TraceSaved)[0]
    assert first.finding.label is Label.UNLABELLED
    assert not first.path.exists()


def test_check_judges_each_trace_the_same(racy: Campaign, capsys: Capture) -> None:
    traces = [str(path) for path in (racy.out / "traces").iterdir()]
    assert main(["check", *traces]) == Exit.VIOLATION
    said = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert [line.split()[:2] for line in said] == [["SAME", "violation"]] * 2


def test_replay_reproduces_it(racy: Campaign, capsys: Capture, tmp_path: Path) -> None:
    trace = lost_entry(racy)
    words = ["replay", str(trace), "--times", "3", "--out", str(tmp_path / "o")]
    assert main(words) == Exit.VIOLATION
    out, err = capsys.readouterr()
    assert re.match(r"REPRODUCED 3/3|FLAKY [12]/3", out)  # a busy machine may miss the window
    assert re.search(r"try 3 of 3: (not )?reproduced", err)


def test_replay_on_another_target(racy: Campaign, capsys: Capture, tmp_path: Path) -> None:
    correct = ledger.write(tmp_path, "correct")
    words = ["replay", str(lost_entry(racy)), "--times", "2", "--target", str(correct)]
    assert main([*words, "--out", str(tmp_path / "o"), "--json"]) == Exit.PASSED
    (told,) = json.loads(capsys.readouterr().out)["replays"]
    assert (told["status"], told["reproduced"], told["tried"]) == ("FIXED", 0, 2)


def test_show_draws_it(racy: Campaign, capsys: Capture) -> None:
    assert main(["show", str(lost_entry(racy))]) == 0
    picture = capsys.readouterr().out
    assert picture.count("add(") >= 2
    assert "agent 0" in picture
    assert "agent 1" in picture
    assert "mcpconc replay" in picture


def lost_entry(of: Campaign) -> Path:
    (path,) = (of.out / "traces").glob("lost-append-entry-*")
    return path


# ------------------------------------------------------------------ a finding left as it was met


@pytest.fixture
def unfinished(tmp_path: Path) -> Campaign:
    return fuzz(tmp_path, "racy", ledger.BumpMachine, runs=1, shrink=False)


def test_shrink_goes_on_with_an_unfinished_trace(unfinished: Campaign, capsys: Capture) -> None:
    (path,) = (unfinished.out / "traces").iterdir()
    before = load(path)
    assert before.label is Label.UNLABELLED
    assert before.program.concurrent() > 2
    assert main(["shrink", str(path), "--out", str(unfinished.out)]) == Exit.PASSED
    after = load(path)
    assert after.label is Label.RACE
    assert after.program.concurrent() == 2
    assert after.shrink is not None
    assert after.shrink.finished


# ------------------------------------------------------------------ a server without one


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    directory = tmp_path_factory.mktemp("correct")
    return fuzz(directory, "correct", ledger.LedgerMachine, runs=5, scheduler="mixed")


def test_a_correct_server_passes(correct: Campaign) -> None:
    assert correct.done is not None
    assert correct.done.exit is Exit.PASSED
    assert correct.done.kept == ()
    assert correct.done.stop == "5 runs done"
    assert correct.done.unknown == correct.done.infra == 0
    assert correct.done.overlap_max == 2


def test_tools_that_never_succeeded_are_named(correct: Campaign) -> None:
    assert correct.done is not None
    assert correct.done.never == ("forbid",)
    assert "audit" in correct.done.unused
    assert "forbid" not in correct.done.unused


def test_a_campaign_says_what_it_runs(correct: Campaign) -> None:
    (started,) = correct.of(CampaignStarted)
    assert (started.version, started.agents, started.seed) == ("correct", 2, 1)
    assert [event.n for event in correct.of(RunFinished)] == [1, 2, 3, 4, 5]
    assert {event.scheduler for event in correct.of(RunFinished)} <= {"free", "barrier", "convoy"}


# ------------------------------------------------------------------ a server that is just wrong


def test_a_sequential_defect_is_called_one_and_told_once(tmp_path: Path) -> None:
    wrong = fuzz(tmp_path, "drops", ledger.AddMachine, runs=3)
    assert wrong.labels
    assert set(wrong.labels.values()) == {Label.SEQUENTIAL}
    assert "effects: lost-append entry (add)" in wrong.labels
    assert wrong.done is not None
    assert {kept.times for kept in wrong.done.kept} == {3}
    assert {kept.to_calls for kept in wrong.done.kept} == {1, 2}  # lost; given out twice
    heads = [kept.finding.fingerprint.head() for kept in wrong.done.kept]
    assert len(heads) == len(set(heads))


# ------------------------------------------------------------------ a server that is gone


def test_a_server_that_does_not_come_up_again_is_no_violation(tmp_path: Path) -> None:
    def close_down(event: Any) -> None:
        if isinstance(event, RunFinished):
            for root in worlds():
                Path(root).with_name("closed").touch()
                kill(root)

    gone = fuzz(tmp_path, "correct", ledger.AddMachine, runs=9, watch=close_down)
    assert gone.done is not None
    assert gone.done.exit is Exit.TARGET
    assert gone.done.runs == 1
    assert gone.done.stop == "the target failed 3 times in a row"
    assert gone.done.kept == ()
    assert "the ledger is closed for good" in gone.of(InfraTrouble)[0].text


def worlds() -> set[str]:
    """Roots of the worlds of the servers that we started."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with_marker = process.environ().get(MARKER)
        if with_marker:
            found.add(with_marker)
    return found


def kill(root: str) -> None:
    for process in psutil.Process().children(recursive=True):
        if process.environ().get(MARKER) == root:
            os.kill(process.pid, signal.SIGKILL)


# ------------------------------------------------------------------ programs


def test_the_same_seed_writes_the_same_programs(tmp_path: Path) -> None:
    def digests(seed: int) -> list[str]:
        config = FuzzConfig(out=tmp_path, agents=2, calls=4, seed=seed, machine=ledger.AddMachine)
        more_than_a_batch = islice(campaign.programs(config), campaign.BATCH + 2)
        return [program.digest() for program in more_than_a_batch]

    assert digests(1) == digests(1)
    assert digests(1) != digests(2)


# ------------------------------------------------------------------ time


def scripted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shows: Callable[[Program], Sequence[Finding]],
    **config: Any,
) -> tuple[Script, Campaign]:
    script = Script(shows).take_over(monkeypatch, campaign)
    told = fuzz(tmp_path, "correct", ledger.LedgerMachine, clock=script.clock, **config)
    return script, told


def test_time_ends_a_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = scripted(tmp_path, monkeypatch, lambda program: (), max_time=7)
    assert told.done is not None
    assert (told.done.stop, told.done.runs, told.done.seconds) == ("time is up", 7, 7)


def test_whichever_limit_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = scripted(tmp_path, monkeypatch, lambda program: (), max_time=7, runs=3)
    assert told.done is not None
    assert (told.done.stop, told.done.runs) == ("3 runs done", 3)


def test_each_program_meets_a_fault_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cancel", "stop-server")
    script, _ = scripted(tmp_path, monkeypatch, lambda program: (), runs=6, nemesis=names)
    met = [[fault.name for fault in program.faults] for _, program, *_ in script.ran]
    assert len(met) == 6
    assert all(met)
    assert {name for each in met for name in each} == set(names)


def test_what_faults_did_in_all_runs_is_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = (Torn("0.1", "add", ("row",), ("note",)),)
    met = Met("cancel", "0.0", "by itself", torn=torn)
    monkeypatch.setattr(campaign, "storms", lambda run: (met,))
    _, told = scripted(tmp_path, monkeypatch, lambda program: (), runs=3, nemesis=("cancel",))
    assert told.done is not None
    (toll,) = told.done.faults
    assert (toll.fault, toll.began, toll.recovery) == ("cancel", 3, {"by itself": 3})
    assert list(toll.torn.values()) == [3]


def only_as_a_whole(program: Program) -> list[Finding]:
    """A finding that nothing smaller shows: minimising it takes for ever."""
    whole = program.concurrent() >= 6 and sum(map(bool, program.lanes)) > 1
    return [lost(program)] if whole else []


def test_minimising_takes_its_share_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, told = scripted(tmp_path, monkeypatch, only_as_a_whole, max_time=40)
    assert told.done is not None
    minimising = len(script.ran) - told.done.runs
    assert 0 < minimising <= 0.4 * 40 + 1
    assert told.done.seconds <= 41
    assert not all(finished(told))


def test_without_a_time_limit_minimising_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = scripted(tmp_path, monkeypatch, only_as_a_whole, runs=4)
    assert finished(told)
    assert all(finished(told))


def test_what_is_left_of_the_time_after_the_last_run_goes_to_minimising(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = scripted(tmp_path, monkeypatch, only_as_a_whole, runs=4, max_time=4000)
    assert told.done is not None
    assert told.done.stop == "4 runs done"
    assert finished(told)
    assert all(finished(told))


def finished(told: Campaign) -> list[bool]:
    """Of each trace whether its minimisation came to its end."""
    shrinks = [load(path).shrink for path in (told.out / "traces").iterdir()]
    return [shrink is not None and shrink.finished for shrink in shrinks]


def test_no_shrinking_runs_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, told = scripted(tmp_path, monkeypatch, only_as_a_whole, runs=4, shrink=False)
    assert len(script.ran) == 4
    assert set(told.labels.values()) == {Label.UNLABELLED}


# ------------------------------------------------------------------ trouble


class Unlucky:
    """Shows nothing, and raises at these runs."""

    def __init__(self, *at: int) -> None:
        self.at = at
        self.run = 0

    def __call__(self, program: Program) -> Sequence[Finding]:
        self.run += 1
        if self.run in self.at:
            raise TargetError("no server")
        return ()


def test_trouble_now_and_then_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = scripted(tmp_path, monkeypatch, Unlucky(1, 2, 4, 5, 7), runs=4)
    assert told.done is not None
    assert (told.done.exit, told.done.runs, told.done.infra) == (Exit.PASSED, 4, 5)


def test_a_target_that_never_ran_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TargetError, match="no server"):
        scripted(tmp_path, monkeypatch, Unlucky(1, 2, 3), runs=4)


def test_trouble_while_minimising_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky = Unlucky(2, 3, 4)

    def shows(program: Program) -> Sequence[Finding]:
        unlucky(program)
        return [lost(program)]

    _, told = scripted(tmp_path, monkeypatch, shows, max_time=30)
    assert told.done is not None
    assert told.done.exit is Exit.VIOLATION
    (kept,) = told.done.kept
    assert kept.path is not None
    assert load(kept.path).findings


def test_what_nothing_promised_is_kept_and_the_campaign_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shows(program: Program) -> Sequence[Finding]:
        found = lost(program)
        return [replace(found, fingerprint=replace(found.fingerprint, property=UNPROMISED))]

    _, told = scripted(tmp_path, monkeypatch, shows, runs=3)
    assert told.done is not None
    assert (told.done.exit, len(told.done.kept)) == (Exit.PASSED, 1)


def test_worlds_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = (Identity.ISOLATED, Identity.EXPLICIT)
    script, _ = scripted(tmp_path, monkeypatch, lambda program: (), runs=4, identities=modes)
    assert [identity for identity, *_ in script.ran] == ["isolated", "explicit"] * 2
    assert [identity for _, identity, _ in script.opened] == ["isolated", "explicit"]


# ------------------------------------------------------------------ what was asked for


def test_what_was_asked_for_reaches_programs_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "agents": 3,
        "calls": 9,
        "inflight": 4,
        "share": 0.25,
        "bad_input": 0.2,
        "scheduler": "convoy",
    }
    machine = type("Seen", (ledger.AddMachine,), {"__init__": see_knobs, "seen": set()})
    script = Script().take_over(monkeypatch, campaign)
    fuzz(tmp_path, "correct", machine, clock=script.clock, runs=2, seed=5, **asked)
    assert machine.seen == {Knobs(agents=3, calls=9, inflight=4, share=0.25, bad=0.2)}  # type: ignore[attr-defined]
    assert [agents for *_, agents in script.opened] == [3]
    assert [ran[2:] for ran in script.ran] == [("convoy", 5 * 7919), ("convoy", 5 * 7919 + 1)]


def see_knobs(self: Any) -> None:
    ledger.AddMachine.__init__(self)
    type(self).seen.add(self.knobs)


def test_a_machine_that_knows_none_of_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script().take_over(monkeypatch, campaign)
    with pytest.raises(
        UsageError, match=r"offers none of the tools that CascadeMachine calls, but"
    ):
        fuzz(tmp_path, "correct", CascadeMachine, runs=1)
