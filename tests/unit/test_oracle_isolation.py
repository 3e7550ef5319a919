"""The isolation oracle."""

from __future__ import annotations

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


def test_where_nothing_is_promised_the_finding_is_another() -> None:
    result = judge(1, {2}, "shared")
    assert heads(result) == [("unpromised", "finding", "transaction_id")]
    assert "does not promise" in result.findings[0].summary
