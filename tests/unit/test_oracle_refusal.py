"""Refusal: each clause has a history that violates it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mcpconc.history import Event, EventType, History
from mcpconc.model.spec import Footprint, Spec
from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Finding, Fingerprint, Label, Result, Run, Verdict
from mcpconc.oracle.refusal import refusal, told
from mcpconc.program import Bad, Call, Program
from mcpconc.snapshot import Snapshot
from runs import Told, heads

FORBIDDEN = Bad("wrong-type", "goal_id", "goal_id is a list, not string", forbidden=True)
ODD_ID = Bad("odd-id", "goal_id", "goal_id is '%'")
PLAIN = Bad("sql-text", "reason", 'reason is "\' OR 1"', plain=True)
TOKEN = "tok000x000z"


def call(
    name: str, begin: float, end: float | None = None, bad: Bad | None = None, **about: Any
) -> Any:
    """A call with its times in seconds; by default a good one of agent 1 that succeeds."""
    agent = 0 if bad else 1
    given = {"agent": agent, "tool": "use", "outcome": "success", "data": {}, "args": {}}
    return (name, begin, end, bad, {**given, "token": "", "text": "", **about})


def refused(bad: Bad = FORBIDDEN, message: str = "goal_id must be a text", **about: Any) -> Any:
    """A bad call that is refused."""
    data = {"error": "invalid-input", "message": message}
    given = {"begin": 1, "end": 1.1, "outcome": "refused", "data": data, "name": "bad", **about}
    return call(given.pop("name"), given.pop("begin"), given.pop("end"), bad, **given)


def run(*calls: Any, after: Snapshot | None = None, notes: Any = (), **more: Any) -> Run:
    points: list[tuple[float, EventType, int, str, dict[str, Any]]] = []
    program = []
    for name, begin, end, bad, about in calls:
        program.append(Call(name, about["agent"], about["tool"], about["args"], bad=bad))
        sent = {key: about[key] for key in ("tool", "args", "token")}
        points.append((begin, EventType.INVOKE, about["agent"], name, sent))
        if end is not None and "why" in about:
            points.append((end, EventType.INFO, about["agent"], name, {"why": about["why"]}))
        elif end is not None:
            value = {key: about[key] for key in ("outcome", "data", "text")}
            points.append((end, EventType.OK, about["agent"], name, value))
    points += [(at, EventType.NOTE, agent, "", note) for at, agent, note in notes]
    points.sort(key=lambda point: point[0])
    events = [Event(n, t, a, c, v, int(at * 1e9)) for n, (at, t, a, c, v) in enumerate(points)]
    given: dict[str, Any] = {"before": Snapshot(), "spec": None, **more}
    return Run(
        Program(2, (), ((), tuple(program))),
        History.of(events),
        after=Snapshot() if after is None else after,
        **given,
    )


def found(*calls: Any, **more: Any) -> list[tuple[str, str, str]]:
    return heads(refusal(run(*calls, **more)))


STEADY = [call(f"g{n}", 10 + n, 10.5 + n) for n in range(4)]
"""Good calls with no bad one beside them, half a second each."""


def test_a_prompt_clear_refusal_without_effect_is_as_it_should_be() -> None:
    result = refusal(run(refused(token=TOKEN), *STEADY))
    assert result == Result("refusal")


def test_a_run_without_bad_input_is_nothing_to_judge() -> None:
    result = refusal(run(call("a", 1, 2, outcome="refused", text="Traceback")))
    assert result == Result("refusal")


# ------------------------------------------------------------------ the answer


def test_what_the_schema_forbids_was_accepted() -> None:
    result = refusal(run(call("bad", 1, 2, FORBIDDEN)))
    assert heads(result) == [("accepted", "use", "wrong-type")]
    assert result.findings[0].label is Label.SEQUENTIAL


def test_what_the_schema_allows_may_be_accepted() -> None:
    assert found(call("bad", 1, 2, ODD_ID)) == []


@pytest.mark.parametrize(
    "message",
    [
        "something went wrong",
        "goal_id: TypeError: list is not a text",
        "'list' object has no attribute 'strip' (goal_id)",
        "",
    ],
)
def test_a_refusal_that_does_not_say_what_is_wrong(message: str) -> None:
    assert found(refused(message=message)) == [("unclear", "use", "wrong-type")]


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("usage: use [--goal-id ID]\nuse: error: argument --goal-id: not a text", {}),
        ("no such goal", {}),
        ("no subgoal matches", {}),
        ("cannot make a text of ['a', 1]", {"goal_id": "['a', 1]"}),
    ],
)
def test_a_refusal_that_names_the_argument_or_its_value(
    message: str, args: Mapping[str, Any]
) -> None:
    assert found(refused(message=message, args=args)) == []


def test_a_synopsis_names_every_argument_and_says_nothing() -> None:
    message = "usage: use [--goal-id ID]\nuse: error: something went wrong"
    assert found(refused(message=message)) == [("unclear", "use", "wrong-type")]


@pytest.mark.parametrize("message", ["already there", "no session 5e551011 is known"])
def test_a_refusal_for_another_reason_need_not_name_the_argument(message: str) -> None:
    assert found(refused(message=message, args={"session_id": "5e551011"})) == []


def test_a_text_like_any_other_may_be_refused_for_any_reason_but_not_with_insides() -> None:
    assert found(refused(PLAIN, "not now")) == []
    assert found(refused(PLAIN, "OperationalError: near OR")) == [("unclear", "use", "sql-text")]


# ------------------------------------------------------------------ the state

LEFT = Snapshot(tables={"db": {"goals": [{"_rowid_": 1, "text": f"see {TOKEN}"}]}})


def test_a_refused_call_left_a_row() -> None:
    assert found(refused(token=TOKEN), after=LEFT) == [("effect", "use", "wrong-type")]
    assert found(refused(token="tok000x001z"), after=LEFT) == []
    assert found(refused(token=TOKEN), after=LEFT, before=LEFT) == []


@pytest.mark.parametrize(
    "after",
    [
        Snapshot(notes={"refs/notes/x": {"abc": f'{{"by": "{TOKEN}"}}'}}),
        Snapshot(files={"ws/log.json": TOKEN}),
    ],
)
def test_a_refused_call_left_a_note_or_a_file(after: Snapshot) -> None:
    assert found(refused(token=TOKEN), after=after) == [("effect", "use", "wrong-type")]


def test_a_log_of_refusals_that_the_target_declares_is_no_effect() -> None:
    spec: Spec = Told(footprints={("use", "refused"): Footprint({"rows:db.goals": (0, 9)})})
    assert found(refused(token=TOKEN), after=LEFT, spec=spec) == []


def test_without_read_back_nobody_knows() -> None:
    before = run(refused(token=TOKEN))
    assert refusal(replace(before, after=None)).verdict is Verdict.UNKNOWN


def test_another_agent_is_told_of_a_refused_call() -> None:
    bad = refused(token=TOKEN)
    assert found(bad, call("other", 2, 3, data={"goals": [TOKEN]})) == [
        ("noticed", "use", "wrong-type")
    ]
    assert found(bad, call("own", 2, 3, agent=0, data={"goals": [TOKEN]})) == []


# ------------------------------------------------------------------ time


def test_a_refusal_that_takes_longer_than_anything_while_others_are_served() -> None:
    late = refused(begin=9, end=15)
    assert found(late, *STEADY) == [("slow", "use", "wrong-type")]
    assert found(refused(begin=9, end=10.4), *STEADY) == []


def test_a_refusal_that_is_late_when_nobody_was_served_proves_nothing() -> None:
    result = refusal(run(refused(begin=20, end=26), *STEADY))
    assert result.verdict is Verdict.UNKNOWN


def test_bad_input_is_never_answered_while_others_are() -> None:
    lost = call("bad", 9, 40, FORBIDDEN, why="timeout")
    assert found(lost, *STEADY) == [("no-answer", "use", "wrong-type")]


def test_bad_input_is_never_answered_and_others_are_not_either() -> None:
    lost = call("bad", 9, 40, FORBIDDEN, why="timeout")
    result = refusal(run(lost, *STEADY, call("too", 9, 40, why="timeout")))
    assert result.verdict is Verdict.UNKNOWN


def test_whoever_comes_behind_bad_input_that_is_never_answered_gets_no_answer() -> None:
    lost = call("bad", 9, 40, FORBIDDEN, why="timeout")
    behind = call("behind", 12, 43, why="timeout")
    result = refusal(run(lost, *STEADY, behind))
    assert heads(result) == [("no-answer", "use", "wrong-type"), ("delayed", "use", "wrong-type")]
    held = next(f for f in result.findings if f.fingerprint.property == "delayed")
    assert held.calls == ("bad", "behind")
    own = call("own", 12, 43, agent=0, why="timeout")
    assert found(lost, *STEADY, own) == [("no-answer", "use", "wrong-type")]
    stopped = (0.0, -1, {"what": "schedule", "name": "random"})
    assert found(lost, *STEADY, behind, notes=[stopped]) == [("no-answer", "use", "wrong-type")]
    died = call("died", 12, 43, why="server-died")
    assert refusal(run(lost, *STEADY, died)).verdict is Verdict.UNKNOWN


def test_the_server_does_not_survive() -> None:
    lost = call("bad", 1, 2, FORBIDDEN, why="server-died")
    died = (1.9, 0, {"what": "server-died"})
    assert found(lost, notes=[died]) == [("server-died", "use", "wrong-type")]
    beside = call("beside", 0.5, 1.8, agent=0)
    assert found(lost, beside, notes=[died]) == []  # that one may have done it
    hurt = (0.1, 0, {"what": "fault", "name": "kill"})
    assert found(lost, notes=[hurt, died]) == []


def beside(n: int, seconds: float) -> list[Any]:
    """A bad call, and a good one of another agent that begins with it."""
    begin = 100.0 * n
    bad = refused(name=f"bad{n}", begin=begin, end=begin + 0.2)
    return [bad, call(f"held{n}", begin + 0.1, begin + 0.1 + seconds)]


def test_calls_of_others_take_long_beside_bad_input_again_and_again() -> None:
    assert found(*STEADY, *beside(1, 9), *beside(2, 9)) == [("delayed", "use", "wrong-type")]


def test_once_proves_nothing() -> None:
    result = refusal(run(*STEADY, *beside(1, 9), *beside(2, 0.5)))
    assert result.verdict is Verdict.UNKNOWN


def test_calls_that_are_as_slow_without_bad_input_are_just_slow() -> None:
    slow = call("slow", 300, 305)
    assert found(*STEADY, slow, *beside(1, 9), *beside(2, 9)) == []


def test_one_agents_own_calls_are_its_own_affair() -> None:
    mine = [(*one[:4], {**one[4], "agent": 0}) for one in (*beside(1, 9), *beside(2, 9))]
    assert found(*STEADY, *mine) == []


def test_times_under_a_scheduler_that_holds_calls_back_say_nothing() -> None:
    held = (0.0, -1, {"what": "schedule", "name": "convoy"})
    assert found(*STEADY, *beside(1, 9), *beside(2, 9), notes=[held]) == []


# ------------------------------------------------------------------ the other oracles

LOST = Finding(Fingerprint("effects", "lost", "goal"), "a goal is gone")


def says(run: Run) -> Result:
    """An oracle that finds something in every run, and tells how many calls it saw."""
    return Result("effects", (LOST,), notes=(str(len(run.history.operations)),))


def test_models_do_not_see_bad_calls_that_were_refused() -> None:
    one = run(refused(), call("good", 2, 3))
    assert told(says, refused=False)(one).notes == ("1",)
    assert told(says, refused=True)(one).notes == ("2",)
    assert told(says, refused=False)(one).findings == (LOST,)


@pytest.mark.parametrize("bad", [FORBIDDEN, ODD_ID])
def test_what_may_follow_from_bad_input_that_was_accepted_is_undecided(bad: Bad) -> None:
    result = told(says, refused=True)(run(call("bad", 1, 2, bad)))
    assert result.verdict is Verdict.UNKNOWN
    assert "may follow from bad input: use accepted that goal_id is" in result.unknown[0]


def test_an_odd_text_that_was_accepted_excuses_nothing() -> None:
    assert told(says, refused=True)(run(call("bad", 1, 2, PLAIN))).findings == (LOST,)


def test_runs_without_bad_input_are_judged_as_ever() -> None:
    assert told(says, refused=False)(run(call("good", 1, 2))).notes == ("1",)


def test_it_is_one_of_the_oracles() -> None:
    assert dict(ORACLES)["refusal"] is refusal
