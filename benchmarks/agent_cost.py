"""What one more agent costs, in memory and in time.

    python benchmarks/agent_cost.py [--agents 1,5,20,100,200] [--calls 20]

For each number of agents: one world of the reference server, one server process and one session
per agent. Then all agents make their calls at once, each as fast as it is answered, in one run of
the harness. Measured are

* the time until all servers are up, and per server;
* memory: the proportional share (PSS) of each server process, and how much the resident set of
  this process grew, which is a new one for each number;
* calls per second, the median and the 99th percentile of the time for an answer, and the
  processor time of this process per call.

Writes ``agent_cost.json`` and ``agent_cost.md`` beside this file, and ``agent_cost.png`` where
matplotlib is installed (``pip install -e '.[bench]'``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import psutil
from harness_overhead import demand_success
from reference_throughput import Eager, program

from mcpconc.drive.record import Recorder
from mcpconc.history import EventType, History
from mcpconc.rig import rig
from mcpconc.target import resolve
from mcpconc.target.base import Identity

HERE = Path(__file__).parent
MIB = 1 << 20


def latencies(history: History) -> list[float]:
    """Seconds from request to response of every answered call, sorted."""
    sent: dict[str, int] = {}
    found = []
    for event in history.events:
        if event.type is EventType.INVOKE:
            sent[event.call] = event.ns
        elif event.type is EventType.OK:
            found.append((event.ns - sent[event.call]) / 1e9)
    return sorted(found)


def measured(agents: int, calls: int) -> dict[str, Any]:
    return anyio.run(measure, agents, calls)


async def measure(agents: int, calls: int) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(f"  {text}\r", end="", file=sys.stderr, flush=True)

    target = resolve("reference")
    await target.install(tell)
    me = psutil.Process()
    before = me.memory_info().rss
    what = program(agents, calls)
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        started = time.monotonic()
        async with rig(target, Identity.ISOLATED, agents, Path(base), tell) as on:
            up = time.monotonic() - started
            servers = sum(psutil.Process(p).memory_full_info().pss for p in on.world.servers)
            mine = me.memory_info().rss - before
            cpu, started = time.process_time(), time.monotonic()
            with Recorder(Path(base, "history.jsonl")) as recorder:
                history = await on.fleet.run(what, Eager(1), recorder, on.world, on.world.quiesce)
            seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    demand_success(history, what)
    took = latencies(history)
    return {
        "agents": agents,
        "calls": len(took),
        "up_seconds": round(up, 2),
        "up_seconds_per_agent": round(up / agents, 3),
        "server_mib_per_agent": round(servers / agents / MIB, 1),
        "client_mib_per_agent": round(mine / agents / MIB, 2),
        "calls_per_second": round(len(took) / seconds, 1),
        "latency_ms_median": round(1000 * statistics.median(took), 1),
        "latency_ms_p99": round(1000 * took[int(0.99 * len(took))], 1)
        if len(took) >= 500
        else None,
        "client_cpu_ms_per_call": round(1000 * cpu / len(took), 2),
    }


COLUMNS = {
    "agents": "agents",
    "up_seconds": "all up, s",
    "up_seconds_per_agent": "per agent, s",
    "server_mib_per_agent": "server, MiB per agent",
    "client_mib_per_agent": "mcpconc, MiB per agent",
    "calls_per_second": "calls/s",
    "latency_ms_median": "answer, median ms",
    "latency_ms_p99": "p99 ms",
    "client_cpu_ms_per_call": "mcpconc CPU, ms per call",
}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + " ---: |" * len(COLUMNS)]
    for row in rows:
        cells = ("–" if row[key] is None else str(row[key]) for key in COLUMNS)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> bool:
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    agents = [row["agents"] for row in rows]
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, title, series in (
        (axes[0], "memory, MiB per agent", ("server_mib_per_agent", "client_mib_per_agent")),
        (axes[1], "start, seconds per agent", ("up_seconds_per_agent",)),
        (axes[2], "calls per second, all agents", ("calls_per_second",)),
    ):
        for key in series:
            axis.plot(agents, [row[key] for row in rows], marker="o", label=COLUMNS[key])
        axis.set_title(title)
        axis.set_xlabel("agents")
        axis.set_xscale("log")
        axis.set_xticks(agents, [str(n) for n in agents])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if len(series) > 1:
            axis.legend()
    figure.savefig(path, dpi=110)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="What one more agent costs.")
    parser.add_argument("--agents", default="1,5,20,100,200", help="numbers, separated by commas")
    parser.add_argument("--calls", type=int, default=20, help="calls of each agent")
    args = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for agents in map(int, args.agents.split(",")):
            rows.append(fresh.submit(measured, agents, args.calls).result())
            print(json.dumps(rows[-1]), file=sys.stderr)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    (HERE / "agent_cost.json").write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
    drawn = plot(rows, HERE / "agent_cost.png")
    text = (
        "# What one more agent costs\n\n    python benchmarks/agent_cost.py\n\n"
        f"The reference server on {machine['cores']} cores, Python {machine['python']}; every "
        f"agent has a server process of its own and makes {args.calls} calls, all at once. What "
        "each column is stands at the top of the script.\n\n" + table(rows) + "\n"
    )
    if drawn:
        text += "\n![cost per agent](agent_cost.png)\n"
    (HERE / "agent_cost.md").write_text(text)
    print(table(rows))


if __name__ == "__main__":
    main()
