"""Bad input on the reference server: what it should be, and bugs planted into its refusals."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcpconc.program import Bad, Call, Program, Ref
from mcpconc.rig import Execution, rig
from mcpconc.strategies.bad import allows
from mcpconc.target import resolve
from mcpconc.target.base import Identity

SESSION = Ref("0.0", "session_id")
ODD = Bad("unknown-argument", "no_such_argument", "there is no such argument")
HUGE = Bad("huge-text", "description", "it is huge", plain=True)
ODD_ID = Bad("odd-id", "goal_id", "goal_id is '%'")
WRONG = Bad("wrong-type", "impact", "impact is a text", forbidden=True)


def calls() -> list[Call]:
    goal = {"session_id": SESSION, "objective": "cache layer"}
    return [
        Call(
            "0.0", 0, "session_create", {"ai_id": "ai-0", "subject": "tok000x000z"}, "tok000x000z"
        ),
        Call("0.1", 0, "goals_create", {**goal, "description": "tok000x001z"}, "tok000x001z"),
        Call(
            *("0.2", 0, "goals_create"),
            {**goal, "description": "tok000x002z", "no_such_argument": "x"},
            *("tok000x002z", ODD),
        ),
        Call("0.3", 0, "goals_activate", {"goal_id": "%"}, bad=ODD_ID),
        Call(
            *("0.4", 0, "goals_create"),
            {
                "session_id": SESSION,
                "objective": "tok000x004z",
                "description": "tok000x004z" + " x" * 150_000,
            },
            *("tok000x004z", HUGE),
        ),
        Call(
            *("0.5", 0, "finding_log"),
            {"session_id": SESSION, "finding": "tok000x005z", "impact": "much"},
            *("tok000x005z", WRONG),
        ),
    ]


def run(target: str, base: Path) -> Execution:
    program = Program(1, prefix=tuple(calls()), lanes=((),))

    async def ran() -> Execution:
        known = resolve(target)
        await known.install(print)
        async with rig(known, Identity.ISOLATED, 1, base, print) as on:
            return await on.run(program, "free", 0)

    return anyio.run(ran)


def refusals(done: Execution) -> set[tuple[str, ...]]:
    heads = [f.fingerprint.head() for f in done.judgement.findings]
    return {head[1:] for head in heads if head[0] == "refusal"}


def test_bad_input_is_refused_or_kept_as_it_is(tmp_path: Path) -> None:
    done = run("reference", tmp_path)
    assert [op.succeeded for op in done.run.history.operations] == [1, 1, 0, 0, 1, 0]
    assert done.judgement.findings == ()


@pytest.mark.parametrize(
    ("bug", "found"), [("refused-goal-is-stored", ("effect", "goals_create", "unknown-argument"))]
)
def test_a_refusal_with_an_effect_is_caught(
    bug: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    assert found in refusals(run(f"reference+{bug}", tmp_path))


def test_the_schemas_say_what_is_refused(tmp_path: Path) -> None:
    async def schema() -> object:
        known = resolve("reference")
        await known.install(print)
        async with rig(known, Identity.ISOLATED, 1, tmp_path, print) as on:
            return (await on.schemas())["finding_log"]["properties"]["impact"]

    impact = anyio.run(schema)
    assert isinstance(impact, dict)
    assert not allows(impact, "much")
    assert allows(impact, 0.5)
