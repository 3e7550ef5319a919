"""Which sequential runs are made for a concurrent one, on a rig that only pretends to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcpconc.alone import REMEMBERED, Inquiry
from mcpconc.history import Event, EventType, History
from mcpconc.lineup.same import Volatile
from mcpconc.oracle.base import Run
from mcpconc.oracle.itself import ALONE, VOLATILE, itself
from mcpconc.program import Call, Program, Ref
from mcpconc.rig import Ran
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

PROGRAM = Program(2, lanes=tuple((Call(f"{agent}.0", agent, "add", {}),) for agent in (0, 1)))


def history(calls: Sequence[Call], answers: Sequence[dict[str, Any]], phase: str) -> History:
    """Of concurrent calls ("lane") all are sent before the first is answered."""
    events: list[Event] = []

    def tell(kind: EventType, call: Call, value: dict[str, Any]) -> None:
        events.append(Event(len(events), kind, call.agent, call.id, value))

    def send(call: Call) -> None:
        tell(EventType.INVOKE, call, {"tool": call.tool, "args": {}, "phase": phase})

    if phase == "lane":
        for call in calls:
            send(call)
    for call, data in zip(calls, answers, strict=True):
        if phase != "lane":
            send(call)
        tell(EventType.OK, call, {"outcome": "success", "data": data})
    events.append(Event(len(events), EventType.NOTE, -1, "", {"what": "run-ended"}))
    return History.of(events)


def left(count: int) -> Snapshot:
    return Snapshot(tables={"db": {"counter": [{"_rowid_": 1, "value": count}]}})


def concurrent(*was: int, count: int, program: Program = PROGRAM, **more: Any) -> Run:
    calls = [call for lane in program.lanes for call in lane]
    answers = [{"was": n, **more} for n in was]
    return Run(program, history(calls, answers, "lane"), left(0), left(count), None)


@dataclass
class Pretended:
    """A rig whose target is a counter; `noise` is another number in each answer, and one that is
    `hoarse` answers nothing once it was restarted."""

    noise: bool = False
    hoarse: bool = False
    restarts: int = 0
    asked: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)

    async def execute(
        self, program: Program, scheduler: str, seed: int, *, resting: bool = False
    ) -> Ran:
        calls = list(program.prefix)
        self.asked.append((tuple(call.id for call in calls), resting))
        answers: list[dict[str, Any]] = [
            {"was": n} | ({"took": len(self.asked) * 100 + n} if self.noise else {})
            for n in range(len(calls))
        ]
        told = history(calls, answers, "prefix")
        if self.hoarse and self.restarts:
            told = History.of([e for e in told.events if e.type is not EventType.OK])
        run = Run(program, told, left(0), left(len(calls)), None)
        return Ran(run, "free", Path("nowhere"))

    @property
    def fleet(self) -> Pretended:
        return self

    async def restart(self) -> None:
        self.restarts += 1


def inquire(run: Run, inquiry: Inquiry, on: Pretended) -> Run:
    rig: Any = on
    inquiry.pause = 0.0
    return anyio.run(inquiry, rig, run)


def test_a_run_that_is_explained_costs_one_sequential_run() -> None:
    on = Pretended()
    run = inquire(concurrent(0, 1, count=2), Inquiry(), on)
    assert on.asked == [(("0.0", "1.0"), True)]
    assert itself(run).verdict is Verdict.OK


def test_a_lost_update_costs_every_order_twice_in_both_ways() -> None:
    on = Pretended()
    run = inquire(concurrent(0, 0, count=1), Inquiry(), on)
    assert sorted(on.asked) == sorted(
        [(order, rested) for order in (("0.0", "1.0"), ("1.0", "0.0")) for rested in (True, False)]
        * 2
        + [(("0.0", "1.0"), True)]  # once more, on other servers
    )
    assert on.restarts == 1
    assert itself(run).verdict is Verdict.VIOLATION
    assert run.history.events[-1].value["what"] == "run-ended"


def test_servers_that_answer_nothing_when_they_were_just_started_leave_it_open() -> None:
    on = Pretended(hoarse=True)
    run = inquire(concurrent(0, 0, count=1), Inquiry(runs=12), on)
    assert on.restarts > 1
    assert itself(run).verdict is Verdict.UNKNOWN


def test_sequential_runs_of_a_program_are_made_once() -> None:
    on, inquiry = Pretended(), Inquiry()
    inquire(concurrent(0, 0, count=1), inquiry, on)
    made = len(on.asked)
    again = inquire(concurrent(1, 0, count=2), inquiry, on)
    assert len(on.asked) == made
    assert itself(again).verdict is Verdict.OK


def test_few_programs_are_remembered() -> None:
    on, inquiry = Pretended(), Inquiry()
    for n in range(REMEMBERED + 1):
        other = replace(PROGRAM, suffix=(Call("0.9", 0, f"read{n}", {}),))
        inquire(concurrent(0, 1, count=2, program=other), inquiry, on)
    made = len(on.asked)
    first = replace(PROGRAM, suffix=(Call("0.9", 0, "read0", {}),))
    inquire(concurrent(0, 1, count=2, program=first), inquiry, on)
    assert len(on.asked) == made + 1


@pytest.mark.parametrize("limit", [{"runs": 3}, {"seconds": 0.0}])
def test_budgets_hold_and_leave_it_open(limit: dict[str, Any]) -> None:
    on = Pretended()
    run = inquire(concurrent(0, 0, count=1), Inquiry(**limit), on)
    assert len(on.asked) == limit.get("runs", 0)
    assert itself(run).verdict is Verdict.UNKNOWN


def test_a_volatile_field_need_not_be_learned() -> None:
    learning, told = Pretended(noise=True), Pretended(noise=True)
    run = concurrent(0, 1, count=2, took=7)
    inquire(run, Inquiry(), learning)
    inquire(run, Inquiry(volatile=Volatile(frozenset({"add.took"}))), told)
    assert (len(learning.asked), len(told.asked)) == (2, 1)


def test_a_steady_field_counts_although_it_differs_each_time() -> None:
    on = Pretended(noise=True)
    steady = Volatile(steady=frozenset({"add.took"}))
    run = inquire(concurrent(0, 1, count=2, took=7), Inquiry(volatile=steady), on)
    assert "add.took" not in run.history.notes(VOLATILE)[0].value["values"]
    assert itself(run).verdict is Verdict.UNKNOWN


def test_what_was_learned_stays() -> None:
    on, inquiry = Pretended(noise=True), Inquiry()
    inquire(concurrent(0, 1, count=2, took=7), inquiry, on)
    other = replace(PROGRAM, suffix=(Call("0.9", 0, "read", {}),))
    before = len(on.asked)
    inquire(concurrent(0, 1, count=2, took=9, program=other), inquiry, on)
    assert len(on.asked) == before + 1


def test_what_is_too_large_or_does_not_overlap_is_left_alone() -> None:
    on = Pretended()
    alone = Program(2, prefix=PROGRAM.lanes[0], lanes=((), ()))
    large = Program(4, lanes=tuple((Call(f"{n}.0", n, "add", {}),) for n in range(4)))
    for program in (alone, large):
        run = inquire(
            concurrent(*range(program.concurrent()), count=0, program=program), Inquiry(), on
        )
        assert not run.history.notes(ALONE)
    assert on.asked == []


@dataclass
class Remembering(Pretended):
    """A rig whose servers say whether they have answered anything before."""

    async def execute(
        self, program: Program, scheduler: str, seed: int, *, resting: bool = False
    ) -> Ran:
        self.asked.append((tuple(call.id for call in program.prefix), resting))
        answers = [{"was": n, "warm": not self.restarts} for n in range(len(program.prefix))]
        alone = history(program.prefix, answers, "prefix")
        return Ran(Run(program, alone, left(0), left(len(answers)), None), "free", Path("nowhere"))


def test_what_a_server_remembers_is_no_violation() -> None:
    run = inquire(concurrent(0, 1, count=2, warm=False), Inquiry(), Remembering())
    assert itself(run).verdict is Verdict.OK


def test_a_violation_that_was_not_seen_with_other_servers_is_not_believed() -> None:
    run = inquire(concurrent(0, 0, count=1), Inquiry(runs=8), Pretended())
    assert itself(run).verdict is Verdict.UNKNOWN
    assert "servers" in itself(run).unknown[0]


def test_what_could_not_be_sent_is_not_sent_alone() -> None:
    on = Pretended()
    program = replace(PROGRAM, suffix=(Call("0.9", 0, "add", {"to": Ref("0.0", "id")}),))
    asked: list[Program] = []

    async def execute(program: Program, *rest: Any, **more: Any) -> Ran:
        asked.append(program)
        return await Pretended.execute(on, program, *rest, **more)

    on.execute = execute  # type: ignore[method-assign]
    run = inquire(concurrent(0, 1, count=2, program=program), Inquiry(), on)
    assert [p.suffix for p in asked] == [()]
    assert itself(run).verdict is Verdict.OK


def test_what_cannot_be_compared_is_not_taken_for_right() -> None:
    large = Program(4, lanes=tuple((Call(f"{n}.0", n, "add", {}),) for n in range(4)))
    busy = replace(concurrent(0, 0, count=1), quiescent=False)
    for run, why in (
        (concurrent(*range(4), count=4, program=large), "many orders"),
        (busy, "rest"),
    ):
        told = inquire(run, Inquiry(), Pretended())
        assert why in itself(told).unknown[0]
