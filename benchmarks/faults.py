"""What faults do to a target under load: how it recovers, what is torn, what is lost.

    python benchmarks/faults.py [--times 10] [--faults kill-server hold-lock …] [--max-time 600]

Each fault is injected into programs of five agents until it has begun so many times, every time
in another program and at another call (`mcpconc.nemesis.plan`). Nothing else is at work in a run.
Afterwards it is looked for processes, locks and immutable files that outlived it. Results are
written after each run and an interrupted measurement goes on where it was: ``faults.json`` has a
row for each run, ``faults.md`` the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc import locks
from mcpconc.nemesis import KINDS, chosen, with_faults
from mcpconc.nemesis.files import is_frozen
from mcpconc.oracle.storms import MISSED, Met, storms
from mcpconc.oracle.toll import tolls
from mcpconc.rig import Execution, Rig, rig
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.target import resolve
from mcpconc.target.base import Hurries
from mcpconc.target.warm import Start

HERE = Path(__file__).parent
CALLS = 15
"""About so many a program."""
TRIES = 4
"""Programs for each run that is wanted: a fault may find nothing to be done to."""

Row = dict[str, Any]


async def left_behind(on: Rig) -> list[str]:
    """What outlived a run that should not have."""
    await on.settle()
    left = [f"process: {command}" for command in on.world.strays().values()]
    for name, path in on.world.databases.items():
        if await anyio.to_thread.run_sync(locks.stays_locked, path, 0.2):
            left.append(f"lock on {name}")
    frozen = await anyio.to_thread.run_sync(is_frozen, on.world.root)
    return left + ["files that cannot be changed"] * frozen


def row(name: str, seed: int, made: Execution, left: Sequence[str]) -> Row:
    (met,) = storms(made.run)
    heads = sorted({str(f.fingerprint) for f in made.judgement.findings})
    return {
        **met.to_json(),
        "seed": seed,
        "seconds": round(made.seconds, 1),
        "calls": len(made.run.history.operations),
        "quiescent": made.run.quiescent,
        "findings": heads,
        "left": list(left),
    }


async def measure(args: argparse.Namespace, rows: list[Row]) -> None:
    target = resolve(args.target)
    await target.install(say)
    if isinstance(target, Hurries):
        target.hurry()
    # Those that come inside the calls have a measurement of their own, kill_points.py.
    names = [name for name in chosen(args.faults, KINDS) if not KINDS[name].inside]
    start = Start(args.start)
    end = time.monotonic() + args.max_time
    with tempfile.TemporaryDirectory() as work:
        async with rig(target, target.identities[0], args.agents, Path(work), say, start) as on:
            for name in names:
                if why := KINDS[name].lacking(on.world.root):
                    say(f"{name} is left out: {why}")
                    continue
                await repeat(on, name, args, rows, end)
                write(args, target.version, rows)


async def repeat(on: Rig, name: str, args: argparse.Namespace, rows: list[Row], end: float) -> None:
    """Run this fault until it has begun often enough."""
    machine = CascadeMachine.offered(await on.tools())
    knobs = Knobs(args.agents, CALLS, 0.7, 1)
    known = [r for r in rows if r["fault"] == name]
    done = sum(r["outcome"] != MISSED for r in known)
    seed = args.seed + max((r["seed"] - args.seed + 1 for r in known), default=0)
    while done < args.times and seed - args.seed < TRIES * args.times:
        if time.monotonic() > end:
            return
        program = generate(machine, knobs, seed, 4)[-1]
        made = await on.run(with_faults(program, [name], seed), "free", seed)
        rows.append(row(name, seed, made, await left_behind(on)))
        done += rows[-1]["outcome"] != MISSED
        seed += 1
        say(f"{name}: {rows[-1]['outcome']} ({done} of {args.times})")
        save(args, rows)


def table(version: str, args: argparse.Namespace, rows: Sequence[Row]) -> str:
    lines = [
        "# Faults",
        "",
        f"{args.target} {version}, {args.agents} agents, calls started by {args.start}. Of each "
        "fault: runs in which it began; what fresh calls of every agent took afterwards, or "
        "whether something is gone that was acknowledged; calls in flight under it of which nobody "
        "knows what they did; which of them were left half done; what was acknowledged and is not "
        "there. `python benchmarks/faults.py`",
        "",
        "| fault | runs | recovery | unanswered | torn: calls that did a part | data lost |",
        "|---|---|---|---|---|---|",
    ]
    by_name = {toll.fault: toll for toll in tolls(Met.from_json(r) for r in rows)}
    for name in dict.fromkeys(r["fault"] for r in rows):
        toll = by_name[name]
        if not toll.began:
            lines.append(f"| {name} | 0 | never began | – | – | – |")
            continue
        recovery = ", ".join(f"{times}× {c}" for c, times in toll.ranked().items())
        torn = Counter({torn_state(*steps): calls for steps, calls in toll.torn.items()})
        lines.append(
            f"| {name} | {toll.began} | {recovery} | {toll.unanswered} "
            f"| {listed(torn)} | {listed(toll.lost)} |"
        )
    left = [what for r in rows for what in r["left"]]
    lines += [
        "",
        f"Left behind by {len(rows)} runs: {listed(Counter(left)) if left else 'nothing'}.",
        "",
    ]
    return "\n".join(lines)


def torn_state(tool: str, there: Sequence[str], missing: Sequence[str]) -> str:
    return f"{tool}: {', '.join(there)} without {', '.join(missing)}"


def listed(counter: Counter[str]) -> str:
    return "; ".join(f"{n}× {what}" for what, n in counter.most_common()) or "–"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def save(args: argparse.Namespace, rows: Sequence[Row]) -> None:
    args.out.with_suffix(".json").write_text(json.dumps(list(rows), indent=1) + "\n")


def write(args: argparse.Namespace, version: str, rows: Sequence[Row]) -> None:
    save(args, rows)
    args.out.with_suffix(".md").write_text(table(version, args, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="empirica")
    parser.add_argument("--faults", nargs="+", default=["all"])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--agents", type=int, default=5)
    parser.add_argument("--start", choices=[s.value for s in Start], default="fork")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-time", type=float, default=1e9, help="seconds")
    parser.add_argument("--out", type=Path, default=HERE / "faults", help="without a suffix")
    args = parser.parse_args()
    file = args.out.with_suffix(".json")
    rows: list[Row] = json.loads(file.read_text()) if file.exists() else []
    anyio.run(measure, args, rows)


if __name__ == "__main__":
    main()
