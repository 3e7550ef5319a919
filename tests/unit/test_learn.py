"""What the tools of a program touch is learned by running its calls one after another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from command import mcpconc
from fakes import FakeWorld
from mcpconc.again import acquaint
from mcpconc.program import Program, refs
from mcpconc.schedule import learn
from mcpconc.schedule.conflicts import Access
from mcpconc.schedule.control import Control
from mcpconc.schedule.learn import Learn
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.variety import lessons
from piloting import Script, Target, controlled, program, run, say

SCRIPTS: dict[str, Script] = {
    "read": say("SELECT", writes=[], reads=["db:t"]),
    "list": say("SELECT", writes=[], reads=["db:t"]),
    "write": say("BEGIN", "INSERT", writes=["db:t"]),
}


def learned(
    root: Path, lanes: Program, scripts: dict[str, Script], scheduler: Any = None
) -> tuple[list[str], dict[str, list[str]]]:
    """What the threads did, and the labels that are known of each tool then."""

    async def main() -> tuple[list[str], dict[str, list[str]]]:
        async with controlled(root, scripts) as (control, target):
            await run(control, target, lanes, scheduler or Learn())
            known = control.learned.statements
            return target.log, {tool: sorted(labels) for tool, labels in known.items()}

    return anyio.run(main)


def test_calls_run_one_after_another_and_are_watched(tmp_path: Path) -> None:
    log, known = learned(tmp_path, program(["write", "read"], ["list"]), SCRIPTS)
    assert log == ["0 BEGIN", "0 INSERT", "1 SELECT", "0 SELECT"]
    assert known == {"write": ["BEGIN", "INSERT"], "list": ["SELECT"], "read": ["SELECT"]}


def test_a_tool_is_watched_once(tmp_path: Path) -> None:
    statements = iter(["INSERT", "UPDATE"])

    async def changes(target: Target, agent: int) -> None:
        await say(next(statements), writes=["db:t"])(target, agent)

    log, known = learned(tmp_path, program(["changes"], ["changes"]), {"changes": changes})
    assert log == ["0 INSERT", "1 UPDATE"]
    assert known == {"changes": ["INSERT"]}


async def begins_more(target: Target, agent: int) -> None:
    """A call that is answered before what it began is done."""

    async def later() -> None:
        async with target.thread(agent, "later") as thread:
            await thread.at("EARLY", writes=["db:t"])
            begun.set()
            await anyio.sleep(0.05)
            await thread.at("LATE", writes=["db:t"])

    begun = anyio.Event()
    target.beside.start_soon(later)
    await begun.wait()


def test_what_a_call_leaves_at_work_is_not_the_next_ones(tmp_path: Path) -> None:
    scripts = {**SCRIPTS, "more": begins_more}
    log, known = learned(tmp_path, program(["more", "read"]), scripts)
    assert log == ["0 EARLY", "0 LATE", "0 SELECT"]
    assert known == {"more": ["EARLY", "LATE"], "read": ["SELECT"]}


def test_what_never_ends_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "LEFT", 0.05)
    over = anyio.Event()

    async def stays(target: Target, agent: int) -> None:
        async def for_ever() -> None:
            async with target.thread(agent):
                begun.set()
                await over.wait()

        begun = anyio.Event()
        target.beside.start_soon(for_ever)
        await begun.wait()

    async def last(target: Target, agent: int) -> None:
        await SCRIPTS["read"](target, agent)
        over.set()

    log, _ = learned(tmp_path, program(["stays", "last"]), {"stays": stays, "last": last})
    assert log == ["0 SELECT"]


def test_without_a_probe_there_is_nothing_to_learn(tmp_path: Path) -> None:
    async def main() -> None:
        scheduler = Learn()
        scheduler.begin(program(["read"]), FakeWorld(tmp_path))
        await scheduler.admit(0, "0.0")
        scheduler.ended(0, "0.0")
        await scheduler.finish()

    anyio.run(main)


# ------------------------------------------------------------------ when it is done


class Rig:
    """Runs nothing; `ran` are the programs that it was given."""

    def __init__(self, root: Path, control: Control | None) -> None:
        self.root, self.ran = root, []  # type: ignore[var-annotated]
        self.world = SimpleNamespace(control=control)

    async def execute(self, program: Program, scheduler: Any, seed: int) -> Any:
        self.ran.append(program)
        assert isinstance(scheduler, Learn)
        directory = self.root / f"run-{len(self.ran)}"
        directory.mkdir()
        return SimpleNamespace(directory=directory)


def test_a_lesson_is_run_if_it_has_something_to_teach(tmp_path: Path) -> None:
    control = Control(tmp_path / "c")
    on: Any = Rig(tmp_path, control)
    lesson = program(["read"], ["write"])
    assert anyio.run(acquaint, on, lesson)
    control.learned.add("read", "SELECT", Access())
    assert anyio.run(acquaint, on, lesson)
    control.learned.add("write", "INSERT", Access())
    assert not anyio.run(acquaint, on, lesson)
    assert on.ran == [lesson, lesson]
    assert not list(tmp_path.glob("run-*"))


def test_a_few_programs_have_all_tools() -> None:
    written = generate(CascadeMachine, Knobs(3, 20, 0.7), 5, 20)
    made = list(lessons(written))
    once = [call.tool for one in made for lane in one.lanes for call in lane]
    assert sorted(once) == sorted({c.tool for one in written for lane in one.lanes for c in lane})
    assert len(made) <= 8
    for one in made:
        known: set[str] = set()
        for call in one.calls():
            assert {ref.call for ref in refs(call.args)} <= known
            known.add(call.id)


# ------------------------------------------------------------------ in a campaign


def test_a_campaign_says_how_much_of_what_can_be_seen_it_saw(tmp_path: Path) -> None:
    _, said = mcpconc(
        *("fuzz", "--target", "reference", "--scheduler", "random", "--agents", "2"),
        *("--runs", "6", "--seed", "1", "--out", str(tmp_path)),
    )
    covered = said["coverage"]
    assert said["programs"] == 6
    assert 0 < covered["pairs_seen"] < covered["pairs_possible"]
    assert covered["programs_exhausted"] <= covered["programs"] <= 6
    assert covered["learning_runs"] >= 1
