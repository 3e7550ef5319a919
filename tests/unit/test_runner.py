"""How a program goes through a fleet: order, overlap, references, restarts, and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from fakes import FakeWorld, alone, call, fleet, run
from mcpconc.drive.record import ENDED, Recorder, read_history
from mcpconc.errors import InvariantError, TargetError
from mcpconc.history import EventType, History, Outcome, Phase
from mcpconc.program import Call, Program, Ref
from mcpconc.schedule import make
from mcpconc.schedule.free import Free


def drive(root: Path, program: Program, *modes: str) -> History:
    async def main() -> History:
        async with fleet(root, *modes, agents=program.agents) as (up, world):
            return await run(up, world, program)

    return anyio.run(main)


def order(history: History) -> list[str]:
    return [f"{e.type.value} {e.call}" for e in history.events if e.call]


def test_prefix_then_lanes_then_suffix(tmp_path: Path) -> None:
    program = Program(
        2,
        prefix=(call("p0"), call("p1", agent=1)),
        lanes=((call("a"),), (call("b", agent=1),)),
        suffix=(call("s", agent=1),),
    )
    history = drive(tmp_path, program)
    listed = order(history)
    assert listed[:4] == ["invoke p0", "ok p0", "invoke p1", "ok p1"]
    assert sorted(listed[4:8]) == ["invoke a", "invoke b", "ok a", "ok b"]
    assert listed[8:] == ["invoke s", "ok s"]
    phases = [op.phase for op in history.operations]
    assert phases == [Phase.PREFIX] * 2 + [Phase.LANE] * 2 + [Phase.SUFFIX]


def test_lanes_overlap_and_calls_of_one_lane_do_not(tmp_path: Path) -> None:
    lanes = tuple(
        tuple(call(f"{agent}{n}", "slow", agent, seconds=0.2) for n in range(2))
        for agent in range(3)
    )
    history = drive(tmp_path, Program(3, lanes=lanes))
    ops = {op.call: op for op in history.operations}
    assert not ops["00"].precedes(ops["10"])
    assert not ops["10"].precedes(ops["00"])
    assert all(ops[f"{agent}0"].precedes(ops[f"{agent}1"]) for agent in range(3))


def test_at_most_inflight_calls_of_a_lane_are_unanswered(tmp_path: Path) -> None:
    calls = [call(f"c{n}", "slow", seconds=0.05) for n in range(6)]
    history = drive(tmp_path, alone(*calls, inflight=2))
    now, most = 0, 0
    for event in history.events:
        if event.call:
            now += 1 if event.type is EventType.INVOKE else -1
        most = max(most, now)
    assert most == 2


def test_references_are_bound_to_earlier_responses(tmp_path: Path) -> None:
    program = Program(
        1, prefix=(call("p", goal_id="g1"),), lanes=((call("a", goal=Ref("p", "goal_id")),),)
    )
    assert drive(tmp_path, program).operations[1].args == {"goal": "g1"}


def test_a_reference_into_the_own_lane_waits_for_its_answer(tmp_path: Path) -> None:
    lane = (
        call("a", "slow", seconds=0.3, id="x"),
        call("b", other=Ref("a", "id")),
        call("c"),
    )
    history = drive(tmp_path, alone(*lane, inflight=3))
    a, b, _ = history.operations
    assert b.args == {"other": "x"}
    assert a.precedes(b)


def test_a_reference_to_an_unanswered_call_of_another_lane_is_unbound(tmp_path: Path) -> None:
    program = Program(
        2,
        lanes=(
            (call("a", "slow", seconds=0.5, id="x"),),
            (call("b", agent=1, other=Ref("a", "id")),),
        ),
    )
    history = drive(tmp_path, program)
    assert [op.call for op in history.operations] == ["a"]
    assert "fail b" in order(history)


def test_the_schedule_and_the_end_are_noted(tmp_path: Path) -> None:
    history = drive(tmp_path, alone(call("a")))
    (schedule,) = history.notes("schedule")
    assert (schedule.value["name"], schedule.value["seed"]) == ("barrier", 0)
    assert history.events[-1].value["what"] == ENDED


def test_quiescence_comes_between_lanes_and_suffix(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            with Recorder(None) as recorder:

                async def quiesce() -> None:
                    recorder.note("quiet")

                program = Program(1, lanes=((call("a"),),), suffix=(call("s"),))
                return await up.run(program, make("free", 0), recorder, world, quiesce)

    history = anyio.run(main)
    (quiet,) = history.notes("quiet")
    a, s = history.operations
    assert a.returned is not None
    assert a.returned < quiet.index < s.invoked


def test_a_world_that_does_not_come_to_rest_is_noted(tmp_path: Path) -> None:
    async def restless() -> bool:
        return False

    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            with Recorder(None) as recorder:
                return await up.run(alone(call("a")), make("free", 0), recorder, world, restless)

    assert len(anyio.run(main).notes("not-quiescent")) == 1


def test_a_watch_sees_the_whole_run_and_has_the_last_word(tmp_path: Path) -> None:
    class Watch:
        def __init__(self, recorder: Recorder) -> None:
            self.recorder = recorder

        async def serve(self) -> None:
            self.recorder.note("watching")
            await anyio.sleep_forever()

        async def afterwards(self) -> None:
            self.recorder.note("afterwards")

    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            with Recorder(None) as recorder:
                program = Program(1, prefix=(call("p"),), suffix=(call("s"),))
                watch = Watch(recorder)
                return await up.run(program, make("free", 0), recorder, world, world.quiesce, watch)

    what = [event.value.get("what", event.call) for event in anyio.run(main).events]
    assert what == ["watching", "p", "p", "s", "s", "afterwards", ENDED]


def test_a_dead_server_is_restarted_for_the_suffix(tmp_path: Path) -> None:
    program = Program(1, lanes=((call("a", "unlucky"), call("b")),), suffix=(call("s"),))
    history = drive(tmp_path, program, "dies")
    assert order(history) == ["invoke a", "info a", "invoke b", "fail b", "invoke s", "ok s"]
    assert [n.value["why"] for n in history.notes("server-restarted")] == ["dead"]


def test_servers_stay_up_between_runs_and_the_unsound_are_restarted(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path, "good", "twice") as (up, world):
            before = [s.pid for s in up.sessions]
            misbehave = Program(2, lanes=((call("a"),), (call("b", "unlucky", agent=1),)))
            await run(up, world, misbehave)
            await anyio.sleep(0.1)
            history = await run(up, world, alone(call("a"), agents=2))
            after = [s.pid for s in up.sessions]
            assert before[0] == after[0]
            assert before[1] != after[1]
            assert [(n.agent, n.value["why"]) for n in history.notes("server-restarted")] == [
                (1, "unsound")
            ]
            assert world.servers == set(after)

    anyio.run(main)


def test_a_fleet_can_start_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path, agents=2) as (up, world):
            before = {s.pid for s in up.sessions}
            await up.restart()
            assert before.isdisjoint(world.processes())
            history = await run(up, world, alone(call("a"), agents=2))
            assert history.operations[0].outcome is Outcome.SUCCESS

    anyio.run(main)


def test_one_server_that_does_not_come_up_ends_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path, "good", "exits", "good"):
            pytest.fail("the fleet is up")

    with pytest.raises(TargetError, match="agent 1"):
        anyio.run(main)
    assert FakeWorld(tmp_path).left() == []


def test_an_exception_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        anyio.run(main)
    assert FakeWorld(tmp_path).left() == []


def test_a_program_for_more_agents_than_there_are_is_our_bug(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path) as (up, world):
            await run(up, world, alone(call("a"), agents=2))

    with pytest.raises(InvariantError, match="2 agents"):
        anyio.run(main)


def test_a_scheduler_that_breaks_is_told_as_it_is(tmp_path: Path) -> None:
    class Broken(Free):
        async def admit(self, agent: int, call: str) -> None:
            raise InvariantError("broken scheduler")

    async def main() -> None:
        async with fleet(tmp_path) as (up, world):
            await run(up, world, alone(call("a")), Broken(0))

    with pytest.raises(InvariantError, match="broken scheduler"):
        anyio.run(main)


@pytest.mark.parametrize("phase", ["prefix", "lanes"])
def test_cancelling_in_mid_call_leaves_a_history_and_no_process(tmp_path: Path, phase: str) -> None:
    slow = tuple(call(f"c{agent}", "slow", agent, seconds=60) for agent in range(3))
    program = (
        Program(3, prefix=slow)
        if phase == "prefix"
        else Program(3, lanes=tuple((c,) for c in slow))
    )

    async def main() -> None:
        async with (
            fleet(tmp_path, "lingers 60", agents=3) as (up, world),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(run, up, world, program)
            while not any(s.inflight for s in up.sessions):
                await anyio.sleep(0.01)
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert FakeWorld(tmp_path).left() == []
    (log,) = tmp_path.glob("history-*.jsonl")
    events, complete = read_history(log)
    assert complete
    ends = [e for e in events if e.type is EventType.INFO]
    assert {e.value["why"] for e in ends} == {"cancelled"}
    assert len(ends) == (1 if phase == "prefix" else 3)


def test_cancelling_while_servers_start_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.5):
            async with fleet(tmp_path, "never-answers", agents=6):
                pytest.fail("the fleet is up")

    anyio.run(main)
    assert FakeWorld(tmp_path).left() == []


KILLED = """
import sys
from pathlib import Path
import anyio
from fakes import call, fleet, run
from mcpconc.program import Program

async def main():
    async with fleet(Path(sys.argv[1]), agents=3) as (up, world):
        lanes = tuple(
            (call(f"{a}0", agent=a), call(f"{a}1", "slow", a, seconds=60)) for a in range(3)
        )
        await run(up, world, Program(3, lanes=lanes))

anyio.run(main)
"""


def test_after_sigkill_the_history_is_readable_and_the_servers_end(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    driver = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=env)
    log = tmp_path / "history-0.jsonl"
    wait_for(lambda: log.exists() and len(read_history(log)[0]) == 10)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    events, _ = read_history(log)
    ops = History.of(events).operations
    assert {op.call: op.answered for op in ops} == {
        f"{a}{n}": n == 0 for a in range(3) for n in range(2)
    }
    world = FakeWorld(tmp_path)
    wait_for(lambda: not world.processes())


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_fifty_sessions(tmp_path: Path) -> None:
    lanes = tuple(
        tuple(call(f"{agent}-{n}", agent=agent, word=f"{agent}-{n}") for n in range(3))
        for agent in range(50)
    )
    history = drive(tmp_path, Program(50, lanes=lanes))
    assert len(history.operations) == 150
    assert all(op.data["word"] == op.call for op in history.operations)


def test_history_and_file_agree(tmp_path: Path) -> None:
    calls: tuple[Call, ...] = (call("a"), call("b", "refuse"))
    history = drive(tmp_path, alone(*calls))
    (log,) = tmp_path.glob("history-*.jsonl")
    assert read_history(log) == (history.events, True)
