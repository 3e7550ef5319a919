"""The benchmark of campaigns: what it makes of the findings of several seeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcpconc.label import Label
from samples import lost_task

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import campaigns

Golden = Callable[[str, str], None]


def finding(what: str, tools: str, met: float, label: str = "race", **more: Any) -> dict[str, Any]:
    """``finding("order: tie reflexes.round", "check check", 12.0)``"""
    oracle, _, rest = what.partition(": ")
    property, _, kind = rest.partition(" ")
    kind, _, field = kind.partition(".")
    return {
        "oracle": oracle,
        "property": property,
        "kind": kind,
        "field": field,
        "tools": tools.split(),
        "fingerprint": f"{what} {tools}",
        "label": label,
        "promised": True,
        "counts": True,
        "times": 1,
        "from_calls": 12,
        "to_calls": 2,
        "met_after": met,
        "lost": f"{kind} is lost",
        "trace": f"{property}-{kind}",
        "minimal": True,
        "reproduced": [4, 5],
        **more,
    }


def part(seed: int, *findings: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": seed,
        "minutes": 30.0,
        "target": "empirica 1",
        "command": ["mcpconc", "fuzz"],
        "machine": "2 cores",
        "load": [0.1, 2.0],
        "install_seconds": 0.1,
        "wall_seconds": 1810.0,
        "seconds": 1800.0,
        "programs": 100,
        "calls": 1200,
        "findings": list(findings),
    }


def sorts(*findings: dict[str, Any]) -> list[int]:
    """The kind of each race, in the order in which they were met."""
    return [row["sort"] for row in campaigns.distinct([part(1, *findings)])]


def test_eight_races_of_one_kind_are_one() -> None:
    tools = ("a a", "b b", "c c", "d d")
    same_thing = [finding("order: tie x.round", pair, n) for n, pair in enumerate(tools)]
    same_calls = [finding(f"effects: lost {kind}", "a a", 9) for kind in ("p", "q", "r", "s")]
    assert sorts(*same_thing, *same_calls) == [1] * 8


def test_what_has_neither_calls_nor_thing_in_common_is_of_another_kind() -> None:
    assert sorts(
        finding("order: tie x.round", "a a", 1),
        finding("effects: lost y", "b b", 2),
        finding("effects: lost z", "a b", 3),
    ) == [1, 2, 3]


def test_a_race_that_is_linked_with_two_kinds_makes_them_one() -> None:
    assert sorts(
        finding("order: tie x.round", "a a", 1),
        finding("effects: lost y", "b b", 2),
        finding("order: tie x.round", "b b", 3),
        finding("effects: lost z", "c c", 4),
    ) == [1, 1, 1, 2]


def test_where_something_else_breaks_in_another_field_it_is_another_thing() -> None:
    one, other = finding("order: tie x.round", "a a", 1), finding("order: tie x.time", "b b", 2)
    assert sorts(one, other) == [1, 2]


def test_times_are_for_each_seed_and_their_median_counts_those_that_missed_it() -> None:
    def met(*times: float | None) -> tuple[list[float | None], float | None]:
        parts = [
            part(n, *([finding("effects: lost x", "a a", t)] if t is not None else []))
            for n, t in enumerate(times)
        ]
        (row,) = campaigns.distinct(parts)
        return row["met"], row["median"]

    assert met(30.0, 10.0, 20.0) == ([30.0, 10.0, 20.0], 20.0)
    assert met(30.0, None, 20.0) == ([30.0, None, 20.0], 30.0)
    assert met(None, None, 20.0) == ([None, None, 20.0], None)


def test_what_one_seed_shows_without_overlap_is_no_race_of_another() -> None:
    for other in ("cross-agent", "sequential"):
        rows = campaigns.distinct(
            [
                part(1, finding("effects: lost x", "a a", 1)),
                part(2, finding("effects: lost x", "a a", 2, other)),
            ]
        )
        assert [(row["label"], row["group"]) for row in rows] == [(other, other)]
        assert campaigns.kinds_met(rows, 0) == []


def test_the_minimal_trace_is_the_one_that_is_named() -> None:
    (row,) = campaigns.distinct(
        [
            part(1, finding("effects: lost x", "a a", 1, minimal=False, lost="much")),
            part(2, finding("effects: lost x", "a a", 2, lost="little")),
        ]
    )
    assert (row["minimal"], row["lost"]) == (True, "little")


def test_kinds_are_met_when_their_first_race_is() -> None:
    rows = campaigns.distinct(
        [
            part(1, finding("effects: lost x", "a a", 7), finding("effects: lost y", "b b", 5)),
            part(2, finding("order: tie x.n", "a a", 3)),
        ]
    )
    assert campaigns.kinds_met(rows, 0) == [5, 7]
    assert campaigns.kinds_met(rows, 1) == [3]


def test_the_page(golden: Golden, tmp_path: Path) -> None:
    nine = [finding(f"effects: lost k{n}", f"t{n} t{n}", 60.0 * n) for n in range(1, 10)]
    one = part(
        1,
        *nine,
        finding("integrity: copies-disagree goal.data", "complete", 4, "sequential"),
        finding("isolation: unpromised x.y", "a b", 4, "cross-agent", promised=False),
        finding("effects: lost q", "q q", 4, counts=False),
        finding("effects: lost z", "", 4, "unlabelled", minimal=False, reproduced=None),
    )
    two = part(2, finding("order: tie k1.round", "t1 t1", 65.0), nine[0])
    for each in (two, one):
        (tmp_path / f"seed-{each['seed']}.json").write_text(json.dumps(each))
    out = tmp_path / "told"
    campaigns.main(["report", "--parts", str(tmp_path), "--out", str(out)])
    golden("campaigns", out.with_suffix(".md").read_text())
    document = json.loads(out.with_suffix(".json").read_text())
    assert document["kinds_of_races"] == 9
    assert [len(c["kinds_met"]) for c in document["campaigns"]] == [9, 1]


def test_a_finding_is_told_in_the_words_of_its_trace(tmp_path: Path) -> None:
    trace = lost_task()
    path = trace.save(tmp_path / "lost-task-1")
    document = {
        **trace.findings[0].to_json(),
        "trace": str(path),
        "counts": True,
        "times": 2,
        "from_calls": 12,
        "to_calls": 2,
        "met_after": 12.0,
    }
    told = campaigns.told(document)
    assert (told["trace"], told["met_after"], told["label"]) == ("lost-task-1", 12.0, Label.RACE)
    assert told["lost"] != trace.findings[0].summary
    assert len(told["lost"]) < len(trace.findings[0].summary)


def test_what_copies_say_is_told(tmp_path: Path) -> None:
    document = finding("integrity: copies-disagree goal.data", "complete", 1.0)
    document |= {
        "trace": None,
        "summary": "the copies disagree",
        "reason": ["column: 1", "blob: 0"],
    }
    assert campaigns.told(document)["lost"] == "the copies disagree; column: 1; blob: 0"


def test_seeds_that_are_known_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, float, list[str]]] = []

    def campaign(args: Any, seed: int, out: Path) -> dict[str, Any]:
        ran.append((seed, args.minutes, args.more))
        return part(seed)

    monkeypatch.setattr(campaigns, "campaign", campaign)
    words = ["run", "--parts", str(tmp_path), "--minutes", "2", "--seed", "4", "--seeds"]
    campaigns.main([*words, "1"])
    campaigns.main([*words, "3", "--", "--start", "fork"])
    assert ran == [(4, 2.0, []), (5, 2.0, ["--start", "fork"]), (6, 2.0, ["--start", "fork"])]
