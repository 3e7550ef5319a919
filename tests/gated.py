"""Small summary documents that tests of thresholds, gate and reports share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["estimate", "finding", "latency", "phase", "summary", "threshold"]


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


def latency(n: int = 200, mean: float = 0.5, **percentiles: float | None) -> dict[str, Any]:
    """Percentiles that are not given are known and equal to the mean."""
    found: dict[str, Any] = {"n": n, "mean": mean, "max": percentiles.pop("max", 2 * mean)}
    for name in ("p50", "p90", "p95", "p99"):
        value = percentiles.get(name, mean)
        found[name] = None if value is None else estimate(value)
    return found


def phase(scenario: str = "tools", agents: int = 5, **given: Any) -> dict[str, Any]:
    counts = {"errors": 0, "refusals": 0, "timeouts": 0, "locks": 0, "answered": 200}
    return {
        "scenario": scenario,
        "agents": agents,
        "placement": "one",
        "settings": "default",
        "programs": 4,
        "calls": 200,
        "seconds": 50.0,
        "throughput": 4.0,
        "overlap": {"mean": 3.0, "max": 5},
        "latency": latency(),
        "rates": {"errors": 0.0, "refusals": 0.0, "timeouts": 0.0, "locks": 0.0},
        "counts": counts,
        "tools": [],
        "usage": [{"agent": 0, "cpu_s": 20.0}, {"agent": 1, "cpu_s": 30.0}],
        "rss_per_agent_mib": {"mean": 90.0, "max": 100.0},
        "rss_growth_mib_per_100_calls": 0.5,
        "latency_growth": 0.1,
        "storage": {},
        "saturation": {},
        "inside": None,
        "violations": [],
        "undecided": 0,
        **given,
    }


def finding(fingerprint: str = "ad158010", status: str | None = "new", **given: Any) -> Any:
    return {
        "fingerprint": fingerprint,
        "title": "open session  session_create ‖ session_create",
        "label": "race",
        "oracle": "effects",
        "property": "open",
        "kind": "session",
        "field": "",
        "tools": ["session_create", "session_create"],
        "summary": "both sessions stay open",
        "trace": "out/traces/open-session-ad158010",
        "command": "mcpconc replay out/traces/open-session-ad158010 --times 10",
        "status": status,
        "times": 3,
        **given,
    }


def threshold(expr: str = "calls.p95 < 2s", passed: bool | None = True, **given: Any) -> Any:
    return {
        "expr": expr,
        "passed": passed,
        "actual": None if passed is None else 1.25,
        "unit": "s",
        "limit": 2.0,
        "why": "not measured: 40 calls; p95 needs 100" if passed is None else None,
        "where": None,
        "listed": None,
        **given,
    }


def summary(*phases: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """A summary with these phases; whatever is given takes the place of what there is."""
    return {
        "mcpconc_summary": 1,
        "kind": "gate",
        "profile": {"name": "release", "about": "", "agents": 5, "budget": {}},
        "phases": list(phases),
        "slowdown": [],
        "findings": [],
        "faults": {},
        "fuzz": None,
        "traces": [],
        **given,
    }
