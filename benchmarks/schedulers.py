"""What each scheduler finds in the same programs for the same effort.

    python benchmarks/schedulers.py run reference --seeds 0-9 --calls 200 --parts DIR
    python benchmarks/schedulers.py run empirica --seeds 0-2 --cpu-minutes 10 --parts DIR
    python benchmarks/schedulers.py report --parts DIR

For each seed there is one list of small programs. Every scheduler gets each of them `AGAIN` times,
in this order, until it has used up its budget; schedulers take turns program by program, so that
whatever else the machine does is the same for all. `free`, `barrier` and `convoy` have a world
without the probe. Calls are forked (`--start fork`), for all schedulers.

A finding is counted if it is a race: no one-at-a-time order of the program in which it was first
met, by its agents or by one agent alone, shows the same head of a fingerprint, nor does such an
order of any other program that was looked at so. Those runs count for nobody's budget. On the
reference server a planted bug is found if one of its findings is a race.

The budget is calls on the reference server and processor time of the target, as its processes
used it, on Empirica. Each seed is a file in DIR, so seeds can be run side by side and a run can be
taken up again; what is known of an unfinished seed is written every few programs (``finished`` is
false in it, and the report says so);
``report`` writes ``schedulers.json`` and ``schedulers.md`` beside this script. The traces in
DIR/traces have the first run of each head, for each scheduler.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcpconc.campaign import FuzzConfig, programs
from mcpconc.cuts import needs, normal, sequence
from mcpconc.errors import TargetError
from mcpconc.keep import as_trace
from mcpconc.label import orders
from mcpconc.program import Program
from mcpconc.reference.plants import PLANTS
from mcpconc.rig import Execution, Rig, rig
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.target.warm import Start
from mcpconc.trace import Shrink, slug

HERE = Path(__file__).parent
FREE = ("free", "barrier", "convoy")
CONTROLLED = ("random", "pct:2", "pct:3")
SCHEDULERS = (*FREE, *CONTROLLED)
AGAIN = 4
AGENTS = 3
CALLS = 3
MOST = 4
HARD = 3
"""Bugs that need two or three switches at the right places get so many times the calls."""

ORDERS = 12
LARGE = Knobs(AGENTS, 20, 1.0)
ROUNDS = (
    "submit_preflight_assessment",
    "submit_check_assessment",
    "submit_postflight_assessment",
)
RACES: dict[str, tuple[str, ...]] = {
    "checkpoint-file-truncated": (*ROUNDS, "checkpoint_load", "assess_state"),
    "checkpoint-file-written-back": (*ROUNDS, "checkpoint_create"),
    "clock-before-lock": ("goals_add_task",),
    "dependency-write-skew": ("goals_add_dependency",),
    "equal-rounds": ROUNDS,
    "goal-checked-before-lock": ("goals_create",),
    "goal-without-criterion": ("goals_create", "finding_log"),
    "intermediate-read": ("goals_complete", "goals_add_task", "goals_activate"),
    "note-skipped": ("finding_log",),
    "progress-counted-twice": ("goals_list", "goals_complete_task", "goals_add_task"),
    "task-added-twice": ("goals_add_task",),
    "task-ids-reused": ("goals_add_task",),
    "text-checked-before-lock": ("unknown_log",),
    "two-constraints": ("goals_complete_task", "goals_progress", "goals_add_task"),
    "three-constraints": ("goals_complete_task", "goals_progress", "goals_add_task"),
}
"""Planted bug → the tools that it is in. What shows one call at a time, or needs several calls in
one process, or is no matter of order at all, is left out."""

MAKERS = ("session_create", "goals_create", "goals_add_task")
"""What makes the objects that others are about."""

COMMANDS = (
    "python benchmarks/schedulers.py run reference --seeds 0-9 --calls 200 --parts DIR",
    "python benchmarks/schedulers.py run empirica --seeds 0-2 --cpu-minutes 10 --parts DIR",
    "python benchmarks/schedulers.py report --parts DIR",
)

Head = tuple[str, str, str, str]
Firsts = dict[tuple[str, ...], list[int]]


@dataclass(slots=True)
class Arm:
    """One scheduler with one seed. `found` is head → [calls, runs] until it was first met."""

    scheduler: str
    runs: int = 0
    calls: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    broken: int = 0
    found: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Contest:
    """Schedulers on one list of programs. `alone` is what one-at-a-time runs of those showed in
    which a head was first `met`."""

    rigs: dict[str, Rig]
    seed: int
    most_calls: float
    most_cpu: float
    traces: Path | None
    wanted: str = ""
    """The oracle whose finding ends the effort of an arm; empty for all the budget."""
    save: Callable[[dict[str, Any]], None] = lambda result: None
    """Keeps what is known so far."""
    arms: dict[str, Arm] = field(default_factory=dict)
    alone: set[Head] = field(default_factory=set)
    met: set[Head] = field(default_factory=set)
    looked: set[str] = field(default_factory=set)

    def left(self, arm: Arm) -> bool:
        if arm.calls >= self.most_calls or arm.cpu >= self.most_cpu:
            return False
        races = [head for head in map(json.loads, arm.found) if tuple(head) not in self.alone]
        return not (self.wanted and any(head[0] == self.wanted for head in races))

    async def run(self, drawn: Iterator[Program]) -> None:
        self.arms = {name: Arm(name) for name in SCHEDULERS}
        for n in itertools.count():
            turn = [self.arms[SCHEDULERS[(n + k) % len(SCHEDULERS)]] for k in range(len(self.arms))]
            turn = [arm for arm in turn if self.left(arm)]
            program = await anyio.to_thread.run_sync(next, drawn, None)
            if not turn or program is None:
                return
            for arm in turn:
                for again in range(AGAIN):
                    if self.left(arm):
                        await self.once(arm, program, self.seed * 7919 + n * AGAIN + again)
            if n % 10 == 0:
                self.save(self.result())
                tell(self.seed, n, *(f"{a.scheduler} {a.cpu:.0f}s {len(a.found)}" for a in turn))

    async def once(self, arm: Arm, program: Program, seed: int) -> None:
        on = self.rigs[arm.scheduler]
        cpu, began = on.world.cpu_seconds(), time.monotonic()
        try:
            done = await on.run(program, arm.scheduler, seed)
        except TargetError as error:
            tell(arm.scheduler, error)
            arm.broken += 1
            return
        arm.runs += 1
        arm.calls += len(done.run.history.operations)
        arm.cpu += max(0.0, on.world.cpu_seconds() - cpu)
        arm.seconds += time.monotonic() - began
        if done.heads() - self.alone - self.met:
            await self.look_alone(program)
        self.met |= done.heads()
        for head in sorted(done.heads() - self.alone):
            if json.dumps(head) not in arm.found:
                arm.found[json.dumps(head)] = [arm.calls, arm.runs]
                self.keep(on, arm, done, head)

    async def look_alone(self, program: Program) -> None:
        """Learn what one-at-a-time runs of a program show, once."""
        if program.digest() in self.looked:
            return
        self.looked.add(program.digest())
        for order in orders(program, ORDERS)[1]:
            for one_agent in (False, True):
                on = self.rigs["free"]
                done = await on.run(sequence(program, order, one_agent=one_agent), "free", 0)
                self.alone |= done.heads()

    def keep(self, on: Rig, arm: Arm, done: Execution, head: Head) -> None:
        if self.traces is None:
            return
        finding = next(f for f in done.judgement.findings if f.fingerprint.head() == head)
        name = f"{arm.scheduler.replace(':', '-')}-{self.seed}-{slug(finding)}"
        if not (self.traces / name).exists():
            how = Shrink(finished=False)
            as_trace(on, done, finding, self.seed, how, "").save(self.traces / name)

    def result(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "finished": not any(self.left(arm) for arm in self.arms.values()),
            "arms": [asdict(arm) for arm in self.arms.values()],
            "alone": sorted(self.alone),
            "looked": len(self.looked),
        }


def tell(*what: Any) -> None:
    print(time.strftime("%H:%M:%S"), *what, file=sys.stderr, flush=True)


def of_a_campaign(seed: int) -> Iterator[Program]:
    return programs(
        FuzzConfig(out=Path(), agents=AGENTS, calls=CALLS, share=1.0, seed=seed, control=True)
    )


def about(tools: Sequence[str], seed: int) -> Iterator[Program]:
    """Programs in which two agents or more call these tools, four calls at most. A machine that
    knows many more tools would seldom call two of them for one object."""
    machine = CascadeMachine.offered({*tools, *MAKERS})
    for batch in itertools.count():
        for program in generate(machine, LARGE, seed * 1_000_003 + batch, 20):
            calls = [call for lane in program.lanes for call in lane if call.tool in tools]
            # By turns, so that not all are of one agent.
            place = {call.id: n for lane in program.lanes for n, call in enumerate(lane)}
            some = {call.id for call in sorted(calls, key=lambda call: place[call.id])[:MOST]}
            if len({call.agent for call in calls if call.id in some}) > 1:
                yield cut(program, some)


def cut(program: Program, some: set[str]) -> Program:
    """These calls side by side, and before them what they need."""
    kept = needs(program, some)
    before = [c for lane in program.lanes for c in lane if c.id in kept - some]
    return normal(
        replace(
            program,
            prefix=(*(c for c in program.prefix if c.id in kept), *before),
            lanes=tuple(tuple(c for c in lane if c.id in some) for lane in program.lanes),
            suffix=tuple(c for c in program.suffix if needs(program, [c.id]) <= kept | {c.id}),
        )
    )


async def opened(stack: AsyncExitStack, target: Any, start: Start) -> dict[str, Rig]:
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-")))
    args = (target, Identity.ISOLATED, AGENTS)
    free = await stack.enter_async_context(rig(*args, work / "free", tell, start))
    controlled = await stack.enter_async_context(
        rig(*args, work / "controlled", tell, start, "control")
    )
    return dict.fromkeys(FREE, free) | dict.fromkeys(CONTROLLED, controlled)


async def run_empirica(seed: int, calls: float, cpu: float, parts: Path) -> None:
    target = resolve("empirica")
    await target.install(tell)
    about = {
        "target": f"empirica {target.version}",
        "calls": None if math.isinf(calls) else calls,
        "cpu_minutes": None if math.isinf(cpu) else cpu / 60,
    }

    def keep(result: dict[str, Any]) -> None:
        save(parts / f"empirica-{seed}.json", about | result)

    async with AsyncExitStack() as stack:
        rigs = await opened(stack, target, Start.FORK)
        contest = Contest(rigs, seed, calls, cpu, parts / "traces", save=keep)
        await contest.run(of_a_campaign(seed))
    keep(contest.result())


async def run_reference(seed: int, calls: float, only: Sequence[str], parts: Path) -> None:
    target = ReferenceTarget()
    plants = [plant for plant in PLANTS if plant.name in (only or RACES)]
    entries: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        rigs = await opened(stack, target, Start.ORDINARY)
        for plant in plants:
            target.plant = plant.name
            budget = calls * (HARD if plant.needs else 1)
            contest = Contest(rigs, seed, budget, math.inf, None, plant.oracle)
            await contest.run(about(RACES[plant.name], seed))
            entry = {"plant": plant.name, "needs": plant.needs, "oracle": plant.oracle}
            entries.append(entry | contest.result())
            tell(
                plant.name,
                {
                    k: min(v, default=None)
                    for k, v in planted([{"plants": entries[-1:]}])[plant.name].items()
                },
            )
    save(parts / f"reference-{seed}.json", {"seed": seed, "calls": calls, "plants": entries})


def read(parts: Path, target: str) -> list[dict[str, Any]]:
    paths = sorted(parts.glob(f"{target}-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    return [json.loads(path.read_text()) for path in paths]


def firsts(results: Sequence[dict[str, Any]], scheduler: str, oracle: str = "") -> Firsts:
    """Race → calls until it was first met, for each seed in which it was."""
    alone = {tuple(head) for result in results for head in result["alone"]}
    met: Firsts = {}
    for result in results:
        (arm,) = [arm for arm in result["arms"] if arm["scheduler"] == scheduler]
        for text, (calls, _) in arm["found"].items():
            head = tuple(json.loads(text))
            if head not in alone and oracle in ("", head[0]):
                met.setdefault(head, []).append(calls)
    return met


def planted(parts: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Bug → scheduler → calls until it was found, for each seed in which it was."""
    table: dict[str, dict[str, list[int]]] = {}
    for part in parts:
        for entry in part["plants"]:
            row = table.setdefault(entry["plant"], {name: [] for name in SCHEDULERS})
            for name in SCHEDULERS:
                met = firsts([entry], name, entry["oracle"])
                if met:
                    row[name].append(min(min(calls) for calls in met.values()))
    return table


def report_reference(parts: Sequence[dict[str, Any]]) -> list[str]:
    table, seeds, calls = planted(parts), len(parts), parts[0]["calls"]
    lines = [
        "## The reference server",
        "",
        f"{len(table)} planted races, {seeds} seeds, {calls:g} calls at most for each scheduler, "
        f"bug and seed ({HARD * calls:g} for those marked †, which need switches at two or three "
        "right places). Seeds in which the bug was found, and the median of the calls until then.",
        "",
        "| bug | " + " | ".join(SCHEDULERS) + " |",
        "| --- |" + " ---: |" * len(SCHEDULERS),
    ]
    hard = {entry["plant"] for part in parts for entry in part["plants"] if entry["needs"]}
    for bug, row in table.items():
        cells = [
            f"{len(row[name])} · {statistics.median(row[name]):.0f}" if row[name] else "–"
            for name in SCHEDULERS
        ]
        lines.append(f"| {bug}{' †' * (bug in hard)} | " + " | ".join(cells) + " |")
    totals = {name: sum(len(row[name]) for row in table.values()) for name in SCHEDULERS}
    ever = {name: sum(bool(row[name]) for row in table.values()) for name in SCHEDULERS}
    of = len(table) * seeds
    lines += [
        f"| **of {of}** | " + " | ".join(f"**{totals[n]}**" for n in SCHEDULERS) + " |",
        f"| **bugs found, of {len(table)}** | "
        + " | ".join(f"**{ever[n]}**" for n in SCHEDULERS)
        + " |",
        "",
    ]
    for kind, names in (("control", CONTROLLED), ("none", FREE)):
        missed = [bug for bug, row in table.items() if not any(row[name] for name in names)]
        lines.append(
            f"Found by no scheduler with {kind}: {', '.join(missed) or 'none of them'}.\n"
            if kind == "control"
            else f"Found by none without control: {', '.join(missed) or 'all are found'}.\n"
        )
    return lines


def report_empirica(parts: Sequence[dict[str, Any]]) -> list[str]:
    by = {name: firsts(parts, name) for name in SCHEDULERS}
    arms = {
        name: [arm for part in parts for arm in part["arms"] if arm["scheduler"] == name]
        for name in SCHEDULERS
    }
    lines = [
        f"## {parts[0]['target']}",
        "",
        f"{len(parts)} seeds, {budget(parts[0])} at most for each scheduler and seed.",
        *unfinished(parts),
        "",
        "| scheduler | runs | calls | target CPU, min | races, all seeds | races per seed "
        "| calls until the first |",
        "| --- |" + " ---: |" * 6,
    ]
    for name in SCHEDULERS:
        per_seed = [firsts_of(part, name, parts) for part in parts]
        first = [min(calls) for calls in per_seed if calls]
        lines.append(
            f"| {name} | {sum(a['runs'] for a in arms[name])} "
            f"| {sum(a['calls'] for a in arms[name])} "
            f"| {sum(a['cpu'] for a in arms[name]) / 60:.1f} | **{len(by[name])}** "
            f"| {', '.join(str(len(calls)) for calls in per_seed)} "
            f"| {', '.join(map(str, first)) or '–'} |"
        )
    met = {head for heads in by.values() for head in heads}
    lines += ["", "Calls until each was first met, in each seed in which it was:", ""]
    lines += ["| race | " + " | ".join(SCHEDULERS) + " |", "| --- |" + " --- |" * len(SCHEDULERS)]
    for head in sorted(met):
        cells = [", ".join(map(str, by[name].get(head, []))) or "–" for name in SCHEDULERS]
        lines.append(f"| {' '.join(filter(None, head))} | " + " | ".join(cells) + " |")
    lines.append("")
    for text, names, others in (
        ("with control and not by `free`", CONTROLLED, ("free",)),
        ("with control and by none without", CONTROLLED, FREE),
        ("without control and by none with", FREE, CONTROLLED),
    ):
        mine = {head for name in names for head in by[name]}
        theirs = {head for name in others for head in by[name]}
        lines.append(f"Met {text}: {len(mine - theirs)}.")
    return [*lines, ""]


def budget(part: dict[str, Any]) -> str:
    given = []
    if part["cpu_minutes"] is not None:
        given.append(f"{part['cpu_minutes']:g} minutes of the target's processor time")
    if part["calls"] is not None:
        given.append(f"{part['calls']:g} calls")
    return " and ".join(given)


def unfinished(parts: Sequence[dict[str, Any]]) -> list[str]:
    seeds = [str(part["seed"]) for part in parts if not part["finished"]]
    if not seeds:
        return []
    return [f"With seed {', '.join(seeds)} it was not all used: the table says how much."]


def firsts_of(part: dict[str, Any], scheduler: str, parts: Sequence[dict[str, Any]]) -> list[int]:
    """Calls until each race was first met with this seed."""
    races = firsts(parts, scheduler)
    return [min(calls) for head, calls in firsts([part], scheduler).items() if head in races]


def write_report(parts: Path) -> None:
    reference, empirica = read(parts, "reference"), read(parts, "empirica")
    lines = ["# What schedulers find", "", *(f"    {line}" for line in COMMANDS), ""]
    lines += [
        f"{os.cpu_count()} cores, Python {platform.python_version()}. What is counted stands at "
        "the top of the script. Load differed in the course of the runs, but all schedulers took "
        "turns under it.",
        "",
    ]
    lines += report_reference(reference) if reference else []
    lines += report_empirica(empirica) if empirica else []
    (HERE / "schedulers.md").write_text("\n".join(lines).rstrip() + "\n")
    save(HERE / "schedulers.json", {"reference": reference, "empirica": empirica})


def save(path: Path, what: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("target", choices=("reference", "empirica"))
    run.add_argument("--seeds", default="0-2", help="one, or first-last")
    run.add_argument("--calls", type=float, default=math.inf, help="of each arm")
    run.add_argument(
        "--cpu-minutes", type=float, default=math.inf, help="of the target, of each arm (empirica)"
    )
    run.add_argument("--only", nargs="*", default=[], help="planted bugs (reference)")
    run.add_argument("--parts", type=Path, required=True)
    report = verbs.add_parser("report")
    report.add_argument("--parts", type=Path, required=True)
    args = parser.parse_args()
    if args.verb == "report":
        write_report(args.parts)
        return
    first, _, last = args.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        part = args.parts / f"{args.target}-{seed}.json"
        if part.exists() and json.loads(part.read_text()).get("finished", True):
            continue
        if args.target == "empirica":
            anyio.run(run_empirica, seed, args.calls, 60 * args.cpu_minutes, args.parts)
        else:
            anyio.run(run_reference, seed, args.calls, args.only, args.parts)


if __name__ == "__main__":
    main()
