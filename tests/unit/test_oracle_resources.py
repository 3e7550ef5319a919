"""Resources: what grows over a run, and what only looks like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import Run, Verdict
from mcpconc.oracle.resources import resources
from mcpconc.program import Program
from runs import heads

MIB = 1024


def call(name: str, begin: float, end: float | None, tool: str = "read", **more: Any) -> Any:
    return (name, begin, end, {"tool": tool, "agent": 0, "phase": "suffix", **more})


def run(
    *calls: Any, memory: Mapping[str, Sequence[int]] | None = None, notes: Any = (), **more: Any
) -> Run:
    """A run of these calls (name, seconds when sent, seconds when answered)."""
    points = []
    for name, begin, end, about in calls:
        value = {"tool": about["tool"], "args": {}, "phase": about["phase"]}
        points.append((begin, EventType.INVOKE, about["agent"], name, value))
        if end is not None:
            outcome = {"outcome": about.get("outcome", "success"), "data": {}}
            points.append((end, EventType.OK, about["agent"], name, outcome))
    points += [(0.0, EventType.NOTE, -1, "", note) for note in notes]
    warm = {str(a): ["read", "write", "slowly"] for a in range(9)}
    note = {"what": "resources", "late": 0.0, "memory": memory or {}, "warm": warm, **more}
    points.append((1e6, EventType.NOTE, -1, "", note))
    points.sort(key=lambda point: point[0])
    events = [Event(n, t, a, c, v, int(at * 1e9)) for n, (at, t, a, c, v) in enumerate(points)]
    return Run(Program(9), History.of(events), before=None, after=None, spec=None)


def found(*calls: Any, **more: Any) -> list[tuple[str, str, str]]:
    return heads(resources(run(*calls, **more)))


SLOWER = [("latency-growth", "server", "")]
QUICK = call("w", 0, 0.01)
GROWTH = (QUICK, call("a", 1, 3), call("b", 4, 6))


# -- latency -----------------------------------------------------------------------------------


def test_a_call_that_stays_slow_is_growth():
    result = resources(run(*GROWTH))
    assert heads(result) == SLOWER
    assert result.findings[0].calls == ("w", "a", "b")


def test_calls_that_cost_the_same_are_none():
    assert found(call("w", 0, 2), call("a", 3, 5), call("b", 6, 8)) == []


def test_a_tool_that_is_always_slow_is_none():
    assert found(QUICK, call("a", 1, 3, "slowly"), call("b", 4, 6, "slowly")) == []


def test_one_slow_moment_is_none():
    """A machine that stands still: whatever is in flight is late, and nothing else."""
    assert found(QUICK, call("a", 1, 3), call("b", 1, 3), call("c", 1.5, 3)) == []


def test_what_is_quick_again_did_not_grow():
    assert found(*GROWTH, call("c", 7, 7.01)) == []


def test_a_refusal_is_no_witness_for_work():
    assert found(call("w", 0, 0.01, outcome="refused"), *GROWTH[1:]) == []


def test_a_queue_is_no_growth():
    """Ten calls of 0.1 s that go one after another: the last has waited for all."""
    queue = [call(f"q{n}", 1, 1.1 + 0.1 * n) for n in range(10)]
    again = [call(f"r{n}", 5, 5.1 + 0.1 * n) for n in range(10)]
    assert found(call("w", 0, 0.1), *queue, *again) == []


def test_an_unfair_lock_is_no_growth():
    """One call waits while a hundred others, never more than two at once, are served."""
    others = [call(f"q{n}", 1 + n / 50, 1 + (n + 1) / 50) for n in range(100)]
    later = [call(f"r{n}", 5 + n / 50, 5 + (n + 1) / 50) for n in range(100)]
    starved = [call("a", 1, 3.0, "write"), call("b", 5, 7.0, "write")]
    assert found(call("w", 0, 0.02, "write"), call("v", 0.1, 0.12), *starved, *others, *later) == []


def test_a_queue_behind_slow_calls_of_another_tool_is_no_growth():
    slowly = [call("s", 0.5, 2.5, "slowly"), call("t", 3, 5, "slowly"), call("u", 6, 8, "slowly")]
    assert found(QUICK, call("a", 3.01, 5), call("b", 6.01, 8), *slowly) == []


def test_real_empirica_on_two_cores_is_no_growth():
    """0.9 s a call alone, five in flight: two to four seconds each (EMPIRICA's own figures)."""
    alone = [call(f"p{n}", n, n + 0.9, agent=n) for n in range(5)]
    rounds = [
        call(f"c{r}{n}", 10 + 5 * r, 12 + 5 * r + 0.5 * n, agent=n, phase="lane")
        for r in range(4)
        for n in range(5)
    ]
    assert found(*alone, *rounds) == []


def test_slower_with_each_agent_is_growth_in_spite_of_the_crowd():
    """0.9 s for each other agent that has called, nine calls in flight all the time."""
    alone = [call(f"p{n}", 3 * n, 3 * n + 0.01 + 0.9 * n, agent=n) for n in range(3)]
    crowd = [
        call(f"c{r}{n}", 20 + 2 * r, 21.9 + 2 * r, agent=n % 3, phase="lane")
        for r in range(3)
        for n in range(9)
    ]
    assert found(*alone, *crowd) == SLOWER


def test_calls_beside_one_that_was_given_up_are_not_judged():
    assert found(QUICK, call("x", 0.5, None, "write"), *GROWTH[1:]) == []


def test_the_first_call_of_a_tool_in_a_server_is_not_judged():
    cold = [call("a", 1, 3, agent=1), call("b", 4, 6, agent=2)]
    assert found(QUICK, *cold) == SLOWER
    assert found(QUICK, *cold, warm={}) == []
    assert found(QUICK, *cold, call("c", 7, 9, agent=1), call("d", 9, 11, agent=2), warm={}) == (
        SLOWER
    )


@pytest.mark.parametrize(("schedule", "verdict"), [("free", SLOWER), ("convoy", [])])
def test_calls_that_a_scheduler_held_back_are_not_judged(schedule, verdict):
    lanes = [QUICK, call("a", 1, 3, phase="lane"), call("b", 4, 6, phase="lane")]
    assert found(*lanes, notes=[{"what": "schedule", "name": schedule}]) == verdict


@pytest.mark.parametrize("what", ["fault", "server-died", "server-restarted"])
def test_runs_with_a_fault_are_not_judged(what):
    result = resources(run(*GROWTH, notes=[{"what": what}]))
    assert result.findings == ()
    assert what in result.notes[0]


def test_a_client_that_was_held_up_itself_judges_nobody():
    result = resources(run(*GROWTH, late=0.3))
    assert result.verdict is Verdict.OK
    assert result.notes == ("latencies were not judged: the client itself was held up for 0.30 s",)


def test_a_run_without_notes_has_nothing_to_judge():
    whole = run(*GROWTH)
    silent = History.of([e for e in whole.history.events if e.type is not EventType.NOTE])
    assert resources(Run(Program(9), silent, None, None, None)).verdict is Verdict.OK


# -- memory ------------------------------------------------------------------------------------

GROWN = [("memory-growth", "server", "")]


@pytest.mark.parametrize(
    ("kept", "verdict"), [(5 * MIB, []), (9 * MIB, []), (16 * MIB, GROWN), (-50 * MIB, [])]
)
def test_what_one_call_may_keep(kept, verdict):
    assert found(QUICK, memory={"0": [60_000, 60_000 + kept]}) == verdict


def test_many_calls_may_keep_more():
    calls = [call(f"c{n}", n, n + 0.1) for n in range(9)]
    assert found(*calls, memory={"0": [60_000, 60_000 + 16 * MIB]}) == []
    assert found(*calls, memory={"0": [60_000, 60_000 + 18 * MIB]}) == GROWN


def test_a_server_that_meets_a_tool_for_the_first_time_may_import():
    assert found(QUICK, memory={"0": [60_000, 99_000]}, warm={"0": ["write"]}) == []


def test_the_calls_are_those_of_the_agent_that_grew():
    result = resources(run(QUICK, call("a", 1, 1.1, agent=1), memory={"1": [60_000, 99_000]}))
    assert result.findings[0].calls == ("a",)
