"""Findings and unknowns, called directly."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcpconc.reference.store import PROJECT, Refused, Store
from states import State


class World(State):
    def log(self, kind: str, text: str, agent: int = 0, **more: Any) -> str:
        args = {kind: text, "session_id": self.session, **more}
        return str(self.call(f"{kind}_log", agent, **args)[f"{kind}_id"])

    def list(self, **args: Any) -> list[str]:
        shown = self.call("unknown_list", session_id=self.session, **args)["unknowns"]
        return [row["unknown"] for row in shown]

    def rows(self, kind: str) -> list[sqlite3.Row]:
        return self.select(f"SELECT * FROM project_{kind}s ORDER BY rowid")

    def note(self, kind: str, id: str) -> Any:
        return self.read_note(f"{kind}s/{id}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["finding", "unknown"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_text_leaves_a_row_and_a_note_that_agree(world: World, kind: str) -> None:
    id = world.log(kind, "It rains", subject="weather")
    (row,) = world.rows(kind)
    note = world.note(kind, id)
    for name in ("id", "session_id", "subject", kind):
        assert row[name] == note[name]
    assert (row["id"], row["session_id"], row[kind]) == (id, world.session, "It rains")


def test_the_same_text_is_stored_once(world: World, kind: str) -> None:
    first = world.log(kind, "It rains", subject="weather")
    note = world.note(kind, first)
    assert world.log(kind, "  it RAINS\n", subject="climate") == first
    (row,) = world.rows(kind)
    assert row["subject"] == "weather"
    assert world.note(kind, first) == note


def test_an_answer_repeats_the_words_of_its_own_call(world: World, kind: str) -> None:
    world.log(kind, "It rains", subject="weather")
    answer = world.call(
        f"{kind}_log", session_id=world.session, subject="climate", **{kind: "it rains"}
    )
    assert (answer[kind], answer["subject"], answer["project_id"]) == (
        "it rains",
        "climate",
        PROJECT,
    )


def test_a_session_that_does_not_exist_is_refused(world: World, kind: str) -> None:
    world.session = "nobody"
    with pytest.raises(Refused, match=r"^Session nobody not found$"):
        world.log(kind, "It rains")
    assert world.rows(kind) == []


def test_rows_carry_the_transaction_of_their_instance(world: World, kind: str) -> None:
    begun = world.call(
        "submit_preflight_assessment",
        session_id=world.session,
        vectors={"know": 0.5, "uncertainty": 0.5},
    )
    world.log(kind, "of the one")
    world.log(kind, "of the other", agent=1)
    stamps = [row["transaction_id"] for row in world.rows(kind)]
    assert stamps == [begun["transaction_id"], None]


def test_an_unknown_is_resolved_more_than_once(world: World) -> None:
    id = world.log("unknown", "Does it rain?")
    assert world.note("unknown", id)["resolved"] is False
    for words in ("it does", "it did"):
        answer = world.call("unknown_resolve", unknown_id=id, resolved_by=words)
        assert (answer["unknown_id"], answer["resolved_by"]) == (id, words)
    (row,) = world.rows("unknown")
    note = world.note("unknown", id)
    assert (row["is_resolved"], row["resolved_by"]) == (1, "it did")
    assert (note["resolved"], note["resolved_by"]) == (True, "it did")


def test_a_resolved_unknown_is_not_asked_again(world: World) -> None:
    id = world.log("unknown", "Does it rain?")
    world.call("unknown_resolve", unknown_id=id, resolved_by="it does")
    assert world.log("unknown", "does it rain?") == id
    assert [row["is_resolved"] for row in world.rows("unknown")] == [1]


def test_an_unknown_that_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(Refused, match=r"^No unknown matched 'none'") as refused:
        world.call("unknown_resolve", unknown_id="none", resolved_by="me")
    assert refused.value.more == {"unknown_id": "none"}


def test_unknowns_are_listed_newest_first(world: World) -> None:
    ids = [world.log("unknown", text) for text in ("one", "two", "three")]
    world.call("unknown_resolve", unknown_id=ids[1], resolved_by="me")
    assert world.list() == ["three", "one"]
    assert world.list(resolved=True) == ["two"]
    assert world.list(all=True) == ["three", "two", "one"]
    assert world.list(all=True, limit=2) == ["three", "two"]


def test_a_list_says_what_it_is_of(world: World) -> None:
    world.log("unknown", "one", subject="a")
    world.log("unknown", "two", subject="b")
    assert world.list(subject="b") == ["two"]
    assert world.call("unknown_list")["filters"]["project_id"] == PROJECT


def test_a_list_ends_at_thirty(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "note", lambda *_: None)
    for number in range(31):
        world.log("unknown", f"number {number}")
    assert len(world.list()) == 30
    assert world.list()[-1] == "number 1"


def test_concurrent_calls_store_each_text_once(world: World) -> None:
    """Eight threads, as three instances, of which many say the same."""

    def work(number: int) -> tuple[str, str]:
        text, agent = f"text {number % 5}", number % 3
        finding = world.log("finding", text, agent=agent)
        unknown = world.log("unknown", text.upper(), agent=agent)
        world.call("unknown_resolve", agent, unknown_id=unknown, resolved_by=f"by {number}")
        assert text.upper() not in world.list()
        return finding, unknown

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(20)))
    for place, kind in enumerate(("finding", "unknown")):
        rows = world.rows(kind)
        assert len(rows) == 5
        assert {answer[place] for answer in answers} == {row["id"] for row in rows}
        times = [row["created_timestamp"] for row in rows]
        assert times == sorted(times)
    for row in world.rows("unknown"):
        assert world.note("unknown", row["id"])["resolved_by"] == row["resolved_by"]
