"""The oracle that holds a run against sequential runs of the same calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcpconc.history import Event, EventType, History
from mcpconc.oracle import ORACLES, SELF
from mcpconc.oracle.base import Run
from mcpconc.oracle.itself import ALONE, VOLATILE, itself, note_of
from mcpconc.program import Call, Program
from mcpconc.recheck import recheck
from mcpconc.report.finding import finding_report
from mcpconc.snapshot import Snapshot
from mcpconc.trace import Trace, load
from mcpconc.verdict import Verdict

Golden = Callable[[str, str], None]

GOAL = "7d9f31c2-0000-4000-8000-00000000000a"
CALLS = tuple(
    Call(f"{agent}.0", agent, "goals_add_task", {"goal_id": GOAL, "description": text}, text)
    for agent, text in enumerate(("write the parser", "test the parser"))
)
BEFORE = Snapshot(tables={"main": {"goals": [{"_rowid_": 1, "id": GOAL, "tasks": "[]"}]}})


def told(order: str, tasks: list[str]) -> Run:
    """`order` names agents: when they are invoked, and in capitals when they are answered."""
    program = Program(2, lanes=tuple((call,) for call in CALLS))
    events: list[Event] = []

    def add(kind: EventType, call: Call, value: dict[str, Any]) -> None:
        events.append(Event(len(events), kind, call.agent, call.id, value))

    for letter in order:
        call = CALLS["ab".index(letter.lower())]
        if letter.islower():
            sent = {"tool": call.tool, "args": dict(call.args), "token": call.token}
            add(EventType.INVOKE, call, {**sent, "phase": "lane"})
        else:
            task = f"{len(events):08x}-aaaa-4000-8000-000000000000"
            add(EventType.OK, call, {"outcome": "success", "data": {"task_id": task}})
    events.append(Event(len(events), EventType.NOTE, -1, "", {"what": "run-ended"}))
    listed = "[" + ", ".join(f'"{task}"' for task in tasks) + "]"
    after = Snapshot(tables={"main": {"goals": [{"_rowid_": 1, "id": GOAL, "tasks": listed}]}})
    return Run(program, History.of(events), BEFORE, after, None)


BOTH = [call.token for call in CALLS]
ALONE_A = (("0.0", "1.0"), told("aAbB", BOTH))
ALONE_B = (("1.0", "0.0"), told("bBaA", BOTH[::-1]))
LOST = told("abAB", BOTH[1:])
FINE = told("abAB", BOTH)


def noted(run: Run, *alone: tuple[tuple[str, ...], Run], times: int = 2) -> Run:
    """The run with notes on sequential runs in both ways."""
    values: list[dict[str, Any]] = [
        {"what": VOLATILE, "values": [], "orders": [], "steady": []},
        *(
            {"what": ALONE, **note_of(order, rested, other)}
            for order, other in alone
            for rested in (True, False)
            for _ in range(times)
        ),
    ]
    events = [
        Event(len(run.history.events) + n, EventType.NOTE, -1, "", value)
        for n, value in enumerate(values)
    ]
    return replace(run, history=History.of([*run.history.events, *events]))


def test_a_lost_update_is_one_that_no_sequential_run_shows() -> None:
    (finding,) = itself(noted(LOST, ALONE_A, ALONE_B)).findings
    assert finding.fingerprint.head() == ("self", "unexplained", "main.goals", "tasks")
    assert finding.calls == ("0.0", "1.0")


def test_one_sequential_run_that_shows_the_same_is_enough() -> None:
    assert itself(noted(FINE, ALONE_A, times=1)).verdict is Verdict.OK


def test_an_order_that_was_not_tried_leaves_it_open() -> None:
    result = itself(noted(LOST, ALONE_A))
    assert (result.verdict, result.findings) == (Verdict.UNKNOWN, ())
    assert "1 of 2 orders are refuted" in result.unknown[0]


def test_without_sequential_runs_there_is_nothing_to_say() -> None:
    assert itself(LOST).verdict is Verdict.OK


def test_sequential_runs_in_which_something_was_not_answered_are_noted_as_useless() -> None:
    note = note_of(("0.0",), True, told("ab", []))
    assert (note["events"], note["left"]) == (None, None)


def kept(target: str) -> Trace:
    run = noted(LOST, ALONE_A, ALONE_B)
    return Trace(
        program=run.program,
        history=run.history,
        before=run.before,
        after=run.after,
        findings=itself(run).findings,
        verdict=Verdict.VIOLATION,
        target=target,
        model="self",
    )


def test_a_saved_trace_is_judged_again_without_a_server(tmp_path: Path) -> None:
    trace = load(kept("empirica").save(tmp_path / "t"))
    assert recheck(trace, None, ORACLES).status == "SAME"
    assert SELF not in ORACLES
    as_modelled = replace(trace, model="")
    assert [f.fingerprint.oracle for f in recheck(as_modelled, None, ORACLES).gone] == ["self"]


def test_what_it_says(golden: Golden) -> None:
    golden("finding-self", finding_report(kept("server.toml")))
