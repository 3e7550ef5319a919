"""What the kernel says of processes: who moves, who waits, who is there at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcpconc.schedule.look import alive, children, everybody, look, of_agent, parent

SLEEPS = "import sys; sys.stdin.read()"
SPINS = "while True: pass"
NAPS = "import time; time.sleep(1000)"
STARTS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPINS!r}])"


@contextmanager
def running(script: str, **env: str) -> Iterator[int]:
    """A process with this script, in a group of its own; all of it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", script],
        stdin=subprocess.PIPE,
        env={**os.environ, **env},
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within ten seconds: a process takes its time to begin."""
    return any(condition() or time.sleep(0.02) for _ in range(500))


def test_who_is_at_work_runs_and_who_waits_does_not() -> None:
    with running(SPINS) as spins, running(SLEEPS) as sleeps:
        assert soon(lambda: not look([sleeps], ()).runs)
        assert look([spins], ()).runs
        assert look([sleeps, spins], ()).runs
        assert not look([spins], {spins}).runs  # it stands, so it is not looked at


def test_a_timed_sleep_is_told_apart() -> None:
    with running(NAPS) as naps:
        assert soon(lambda: look([naps], ()).naps == {naps})


def test_who_waits_for_a_lock_of_sqlite_sleeps_for_a_time_and_not_until_one(tmp_path: Path) -> None:
    waits = f"""
import sqlite3, threading
one, other = (sqlite3.connect({str(tmp_path / "a.db")!r}, timeout=100) for _ in range(2))
one.execute("BEGIN IMMEDIATE")
other.execute("BEGIN IMMEDIATE")
"""
    with running(waits) as pid:
        assert soon(lambda: look([pid], ()).naps == {pid})
        assert not look([pid], ()).until


@pytest.mark.skipif(sys.version_info < (3, 11), reason="`time.sleep` is a select there")
def test_who_sleeps_until_a_time_waits_for_no_lock() -> None:
    with running(NAPS) as naps:
        assert soon(lambda: look([naps], ()).until == {naps})


def test_what_is_below_counts_but_not_below_those_beside() -> None:
    with running(STARTS) as starts:
        assert soon(lambda: bool(children(starts, starts)))
        (child,) = children(starts, starts)
        assert soon(lambda: look([starts], ()).pids == {starts, child})
        assert look([starts], ()).runs
        assert soon(lambda: not look([], (), [starts]).runs)
        assert parent(child) == starts


def test_whose_a_process_is_says_its_environment() -> None:
    probe = {"MCPCONC_PROBE": "control:/run/here"}
    with running(SLEEPS, MCPCONC_AGENT="4", **probe) as mine, running(SLEEPS) as nobodys:
        assert soon(lambda: of_agent(mine, "/run/here") == 4)
        assert of_agent(mine, "/run/elsewhere") == -1
        assert of_agent(nobodys, "/run/here") == -1
        assert {mine, nobodys} <= everybody()


def test_who_has_ended_is_not_alive() -> None:
    with running(SLEEPS) as pid:
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)
        assert soon(lambda: not alive(pid))
    assert not alive(pid)
    assert not look([pid], ()).runs
    assert parent(pid) == 0
