"""Driving the real Empirica: overlap, cancellation, and a driver that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

from mcpconc.drive.record import Recorder, read_history
from mcpconc.drive.runner import Fleet
from mcpconc.history import EventType, History, Outcome
from mcpconc.oracle.base import Run
from mcpconc.oracle.protocol import protocol
from mcpconc.program import Call, Program, Ref
from mcpconc.schedule import make
from mcpconc.target import resolve
from mcpconc.target.base import MARKER, Identity
from mcpconc.verdict import Verdict
from mcpconc.world import world

pytestmark = pytest.mark.real


def lane(agent: int, findings: int) -> tuple[Call, ...]:
    """Create a session, then write findings into it."""
    name = f"a{agent}"
    session = Ref(f"{name}.s", "session_id")
    return (
        Call(f"{name}.s", agent, "session_create", {"ai_id": name}),
        *(
            Call(
                f"{name}.{n}",
                agent,
                "finding_log",
                {"finding": f"{name}.{n}", "session_id": session},
            )
            for n in range(findings)
        ),
    )


def drive(root: Path, program: Program, scheduler: str) -> History:
    async def main() -> History:
        target = resolve("empirica")
        await target.install(print)
        async with (
            world(target, Identity.ISOLATED, root / "world") as made,
            Fleet.open(made, program.agents, made.logs) as fleet,
        ):
            with Recorder(root / "history.jsonl") as recorder:
                return await fleet.run(program, make(scheduler, 1), recorder, made, made.quiesce)

    return anyio.run(main)


@pytest.mark.parametrize("scheduler", ["free", "barrier", "convoy"])
def test_two_agents_with_several_calls_in_flight(tmp_path: Path, scheduler: str) -> None:
    program = Program(2, lanes=(lane(0, 3), lane(1, 3)), inflight=3)
    history = drive(tmp_path, program, scheduler)
    assert [op.outcome for op in history.operations] == [Outcome.SUCCESS] * 8
    assert overlap(history) >= 2
    assert history.notes("scheduler") == ()
    judged = protocol(Run(program, history, before=None, after=None, spec=None))
    assert judged.verdict is Verdict.OK
    assert read_history(tmp_path / "history.jsonl") == (history.events, True)


def overlap(history: History) -> int:
    """The greatest number of calls in flight."""
    now = most = 0
    for event in history.events:
        if event.type is not EventType.NOTE:
            now += 1 if event.type is EventType.INVOKE else -1
        most = max(most, now)
    return most


def alive(root: Path) -> list[list[str]]:
    """Command lines of what is alive in this world."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == str(root):
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


DRIVER = """
import signal, sys
from pathlib import Path
# A shell that puts a job in the background has it ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {here!r})
from test_drive import drive, lane
from mcpconc.program import Program
drive(Path(sys.argv[1]), Program(2, lanes=(lane(0, 50), lane(1, 50)), inflight=2), "free")
"""


def driver(root: Path) -> subprocess.Popen[bytes]:
    """A process that drives two agents, and is in mid-run now."""
    code = DRIVER.format(here=str(Path(__file__).parent))
    started = subprocess.Popen([sys.executable, "-c", code, str(root)], env=dict(os.environ))
    log = root / "history.jsonl"
    wait_for(lambda: log.exists() and len(read_history(log)[0]) > 8, 180)
    return started


def test_sigkill_leaves_a_history_and_nothing_alive(tmp_path: Path) -> None:
    started = driver(tmp_path)
    started.send_signal(signal.SIGKILL)
    started.wait()
    history = History.of(read_history(tmp_path / "history.jsonl")[0])
    assert any(op.answered for op in history.operations)
    assert any(not op.answered for op in history.operations)
    wait_for(lambda: not alive(tmp_path / "world"), 60)


def test_ctrl_c_leaves_nothing_alive(tmp_path: Path) -> None:
    started = driver(tmp_path)
    started.send_signal(signal.SIGINT)
    started.wait(60)
    assert alive(tmp_path / "world") == []
    events, complete = read_history(tmp_path / "history.jsonl")
    assert complete
    ends = [e.value["why"] for e in events if e.type is EventType.INFO]
    assert set(ends) == {"cancelled"}
