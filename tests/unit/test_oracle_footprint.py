"""The footprint oracle: claims of calls against differences from the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.spec import Footprint
from mcpconc.oracle.base import Result
from mcpconc.oracle.footprint import footprint, unjudged
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict
from runs import TWO_AT_ONCE, Told, heads, run

ROW = Footprint({"rows:db.things": (1, 1)})
KNOWN = {("write", "success"): ROW, ("write", "refused"): Footprint({})}


def judge(
    change: Mapping[tuple[str, str], int],
    *lines: str,
    known: Mapping[tuple[str, str], Footprint] = KNOWN,
    **more: Any,
) -> Result:
    told = Told(footprints=known, change=change)
    return footprint(run(told, lines or TWO_AT_ONCE, Snapshot(), **more))


def test_every_change_claimed_and_every_claim_there() -> None:
    change = {("rows:db.things", "owner1"): 1, ("rows:db.things", "owner2"): 1}
    assert judge(change).verdict is Verdict.OK


def test_acknowledged_call_without_its_change() -> None:
    result = judge({("rows:db.things", "owner1"): 1})
    assert heads(result) == [("missing", "rows:db.things", "")]
    assert result.findings[0].calls == ("2",)


def test_nothing_there_at_all() -> None:
    assert heads(judge({})) == [("missing", "rows:db.things", "")]


def test_change_that_nobody_claims() -> None:
    change = {
        ("rows:db.things", "owner1"): 2,
        ("rows:db.things", "owner2"): 1,
        ("file:left.json", ""): 1,
    }
    assert sorted(heads(judge(change))) == [
        ("unclaimed", "file:left.json", ""),
        ("unclaimed", "rows:db.things", ""),
    ]


def test_change_under_another_owner() -> None:
    change = {("rows:db.things", "owner1"): 2}
    assert heads(judge(change)) == [("misattributed", "rows:db.things", "")]


def test_unanswered_call_may_leave_its_footprint_or_not() -> None:
    lines = ("1> write", "1< lost")
    assert judge({}, *lines).verdict is Verdict.OK
    assert judge({("rows:db.things", "owner1"): 1}, *lines).verdict is Verdict.OK
    assert judge({("rows:db.things", "owner1"): 2}, *lines).verdict is Verdict.VIOLATION


def test_refused_call_leaves_nothing() -> None:
    change = {("rows:db.things", "owner1"): 1}
    assert heads(judge(change, "1> write", "1< refused")) == [("unclaimed", "rows:db.things", "")]


def test_changes_without_owner_are_pooled() -> None:
    assert judge({("rows:db.things", ""): 2}).verdict is Verdict.OK
    assert heads(judge({("rows:db.things", ""): 1})) == [("missing", "rows:db.things", "")]
    assert heads(judge({("rows:db.things", ""): 3})) == [("unclaimed", "rows:db.things", "")]


def test_changes_in_place_may_fall_into_one() -> None:
    known = {("write", "success"): Footprint({"cell:db.things.state": (1, 1)})}
    assert judge({("cell:db.things.state", ""): 1}, known=known).verdict is Verdict.OK


def test_change_that_a_call_makes_for_another_owner() -> None:
    known = {("write", "success"): Footprint({}, foreign={"rows:db.things": (0, 1)})}
    change = {("rows:db.things", "owner2"): 1}
    assert judge(change, known=known).verdict is Verdict.OK
    change = {("rows:db.things", "owner2"): 2}
    assert judge(change, known=known).verdict is Verdict.VIOLATION


def test_unknown_footprint_excuses_every_surplus_and_no_lack() -> None:
    lines = ("1> odd", "1< ok", "2> write", "2< ok")
    surplus = {("rows:db.things", "owner1"): 5, ("rows:db.things", "owner2"): 1}
    assert judge(surplus, *lines).verdict is Verdict.OK
    lack = {("rows:db.others", "owner1"): 5}
    assert heads(judge(lack, *lines)) == [("missing", "rows:db.things", "")]


def test_calls_without_a_known_footprint_are_listed() -> None:
    told = Told(footprints=KNOWN)
    lines = ("1> odd", "1< ok", "2> write", "2< ok")
    assert unjudged(run(told, lines, Snapshot())) == ("odd success",)


def test_missing_is_unknown_while_the_target_is_still_at_work() -> None:
    assert judge({}, quiescent=False).verdict is Verdict.UNKNOWN


class Brief(Told):
    """Calls that name what they work on by the beginning of its id."""

    def owner(self, operation: Operation) -> str:
        return "11111111"


def test_a_beginning_of_an_id_means_the_one_that_has_it() -> None:
    def judged(*owners: str) -> Result:
        change = {("rows:db.things", owner): 1 for owner in owners}
        told = Brief(footprints=KNOWN, change=change)
        return footprint(run(told, ("1> write", "1< ok"), Snapshot()))

    assert judged("11111111-0000").verdict is Verdict.OK
    assert heads(judged("22222222-0000")) == [("misattributed", "rows:db.things", "")]
    assert judged("11111111-0000", "11111111-9999").verdict is Verdict.VIOLATION
