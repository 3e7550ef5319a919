"""What driving costs: the whole harness against a bare `mcp` client, on the same program.

    python benchmarks/harness_overhead.py [--agents 5] [--rounds 7] [--target empirica]

Throughput. Both arms send the same program at the same time, each to servers of its own in a
world of its own, because one after the other the drifting load of a shared machine outweighs
what is to be measured:

* harness: `Fleet.run` with a recorder on disk and the free scheduler, whose random pauses
  count against it;
* bare: one `ClientSession` per agent that awaits `call_tool` in a loop.

Calls per second is the sum over the lanes of calls by time from the common start to the lane's
last response; the ratio is the median over the rounds. The arms share one event loop, which is
busy for about a millisecond a call.

Processor time. `Rig.run` alone, as a campaign calls it: restore, drive, quiescence, read-back
and all oracles. The harness's time is that of this process and of what it started and waited for
(git, for read-back); the target's is that of its servers and of all that they waited for.

Writes ``harness_overhead.json`` beside this file; exits with 1 if a threshold is missed.
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
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcpconc.drive.record import Recorder
from mcpconc.history import EventType, History, Outcome
from mcpconc.program import Call, Program, Ref, bind, token_for
from mcpconc.rig import Rig, rig
from mcpconc.schedule import make
from mcpconc.target import resolve
from mcpconc.target.base import Identity, Target
from mcpconc.world import ProbeMode, World, world

HERE = Path(__file__).parent
RATIO, SHARE = 0.95, 0.10

Step = tuple[str, dict[str, Any]]
"""A tool and its arguments, but for the session."""


def program(agents: int) -> Program:
    """Cheap tools only (about a second of processor time each), writes and reads mixed."""

    def steps(agent: int) -> list[Step]:
        return [
            ("finding_log", {"finding": token_for(agent, 1), "impact": 0.5}),
            ("unknown_log", {"unknown": token_for(agent, 2)}),
            ("goals_list", {}),
            ("unknown_list", {}),
            ("epistemics_list", {}),
            ("assess_state", {}),
        ]

    return Program(agents, lanes=tuple(lane(agent, steps(agent)) for agent in range(agents)))


def lane(agent: int, steps: Sequence[Step]) -> tuple[Call, ...]:
    """A session of the agent's own, and these calls in it."""
    session = Ref(f"a{agent}c0", "session_id")
    calls = [Call(f"a{agent}c0", agent, "session_create", {"ai_id": f"agent-{agent}"})]
    for n, (tool, args) in enumerate(steps, 1):
        token = token_for(agent, n)
        carried = token if token in args.values() else ""
        calls.append(Call(f"a{agent}c{n}", agent, tool, {**args, "session_id": session}, carried))
    return tuple(calls)


def rate(lanes: Iterable[tuple[int, float]]) -> float:
    """Calls per second of lanes with so many calls in so many seconds."""
    return sum(calls / seconds for calls, seconds in lanes)


async def by_harness(on: Rig, what: Program, seed: int, file: Path) -> float:
    started = time.monotonic_ns()
    with Recorder(file) as recorder:
        history = await on.fleet.run(what, make("free", seed), recorder, on.world, on.world.quiesce)
    demand_success(history, what)
    ends = {e.agent: e.ns for e in history.events if e.type is EventType.OK}
    return rate((len(lane), (ends[agent] - started) / 1e9) for agent, lane in enumerate(what.lanes))


def demand_success(history: History, what: Program) -> None:
    bad = [op for op in history.operations if op.outcome is not Outcome.SUCCESS]
    if bad or len(history.operations) != what.concurrent():
        sys.exit(f"not every call succeeded through the harness: {bad}")


async def by_bare(clients: list[ClientSession], what: Program) -> float:
    started = time.monotonic()
    times: list[tuple[int, float]] = []

    async def lane(client: ClientSession, calls: tuple[Call, ...]) -> None:
        responses: dict[str, Any] = {}
        for call in calls:
            result = await client.call_tool(call.tool, bind(call.args, responses))
            responses[call.id] = json.loads(result.content[0].text)  # type: ignore[union-attr]
            if responses[call.id].get("ok") is False:
                sys.exit(f"not every call succeeded through the bare client: {responses[call.id]}")
        times.append((len(calls), time.monotonic() - started))

    async with anyio.create_task_group() as lanes:
        for client, calls in zip(clients, what.lanes, strict=True):
            lanes.start_soon(lane, client, calls)
    return rate(times)


@asynccontextmanager
async def bare(
    target: Target, agents: int, errlog: TextIO, probe: ProbeMode | None = None
) -> AsyncIterator[tuple[World, list[ClientSession]]]:
    """Plain SDK sessions in a world of their own, with a probe in their servers or without."""
    async with (
        world(target, Identity.ISOLATED) as made,
        made.watched(probe),
        AsyncExitStack() as stack,
    ):
        clients = []
        for agent in range(agents):
            launch = made.launch(agent, agents)
            command, *args = launch.argv
            server = StdioServerParameters(
                command=command, args=args, env=dict(launch.env), cwd=launch.cwd
            )
            streams = await stack.enter_async_context(stdio_client(server, errlog))
            client = await stack.enter_async_context(ClientSession(*streams))
            await client.initialize()
            await client.list_tools()  # else the first call of each tool would list them
            clients.append(client)
        for pid in made.members():
            made.adopt(pid)
        yield made, clients


async def processor_time(on: Rig, what: Program) -> tuple[float, float]:
    """Seconds of the harness and of the target for one run, judging included."""
    target, own = on.world.cpu_seconds(), sum(os.times()[:4])
    execution = await on.run(what, "free", seed=1)
    own, target = sum(os.times()[:4]) - own, on.world.cpu_seconds() - target
    demand_success(execution.run.history, what)
    return own, target


async def measure(spec: str, agents: int, rounds: int, errlog: TextIO) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    target = resolve(spec)
    await target.install(tell)
    what = program(agents)
    rates: list[dict[str, float]] = []
    cpu: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        async with (
            rig(target, Identity.ISOLATED, agents, Path(base), tell) as on,
            bare(target, agents, errlog) as (plain, clients),
        ):
            for n in range(rounds):
                await on.settle()
                await plain.quiesce()
                await on.world.restore()
                await plain.restore()
                got: dict[str, float] = {}

                async def harness(got: dict[str, float] = got, n: int = n) -> None:
                    got["harness"] = await by_harness(on, what, n, Path(base, f"{n}.jsonl"))

                async def client(got: dict[str, float] = got) -> None:
                    got["bare"] = await by_bare(clients, what)

                async with anyio.create_task_group() as arms:
                    for arm in (harness, client) if n % 2 else (client, harness):
                        arms.start_soon(arm)
                rates.append(got)
                tell(f"round {n + 1}: calls/s harness {got['harness']:.3f}, bare {got['bare']:.3f}")
            for n in range(3):
                cpu.append(await processor_time(on, what))
                tell(
                    f"run {n + 1}: seconds of CPU harness {cpu[-1][0]:.2f}, target {cpu[-1][1]:.2f}"
                )
    ratios = [got["harness"] / got["bare"] for got in rates]
    shares = [own / theirs for own, theirs in cpu]
    return {
        "target": f"{target.name} {target.version}",
        "agents": agents,
        "calls": what.concurrent(),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "harness_calls_per_second": round(statistics.median(g["harness"] for g in rates), 3),
        "bare_calls_per_second": round(statistics.median(g["bare"] for g in rates), 3),
        "cpu_share": round(statistics.median(shares), 4),
        "cpu_shares": [round(s, 4) for s in shares],
        "harness_cpu_seconds": [round(own, 3) for own, _ in cpu],
        "target_cpu_seconds": [round(theirs, 3) for _, theirs in cpu],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "thresholds": {"ratio": RATIO, "cpu_share": SHARE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of driving, against a bare client.")
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--target", default="empirica")
    args = parser.parse_args()
    with open(os.devnull, "w") as errlog:
        result = anyio.run(measure, args.target, args.agents, args.rounds, errlog)
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "harness_overhead.json").write_text(text)
    print(text, end="")
    sys.exit(0 if result["ratio"] >= RATIO and result["cpu_share"] <= SHARE else 1)


if __name__ == "__main__":
    main()
