"""What agents rely on, in instances of their own and in a shared one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcpconc.history import Operation, Outcome, Phase
from mcpconc.model.empirica import SPEC
from mcpconc.snapshot import Snapshot

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
SHARED = {ONE: "all", TWO: "all"}
APART = {ONE: "a", TWO: "b"}

Seen = tuple[str, str, str, int, frozenset[int]]


def done(calls: Sequence[tuple[int, str, dict[str, Any], dict[str, Any]]]) -> list[Operation]:
    """Operations, one after another, of (agent, tool, arguments, answer)."""
    return [
        Operation(
            *(f"{agent}.{n}", agent, tool, args, "", Phase.LANE, 10 * n, 10 * n + 5),
            *(Outcome.SUCCESS, data),
        )
        for n, (agent, tool, args, data) in enumerate(calls)
    ]


MADE = [
    (0, "session_create", {"ai_id": "x"}, {"session_id": ONE}),
    (1, "session_create", {"ai_id": "y"}, {"session_id": TWO}),
]


def opened(agent: int, session: str, id: str) -> tuple[int, str, dict[str, Any], dict[str, Any]]:
    data = {"session_id": session, "transaction_id": id}
    return (agent, "submit_preflight_assessment", {"session_id": session}, data)


def left(instances: Mapping[str, str], files: Mapping[str, Any] | None = None) -> Snapshot:
    rows = [
        {"session_id": id, "ai_id": "x", "project_id": "p", "instance_id": of}
        for id, of in instances.items()
    ]
    texts = {f"{path}": json.dumps(said) for path, said in (files or {}).items()}
    return Snapshot(tables={"sessions": {"sessions": rows}}, files=texts)


def foreign(calls: Sequence[Any], snapshot: Snapshot) -> list[tuple[str, str, str, int]]:
    """(call, kind, field, agent) wherever an agent saw what is another's."""
    return [
        (v.call, v.kind, v.field, v.agent)
        for v in SPEC.views(done(calls), snapshot)
        if v.owners and v.agent not in v.owners
    ]


def test_a_session_that_was_not_named_must_be_ones_own() -> None:
    for told, seen in ((ONE, [("1.2", "finding_log", "session_id", 1)]), (TWO, [])):
        calls = [*MADE, (1, "finding_log", {"finding": "x"}, {"session_id": told})]
        assert foreign(calls, left(SHARED)) == seen


def test_whoever_opened_a_transaction_in_a_session_means_it_too() -> None:
    calls = [*MADE, opened(1, ONE, "t"), (1, "finding_log", {}, {"session_id": ONE})]
    assert foreign(calls, left(SHARED)) == []


def test_the_current_session_must_be_ones_own() -> None:
    file = {"home/.empirica/active_session_all": {"session_id": TWO, "ai_id": "x"}}
    assert foreign(MADE, left(SHARED, file)) == [("", "active_session", "session_id", 0)]
    file = {"home/.empirica/active_session_b": {"session_id": TWO, "ai_id": "x"}}
    assert foreign(MADE, left(APART, file)) == []
    file = {"home/.empirica/active_session_b": {"session_id": ONE, "ai_id": "x"}}
    assert foreign(MADE, left(APART, file)) == [("", "active_session", "session_id", 1)]


def test_who_made_no_session_misses_none() -> None:
    file = {"home/.empirica/active_session_all": {"session_id": ONE, "ai_id": "x"}}
    calls = [MADE[0], opened(1, ONE, "t")]
    assert foreign(calls, left({ONE: "all"}, file)) == []


def test_an_open_transaction_must_stay_until_it_is_closed() -> None:
    def current(id: str, status: str = "open") -> Snapshot:
        said = {"transaction_id": id, "session_id": ONE, "status": status}
        return left(SHARED, {"ws/.empirica/active_transaction_all.json": said})

    both = [*MADE, opened(0, ONE, "mine"), opened(1, TWO, "theirs")]
    gone = [("", "active_transaction", "transaction_id", 0)]
    assert foreign(both, current("theirs")) == gone
    assert foreign(both, current("theirs", "closed")) == []
    assert foreign(both, current("mine")) == [("", "active_transaction", "transaction_id", 1)]
    closing = (0, "submit_postflight_assessment", {"session_id": ONE}, {"session_id": ONE})
    assert foreign([*both, closing], current("theirs")) == []


def test_a_postflight_that_closes_another_session_than_the_one_named() -> None:
    for told, seen in (
        (TWO, [("0.2", "submit_postflight_assessment", "session_id", 0)]),
        (ONE, []),
    ):
        closing = (0, "submit_postflight_assessment", {"session_id": ONE}, {"session_id": told})
        assert foreign([*MADE, closing], left(SHARED)) == seen


def test_every_place_says_what_is_expected_of_it() -> None:
    file = {"home/.empirica/active_session_all": {"session_id": TWO, "ai_id": "x"}}
    calls = [
        *MADE,
        opened(0, ONE, "mine"),
        (1, "finding_log", {}, {"session_id": ONE}),
        (0, "submit_postflight_assessment", {"session_id": ONE}, {"session_id": TWO}),
    ]
    views = list(SPEC.views(done(calls), left(SHARED, file)))
    assert len({view.expected for view in views}) >= 3
    assert all(view.expected for view in views)
