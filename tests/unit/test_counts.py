"""Whose counts are whose: only what one call alone can have caused is that call's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcpconc.history import Event, EventType, History
from mcpconc.schedule import counts
from mcpconc.schedule.control import Control
from mcpconc.schedule.counts import OUTSIDE, UNSURE, Cost, Costs, Report, total
from piloting import connect

SERVER = 10
"""The process that answers all calls of agent 0."""


def history(*calls: tuple[str, int, int | None], agent: int = 0, end: int = 0) -> History:
    """Calls of one agent by tool, with the moments of request and answer; None: no answer."""
    ends = [max(sent, back or 0) for _, sent, back in calls]
    happened: list[tuple[int, EventType, str, Mapping[str, Any]]] = []
    for n, (tool, sent, back) in enumerate(calls):
        value = {"tool": tool, "args": {}, "phase": "lane"}
        happened.append((sent, EventType.INVOKE, str(n), value))
        if back is not None:
            answer = {"outcome": "success", "data": {}}
            happened.append((back, EventType.OK, str(n), answer))
    happened.append((max([end, *ends]) + 1, EventType.NOTE, "", {"what": "run-ended"}))
    happened.sort(key=lambda one: one[0])
    return History.of(
        Event(n, kind, agent, call, value, ns) for n, (ns, kind, call, value) in enumerate(happened)
    )


def process(began: int, ended: int, pid: int = 20, parent: int = SERVER, agent: int = 0) -> Report:
    return Report(agent, pid, parent, began, False, began, ended, {"statements": 1})


def spell(since: int, until: int) -> Report:
    return Report(0, SERVER, 5, 0, True, since, until, {"statements": 1})


def whose(ran: History, *reports: Report) -> dict[str, int]:
    """Statements by tool."""
    costs = Costs()
    for report in reports:
        costs.heard(report)
    costs.ran(ran)
    return {cost.tool: cost.counts["statements"] for cost in costs.table() if cost.counts}


ONE_BY_ONE = history(("a", 100, 200), ("b", 300, 400))


@pytest.mark.parametrize(
    ("since", "until", "tool"),
    [
        (110, 190, "a"),
        (150, 250, "a"),
        (220, 280, OUTSIDE),
        (310, 390, "b"),
        (190, 310, UNSURE),
        (410, 420, OUTSIDE),
    ],
)
def test_a_spell_of_a_server_is_the_only_open_calls(since: int, until: int, tool: str) -> None:
    assert whose(ONE_BY_ONE, spell(since, until)) == {tool: 1}


def test_a_process_is_the_calls_that_it_was_started_for() -> None:
    assert whose(ONE_BY_ONE, process(110, 190)) == {"a": 1}
    assert whose(ONE_BY_ONE, process(220, 390)) == {OUTSIDE: 1}


def test_a_process_that_outlives_its_call_stays_that_calls() -> None:
    assert whose(ONE_BY_ONE, process(190, 390)) == {"a": 1}


def test_with_several_calls_open_nobody_knows() -> None:
    at_once = history(("a", 100, 200), ("b", 150, 250))
    assert whose(at_once, process(120, 140), process(160, 190, pid=21), process(210, 220, 22)) == {
        "a": 1,
        UNSURE: 1,
        "b": 1,
    }


def test_a_long_call_is_not_forgotten_behind_short_ones() -> None:
    short = [("short", n, n + 5) for n in range(110, 190, 10)]
    assert whose(history(("long", 100, 300), *short), process(250, 260)) == {"long": 1}
    assert whose(history(("long", 100, 300), *short), process(182, 260)) == {UNSURE: 1}


def test_calls_of_other_agents_do_not_matter() -> None:
    costs = Costs()
    costs.heard(process(110, 120))
    costs.ran(history(("b", 100, 200), agent=1))
    assert {c.tool: dict(c.counts) for c in costs.table()} == {"b": {}, OUTSIDE: {"statements": 1}}


def test_a_child_is_its_parents_however_late_it_is() -> None:
    parent, child = process(110, 350), process(310, 390, pid=21, parent=20)
    assert whose(ONE_BY_ONE, child, parent) == {"a": 2}
    assert whose(ONE_BY_ONE, parent, child) == {"a": 2}


def test_a_number_that_is_used_again_is_not_a_parent() -> None:
    dead, child = process(110, 150, pid=21), process(310, 390, parent=21)
    assert whose(ONE_BY_ONE, dead, child) == {"a": 1, UNSURE: 1}
    younger = process(320, 330, pid=21)
    assert whose(ONE_BY_ONE, process(310, 390, parent=21), younger) == {"b": 2}


def test_an_orphan_is_nobodys() -> None:
    assert whose(ONE_BY_ONE, process(310, 320, parent=1)) == {UNSURE: 1}


def test_a_call_without_an_answer_may_be_at_work_until_the_run_is_over() -> None:
    stuck = history(("stuck", 100, None), ("b", 300, 400))
    assert whose(stuck, process(350, 360), process(250, 260, pid=21)) == {UNSURE: 1, "stuck": 1}
    costs = Costs()
    costs.ran(stuck)
    costs.ran(history(("c", 500, 600)))
    costs.heard(process(510, 520))
    assert [(c.tool, c.calls, c.answered, c.ns) for c in costs.table() if c.counts or c.ns] == [
        ("b", 1, 1, 100),
        ("c", 1, 1, 100),
    ]


def test_what_comes_late_is_known_by_earlier_runs() -> None:
    costs = Costs()
    costs.ran(history(("a", 100, 200)))
    costs.heard(spell(110, 120))
    costs.ran(history(("b", 300, 400)))
    costs.heard(spell(130, 140))
    assert {c.tool: dict(c.counts) for c in costs.table()} == {"a": {"statements": 2}, "b": {}}


def test_long_campaigns_are_remembered_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "KEPT", 3)
    costs = Costs()
    for n in range(0, 2000, 100):
        costs.heard(process(n + 10, n + 20, pid=n))
        costs.ran(history(("a", n, n + 50)))
    (cost,) = costs.table()
    assert (cost.calls, cost.counts) == (20, {"statements": 20})


def test_tables_are_added_with_what_is_no_tools_at_the_end() -> None:
    one = (Cost("b", {"git": 2}, 3, 2, 50), Cost(OUTSIDE, {"git": 1}))
    other = (Cost("a", {}, 1, 1, 5), Cost("b", {"git": 1, "sql_ns": 9}, 1, 1, 10))
    assert total([one, other]) == (
        Cost("a", {}, 1, 1, 5),
        Cost("b", {"git": 3, "sql_ns": 9}, 4, 3, 60),
        Cost(OUTSIDE, {"git": 1}),
    )


def test_what_a_process_said_at_its_very_end_is_heard(tmp_path: Path) -> None:
    hello = {"pid": 20, "ppid": 10, "tid": 20, "agent": 0, "name": "x", "began": 110, "server": 0}
    lines = [{"hello": hello}, *({"counts": {"git": n}, "since": n, "until": n} for n in (1, 2))]

    async def main() -> Costs:
        async with Control.open(tmp_path) as control:
            with connect(control.address) as made:
                made.sendall("".join(json.dumps(line) + "\n" for line in lines).encode())
        return control.costs

    costs = anyio.run(main)
    costs.ran(ONE_BY_ONE)
    assert {c.tool: dict(c.counts) for c in costs.table()} == {"a": {"git": 3}, "b": {}}
