"""Bad input on the real Empirica: what it refuses clearly, what it takes as a text like any other,
and what it accepts although its own schemas forbid it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from mcpconc.history import EventType, Outcome
from mcpconc.program import Bad, Call, Program, Ref, token_for
from mcpconc.rig import Execution, rig
from mcpconc.target.base import Identity
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.target.warm import Start

pytestmark = pytest.mark.real

SESSION, GOAL = Ref("0.0", "session_id"), Ref("0.1", "goal_id")

TEXTS = (
    "'; DROP TABLE goals; -- {}",
    "../../{}",
    "$(touch {});`id`",
    "\u202e{}\u202c \U0001f469\u200d\U0001f467",
    '{"ok": false, "error": "{}"}',
    "{}" + " x" * 50_000,
)
REFUSED: tuple[tuple[str, dict[str, Any], Bad], ...] = (
    ("goals_progress", {}, Bad("missing", "goal_id", "it is left out", True)),
    ("goals_progress", {"goal_id": "  "}, Bad("blank-id", "goal_id", "it is blank")),
    ("goals_get_tasks", {"goal_id": SESSION}, Bad("other-id", "goal_id", "it is a session")),
    ("goals_complete", {"goal_id": ["a", 1]}, Bad("wrong-type", "goal_id", "a list", True)),
    (
        "checkpoint_create",
        {"session_id": SESSION, "phase": "act"},
        Bad("not-a-choice", "phase", "it is in lower case", True),
    ),
    (
        "submit_preflight_assessment",
        {"session_id": SESSION, "vectors": {"know": 1.5, "uncertainty": 0.5}},
        Bad("inside-object", "vectors", "know is 1.5"),
    ),
    ("finding_log", {"session_id": SESSION}, Bad("missing", "finding", "it is left out", True)),
    (
        "finding_log",
        {"session_id": SESSION, "finding": "-x"},
        Bad("dash-text", "finding", "a dash", plain=True),
    ),
)
ACCEPTED: tuple[tuple[str, dict[str, Any], Bad], ...] = (
    (
        "finding_log",
        {"session_id": SESSION, "finding": 7},
        Bad("wrong-type", "finding", "it is a number", True),
    ),
    ("session_create", {"ai_id": "a", "project_id": None}, Bad("null", "project_id", "null", True)),
)


def run(tmp_path: Path, *calls: tuple[str, dict[str, Any], Bad]) -> Execution:
    """These calls one after another, behind a session and a goal."""
    made = [
        Call(
            "0.0", 0, "session_create", {"ai_id": "ai-0", "subject": "tok000x000z"}, "tok000x000z"
        ),
        Call(
            *("0.1", 0, "goals_create", {"session_id": SESSION, "objective": "tok000x001z"}),
            "tok000x001z",
        ),
    ]
    for n, (tool, args, bad) in enumerate(calls, start=len(made)):
        token = token_for(0, n)
        sent = {k: v.replace("{}", token) if isinstance(v, str) else v for k, v in args.items()}
        carried = token if any(token in str(v) for v in sent.values()) else ""
        made.append(Call(f"0.{n}", 0, tool, sent, carried, bad))
    return ran(tmp_path, Program(1, prefix=tuple(made), lanes=((),)))


def ran(tmp_path: Path, program: Program) -> Execution:
    async def main() -> Execution:
        target = EmpiricaTarget.tested()
        await target.install(print)
        agents = program.agents
        async with rig(target, Identity.ISOLATED, agents, tmp_path, print, Start.FORK) as on:
            return await on.run(program, "free", 0)

    return anyio.run(main)


def outcomes(done: Execution) -> list[Outcome | None]:
    return [op.outcome for op in done.run.history.operations[2:]]


def test_odd_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    odd = Bad("odd-text", "finding", "it is odd", plain=True)
    texts = [{"session_id": SESSION, "finding": text} for text in TEXTS]
    done = run(tmp_path, *(("finding_log", args, odd) for args in texts))
    assert set(outcomes(done)) == {Outcome.SUCCESS}
    assert done.judgement.findings == ()
    assert done.judgement.unknown == ()


def test_what_is_refused_is_refused_clearly_and_without_effect(tmp_path: Path) -> None:
    done = run(tmp_path, *REFUSED)
    assert set(outcomes(done)) <= {Outcome.REFUSED, Outcome.USAGE}
    assert done.judgement.findings == ()
    assert done.judgement.unknown == ()


def test_what_is_accepted_although_the_schema_forbids_it(tmp_path: Path) -> None:
    done = run(tmp_path, *ACCEPTED)
    assert {f.fingerprint.head() for f in done.judgement.findings} == {
        ("refusal", "accepted", "finding_log", "wrong-type"),
        ("refusal", "accepted", "session_create", "null"),
    }


@pytest.mark.parametrize(
    ("tool", "args", "bad"),
    [
        (
            "assumption_log",
            {"assumption": "{}", "confidence": 1.5},
            Bad("out-of-range", "confidence", "it is 1.5"),
        ),
        (
            "decision_log",
            {"choice": "{}"},
            Bad("missing", "rationale", "it is left out", True),
        ),
    ],
)
def test_a_row_that_its_table_does_not_take_keeps_everybody_from_writing(
    tmp_path: Path, tool: str, args: dict[str, Any], bad: Bad
) -> None:
    """The command keeps the transaction open in which the row was refused, and files an issue about
    that through another connection, which waits for the first until the server kills both."""
    token, other = token_for(0, 1), token_for(1, 3)
    made = tuple(
        Call(f"{n}.0", n, "session_create", {"ai_id": f"ai-{n}", "subject": token_for(n, 0)})
        for n in (0, 1)
    )
    sent = {name: token if value == "{}" else value for name, value in args.items()}
    locking = Call("0.1", 0, tool, {"session_id": SESSION, **sent}, token, bad)
    theirs = {"session_id": Ref("1.0", "session_id")}
    reads = [Call(f"1.{n}", 1, "unknown_list", theirs) for n in (1, 2)]
    write = Call("1.3", 1, "finding_log", {**theirs, "finding": other}, other)
    done = ran(tmp_path, Program(2, prefix=made, lanes=((locking,), (*reads, write))))
    history = done.run.history
    begun = {op.call: op.invoked for op in history.operations}
    ended = {event.call: event for event in history.events if event.type is not EventType.INVOKE}
    assert ended["0.1"].value["why"] == "target time-out"
    assert ended["1.2"].index < begun["1.3"] < ended["0.1"].index < ended["1.3"].index
    told = {f.fingerprint.head() for f in done.judgement.findings}
    assert ("refusal", "no-answer", tool, bad.kind) in told


def test_a_text_longer_than_an_argument_of_a_command_is_answered_with_the_insides(
    tmp_path: Path,
) -> None:
    """The server cannot start its command line, and says so in a JSON-RPC error."""
    huge = Bad("huge-text", "finding", "it is huge", plain=True)
    args = {"session_id": SESSION, "finding": "x" * 140_000}
    done = run(tmp_path, ("finding_log", args, huge))
    assert {f.fingerprint.property for f in done.judgement.findings} == {"error-response"}


def test_refusals_that_do_not_say_what_is_wrong(tmp_path: Path) -> None:
    """A goal without a text is told to name a session, which it does; CHECK tells of operands."""
    empty = Bad("empty-required", "objective", "it is empty")
    number = Bad("inside-object", "vectors", "know is a text")
    done = run(
        tmp_path,
        ("goals_create", {"session_id": SESSION, "objective": ""}, empty),
        (
            "submit_check_assessment",
            {
                "session_id": SESSION,
                "vectors": {"know": "abc", "uncertainty": 0.5},
                "reasoning": "{}",
            },
            number,
        ),
    )
    assert {f.fingerprint.head() for f in done.judgement.findings} == {
        ("refusal", "unclear", "goals_create", "empty-required"),
        ("refusal", "unclear", "submit_check_assessment", "inside-object"),
    }
