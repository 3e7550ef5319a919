"""Schedulers: who waits for whom. Time passes only where a lock is held."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeWorld, call, fleet, run
from mcpconc.errors import UsageError
from mcpconc.history import EventType, History
from mcpconc.program import Program
from mcpconc.schedule import NAMES, Scheduler, is_controlled, make, members
from mcpconc.schedule import convoy as convoy_module
from mcpconc.schedule.barrier import Barrier
from mcpconc.schedule.convoy import Convoy
from mcpconc.schedule.free import JITTER, START_JITTER, Free

Lane = Callable[[], Awaitable[None]]


def program(*lengths: int) -> Program:
    """Lanes of so many calls, named ``agent.number``."""
    return Program(
        len(lengths),
        lanes=tuple(
            tuple(call(f"{agent}.{n}", agent=agent) for n in range(length))
            for agent, length in enumerate(lengths)
        ),
    )


def simulate(
    scheduler: Scheduler, lanes: Program, world: FakeWorld, answer: Callable[[str], Awaitable[None]]
) -> list[str]:
    """Run the lanes without servers, as the runner would; gives what left and what ended."""
    log: list[str] = []

    async def lane(agent: int) -> None:
        for one in lanes.lanes[agent]:
            await scheduler.admit(agent, one.id)
            log.append(f"sent {one.id}")
            scheduler.sent(agent, one.id)
            await answer(one.id)
            log.append(f"ended {one.id}")
            scheduler.ended(agent, one.id)
        scheduler.idle(agent)

    async def main() -> None:
        scheduler.begin(lanes, world)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as beside:
                beside.start_soon(scheduler.serve)
                async with anyio.create_task_group() as tasks:
                    for agent in range(lanes.agents):
                        tasks.start_soon(lane, agent)
                beside.cancel_scope.cancel()
        await scheduler.finish()

    anyio.run(main)
    return log


async def at_once(name: str) -> None:
    await anyio.lowlevel.checkpoint()


EACH = [name.replace("D", "3") for name in NAMES]


@pytest.mark.parametrize("name", EACH)
def test_every_name_makes_a_scheduler_that_says_what_it_is(name: str) -> None:
    made = make(name, 7)
    assert made.seed == 7
    assert made.name in members(name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown scheduler 'fifo': use one of free, barrier"):
        make("fifo", 0)


def test_mixed_is_all_of_them_in_turn_and_the_same_for_a_seed() -> None:
    names = [make("mixed", seed).name for seed in range(60)]
    assert set(names) == {"free", "barrier", "convoy"}
    assert names == [make("mixed", seed).name for seed in range(60)]


def test_the_portfolio_is_what_decides_inside_the_calls() -> None:
    names = [make("portfolio", seed).name for seed in range(60)]
    assert set(names) == set(members("portfolio")) == {"random", "pct:2", "pct:3", "pct:5"}
    assert all(is_controlled(name) for name in (*names, "portfolio", "replay", "replay:loose"))
    assert not any(is_controlled(name) for name in ("mixed", *members("mixed")))


@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_free_pauses_do_not_depend_on_who_asks_first(seed: int, asked: list[int]) -> None:
    one, other = Free(seed), Free(seed)
    pauses = {agent: one.pause(agent, f"{agent}.0") for agent in range(6)}
    assert {agent: other.pause(agent, f"{agent}.0") for agent in asked} == pauses


def test_free_starts_lanes_further_apart_than_calls() -> None:
    starts = [Free(seed).pause(0, "c") for seed in range(200)]
    later = Free(0)
    later._started.add(0)
    assert JITTER < max(starts) < START_JITTER
    assert max(later.pause(0, f"c{n}") for n in range(200)) < JITTER


def test_free_pauses_are_in_proportion_to_what_a_call_takes(tmp_path: Path) -> None:
    world, slow, quick = FakeWorld(tmp_path), Free(7), Free(7)
    slow.begin(program(2), world)
    world.call_seconds = 0.01
    quick.begin(program(2), world)
    assert quick.pause(0, "c") == pytest.approx(slow.pause(0, "c") / 100)


def test_barrier_sends_rounds(tmp_path: Path) -> None:
    log = simulate(Barrier(0), program(3, 1, 2), FakeWorld(tmp_path), at_once)
    sent = [entry for entry in log if entry.startswith("sent")]
    rounds = [set(sent[:3]), set(sent[3:5]), set(sent[5:])]
    assert rounds == [
        {"sent 0.0", "sent 1.0", "sent 2.0"},
        {"sent 0.1", "sent 2.1"},
        {"sent 0.2"},
    ]
    # Nobody is sent again before all of the last round have ended.
    assert log.index("ended 2.0") < log.index("sent 0.1")


def test_barrier_with_empty_lanes_waits_for_nobody(tmp_path: Path) -> None:
    assert len(simulate(Barrier(0), program(0, 2, 0), FakeWorld(tmp_path), at_once)) == 4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_barrier_always_comes_to_an_end(lengths: list[int]) -> None:
    lanes = program(*lengths)
    log = simulate(Barrier(0), lanes, FakeWorld(Path("/nowhere")), at_once)
    assert len(log) == 2 * lanes.concurrent()


def with_database(root: Path) -> FakeWorld:
    world = FakeWorld(root)
    world.databases["main"] = root / "main.db"
    with sqlite3.connect(root / "main.db") as connection:
        connection.execute("create table t (x)")
        connection.execute("pragma journal_mode=wal")
    connection.close()
    return world


def locked(world: FakeWorld) -> bool:
    connection = sqlite3.connect(world.databases["main"], timeout=0, isolation_level=None)
    try:
        connection.execute("begin immediate")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


def test_convoy_holds_the_lock_until_all_sleep(tmp_path: Path) -> None:
    world = with_database(tmp_path)
    seen: list[bool] = []

    async def write(name: str) -> None:
        seen.append(locked(world))
        world.asleep += 1
        while locked(world):
            await anyio.sleep(0.01)
        world.asleep -= 1

    scheduler = Convoy(0)
    log = simulate(scheduler, program(2, 2), world, write)
    assert seen == [True] * 4
    assert scheduler.held == 2
    assert [entry.split()[0] for entry in log] == ["sent", "sent", "ended", "ended"] * 2
    assert not locked(world)


def test_convoy_lets_go_when_all_have_answered(tmp_path: Path) -> None:
    scheduler = Convoy(0)
    simulate(scheduler, program(2, 1), with_database(tmp_path), at_once)
    assert scheduler.held == 2
    assert scheduler.remarks == []


def test_convoy_lets_go_after_a_while_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convoy_module, "HOLD", 0.2)
    world = with_database(tmp_path)

    async def busy(name: str) -> None:
        while locked(world):
            await anyio.sleep(0.02)

    scheduler = Convoy(0)
    simulate(scheduler, program(1, 1), world, busy)
    assert scheduler.remarks == ["round 1: the lock was let go after 0.2 s"]


def test_convoy_without_a_database_is_a_barrier_and_says_so(tmp_path: Path) -> None:
    scheduler = Convoy(0)
    log = simulate(scheduler, program(2, 2), FakeWorld(tmp_path), at_once)
    assert len(log) == 8
    assert "behaves as barrier" in scheduler.remarks[0]


def test_convoy_without_the_lock_sends_all_the_same_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convoy_module, "ACQUIRE", 0.01)
    world = with_database(tmp_path)
    holder = sqlite3.connect(world.databases["main"], isolation_level=None)
    holder.execute("begin immediate")
    scheduler = Convoy(0)
    log = simulate(scheduler, program(1, 1), world, at_once)
    holder.close()
    assert len(log) == 4
    assert scheduler.remarks == ["round 1 left without the lock: database is locked"]


def test_convoy_never_makes_a_database(tmp_path: Path) -> None:
    world = FakeWorld(tmp_path)
    world.databases["main"] = tmp_path / "absent.db"
    scheduler = Convoy(0)
    simulate(scheduler, program(1), world, at_once)
    assert "unable to open" in scheduler.remarks[0]
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_convoy_lets_go(tmp_path: Path) -> None:
    world = with_database(tmp_path)

    async def main() -> None:
        scheduler = Convoy(0)
        scheduler.begin(program(1), world)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.serve)
            await scheduler.admit(0, "0.0")
            scheduler.sent(0, "0.0")
            assert locked(world)
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert not locked(world)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("inflight", [1, 3])
def test_every_scheduler_drives_real_sessions(tmp_path: Path, name: str, inflight: int) -> None:
    async def main() -> History:
        async with fleet(tmp_path, agents=3) as (up, world):
            lanes = program(3, 2, 4).lanes
            return await run(up, world, Program(3, lanes=lanes, inflight=inflight), make(name, 1))

    history = anyio.run(main)
    assert sum(e.type is EventType.OK for e in history.events) == 9


def test_remarks_become_notes(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            return await run(up, world, program(1), make("convoy", 1))

    (note,) = anyio.run(main).notes("scheduler")
    assert "no database" in note.value["text"]
