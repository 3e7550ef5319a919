"""The probe in the real Empirica: what one call says, that it says the same in every run, and
that the answer is the one that it gives without the probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.history import History
from mcpconc.program import Call, Program, Ref
from mcpconc.schedule import make
from mcpconc.schedule.probe import environment
from mcpconc.target import resolve
from mcpconc.target.base import Identity, Launch
from mcpconc.world import world
from probing import Controller, Heard

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


class Probed:
    """A target whose servers load the probe."""

    def __init__(self, target: Any, address: Path) -> None:
        self._target = target
        self._address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        plain = self._target.launch(root, agent, agents, identity)
        return replace(plain, env=environment("control", self._address, agent, plain.env))


def drive(root: Path, address: Path | None) -> History:
    async def main() -> History:
        target: Any = resolve("empirica")
        await target.install(print)
        if address is not None:
            target = Probed(target, address)
        async with (
            world(target, Identity.ISOLATED, root) as made,
            Fleet.open(made, 1, made.logs) as fleet,
        ):
            with Recorder(root.parent / f"{root.name}.jsonl") as recorder:
                return await fleet.run(PROGRAM, make("free", 1), recorder, made, made.quiesce)

    return anyio.run(main)


def stopped(root: Path) -> tuple[History, Heard]:
    with Controller(root.with_suffix(".socket")) as controller:
        history = drive(root, controller.address)
        controller.hear_out()
    return history, controller.heard


def said(heard: Heard, command: str) -> list[tuple[str, str]]:
    """Kind and label of the points of one command's process, in order."""
    return [
        (point["kind"], point["label"])
        for point in heard.points
        if point["by"]["name"] == f"empirica {command}"
    ]


def answers(history: History) -> list[tuple[object, set[str]]]:
    return [(op.outcome, set(op.data)) for op in history.operations]


def test_one_call_says_the_same_in_every_run_and_answers_as_without(tmp_path: Path) -> None:
    plain = drive(tmp_path / "plain", None)
    history, heard = stopped(tmp_path / "one")
    _, again = stopped(tmp_path / "other")
    assert answers(history) == answers(plain)
    assert {"empirica-mcp", "empirica session-create"} <= {
        " ".join(hello["name"].split()[:2]) for hello in heard.hellos
    }
    points = said(heard, "finding-log")
    assert points[0][0] == "start"
    writes = [label for kind, label in points if kind == "sql" and label.startswith("BEGIN")]
    assert any("INSERT INTO project_findings" in label for label in writes)
    assert ("sql", "COMMIT") in points
    assert ("git", "git notes add refs/notes/empirica/findings/#") in points
    assert said(again, "finding-log") == points
