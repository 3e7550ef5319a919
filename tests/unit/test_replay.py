"""How often a saved trace fails again, and shrinking it further."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import ledger
from fakes.rigs import Script, lost
from mcpconc import replay as replays
from mcpconc import rigs
from mcpconc.errors import TargetError, TraceError
from mcpconc.events import ReplayTried
from mcpconc.oracle.base import Finding, Fingerprint, Result
from mcpconc.program import Call, Fault, Program
from mcpconc.replay import Replay, Status
from mcpconc.target.reference import BUSY, HURRIED
from mcpconc.target.warm import Start
from mcpconc.trace import Trace, load
from samples import told

ADDS = tuple((Call(f"{agent}.0", agent, "add", {}),) for agent in (0, 1))
PROGRAM = Program(2, lanes=ADDS)


def saved(tmp_path: Path, program: Program = PROGRAM, **more: Any) -> Trace:
    """A trace of the ledger with one finding, in the directory ``a-trace``."""
    calls = list(program.calls())
    history = told(program, [(c.id,) for c in calls] + [(c.id, {"ok": True}) for c in calls])
    given = {"findings": (lost(program),), "scheduler": "convoy", "scheduler_seed": 40, **more}
    target = str(ledger.write(tmp_path))
    trace = Trace(program=program, history=history, target=target, **given)
    return replace(trace, path=trace.save(tmp_path / "a-trace"))


class Luck:
    """Shows the finding in these tries, counted from 1."""

    def __init__(self, *hits: int, breaks: int = 0, other: int = 0) -> None:
        self.hits, self.breaks, self.other = hits, breaks, other
        self.tries = 0

    def __call__(self, program: Program) -> Sequence[Finding]:
        self.tries += 1
        if self.tries == self.breaks:
            raise TargetError("the server is gone")
        found = [lost(program)] if self.tries in self.hits else []
        if self.tries == self.other:
            found.append(replace(lost(program), fingerprint=Fingerprint("order", "tie", "entry")))
        return found


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script().take_over(monkeypatch, replays, rigs)
    said = ("effects", lambda run: Result("effects", tuple(script.shows(run.program))))
    monkeypatch.setattr(replays, "ORACLES", (said,))
    return script


def quietly(event: Any) -> None:
    """Nobody listens."""


def again(
    script: Script, luck: Luck, tmp_path: Path, times: int = 3, emit: Any = quietly
) -> Replay:
    script.shows = luck
    return anyio.run(replays.replay, saved(tmp_path), times, "", tmp_path, emit)


def test_calls_start_as_they_are_asked_to(script: Script, tmp_path: Path) -> None:
    for start in Start:
        anyio.run(replays.replay, saved(tmp_path), 1, "", tmp_path, quietly, start)
    assert script.starts == list(Start)


@pytest.mark.parametrize(
    ("luck", "status", "reproduced", "tried"),
    [
        (Luck(1, 2, 3), Status.REPRODUCED, 3, 3),
        (Luck(2), Status.FLAKY, 1, 3),
        (Luck(), Status.FIXED, 0, 3),
        (Luck(1, breaks=2), Status.ERROR, 1, 1),
    ],
)
def test_how_often_it_came_back(
    script: Script, tmp_path: Path, luck: Luck, status: Status, reproduced: int, tried: int
) -> None:
    result = again(script, luck, tmp_path)
    assert (result.status, result.reproduced, result.tried) == (status, reproduced, tried)


def test_no_more_tries_than_are_enough(script: Script, tmp_path: Path) -> None:
    script.shows = Luck(2, 3)
    asked: list[tuple[int, int]] = []

    def enough(reproduced: int, tried: int) -> bool:
        asked.append((reproduced, tried))
        return reproduced > 0

    result = anyio.run(
        *(replays.replay, saved(tmp_path), 5, "", tmp_path, quietly, Start.ORDINARY, enough)
    )
    assert (result.reproduced, result.tried) == (1, 2)
    assert asked == [(0, 1), (1, 2)]


def test_what_is_run(script: Script, tmp_path: Path) -> None:
    again(script, Luck(), tmp_path)
    assert script.opened == [(str(tmp_path / "ledger-correct.toml"), "explicit", 2)]
    assert script.ran == [("explicit", PROGRAM, "convoy", seed) for seed in (40, 41, 42)]


def scheduled(script: Script, tmp_path: Path, *did: Any, remarks: Sequence[str] = ()) -> Replay:
    """Replays of a schedule of two steps, of which `did` was done."""
    script.schedule, script.remarks = tuple(did), remarks
    trace = saved(tmp_path, schedule=([0, 0, "invoke add", "SELECT"],))
    return anyio.run(replays.replay, trace, 2, "", tmp_path, quietly)


def test_a_schedule_that_was_followed(script: Script, tmp_path: Path) -> None:
    result = scheduled(script, tmp_path, [0, 0, "invoke add", "SELECT"])
    assert (result.diverged, result.divergence, result.waited) == (0, "", 0)


def test_where_a_schedule_was_not_followed(script: Script, tmp_path: Path) -> None:
    where = "replay diverged at step 1 of 2: the run was over"
    result = scheduled(script, tmp_path, [0, 0, "invoke add"], remarks=["something else", where])
    assert (result.diverged, result.divergence) == (2, where)


def test_steps_after_the_recorded_ones_are_a_divergence(script: Script, tmp_path: Path) -> None:
    result = scheduled(script, tmp_path, [0, 0, "invoke add", "SELECT"], [1, 1, "UPDATE", "COMMIT"])
    assert result.diverged == 2
    assert result.divergence == (
        "replay diverged after its last step: 2 more were made, first that of thread 1.1 from "
        "'UPDATE'"
    )


def test_whoever_was_not_killed_has_diverged(script: Script, tmp_path: Path) -> None:
    killed = ["kill", 0, 1, "COMMIT", 1]
    result = scheduled(script, tmp_path, killed, [0, 0, "invoke add", "SELECT"])
    assert "not all processes were killed" in result.divergence


def test_locks_that_were_not_foreseen_are_counted(script: Script, tmp_path: Path) -> None:
    remark = "agent 1 waited for a lock that could not be foreseen, while 3 steps were made"
    result = scheduled(script, tmp_path, [0, 0, "invoke add", "SELECT"], remarks=[remark, remark])
    assert (result.waited, result.diverged) == (2, 0)


def test_what_else_came_up(script: Script, tmp_path: Path) -> None:
    assert again(script, Luck(1, other=2), tmp_path).others == ("order: tie entry",)


def test_each_try_is_told(script: Script, tmp_path: Path) -> None:
    events: list[Any] = []
    again(script, Luck(1, breaks=3), tmp_path, emit=events.append)
    tries = [event for event in events if isinstance(event, ReplayTried)]
    assert [(e.n, e.of, e.reproduced) for e in tries] == [(1, 3, True), (2, 3, False), (3, 3, None)]
    assert tries[-1].text == "the server is gone"


def test_on_another_target(script: Script, tmp_path: Path) -> None:
    other = str(ledger.write(tmp_path, "racy"))
    anyio.run(replays.replay, saved(tmp_path), 1, other, tmp_path, quietly)
    assert [target for target, *_ in script.opened] == [other]


@pytest.mark.parametrize(
    ("faults", "patience"), [((), BUSY), ((Fault("hold-lock-long", "0.0"),), HURRIED)]
)
def test_faults_meet_a_target_with_short_limits(
    script: Script, tmp_path: Path, faults: tuple[Fault, ...], patience: float
) -> None:
    stormy = saved(tmp_path, replace(PROGRAM, faults=faults))
    anyio.run(replays.replay, stormy, 1, "reference", tmp_path, quietly)
    assert script.target.patience == patience
    assert [program.faults for _, program, *_ in script.ran] == [faults]


def test_a_target_that_cannot_be_had_is_an_answer(tmp_path: Path) -> None:
    other = tmp_path / "absent.toml"
    other.write_text('[server]\nargv = ["no-such-command"]')
    result = anyio.run(replays.replay, saved(tmp_path), 1, str(other), tmp_path, quietly)
    assert result.status is Status.ERROR
    assert "no-such-command was not found" in result.error


def test_a_trace_without_a_finding(script: Script, tmp_path: Path) -> None:
    nothing = saved(tmp_path, findings=())
    with pytest.raises(TraceError, match="a-trace: holds no finding, so there is nothing"):
        anyio.run(replays.replay, nothing, 1, "", tmp_path, quietly)
    with pytest.raises(TraceError, match="nothing to shrink"):
        anyio.run(replays.shrink_trace, nothing, tmp_path, None, "", tmp_path, quietly)


def test_a_signal_ends_the_tries(script: Script, tmp_path: Path) -> None:
    def shows(program: Program) -> Sequence[Finding]:
        if len(script.ran) == 2:
            signal.raise_signal(signal.SIGINT)
        return [lost(program)]

    script.shows = shows
    result = anyio.run(replays.replay, saved(tmp_path), 50, "", tmp_path, quietly)
    assert result.interrupted
    assert result.status is Status.REPRODUCED
    assert 1 <= result.tried < 50


# ------------------------------------------------------------------ shrinking further

LARGE = Program(
    2, lanes=tuple(tuple(Call(f"{a}.{n}", a, "add", {}) for n in range(3)) for a in (0, 1))
)


def race(program: Program) -> list[Finding]:
    """Two agents at once are enough."""
    return [lost(program)] if sum(map(bool, program.lanes)) > 1 else []


def shrink(
    script: Script, tmp_path: Path, max_time: float | None = None, target: str = ""
) -> tuple[Trace, bool]:
    trace = saved(tmp_path, LARGE)
    assert trace.path is not None
    clock = script.clock
    given = (trace, trace.path, max_time, target, tmp_path, quietly, clock)
    return anyio.run(replays.shrink_trace, *given)


def test_the_smaller_trace_takes_the_place_of_the_old_one(script: Script, tmp_path: Path) -> None:
    script.shows = race
    smaller, interrupted = shrink(script, tmp_path)
    assert smaller.program.concurrent() == 2
    assert smaller.shrink is not None
    assert smaller.shrink.finished
    assert load(tmp_path / "a-trace").program == smaller.program
    assert not interrupted


def test_no_more_time_than_it_was_given(script: Script, tmp_path: Path) -> None:
    script.shows = race
    smaller, _ = shrink(script, tmp_path, max_time=6)
    assert len(script.ran) <= 7
    assert smaller.shrink is not None
    assert not smaller.shrink.finished


def test_shrinking_on_another_target(script: Script, tmp_path: Path) -> None:
    script.shows = race
    other = str(ledger.write(tmp_path, "racy"))
    shrink(script, tmp_path, target=other)
    assert [target for target, *_ in script.opened] == [other]


def only_when_saved(script: Script) -> Callable[[Program], list[Finding]]:
    return lambda program: [] if script.ran else race(program)


def test_what_does_not_come_back_stays_as_it_is(script: Script, tmp_path: Path) -> None:
    script.shows = only_when_saved(script)
    with pytest.raises(TargetError, match="did not come back in this time"):
        shrink(script, tmp_path)
    assert load(tmp_path / "a-trace").program == LARGE


def test_what_is_not_found_any_more_is_not_shrunk(script: Script, tmp_path: Path) -> None:
    script.shows = lambda program: []
    with pytest.raises(TraceError):
        shrink(script, tmp_path)
    assert script.ran == []


@pytest.mark.parametrize("at", [1, 4])
def test_a_signal_keeps_what_was_reached(script: Script, tmp_path: Path, at: int) -> None:
    def shows(program: Program) -> list[Finding]:
        if len(script.ran) == at:
            signal.raise_signal(signal.SIGINT)
        return race(program)

    script.shows = shows
    smaller, interrupted = shrink(script, tmp_path)
    assert interrupted
    assert len(script.ran) <= at + 1
    assert load(tmp_path / "a-trace").program == smaller.program
    assert (smaller.program.concurrent() < 6) == (at > 1)
