"""What thresholds mean: their grammar, and every metric on documents written down here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated import estimate, finding, latency, phase, summary
from mcpconc.errors import UsageError
from mcpconc.metrics import METRICS
from mcpconc.thresholds import COMPARE, UNITS, Threshold, _fits, evaluate, parse

names = st.from_regex(r"\A[a-z][a-z0-9_.-]{0,12}\Z")
numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: value + 0.0)


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    name = draw(st.sampled_from(sorted(METRICS)))
    metric = METRICS[name]
    keys = [key for key in metric.takes if key != "agents"]
    where = draw(st.dictionaries(st.sampled_from(keys), names)) if keys else {}
    agents = draw(st.none() | st.integers(1, 500)) if "agents" in metric.takes else None
    unit = draw(st.sampled_from([unit for unit in UNITS if _fits(unit, metric)]))
    op = draw(st.sampled_from(sorted(COMPARE)))
    return Threshold(name, op, draw(numbers), unit, agents, tuple(sorted(where.items())))


@given(thresholds())
def test_what_is_written_is_what_is_read(threshold: Threshold) -> None:
    assert parse(str(threshold)) == threshold


@pytest.mark.parametrize(
    "text",
    ["calls.p95(5){tool=a,scenario=b}<2s", " calls.p95 ( 5 ) { scenario = b , tool = a } <  2 s "],
)
def test_spaces_and_the_order_of_filters_do_not_matter(text: str) -> None:
    assert str(parse(text)) == "calls.p95(5){scenario=b,tool=a} < 2s"


@given(
    st.sampled_from(["<", "<="]),
    *(st.floats(0, 100),) * 4,
)
def test_what_passes_also_passes_when_it_is_better_or_the_limit_is_wider(
    op: str, actual: float, limit: float, less: float, more: float
) -> None:
    def passed(p95: float, bound: float, how: str) -> Any:
        told = evaluate(
            Threshold("calls.p95", how, bound, "s"), summary(phase(latency=latency(p95=p95)))
        )
        return told["passed"]

    if passed(actual, limit, op):
        assert passed(max(0, actual - less), limit + more, op)
    opposite = {"<": ">=", "<=": ">"}[op]
    assert passed(actual, limit, opposite) is not passed(actual, limit, op)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", 1, "no metric"),
        ("calls.p98 < 2s", 1, "'calls.p98' is no metric; did you mean calls.p99?"),
        ("speed < 2s", 1, "'speed' is no metric; there are calls.p50, "),
        ("calls.p95 2s", 11, "one of < <= > >= == is expected"),
        ("calls.p95 < fast", 13, "a number is expected"),
        ("calls.p95 < 2", 14, "calls.p95 is measured in s or ms"),
        ("calls.p95 < 2%", 14, "calls.p95 is measured in s or ms"),
        ("rss.per_agent < 500", 20, "measured in KB, MB, GB, KiB, MiB or GiB"),
        ("errors.rate < 1s", 16, "measured in % or no unit"),
        ("violations.new == 0%", 20, "measured in no unit"),
        ("calls.p95(0) < 2s", 10, "a number of agents in brackets"),
        ("calls.p95(x) < 2s", 10, "a number of agents in brackets"),
        ("violations.new(5) == 0", 15, "of the whole run and takes no number of agents"),
        ("calls.p95{tool=a < 2s", 10, "never closed"),
        ("calls.p95{scenario=a,agent=3} < 2s", 22, "'agent=3' is no filter here"),
        ("calls.p95{tool=a,tool=b} < 2s", 18, "each once"),
        ("violations.new{tool=a} == 0", 16, "violations.new takes no filters"),
        ("calls.p95 < 2s or less", 16, "nothing is expected after the value"),
    ],
)
def test_what_is_wrong_and_where(text: str, place: int, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert f"threshold {text!r}, character {place}: " in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def told(expr: str, document: Any) -> Any:
    result = evaluate(parse(expr), document)
    json.dumps(result)
    assert (result["passed"] is None) == (result["actual"] is None) == bool(result["why"])
    return result


FULL = summary(
    phase("bootstrap", latency=latency(100, 0.4, p95=0.9)),
    phase(
        "database",
        calls=300,
        seconds=100.0,
        latency=latency(300, 0.8, p95=1.9, max=4.0),
        overlap={"mean": 4.0, "max": 7},
        counts={"errors": 5, "refusals": 10, "timeouts": 1, "locks": 2, "answered": 299},
        rss_per_agent_mib={"mean": 100.0, "max": 150.0},
        rss_growth_mib_per_100_calls=2.0,
        latency_growth=0.4,
        undecided=1,
        tools=[{"tool": "note", "calls": 50, "latency": latency(50, p95=None), "counts": None}],
    ),
    phase("database", placement="own", latency=latency(p95=9.0)),
    phase("database", agents=10, latency=latency(p95=3.0)),
    phase("database", settings="production", latency=latency(p95=7.0)),
    slowdown=[
        {"scenario": "bootstrap", "agents": 5, "raw": estimate(2.0), "shared": estimate(0.07)},
        {"scenario": "database", "agents": 5, "raw": estimate(3.0), "shared": estimate(0.15)},
        {"scenario": "database", "agents": 10, "raw": estimate(5.0), "shared": None},
    ],
    findings=[finding(status="known"), finding("00000000"), finding("00000001", status="listed")],
    faults={"kill-server": {"by itself": 3, "data lost": 2}, "hold-lock": {"data lost": 1}},
)


@pytest.mark.parametrize(
    ("expr", "passed", "actual", "where"),
    [
        ("calls.p95 < 2s", True, 1.9, "database"),
        ("calls.p95 < 1500ms", False, 1900, "database"),
        ("calls.p95 > 1s", False, 0.9, "bootstrap"),
        ("calls.p95{scenario=bootstrap} < 2s", True, 0.9, None),
        ("calls.p95(10) < 2s", False, 3.0, None),
        ("calls.p95{settings=production} < 2s", False, 7.0, None),
        ("calls.p50{scenario=database,tool=note} <= 1s", True, 0.5, None),
        ("calls.max < 5s", True, 4.0, "database"),
        ("calls.mean < 1s", True, 0.7, None),
        ("errors.rate < 1%", False, 1.0, None),
        ("errors.rate <= 0.01", True, 0.01, None),
        ("refusals.rate < 5%", True, 2.0, None),
        ("timeouts.rate == 0", False, 0.002, None),
        ("locks.rate < 1%", True, 0.4, None),
        ("slowdown.shared(5) < 20%", True, 15.0, "database"),
        ("slowdown.shared{scenario=bootstrap} <= 7%", True, 7.0, None),
        ("slowdown.raw < 250%", False, 300.0, "database"),
        ("rss.per_agent < 500MB", True, 157.2864, "database"),
        ("rss.growth < 1MiB", False, 2.0, "database"),
        ("latency.growth < 50%", True, 40.0, "database"),
        ("throughput >= 3", True, 10 / 3, None),
        ("cpu.per_call < 1s", True, 0.2, None),
        ("violations.new == 0", False, 1.0, None),
        ("violations.total <= 3", True, 3.0, None),
        ("undecided.rate < 10%", True, 5.0, None),
        ("overlap.avg >= 2", True, 3.6, None),
        ("overlap.max > 7", False, 7.0, None),
        ("recovery.lost == 0", False, 3.0, None),
    ],
)
def test_every_metric(expr: str, passed: bool, actual: float, where: str | None) -> None:
    result = told(expr, FULL)
    assert result["actual"] == pytest.approx(actual)
    assert (result["passed"], result["where"]) == (passed, where)
    assert (result["expr"], result["limit"]) == (expr, parse(expr).value)


def test_every_metric_is_tried_here() -> None:
    tried = test_every_metric.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {parse(expr).metric for expr, *_ in tried} | {"calls.p90", "calls.p99"} == {*METRICS}


IDLE = {"overlap": {"mean": 0.0, "max": 0}, "undecided": 0, "programs": 0}


def test_a_replay_is_enough_to_count_violations() -> None:
    assert told("violations.new == 0", summary(traces=[{"tried": 1}]))["passed"] is True


@pytest.mark.parametrize(
    ("expr", "document", "why"),
    [
        ("calls.p95 < 2s", summary(), "no phase with 5 agents in one world"),
        ("calls.p95(7) < 2s", FULL, "no phase with 7 agents in one world"),
        ("calls.p95{scenario=cascade} < 2s", FULL, "in one world, scenario cascade"),
        ("calls.p95{tool=nope} < 2s", FULL, "nope was not called with 5 agents"),
        ("calls.p95{tool=note} < 2s", FULL, "50 calls of database; p95 needs 100"),
        ("errors.rate{tool=note} < 1%", FULL, "they were not counted"),
        ("slowdown.shared(10) < 20%", FULL, "10 agents were not compared in database"),
        ("slowdown.shared(2) < 20%", FULL, "2 agents were not compared"),
        ("rss.per_agent < 1MB", summary(phase(rss_per_agent_mib=None)), "no phase says it"),
        ("cpu.per_call < 1s", summary(phase(usage=[])), "processor time was not read"),
        ("violations.new == 0", summary(), "nothing was judged"),
        ("undecided.rate < 1%", summary(), "nothing was judged"),
        ("violations.new == 0", summary(fuzz=IDLE, traces=[{"tried": 0}]), "nothing was judged"),
        ("overlap.avg >= 2", summary(fuzz=IDLE), "no phase with 5 agents in one world"),
        ("recovery.lost == 0", summary(phase()), "no fault was injected"),
    ],
)
def test_what_was_not_measured_is_neither_passed_nor_missed(
    expr: str, document: Any, why: str
) -> None:
    result = told(expr, document)
    assert result["passed"] is None
    assert result["why"].startswith("not measured: ")
    assert why in result["why"]


def test_one_scenario_without_a_percentile_leaves_it_unmeasured() -> None:
    short = phase("tools", latency=latency(40, p95=None))
    result = told("calls.p95 < 2s", summary(phase("database"), short))
    assert result["why"] == "not measured: 40 calls of tools; p95 needs 100"


def test_all_scenarios_together_where_the_document_has_them() -> None:
    pooled = [
        {"agents": 5, "placement": place, "settings": "default", "latency": latency(p95=p95)}
        for place, p95 in (("own", 0.1), ("one", 1.5))
    ]
    short = phase("tools", latency=latency(40, p95=None))
    document = summary(short, pooled=pooled)
    assert told("calls.p95 < 2s", document)["actual"] == 1.5
    assert told("calls.p95{scenario=tools} < 2s", document)["passed"] is None


def test_slowdown_is_of_all_scenarios_where_the_document_has_that() -> None:
    entries = [
        {"scenario": name, "agents": 5, "settings": how, "raw": None, "shared": estimate(value)}
        for name, how, value in (
            ("tools", "default", 0.5),
            ("all", "default", 0.1),
            ("all", "production", 0.3),
        )
    ]
    document = summary(slowdown=entries)
    assert told("slowdown.shared < 20%", document)["actual"] == 10.0
    assert told("slowdown.shared{scenario=tools} < 20%", document)["actual"] == 50.0
    assert told("slowdown.shared{settings=production} < 20%", document)["actual"] == 30.0


def test_phases_with_the_probe_give_no_latency() -> None:
    document = summary(phase(), phase(observed=True, latency=latency(p95=9.0)))
    assert told("calls.p95 < 2s", document)["passed"] is True


def test_overlap_of_a_gate_without_stress_is_that_of_fuzzing() -> None:
    fuzz = {"overlap": {"mean": 1.5, "max": 4}, "undecided": 1, "programs": 4}
    document = summary(fuzz=fuzz)
    assert told("overlap.avg >= 2", document)["actual"] == 1.5
    assert told("undecided.rate < 1%", document)["actual"] == 25.0
