"""Controlled schedulers, with a target that is nothing but its probe."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import FakeWorld
from mcpconc.program import Call, Program, Ref
from mcpconc.rig import Execution, rig
from mcpconc.schedule import controlled as controlled_module
from mcpconc.schedule import make
from mcpconc.schedule.controlled import Controlled
from mcpconc.schedule.points import Kill
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from piloting import Script, Target, controlled, piloted, program, run, say, transaction

Scripts = dict[str, Script]


def scheduler(name: str, seed: int = 0, *more: Any) -> Controlled:
    made = make(name, seed, *more)
    assert isinstance(made, Controlled)
    return made


def replay(done: Controlled, name: str = "replay") -> Controlled:
    return scheduler(name, 0, done.schedule)


def labels(done: Controlled) -> list[tuple[int, str]]:
    return [(step.agent, step.label) for step in done.steps]


TWO = program(["w"], ["w"])
WRITES: Scripts = {"w": say("a", "b", "c")}


# -- who moves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_one_thread_moves_at_a_time(tmp_path: Path, seed: int) -> None:
    moving: set[int] = set()
    met: list[set[int]] = []

    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            for label in "abcd":
                moving.add(agent)
                await anyio.sleep(0.001)
                met.append(set(moving))
                moving.discard(agent)
                await thread.at(label, writes=["x"])

    walk = scheduler("random", seed)
    piloted(tmp_path, {"w": script}, program(["w"], ["w"], ["w"]), walk)
    assert len(walk.steps) == 3 * 5
    assert all(len(together) == 1 for together in met)


def test_sending_a_call_is_a_step(tmp_path: Path) -> None:
    walk = scheduler("random")
    piloted(tmp_path, WRITES, program(["w", "w"]), walk)
    one = [(0, "invoke w"), (0, "a"), (0, "b"), (0, "c")]
    assert labels(walk) == one * 2
    assert walk.steps[0].thread == 0
    assert walk.steps[1].thread == 1


def test_what_was_done_is_what_was_decided(tmp_path: Path) -> None:
    walk = scheduler("random", 3)
    (log,) = piloted(tmp_path, WRITES, TWO, walk)
    assert [f"{agent} {label}" for agent, label in labels(walk) if label != "invoke w"] == log


def test_the_same_seed_decides_the_same_and_others_do_not(tmp_path: Path) -> None:
    walks = [scheduler("random", seed) for seed in (1, 1, 2, 3, 4, 5)]
    first, again, *others = piloted(tmp_path, WRITES, TWO, *walks)
    # What was learned in the first run changes nothing here: all that is touched matters.
    assert first == again
    assert any(other != first for other in others)


def test_what_touches_nothing_of_others_is_no_step_once_that_is_known(tmp_path: Path) -> None:
    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            await thread.at("reads", reads=["read only"])
            await thread.at("writes", writes=["x"])

    first, second = scheduler("random", 0), scheduler("random", 0)
    logs = piloted(tmp_path, {"w": script}, TWO, first, second)
    assert "reads" in {step.label for step in first.steps}
    assert {step.label for step in second.steps} == {"invoke w", "writes"}
    assert sorted(logs[0]) == sorted(logs[1])


def test_what_is_harmless_need_not_be_told_by_processes_that_begin(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            heard.append(await thread.at("start", kind="start"))
            await thread.at("reads", reads=["read only"])
            await thread.at("writes", writes=["x"])

    walks = [scheduler("random", seed) for seed in range(2)]
    piloted(tmp_path, {"w": script}, TWO, *walks)
    assert heard[:2] == [b"g\n"] * 2  # nothing was known of it
    assert heard[2:] == [b'g {"skip":["r:read only"]}\n'] * 2


def test_where_somebody_is_to_be_killed_all_is_told(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            heard.append(await thread.at("start", kind="start"))
            await thread.at("reads", reads=["read only"])

    first = scheduler("random")
    killing = scheduler("random", 0, (), [Kill(0, 1, "reads")])
    piloted(tmp_path, {"w": script}, TWO, first, killing)
    assert heard == [b"g\n"] * 4
    assert ["kill", 0, 1, "reads", 1] in killing.schedule


def test_a_lane_without_calls_is_nobody(tmp_path: Path) -> None:
    walk = scheduler("random")
    piloted(tmp_path, WRITES, program([], ["w"], []), walk)
    assert {step.agent for step in walk.steps} == {1}


def test_without_a_probe_it_says_what_it_does_instead(tmp_path: Path) -> None:
    walk = scheduler("random")
    walk.begin(TWO, FakeWorld(tmp_path))
    assert walk.remarks == ["no probe in the target: random behaves as free"]
    assert (list(walk.schedule), list(walk.steps)) == ([], [])


# -- replay ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "pct:2", "pct:5"])
def test_replay_does_the_same(tmp_path: Path, name: str) -> None:
    walks = [scheduler(name, seed) for seed in range(6)]
    done = piloted(tmp_path, WRITES, TWO, *walks)
    again = [replay(walk) for walk in walks]
    assert piloted(tmp_path, WRITES, TWO, *again) == done
    assert [one.schedule for one in again] == [walk.schedule for walk in walks]
    assert [one.remarks for one in again] == [[]] * len(walks)


def test_a_divergence_is_told_with_where_what_and_what_instead(tmp_path: Path) -> None:
    walk = scheduler("random", 3)
    piloted(tmp_path, WRITES, program(["w"]), walk)
    other = replay(walk)
    piloted(tmp_path, {"w": say("a", "B", "c")}, program(["w"]), other)
    assert other.remarks == [
        "replay diverged at step 2 of 4: thread 0.1 was to go on from 'b', but it stands at 'B'; "
        "it went on with whoever is first"
    ]
    assert [step.label for step in other.steps] == ["invoke w", "a", "B", "c"]


def test_a_replay_that_ends_too_early_is_told(tmp_path: Path) -> None:
    walk = scheduler("random", 3)
    piloted(tmp_path, WRITES, program(["w"]), walk)
    other = replay(walk)
    piloted(tmp_path, {"w": say("a")}, program(["w"]), other)
    assert other.remarks == ["replay diverged at step 2 of 4: the run was over"]


def test_replay_goes_on_at_random_where_that_is_wanted(tmp_path: Path) -> None:
    prefix = [[1, 0, "invoke w"], [1, 1, "a"], [0, 0, "invoke w"]]
    runs = [scheduler("replay+random", seed, prefix) for seed in range(8)]
    logs = piloted(tmp_path, WRITES, TWO, *runs)
    assert {log[0] for log in logs} == {"1 a"}
    assert len({tuple(log) for log in logs}) > 1
    assert not any(one.remarks for one in runs)


# -- locks -------------------------------------------------------------------------------------


class Locks:
    """Databases with write locks, which nobody may ever be let go to wait for."""

    def __init__(self) -> None:
        self.holder: dict[str, int] = {}
        self.waited: list[str] = []

    def script(self, *databases: str) -> Script:
        async def script(target: Target, agent: int) -> None:
            held: list[str] = []
            async with target.thread(agent) as thread:
                for db in databases:
                    await thread.at("BEGIN", db=db, needs="write", holds=held, writes=[f"{db}:t"])
                    if db in self.holder:
                        self.waited.append(db)
                    self.holder[db] = agent
                    held.append(db)
                    await thread.at("other", holds=held, writes=["x"])
                for db in databases:
                    await thread.at("COMMIT", db=db, needs="commit", holds=held)
                    held.remove(db)
                    self.holder.pop(db, None)

        return script


def test_nobody_is_let_go_to_wait_for_a_lock(tmp_path: Path) -> None:
    locks = Locks()
    walks = [scheduler("random", seed) for seed in range(30)]
    piloted(tmp_path, {"w": locks.script("db")}, program(["w"], ["w"], ["w"]), *walks)
    assert locks.waited == []
    assert [walk.remarks for walk in walks] == [[]] * 30
    inside = [
        walk
        for walk in walks
        if any(
            one.agent != other.agent and "db" in one.holds
            for one, other in zip(walk.steps, walk.steps[1:], strict=False)
        )
    ]
    assert inside  # others went on inside a transaction


def test_who_let_go_of_the_lock_and_waits_for_a_child_holds_up_nobody(tmp_path: Path) -> None:
    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent, "parent") as parent:
            await parent.at("BEGIN", db="db", needs="write", writes=["db:t"])
            await parent.at("COMMIT", db="db", needs="commit", holds=["db"])
            async with target.thread(agent, "child") as child:
                await child.at("BEGIN", db="db", needs="write", writes=["db:t"])

    walk = scheduler("random")
    piloted(tmp_path, {"w": script}, TWO, walk)
    assert list(walk.notes) == []
    assert walk.remarks == []


CROSSED: Scripts = {"ab": transaction("a.db", "b.db"), "ba": transaction("b.db", "a.db")}
INTO_IT = [[0, 0, "invoke ab"], [1, 0, "invoke ba"], [0, 1, "BEGIN a.db"], [1, 1, "BEGIN b.db"]]


def test_a_deadlock_is_noted_with_who_waits_for_whom_and_let_go(tmp_path: Path) -> None:
    crossing = scheduler("replay", 0, INTO_IT)
    (log,) = piloted(tmp_path, CROSSED, program(["ab"], ["ba"]), crossing)
    ((what, more),) = crossing.notes
    assert what == "deadlock"
    edges = [(e["agent"], e["call"], e["label"], e["path"]) for e in more["edges"]]
    assert edges == [(0, "0.0", "BEGIN b.db", "b.db"), (1, "1.0", "BEGIN a.db", "a.db")]
    assert [e["held_by"][0]["agent"] for e in more["edges"]] == [1, 0]
    assert "everybody waits for a lock: agent 0 at 'BEGIN b.db' for b.db" in crossing.remarks[0]
    assert len(log) == 8  # and yet all came to an end


def test_a_deadlock_is_one_too_where_processes_have_more_threads(tmp_path: Path) -> None:
    """What a process holds, all its threads hold; that one of them does not stand says nothing."""

    def crossed(first: str, then: str) -> Script:
        async def script(target: Target, agent: int) -> None:
            pid = 2**22 + 7 * 2**20 + agent
            async with target.thread(agent, pid=pid) as idle, target.thread(agent, pid=pid) as one:
                await idle.at("idle")
                await one.at(f"BEGIN {first}", db=first, needs="write")
                await one.at(f"BEGIN {then}", db=then, needs="write", holds=[first])

        return script

    second = [
        [agent, 2, label] if thread else [agent, 0, label] for agent, thread, label in INTO_IT
    ]
    crossing = scheduler("replay", 0, second)
    scripts = {"ab": crossed("a.db", "b.db"), "ba": crossed("b.db", "a.db")}
    piloted(tmp_path, scripts, program(["ab"], ["ba"]), crossing)
    assert [what for what, _ in crossing.notes] == ["deadlock"]


def test_locks_in_one_order_are_no_deadlock(tmp_path: Path) -> None:
    walks = [scheduler("random", seed) for seed in range(10)]
    piloted(tmp_path, CROSSED, program(["ab"], ["ab"]), *walks)
    assert not any(walk.notes for walk in walks)


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_process_is_killed_at_the_point_that_was_asked_for(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def script(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            while (answer := await thread.at("again", writes=["x"])) == b"g\n":
                heard.append(answer)
            heard.append(answer)

    kill = Kill(0, 1, "again", 3)
    killing = scheduler("random", 0, (), [kill])
    piloted(tmp_path, {"w": script}, program(["w"]), killing)
    assert heard == [b"g\n", b"g\n", b"k\n"]
    assert killing.schedule[-1] == kill.to_json()
    assert list(killing.notes) == [("fault", {"fault": "killed", "at": kill.to_json()})]
    heard.clear()
    again = replay(killing)
    piloted(tmp_path, {"w": script}, program(["w"]), again)
    assert heard == [b"g\n", b"g\n", b"k\n"]
    assert (again.schedule, again.remarks) == (killing.schedule, [])


def test_a_process_that_dies_where_it_stands_holds_up_nobody(tmp_path: Path) -> None:
    async def dies(target: Target, agent: int) -> None:
        async with target.thread(agent) as thread:
            await thread.at("a", writes=["x"])
            await thread.say({"at": {"kind": "sql", "label": "its last", "writes": ["x"]}})

    walks = [scheduler("random", seed) for seed in range(5)]
    logs = piloted(tmp_path, {**WRITES, "dies": dies}, program(["dies"], ["w"]), *walks)
    assert all([entry for entry in log if entry[0] == "1"] == ["1 a", "1 b", "1 c"] for log in logs)


def test_garbage_is_a_remark_and_the_others_go_on(tmp_path: Path) -> None:
    async def mad(target: Target, agent: int) -> None:
        async with target.thread(agent, "mad") as thread:
            await thread.at("a", writes=["x"])
            await thread.stream.send(b"{]\n")

    walk = scheduler("random")
    (log,) = piloted(tmp_path, {**WRITES, "mad": mad}, program(["mad"], ["w"]), walk)
    assert [entry for entry in log if entry[0] == "1"] == ["1 a", "1 b", "1 c"]
    (remark,) = walk.remarks
    assert remark.startswith("the probe: mad (agent 0, process")


def test_a_call_that_says_nothing_and_sleeps_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controlled_module, "UNSEEN", 0.05)
    over = threading.Event()

    async def silent(target: Target, agent: int) -> None:
        while not over.is_set():
            await anyio.sleep(0.01)

    async def other(target: Target, agent: int) -> None:
        await WRITES["w"](target, agent)
        over.set()

    started = [[0, 0, "invoke silent"]]
    walk = scheduler("replay", 0, started)
    piloted(tmp_path, {"silent": silent, "w": other}, program(["silent"], ["w"]), walk)
    assert walk.remarks == ["agent 0 waits for something that the probe does not show"]


def test_if_the_run_is_cut_off_everybody_goes_on(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with (
            controlled(tmp_path, WRITES) as (control, target),
            target.thread(0) as thread,
        ):
            lanes: Program = program(["forever"])

            async def forever(target: Target, agent: int) -> None:
                scope.cancel()
                await anyio.sleep_forever()

            target.scripts = {"forever": forever}
            with anyio.CancelScope() as scope:
                await run(control, target, lanes, scheduler("random"))
            await thread.at("after it")
            return list(target.log)

    assert anyio.run(main) == ["0 after it"]


# -- threads -----------------------------------------------------------------------------------


def spawning(*names: str) -> Script:
    """A call that does what it does in several threads of one process at a time."""

    async def script(target: Target, agent: int) -> None:
        async def work(name: str) -> None:
            async with target.thread(agent, name, 2**22) as thread:
                for n in range(3):
                    await thread.at(f"{name}{n}", writes=["x"])

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(work, name)

    return script


def orders(logs: Sequence[list[str]]) -> set[tuple[str, ...]]:
    return {tuple(log) for log in logs}


def test_threads_of_one_agent_are_scheduled_each_by_itself(tmp_path: Path) -> None:
    walks = [scheduler("random", seed) for seed in range(6)]
    logs = piloted(tmp_path, {"w": spawning("p", "q")}, program(["w"]), *walks)
    assert len(orders(logs)) > 1
    assert {step.thread for step in walks[0].steps} == {0, 1, 2}
    for log in logs:
        assert [entry for entry in log if "p" in entry] == ["0 p0", "0 p1", "0 p2"]
    again = [replay(walk) for walk in walks]
    assert piloted(tmp_path, {"w": spawning("p", "q")}, program(["w"]), *again) == logs
    assert not any(one.remarks for one in again)


def leaving(*labels: str) -> Script:
    """A call that is answered while a process which it began goes on, with these labels."""

    async def script(target: Target, agent: int) -> None:
        async def later() -> None:
            async with target.thread(agent, "later") as thread:
                begun.set()
                for label in labels:
                    await thread.at(label, writes=["x"])

        begun = anyio.Event()
        async with target.thread(agent, "call") as thread:
            await thread.at("a", writes=["x"])
            target.beside.start_soon(later)
            await begun.wait()
            await thread.at("b", writes=["x"])

    return script


@pytest.mark.parametrize("seed", range(4))
def test_what_a_call_leaves_at_work_is_controlled_to_its_end(tmp_path: Path, seed: int) -> None:
    scripts = {"w": leaving("later a", "later b")}
    walk = scheduler("random", seed)
    (log,) = piloted(tmp_path, scripts, program(["w"], ["w", "w"]), walk)
    assert [f"{agent} {label}" for agent, label in labels(walk) if label != "invoke w"] == log
    assert len(log) == 3 * 4
    again = replay(walk)
    assert piloted(tmp_path, scripts, program(["w"], ["w", "w"]), again) == [log]
    assert again.remarks == []


def test_what_goes_on_for_ever_is_let_go_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controlled_module, "LEFT", 0.2)
    over = threading.Event()

    async def for_ever(target: Target, agent: int) -> None:
        async def later() -> None:
            async with target.thread(agent, "later") as thread:
                begun.set()
                while not over.is_set():
                    await thread.at("again", writes=["x"])

        begun = anyio.Event()
        async with target.thread(agent) as thread:
            target.beside.start_soon(later)
            await begun.wait()
            await thread.at("a", writes=["x"])

    class Ends(Controlled):
        async def finish(self) -> None:
            await super().finish()
            over.set()

    walk = scheduler("random")
    walk.__class__ = Ends
    piloted(tmp_path, {"w": for_ever}, program(["w"]), walk)
    assert walk.remarks == ["what calls left at work ran freely after 0.2 s"]


def test_the_number_of_a_thread_that_ended_is_not_given_to_another(tmp_path: Path) -> None:
    async def one_after_the_other(target: Target, agent: int) -> None:
        for label in "ab":
            async with target.thread(agent) as thread:
                await thread.at(label, writes=["x"])

    walk = scheduler("random")
    piloted(tmp_path, {"w": one_after_the_other}, program(["w", "w"]), walk)
    assert [(step.thread, step.label) for step in walk.steps] == [
        (0, "invoke w"),
        (1, "a"),
        (2, "b"),
    ] * 2


# -- the reference server ----------------------------------------------------------------------


def completing() -> Program:
    """Two agents complete two tasks of one goal."""
    goal = Ref("g", "goal_id")
    prefix = (
        Call("s", 0, "session_create", {"ai_id": "a"}),
        Call("g", 0, "goals_create", {"objective": "o", "session_id": Ref("s", "session_id")}),
        Call("t", 0, "goals_add_task", {"goal_id": goal, "description": "one"}),
        Call("u", 0, "goals_add_task", {"goal_id": goal, "description": "two"}),
    )
    lanes = tuple(
        (Call(f"c{n}", n, "goals_complete_task", {"task_id": Ref(task, "task_id")}),)
        for n, task in enumerate("tu")
    )
    return Program(2, prefix=prefix, lanes=lanes)


def test_a_race_of_the_reference_server_is_found_and_replayed(tmp_path: Path) -> None:
    async def main() -> tuple[list[Execution], list[Execution]]:
        target = ReferenceTarget.with_bug("two-constraints")
        found, again = [], []
        async with rig(
            target, Identity.ISOLATED, 2, tmp_path, lambda line: None, probe="control"
        ) as on:
            for seed in range(8):
                found.append(await on.run(completing(), scheduler("random", seed), 0))
                follow = scheduler("replay", 0, found[-1].schedule)
                again.append(await on.run(completing(), follow, 0))
                assert follow.remarks == []
        return found, again

    found, again = anyio.run(main)
    assert [one.schedule for one in again] == [one.schedule for one in found]
    assert [one.heads() for one in again] == [one.heads() for one in found]
    assert {bool(one.heads()) for one in found} == {True, False}
