"""The isolation oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpconc.model.spec import View
from mcpconc.oracle.base import Result
from mcpconc.oracle.isolation import isolation
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict
from runs import TWO_AT_ONCE, Told, heads, run


def judge(agent: int, owners: set[int], identity: str = "isolated") -> Result:
    view = View("1", agent, "finding", "transaction_id", "t-123", frozenset(owners))
    return isolation(run(Told(view=[view]), TWO_AT_ONCE, Snapshot(), identity=identity))


def test_agents_may_see_their_own() -> None:
    assert judge(1, {1}).verdict is Verdict.OK


def test_value_with_no_known_owner_says_nothing() -> None:
    assert judge(1, set()).verdict is Verdict.OK


def test_private_value_at_another_agent() -> None:
    assert heads(judge(1, {2})) == [("leak", "finding", "transaction_id")]


def expecting(identity: str, expected: str = "its own comes back") -> Result:
    view = View("1", 1, "finding", "session_id", "s", frozenset({2}), expected=expected)
    return isolation(run(Told(view=[view]), TWO_AT_ONCE, Snapshot(), identity=identity))


@pytest.mark.parametrize("identity", ["shared", "same-instance"])
def test_where_nothing_is_promised_an_expectation_breaks_and_that_is_no_violation(
    identity: str,
) -> None:
    result = expecting(identity)
    assert heads(result) == [("unpromised", "finding", "session_id")]
    (found,) = result.findings
    assert found.summary == "agent 1 cannot rely on it that its own comes back"
    assert any(identity in line and "isolated does" in line for line in found.reason)
    assert (found.promised, found.to_json()["promised"]) == (False, False)
    assert result.verdict is Verdict.OK


def test_the_same_is_a_violation_where_it_is_promised() -> None:
    result = expecting("isolated")
    assert heads(result) == [("leak", "finding", "session_id")]
    assert (result.findings[0].promised, result.verdict) == (True, Verdict.VIOLATION)


def test_a_place_without_an_expectation_says_what_shows() -> None:
    (found,) = expecting("shared", "").findings
    assert "finding.session_id of agent 1 shows what is private to agent 2" in found.summary
    assert "does not promise" in found.summary


def test_beside_a_broken_promise_it_does_not_count_and_beside_doubt_it_does_not_decide() -> None:
    (found,) = expecting("shared").findings
    promised = replace(found, fingerprint=replace(found.fingerprint, property="leak"))
    assert Result("x", (found, promised)).verdict is Verdict.VIOLATION
    assert Result("x", (found,), ("no time",)).verdict is Verdict.UNKNOWN
