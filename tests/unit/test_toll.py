"""The table of faults: many runs in one row each."""

from __future__ import annotations

import json

import pytest

from mcpconc.oracle.storms import CLASSES, Met, Torn
from mcpconc.oracle.toll import tolls

HALF = Torn("0.1", "log", ("finding", "finding", "dead_end"), ("dead_end's note",))
SAME = Torn("3.4", "log", ("finding", "dead_end"), ("dead_end's note",))
OTHER = Torn("0.2", "log", ("finding",), ("dead_end", "dead_end's note"))


def test_a_fault_is_classified_in_each_run_in_which_it_began() -> None:
    outcomes = [*CLASSES, "by itself", "", "never began", "hidden by another"]
    (toll,) = tolls(Met("cancel", "0.0", outcome) for outcome in outcomes)
    assert (toll.began, toll.missed) == (len(outcomes) - 1, 1)
    ranked = [*CLASSES, "not asked", "hidden by another"]
    assert sorted(toll.ranked(), key=ranked.index) == ranked
    assert list(toll.ranked())[: len(CLASSES)] == list(CLASSES)
    assert toll.ranked()["by itself"] == 2


def test_what_is_torn_is_told_by_its_steps_and_not_by_its_calls() -> None:
    met = [Met("cancel", "0.0", "by itself", torn=torn) for torn in ((HALF,), (SAME, OTHER))]
    (toll,) = tolls(met)
    assert toll.to_json()["torn"] == [
        {
            "tool": "log",
            "there": ["finding", "dead_end"],
            "missing": ["dead_end's note"],
            "calls": 2,
        },
        {
            "tool": "log",
            "there": ["finding"],
            "missing": ["dead_end", "dead_end's note"],
            "calls": 1,
        },
    ]


def test_what_is_lost_counts_once_a_run_whoever_wrote_it() -> None:
    lost = ("row of 0.1", "row of 0.2", "row of fresh.0.1", "sessions cannot be read")
    (toll,) = tolls([Met("cancel", "0.0", "data lost", lost=lost)] * 2)
    assert toll.lost == {"row": 2, "row (of a fresh call)": 2, "sessions cannot be read": 2}


def test_the_table_has_every_fault_and_is_json() -> None:
    met = [
        Met("kill", "0.0", "by itself", unanswered=("0.0", "1.0"), said=("no",)),
        Met("cancel", "0.0", "never began"),
    ]
    table = [toll.to_json() for toll in tolls(met)]
    assert json.loads(json.dumps(table)) == table
    assert [(row["fault"], row["began"], row["unanswered"]) for row in table] == [
        ("cancel", 0, 0),
        ("kill", 1, 2),
    ]
    assert table[1]["said"] == ["no"]


@pytest.mark.parametrize(
    "met",
    [
        Met("cancel", "0.0", "by itself"),
        Met("cancel", "0.0", "data lost", "text", ("0.1",), (HALF, OTHER), ("row",), ("no",)),
    ],
)
def test_what_became_of_a_fault_survives_being_saved(met: Met) -> None:
    beside = {"seed": 1, "findings": []}
    assert Met.from_json(json.loads(json.dumps({**met.to_json(), **beside}))) == met
