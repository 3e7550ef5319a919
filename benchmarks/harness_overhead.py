"""What driving costs: the whole harness against a bare `mcp` client, on the same program.

    python benchmarks/harness_overhead.py [--agents 5] [--pairs 5] [--target empirica]

Two sets of servers are up in one world. Each pair is one program sent by both arms, in
alternating order, from a freshly restored world:

* harness: `Rig.run` as a campaign calls it: restore, fleet, recorder on disk, free scheduler,
  quiescence, read-back, all oracles;
* bare: one `ClientSession` per agent that awaits `call_tool` in a loop.

Calls per second span the first request to the last response; the ratio is the median over the
pairs. Processor time of the harness is that of this process over the whole `Rig.run`, judging
included; the target's is that of its servers and of all that they have waited for. Writes
``harness_overhead.json`` beside this file.
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
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcpconc.history import EventType, History, Outcome
from mcpconc.program import Call, Program, Ref, bind, token_for
from mcpconc.rig import Rig, rig
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.world import World

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Arm:
    """One program through one arm. Times in seconds."""

    calls_per_second: float
    target_cpu: float
    own_cpu: float


def program(agents: int) -> Program:
    """Cheap tools only (about a second of processor time each), writes and reads mixed."""

    def lane(agent: int) -> tuple[Call, ...]:
        session = Ref(f"a{agent}c0", "session_id")
        steps: list[tuple[str, dict[str, Any]]] = [
            ("session_create", {"ai_id": f"agent-{agent}"}),
            ("finding_log", {"finding": token_for(agent, 1), "impact": 0.5}),
            ("unknown_log", {"unknown": token_for(agent, 2)}),
            ("goals_list", {}),
            ("unknown_list", {}),
            ("epistemics_list", {}),
            ("assess_state", {}),
        ]
        return tuple(
            Call(
                f"a{agent}c{n}",
                agent,
                tool,
                args if n == 0 else {**args, "session_id": session},
                token_for(agent, n) if n in (1, 2) else "",
            )
            for n, (tool, args) in enumerate(steps)
        )

    return Program(agents, lanes=tuple(lane(agent) for agent in range(agents)))


async def through_harness(on: Rig, what: Program) -> Arm:
    target, own = on.world.cpu_seconds(), time.process_time()
    execution = await on.run(what, "free", seed=1)
    own, target = time.process_time() - own, on.world.cpu_seconds() - target
    history = execution.run.history
    bad = [op for op in history.operations if op.outcome is not Outcome.SUCCESS]
    if bad or len(history.operations) != what.concurrent():
        sys.exit(f"not every call succeeded through the harness: {bad}")
    return Arm(what.concurrent() / span(history), target, own)


def span(history: History) -> float:
    times = [e.ns for e in history.events if e.type in (EventType.INVOKE, EventType.OK)]
    return (max(times) - min(times)) / 1e9


async def through_bare(on: Rig, clients: list[ClientSession], what: Program) -> Arm:
    await on.settle()
    await on.world.restore()

    async def lane(client: ClientSession, calls: tuple[Call, ...]) -> None:
        responses: dict[str, Any] = {}
        for call in calls:
            result = await client.call_tool(call.tool, bind(call.args, responses))
            responses[call.id] = json.loads(result.content[0].text)  # type: ignore[union-attr]
            if responses[call.id].get("ok") is False:
                sys.exit(f"not every call succeeded through the bare client: {responses[call.id]}")

    target, own = on.world.cpu_seconds(), time.process_time()
    started = time.monotonic()
    async with anyio.create_task_group() as lanes:
        for client, calls in zip(clients, what.lanes, strict=True):
            lanes.start_soon(lane, client, calls)
    seconds = time.monotonic() - started
    own, target = time.process_time() - own, on.world.cpu_seconds() - target
    return Arm(what.concurrent() / seconds, target, own)


@asynccontextmanager
async def bare(world: World, agents: int, errlog: TextIO) -> AsyncIterator[list[ClientSession]]:
    """Plain SDK sessions beside the fleet's, in the same world."""
    known = world.members()
    async with AsyncExitStack() as stack:
        clients = []
        for agent in range(agents):
            launch = world.launch(agent, agents)
            command, *args = launch.argv
            server = StdioServerParameters(
                command=command, args=args, env=dict(launch.env), cwd=launch.cwd
            )
            streams = await stack.enter_async_context(stdio_client(server, errlog))
            client = await stack.enter_async_context(ClientSession(*streams))
            await client.initialize()
            await client.list_tools()  # else the first call of each tool would list them
            clients.append(client)
        for pid in world.members() - known:
            world.adopt(pid)
        yield clients


async def measure(spec: str, agents: int, pairs: int, errlog: TextIO) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    target = resolve(spec)
    await target.install(tell)
    what = program(agents)
    harness: list[Arm] = []
    plain: list[Arm] = []
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        async with (
            rig(target, Identity.ISOLATED, agents, Path(base), tell) as on,
            bare(on.world, agents, errlog) as clients,
        ):
            await through_bare(on, clients, what)  # warms caches of files and bytecode
            for pair in range(pairs):
                if pair % 2:
                    plain.append(await through_bare(on, clients, what))
                    harness.append(await through_harness(on, what))
                else:
                    harness.append(await through_harness(on, what))
                    plain.append(await through_bare(on, clients, what))
                tell(
                    f"pair {pair + 1}: harness {harness[-1].calls_per_second:.2f} calls/s, "
                    f"bare {plain[-1].calls_per_second:.2f} calls/s, harness "
                    f"{harness[-1].own_cpu:.2f} s of CPU, target {harness[-1].target_cpu:.2f} s"
                )
    ratios = [h.calls_per_second / b.calls_per_second for h, b in zip(harness, plain, strict=True)]
    shares = [h.own_cpu / h.target_cpu for h in harness]
    return {
        "target": f"{target.name} {target.version}",
        "agents": agents,
        "pairs": pairs,
        "calls": what.concurrent(),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "cpu_share": round(statistics.median(shares), 4),
        "cpu_shares": [round(s, 4) for s in shares],
        "harness_calls_per_second": round(median(harness, "calls_per_second"), 3),
        "bare_calls_per_second": round(median(plain, "calls_per_second"), 3),
        "harness_cpu_seconds": round(median(harness, "own_cpu"), 3),
        "bare_cpu_seconds": round(median(plain, "own_cpu"), 3),
        "target_cpu_seconds": round(median(harness, "target_cpu"), 3),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "thresholds": {"ratio": 0.95, "cpu_share": 0.10},
    }


def median(arms: list[Arm], what: str) -> float:
    return statistics.median(getattr(arm, what) for arm in arms)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of driving, against a bare client.")
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--target", default="empirica")
    args = parser.parse_args()
    with open(os.devnull, "w") as errlog:
        result = anyio.run(measure, args.target, args.agents, args.pairs, errlog)
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "harness_overhead.json").write_text(text)
    print(text, end="")
    met = result["ratio"] >= 0.95 and result["cpu_share"] <= 0.10
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
