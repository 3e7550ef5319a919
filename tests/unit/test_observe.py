"""Counting what calls do inside the target, from the flag to the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from command import mcpconc
from mcpconc.errors import Exit
from mcpconc.events import CampaignFinished
from mcpconc.program import Call, Program, Ref
from mcpconc.report.documents import campaign_document
from mcpconc.report.summary import summary
from mcpconc.rig import rig
from mcpconc.schedule.counts import OUTSIDE, UNSURE, Cost
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.world import ProbeMode

COSTS = (
    Cost(
        "finding_log",
        {
            "statements": 240,
            "transactions": 12,
            "lock_waits": 2,
            "lock_wait_ns": 61_400_000,
            "sql_ns": 90_000_000,
            "git": 24,
            "git_ns": 130_000_000,
            "connections": 12,
            "processes": 12,
            "process_ns": 8_000_000_000,
            "files_written": 36,
        },
        calls=12,
        answered=11,
        ns=9_900_000_000,
    ),
    Cost("goals_list", {"statements": 8, "sql_ns": 1_000_000}, 2, 2, 30_000_000),
    Cost("submit_postflight_assessment_twice", {}, 1, 0, 0),
    Cost(OUTSIDE, {"statements": 40, "files_written": 1}),
    Cost(UNSURE, {"git": 3}),
)
DONE = CampaignFinished(
    exit=Exit.PASSED,
    stop="3 runs done",
    runs=3,
    calls=15,
    seconds=4.0,
    seed=1,
    out=Path("out"),
    overlap=2.0,
    overlap_max=2,
    costs=COSTS,
)


def session(agent: int) -> Call:
    return Call(f"s{agent}", agent, "session_create", {"ai_id": f"a{agent}"})


def goal(agent: int, n: int) -> Call:
    args = {"session_id": Ref(f"s{agent}", "session_id"), "objective": f"write {agent}.{n}"}
    return Call(f"g{agent}.{n}", agent, "goals_create", args)


PROGRAM = Program(
    2,
    prefix=(session(0), session(1)),
    lanes=((goal(0, 0), goal(0, 1)), (goal(1, 0), Call("l", 1, "goals_list", {}))),
)


def run(work: Path, program: Program, probe: ProbeMode | None) -> dict[str, Cost]:
    async def main() -> tuple[Cost, ...]:
        target = ReferenceTarget()
        async with rig(target, Identity.ISOLATED, 2, work, lambda text: None, probe=probe) as on:
            await on.run(program, "free", 1)
            control = on.world.control
        return control.costs.table() if control is not None else ()

    return {cost.tool: cost for cost in anyio.run(main)}


def test_each_call_of_a_server_is_counted_with_its_tool(tmp_path: Path) -> None:
    costs = run(tmp_path, PROGRAM, "observe")
    assert {tool: cost.calls for tool, cost in costs.items() if cost.calls} == {
        "session_create": 2,
        "goals_create": 3,
        "goals_list": 1,
    }
    assert costs["session_create"].counts["transactions"] == 2
    assert costs["goals_create"].counts["transactions"] == 3
    assert costs["goals_create"].counts["git"] == 3
    assert not costs["goals_list"].counts.get("transactions")
    assert costs["goals_list"].counts["statements"] > 0
    assert UNSURE not in costs


def test_what_two_calls_of_one_agent_do_at_once_is_not_attributed(tmp_path: Path) -> None:
    lanes = ((*(goal(0, n) for n in range(4)),), ())
    costs = run(tmp_path, replace(PROGRAM, lanes=lanes, inflight=4), "observe")
    assert costs[UNSURE].counts["statements"] > 0


def test_nothing_is_counted_unasked(tmp_path: Path) -> None:
    assert run(tmp_path, replace(PROGRAM, lanes=((), ())), None) == {}
    assert run(tmp_path, replace(PROGRAM, lanes=((), ())), "control") == {}


@pytest.mark.parametrize("flag", [["--probe", "observe"], ["--probe", "off"], []])
def test_the_flag_of_fuzz(tmp_path: Path, flag: list[str]) -> None:
    _, said = mcpconc(
        *("fuzz", "--target", "reference", "--runs", "2", "--seed", "3", "--no-shrink"),
        *("--agents", "2", "--calls", "4", "--out", str(tmp_path / "out"), *flag),
    )
    if "observe" not in flag:
        assert said["costs"] is None
        return
    tools: dict[str, Any] = said["costs"]["tools"]
    assert sum(tool["calls"] for tool in tools.values()) == said["calls"]
    assert tools["session_create"]["transactions"] == tools["session_create"]["calls"]
    assert tools["session_create"]["call_ms"] > tools["session_create"]["sql_ms"] > 0


def test_the_table(golden: Any) -> None:
    golden("summary-costs", summary(DONE))


def test_the_document(golden: Any) -> None:
    golden("summary-costs-json", json.dumps(campaign_document(DONE)["costs"], indent=1) + "\n")


def test_a_server_that_does_not_run_on_python() -> None:
    silent = replace(DONE, costs=(Cost("t", {}, 5, 5, 10),))
    assert "nothing was counted" in summary(silent)
