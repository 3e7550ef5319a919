"""Every interleaving of two concurrent calls: how many there are, and how many fail.

    python benchmarks/exhaustive.py [--only reference] [--limit 300] [--seconds 60]

`mcpconc.exhaust` runs each interleaving of a pair of calls once, on the correct reference server,
on ones with a planted race, and on the real Empirica with warm starts. "All" is relative to the
points that the probe sees. What reduction saves shows in three numbers:

* met: orders of all steps that the two calls make where each may matter (the first run, in which
  nothing is known), as a power of ten;
* left: orders of the steps that are left once those that touch nothing of the other call's are let
  go unasked;
* run: interleavings, of which each stands for all orders that differ only in steps that do not
  conflict (partial-order reduction). What is no point, such as a look at the clock, is not
  counted: where a text is stamped with the time before its call waits for the lock, both orders of
  the stamps belong to one interleaving of the rest, and the one that was run was judged.

The first two are multinomial coefficients, and upper bounds: locks rule some of the orders out.

Expected is written down with each pair: *safe* (all interleavings run, none fails), *unsafe* (some
fail), or nothing. Writes ``exhaustive.json`` and ``exhaustive.md`` beside this file; exits with 1
if a pair is not what was expected, or if a call waited for a lock.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from two_calls import WAITED, pair, remarks

from mcpconc.exhaust import exhaust, orders
from mcpconc.oracle.base import Run
from mcpconc.rig import Rig, rig
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.target.warm import Start

HERE = Path(__file__).parent
SAFE, UNSAFE = "safe", "unsafe"


@dataclass(frozen=True, slots=True)
class Case:
    """`bug` is planted into the reference server; without one it is correct."""

    target: str
    one: str
    other: str = ""
    bug: str = ""
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.target} {self.bug} {self.one} ‖ {self.other or self.one}"


def reference(one: str, other: str, *bugs: str) -> tuple[Case, ...]:
    """The correct server, and those with a bug."""
    return (
        Case("reference", one, other, "", SAFE),
        *(Case("reference", one, other, bug, UNSAFE) for bug in bugs),
    )


CASES = (
    *reference("goals_complete_task", "", "two-constraints", "three-constraints"),
    *reference("the same goals_create", "", "goal-checked-before-lock"),
    *reference("the same finding_log", "", "text-checked-before-lock"),
    *reference("goals_add_dependency", "", "dependency-write-skew"),
    *reference("goals_add_task", "", "task-ids-reused", "clock-before-lock"),
    *reference("goals_progress", "goals_complete_task", "progress-counted-twice"),
    *reference("goals_complete", "goals_complete_task", "goal-row-written-back"),
    *reference("preflight", "", "equal-rounds"),
    Case("empirica", "finding_log"),
    Case("empirica", "goals_complete_task"),
    Case("empirica", "goals_add_task"),
    Case("empirica", "goals_progress", "goals_complete_task"),
    Case("empirica", "the same goals_create"),
)


async def measure(case: Case, limit: int, seconds: float) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    target = ReferenceTarget.with_bug(case.bug) if case.bug else resolve(case.target)
    start = Start.FORK if case.target == "empirica" else Start.ORDINARY
    await target.install(tell)
    said: Counter[str] = Counter()

    async def listen(on: Rig, run: Run) -> Run:
        said.update(remarks(run.history))
        return run

    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        async with rig(
            *(target, Identity.ISOLATED, 2, Path(base) / "work", lambda text: None, start),
            "control",
        ) as on:
            on.inquire = listen
            began = time.monotonic()
            done = await exhaust(
                on,
                pair(case.one, case.other),
                limit=limit,
                expired=lambda: time.monotonic() - began > seconds,
            )
            took = time.monotonic() - began
    return {
        "target": f"{case.target} {target.version}".strip(),
        "bug": case.bug,
        "pair": f"{case.one} ‖ {case.other or case.one}",
        "verdict": SAFE if done.safe else UNSAFE if done.failing else "not decided",
        "expected": case.expected,
        "said": str(done.explored),
        "all": done.explored.complete and done.finished,
        "steps_met": done.met,
        "steps_left": done.steps,
        "orders_met": float(f"{math.log10(orders(done.met)):.1f}"),
        "orders_left": orders(done.steps),
        "interleavings": done.explored.interleavings,
        "failing": {" ".join(head).strip(): n for head, n in sorted(done.failing.items())},
        "undecided": done.undecided,
        "redundant": done.explored.redundant,
        "runs": done.runs,
        "seconds": round(took, 1),
        "remarks": dict(said),
    }


def missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        where = f"{row['target']} {row['bug']} {row['pair']}"
        if row["expected"] not in ("", row["verdict"]):
            found.append(f"{where}: {row['verdict']} ({row['said']})")
        if row["remarks"].get(WAITED):
            found.append(f"{where}: waited for a lock")
    real = {row["verdict"] for row in rows if row["target"].startswith("empirica")}
    if real and not {SAFE, UNSAFE} <= real:
        found.append("of the real pairs none is proven safe, or none unsafe")
    return found


def report(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    lines = [
        "# Every interleaving of two calls",
        "",
        "    python benchmarks/exhaustive.py",
        "",
        f"{machine['cores']} cores, Python {machine['python']}, load average "
        f"{machine['load_before']} before. What is counted stands at the top of the script. Runs "
        "are all that were made: those from which is learned what the calls touch, those of "
        "earlier beginnings and those that repeated an interleaving included.",
        "",
        "| server | two calls | verdict | interleavings | of these fail | orders met | orders left "
        "| runs | seconds | waited for a lock |",
        "| --- | --- | --- |" + " ---: |" * 7,
    ]
    for row in rows:
        count = f"{row['interleavings']}" + ("" if row["all"] else ", not all")
        cells = [
            f"{row['target']}{', ' * bool(row['bug'])}{row['bug']}",
            row["pair"],
            f"**{row['verdict']}**",
            count,
            max(row["failing"].values(), default=0),
            f"10^{row['orders_met']:g}",
            f"{row['orders_left']:,}".replace(",", " "),
            row["runs"],
            row["seconds"],
            row["remarks"].get(WAITED, 0),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "What fails, and in how many interleavings:", ""]
    for row in rows:
        for head, n in row["failing"].items():
            name = row["bug"] or row["target"]
            lines.append(f"* {name}, {row['pair']}: {head} ({n} of {row['interleavings']})")
    every: Counter[str] = Counter()
    for row in rows:
        every.update(row["remarks"])
    every.pop(WAITED, None)
    lines += ["", "What else was remarked:", ""] if every else []
    lines += [f"* {n} × {text}" for text, n in every.most_common()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Every interleaving of two calls.")
    parser.add_argument("--only", default="", help="cases that contain this")
    parser.add_argument("--limit", type=int, default=300, help="runs of a case at most")
    parser.add_argument("--seconds", type=float, default=60, help="for a case at most")
    parser.add_argument("--no-write", action="store_true", help="leave the results as they are")
    args = parser.parse_args()
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }
    rows = []
    for case in CASES:
        if args.only in str(case):
            rows.append(anyio.run(measure, case, args.limit, args.seconds))
            print(json.dumps(rows[-1], ensure_ascii=False), file=sys.stderr, flush=True)
    if not args.no_write:
        text = json.dumps({**machine, "rows": rows}, indent=2, ensure_ascii=False) + "\n"
        (HERE / "exhaustive.json").write_text(text)
        (HERE / "exhaustive.md").write_text(report(rows, machine))
    print(report(rows, machine))
    print("\n".join(missed(rows)))
    sys.exit(bool(missed(rows)))


if __name__ == "__main__":
    main()
