"""A race that needs two switches at the right places: found by controlled schedules, made as small
as it gets, saved, followed step by step, and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from command import mcpconc
from mcpconc.keep import as_trace
from mcpconc.minimise import minimise
from mcpconc.oracle.base import Label
from mcpconc.program import Call, Fault, Program, Ref, token_for
from mcpconc.report.finding import finding_report
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule import make
from mcpconc.schedule.points import unpack
from mcpconc.schedule.switches import turns
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.trace import Trace, load

BUG = "two-constraints"
HEAD = ("effects", "lost-update", "task", "status")


def done(agent: int, n: int, task: str) -> Call:
    token = token_for(agent, n)
    args = {"task_id": Ref(task, "task_id"), "evidence": token}
    return Call(f"{agent}.{n}", agent, "goals_complete_task", args, token)


GOAL = Ref("0.1", "goal_id")
SESSION = Ref("0.0", "session_id")
PROGRAM = Program(
    3,
    prefix=(
        Call("0.0", 0, "session_create", {"ai_id": "ai-0"}),
        Call("0.1", 0, "goals_create", {"session_id": SESSION, "objective": "write it down"}),
        Call("0.2", 0, "goals_add_task", {"goal_id": GOAL, "description": "a draft"}),
        Call("0.3", 0, "goals_add_task", {"goal_id": GOAL, "description": "a review"}),
    ),
    lanes=(
        (Call("0.4", 0, "goals_progress", {"goal_id": GOAL}),),
        (done(1, 0, "0.2"),),
        (done(2, 0, "0.3"), Call("2.1", 2, "goals_progress", {"goal_id": GOAL})),
    ),
)


@asynccontextmanager
async def opened(work: Path, bug: str = BUG) -> AsyncIterator[Rig]:
    target = ReferenceTarget.with_bug(bug) if bug else ReferenceTarget()
    async with rig(target, Identity.ISOLATED, 3, work, lambda text: None, probe="control") as on:
        yield on


async def search(on: Rig) -> Execution:
    for seed in range(60):
        found = await on.run(PROGRAM, make("portfolio", seed), seed)
        if HEAD in found.heads():
            return found
    raise AssertionError("not found in 60 controlled runs")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """Found, minimised and saved."""
    out = tmp_path_factory.mktemp("controlled")

    async def work() -> Trace:
        async with opened(out / "work") as on:
            found = await search(on)
            finding = next(f for f in found.judgement.findings if f.fingerprint.head() == HEAD)
            best = await minimise(
                on, found, finding, expired=lambda: False, progress=lambda *told: None
            )
            kept = as_trace(on, best.execution, best.finding, 0, best.shrink, best.basis)
            return load(kept.save(out / "t"))

    return anyio.run(work)


def test_it_is_a_race_of_two_calls_that_comes_back_each_time(trace: Trace) -> None:
    assert trace.label is Label.RACE
    assert [len(lane) for lane in trace.program.lanes if lane] == [1, 1]
    assert trace.shrink is not None
    assert (trace.shrink.failed, trace.shrink.of) == (5, 5)


def test_the_schedule_has_as_few_switches_as_it_takes(trace: Trace) -> None:
    told = turns(unpack(trace.schedule).steps)
    # One reads, the other does everything, the first writes back what it had read.
    assert len(told) == 3
    assert (told[0].begins, told[0].ends) == (True, False)
    assert told[2].labels[0].startswith("BEGIN")


def test_replay_follows_it_step_by_step(trace: Trace, tmp_path: Path) -> None:
    code, said = mcpconc("replay", str(trace.path), "--times", "10", "--out", str(tmp_path))
    (replayed,) = said["replays"]
    assert (code, replayed["reproduced"], replayed["diverged"]) == (1, 10, 0)


def test_the_correct_server_goes_another_way_and_that_is_said(trace: Trace, tmp_path: Path) -> None:
    code, said = mcpconc(
        *("replay", str(trace.path), "--times", "2", "--target", "reference"),
        *("--out", str(tmp_path)),
    )
    (replayed,) = said["replays"]
    assert (code, replayed["reproduced"], replayed["diverged"]) == (0, 0, 2)


def test_the_report_shows_the_switches_inside_the_calls(trace: Trace) -> None:
    text = finding_report(trace)
    assert "schedule 2 switches" in text
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("  inside the calls"))
    first, second, third = " ".join(lines[start + 1 :]).split(" then agent ")[:3]
    assert " up to `" in first
    assert " ran all of " in second
    assert " went on with `" in third


def test_without_control_the_same_time_shows_nothing(tmp_path: Path) -> None:
    """What makes it worth the trouble: with the probe left out, the same schedulers are free."""

    async def work() -> int:
        async with rig(
            ReferenceTarget.with_bug(BUG), Identity.ISOLATED, 3, tmp_path, lambda text: None
        ) as on:
            runs = [await on.run(PROGRAM, make("portfolio", seed), seed) for seed in range(5)]
        notes = [note for run in runs for note in run.run.history.notes("scheduler")]
        assert all("behaves as free" in str(note.value["text"]) for note in notes)
        assert all(not run.schedule for run in runs)
        return len(notes)

    assert anyio.run(work) == 5


def test_every_interleaving_is_run_and_some_fail(trace: Trace, tmp_path: Path) -> None:
    code, said = mcpconc("explore", str(trace.path), "--out", str(tmp_path))
    assert code == 1
    assert (said["complete"], said["safe"]) == (True, False)
    assert 1 <= max(f["interleavings"] for f in said["findings"]) < said["interleavings"]
    (shown, *_) = said["findings"]
    code, again = mcpconc("replay", shown["trace"], "--times", "3", "--out", str(tmp_path))
    assert again["replays"][0]["status"] == "REPRODUCED"


def test_every_interleaving_of_the_correct_server_is_right(trace: Trace, tmp_path: Path) -> None:
    code, said = mcpconc(
        *("explore", str(trace.path), "--target", "reference", "--out", str(tmp_path))
    )
    assert (code, said["safe"], said["findings"]) == (0, True, [])
    assert said["interleavings"] > 1


def test_fewer_runs_than_there_are_interleavings_prove_nothing(
    trace: Trace, tmp_path: Path
) -> None:
    code, said = mcpconc(
        *("explore", str(trace.path), "--target", "reference", "--max-runs", "1"),
        *("--out", str(tmp_path)),
    )
    assert (code, said["safe"], said["complete"]) == (2, False, False)


def test_a_process_is_killed_before_it_writes_and_so_it_is_when_followed(tmp_path: Path) -> None:
    stormy = replace(PROGRAM, faults=(Fault("kill-point", "1.0", pick=1),))

    async def work() -> list[Execution]:
        async with opened(tmp_path, "") as on:
            first = await on.run(stormy, make("random", 3), 3)
            return [first, await on.run(stormy, make("replay", 3, first.schedule), 3)]

    for made in anyio.run(work):
        (note, *_) = made.run.history.notes("fault")
        assert note.value["text"].startswith("agent 1's call is killed before: UPDATE subtasks")
        assert not made.judgement.findings
        assert unpack(made.schedule).kills
