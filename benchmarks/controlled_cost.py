"""What it costs to decide at every point who goes on, for two concurrent calls.

    python benchmarks/controlled_cost.py [--rounds 5] [--ordinary-rounds 3] [--only reference]

Two rigs of two agents stand side by side: one without the probe, where calls run as they like
(schedulers `free` and `barrier`), and one with it, where `random` decides statement by statement.
They take turns with one program; which of them goes first alternates from round to round.

* whole: from putting the world back to the verdict, with the calls that come before the two, and
  with waiting for rest, reading the state back and judging;
* the two calls: from the first request to the last answer of these two alone. `free` lets the
  second call wait for up to 0.3 times what a call takes, so that calls lie differently to each
  other each time; `barrier` sends both at once, so it is what no scheduler can beat.

Judged is the median over the rounds of ``random / free``: with ordinary starts at most 2.5 for
each pair for the whole; on the real server also for the two calls alone (those of the reference
server take a few milliseconds, so that what is asked and answered at each point weighs more; the
table has that, too). With warm starts (`--start fork`) the median over the pairs of the seconds
that the two calls take must be at most 0.5. The first run of a pair, in which nothing is known
about its calls yet, is told apart and not part of the medians.

What schedulers remark is counted over all runs, first ones too: a call that waits for a lock which
the controller could have foreseen must not occur.

Writes ``controlled_cost.json`` and ``controlled_cost.md`` beside this file; exits with 1 if a bound
is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from two_calls import WAITED, pair, remarks

from mcpconc.history import EventType, Outcome
from mcpconc.rig import Execution, Rig, rig
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

HERE = Path(__file__).parent
RATIO, SECONDS = 2.5, 0.5
FREE, BARRIER, RANDOM = ARMS = ("free", "barrier", "random")
LEARNING = 4
"""Runs of a pair, at most, until nothing new is learned of its calls."""

LIGHT = ("finding_log", "goals_create", "goals_complete_task")
HEAVY = ("preflight", "postflight")
CASES: tuple[tuple[str, Start, tuple[str, ...]], ...] = (
    ("reference", Start.ORDINARY, (*LIGHT, *HEAVY)),
    ("empirica", Start.FORK, (*LIGHT, *HEAVY)),
    ("empirica", Start.ORDINARY, ("finding_log", "goals_create", "preflight")),
)


def two_calls(run: Execution) -> float:
    """Seconds from the first request to the last answer of the concurrent part."""
    history = run.run.history
    lane = {op.call for op in history.operations if op.phase.value == "lane"}
    events = [event for event in history.events if event.call in lane]
    sent = min(e.ns for e in events if e.type is EventType.INVOKE)
    return (max(e.ns for e in events if e.type is EventType.OK) - sent) / 1e9


def failed(run: Execution) -> list[str]:
    return [op.tool for op in run.run.history.operations if op.outcome is not Outcome.SUCCESS]


class Pair:
    """One program on both rigs."""

    def __init__(self, name: str, free: Rig, controlled: Rig) -> None:
        self.name, self.program = name, pair(name)
        self.on = {FREE: free, BARRIER: free, RANDOM: controlled}
        self.runs: dict[str, list[Execution]] = {arm: [] for arm in ARMS}
        self.first: list[Execution] = []
        self.remarks: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def run(self, arm: str, seed: int) -> Execution:
        run = await self.on[arm].run(self.program, arm, seed)
        self.remarks.update(remarks(run.run.history))
        self.failed.update(failed(run))
        return run

    async def measure(self, rounds: int) -> None:
        await self.run(FREE, 0)
        steps = -1
        while len(self.first) < LEARNING and steps != (steps := len((await self.learn()).steps)):
            pass
        for n in range(rounds):
            for arm in ARMS[:: 1 - 2 * (n % 2)]:
                self.runs[arm].append(await self.run(arm, n + 1))

    async def learn(self) -> Execution:
        self.first.append(await self.run(RANDOM, 0))
        return self.first[-1]

    def row(self) -> dict[str, Any]:
        def median(what: Any, arm: str) -> float:
            return round(statistics.median(map(what, self.runs[arm])), 3)

        def ratio(what: Any, arm: str) -> float:
            both = zip(self.runs[RANDOM], self.runs[arm], strict=True)
            return round(statistics.median(what(one) / what(other) for one, other in both), 2)

        def whole(run: Execution) -> float:
            return run.seconds

        return {
            "pair": f"{self.name} ‖ {self.name}",
            "calls_before": len(self.program.prefix),
            "whole": {arm: median(whole, arm) for arm in ARMS},
            "two_calls": {arm: median(two_calls, arm) for arm in ARMS},
            "whole_ratio": ratio(whole, FREE),
            "two_calls_ratio": ratio(two_calls, FREE),
            "two_calls_to_barrier": ratio(two_calls, BARRIER),
            "steps": round(median(lambda run: len(run.steps), RANDOM)),
            "first_steps": len(self.first[0].steps),
            "first_seconds": round(two_calls(self.first[0]), 3),
            "remarks": dict(self.remarks),
            "failed": dict(self.failed),
        }


async def measure(
    spec: str, start: Start, pairs: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    target = resolve(spec)
    await target.install(tell)
    rows = []
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        where = Path(base)
        async with (
            rig(target, Identity.ISOLATED, 2, where / "f", tell, start) as free,
            rig(target, Identity.ISOLATED, 2, where / "c", tell, start, "control") as controlled,
        ):
            for name in pairs:
                one = Pair(name, free, controlled)
                await one.measure(rounds)
                version = f"{target.name} {target.version}".strip()
                rows.append({"target": version, "start": start.value, **one.row()})
                tell(json.dumps(rows[-1]))
    return rows


def missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        where = f"{row['target']}, {row['start']}, {row['pair']}"
        found += [f"{where}: {n} × {tool} failed" for tool, n in row["failed"].items()]
        small = row["target"].startswith("reference")
        for what in ("whole_ratio",) if small else ("whole_ratio", "two_calls_ratio"):
            if row["start"] == Start.ORDINARY.value and row[what] > RATIO:
                found.append(f"{where}: {what} is {row[what]}")
        if row["remarks"].get(WAITED):
            found.append(f"{where}: waited for a lock")
    warm = seconds_when_warm(rows)
    if warm is not None and warm > SECONDS:
        found.append(f"with warm starts two calls take {warm} s")
    return found


def seconds_when_warm(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Median over the pairs."""
    took = [row["two_calls"][RANDOM] for row in rows if row["start"] == Start.FORK.value]
    return round(statistics.median(took), 3) if took else None


def report(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    lines = [
        "# What controlled schedules cost",
        "",
        "    python benchmarks/controlled_cost.py",
        "",
        f"{machine['cores']} cores, Python {machine['python']}; seconds are medians of "
        f"{machine['rounds']} rounds, of {machine['ordinary_rounds']} for Empirica with ordinary "
        "starts. What is measured stands at the top of the script. The machine was not idle "
        f"otherwise: its load average was {machine['load_before']} before; the measurement itself "
        f"ran at niceness {machine['nice']}.",
        "",
        "| target, start | pair | two calls: free | barrier | random | random / free | / barrier "
        "| whole: free | random | random / free | steps | first run: steps | seconds |",
        "| --- | --- |" + " ---: |" * 11,
    ]
    for row in rows:
        two, whole = row["two_calls"], row["whole"]
        cells = [
            f"{row['target']}, {row['start']}",
            row["pair"],
            *(two[arm] for arm in ARMS),
            f"**{row['two_calls_ratio']}**",
            row["two_calls_to_barrier"],
            whole[FREE],
            whole[RANDOM],
            f"**{row['whole_ratio']}**",
            *(row[name] for name in ("steps", "first_steps", "first_seconds")),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    warm = seconds_when_warm(rows)
    if warm is not None:
        lines += ["", f"Two controlled calls with warm starts, median of the pairs: **{warm} s**."]
    every: Counter[str] = Counter()
    for row in rows:
        every.update(row["remarks"])
    lines += ["", f"Runs in which a call waited for a lock: {every.pop(WAITED, 0)}."]
    lines += ["", "What else was remarked:", ""] if every else []
    lines += [f"* {n} × {text}" for text, n in every.most_common()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="What controlled schedules cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ordinary-rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="targets and starts that contain this")
    parser.add_argument("--no-write", action="store_true", help="leave the results as they are")
    args = parser.parse_args()
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
        "nice": os.nice(0),
        "rounds": args.rounds,
        "ordinary_rounds": args.ordinary_rounds,
        "thresholds": {"ratio": RATIO, "seconds": SECONDS},
    }
    rows: list[dict[str, Any]] = []
    for spec, start, pairs in CASES:
        if args.only in f"{spec} {start.value}":
            slow = spec == "empirica" and start is Start.ORDINARY
            rounds = args.ordinary_rounds if slow else args.rounds
            rows += anyio.run(measure, spec, start, pairs, rounds)
    if not args.no_write:
        text = json.dumps({**machine, "rows": rows}, indent=2, ensure_ascii=False) + "\n"
        (HERE / "controlled_cost.json").write_text(text)
        (HERE / "controlled_cost.md").write_text(report(rows, machine))
    print(report(rows, machine))
    print("\n".join(missed(rows)))
    sys.exit(bool(missed(rows)))


if __name__ == "__main__":
    main()
