"""Crash states of a call of the reference server: its row and its note are two writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcpconc.crash import CrashState, crash_states
from mcpconc.errors import UsageError
from mcpconc.program import Call, Program, Ref, token_for
from mcpconc.rig import rig
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget

TOKEN = token_for(0, 1)
FINDING = Call(
    "0.1", 0, "finding_log", {"session_id": Ref("0.0", "session_id"), "finding": TOKEN}, TOKEN
)
PROGRAM = Program(
    1, prefix=(Call("0.0", 0, "session_create", {"ai_id": "ai-0"}),), lanes=((FINDING,),)
)


def states(work: Path, program: Program = PROGRAM, expired: bool = False) -> tuple[CrashState, ...]:
    async def main() -> tuple[CrashState, ...]:
        async with rig(
            *(ReferenceTarget(), Identity.ISOLATED, 1, work, lambda text: None), probe="control"
        ) as on:
            return await crash_states(on, program, expired=lambda: expired)

    return anyio.run(main)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[CrashState, ...]:
    return states(tmp_path_factory.mktemp("crash"))


def kinds(state: CrashState) -> set[str]:
    return {record.kind for record in state.left}


def test_the_states_are_nothing_a_note_without_its_row_and_both(
    found: tuple[CrashState, ...],
) -> None:
    row, note = "sessions.project_findings", "notes refs/notes/empirica/findings/*"
    assert [(row in kinds(state), note in kinds(state)) for state in found] == [
        (False, False),
        (False, True),
        (True, True),
    ]


def test_each_state_says_which_kills_lead_to_it(found: tuple[CrashState, ...]) -> None:
    labels = [[kill.label.partition(" ")[0] for kill in state.kills] for state in found]
    assert labels == [["BEGIN", "INSERT", "git"], ["COMMIT"], []]


def test_a_killed_call_is_not_answered_and_the_last_state_is_the_complete_one(
    found: tuple[CrashState, ...],
) -> None:
    answered = [state.shown.run.history.operations[-1].answered for state in found]
    assert answered == [False, False, True]


def test_time_is_a_limit(tmp_path: Path) -> None:
    (complete,) = states(tmp_path, expired=True)
    assert complete.kills == ()


def test_two_calls_are_refused(tmp_path: Path) -> None:
    two = replace(PROGRAM, lanes=((FINDING, replace(FINDING, id="0.2")),))
    with pytest.raises(UsageError, match="crash states are those of one call"):
        states(tmp_path, two)


def test_a_call_that_writes_nothing_has_none(tmp_path: Path) -> None:
    read = Call("0.1", 0, "unknown_list", {})
    with pytest.raises(UsageError, match="saw nothing that the call writes"):
        states(tmp_path, replace(PROGRAM, lanes=((read,),)))
