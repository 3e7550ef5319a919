"""What callers may leave out: the end of an id, and the session where the server knows one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcpconc.history import Operation, Outcome, Phase
from mcpconc.model.base import Op, Reject
from mcpconc.model.empirica.common import Refusal
from mcpconc.model.empirica.instances import IMPLIES, Instances
from mcpconc.model.empirica.shorthand import spelled_out

GOAL = "11111111-0000-4000-8000-000000000000"
TWIN = "11111111-9999-4000-8000-000000000000"


def made(tool: str, args: dict[str, Any], **data: Any) -> Operation:
    outcome = Outcome.REFUSED if "error" in data else Outcome.SUCCESS
    return Operation("0.0", 0, tool, args, "", Phase.LANE, 0, 1, outcome, data)


def test_the_beginning_of_an_id_is_written_out() -> None:
    created = made("goals_create", {"session_id": "S"}, goal_id=GOAL)
    short = made("goals_progress", {"goal_id": GOAL[:8]})
    done, _ = spelled_out([created, short], {})
    assert done[1].args == {"goal_id": GOAL}


def test_what_is_too_short_ambiguous_or_not_allowed_stays() -> None:
    rows = {"goals": [{"id": GOAL}, {"id": TWIN}]}
    for tool, id in (
        ("goals_progress", GOAL[:7]),
        ("goals_progress", GOAL[:8]),
        ("goals_refresh", GOAL[:12]),
    ):
        (kept,), _ = spelled_out([made(tool, {"goal_id": id})], rows)
        assert kept.args == {"goal_id": id}


def test_a_session_that_was_not_named_is_the_one_answered() -> None:
    (done,), (implied,) = spelled_out([made("finding_log", {}, session_id="S")], {})
    assert done.args == {"session_id": "S"}
    assert (implied.session, implied.operation.args) == ("S", {})


def test_where_the_answer_does_not_tell_the_row_does() -> None:
    note = replace(made("note", {"text": "tok"}, note_id="n"), token="tok")
    (done,), (implied,) = spelled_out([note], {}, {"tok": "S"})
    assert (done.args["session_id"], implied.session) == ("S", "S")
    (done,), (implied,) = spelled_out([note], {})
    assert ("session_id" in done.args, implied.session) == (False, None)


@pytest.mark.parametrize(
    "tool",
    ["finding_log", "deadend_log", "mistake_log", "assumption_log", "decision_log", "note"],
)
def test_a_call_that_found_no_session_did_nothing(tool: str) -> None:
    done, (implied,) = spelled_out([made(tool, {}, error="no-session")], {})
    assert (done, implied.session) == ((), "")


def step(model: Instances, *ops: tuple[str, Any, Any]) -> str:
    """The field at which the last of these (name, input, output) is rejected."""
    state, result = model.initial(), None
    for name, input, output in ops:
        result = model.step(state, Op("c", 0, name, input, output, 0, 1))
        if not isinstance(result, Reject):
            state = result[0]
    return result.field if isinstance(result, Reject) else ""


CREATE, OPEN, CLOSE = (
    ("session_create", "a", "ok"),
    ("submit_preflight_assessment", "b", "ok"),
    ("submit_postflight_assessment", "b", "ok"),
)


def test_the_open_transaction_decides_then_the_session_made_last() -> None:
    def got(session: str) -> tuple[str, None, str]:
        return (IMPLIES, None, session)

    assert step(Instances(), CREATE, got("a")) == ""
    assert step(Instances(), CREATE, OPEN, got("b")) == ""
    assert step(Instances(), CREATE, OPEN, got("a")) == "session_id"
    assert step(Instances(), CREATE, OPEN, CLOSE, got("a")) == ""


def test_without_a_session_the_call_is_refused() -> None:
    none = (IMPLIES, None, Refusal("no-session"))
    assert step(Instances(), none) == ""
    assert step(Instances(), CREATE, none) == "spurious-no-session"
    assert step(Instances(), (IMPLIES, None, "a")) == "no-session"
    assert step(Instances(falls_back=False), CREATE, none) == ""
