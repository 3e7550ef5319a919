"""The protocol oracle on what fake servers really do, and on histories by hand."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from fakes import alone, call, fleet, run
from mcpconc.drive.record import Recorder
from mcpconc.history import EventType, History
from mcpconc.oracle.base import Run
from mcpconc.oracle.protocol import protocol
from mcpconc.program import Program
from mcpconc.verdict import Verdict


def judged(history: History) -> set[tuple[str, str, str]]:
    """Property, kind and field of each finding."""
    return {f.fingerprint.head()[1:] for f in protocol(as_run(history)).findings}


def as_run(history: History) -> Run:
    return Run(Program(1), history, before=None, after=None, spec=None)


def drive(root: Path, mode: str, *tools: str, inflight: int = 1, **options: float) -> History:
    async def main() -> History:
        async with fleet(root, mode, **options) as (up, world):
            lane = [call(f"c{n}", tool, token=f"tok00{n}z") for n, tool in enumerate(tools)]
            return await run(up, world, alone(*lane, inflight=inflight))

    return anyio.run(main)


def by_hand(*lines: tuple[str, str, dict[str, object]]) -> History:
    """Events of agent 0: (type, call, value)."""
    recorder = Recorder(None)
    for type, name, value in lines:
        recorder.append(EventType(type), 0, name, value)
    return recorder.history()


def sent(name: str, tool: str = "t", token: str = "") -> tuple[str, str, dict[str, object]]:
    return ("invoke", name, {"tool": tool, "args": {}, "token": token, "phase": "lane"})


def ok(name: str, **data: object) -> tuple[str, str, dict[str, object]]:
    return ("ok", name, {"outcome": "success", "data": data})


def gave_up(name: str) -> tuple[str, str, dict[str, object]]:
    return ("info", name, {"why": "timeout", "text": ""})


def test_a_good_server_is_ok(tmp_path: Path) -> None:
    history = drive(tmp_path, "good", "echo", "refuse", "echo", inflight=3)
    assert protocol(as_run(history)).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("garbage", ("garbage", "server", "stdout")),
        ("malformed", ("malformed", "server", "message")),
        ("malformed-result", ("malformed", "unlucky", "result")),
        ("stray", ("stray-response", "server", "id")),
        ("twice", ("duplicate-response", "unlucky", "id")),
        ("no-json", ("garbled", "unlucky", "text")),
        ("traceback", ("traceback", "unlucky", "text")),
        ("internal", ("error-response", "unlucky", "-32603")),
        ("dies", ("server-died", "server", "")),
    ],
)
def test_each_kind_of_misbehaviour_is_one_finding(
    tmp_path: Path, mode: str, expected: tuple[str, str, str]
) -> None:
    assert judged(drive(tmp_path, mode, "unlucky", "echo")) == {expected}


def test_a_usage_error_is_no_finding(tmp_path: Path) -> None:
    assert judged(drive(tmp_path, "usage", "unlucky")) == set()


def test_a_lost_response_is_a_finding_when_a_later_call_is_answered(tmp_path: Path) -> None:
    history = drive(tmp_path, "swallow", "unlucky", "echo", call_timeout=0.5)
    assert judged(history) == {("unanswered", "unlucky", "response")}


def test_swapped_responses_are_a_finding(tmp_path: Path) -> None:
    history = drive(tmp_path, "swap", "unlucky", "unlucky", inflight=2)
    assert judged(history) == {("crossed-response", "unlucky", "id")}


def test_no_answer_at_all_is_unknown() -> None:
    result = protocol(as_run(by_hand(sent("a"), gave_up("a"))))
    assert (result.verdict, len(result.unknown)) == (Verdict.UNKNOWN, 1)


def test_an_answer_of_the_next_server_says_nothing_about_the_last_one() -> None:
    restarted = ("note", "", {"what": "server-restarted"})
    history = by_hand(sent("a"), gave_up("a"), restarted, sent("b"), ok("b"))
    assert protocol(as_run(history)).verdict is Verdict.UNKNOWN


def test_a_late_response_is_slow_and_not_lost() -> None:
    late = ("note", "a", {"what": "late-response", "text": ""})
    history = by_hand(sent("a"), gave_up("a"), sent("b"), ok("b"), late)
    assert protocol(as_run(history)).verdict is Verdict.OK


def test_a_server_that_was_killed_on_purpose_is_excused() -> None:
    fault = ("note", "", {"what": "fault", "fault": "kill"})
    died = ("note", "", {"what": "server-died", "stderr": ""})
    assert judged(by_hand(fault, died)) == set()
    assert judged(by_hand(died, fault)) == {("server-died", "server", "")}


def test_a_list_that_shows_anothers_token_is_not_crossed() -> None:
    history = by_hand(
        sent("a", token="tokA"),
        sent("b", "list"),
        ok("b", items=["tokA"]),
        ok("a", text="tokA"),
    )
    assert judged(history) == set()


def test_calls_after_each_other_are_not_crossed() -> None:
    history = by_hand(
        sent("a", token="tokA"),
        ok("a", other="tokB"),
        sent("b", token="tokB"),
        ok("b", other="tokA"),
    )
    assert judged(history) == set()


def test_a_traceback_hidden_in_data_is_found() -> None:
    deep = {"errors": [{"stderr": "Traceback (most recent call last):\n  x\nKeyError: 1"}]}
    assert judged(by_hand(sent("a"), ok("a", **deep))) == {("traceback", "t", "text")}
