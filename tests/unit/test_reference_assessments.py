"""Assessments, checkpoints and what is read of them, called directly."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcpconc.reference.store import Refused
from states import State

VECTORS = {"know": 0.5, "uncertainty": 0.25}


class World(State):
    def assess(self, phase: str, reasoning: str = "why", agent: int = 0, **vectors: float) -> Any:
        return self.call(
            f"submit_{phase}_assessment",
            agent,
            session_id=self.session,
            vectors={**VECTORS, **vectors},
            reasoning=reasoning,
        )

    def checkpoint(self, phase: str, **meta: Any) -> str:
        text = json.dumps(meta)
        answer = self.call("checkpoint_create", session_id=self.session, phase=phase, metadata=text)
        assert isinstance(answer, str)
        return answer

    def load(self, **more: Any) -> Any:
        return self.call("checkpoint_load", session_id=self.session, **more)

    def rows(self) -> list[sqlite3.Row]:
        return self.select("SELECT * FROM reflexes ORDER BY id")

    def note(self, ref: str) -> Any:
        return self.read_note(f"session/{self.session}/{ref}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_assessment_leaves_a_row_and_a_note_that_agree(world: World) -> None:
    answer = world.assess("check", "as planned", know=0.75)
    assert (answer["session_id"], answer["round"], answer["reasoning"]) == (
        world.session,
        1,
        "as planned",
    )
    (row,) = world.rows()
    note = world.note("CHECK/1")
    assert (row["phase"], row["round"], row["reasoning"]) == ("CHECK", 1, "as planned")
    assert note["vectors"] == {"know": row["know"], "uncertainty": row["uncertainty"]}
    assert note["meta"]["reasoning"] == "as planned"


def test_rounds_count_assessments_of_the_phase(world: World) -> None:
    world.assess("preflight")
    assert [world.assess("check")["round"] for _ in range(3)] == [1, 2, 3]


def test_checkpoints_do_not_count_as_rounds(world: World) -> None:
    world.assess("check")
    world.checkpoint("CHECK")
    assert world.assess("check")["round"] == 2


def test_an_automatic_close_counts_as_a_round(world: World) -> None:
    world.assess("postflight")
    world.call("session_create", ai_id="ai")
    world.assess("postflight")
    assert [row["round"] for row in world.rows()] == [1, 2, 3]


@pytest.mark.parametrize("phase", ["preflight", "check", "postflight"])
def test_a_session_that_does_not_exist_is_refused(world: World, phase: str) -> None:
    world.session = "nobody"
    with pytest.raises(Refused, match=r"^Session nobody not found$"):
        world.assess(phase)
    assert world.rows() == []


@pytest.mark.parametrize("vectors", [None, {"know": 0.5}, {**VECTORS, "know": 2}, {"luck": 1}])
def test_vectors_that_make_no_sense_are_refused(world: World, vectors: Any) -> None:
    with pytest.raises(Refused, match=r"^Invalid input: vector"):
        world.call("submit_preflight_assessment", session_id=world.session, vectors=vectors)
    assert world.rows() == []


def test_postflight_goes_to_the_session_that_it_names(world: World) -> None:
    world.assess("preflight")
    other = world.session
    world.session = world.call("session_create", ai_id="another")["session_id"]
    assert world.assess("postflight")["session_id"] == world.session != other
    assert world.rows()[-1]["session_id"] == world.session


def test_each_preflight_begins_a_transaction_of_its_instance(world: World) -> None:
    first = world.assess("preflight", agent=0)["transaction_id"]
    second = world.assess("preflight", agent=1)["transaction_id"]
    third = world.assess("preflight", agent=1)["transaction_id"]
    assert len({first, second, third}) == 3
    assert world.assess("postflight", agent=0)["transaction_id"] == first
    world.assess("check", agent=1)
    stamps = [row["transaction_id"] for row in world.rows()]
    assert stamps == [first, second, third, first, third]


def test_before_the_first_preflight_there_is_no_transaction(world: World) -> None:
    assert world.assess("postflight")["transaction_id"] is None


def test_postflight_closes_the_transaction(world: World) -> None:
    path = world.root / "ws/.empirica/active_transaction_agent-0.json"
    world.assess("preflight")
    assert json.loads(path.read_text())["status"] == "open"
    world.assess("postflight")
    assert json.loads(path.read_text())["status"] == "closed"


def test_a_checkpoint_is_told_to_people(world: World) -> None:
    lines = [line.strip() for line in world.checkpoint("ACT").splitlines()]
    assert "Checkpoint created" in lines[0]
    assert {"Phase: ACT", "Round: 1"} <= set(lines)


def test_a_checkpoint_has_the_latest_vectors_and_its_own_words(world: World) -> None:
    world.assess("preflight", know=0.75)
    world.checkpoint("ACT", token="mine")
    note = world.note("ACT/1")
    assert (note["vectors"]["know"], note["meta"]) == (0.75, {"token": "mine"})
    assert world.rows()[-1]["reasoning"] is None


def test_a_checkpoint_replaces_the_note_of_its_phase_and_round(world: World) -> None:
    world.checkpoint("ACT", token="first")
    world.checkpoint("ACT", token="second")
    assert world.note("ACT/1")["meta"] == {"token": "second"}
    assert [row["round"] for row in world.rows()] == [1, 1]


@pytest.mark.parametrize("args", [{"phase": "LUNCH"}, {"phase": "ACT", "metadata": "[1"}])
def test_a_checkpoint_that_cannot_be_understood_is_refused(
    world: World, args: dict[str, str]
) -> None:
    with pytest.raises(Refused, match=r"^Invalid input"):
        world.call("checkpoint_create", session_id=world.session, **args)


def test_no_checkpoint_no_json(world: World) -> None:
    assert "No checkpoint found" in world.load()


def test_the_highest_round_is_loaded_then_the_last_phase_of_the_loop(world: World) -> None:
    world.assess("postflight", "post")
    world.checkpoint("ACT", token="act")
    assert world.load()["phase"] == "POSTFLIGHT"
    world.assess("preflight", "one")
    world.assess("preflight", "two")
    found = world.load()
    assert (found["phase"], found["round"], found["meta"]["reasoning"]) == ("PREFLIGHT", 2, "two")
    assert world.load(phase="ACT")["meta"] == {"token": "act"}


def test_an_automatic_close_is_no_checkpoint(world: World) -> None:
    world.call("session_create", ai_id="ai")
    assert "No checkpoint found" in world.load()


def test_epistemics_are_listed_in_order(world: World) -> None:
    world.assess("preflight", "one")
    world.checkpoint("ACT", token="kept to itself")
    world.assess("check", "two")
    shown = world.call("epistemics_list", session_id=world.session)["trajectories"]
    assert [(t["phase"], t["reasoning"]) for t in shown] == [
        ("PREFLIGHT", "one"),
        ("ACT", None),
        ("CHECK", "two"),
    ]
    with pytest.raises(Refused, match="not found"):
        world.call("epistemics_list", session_id="nobody")


def test_the_state_is_that_of_the_latest_row(world: World) -> None:
    assert world.call("assess_state", session_id=world.session)["state"]["vectors"] == {}
    world.assess("preflight", know=0.125)
    state = world.call("assess_state", session_id=world.session)["state"]
    assert state["vectors"] == {**VECTORS, "know": 0.125}


def test_concurrent_calls_share_no_round_and_no_transaction(world: World) -> None:
    """Eight threads, as three instances, on one session."""

    def work(number: int) -> None:
        agent = number % 3
        for phase in ("preflight", "check", "postflight"):
            world.assess(phase, f"{phase} {number}", agent=agent)
        world.checkpoint("ACT", token=str(number))
        world.load()
        shown = world.call("epistemics_list", session_id=world.session)["trajectories"]
        assert len(shown) >= 4

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    rows = world.rows()
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times)
    for phase in ("PREFLIGHT", "CHECK", "POSTFLIGHT"):
        found = [row for row in rows if row["phase"] == phase]
        assert [row["round"] for row in found] == list(range(1, 17))
        for row in found:
            assert world.note(f"{phase}/{row['round']}")["meta"]["reasoning"] == row["reasoning"]
    owner = {
        row["transaction_id"]: int(row["reasoning"].split()[1]) % 3
        for row in rows
        if row["phase"] == "PREFLIGHT"
    }
    for row in rows:
        if row["reasoning"] is not None:
            assert owner[row["transaction_id"]] == int(row["reasoning"].split()[1]) % 3
