"""What a run leaves behind is seen, and the next run does not suffer from it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes.processes import until
from mcpconc import locks, procs
from mcpconc.aftermath import lock_files
from mcpconc.oracle.liveness import liveness
from mcpconc.oracle.resources import resources
from mcpconc.program import Call, Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.target.base import Identity
from mcpconc.target.command import CommandTarget
from runs import heads

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parents[1] / "fakes" / "messy_server.py"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def messy(tmp_path: Path, agents: int = 1, **more: Any) -> AsyncIterator[Rig]:
    argv = f'"{{python}}", "-S", "{SERVER}", "{{root}}"'
    described = {"call_timeout": 2, "rest_timeout": 0.4, "question": '{ tool = "look" }', **more}
    lines = [f"{key} = {value}" for key, value in described.items()]
    (tmp_path / "t.toml").write_text(
        "\n".join([*lines, 'databases = { main = "main.db" }', 'repository = "."'])
        + f"\n[server]\nargv = [{argv}]\n[prepare]\ncommands = [[{argv}, 'prepare']]\n"
    )
    target = CommandTarget.load(tmp_path / "t.toml")
    async with rig(target, Identity.EXPLICIT, agents, tmp_path / "work", lambda text: None) as on:
        yield on


def program(*calls: tuple[int, str, dict[str, Any]], at_once: bool = False) -> Program:
    made = [Call(f"c{n}", agent, tool, args) for n, (agent, tool, args) in enumerate(calls)]
    agents = 1 + max(call.agent for call in made)
    if not at_once:
        return Program(agents, prefix=tuple(made))
    lanes = tuple(tuple(c for c in made if c.agent == agent) for agent in range(agents))
    return Program(agents, lanes=lanes, inflight=3)


async def run(on: Rig, *calls: tuple[int, str, dict[str, Any]], **more: Any) -> Execution:
    return await on.run(program(*calls, **more), "barrier", 0)


def left(execution: Execution) -> list[tuple[str, str, str]]:
    return heads(liveness(execution.run))


# -- the world after a run ---------------------------------------------------------------------


async def test_a_run_that_leaves_nothing(tmp_path):
    async with messy(tmp_path) as on:
        execution = await run(on, (0, "look", {}))
        (note,) = execution.run.history.notes("aftermath")
        assert note.value == {"what": "aftermath", "quiescent": True}
        assert execution.run.history.events[-1].value["what"] == "run-ended"
        assert left(execution) == []


async def test_an_orphan_is_found_and_gone_in_the_next_run(tmp_path):
    async with messy(tmp_path) as on:
        pid = on.fleet.sessions[0].pid
        execution = await run(on, (0, "spawn", {"seconds": 1000}))
        assert left(execution) == [("orphan", "sleep", "")]
        assert liveness(execution.run).findings[0].calls == ("c0",)
        assert left(await run(on, (0, "look", {}))) == []
        assert on.fleet.sessions[0].pid == pid


async def test_a_worker_that_ends_by_itself_is_no_orphan(tmp_path):
    async with messy(tmp_path, rest_timeout=20) as on:
        assert left(await run(on, (0, "spawn", {"seconds": 0.3}))) == []


async def test_workers_that_end_one_after_another_are_progress(tmp_path):
    async with messy(tmp_path, rest_timeout=1.0) as on:
        queue = [(0, "spawn", {"seconds": seconds}) for seconds in (0.6, 1.2, 1.8)]
        assert left(await run(on, *queue)) == []


async def test_a_transaction_that_is_left_open_is_found_with_its_owner(tmp_path):
    async with messy(tmp_path, agents=2) as on:
        execution = await run(on, (1, "lock_database", {}), (0, "look", {}))
        assert left(execution) == [("database-locked", "main", "")]
        (found,) = liveness(execution.run).findings
        assert "of agent 1" in found.reason[0]
        assert found.calls == ("c0",)
        innocent, guilty = (session.pid for session in on.fleet.sessions)
        assert left(await run(on, (0, "look", {}))) == []
        assert on.fleet.sessions[0].pid == innocent
        assert on.fleet.sessions[1].pid != guilty


async def test_a_connection_that_stays_open_locks_nothing(tmp_path):
    async with messy(tmp_path) as on:
        assert left(await run(on, (0, "keep_open", {}))) == []


async def test_a_lock_file_in_git_is_found_unless_the_template_has_it(tmp_path):
    async with messy(tmp_path) as on:
        execution = await run(on, (0, "lock_ref", {}))
        assert left(execution) == [("lock-file-left", "refs/*", "")]


async def test_a_file_lock_is_found_once_and_is_no_news_later(tmp_path):
    async with messy(tmp_path) as on:
        execution = await run(on, (0, "lock_file", {"names": ["a.lock"]}))
        assert left(execution) == [("lock-held", "a.lock", "")]
        assert left(await run(on, (0, "look", {}))) == []


# -- who answers nobody, who waits for whom ----------------------------------------------------


async def test_a_server_that_hangs_is_asked_and_found_stuck(tmp_path):
    async with messy(tmp_path, agents=2, call_timeout=0.7) as on:
        execution = await run(on, (1, "look", {}), (1, "freeze", {}), (0, "look", {}))
        assert left(execution) == [("stuck", "server", "")]
        (note,) = execution.run.history.notes("asked")
        assert note.agent == 1
        assert note.value["said"] == {"ping": "no answer", "look": "no answer"}
        assert left(await run(on, (1, "look", {}))) == []


async def test_a_deadlock_of_two_servers(tmp_path):
    async with messy(tmp_path, agents=2) as on:
        execution = await run(
            on,
            (0, "lock_file", {"names": ["a", "b"], "pause": 0.5}),
            (1, "lock_file", {"names": ["b", "a"], "pause": 0.5}),
            at_once=True,
        )
        assert left(execution) == [("deadlock", "a + b", "")]
        (found,) = liveness(execution.run).findings
        assert found.reason == (
            "agent 0 waits for the lock on b, held by agent 1.",
            "agent 1 waits for the lock on a, held by agent 0.",
        )
        assert left(await run(on, (0, "look", {}))) == []


# -- what the servers weigh --------------------------------------------------------------------


async def test_memory_that_is_kept_is_found_in_a_warm_server(tmp_path):
    hoard = [(0, "hoard", {"mib": 16})] * 3
    async with messy(tmp_path) as on:
        cold = await run(on, *hoard)
        assert heads(resources(cold.run)) == []
        warm = await run(on, *hoard)
        assert heads(resources(warm.run)) == [("memory-growth", "server", "")]


async def test_the_note_says_what_a_server_has_done_before(tmp_path):
    async with messy(tmp_path, agents=2) as on:
        await run(on, (0, "look", {}))
        execution = await run(on, (0, "look", {}), (0, "keep_open", {}), (1, "look", {}))
        (note,) = execution.run.history.notes("resources")
        assert note.value["warm"] == {"0": ["look"], "1": []}
        assert set(note.value["memory"]) == {"0", "1"}
        assert all(first > 0 for first, _ in note.value["memory"].values())


# -- the pieces --------------------------------------------------------------------------------


def test_a_locked_database_and_its_holder(tmp_path):
    database = tmp_path / "x.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (v)")
        assert not locks.stays_locked(database, 0.0)
        connection.execute("BEGIN IMMEDIATE")
        assert locks.stays_locked(database, 0.0)
        assert locks.holders(database, locks.listed()) == {os.getpid()}
        connection.execute("ROLLBACK")
        assert not locks.stays_locked(database, 0.0)


def test_a_reader_that_stays_locks_a_database_with_a_rollback_journal(tmp_path):
    database = tmp_path / "x.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.execute("INSERT INTO t VALUES (1), (2)")
        reading = connection.execute("SELECT * FROM t")
        reading.fetchone()
        assert locks.stays_locked(database, 0.0)
        assert locks.holders(database, locks.listed()) == {os.getpid()}


def test_a_database_that_is_not_there_is_not_locked_and_not_made(tmp_path):
    assert not locks.stays_locked(tmp_path / "x.db", 0.0)
    assert not (tmp_path / "x.db").exists()


def test_held_locks_are_seen_with_their_file(tmp_path):
    with (tmp_path / "a").open("w") as a, (tmp_path / "b").open("w"):
        assert list(locks.held(os.getpid(), tmp_path)) == []
        fcntl.flock(a, fcntl.LOCK_SH)
        assert list(locks.held(os.getpid(), tmp_path)) == [str(tmp_path / "a")]
        assert list(locks.held(os.getpid(), tmp_path / "elsewhere")) == []


async def test_who_waits_shares_the_number_of_the_lock(tmp_path):
    wait = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX)"
    with (tmp_path / "a").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        argv = [sys.executable, "-S", "-c", wait, str(tmp_path / "a")]
        with subprocess.Popen(argv) as waiter:  # noqa: ASYNC220
            with anyio.fail_after(30):
                while not (found := [k for k in locks.listed() if k.pid == waiter.pid]):
                    await anyio.sleep(0.01)
            (request,) = found
            assert request.waits
            granted = [k for k in locks.listed() if k.number == request.number and not k.waits]
            assert [k.pid for k in granted] == [os.getpid()]
            assert locks.open_inodes(waiter.pid)[request.inode] == str(tmp_path / "a")
            fcntl.flock(held, fcntl.LOCK_UN)
            assert waiter.wait(30) == 0


def test_lock_files_are_found_everywhere_but_among_objects(tmp_path):
    for name in ("index.lock", "refs/notes/x.lock", "objects/info/g.lock", "objects/ab/c.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert lock_files(tmp_path) == ["index.lock", "objects/info/g.lock", "refs/notes/x.lock"]
    assert lock_files(None) == []


def test_memory_and_environment_of_a_process():
    with subprocess.Popen(["sleep", "30"], env={"PATH": os.defpath, "WHO": "3.1"}) as child:
        try:
            until(lambda: procs.command_line(child.pid) == "sleep 30")
            assert procs.variable(child.pid, "WHO") == "3.1"
            assert procs.variable(child.pid, "WH") == ""
            assert 0 < procs.resident([child.pid]) < procs.resident([child.pid, os.getpid()])
        finally:
            child.kill()
    assert procs.resident([child.pid]) == 0
