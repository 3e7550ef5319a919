"""Worlds: put back at the same path, only when nobody is at work."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from mcpconc import procs, tree
from mcpconc import world as worlds
from mcpconc.errors import InvariantError, TargetError, UsageError
from mcpconc.target.base import MARKER, Identity
from mcpconc.target.command import CommandTarget
from mcpconc.world import World, world

pytestmark = pytest.mark.anyio

PREPARE = """
import os, sqlite3
os.makedirs("ws/empty")
open("ws/a.txt", "w").write("template")
connection = sqlite3.connect("data/main.db", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE t (v)")
connection.execute("INSERT INTO t VALUES ('template')")
connection.close()
"""

SERVER = """
import os, sqlite3, subprocess, sys, threading, time
NAP = "import threading as t, time; t.Thread(target=time.sleep, args=(30,)).start(); time.sleep(30)"
print("up", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "detach":
        subprocess.Popen(["sleep", "0.4"], start_new_session=True, stdout=subprocess.DEVNULL)
    elif word == "linger":
        subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL)
    elif word == "write":
        open("ws/new.txt", "w").write("new")
        connection = sqlite3.connect("data/main.db", isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO t VALUES ('run')")
        os._exit(0) if line.endswith("!") else connection.close()
    elif word == "hold":
        held = sqlite3.connect("data/main.db")
        held.execute("SELECT * FROM t").fetchall()
    elif word == "nap":
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    elif word == "nap-outside":
        subprocess.Popen([sys.executable, "-S", "-c", NAP], stdout=subprocess.DEVNULL)
    elif word == "spin":
        while True:
            pass
    print("done", flush=True)
"""

TOML = """
databases = {{ main = "data/main.db" }}
files = ["ws/*.txt"]
[server]
argv = ["{{python}}", "{{here}}/server.py"]
[prepare]
commands = [{commands}]
[reset]
commands = [{reset}]
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def target(directory: Path, commands: str | None = None, reset: str = "") -> CommandTarget:
    (directory / "prepare.py").write_text(PREPARE)
    (directory / "server.py").write_text(SERVER)
    default = '["{python}", "{here}/prepare.py"]'
    text = TOML.format(commands=default if commands is None else commands, reset=reset)
    (directory / "t.toml").write_text(text)
    return CommandTarget.load(directory / "t.toml")


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(target(tmp_path), Identity.EXPLICIT, tmp_path / "some where" / "w") as made:
        yield made


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def send(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> None:
        self.send(word)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"


@asynccontextmanager
async def server(made: World) -> AsyncIterator[Server]:
    launch = made.launch(0, 1)
    with subprocess.Popen(  # noqa: ASYNC220
        launch.argv,
        env=dict(launch.env),
        cwd=launch.cwd,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        made.adopt(process.pid)
        try:
            yield Server(process)
        finally:
            process.kill()
    made.discard(process.pid)


def inodes(made: World) -> dict[str, int]:
    return {str(p.relative_to(made.root)): p.stat().st_ino for p in made.root.rglob("*")}


# -- putting back ------------------------------------------------------------------------------


async def test_a_fresh_world_is_as_its_template(made):
    assert made.before.rows("main", "t") == [{"_rowid_": 1, "v": "template"}]
    assert made.before.files == {"ws/a.txt": "template"}
    assert await made.snapshot() == made.before


async def test_what_a_run_did_is_gone_after_restore(made):
    (made.root / "ws" / "a.txt").write_text("changed")
    (made.root / "ws" / "more" / "deep").mkdir(parents=True)
    (made.root / "ws" / "more" / "deep" / "x").touch()
    (made.root / "ws" / "empty").rmdir()
    (made.root / "ws" / "link").symlink_to("a.txt")
    async with server(made) as running:
        running.ask("write")
        assert (await made.snapshot()) != made.before
        await made.restore()
    assert await made.snapshot() == made.before
    assert (made.root / "ws" / "empty").is_dir()


async def test_a_write_ahead_log_that_was_left_does_not_come_back(made):
    database = made.root / "data" / "main.db"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT INTO t VALUES ('run')")
    log = database.with_name("main.db-wal")
    saved = log.read_bytes()
    connection.close()
    log.write_bytes(saved)  # as a crash leaves it
    await made.restore()
    assert not log.exists()
    assert (await made.snapshot()).rows("main", "t") == made.before.rows("main", "t")


async def test_directories_stay_and_files_are_new(made):
    before = inodes(made)
    with ExitStack() as held:  # an inode that is in use is not used again
        for path in ("ws/a.txt", "data/main.db"):
            held.enter_context((made.root / path).open())
        await made.restore()
        after = inodes(made)
    for path in ("ws", "ws/empty", "data"):
        assert after[path] == before[path]
    for path in ("ws/a.txt", "data/main.db"):
        assert after[path] != before[path]


async def test_a_server_goes_on_after_restore(made):
    async with server(made) as running:
        for _ in range(3):
            running.ask("write")
            assert len((await made.snapshot()).rows("main", "t")) == 2
            assert await made.quiesce(10)
            await made.restore()


async def test_a_world_at_work_is_not_put_back(made):
    async with server(made) as running:
        running.send("spin")
        with pytest.raises(InvariantError, match="put back while at work"):
            await made.restore()


async def test_a_world_with_an_open_database_is_not_put_back(made):
    async with server(made) as running:
        running.ask("hold")
        assert made.holders() == {running.pid: "main"}
        with pytest.raises(InvariantError, match="put back while servers have it open"):
            await made.restore()


async def test_a_template_that_changed_is_noticed(made):
    (made._template / "ws" / "a.txt").write_text("other")
    with pytest.raises(InvariantError, match=r"not as its template: ws/a\.txt differs"):
        await made.restore()


async def test_logs_are_not_put_back(made):
    (made.logs / "stderr").write_text("said")
    await made.restore()
    assert (made.logs / "stderr").read_text() == "said"


async def test_reset_commands_run_after_the_files_are_back(tmp_path):
    reset = "[\"{python}\", \"-c\", \"open('ws/reset.txt', 'w').write(open('ws/a.txt').read())\"]"
    async with world(target(tmp_path, reset=reset), Identity.EXPLICIT) as made:
        await made.restore()
        assert (made.root / "ws" / "reset.txt").read_text() == "template"


# -- who waits for a lock ----------------------------------------------------------------------


async def asleep(pid: int, threads: int) -> None:
    with anyio.fail_after(20):
        while procs.asleep_in_busy_handler([pid]) != {pid: threads}:
            await anyio.sleep(0.01)


async def test_each_call_that_waits_in_a_server_is_counted(made):
    async with server(made) as up:
        assert made.waiting() == 0
        up.ask("nap")
        up.ask("nap")
        await asleep(up.pid, threads=2)
        assert made.waiting() == 2


async def test_a_process_that_waits_is_one_call_however_many_threads_it_has(made):
    async with server(made) as up:
        up.ask("nap-outside")
        (pid,) = made.members() - made.servers
        await asleep(pid, threads=2)
        assert made.waiting() == 1


# -- quiescence --------------------------------------------------------------------------------


async def test_an_idle_server_is_no_work(made):
    async with server(made):
        assert await made.quiesce(10)


async def test_a_server_that_was_not_adopted_is_work(made):
    async with server(made) as running:
        made.discard(running.pid)
        assert running.pid in made.busy()


async def test_a_detached_child_is_waited_for(made):
    async with server(made) as running:
        running.ask("detach")
        assert made.busy()
        assert not await made.quiesce(0.1)
        assert await made.quiesce(10)


async def test_who_would_not_rest_is_waited_for_once(made):
    made.target.rest_timeout = 2.5
    async with server(made) as running:
        running.send("spin")
        begun = anyio.current_time()
        assert not await made.quiesce()
        once = anyio.current_time() - begun
        assert not await made.quiesce()
        assert anyio.current_time() - begun - once < once


async def test_strays_are_killed_and_servers_are_not(made):
    async with server(made) as running:
        running.ask("linger")
        assert [command.split()[0] for command in made.strays().values()] == ["sleep"]
        assert await made.kill_strays() == set()
        assert made.strays() == {}
        assert made.members() == {running.pid}


async def test_a_server_that_spins_is_work(made):
    async with server(made) as running:
        running.send("spin")
        assert not await made.quiesce(0.2)
        assert running.pid in made.busy()


async def test_a_launcher_and_its_server_are_adopted_together(made):
    launch = made.launch(0, 1)
    shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *launch.argv]
    with subprocess.Popen(  # noqa: ASYNC220
        shell, env=dict(launch.env), cwd=launch.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        made.adopt(process.pid)
        assert len(made.servers) == 2
        assert await made.quiesce(10)
        process.stdin.close()
        process.wait(10)
    made.discard(process.pid)
    assert made.servers == set()


# -- making and closing ------------------------------------------------------------------------


async def test_closing_kills_and_deletes(tmp_path):
    made = await World.make(target(tmp_path), Identity.EXPLICIT, tmp_path / "w")
    launch = made.launch(0, 1)
    with subprocess.Popen(launch.argv, env=dict(launch.env), stdin=subprocess.PIPE) as process:  # noqa: ASYNC220
        await made.close()
        assert process.wait(10) == -9
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("w")]


async def test_a_cancelled_world_is_closed(tmp_path):
    with anyio.move_on_after(30) as scope:
        async with world(target(tmp_path), Identity.EXPLICIT, tmp_path / "w") as made:
            scope.cancel()
            await anyio.sleep(60)
    assert not made.root.exists()


@pytest.mark.parametrize("name", ["w", "w.logs", "w.template"])
async def test_a_directory_that_is_in_use_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    with pytest.raises(UsageError, match="not empty"):
        await World.make(target(tmp_path), Identity.EXPLICIT, tmp_path / "w")
    assert (tmp_path / name / "precious").exists()


async def test_a_target_that_cannot_be_prepared_leaves_nothing(tmp_path):
    broken = target(tmp_path, commands='["sh", "-c", "echo why >&2; exit 3"]')
    with pytest.raises(TargetError, match=r"\[prepare\] sh -c .* failed: why"):
        await World.make(broken, Identity.EXPLICIT, tmp_path / "w")
    assert not (tmp_path / "w").exists()


async def test_processes_of_a_world_carry_its_real_path(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with world(target(tmp_path), Identity.EXPLICIT, tmp_path / "link" / "w") as made:
        assert made.launch(0, 1).env[MARKER] == str(tmp_path / "real" / "w")


# -- trees -------------------------------------------------------------------------------------


def test_every_kind_of_difference_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "same").write_text("x")
    (tmp_path / "a" / "gone").touch()
    (tmp_path / "a" / "changed").write_text("1")
    (tmp_path / "b" / "changed").write_text("2")
    (tmp_path / "b" / "extra").symlink_to("same")
    found, wanted = tree.manifest(tmp_path / "b"), tree.manifest(tmp_path / "a")
    assert tree.difference(found, wanted) == [
        "changed differs",
        "extra is left over",
        "gone is missing",
    ]
    assert tree.difference(wanted, wanted) == []


def test_a_file_becomes_a_directory_and_back(tmp_path):
    template, root = tmp_path / "template", tmp_path / "root"
    (template / "x").mkdir(parents=True)
    (template / "y").write_text("file")
    tree.copy(template, root)
    (root / "x").rmdir()
    (root / "x").write_text("now a file")
    (root / "y").unlink()
    (root / "y").mkdir()
    (root / "y" / "below").touch()
    tree.put_back(template, root)
    assert tree.manifest(root) == tree.manifest(template)


def test_links_are_copied_as_links(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(sys.executable)
    tree.copy(tmp_path / "a", tmp_path / "b")
    assert os.readlink(tmp_path / "b" / "link") == sys.executable


def test_removing_what_is_not_there_or_read_only(tmp_path):
    tree.remove(tmp_path / "nothing")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "object").touch(0o444)
    (tmp_path / "a" / "b").chmod(0o555)
    tree.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


# ------------------------------------------------------------------ worlds in memory


@pytest.mark.parametrize(
    ("in_memory", "room", "there"), [(True, 1, True), (True, 1 << 62, False), (False, 1, False)]
)
async def test_a_small_world_is_made_in_memory_where_there_is_room(
    tmp_path, monkeypatch, in_memory, room, there
):
    monkeypatch.setattr(worlds, "_MEMORY", tmp_path)
    monkeypatch.setattr(worlds, "_ROOM", room)
    small = SimpleNamespace(in_memory=in_memory)
    assert worlds._parent(small) == (tmp_path if there else None)


async def test_other_worlds_are_on_disk_and_all_are_where_there_is_no_such_place(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(worlds, "_MEMORY", tmp_path)
    assert worlds._parent(target(tmp_path)) is None
    monkeypatch.setattr(worlds, "_MEMORY", tmp_path / "nowhere")
    assert worlds._parent(SimpleNamespace(in_memory=True)) is None
