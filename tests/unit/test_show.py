"""The picture and the report of a finding, as golden files; and what must hold for any run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import UNPROMISED, Judgement, Label, Result
from mcpconc.oracle.storms import Met
from mcpconc.program import Fault, Program
from mcpconc.recheck import Checked
from mcpconc.report.documents import checked_text
from mcpconc.report.finding import finding_report
from mcpconc.report.lanes import lanes
from mcpconc.report.names import name_things
from mcpconc.trace import Shrink, Trace
from mcpconc.verdict import Verdict
from samples import GOAL, SESSION, TASKS, call, lost_task, told

Golden = Callable[[str, str], None]


def busy(agents: int, each: int) -> tuple[Program, History]:
    """All agents send all their calls before anybody is answered."""
    ids = [f"{agent}.{n}" for n in range(each) for agent in range(agents)]
    program = Program(
        agents,
        lanes=tuple(
            tuple(
                call(f"{a}.{n}", "finding_log", True, finding=f"tok{a:03d}x{n:03d}z")
                for n in range(each)
            )
            for a in range(agents)
        ),
        inflight=each,
    )
    return program, told(
        program, [*((i,) for i in ids), *((i, {"ok": True, "round": 1}) for i in ids)]
    )


def test_a_race(golden: Golden) -> None:
    golden("finding", finding_report(lost_task(), Path("traces/lost-task-4fd1c2aa")))


def test_a_narrow_terminal(golden: Golden) -> None:
    text = finding_report(lost_task(), width=60)
    assert max(map(len, text.splitlines())) <= 60
    golden("finding-narrow", text)


def test_several_findings_in_one_run_and_no_minimum_yet(golden: Golden) -> None:
    trace = lost_task()
    first = dataclasses.replace(trace.findings[0], label=Label.UNLABELLED)
    others = [
        dataclasses.replace(
            first, fingerprint=dataclasses.replace(first.fingerprint, property=name, tools=())
        )
        for name in ("torn", "phantom", "duplicate", "misattributed")
    ]
    trace = dataclasses.replace(
        trace,
        findings=(first, *others),
        label_basis="",
        shrink=Shrink(finished=False, from_calls=12, to_calls=12),
    )
    golden("finding-unfinished", finding_report(trace))


def test_a_run_that_was_cut_off(golden: Golden) -> None:
    trace = lost_task()
    cut = History.of(trace.history.events[:6])
    trace = dataclasses.replace(
        trace, history=cut, findings=(), complete=False, verdict=Verdict.UNKNOWN
    )
    golden("cut-off", finding_report(trace))


def test_refusals_time_outs_and_several_calls_in_flight(golden: Golden) -> None:
    program = Program(
        agents=2,
        lanes=(
            (
                call("0.0", "goals_complete", goal_id=GOAL, reason="tok000x000z"),
                call("0.1", "submit_check_assessment", session_id=SESSION, vectors={"know": 0.7}),
                call("0.2", "goals_get_tasks", goal_id=GOAL),
            ),
            (call("1.0", "goals_activate", goal_id=GOAL),),
        ),
        inflight=3,
    )
    history = told(
        program,
        [
            ("0.0",),
            ("1.0",),
            ("0.1",),
            ("1.0", {"ok": False, "error": f"goal {GOAL} is not planned: it is completed already"}),
            ("0.2",),
            ("0.1", {"ok": True, "session_id": SESSION, "decision": "proceed", "round": 2}),
            ("0.0", "the client gave up after 60 s"),
            ("0.2", {"ok": True, "goal_id": GOAL, "tasks": [{"task_id": t} for t in TASKS]}),
        ],
    )
    stray = Event(8, EventType.NOTE, 1, "1.0", {"what": "duplicate-response", "text": "{}"})
    golden("lanes-mixed", lanes(program, History.of((*history.events, stray))) + "\n")


def test_more_agents_than_fit_side_by_side(golden: Golden) -> None:
    golden("lanes-many-agents", lanes(*busy(6, 1)) + "\n")


def test_more_calls_than_fit(golden: Golden) -> None:
    program, history = busy(2, 9)
    golden("lanes-hidden", lanes(program, history, focus=("1.7", "0.8"), rows=12) + "\n")


def test_an_empty_run(golden: Golden) -> None:
    golden("lanes-empty", lanes(Program(2), History.of(())) + "\n")


def test_one_id_has_one_name_everywhere() -> None:
    trace = lost_task()
    names = name_things(trace.program, trace.history)
    assert names.text(f"{GOAL} of {SESSION}: {TASKS[0]}, {TASKS[1]}") == "g1 of s1: t1, t2"
    assert names.data({TASKS[0]: [GOAL, 7]}) == {"t1": ["g1", 7]}


def test_a_token_shows_who_sent_it() -> None:
    trace = lost_task()
    names = name_things(trace.program, trace.history)
    assert names.text("left: tok002x000z") == "left: #2.0"


def test_an_id_that_no_response_introduced_is_cut_short() -> None:
    trace = lost_task()
    names = name_things(trace.program, trace.history)
    assert names.text("row 8ee39a18-0000-4000-8000-a36f7401200b") == "row 8ee3…"


def test_kinds_that_begin_alike_get_different_letters() -> None:
    program = Program(1, lanes=((call("0.0", "x"),),))
    ids = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    keys = ("goal_id", "goalkeeper_id", "transaction_id")
    history = told(program, [("0.0",), ("0.0", dict(zip(keys, ids, strict=True)))])
    names = name_things(program, history)
    assert [names.text(i) for i in ids] == ["g1", "go1", "tx1"]


@pytest.mark.parametrize("width", [60, 80, 100])
@given(agents=st.integers(1, 7), each=st.integers(1, 4))
def test_every_call_is_shown_within_the_width(width: int, agents: int, each: int) -> None:
    program, history = busy(agents, each)
    text = lanes(program, history, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(c.id in text for c in program.calls())


@given(st.integers(1, 40))
def test_shown_and_hidden_calls_add_up(rows: int) -> None:
    program, history = busy(3, 5)
    text = lanes(program, history, rows=rows)
    hidden = sum(int(line.split()[1]) for line in text.splitlines() if line.endswith("hidden"))
    shown = sum(line.count("finding_log(") for line in text.splitlines())
    assert shown + hidden == 15


def test_a_trace_without_a_finding_says_so() -> None:
    trace = Trace(program=Program(1), history=History.of(()), verdict=Verdict.OK, target="empirica")
    assert "a run that found nothing" in finding_report(trace)


def test_a_check_says_what_was_judged_in_part_only() -> None:
    partly = Judgement((Result("linearizability", notes=("similar goals were not judged",)),))
    text = checked_text(Checked(lost_task(), partly, (), ()))
    assert "  judged in part: linearizability: similar goals were not judged\n" in text


def test_what_nothing_promised_has_no_cross() -> None:
    trace = lost_task()
    (found, *_) = trace.findings
    loose = dataclasses.replace(
        found, fingerprint=dataclasses.replace(found.fingerprint, property=UNPROMISED)
    )
    kept = dataclasses.replace(trace, findings=(loose,))
    assert finding_report(trace).startswith("✗ lost task")
    assert finding_report(kept).startswith("· unpromised task")
    judged = Judgement((Result("isolation", (found, loose)),))
    text = checked_text(Checked(kept, judged, (), ()))
    assert re.search(r"\n  · \w+: unpromised task", text)


def test_faults_stand_in_the_picture_and_beside_what_was_found() -> None:
    trace = lost_task()
    (first, *_) = [op for op in trace.history.operations if op.phase.value == "lane"]
    told = [
        Event(0, EventType.NOTE, -1, first.call, {"what": "fault", "text": "the disk is full"}),
        Event(0, EventType.NOTE, -1, first.call, {"what": "healed", "text": "full-disk is over"}),
    ]
    events = list(trace.history.events)
    events[first.invoked + 1 : first.invoked + 1] = told
    stormy = dataclasses.replace(
        trace,
        program=dataclasses.replace(trace.program, faults=(Fault("full-disk", first.call),)),
        history=History.of(dataclasses.replace(e, index=n) for n, e in enumerate(events)),
        faults=(Met("full-disk", first.call, "by itself").to_json(),),
    )
    text = finding_report(stormy)
    assert "! fault: the disk is full" in text
    assert "! healed: full-disk is over" in text
    assert f"under full-disk at {first.call}" in text
    assert f"full-disk at {first.call}, recovery: by itself" in text
