"""Liveness is judged from notes alone: who is left, what is locked, who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest

from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import Result, Run, Verdict
from mcpconc.oracle.liveness import liveness
from mcpconc.oracle.protocol import protocol
from mcpconc.program import Program
from runs import heads, history

Note = dict[str, Any]


def story(*items: str | Note) -> Run:
    """Lines as in `runs.history`, with notes in between."""
    events = list(history(*(item for item in items if isinstance(item, str))).events)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            agent = item.get("agent", -1)
            events.insert(index, Event(0, EventType.NOTE, agent, "", item))
    numbered = [Event(n, e.type, e.agent, e.call, e.value) for n, e in enumerate(events)]
    renamed = [
        Event(e.index, e.type, e.agent, e.call, {**e.value, "why": "timeout"})
        if e.type is EventType.INFO
        else e
        for e in numbered
    ]
    return Run(Program(3), History.of(renamed), before=None, after=None, spec=None)


def process(agent: int | None, pid: int = 0, command: str = "server") -> Note:
    return {"pid": pid or 100 + (agent or 0), "agent": agent, "command": command}


def rest(**left: Any) -> Note:
    return {"what": "aftermath", "quiescent": True, **left}


def wait(agent: int, path: str, *holders: int) -> Note:
    return {**process(agent), "path": path, "held_by": [process(h) for h in holders]}


def waits(*edges: Note) -> Note:
    return {"what": "waits", "edges": list(edges)}


def judged(*items: str | Note) -> Result:
    return liveness(story(*items))


# -- what is left ------------------------------------------------------------------------------


def test_a_world_at_rest_with_nothing_locked_is_well():
    assert judged("1> write", "1< ok", rest()).verdict is Verdict.OK


def test_a_run_without_notes_has_nothing_to_judge():
    assert judged("1> write", "1< ok").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("/usr/bin/sleep 100000", "sleep"),
        ("/venv/bin/python3.11 -P -m mcpconc.reference --root /w", "mcpconc.reference"),
        ("/venv/bin/python3 /somewhere/bin/empirica worker 7f3a", "empirica"),
        ("python -c import-time", "python"),
        ("git-maintenance.2 run", "git-maintenance"),
        ("", "process"),
    ],
)
def test_an_orphan_is_named_by_its_program(command, kind):
    strays = [process(1, command=command)]
    result = judged("1> write", "1< ok", {**rest(strays=strays), "quiescent": False})
    assert heads(result) == [("orphan", kind, "")]
    assert result.findings[0].calls == ("1",)


def test_without_rest_locks_are_unknown():
    result = judged({**rest(lock_files=["index.lock"]), "quiescent": False})
    assert result.findings == ()
    assert result.verdict is Verdict.UNKNOWN


def test_a_database_that_stays_locked_names_who_holds_it():
    result = judged("1> write", "1< refused", rest(databases={"main": [process(1)]}))
    assert heads(result) == [("database-locked", "main", "")]
    assert "`server` of agent 1" in result.findings[0].reason[0]


def test_a_database_locked_by_nobody_who_can_be_seen():
    assert "cannot be seen" in judged(rest(databases={"main": []})).findings[0].reason[0]


def test_a_ref_lock_is_named_without_ids():
    result = judged(rest(lock_files=["refs/notes/things/7f3a.lock", "refs/notes/things/99.lock"]))
    assert heads(result) == [("lock-file-left", "refs/notes/things/*", "")]
    assert result.findings[0].evidence["count"] == 2


def test_a_file_lock_that_is_still_held():
    result = judged("2> write", "2< ok", rest(held=[{**process(2), "path": "ws/a.lock"}]))
    assert heads(result) == [("lock-held", "ws/a.lock", "")]
    assert result.findings[0].calls == ("2",)


# -- who answers nobody ------------------------------------------------------------------------


def asked(**said: str) -> Note:
    return {"what": "asked", "agent": 1, "said": said, "seconds": 4.0, "text": str(said)}


LOST = ("1> write", "1< lost")


def test_a_server_that_does_not_answer_when_asked_is_stuck():
    result = judged(*LOST, rest(), asked(ping="answered", read="no answer"))
    assert heads(result) == [("stuck", "server", "")]
    assert result.findings[0].calls == ("1",)


def test_a_server_that_answers_when_asked_is_not_stuck():
    assert judged(*LOST, rest(), asked(ping="answered", read="answered")).verdict is Verdict.OK


def test_what_a_stuck_server_left_unanswered_is_not_undecided_to_the_protocol():
    stuck = story(*LOST, rest(), asked(ping="no answer", read="no answer"))
    assert protocol(stuck).verdict is Verdict.OK


def test_a_server_that_answers_when_asked_has_lost_the_response():
    lost = story(*LOST, rest(), asked(ping="answered", read="answered"))
    assert heads(protocol(lost)) == [("unanswered", "write", "response")]


def test_a_ping_proves_nothing_about_tools():
    only_a_ping = story(*LOST, rest(), asked(ping="answered"))
    assert liveness(only_a_ping).verdict is Verdict.OK
    assert protocol(only_a_ping).verdict is Verdict.UNKNOWN


def test_where_nobody_asked_the_protocol_is_undecided():
    assert protocol(story(*LOST)).verdict is Verdict.UNKNOWN


# -- who waits for whom ------------------------------------------------------------------------

TWO = ("1> write", "2> write")
GIVEN_UP = ("1< lost", "2< lost")
CIRCLE = waits(wait(1, "locks/7.lock", 2), wait(2, "locks/8.lock", 1))


def test_a_circle_is_told_in_words():
    result = judged(*TWO, CIRCLE, *GIVEN_UP, rest())
    assert heads(result) == [("deadlock", "locks/*", "")]
    found = result.findings[0]
    assert found.calls == ("1", "2")
    assert found.reason == (
        "agent 1 waits for the lock on locks/7.lock, held by agent 2.",
        "agent 2 waits for the lock on locks/8.lock, held by agent 1.",
    )


def test_a_circle_that_was_resolved_is_none():
    assert judged(*TWO, CIRCLE, "1< ok", "2< ok", rest()).verdict is Verdict.OK


def test_who_hangs_beside_a_circle_is_not_in_it():
    tail = waits(wait(0, "a", 1), wait(1, "b", 2), wait(2, "c", 1))
    assert heads(judged(*TWO, tail, *GIVEN_UP)) == [("deadlock", "b + c", "")]


def test_a_circle_of_three():
    ring = waits(wait(1, "a", 2), wait(2, "b", 3), wait(3, "c", 1))
    result = judged("1> w", "2> w", "3> w", ring, "1< lost", "2< lost", "3< lost")
    assert heads(result) == [("deadlock", "a + b + c", "")]


def test_two_calls_in_one_process_wait_for_each_other():
    result = judged("1> write", waits(wait(1, "a", 1), wait(1, "b", 1)), "1< lost")
    assert heads(result) == [("deadlock", "a + b", "")]
    assert result.findings[0].summary == "deadlock: calls of agent 1 wait for each other"


def test_everybody_waits_for_somebody_who_is_not_at_work():
    result = judged(*TWO, waits(wait(1, "a", 0), wait(2, "a", 0)), *GIVEN_UP)
    assert "every call in flight" in result.findings[0].summary


def test_who_waits_while_another_call_goes_on_is_no_deadlock():
    result = judged(*TWO, waits(wait(1, "a", 2)), "2< ok", "1< lost")
    assert result.verdict is Verdict.OK


def test_locks_of_a_deadlock_are_not_told_twice():
    held = rest(held=[{**process(1), "path": "locks/8.lock"}])
    assert heads(judged(*TWO, CIRCLE, *GIVEN_UP, held)) == [("deadlock", "locks/*", "")]


def test_the_protocol_does_not_call_the_responses_of_a_deadlock_lost():
    run = story(*TWO, CIRCLE, *GIVEN_UP, rest(), asked(ping="answered", read="answered"))
    assert protocol(run).verdict is Verdict.OK


def stands(agent: int, label: str, path: str, holder: int) -> Note:
    return {**wait(agent, path, holder), "label": label, "call": str(agent)}


BEGIN = "BEGIN IMMEDIATE"
MET = {
    "what": "deadlock",
    "edges": [stands(1, BEGIN, "sessions.db", 2), stands(2, BEGIN, "workspace.db", 1)],
}


def test_a_deadlock_under_control_is_one_whatever_came_of_it():
    result = judged(*TWO, MET, "1< ok", "2< ok", rest())
    assert heads(result) == [("deadlock", "sessions.db + workspace.db", "")]
    found = result.findings[0]
    assert found.calls == ("1", "2")
    assert found.reason[0] == (
        "agent 1 waits for the lock on sessions.db, held by agent 2. "
        "It stood before: BEGIN IMMEDIATE"
    )


def test_who_waits_beside_a_deadlock_under_control_is_not_in_it():
    edges = [*MET["edges"], stands(0, BEGIN, "other.db", 1)]
    assert judged(*TWO, {**MET, "edges": edges}).findings[0].calls == ("1", "2")


def test_a_deadlock_that_was_seen_from_outside_too_is_told_once():
    seen = waits(wait(1, "sessions.db", 2), wait(2, "workspace.db", 1))
    kinds = [kind for kind, *_ in heads(judged(*TWO, MET, seen, *GIVEN_UP))]
    assert kinds == ["deadlock"]
