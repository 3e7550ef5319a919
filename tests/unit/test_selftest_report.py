"""What a self-test prints, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mcpconc import selftest as selftests
from mcpconc.cli import main
from mcpconc.errors import Exit
from mcpconc.events import FalseAlarm, PlantState, PlantTried, SelftestFinished
from mcpconc.report.selftest import selftest_document, selftest_table, tried_line

Golden = Callable[[str, str], None]
Capture = pytest.CaptureFixture[str]

CAUGHT = PlantTried(
    name="goal-row-written-back",
    kind="lost update: column",
    oracle="effects",
    state=PlantState.CAUGHT,
    seed=0,
    seen=("linearizability", "effects"),
    runs=3,
    calls=41,
    left=2,
    label="race",
    seconds=4.21,
    trace=Path("out/traces/goal-row-written-back"),
)
SEQUENTIAL = replace(
    CAUGHT,
    name="edge-to-nowhere",
    kind="foreign key broken",
    oracle="integrity",
    alone=True,
    seen=("integrity", "footprint"),
    runs=1,
    calls=13,
    overlapping=False,
    label="sequential",
)
ESCAPED = PlantTried(
    name="equal-rounds",
    kind="equal rounds",
    oracle="order",
    state=PlantState.ESCAPED,
    seed=0,
    runs=120,
    calls=1630,
    seconds=38.0,
)
WRONG = replace(
    ESCAPED,
    name="session-from-global",
    kind="wrong session: process-global",
    oracle="effects",
    state=PlantState.WRONG_ORACLE,
    seen=("isolation",),
    trace=Path("out/traces/session-from-global"),
)
LARGE = replace(CAUGHT, name="task-ids-reused", kind="ids reused", left=5)
LARGE = replace(LARGE, state=PlantState.NOT_MINIMAL, trace=Path("out/traces/task-ids-reused"))
EXCUSED = replace(
    ESCAPED,
    name="three-constraints",
    kind="race with three ordering constraints",
    oracle="linearizability",
    state=PlantState.EXCUSED,
)
NOT_RUN = replace(
    ESCAPED, name="ref-lock-left", kind="lock left behind", oracle="liveness", runs=0, calls=0
)
NOT_RUN = replace(NOT_RUN, state=PlantState.NOT_RUN, seconds=0.0)

PASSED = SelftestFinished(
    exit=Exit.PASSED,
    stop="all bugs tried",
    seed=0,
    seeds=1,
    seconds=312.4,
    out=Path("out"),
    tried=(CAUGHT, SEQUENTIAL, EXCUSED),
    silent=43,
)
FAILED = replace(
    PASSED,
    exit=Exit.VIOLATION,
    tried=(CAUGHT, ESCAPED, WRONG, LARGE, EXCUSED, NOT_RUN),
    alarms=(
        FalseAlarm("effects: lost task: a task is gone", Path("out/traces/false-alarm-7")),
        FalseAlarm("undecided: linearizability: no more steps"),
    ),
    infra=1,
)
SEEDS = replace(
    PASSED,
    seeds=3,
    tried=tuple(
        replace(one, seed=seed, runs=one.runs + seed)
        for seed in range(3)
        for one in (CAUGHT, ESCAPED if seed == 1 else replace(CAUGHT, name="equal-rounds"))
    ),
    exit=Exit.VIOLATION,
)


@pytest.mark.parametrize(
    ("name", "done"), [("passed", PASSED), ("failed", FAILED), ("seeds", SEEDS)]
)
def test_table(name: str, done: SelftestFinished, golden: Golden) -> None:
    golden(f"selftest-{name}", selftest_table(done))


def test_a_narrow_table_clips_words() -> None:
    lines = selftest_table(PASSED, width=124).splitlines()
    assert max(map(len, lines)) <= 124
    assert "lost update: column" in lines[1]
    assert "race with three ord…" in lines[3]


def test_an_early_end_has_a_table_too() -> None:
    nothing = replace(PASSED, exit=Exit.INTERRUPTED, stop="interrupted", tried=(), silent=0)
    assert selftest_table(nothing).splitlines() == [
        "the correct server: 0 programs, no false alarms",
        "planted bugs: none",
        "INTERRUPTED · interrupted · 5m 12s · seed 0 · exit 130",
    ]


def test_document(golden: Golden) -> None:
    golden("selftest-json", json.dumps(selftest_document(FAILED), indent=1) + "\n")


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        (CAUGHT, "goal-row-written-back: caught by effects (3 runs, 2 calls left, race, 4.2 s)"),
        (
            SEQUENTIAL,
            "edge-to-nowhere: caught by integrity (1 run, 2 seq calls left, sequential, 4.2 s)",
        ),
        (ESCAPED, "equal-rounds: escaped (order in 120 runs)"),
        (
            WRONG,
            "session-from-global: wrong oracle (effects in 120 runs, seen by isolation)",
        ),
    ],
)
def test_each_bug_is_told_in_a_line(tried: PlantTried, told: str) -> None:
    assert tried_line(tried) == told


# ------------------------------------------------------------------ the verb


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the self-test was asked to do; it fails."""
    monkeypatch.chdir(tmp_path)
    record: dict[str, Any] = {}

    async def selftest(config: Any, emit: Any) -> SelftestFinished:
        record.update({field.name: getattr(config, field.name) for field in fields(config)})
        for tried in FAILED.tried:
            emit(tried)
        emit(FAILED)
        return FAILED

    monkeypatch.setattr(selftests, "selftest", selftest)
    return record


def test_every_flag_arrives(asked: dict[str, Any]) -> None:
    words = "selftest --only equal-rounds --only isolation --budget 90s --seed 5 --seeds 20 --out o"
    assert main([*words.split(), "--no-shrink"]) == Exit.VIOLATION
    names = [one.name for one in asked.pop("plants")]
    assert "equal-rounds" in names
    assert "transaction-from-shared-file" in names
    assert (
        asked.items()
        >= {
            "out": Path("o"),
            "budget": 90.0,
            "seed": 5,
            "seeds": 20,
            "shrink": False,
        }.items()
    )


def test_by_default_all_bugs_have_ten_minutes(asked: dict[str, Any]) -> None:
    assert main(["selftest"]) == Exit.VIOLATION
    assert (asked["plants"], asked["budget"], asked["seeds"]) == (selftests.PLANTS, 600.0, 1)
    assert asked["shrink"]


def test_a_canary_is_a_few_bugs(asked: dict[str, Any]) -> None:
    assert main(["selftest", "--canary"]) == Exit.VIOLATION
    assert [one.name for one in asked["plants"]] == [
        one.name for one in selftests.PLANTS if one.name in selftests.CANARY
    ]
    assert asked["silent"] < selftests.SelftestConfig(out=Path()).silent
    assert not asked["shrink"]


def test_the_table_goes_to_stdout_and_progress_to_stderr(
    asked: dict[str, Any], capsys: Capture
) -> None:
    main(["selftest"])
    out, err = capsys.readouterr()
    assert out == selftest_table(FAILED)
    assert "mcpconc: equal-rounds: escaped" in err


def test_json_is_one_document(asked: dict[str, Any], capsys: Capture) -> None:
    assert main(["selftest", "--json"]) == Exit.VIOLATION
    out, err = capsys.readouterr()
    assert json.loads(out) == selftest_document(FAILED)
    assert err == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--only equal-round", "did you mean equal-rounds"),
        ("--only order --canary", "--canary and --only"),
        ("--seeds 0", "not a whole number"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    words: str, told: str, asked: dict[str, Any], capsys: Capture
) -> None:
    assert main(["selftest", *words.split()]) == Exit.USAGE
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1
    assert asked == {}


def test_list_names_the_planted_bugs(capsys: Capture) -> None:
    assert main(["list", "--json"]) == Exit.PASSED
    listed = json.loads(capsys.readouterr().out)["planted bugs"]
    assert [entry["name"] for entry in listed] == [one.name for one in selftests.PLANTS]
    assert listed[0]["about"].startswith("lost update: column; ")
