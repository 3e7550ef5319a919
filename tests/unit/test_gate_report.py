"""What people read of a gate, a stress run and a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gated import estimate, finding, latency, phase, summary, threshold
from mcpconc.differences import Shown, counts, findings, latencies
from mcpconc.oracle.base import Finding, Fingerprint
from mcpconc.report.diff import diff_text
from mcpconc.report.gate import gate_text

Golden = Callable[[str, str], None]

MADE = {
    "name": "mcpconc",
    "version": "1",
    "command": "mcpconc gate",
    "seed": 7,
    "began": "2026-11-30T12:00:00+00:00",
    "seconds": 1115.2,
}
FUZZ = {
    "stop": "100 runs done",
    "programs": 100,
    "calls": 1930,
    "overlap": {"mean": 3.21, "max": 5},
    "undecided": 2,
}
EMPTY: dict[str, Any] = {
    "made_by": MADE,
    "target": {"name": "empirica", "version": "1.14.18"},
    "thresholds": [],
    "baseline": [],
    "doctor": None,
    "canary": None,
    "skipped": [],
    "vacuous": [],
    "unmeasured": [],
}


def entry(status: str, why: str | None, fingerprint: str = "ad158010") -> dict[str, Any]:
    title = "open session  session_create ‖ session_create"
    return {"title": title, "fingerprint": fingerprint, "status": status, "why": why}


def trace(status: str, reproduced: int, tried: int, why: str | None = None) -> dict[str, Any]:
    name = f"traces/{status.lower().replace(' ', '-')}"
    return {
        "trace": name,
        "status": status,
        "reproduced": reproduced,
        "tried": tried,
        "why": why,
    }


def failed() -> dict[str, Any]:
    """A gate with one of everything."""
    few = latency(40, p95=None, p99=None)
    rates = {"errors": 0.0125}
    listed = {"value": 0.31, "tolerance": 0.1, "reason": "two cores", "expires": None}
    return summary(
        phase("bootstrap", 1, latency=few, calls=40, throughput=1.02),
        phase("bootstrap", 5, latency=latency(200, 1.234, p95=2.6), rates=rates),
        phase("database", 5, placement="own"),
        phase("database", 5, settings="production"),
        **{
            **EMPTY,
            "doctor": {"checks": [{"state": "ok"}, {"state": "ok"}, {"state": "note"}]},
            "canary": {"passed": True, "caught": 5, "of": 5, "seconds": 8.1},
            "traces": [
                *(trace("STILL FAILS", 1, 1), trace("STILL FAILS", 1, 1), trace("FLAKY", 1, 4)),
                trace("FIXED", 0, 3),
                trace("ERROR", 0, 1, "a server did not start"),
            ],
            "fuzz": FUZZ,
            "faulty": {**FUZZ, "programs": 20, "stop": "time is up"},
            "faults": {"kill-server": {"by itself": 3, "after a restart": 1}},
            "thresholds": [
                threshold(),
                threshold("errors.rate < 1%", False, actual=1.25, unit="%", where="bootstrap"),
                threshold("slowdown.shared(5) < 20%", False, actual=31.0, unit="%", listed=listed),
                threshold("calls.p99 < 9s", None),
                threshold(
                    "overlap.avg >= 2",
                    False,
                    unit="",
                    why="the baseline accepted it until 2026-11-29",
                ),
            ],
            "slowdown": [
                {
                    "scenario": "bootstrap",
                    "agents": 5,
                    "raw": estimate(1.5),
                    "shared": estimate(0.31),
                    "n": 200,
                },
                {"scenario": "all", "agents": 10, "raw": estimate(4.0), "shared": None, "n": 99},
            ],
            "findings": [
                finding(),
                finding("00000001", "unconfirmed", times=1),
                finding("00000002", "known", reason="accepted for 1.14"),
            ],
            "baseline": [
                entry("found", None),
                entry("not judged", "its trace was not replayed"),
                entry("stale", "0 of 3 replays failed; by chance in 0.3% of cases"),
                entry("expired", "it was accepted until 2026-11-29"),
            ],
            "unmeasured": [{"what": "settings minimal", "why": "reference has no such thing"}],
            "vacuous": ["tools called 3 is below 8"],
            "exit": 1,
            "stop": "1 new finding, 2 thresholds missed, 1 stale entry, 1 expired entry",
        },
    )


def test_a_gate_that_failed(golden: Golden) -> None:
    golden("gate-failed", gate_text(failed()))


def test_a_gate_that_passed(golden: Golden) -> None:
    document = summary(
        phase(),
        **{
            **EMPTY,
            "thresholds": [threshold()],
            "skipped": ["canary"],
            "exit": 0,
            "stop": "all that was asked holds without canary",
        },
    )
    golden("gate-passed", gate_text(document))


def test_a_gate_that_got_nowhere(golden: Golden) -> None:
    document = summary(**{**EMPTY, "exit": 130, "stop": "interrupted"})
    golden("gate-interrupted", gate_text(document))


def test_of_many_that_were_not_judged_some_are_named() -> None:
    why = "its trace was not replayed"
    baseline = [entry("not judged", why, f"eeee000{n}") for n in range(7)]
    document = summary(**{**EMPTY, "baseline": baseline, "exit": 2, "stop": ""})
    text = gate_text(document)
    assert f"? 7 not judged: {why}" in text
    assert [f"eeee000{n}" in text for n in range(7)] == [True] * 5 + [False] * 2
    assert "and others, all of them in summary.json" in " ".join(text.split())


def test_long_lines_are_wrapped_and_paths_are_whole() -> None:
    text = gate_text(failed(), width=60)
    assert "out/traces/open-session-ad158010" in text
    prose = [line for line in text.splitlines() if "  " not in line.strip()]
    assert max(map(len, prose)) <= 60


# ------------------------------------------------------------------ diff


LOST = Finding(Fingerprint("effects", "lost", "task"), "it is lost")


def shown(seconds: float, *found: Finding, tool: str = "note", **counted: float) -> Shown:
    return Shown({tool: [seconds, seconds], "goals_list": [0.2]}, found, counted)


def compared(pairs: Any, again: Any = None, **given: Any) -> dict[str, Any]:
    rows = findings(pairs, 0.05, again=again)
    for row in rows:
        del row["head"]
        row["traces"] = {"b": "out/traces/b-lost-00000000"}
    return {
        "kind": "diff",
        "made_by": MADE,
        "a": {"spec": "empirica==1.13.51", "name": "empirica", "version": "1.13.51"},
        "b": {"spec": "empirica", "name": "empirica", "version": "1.14.18"},
        "agents": 5,
        "programs": len(pairs),
        "undecided": {"a": 0, "b": 1},
        "infra": 0,
        "tools": {"only_a": ["lesson_old"], "only_b": ["note_new", "bus_poll"]},
        "findings": rows,
        "latencies": latencies(pairs, 0.05),
        "counts": counts(pairs, 0.05),
        "exit": 1,
        "stop": "12 programs done",
        "said": "b is worse: slower in all, note",
        **given,
    }


def test_a_difference(golden: Golden) -> None:
    pairs = [
        (
            shown(0.5 + n / 100, statements=90.0),
            shown(0.8 + n / 100, *[LOST] * (n == 3), statements=120.0),
        )
        for n in range(12)
    ]
    rare = Shown({"rare": [1.0]})
    pairs[0] = (
        Shown({**pairs[0][0].times, **rare.times}),
        Shown({**pairs[0][1].times, **rare.times}),
    )
    again = {LOST.fingerprint.head(): [(shown(0.5), shown(0.8, LOST))] * 10}
    golden("diff", diff_text(compared(pairs, again)))


def test_no_difference(golden: Golden) -> None:
    pairs = [(shown(0.5), shown(0.5))] * 8
    text = diff_text(
        compared(pairs, exit=0, said="b is not worse, as far as these programs tell", tools={})
    )
    golden("diff-none", text)


def test_a_tool_of_too_few_programs_is_not_compared() -> None:
    pairs = [(shown(1.0, tool="rare"), shown(9.0, tool="rare"))] * 5
    pairs += [(shown(1.0), shown(1.0))] * 7
    rows = {row["tool"]: row for row in latencies(pairs, 0.05)}
    assert (rows["rare"]["n"], rows["rare"]["adjusted"], rows["rare"]["changed"]) == (
        5,
        None,
        False,
    )


def test_what_is_always_slower_is_seen_and_what_is_not_is_not() -> None:
    pairs = [(shown(1.0), shown(1.1))] * 10
    rows = {row["tool"]: row for row in latencies(pairs, 0.05)}
    assert rows["note"]["changed"]
    assert rows["note"]["change"] == pytest.approx(0.1)
    assert not rows["goals_list"]["changed"]


def test_runs_of_the_same_program_are_what_is_tested() -> None:
    pairs = [(shown(1.0), shown(1.0, *[LOST] * (n == 0))) for n in range(12)]
    (row,) = findings(pairs, 0.05)
    assert (row["in_a"], row["in_b"], row["changed"], row["again"]) == (0, 1, False, None)
    again = {LOST.fingerprint.head(): [(shown(1.0), shown(1.0, LOST))] * 8}
    (row,) = findings(pairs, 0.05, again=again)
    assert (row["changed"], row["again"]) == (True, {"of": 8, "in_a": 0, "in_b": 8})


def test_counts_are_of_a_call() -> None:
    pairs = [(shown(1.0, git=3.0), shown(1.0, git=6.0))] * 8
    (row,) = counts(pairs, 0.05)
    assert (row["a"], row["b"], row["changed"]) == (1.0, 2.0, True)
