"""How much of a bare client's speed the harness keeps when the target answers in milliseconds.

    python benchmarks/reference_throughput.py [--agents 5] [--calls 60] [--rounds 9]

The target is the reference server, so that the harness has nothing to hide behind. Both arms
send the same program, in turns, to servers of their own in worlds of their own:

* harness: `Fleet.run` with a recorder on disk and every call sent as soon as it may be;
* free: the same under the `free` scheduler, whose pauses are deliberate;
* bare: one `ClientSession` per agent that awaits `call_tool` in a loop.

A round is one turn of each; the ratio is that of a round, and the median over the rounds is
judged: at least 0.8. Where the rest goes is a profile of one more turn of each arm: the
processor time of this process per call, by package.

Writes ``reference_throughput.json`` beside this file; exits with 1 if the ratio is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO

import anyio
from harness_overhead import Step, bare, by_bare, demand_success, lane, rate

from mcpconc.drive.record import Recorder
from mcpconc.history import EventType
from mcpconc.program import Program, token_for
from mcpconc.rig import Rig, rig
from mcpconc.schedule import Scheduler
from mcpconc.schedule.free import Free
from mcpconc.target import resolve
from mcpconc.target.base import Identity

HERE = Path(__file__).parent
RATIO = 0.8


class Eager(Free):
    """Free without its pauses."""

    name = "eager"

    def pause(self, agent: int, call: str) -> float:
        return 0.0


def program(agents: int, calls: int) -> Program:
    """Writes with and without a note, and reads, in turns; every call succeeds."""

    turns: list[Step] = [("epistemics_list", {}), ("unknown_list", {}), ("goals_list", {})]

    def step(agent: int, n: int) -> Step:
        finding = {"finding": token_for(agent, n), "impact": 0.5}
        return turns[n % 4 - 1] if n % 4 else ("finding_log", finding)

    lanes = (lane(agent, [step(agent, n) for n in range(1, calls)]) for agent in range(agents))
    return Program(agents, lanes=tuple(lanes))


async def by_harness(on: Rig, what: Program, scheduler: Scheduler, file: Path) -> float:
    started = time.monotonic_ns()
    with Recorder(file) as recorder:
        history = await on.fleet.run(what, scheduler, recorder, on.world, on.world.quiesce)
    demand_success(history, what)
    ends = {e.agent: e.ns for e in history.events if e.type is EventType.OK}
    return rate((len(lane), (ends[agent] - started) / 1e9) for agent, lane in enumerate(what.lanes))


PACKAGES = {
    "mcpconc": "mcpconc",
    "/mcp/": "mcp SDK",
    "/mcp_types/": "mcp SDK",
    "pydantic": "pydantic",
    "anyio": "anyio",
    "asyncio": "asyncio",
    "/json/": "json",
    "orjson": "orjson",
}


def by_package(profile: cProfile.Profile) -> dict[str, float]:
    """Own time in seconds of the functions of each package; built-ins count where they are
    called from."""
    seconds: Counter[str] = Counter()
    for (file, _, name), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        own, callers = row[2], row[4]
        if file == "~" and "select.epoll" in name:
            continue  # waiting
        if file == "~" and callers:
            for (caller, _, _), part in callers.items():
                seconds[_package(caller)] += part[2]
        else:
            seconds[_package(file)] += own
    return dict(seconds)


def _package(file: str) -> str:
    return next((name for part, name in PACKAGES.items() if part in file), "other")


async def profiled(arm: Callable[[], Awaitable[float]]) -> dict[str, float]:
    profile = cProfile.Profile()
    profile.enable()
    await arm()
    profile.disable()
    return by_package(profile)


async def measure(agents: int, calls: int, rounds: int, log: TextIO) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    target = resolve("reference")
    await target.install(tell)
    what = program(agents, calls)
    total = what.concurrent()
    rates: list[dict[str, float]] = []
    cpu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        async with (
            rig(target, Identity.ISOLATED, agents, Path(base), tell) as on,
            bare(target, agents, log) as (plain, clients),
        ):
            files = (Path(base, f"{n}.jsonl") for n in range(10 * rounds + 10))

            async def eager() -> float:
                return await by_harness(on, what, Eager(1), next(files))

            async def free() -> float:
                return await by_harness(on, what, Free(1), next(files))

            async def client() -> float:
                return await by_bare(clients, what)

            arms = {"harness": eager, "free": free, "bare": client}

            async def fresh() -> None:
                await on.settle()
                await plain.quiesce()
                await on.world.restore()
                await plain.restore()

            for n in range(rounds + 1):
                got = {}
                for name in sorted(arms, reverse=bool(n % 2)):
                    await fresh()
                    own = time.process_time()
                    got[name] = await arms[name]()
                    cpu.setdefault(name, []).append((time.process_time() - own) / total)
                if n:  # the first round warms the servers up
                    rates.append(got)
                    tell("  ".join(f"{name} {got[name]:.0f} calls/s" for name in sorted(got)))
            split = {}
            for name in ("harness", "bare"):
                await fresh()
                split[name] = await profiled(arms[name])
    ratios = [got["harness"] / got["bare"] for got in rates]
    packages = sorted({*split["harness"], *split["bare"]})
    return {
        "target": f"{target.name} {target.version}",
        "agents": agents,
        "calls": total,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "ratio_with_free_pauses": round(statistics.median(g["free"] / g["bare"] for g in rates), 3),
        "calls_per_second": {
            name: round(statistics.median(g[name] for g in rates), 1) for name in sorted(arms)
        },
        "client_cpu_ms_per_call": {
            name: round(1000 * statistics.median(values[1:]), 3) for name, values in cpu.items()
        },
        "profile_ms_per_call": {
            package: {
                name: round(1000 * split[name].get(package, 0.0) / total, 3)
                for name in ("harness", "bare")
            }
            for package in packages
        },
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "threshold": RATIO,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Harness against a bare client, fast target.")
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    with open(os.devnull, "w") as log:
        result = anyio.run(measure, args.agents, args.calls, args.rounds, log)
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "reference_throughput.json").write_text(text)
    print(text, end="")
    sys.exit(0 if result["ratio"] >= RATIO else 1)


if __name__ == "__main__":
    main()
