"""The profiles that ship: what differs from the defaults of `mcpconc.settings`.

A call of Empirica 1.14.18 costs 0.9 s of processor time, 0.2 s where it is forked; two cores make
2.2 and 10 calls a second of that, one agent alone about one a second. By that each is counted out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PROFILES"]

PROFILES: Mapping[str, Mapping[str, Any]] = {
    # forked: the doctor's 60 calls, one after another (15 s), some replays (15 s), 12 programs
    # (20 s) and what they found (10 s); not forked: 10 calls by one agent (10 s), 60 by five in one
    # world and in five (27 s each). A percentile of 95 would take 100.
    "smoke": {
        "about": "about 2 minutes: is anything badly broken?",
        "thresholds": (
            *("calls.p90 < 2s", "slowdown.shared(5) < 20%", "rss.per_agent < 500MB"),
            *("errors.rate < 1%", "violations.new == 0", "overlap.avg >= 2"),
        ),
        "doctor.time": 30.0,
        "canary.time": 40.0,
        "replays.time": 15.0,
        "replays.tries": 5,
        "fuzz.time": 30.0,
        "fuzz.runs": 12,
        "faults.runs": 0,
        "stress.time": 90.0,
        "stress.scenarios": ("tools",),
        "stress.agents": (1, 5),
        "stress.baseline": 10,
        "stress.calls": 60,
        "stress.lane": 6,
        "stress.own": 5,
        "stress.minimise": 0.0,
    },
    # forked: 100 programs (about 2,000 calls with those around them, 240 s) and what they found
    # (60 s); replays 240 s; not forked: five scenarios of 12 calls by one agent (60 s) and of 40 by
    # two and five, in one world and in their own, and by ten (1,000 calls, 460 s, and servers that
    # start), and of 12 by five that are counted inside (30 s).
    "release": {
        "about": "about 20 minutes: may this be released?",
        "stress.observe": True,
        "stress.observed": 12,
    },
    # Five scenarios of 40 and 200 calls up to 20 agents are 7,200 calls (an hour); what counts
    # inside and three more settings as much again; an hour of fuzzing; faults.
    "nightly": {
        "about": "some hours: what does a long look find?",
        "replays.time": 1200.0,
        "replays.tries": 50,
        "fuzz.time": 4200.0,
        "fuzz.runs": 2000,
        "faults.time": 2100.0,
        "faults.runs": 200,
        "stress.time": 14400.0,
        "stress.agents": (1, 2, 5, 10, 20),
        "stress.baseline": 40,
        "stress.calls": 200,
        "stress.own": 10,
        "stress.minimise": 60.0,
        "stress.observe": True,
        "stress.observed": 40,
        "stress.settings": ("default", "minimal", "development", "production", "high-performance"),
    },
}
