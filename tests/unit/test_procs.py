"""Processes of a world: found by their environment, judged by what their threads do."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from mcpconc import procs
from mcpconc.procs import Census

NAME = "MCPCONC_TEST"
IDLE = "import sys; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def marker(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def start(marker: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a Python program with the marker; it must print a line when it is up."""
    started = []

    def launch(program: str, *args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *args],
            env={NAME: marker, "PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_members_carry_the_marker(start, marker):
    process = start(IDLE)
    assert Census(NAME, marker).pids() == {process.pid}
    assert Census(NAME, marker + "2").pids() == set()


def test_a_detached_grandchild_is_a_member(start, marker):
    start(
        "import subprocess, sys\n"
        "subprocess.Popen(['sleep', '30'], start_new_session=True)\n"
        "print('up', flush=True)"
    ).wait()
    census = Census(NAME, marker)
    (orphan,) = census.pids()
    assert procs.command_line(orphan) == "sleep 30"
    os.kill(orphan, signal.SIGKILL)
    assert eventually(lambda: census.pids() == set())


def test_a_process_that_takes_the_marker_later_is_found(marker):
    census = Census(NAME, marker)
    script = f"read line; exec env {NAME}='{marker}' sleep 30"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as process:
        assert census.pids() == set()
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert eventually(lambda: census.pids() == {process.pid})
        process.kill()


def test_a_reused_process_id_is_looked_at_again(start, marker):
    now = [0.0]
    census = Census(NAME, marker, clock=lambda: now[0])
    process = start(IDLE)
    census._others.add(str(process.pid))  # as if the id had belonged to somebody else
    assert census.pids() == set()
    now[0] = 10.0
    assert census.pids() == {process.pid}


def test_a_zombie_is_no_member(start, marker):
    process = start("print('up', flush=True)")
    assert eventually(lambda: procs.stat(process.pid).state == "Z")
    assert Census(NAME, marker).pids() == set()


def test_a_process_without_environment_is_unsettled_while_it_is_young(marker):
    census = Census(NAME, marker)
    with subprocess.Popen(["/bin/sleep", "30"], env={}) as process:
        assert eventually(lambda: procs.command_line(process.pid) == "/bin/sleep 30")
        assert census.pids() == set()
        assert census.unsettled == {process.pid}
        process.kill()
    assert census.pids() == set()
    assert process.pid not in census.unsettled


def test_no_process_is_missed_while_it_is_started(marker):
    census = Census(NAME, marker)
    for _ in range(50):
        with subprocess.Popen(["sleep", "30"], env={NAME: marker, "PATH": os.defpath}) as process:
            assert process.pid in census.pids() | census.unsettled
            process.kill()


def test_waiting_for_input_is_idle(start):
    process = start(IDLE)
    assert eventually(lambda: not procs.at_work(process.pid))


def test_a_thread_that_runs_is_work(start):
    process = start(
        "import sys, threading\n"
        "def spin():\n    while True: pass\n"
        "threading.Thread(target=spin, daemon=True).start()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    assert all(procs.at_work(process.pid) for _ in range(5))


def test_a_stopped_process_is_not_idle(start):
    process = start(IDLE)
    process.send_signal(signal.SIGSTOP)
    assert eventually(lambda: procs.stat(process.pid).state == "T")
    assert procs.at_work(process.pid)


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
print('up', flush=True)
connection.execute('INSERT INTO t VALUES (1)')
"""


def test_a_writer_that_waits_for_the_lock_is_seen_asleep(start, tmp_path):
    path = str(tmp_path / "x.db")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    writer, idle = start(WRITER, path), start(IDLE)
    both = [writer.pid, idle.pid]
    assert eventually(lambda: procs.asleep_in_busy_handler(both) == {writer.pid: 1})
    holder.close()
    assert writer.wait(10) == 0
    assert procs.asleep_in_busy_handler(both) == {}


def test_every_thread_that_waits_for_the_lock_counts(start, tmp_path):
    path = str(tmp_path / "x.db")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    writer = start(
        "import sqlite3, sys, threading\n"
        "def write():\n"
        "    connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "    connection.execute('INSERT INTO t VALUES (1)')\n"
        "threads = [threading.Thread(target=write) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "print('up', flush=True); [thread.join() for thread in threads]",
        path,
    )
    assert eventually(lambda: procs.asleep_in_busy_handler([writer.pid]) == {writer.pid: 3})
    holder.close()
    assert writer.wait(10) == 0


def test_where_the_kernel_does_not_tell_a_sleeping_process_counts(start, monkeypatch):
    process = start(IDLE)
    assert eventually(lambda: not procs.at_work(process.pid))
    read = procs._read
    secret = ("wchan", "syscall")
    monkeypatch.setattr(procs, "_read", lambda p: None if p.endswith(secret) else read(p))
    assert procs.asleep_in_busy_handler([process.pid]) == {process.pid: 1}


def test_descendants_and_children(start):
    outer = start(
        "import subprocess, sys\n"
        "inner = subprocess.Popen(['sh', '-c', 'sleep 30; true'])\n"
        "print('up', flush=True); sys.stdin.read(); inner.kill()"
    )
    assert eventually(lambda: len(procs.descendants(outer.pid)) == 2)
    (shell,) = procs.children(outer.pid)
    (sleep,) = procs.children(shell)
    assert procs.descendants(outer.pid) == {shell, sleep}
    os.kill(sleep, signal.SIGKILL)


def test_processor_time_counts_children_waited_for(start):
    process = start(
        "import subprocess, sys\n"
        "burn = 'import time\\nwhile time.process_time() < 0.2: pass'\n"
        "subprocess.run([sys.executable, '-c', burn])\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    assert procs.cpu_seconds([process.pid]) > 0.15, "0.2, counted in ticks of 10 ms"
    assert procs.stat(process.pid).cpu < procs.cpu_seconds([process.pid])


def test_open_files(start, tmp_path):
    path = tmp_path / "held"
    process = start(f"f = open({str(path)!r}, 'w'); print('up', flush=True); input()")
    assert str(path) in procs.open_files(process.pid)


def test_kill_all_leaves_nobody(start, marker):
    first, second = start(IDLE), start(IDLE)
    assert anyio.run(procs.kill_all, Census(NAME, marker)) == set()
    assert first.wait(10) == second.wait(10) == -signal.SIGKILL


def test_kill_all_spares_and_gives_up_in_time(start, marker):
    spared = start(IDLE)
    killed = start(IDLE)

    async def go() -> set[int]:
        return await procs.kill_all(Census(NAME, marker), 5.0, {spared.pid})

    assert anyio.run(go) == set()
    assert killed.wait(10) == -signal.SIGKILL
    assert spared.poll() is None


def test_a_terminal_is_seen_from_below_it():
    program = "from mcpconc.procs import on_terminal; print(on_terminal())"
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    try:
        while chunk := os.read(descriptor, 1024):
            said += chunk
    except OSError:  # the end of a terminal
        pass
    os.close(descriptor)
    os.waitpid(pid, 0)
    assert said.split() == [b"True"]


def test_nothing_is_said_of_a_process_that_is_gone():
    process = subprocess.Popen(["true"])
    process.wait()
    assert procs.stat(process.pid) is None
    assert not procs.at_work(process.pid)
    assert procs.asleep_in_busy_handler([process.pid]) == {}
    assert procs.command_line(process.pid) == ""
    assert procs.open_files(process.pid) == set()
