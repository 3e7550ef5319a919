"""What `--probe observe` costs: processor time of the target with the probe's counting, and
without any probe.

    python benchmarks/probe_observe.py [--rounds 12] [--targets reference,empirica]

Both arms send the same calls, one after the other, to a server in a world of its own, which is
put back before each round; in each round one arm comes first, in the next the other. What is
compared is the processor time of the server and of all that it started and waited for (the
commands of Empirica, git), without the server's own start. The ratio of a target is that of the
sums over all rounds; `spread` is half the distance of the quartiles of the rounds' ratios.

What the processes send is read and added up beside them. Writes ``probe_observe.json`` and
``probe_observe.md`` beside this file; exits with 1 if a ratio is above 1.05.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import anyio
import harness_overhead
import reference_throughput
from harness_overhead import bare, by_bare

from mcpconc.program import Program
from mcpconc.target import resolve

HERE = Path(__file__).parent
LIMIT = 1.05
REFERENCE_CALLS = 300
EMPIRICA_CALLS = 4


def calls(name: str) -> Program:
    if name == "reference":
        return reference_throughput.program(1, REFERENCE_CALLS)
    whole = harness_overhead.program(1)
    return replace(whole, lanes=(whole.lanes[0][:EMPIRICA_CALLS],))


async def measure(name: str, rounds: int, errlog: TextIO) -> dict[str, Any]:
    target = resolve(name)
    await target.install(lambda text: print(text, file=sys.stderr))
    what = calls(name)
    seconds: dict[str, list[float]] = {"none": [], "observe": []}
    async with AsyncExitStack() as stack:
        arms = {
            "none": await stack.enter_async_context(bare(target, 1, errlog)),
            "observe": await stack.enter_async_context(bare(target, 1, errlog, "observe")),
        }
        heard = arms["observe"][0].control
        assert heard is not None
        for turn in range(rounds + 1):
            for arm in list(arms)[:: 1 if turn % 2 else -1]:
                world, clients = arms[arm]
                await world.quiesce()
                await world.restore()
                before = world.cpu_seconds()
                await by_bare(clients, what)
                await world.quiesce()
                if turn:  # the first one warms up
                    seconds[arm].append(world.cpu_seconds() - before)
            print(f"{name}, round {turn} of {rounds}", file=sys.stderr)
    counted = sum(cost.counts.get("statements", 0) for cost in heard.costs.table())
    if not counted:
        raise SystemExit(f"{name}: nothing was counted")
    ratios = [ours / plain for ours, plain in zip(seconds["observe"], seconds["none"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    per_call = {
        arm: round(1000 * sum(found) / rounds / what.concurrent(), 2)
        for arm, found in seconds.items()
    }
    return {
        "target": f"{target.name} {target.version}",
        "calls": what.concurrent(),
        "rounds": rounds,
        "ratio": round(sum(seconds["observe"]) / sum(seconds["none"]), 3),
        "median_of_ratios": round(statistics.median(ratios), 3),
        "spread": round((high - low) / 2, 3),
        "cpu_ms_per_call": per_call,
        "statements_counted": counted,
    }


TEXT = """\
# What counting costs

    python benchmarks/probe_observe.py

Processor time of the target with `--probe observe`, against the same calls without a probe, in
alternating rounds of one run, on {cores} cores, Python {python}. What is measured and how stands
at the top of the script. At most {limit} is demanded.

| target | calls a round | rounds | CPU ms per call, none | observe | ratio | ± |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of counting, against no probe.")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--targets", default="reference,empirica")
    args = parser.parse_args()
    with open(os.devnull, "w") as errlog:
        rows = [anyio.run(measure, name, args.rounds, errlog) for name in args.targets.split(",")]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "limit": LIMIT}
    text = TEXT.format(**machine)
    for row in rows:
        cpu = row["cpu_ms_per_call"]
        text += (
            f"| {row['target']} | {row['calls']} | {row['rounds']} | {cpu['none']} "
            f"| {cpu['observe']} | {row['ratio']} | {row['spread']} |\n"
        )
    (HERE / "probe_observe.json").write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
    (HERE / "probe_observe.md").write_text(text)
    print(text)
    sys.exit(0 if all(row["ratio"] <= LIMIT for row in rows) else 1)


if __name__ == "__main__":
    main()
