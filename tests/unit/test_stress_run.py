"""Stress runs on the reference server: what is planted moves the figure that it ought to move, and
no other; and what a run leaves.

Figures are ratios within one run, so a busy machine blurs them and does not shift them.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from jsonschema import Draft202012Validator

from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import InfraTrouble, PhaseFinished, PhaseStarted, RunFinished, StressFinished
from mcpconc.oracle.base import Label
from mcpconc.reference.plants import LOADED, PLANTS
from mcpconc.report.document import schema
from mcpconc.rig import Rig
from mcpconc.strategies import ProgramMachine
from mcpconc.strategies.scenarios import Scenario
from mcpconc.stress.run import StressConfig, Stressed, stress
from mcpconc.trace import load

SHARED, GROWTH, MEMORY = 0.6, 1.0, 20.0
"""Thresholds in the scenario `bootstrap` with five agents: 60 % and 100 % slower, and MiB for each
100 calls."""


@dataclass
class Told:
    done: Stressed
    events: list[Any] = field(default_factory=list)

    @property
    def phases(self) -> list[dict[str, Any]]:
        return self.done.document()["phases"]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def stressed(out: Path, watch: Any = lambda event: None, **config: Any) -> Told:
    events: list[Any] = []

    def emit(event: Any) -> None:
        events.append(event)
        watch(event)

    whole: dict[str, Any] = {
        "out": out,
        "target": "reference",
        "scenarios": ("bootstrap",),
        "agents": (1, 3),
        "baseline": 8,
        "calls": 24,
        "lane": 8,
        "seed": 1,
        **config,
    }
    return Told(anyio.run(stress, StressConfig(**whole), emit), events)


# ------------------------------------------------------------------ what is planted


def planted(out: Path, name: str) -> Told:
    target = f"reference+{name}" if name else "reference"
    return stressed(out, target=target, agents=(1, 5), calls=100, lane=20)


def figures(told: Told) -> dict[str, float]:
    (row,) = [row for row in told.done.document()["slowdown"] if row["scenario"] == "all"]
    (one,) = [p for p in told.phases if (p["agents"], p["placement"]) == (5, "one")]
    return {
        "slowdown.shared": row["shared"]["value"] / SHARED,
        "latency.growth": one["latency_growth"] / GROWTH,
        "rss.growth": one["rss_growth_mib_per_100_calls"] / MEMORY,
        "errors.rate": one["rates"]["errors"] / 0.01,
        "violations.new": float(len(one["violations"])),
    }


@pytest.mark.parametrize("plant", LOADED, ids=lambda plant: plant.name)
def test_what_is_planted_moves_its_figure_and_no_other(plant: Any, tmp_path: Path) -> None:
    told = figures(planted(tmp_path, plant.name))
    assert {name for name, share in told.items() if share >= 1} == {plant.oracle}, told


def test_the_correct_server_moves_none(tmp_path: Path) -> None:
    told = planted(tmp_path, "")
    assert all(share < 1 for share in figures(told).values()), figures(told)
    assert told.done.exit is Exit.PASSED


def test_the_self_test_knows_nothing_of_what_only_load_shows() -> None:
    assert not {plant.name for plant in LOADED} & {plant.name for plant in PLANTS}


# ------------------------------------------------------------------ what a run tells


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return stressed(
        tmp_path_factory.mktemp("everything"),
        scenarios=("bootstrap", "cascade"),
        observe=True,
        observed=24,
        sample=0.05,
    )


def test_every_phase_is_there_with_its_calls(everything: Told) -> None:
    told = everything
    assert [(p["scenario"], p["agents"], p["placement"], p["observed"]) for p in told.phases] == [
        ("bootstrap", 1, "one", False),
        ("cascade", 1, "one", False),
        ("bootstrap", 3, "one", False),
        ("bootstrap", 3, "own", False),
        ("cascade", 3, "one", False),
        ("cascade", 3, "own", False),
        ("bootstrap", 3, "one", True),
        ("cascade", 3, "one", True),
    ]
    assert [p["calls"] for p in told.phases[:4]] == [8, 8, 24, 24]
    for p in told.phases:
        assert p["counts"]["answered"] == p["calls"]
        assert p["latency"]["n"] == sum(tool["calls"] for tool in p["tools"]) == p["calls"]
        assert p["overlap"]["max"] == p["agents"]
        assert p["throughput"] > 0
        assert p["violations"] == []


def test_both_placements_make_the_same_calls(everything: Told) -> None:
    one, own = everything.phases[2:4]
    assert {t["tool"]: t["calls"] for t in one["tools"]} == {
        t["tool"]: t["calls"] for t in own["tools"]
    }


def test_every_agent_was_looked_at(everything: Told) -> None:
    for p in everything.phases:
        assert [use["agent"] for use in p["usage"]] == list(range(p["agents"]))
        for use in p["usage"]:
            assert use["rss_mib"] >= use["server_rss_mib"] > 10
            assert use["threads"] > 0
            assert use["descriptors"] > 3
            # A request is "tools/call" with a name and arguments, and an answer has a session id.
            assert use["sent_bytes"] > 100 * p["calls"] / p["agents"]
            assert use["received_bytes"] > 100 * p["calls"] / p["agents"]
        assert 0 < p["saturation"]["cpu_mean"] <= 1
        assert p["storage"]["git_objects"] > 0
        assert p["storage"]["git_bytes"] > 0
    # Counted in ticks of 10 ms, of which one agent's share of a short phase may have none.
    assert sum(use["cpu_s"] for p in everything.phases for use in p["usage"]) > 0


def test_the_probe_counts_in_phases_of_its_own(everything: Told) -> None:
    told = everything
    assert [p["inside"] is not None for p in told.phases] == [p["observed"] for p in told.phases]
    (created,) = [row for row in told.phases[-2]["inside"] if row["tool"] == "session_create"]
    assert created["statements"] > 3 * created["calls"]
    assert created["seconds"] > created["sql_s"] > 0
    names = [row["name"] for row in told.done.document()["bottlenecks"]]
    assert {"git processes", "other statements"} <= set(names)


def test_slowdown_has_a_row_for_each_scenario_and_one_for_all(everything: Told) -> None:
    rows = everything.done.document()["slowdown"]
    assert [(row["scenario"], row["agents"]) for row in rows] == [
        ("bootstrap", 3),
        ("cascade", 3),
        ("all", 3),
    ]
    for row in rows:
        assert row["shared"]["low"] <= row["shared"]["value"] <= row["shared"]["high"]
        assert row["pairs"] <= row["n"]


def test_the_document_is_plain_data_with_no_status_yet(everything: Told) -> None:
    document = everything.done.document()
    assert json.loads(json.dumps(document)) == document
    assert document["target"]["name"] == "reference"
    assert document["target"]["identity"] == "isolated"
    assert document["machine"]["cores"] == psutil.cpu_count()
    assert document["machine"]["git"]
    assert document["settings"] == [
        {
            "name": "default",
            "about": "as installed",
            "environment": {},
            "phases": list(range(8)),
        }
    ]
    assert document["sampling"]["looks"] >= 16


@pytest.mark.parametrize(
    "part",
    ["target", "machine", "phases", "slowdown", "bottlenecks", "settings", "findings", "sampling"],
)
def test_its_parts_are_as_the_published_schema_says(everything: Told, part: str) -> None:
    document = everything.done.document()
    assert document[part] or part == "findings"
    rules = schema()
    closed = {**rules, "required": [part], "properties": {part: rules["properties"][part]}}
    assert list(Draft202012Validator(closed).iter_errors({part: document[part]})) == []


def test_it_tells_what_it_does(everything: Told) -> None:
    told = everything
    begun = told.of(PhaseStarted)
    assert [(event.n, event.of) for event in begun] == [(n, 6) for n in range(1, 7)]
    assert begun[2].placements == ("one", "own")
    assert len(told.of(PhaseFinished)) == len(told.phases)
    assert sum(event.calls for event in told.of(PhaseFinished)) == sum(
        p["calls"] for p in told.phases
    )
    # One program in one world, and three in worlds of their own.
    assert len(told.of(RunFinished)) == 2 + 2 * (1 + 3) + 2
    (end,) = told.of(StressFinished)
    assert (end.phases, end.exit, end.stop) == (8, Exit.PASSED, "all phases done")


def test_nothing_is_left_running(everything: Told) -> None:
    assert everything.done.exit is Exit.PASSED
    assert psutil.Process().children(recursive=True) == []


# ------------------------------------------------------------------ findings, bounds, trouble


def test_what_is_found_is_kept_as_a_trace(tmp_path: Path) -> None:
    told = stressed(
        tmp_path,
        target="reference+blob-disagrees",
        scenarios=("cascade",),
        agents=(2,),
        own=0,
        minimise=20.0,
    )
    assert told.done.exit is Exit.VIOLATION
    (kept,) = told.done.kept
    assert kept.finding.fingerprint.oracle == "integrity"
    assert kept.path is not None
    assert load(kept.path).findings[0].fingerprint == kept.finding.fingerprint
    assert kept.to_calls < kept.from_calls
    assert told.phases[-1]["violations"] == [kept.finding.fingerprint.digest()]
    (entry,) = told.done.document()["findings"]
    assert (entry["fingerprint"], entry["status"]) == (kept.finding.fingerprint.digest(), None)
    assert entry["trace"] == str(kept.path)


def test_what_was_not_minimised_in_time_stays_as_it_is(tmp_path: Path) -> None:
    """Its servers are gone when the next number of agents has time to minimise."""
    now, hurry = [0.0], [1000.0]

    def clock() -> float:
        now[0] += hurry[0]
        return now[0]

    def slower(event: Any) -> None:
        if isinstance(event, PhaseStarted) and event.agents == 3:
            hurry[0] = 0.0

    told = stressed(
        tmp_path,
        slower,
        target="reference+blob-disagrees",
        scenarios=("cascade",),
        agents=(2, 3),
        own=0,
        minimise=20.0,
        clock=clock,
    )
    (kept,) = told.done.kept
    assert kept.finding.label is Label.UNLABELLED
    assert told.phases[-1]["agents"] == 3


def test_findings_of_worlds_of_their_own_count_for_these(tmp_path: Path) -> None:
    told = stressed(tmp_path, target="reference+stdout-polluted", scenarios=("tools",), calls=60)
    by_place = {p["placement"]: p["violations"] for p in told.phases if p["agents"] == 3}
    assert by_place["one"] == by_place["own"] != []


def test_time_that_is_up_is_said(tmp_path: Path) -> None:
    moments = iter(range(10_000))
    told = stressed(tmp_path, clock=lambda: float(next(moments)), max_time=4.0, own=0)
    assert told.done.stop == "time is up"
    assert told.phases
    assert any(
        entry["what"].startswith("3 agents") and entry["why"] == "time was up"
        for entry in told.done.document()["unmeasured"]
    )


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, PhaseStarted) and event.agents == 3:
            signal.raise_signal(signal.SIGINT)

    told = stressed(tmp_path, stop, own=0)
    assert told.done.exit is Exit.INTERRUPTED
    assert told.done.stop == "interrupted"
    assert [(p["agents"], p["calls"]) for p in told.phases] == [(1, 8)]
    assert told.of(StressFinished)


def test_a_server_that_does_not_come_up_again_ends_its_leg_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Rig.run

    async def run(self: Rig, program: Any, *rest: Any) -> Any:
        if program.agents == 3:
            raise TargetError("it does not come up again")
        return await plain(self, program, *rest)

    monkeypatch.setattr(Rig, "run", run)
    told = stressed(tmp_path, agents=(1, 2, 3), calls=72, own=0)
    assert told.done.exit is Exit.TARGET
    assert [str(event.text) for event in told.of(InfraTrouble)] == ["it does not come up again"] * 3
    assert [p["agents"] for p in told.phases] == [1, 2]
    said = told.done.document()["unmeasured"]
    assert {"what": "3 agents, bootstrap", "why": "the target failed 3 times"} in said


def test_one_world_that_fails_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Rig.run

    async def run(self: Rig, program: Any, *rest: Any) -> Any:
        if self.directory.name == "own-1":
            raise TargetError("it does not come up again")
        return await plain(self, program, *rest)

    monkeypatch.setattr(Rig, "run", run)
    told = stressed(tmp_path)
    assert {p["placement"] for p in told.phases} == {"one"}
    assert len(told.of(RunFinished)) == 1 + 1 + 2


def test_a_target_without_the_tools_is_not_measured(tmp_path: Path) -> None:
    class Nothing(ProgramMachine):
        """Agents do what nobody offers."""

        tools = ("no_such_tool",)

    known = {"nothing": Scenario("nothing", Nothing)}
    told = stressed(tmp_path, scenarios=("nothing",), known=known)
    assert told.done.exit is Exit.INCONCLUSIVE
    assert told.phases == []
    assert {"what": "nothing", "why": "reference has no no_such_tool"} in told.done.document()[
        "unmeasured"
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"scenarios": ("bootstrap", "nothing")}, "no scenario is called 'nothing'"),
        ({"settings": ("default", "fast")}, "reference has no configuration 'fast'; use default"),
        ({"agents": ()}, "a stress run needs"),
        ({"agents": (0, 5)}, "a stress run needs"),
    ],
)
def test_what_there_is_not_is_said_before_anything_starts(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        stressed(tmp_path, **config)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        ({"own": 3}, "placement", ["one", "one", "own"]),
        ({"agents": (2,)}, "agents", [1, 2]),
        ({"baseline": 16}, "programs", [2, 1]),
        ({"lane": 4}, "programs", [2, 2]),
        ({"calls": 48}, "programs", [1, 2]),
    ],
)
def test_every_knob_turns(
    tmp_path: Path, config: dict[str, Any], field: str, value: list[Any]
) -> None:
    told = stressed(tmp_path, **{"own": 0, **config})
    assert [p[field] for p in told.phases] == value


def test_seed_and_sharing_make_other_programs(tmp_path: Path) -> None:
    few: dict[str, Any] = {"agents": (2,), "own": 0, "calls": 16}
    programs = [
        {event.program for event in stressed(tmp_path / f"{n}", **few, **more).of(RunFinished)}
        for n, more in enumerate(({}, {}, {"seed": 2}, {"share": 0.0}))
    ]
    assert programs[0] == programs[1]
    assert programs[0] != programs[2]
    assert len(programs[0] & programs[3]) == 1  # that of the one agent
