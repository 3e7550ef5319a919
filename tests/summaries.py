"""Summaries of runs that never took place. Figures come from simple rules, so that nobody takes
them for measured ones: a call takes 1.111 s times the number of agents, and so on.

`met`, `missed`, `unmeasured` and `single` are whole documents; tests change copies of them.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

SCENARIOS = ("checkpoints", "cascade")
LADDER = (1, 2, 5, 10, 20)
TOOLS = ("entry_write", "entry_read", "ledger_close")
CLASSES = ("reads", "writes")
NEW, KNOWN, GONE = "aaaa1111", "bbbb2222", "cccc3333"
COMMAND = "mcpconc gate --target ledger==9.9.9 --profile release --seed 77"


def estimate(value: float, spread: float = 0.111) -> Json:
    return {
        "value": round(value, 6),
        "low": round(value - abs(value) * spread, 6),
        "high": round(value + abs(value) * spread, 6),
    }


def latency(n: int, base: float) -> Json:
    """With the percentiles that so many calls allow."""
    marks = {"p50": (0.50, 1.0), "p90": (0.90, 1.5), "p95": (0.95, 1.75), "p99": (0.99, 2.0)}
    return {
        "n": n,
        "mean": round(base * 1.1, 6) if n else None,
        **{
            name: estimate(base * times) if n >= 5 / (1 - p) - 1e-9 else None
            for name, (p, times) in marks.items()
        },
        "max": round(base * 2.5, 6) if n else None,
    }


def outcomes(calls: int, errors: int = 0, timeouts: int = 0, locks: int = 0) -> Json:
    counts = {"errors": errors, "refusals": calls // 10, "timeouts": timeouts, "locks": locks}
    return {
        "rates": {name: round(count / calls, 6) for name, count in counts.items()},
        "counts": {**counts, "answered": calls - timeouts},
    }


def called(names: tuple[str, ...], calls: int, base: float) -> list[Json]:
    each = calls // len(names)
    return [
        {
            "tool": name,
            "calls": each,
            "latency": latency(each, base * (n + 1) / 2),
            **outcomes(each),
        }
        for n, name in enumerate(names)
    ]


def phase(scenario: str = "checkpoints", agents: int = 1, **change: Any) -> Json:
    """A phase of which everything was measured, in which nothing went wrong."""
    calls = 40 if agents == 1 else 600
    base = 1.111 * agents
    made: Json = {
        "scenario": scenario,
        "agents": agents,
        "placement": "one",
        "settings": "default",
        "programs": 4,
        "calls": calls,
        "seconds": round(calls * 0.5 + agents, 3),
        "throughput": round(1.9 + agents / 100, 4),
        "overlap": {"mean": round(agents * 0.9, 3), "max": agents},
        "latency": latency(calls, base),
        **outcomes(calls),
        "tools": called(CLASSES if agents > 5 else TOOLS, calls, base),
        "classes": called(CLASSES, calls, base),
        "usage": [
            {
                "agent": agent,
                "rss_mib": 111.1 + agent,
                "server_rss_mib": 66.6 + agent,
                "cpu_s": 3.33 + agent,
                "threads": 7,
                "descriptors": 22 + agent,
                "read_mib": 4.4,
                "written_mib": 8.8 + agent,
                "sent_bytes": 11_111 * (agent + 1),
                "received_bytes": 222_222 * (agent + 1),
            }
            for agent in range(agents)
        ],
        "rss_per_agent_mib": {"mean": 111.1 + (agents - 1) / 2, "max": 111.1 + agents - 1},
        "rss_growth_mib_per_100_calls": 0.5,
        "latency_growth": round(0.01 * agents, 4),
        "latency_growth_interval": estimate(0.01 * agents),
        "cpu_per_call": 0.888,
        "storage": {
            "database_bytes": 3_333_333,
            "wal_bytes": 444_444,
            "log_bytes": 5_555,
            "git_objects": 666,
            "git_bytes": 7_777_777,
        },
        "saturation": {
            "cpu_mean": round(min(0.555 + agents / 10, 0.999), 4),
            "cpu_max": 1.0,
            "iowait_mean": 0.022,
            "load": 3.3,
            "memory_used_mib": 2222.2,
        },
        "inside": None,
        "violations": [],
        "undecided": 0,
    }
    return {**made, **change}


def inside(calls: int) -> list[Json]:
    return [
        {
            "tool": tool,
            "calls": calls,
            "statements": calls * 333 * (n + 1),
            "connections": calls * 5,
            "transactions": calls * 2,
            "lock_wait_s": 0.123 * n,
            "git": calls * n,
            "processes": calls * (n + 1),
            "files": 44,
            "sql_s": 1.234 * (n + 1),
            "git_s": 2.345 * n,
            "seconds": 44.4 * (n + 1),
        }
        for n, tool in enumerate(TOOLS)
    ]


def finding(fingerprint: str, title: str, status: str | None, **change: Any) -> Json:
    return {
        "fingerprint": fingerprint,
        "title": title,
        "label": "race",
        "oracle": "effects",
        "property": "lost",
        "kind": "entry",
        "field": "amount",
        "tools": ["entry_write", "ledger_close"],
        "summary": "entry_write was acknowledged, and its amount is not there",
        "trace": f"out/traces/lost-entry-{fingerprint}",
        "command": f"mcpconc replay out/traces/lost-entry-{fingerprint} --times 10",
        "status": status,
        "times": 3,
        **change,
    }


def threshold(expr: str, passed: bool | None, actual: float | None, **change: Any) -> Json:
    """`expr` is ``metric OP limit``, with a unit of one of the usual ones or none."""
    limit = expr.split()[-1]
    digits = limit.rstrip("%smMBGK")
    return {
        "expr": expr,
        "passed": passed,
        "actual": actual,
        "unit": limit.removeprefix(digits),
        "limit": float(digits),
        "why": "",
        "listed": None,
        **change,
    }


def slowdown(scenario: str, agents: int, shared: float | None) -> Json:
    return {
        "scenario": scenario,
        "agents": agents,
        "settings": "default",
        "raw": estimate(0.9 * agents),
        "shared": None if shared is None else estimate(shared),
        "n": 600,
        "pairs": 0 if shared is None else 555,
    }


def met() -> Json:
    """A gate that passed: everything was measured, one known finding was found again."""
    ladder = [phase(scenario, agents) for scenario in SCENARIOS for agents in LADDER]
    own = [
        phase(scenario, agents, placement="own") for scenario in SCENARIOS for agents in (2, 5, 10)
    ]
    seen = phase(
        "cascade",
        5,
        inside=inside(30),
        calls=90,
        throughput=None,
        latency=latency(0, 0),
    )
    fast = phase("checkpoints", 5, settings="production", latency=latency(600, 4.0))
    ladder[3]["violations"] = [KNOWN]
    return {
        "mcpconc_summary": 1,
        "kind": "gate",
        "made_by": {
            "name": "mcpconc",
            "version": "0.0.0",
            "command": COMMAND,
            "seed": 77,
            "began": "2001-01-01T01:01:01+00:00",
            "seconds": 1111.1,
        },
        "target": {
            "name": "ledger",
            "version": "9.9.9",
            "spec": "ledger==9.9.9",
            "identity": "isolated",
            "start": "ordinary",
        },
        "machine": {
            "cores": 3,
            "cpu": "Example 3000 @ 3.33 GHz",
            "memory_mib": 33333.3,
            "python": "3.33.3",
            "sqlite": "3.3.3",
            "git": "2.22.2",
            "kernel": "Linux 6.66.6",
            "filesystem": "ext4",
        },
        "profile": {
            "name": "release",
            "about": "before a release, about 20 min",
            "agents": 5,
            "budget": {"baseline": 40, "ladder": 600, "observed": 90},
        },
        "passed": True,
        "exit": 0,
        "stop": "all phases were run",
        "thresholds": [
            threshold("calls.p95 < 11s", True, 9.72125, where="checkpoints"),
            threshold("slowdown.shared(5) < 20%", True, 11.1),
            threshold("rss.per_agent < 500MB", True, 120.691),
            threshold("errors.rate < 1%", True, 0.0),
            threshold("violations.new == 0", True, 0),
            threshold("overlap.avg >= 2", True, 4.5),
        ],
        "phases": [*ladder, *own, seen, fast],
        "slowdown": [
            slowdown(scenario, agents, None if agents == 20 else 0.0222 * agents)
            for scenario in SCENARIOS
            for agents in LADDER[1:]
        ]
        + [slowdown("all", 5, 0.111), {**slowdown("all", 5, 0.0333), "settings": "production"}],
        "pooled": [
            {
                "agents": agents,
                "placement": "one",
                "settings": "default",
                "calls": 1200,
                "latency": latency(1200, 1.111 * agents),
            }
            for agents in LADDER
        ],
        "sampling": {"looks": 999, "seconds_per_look": 0.0044, "share_of_a_core": 0.0111},
        "bottlenecks": [
            {
                "name": "schema statements at every start",
                "about": "Each process runs all of them again, on a database that has them.",
                "per_call": {"count": 333.3, "seconds": 0.444},
                "share": 0.333,
                "saves_at_most_s": 0.444,
                "tools": list(TOOLS),
                "evidence": "statements that create what is there: 29970 in 90 calls",
            },
            {
                "name": "git processes",
                "about": "One process for each note.",
                "per_call": {"count": 2.0, "seconds": 0.0777},
                "share": 0.0777,
                "saves_at_most_s": 0.0777,
                "tools": ["ledger_close"],
                "evidence": None,
            },
        ],
        "settings": [
            {
                "name": "default",
                "about": "as it comes",
                "environment": {},
                "phases": list(range(len(ladder))),
            },
            {
                "name": "production",
                "about": "one project for all, longer waits for locks",
                "environment": {"LEDGER_BUSY_MS": "5000", "LEDGER_LOG": "warn"},
                "phases": [len(ladder) + len(own) + 1],
            },
        ],
        "faults": {
            "kill-server": {"by itself": 3, "after a restart": 1},
            "full-disk": {"on the next call": 2},
        },
        "findings": [finding(KNOWN, "lost entry.amount  entry_write ‖ ledger_close", "known")],
        "baseline": [
            {
                "fingerprint": KNOWN,
                "status": "found",
                "why": "reported, to be fixed in the next release",
                "trace": f"traces/lost-entry-{KNOWN}",
                "failed": 7,
                "of": 10,
            }
        ],
        "traces": [
            {
                "trace": f"traces/lost-entry-{KNOWN}",
                "status": "STILL FAILS",
                "reproduced": 7,
                "tried": 10,
            },
            {"trace": "traces/torn-close", "status": "FIXED", "reproduced": 0, "tried": 10},
        ],
        "canary": {"passed": True, "caught": 3, "of": 3, "seconds": 4.4},
        "doctor": {
            "target": "ledger",
            "exit": 0,
            "checks": [
                {"name": "server", "state": "ok", "answer": "started", "lines": []},
                {
                    "name": "unable",
                    "state": "note",
                    "answer": "1 tools cannot succeed",
                    "lines": ["source_add: needs | in its title"],
                },
            ],
        },
        "fuzz": {"verdict": "passed", "exit": 0, "programs": 44, "calls": 888},
        "vacuous": [],
        "unmeasured": [
            {"what": "slowdown.shared(20)", "why": "worlds of their own up to 10 agents"}
        ],
    }


def missed() -> Json:
    """A gate that failed in every way there is."""
    document = met()
    document.update(passed=False, exit=1, stop="3 thresholds missed, 2 findings are not listed")
    by_agents = {p["agents"]: p for p in document["phases"][: len(LADDER)]}
    by_agents[5].update(violations=[NEW], undecided=2, **outcomes(600, errors=9, timeouts=3))
    by_agents[10].update(violations=[NEW, KNOWN], **outcomes(600, errors=33, timeouts=6, locks=12))
    document["findings"] += [
        finding(NEW, "equal rounds  checkpoint ‖ checkpoint", "new", times=12, field=""),
        finding(
            "dddd4444",
            "protocol stray | line",
            "new",
            label="sequential",
            oracle="protocol",
            property="stray",
            trace=None,
            command=None,
        ),
    ]
    document["thresholds"] = [
        threshold("calls.p95 < 2s", False, 9.72125),
        threshold("slowdown.shared(5) < 20%", False, 44.4),
        threshold(
            "slowdown.shared(10) < 20%",
            False,
            66.6,
            listed={
                "value": 60,
                "tolerance": 0.2,
                "reason": "one writer at a time",
                "expires": "2002-02-02",
            },
        ),
        threshold("rss.per_agent < 500MB", True, 120.691),
        threshold("errors.rate < 1%", False, 1.5),
        threshold("recovery.lost == 0", None, None, why="no fault was injected", unit=""),
    ]
    document["slowdown"][1]["shared"] = estimate(0.444)
    document["faults"]["full-disk"]["data lost"] = 1
    document["baseline"] += [
        {
            "fingerprint": GONE,
            "status": "stale",
            "why": "(1 − 0.7)^10 is below 1 %",
            "trace": f"traces/gone-{GONE}",
            "failed": 0,
            "of": 10,
        },
        {
            "fingerprint": "eeee5555",
            "status": "not judged",
            "why": "it was seen in 1 of 50 replays",
            "trace": "traces/rare",
            "failed": 0,
            "of": 10,
        },
    ]
    document["traces"] += [
        {"trace": "traces/half: done, 100%", "status": "FLAKY", "reproduced": 2, "tried": 10}
    ]
    return document


def unmeasured() -> Json:
    """A gate that was interrupted before much of it had begun, on a machine that tells little."""
    document = met()
    nothing = {"cpu_mean": None, "cpu_max": None, "iowait_mean": None}
    only = phase(
        agents=1,
        calls=3,
        programs=1,
        throughput=None,
        overlap={"mean": 1.0, "max": 1},
        latency=latency(3, 1.111),
        tools=[],
        usage=[],
        rss_per_agent_mib=None,
        cpu_per_call=None,
        latency_growth_interval=None,
        rss_growth_mib_per_100_calls=None,
        latency_growth=None,
        storage=None,
        saturation={**nothing, "load": None, "memory_used_mib": None},
        rates=dict.fromkeys(phase()["rates"]),
        counts=dict.fromkeys(phase()["counts"]),
    )
    document.update(
        passed=False,
        exit=130,
        stop="interrupted",
        phases=[only, {**only, "agents": 2, "latency": None, "saturation": None}],
        pooled=[],
        sampling=None,
        slowdown=[],
        bottlenecks=[],
        settings=[],
        faults={},
        findings=[],
        baseline=[],
        traces=[],
        canary=None,
        doctor=None,
        fuzz=None,
        vacuous=["overlap.avg 1.0 is below 2"],
        unmeasured=[{"what": "cascade", "why": "interrupted"}],
        thresholds=[
            threshold("calls.p95 < 2s", None, None, why="n = 3 is too small"),
            threshold("errors.rate < 1%", None, None, why="interrupted"),
        ],
    )
    document["machine"].update(cpu=None, filesystem=None)
    return document


def single() -> Json:
    """A stress run of one phase, without anything of a gate."""
    document = met()
    document["made_by"].update(
        command="mcpconc stress cascade --target ledger==9.9.9 --agents 5", seconds=303.0
    )
    document["profile"] = {"name": "stress", "about": "as asked for", "budget": {"ladder": 600}}
    document.update(
        kind="stress",
        phases=[phase("cascade", 5, command="mcpconc stress cascade --agents 5 --only 1")],
        thresholds=[],
        slowdown=[],
        bottlenecks=[],
        settings=[],
        faults={},
        findings=[],
        baseline=[],
        traces=[],
        canary=None,
        doctor=None,
        fuzz=None,
        unmeasured=[{"what": "slowdown.raw(5)", "why": "one agent was not run"}],
    )
    return document


ALL = {"met": met, "missed": missed, "unmeasured": unmeasured, "single": single}
