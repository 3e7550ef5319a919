"""The probe in the real Empirica: what one call says, that it says the same in every run, and
that the answer is the one that it gives without the probe; and what is counted of a call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcpconc.history import History
from mcpconc.program import Call, Program, Ref
from mcpconc.rig import rig
from mcpconc.schedule.control import Control, Thread
from mcpconc.schedule.counts import UNSURE, Cost
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start
from mcpconc.world import ProbeMode

pytestmark = pytest.mark.real

PROGRAM = Program(
    1,
    lanes=(
        (
            Call("s", 0, "session_create", {"ai_id": "a0"}),
            Call(
                "f",
                0,
                "finding_log",
                {"finding": "tok000x001z", "session_id": Ref("s", "session_id")},
                "tok000x001z",
            ),
        ),
    ),
)


class Listener:
    """A pilot who lets everybody go at once and writes down who was where."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.names = {thread.name for thread in control.threads}
        self.points: list[tuple[str, str, str]] = []

    def stands(self, thread: Thread) -> None:
        assert thread.point is not None
        self.names.add(thread.name)
        self.points.append((thread.name, thread.point.kind, thread.point.label))
        self.control.go(thread)

    def gone(self, thread: Thread) -> None:
        pass

    def said(self, command: str) -> list[tuple[str, str]]:
        """Kind and label of the points of one command's process, in order."""
        name = f"empirica {command}"
        return [(kind, label) for who, kind, label in self.points if who == name]


async def run(
    work: Path, probe: ProbeMode | None, hear: Callable[[Control], None], start: Start
) -> History:
    """What came of the program; `hear` is told of the probe's other end before it runs."""
    target = resolve("empirica")
    await target.install(print)
    async with rig(target, Identity.ISOLATED, 1, work, print, start, probe) as on:
        if on.world.control is not None:
            hear(on.world.control)
        return (await on.execute(PROGRAM, "free", 1)).run.history


def drive(
    work: Path,
    probe: ProbeMode | None = None,
    hear: Callable[[Control], None] = lambda c: None,
    start: Start = Start.ORDINARY,
) -> History:
    return anyio.run(run, work, probe, hear, start)


def stopped(work: Path, start: Start = Start.ORDINARY) -> tuple[History, Listener]:
    heard: list[Listener] = []

    def hear(control: Control) -> None:
        heard.append(Listener(control))
        control.take(heard[0])

    return drive(work, "control", hear, start), heard[0]


def counted(work: Path) -> dict[str, Cost]:
    heard: list[Control] = []
    drive(work, "observe", heard.append)
    return {cost.tool: cost for cost in heard[0].costs.table()}


def answers(history: History) -> list[tuple[object, set[str]]]:
    return [(op.outcome, set(op.data)) for op in history.operations]


def test_one_call_says_the_same_in_every_run_and_answers_as_without(tmp_path: Path) -> None:
    plain = drive(tmp_path / "plain", None)
    history, heard = stopped(tmp_path / "one")
    _, again = stopped(tmp_path / "other")
    assert answers(history) == answers(plain)
    assert {"empirica-mcp", "empirica session-create"} <= {
        " ".join(name.split()[:2]) for name in heard.names
    }
    points = heard.said("finding-log")
    assert points[0][0] == "start"
    writes = [label for kind, label in points if kind == "sql" and label.startswith("BEGIN")]
    assert any("INSERT INTO project_findings" in label for label in writes)
    assert ("sql", "COMMIT") in points
    assert ("git", "git notes add refs/notes/empirica/findings/#") in points
    assert again.said("finding-log") == points


def test_what_each_call_does_is_counted_with_its_tool(tmp_path: Path) -> None:
    costs = counted(tmp_path)
    created, logged = costs["session_create"], costs["finding_log"]
    assert (created.answered, logged.answered) == (1, 1)
    for cost in (created, logged):
        assert cost.counts["processes"] >= 1, "the server starts one for the call"
        assert cost.counts["transactions"] >= 1
        assert 0 < cost.counts["sql_ns"] < cost.ns
        assert 0 < cost.counts["git_ns"] < cost.ns
    assert logged.counts["git"] > 1, "a note is added"
    assert UNSURE not in costs
