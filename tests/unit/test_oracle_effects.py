"""The effects oracle, property by property."""

from __future__ import annotations

from typing import Any

from mcpconc.model.spec import Companion, Effect
from mcpconc.oracle.base import Result
from mcpconc.oracle.effects import effects
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict
from runs import ONE_THEN_TWO, TWO_AT_ONCE, Told, effect, heads, run, table


def judge(
    declared: list[Effect], after: Snapshot, *lines: str, rows: Any = (), **more: Any
) -> Result:
    return effects(run(Told(effect=declared, rows=rows), lines or TWO_AT_ONCE, after, **more))


# --- append


def test_acknowledged_appends_that_are_there_give_nothing() -> None:
    result = judge([effect("1"), effect("2")], table({"text": "tok1"}, {"text": "tok2"}))
    assert result.verdict is Verdict.OK


def test_lost_append() -> None:
    result = judge([effect("1"), effect("2")], table({"text": "tok1"}))
    assert heads(result) == [("lost-append", "thing", "")]
    assert result.findings[0].calls == ("2",)


def test_unanswered_append_may_be_absent() -> None:
    lines = ("1> write", "1< lost")
    assert judge([effect("1")], table(), *lines).verdict is Verdict.OK


def test_row_that_a_call_deletes_is_not_lost() -> None:
    declared = [effect("1", target="a"), effect("2", "delete", target="a")]
    assert judge(declared, table()).verdict is Verdict.OK


def test_two_rows_of_one_call() -> None:
    result = judge([effect("1")], table({"text": "tok1"}, {"text": "tok1"}))
    assert heads(result) == [("duplicate", "thing", "")]


def test_row_of_the_template_is_nobodys_append() -> None:
    rows = table({"text": "tok1"})
    assert heads(judge([effect("1")], rows, before=rows)) == [("lost-append", "thing", "")]


def test_row_with_another_owner() -> None:
    result = judge([effect("1", owner={"session": "a"})], table({"text": "tok1", "session": "b"}))
    assert heads(result) == [("misattributed", "thing", "session")]


def test_row_with_another_value() -> None:
    result = judge([effect("1", values={"size": 1})], table({"text": "tok1", "size": 2}))
    assert heads(result) == [("altered", "thing", "size")]


def test_value_that_another_call_overwrites_is_not_altered() -> None:
    declared = [
        effect("1", values={"size": 1}),
        effect("2", "overwrite", where={"text": "tok1"}, values={"size": 2}),
    ]
    assert judge(declared, table({"text": "tok1", "size": 2}), *ONE_THEN_TWO).findings == ()


def test_instances_of_one_head_are_one_finding() -> None:
    result = judge([effect("1"), effect("2")], table())
    assert heads(result) == [("lost-append", "thing", "")]
    assert result.findings[0].evidence["count"] == 2
    assert len(result.findings[0].evidence["instances"]) == 2


# --- overwrite


def over(call: str, **values: Any) -> Effect:
    return effect(call, "overwrite", where={"id": "x"}, target="x", values=values)


def test_later_overwrite_must_win() -> None:
    result = judge([over("1", v=1), over("2", v=2)], table({"id": "x", "v": 1}), *ONE_THEN_TWO)
    assert heads(result) == [("lost-update", "thing", "v")]
    assert set(result.findings[0].calls) == {"1", "2"}


def test_of_concurrent_overwrites_either_may_win() -> None:
    for value in (1, 2):
        state = table({"id": "x", "v": value})
        assert judge([over("1", v=1), over("2", v=2)], state).findings == ()


def test_value_of_no_overwrite_at_all() -> None:
    result = judge([over("1", v=1), over("2", v=2)], table({"id": "x", "v": 0}))
    assert heads(result) == [("lost-update", "thing", "v")]


def test_unanswered_overwrite_may_win_late_or_never() -> None:
    lines = ("1> write", "1< lost", "2> write", "2< ok")
    for value in (1, 2):
        state = table({"id": "x", "v": value})
        assert judge([over("1", v=1), over("2", v=2)], state, *lines).findings == ()


def test_overwritten_row_that_is_gone() -> None:
    assert heads(judge([over("1", v=1)], table())) == [("lost-update", "thing", "")]


def test_columns_of_two_overwrites_in_one_row() -> None:
    declared = [over("1", v=1, w=1), over("2", v=2, w=2)]
    result = judge(declared, table({"id": "x", "v": 1, "w": 2}))
    assert heads(result) == [("torn", "thing", "v+w")]


def test_overwrites_of_different_columns_do_not_mix() -> None:
    declared = [over("1", v=1), over("2", w=2)]
    assert judge(declared, table({"id": "x", "v": 1, "w": 2})).findings == ()


# --- de-duplicate


def keyed(call: str, id: str | None, **more: Any) -> Effect:
    where = {"id": id} if id else {"text": "same"}
    return effect(call, "deduplicate", where=where, key="same", id=id, **more)


def test_one_row_for_one_key() -> None:
    declared = [keyed("1", "a"), keyed("2", "a")]
    assert judge(declared, table({"id": "a", "text": "same"})).findings == ()


def test_two_rows_for_one_key() -> None:
    declared = [keyed("1", "a"), keyed("2", "b")]
    result = judge(declared, table({"id": "a", "text": "same"}, {"id": "b", "text": "same"}))
    assert heads(result) == [("duplicate", "thing", "")]
    assert result.findings[0].calls == ("1", "2")


def test_id_of_no_row() -> None:
    declared = [keyed("1", "a"), keyed("2", "b")]
    result = judge(declared, table({"id": "a", "text": "same"}))
    assert heads(result) == [("wrong-id", "thing", "")]


def test_no_row_for_an_acknowledged_key() -> None:
    assert heads(judge([keyed("1", "a")], table())) == [("lost-append", "thing", "")]


def test_row_of_a_key_is_any_one_callers() -> None:
    declared = [keyed("1", "a", owner={"s": "A"}), keyed("2", "a", owner={"s": "B"})]
    assert judge(declared, table({"id": "a", "s": "B"})).findings == ()
    result = judge(declared, table({"id": "a", "s": "C"}))
    assert heads(result) == [("misattributed", "thing", "s")]


# --- delete, refused, torn


def test_acknowledged_delete_leaves_nothing() -> None:
    declared = [effect("1"), effect("2", "delete", where={"text": "tok1"})]
    result = judge(declared, table({"text": "tok1"}), *ONE_THEN_TWO)
    assert heads(result) == [("lost-delete", "thing", "")]
    assert judge(declared, table(), *ONE_THEN_TWO).findings == ()


def test_refused_yet_written() -> None:
    lines = ("1> write", "1< refused")
    result = judge([effect("1")], table({"text": "tok1"}), *lines)
    assert heads(result) == [("refused-yet-written", "thing", "")]
    assert judge([effect("1")], table(), *lines).findings == ()


def test_refused_call_is_not_blamed_for_a_row_that_another_wrote() -> None:
    lines = ("1> write", "1< ok", "2> write", "2< refused")
    declared = [keyed("1", None), keyed("2", None)]
    assert judge(declared, table({"text": "same"}), *lines).findings == ()


def test_refused_overwrite_is_known_by_its_token() -> None:
    lines = ("1> write", "1< refused")
    declared = [over("1", v="tok1")]
    result = judge(declared, table({"id": "x", "v": "tok1"}), *lines)
    assert heads(result) == [("refused-yet-written", "thing", "")]
    assert judge([over("1", v="open")], table({"id": "x", "v": "open"}), *lines).findings == ()


NOTE = Companion("note", ref="refs/notes/things/1", contains="tok1")


def with_note(text: str | None) -> Snapshot:
    notes = {} if text is None else {"refs/notes/things/1": {"head": text}}
    return Snapshot(tables=table({"text": "tok1"}).tables, notes=notes)


def test_row_without_its_note_is_torn() -> None:
    declared = [effect("1", companions=(NOTE,))]
    assert judge(declared, with_note("about tok1")).findings == ()
    for text in (None, "about something else"):
        assert heads(judge(declared, with_note(text))) == [("torn", "thing", "note")]


def test_row_without_its_companion_row_is_torn() -> None:
    edge = Companion("edge", table="edges", where={"from": "tok1"})
    result = judge([effect("1", companions=(edge,))], table({"text": "tok1"}))
    assert heads(result) == [("torn", "thing", "edge")]


def test_unanswered_call_must_not_leave_half() -> None:
    lines = ("1> write", "1< lost")
    declared = [effect("1", companions=(NOTE,))]
    half = Snapshot(tables=table().tables, notes=with_note("tok1").notes)
    assert heads(judge(declared, half, *lines)) == [("torn", "thing", "row")]
    assert heads(judge(declared, with_note(None), *lines)) == [("torn", "thing", "note")]


def test_half_is_no_finding_while_the_target_is_still_at_work() -> None:
    result = judge([effect("1", companions=(NOTE,))], with_note(None), quiescent=False)
    assert result.verdict is Verdict.UNKNOWN


def test_note_of_the_overwrite_that_won() -> None:
    declared = [
        effect(
            call,
            "overwrite",
            where={"id": "x"},
            values={"v": call},
            companions=(Companion("note", ref="refs/notes/things/1", contains=f"tok{call}"),),
        )
        for call in ("1", "2")
    ]
    tables = table({"id": "x", "v": "2"}).tables
    agree = Snapshot(tables=tables, notes={"refs/notes/things/1": {"h": "tok2"}})
    differ = Snapshot(tables=tables, notes={"refs/notes/things/1": {"h": "tok1"}})
    assert judge(declared, agree).findings == ()
    assert heads(judge(declared, differ)) == [("torn", "thing", "note")]


# --- rows, seen from the database


def test_row_that_no_call_wrote() -> None:
    result = judge([], table({"text": "?"}), rows=[("thing", "things", "r1", "")])
    assert heads(result) == [("phantom", "thing", "")]


def test_one_call_with_more_rows_than_it_writes() -> None:
    rows = [("thing", "things", "r1", "1"), ("thing", "things", "r2", "1")]
    result = judge([effect("1")], table({"text": "tok1"}), rows=rows)
    assert heads(result) == [("duplicate", "thing", "")]


def test_side_effects_of_another_kind_are_not_counted() -> None:
    rows = [("side", "sides", "r1", "1"), ("side", "sides", "r2", "1")]
    assert judge([effect("1")], table({"text": "tok1"}), rows=rows).findings == ()


def test_without_read_back_nothing_is_known() -> None:
    assert effects(run(Told(), TWO_AT_ONCE, None)).verdict is Verdict.UNKNOWN
