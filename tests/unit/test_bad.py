"""Bad input: what is drawn really is bad, says so rightly, and a campaign sends the share asked
for."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpconc.campaign import FuzzConfig, programs
from mcpconc.program import Call, Program, Ref, bind, refs
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.strategies.bad import KINDS, Good, allows, spoiled

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["goal_id", "text", "vectors"],
    "additionalProperties": False,
    "properties": {
        "goal_id": {"type": "string"},
        "text": {"type": "string", "minLength": 1},
        "subject": {"type": ["string", "null"]},
        "phase": {"type": "string", "enum": ["CHECK", "ACT"]},
        "limit": {"type": "integer", "minimum": 0, "maximum": 100},
        "impact": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "all": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "vectors": {
            "type": "object",
            "required": ["know"],
            "properties": {"know": {"type": "number", "minimum": 0, "maximum": 1}},
        },
    },
}
LENIENT = {"type": "object", "properties": {"text": {"type": "string"}, "goal_id": {}}}
GOAL, SESSION = Ref("0.1", "goal_id"), Ref("0.0", "session_id")
MADE = {
    "0.0": {"session_id": "5e551011-aaaa-4bbb-8ccc-000000000000"},
    "0.1": {"goal_id": "90a1dddd-aaaa-4bbb-8ccc-000000000000"},
}
ARGS = {"goal_id": GOAL, "text": "tok000x002z", "subject": "s", "vectors": {"know": 0.5, "do": 0.1}}
CALL = Call("0.2", 0, "use", ARGS, "tok000x002z")


def spoil(kind: str, seed: int = 0, schema: Any = SCHEMA, call: Call = CALL) -> Call | None:
    good = Good(call, schema, (SESSION, GOAL))
    return spoiled(good, "0.3", "tok000x003z", Random(seed), (kind,))


def bad(kind: str, seed: int = 0, schema: Any = SCHEMA) -> Call:
    call = spoil(kind, seed, schema)
    assert call is not None
    assert call.bad is not None
    return call


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 999), lenient=st.booleans())
def test_what_is_said_to_be_forbidden_the_schema_forbids_and_nothing_else(
    kind: str, seed: int, lenient: bool
) -> None:
    schema = LENIENT if lenient else SCHEMA
    call = spoil(kind, seed, schema)
    if call is None:
        assert lenient  # the full schema has something for every kind
        return
    assert call.bad is not None
    sent = bind(call.args, MADE)
    assert jsonschema.Draft202012Validator(schema).is_valid(sent) != call.bad.forbidden
    assert sent != bind(CALL.args, MADE)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 999))
def test_one_thing_is_wrong_and_the_rest_is_as_it_was(kind: str, seed: int) -> None:
    call = bad(kind, seed)
    assert call.bad is not None
    assert call.bad.kind == kind
    fresh = {**CALL.args, "text": "tok000x003z"}
    changed = {n for n in {*fresh, *call.args} if fresh.get(n, "-") != call.args.get(n, "-")}
    assert changed == {call.bad.arg}
    assert (call.id, call.tool, call.agent) == ("0.3", "use", 0)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 999))
def test_it_carries_its_own_token_or_none_and_can_be_sent(kind: str, seed: int) -> None:
    call = bad(kind, seed)
    text = json.dumps(bind(call.args, MADE), ensure_ascii=False)
    assert "tok000x002z" not in text
    assert call.token in ("", "tok000x003z")
    assert call.token in text
    assert orjson.loads(orjson.dumps(bind(call.args, MADE))) == bind(call.args, MADE)
    assert Program.from_json(Program(1, (call,)).to_json()).prefix == (call,)


def test_only_a_text_that_keeps_its_token_is_one_like_any_other() -> None:
    assert all(bad("sql-text", n).bad.plain for n in range(9))  # type: ignore[union-attr]
    helped = [c for n in range(40) if (c := bad("dash-text", n)).args["text"] == "--help"]
    assert helped
    assert not any(c.bad.plain for c in helped if c.bad)


def test_a_text_that_is_a_document_is_no_text_like_any_other() -> None:
    args = {"metadata": '{"token": "tok000x002z"}'}
    call = spoil("unicode-text", schema={}, call=Call("0.2", 0, "use", args, "tok000x002z"))
    assert call is not None
    assert call.bad is not None
    assert not call.bad.plain


def test_every_way_to_be_wrong_is_drawn_sooner_or_later() -> None:
    good = Good(CALL, SCHEMA, (SESSION, GOAL))
    drawn = [spoiled(good, "0.3", "tok000x003z", Random(n)) for n in range(400)]
    assert {c.bad.kind for c in drawn if c and c.bad} == set(KINDS)


def test_ids_of_other_kinds_and_prefixes_come_from_what_the_program_knows() -> None:
    assert bad("other-id").args["goal_id"] == SESSION
    prefixes = [bad("prefix-id", n).args["goal_id"] for n in range(9)]
    assert all(r.call == "0.1" and 0 < r.keep < 36 for r in prefixes)
    assert spoil("other-id", call=Call("0.2", 0, "use", {"text": "x"})) is None


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_texts_are_huge(size: int) -> None:
    assert any(len(bad("huge-text", n).args["text"]) == size - 1 for n in range(40))


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-2, 200) | st.floats(-2, 2) | st.text(max_size=2),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("know"), inner),
        max_leaves=3,
    ),
    st.sampled_from(sorted(SCHEMA["properties"])),
)
def test_what_a_schema_allows_is_what_the_validator_says(value: Any, name: str) -> None:
    schema = SCHEMA["properties"][name]
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert allows(schema, value) == valid


# ------------------------------------------------------------------ in programs

SCHEMAS = {tool: {"type": "object", "properties": {}} for tool in CascadeMachine.tools}


def sent(share: float) -> list[Call]:
    """The calls of 30 programs; Hypothesis likes to repeat itself, so shares are rough."""
    config = FuzzConfig(out=Path("out"), bad_input=share, schemas=SCHEMAS, seed=1, agents=3)
    drawn = programs(config)
    return [c for _ in range(30) for lane in next(drawn).lanes for c in lane]


def test_a_campaign_sends_the_share_that_it_was_asked_for() -> None:
    assert not any(call.bad for call in sent(0.0))
    for share in (0.1, 0.5):
        calls = sent(share)
        spoilt = sum(call.bad is not None for call in calls)
        assert share / 3 < spoilt / len(calls) < 2 * share


def test_without_bad_input_programs_are_what_they_always_were_for_their_seed() -> None:
    plain = generate(CascadeMachine, Knobs(), 7, 10)
    known = generate(CascadeMachine, Knobs(schemas=SCHEMAS), 7, 10)
    assert [p.digest() for p in plain] == [p.digest() for p in known]


def test_bad_calls_are_of_tools_that_the_machine_knows_and_nobody_builds_on_them() -> None:
    for program in generate(CascadeMachine, Knobs(bad=0.4, schemas=SCHEMAS), 5, 15):
        wrong = {call.id for call in program.calls() if call.bad}
        assert all(call.tool in CascadeMachine.tools for call in program.calls())
        assert not wrong & {ref.call for call in program.calls() for ref in refs(call.args)}
        assert not any(call.bad for call in program.prefix)
        tokens = [call.token for call in program.calls() if call.token]
        assert len(tokens) == len(set(tokens))
