"""The integrity oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcpconc.model.spec import Copies
from mcpconc.oracle.base import Result
from mcpconc.oracle.integrity import integrity
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict
from runs import TWO_AT_ONCE, Told, heads, run, table


def judge(after: Snapshot, before: Snapshot | None = None, **told: Any) -> Result:
    return integrity(run(Told(**told), TWO_AT_ONCE, after, before=before or Snapshot()))


def test_sound_state() -> None:
    state = Snapshot(schema={"db/table t": "d1"}, checks={"db.integrity_check": (), "git.fsck": ()})
    assert judge(state, state).verdict is Verdict.OK


def test_check_that_complains() -> None:
    after = Snapshot(checks={"db.foreign_key_check": ("things row 3 has no parent",)})
    assert heads(judge(after)) == [("foreign_key_check", "db", "")]


def test_old_complaints_and_dangling_objects_are_not_the_runs_doing() -> None:
    before = Snapshot(checks={"db.foreign_key_check": ("old",), "git.fsck": ()})
    after = Snapshot(checks={"db.foreign_key_check": ("old",), "git.fsck": ("dangling blob 1f",)})
    assert judge(after, before).verdict is Verdict.OK


def test_check_that_did_not_run_is_unknown() -> None:
    before = Snapshot(checks={"git.fsck": ()})
    assert judge(Snapshot(), before).verdict is Verdict.UNKNOWN


def test_schema_must_stay() -> None:
    before = Snapshot(
        schema={"db/table a": "x y", "db/table b": "x", "db/index i": "d1", "old/table a": "x"}
    )
    after = Snapshot(schema={"db/table a": "x", "db/index i": "d2", "new/table a": "z"})
    assert sorted(heads(judge(after, before))) == [
        ("columns-gone", "db", "table a"),
        ("database-gone", "old", ""),
        ("schema-changed", "db", "index i"),
        ("schema-gone", "db", "table b"),
    ]


def test_schema_may_grow() -> None:
    before = Snapshot(schema={"db/table a": "x"})
    after = Snapshot(schema={"db/table a": "x y", "db/table b": "x", "db/index i": "d2"})
    assert judge(after, before).verdict is Verdict.OK


def column(name: str, *values: str) -> Snapshot:
    return table(*({name: value} for value in values))


@pytest.mark.parametrize(
    ("name", "values", "broken"),
    [
        ("goal_data", ['{"a": 1}', '{"a":'], True),
        ("blob", ['{"a": 1}', "[]", '{"a":'], True),
        ("blob", ['{"a": 1}', "[]", "[]"], False),
        ("goal_data", ['{"a": NaN}', '{"a": 1}'], False),
        ("text", ["hello", "{curly} start", "[tag] start"], False),
        ("text", ['{"a": 1}', "[]", "words"], False),
    ],
)
def test_json_columns_parse(name: str, values: list[str], broken: bool) -> None:
    found = heads(judge(column(name, *values)))
    assert found == ([("json-broken", "things", name)] if broken else [])


def test_column_that_held_broken_text_before_is_not_one_of_json() -> None:
    before = column("goal_data", "{not json")
    assert judge(column("goal_data", "{not json", '{"a": 1}', "[x"), before).findings == ()


@pytest.mark.parametrize(
    ("text", "broken"),
    [('{"a": 1}', False), ('{"a": 1}\n\n{"b": 2}', False), ('{"a": 1', True), ("words", False)],
)
def test_notes_parse(text: str, broken: bool) -> None:
    after = Snapshot(notes={"refs/notes/things/5f2c/1": {"head": text}})
    found = heads(judge(after))
    assert found == ([("json-broken", "refs/notes/things/*/*", "")] if broken else [])


def copies(column: str, blob: str) -> Copies:
    return Copies("task", "t1", "status", {"column": column, "blob": blob})


def test_copies_agree() -> None:
    state = Snapshot(schema={"db/table t": "d"})
    assert judge(state, copy=[copies("done", "done")]).findings == ()
    found = heads(judge(state, copy=[copies("done", "open")]))
    assert found == [("copies-disagree", "task", "status")]


def test_writers_of_copies_are_involved() -> None:
    writers = Copies("note", "s-1234567/CHECK/1", "writer", {"row": "tok1", "note": "tok2"})
    (found,) = judge(Snapshot(schema={"db/table t": "d"}), copy=[writers]).findings
    assert found.calls == ("1", "2")


def test_copies_that_disagreed_before() -> None:
    wrong = [copies("done", "open")]
    assert judge(Snapshot(schema={"db/table t": "d"}), copy=wrong, copy_before=wrong).findings == ()


def test_a_target_without_model_is_still_checked() -> None:
    after = Snapshot(checks={"db.integrity_check": ("row 3 missing from index",)})
    without = run(Told(), TWO_AT_ONCE, after)
    assert heads(integrity(replace(without, spec=None))) == [("integrity_check", "db", "")]
