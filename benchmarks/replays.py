"""How often failing traces of the real Empirica, met under controlled schedules, fail again.

    python benchmarks/replays.py [--traces DIR] [--count 20] [--times 20] [--seconds 900] [--seed 1]

Collects traces first (or takes those that were saved in DIR): small programs whose calls meet on
one object, of two and of three agents, are run under `portfolio` until one fails with something
that no one-at-a-time order of its calls shows. Traces differ in program or fingerprint, as many
as possible in the fingerprint. Then `mcpconc replay` follows each so many times; calls are forked
(`--start fork`) all the while. A replay is *exact* if it took the recorded steps, all of them and
no others.

Writes ``replays.json`` and ``replays.md`` beside this file; exits with 1 if fewer than 99 % of the
replays failed in the same way, or any diverged or waited for a lock unforeseen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio

from mcpconc.keep import as_trace
from mcpconc.label import label
from mcpconc.oracle.base import Finding, Label
from mcpconc.program import Call, Program, Ref
from mcpconc.replay import Replay, replay
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule import PORTFOLIO
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start
from mcpconc.trace import Shrink, Trace, load, slug

HERE = Path(__file__).parent
SCHEDULES = 8
"""Schedules of one program, until one more is tried with the next seed."""
OF_ONE = 3
"""Traces that one program may give."""
ORDERS = 12
"""One-at-a-time orders of a program that are tried: all of three calls, of four in two lanes and
of four in three."""
ENOUGH = 0.99

SESSION, GOAL, OTHER = Ref("0.0", "session_id"), Ref("0.1", "goal_id"), Ref("0.2", "goal_id")
TASK, UNKNOWN = Ref("0.3", "task_id"), Ref("0.4", "unknown_id")
TEXT = "cache layer"
VECTORS = {"know": 0.5, "uncertainty": 0.3, "engagement": 0.7}

Act = tuple[str, Mapping[str, Any], str]
"""Tool, arguments, and the argument that carries the call's own text."""


def assess(phase: str) -> Act:
    return f"submit_{phase}_assessment", {"session_id": SESSION, "vectors": VECTORS}, "reasoning"


SAME = {"session_id": SESSION}
ACTS: dict[str, Act] = {
    "session": ("session_create", {"ai_id": "ai-common"}, "subject"),
    "goal": ("goals_create", {**SAME, "objective": TEXT}, "description"),
    "finding": ("finding_log", {**SAME, "finding": TEXT, "impact": 0.5}, "subject"),
    "unknown": ("unknown_log", {**SAME, "unknown": TEXT}, "subject"),
    "own finding": ("finding_log", {**SAME, "impact": 0.5}, "finding"),
    "own unknown": ("unknown_log", SAME, "unknown"),
    "own goal": ("goals_create", SAME, "objective"),
    "activate": ("goals_activate", {"goal_id": GOAL}, ""),
    "complete": ("goals_complete", {"goal_id": GOAL}, "reason"),
    "stale": ("goals_mark_stale", SAME, "reason"),
    "refresh": ("goals_refresh", {"goal_id": GOAL}, ""),
    "add task": ("goals_add_task", {"goal_id": GOAL}, "description"),
    "complete task": ("goals_complete_task", {"task_id": TASK}, "evidence"),
    "resolve": ("unknown_resolve", {"unknown_id": UNKNOWN}, "resolved_by"),
    "on other": ("goals_add_dependency", {"goal_id": GOAL, "depends_on": OTHER}, "description"),
    "other on": ("goals_add_dependency", {"goal_id": OTHER, "depends_on": GOAL}, "description"),
    "preflight": assess("preflight"),
    "check": assess("check"),
    "postflight": assess("postflight"),
    "checkpoint": ("checkpoint_create", {**SAME, "phase": "CHECK"}, ""),
    "progress": ("goals_progress", {"goal_id": GOAL}, ""),
    "unknowns": ("unknown_list", SAME, ""),
}

MEETINGS = (
    "session|session",
    "session|session|session",
    "goal|goal",
    "goal|goal|goal",
    "finding|finding",
    "finding|finding|finding",
    "unknown|unknown",
    "unknown|unknown|unknown",
    "activate|activate",
    "activate|activate|complete",
    "activate|complete",
    "activate|complete|progress",
    "preflight|preflight",
    "preflight|preflight|check",
    "check|check",
    "check|check|check",
    "postflight|checkpoint",
    "postflight|checkpoint|preflight",
    "on other|other on",
    "on other|other on|complete",
    "on other|on other",
    "on other|on other|other on",
    "own finding|own finding",
    "own finding|own unknown|own goal",
    "complete|stale",
    "complete|stale|refresh",
    "complete|add task",
    "complete|complete task|add task",
    "complete|complete",
    "complete|complete|activate",
    "resolve|resolve",
    "unknown|resolve|unknown",
    "complete task|complete task",
    "own goal|own goal|stale",
    "postflight|postflight",
    "postflight|postflight|postflight",
    "checkpoint|checkpoint",
    "checkpoint|check|preflight",
    "goal,complete|goal,activate",
    "finding,unknown|finding,unknown",
    "preflight,check|preflight,check",
    "unknown,resolve|unknown",
    "session,preflight|session",
    "own unknown,unknowns|own unknown|resolve",
)
"""Lanes; the calls of a lane."""

NEEDED = {
    "0.0": ("session_create", {"ai_id": "ai-0"}, "subject"),
    "0.1": ("goals_create", {"session_id": SESSION}, "objective"),
    "0.2": ("goals_create", {"session_id": SESSION}, "objective"),
    "0.3": ("goals_add_task", {"goal_id": GOAL}, "description"),
    "0.4": ("unknown_log", {"session_id": SESSION}, "unknown"),
}


def program(meeting: str) -> Program:
    """The calls of a meeting at once, after what they need."""
    lanes = [lane.split(",") for lane in meeting.split("|")]
    made = tuple(
        tuple(
            made_of(ACTS[act], f"{agent}.{n}", agent, agent, n)
            for n, act in enumerate(lane, start=len(NEEDED) if agent == 0 else 0)
        )
        for agent, lane in enumerate(lanes)
    )
    needed = needs(call for lane in made for call in lane)
    planned = {"status": "planned"} if "activate" in meeting else {}
    prefix = []
    for n, (id, (tool, args, carries)) in enumerate(NEEDED.items()):
        if id in needed:
            more = planned if id == "0.1" else {}
            prefix.append(made_of((tool, {**args, **more}, carries), id, 0, 0, n))
    return Program(len(lanes), prefix=tuple(prefix), lanes=made)


def made_of(act: Act, id: str, agent: int, *token: int) -> Call:
    tool, args, carries = act
    text = "tok{:03d}x{:03d}z".format(*token) if carries else ""
    return Call(id, agent, tool, {**args, **({carries: text} if carries else {})}, text)


def needs(calls: Iterable[Call]) -> set[str]:
    todo = {value.call for call in calls for value in call.args.values() if isinstance(value, Ref)}
    for id in ("0.4", "0.3", "0.2", "0.1"):
        if id in todo:
            todo |= {v.call for v in NEEDED[id][1].values() if isinstance(v, Ref)}
    return todo


# -- collecting --------------------------------------------------------------------------------


@dataclass(slots=True)
class Collection:
    """What failed so far, and what fails one call at a time."""

    on: Rig
    seed: int
    expired: Callable[[], bool]
    traces: list[Trace] = field(default_factory=list)
    runs: int = 0
    alone: int = 0

    async def meet(self, what: Program, turn: int) -> None:
        """Run a program until it has failed in some way, and keep the races of it."""
        known = {t.finding.fingerprint.head() for t in self.traces if t.program == what}
        in_order: dict[str, frozenset[Any]] = {}

        async def sequentially(ordered: Program) -> frozenset[Any]:
            name = ordered.digest()
            if name not in in_order:
                self.alone += 1
                in_order[name] = (await self.on.run(ordered, "free", 0)).heads()
            return in_order[name]

        for n in range(SCHEDULES):
            if self.expired() or len(known) >= OF_ONE:
                return
            seed = self.seed * 7919 + turn * SCHEDULES + n
            made = await self.on.run(what, PORTFOLIO, seed)
            self.runs += 1
            for finding in made.judgement.findings:
                head = finding.fingerprint.head()
                if finding.label is not Label.UNLABELLED or head in known:
                    continue
                if len(known) >= OF_ONE:
                    break
                named = await label(what, head, sequentially, limit=ORDERS, expired=self.expired)
                known.add(head)
                if named.label is Label.RACE:
                    self.keep(made, finding, named.basis)

    def keep(self, made: Execution, finding: Finding, basis: str) -> None:
        tools = tuple(call.tool for lane in made.run.program.lanes for call in lane)
        found = replace(finding.with_tools(tools), label=Label.RACE)
        trace = as_trace(self.on, made, found, self.seed, Shrink(finished=False), basis)
        self.traces.append(trace)
        say(f"{len(self.traces)}: {found.fingerprint}")


async def collect(spec: str, count: int, seed: int, seconds: float, out: Path) -> list[Trace]:
    """At least so many traces, half of them of three agents, if the time is enough."""
    target = resolve(spec)
    await target.install(say)
    with tempfile.TemporaryDirectory() as work:
        async with rig(
            target, Identity.ISOLATED, 3, Path(work), say, start_of(spec), "control"
        ) as on:
            began = time.monotonic()
            made = Collection(on, seed, lambda: time.monotonic() - began > seconds)
            turn = 0
            while not made.expired() and (turn == 0 or len(chosen(made.traces, count)) < count):
                for meeting in MEETINGS:
                    await made.meet(program(meeting), turn)
                    if turn and len(chosen(made.traces, count)) == count:
                        break
                turn += 1
            say(f"{made.runs} runs, {made.alone} one-at-a-time ones beside them")
    saved = []
    for n, trace in enumerate(chosen(made.traces, count), start=1):
        saved.append(replace(trace, path=trace.save(out / f"{n:02d}-{slug(trace.finding)}")))
    return saved


def start_of(spec: str) -> Start:
    return Start.FORK if spec.startswith("empirica") else Start.ORDINARY


def chosen(traces: list[Trace], count: int) -> list[Trace]:
    """Half of them of two agents; of each half those whose fingerprints are fewest so far."""
    seen: Counter[Any] = Counter()
    left, picked = list(traces), []
    quota = {2: (count + 1) // 2, 3: count // 2}
    while left and len(picked) < count:
        of = 2 if len(picked) % 2 == 0 else 3
        mine = [t for t in left if t.program.agents == of and quota[of]]
        mine = mine or [t for t in left if quota[t.program.agents]]
        if not mine:
            break
        best = min(mine, key=lambda t: seen[t.finding.fingerprint.head()])
        left.remove(best)
        picked.append(best)
        quota[best.program.agents] -= 1
        seen[best.finding.fingerprint.head()] += 1
    return sorted(picked, key=lambda t: t.program.agents)


# -- replaying ---------------------------------------------------------------------------------


def replayed(trace: Path, times: int, spec: str) -> dict[str, Any]:
    """A row of the table. In a process of its own, so that several can be made at a time."""
    began = time.monotonic()
    loaded = load(trace)
    with tempfile.TemporaryDirectory() as work:
        done = anyio.run(
            *(replay, loaded, times, spec, Path(work), lambda event: None, start_of(spec))
        )
    made = row(loaded, done, round(time.monotonic() - began, 1))
    say(json.dumps(made))
    return made


def row(trace: Trace, done: Replay, seconds: float) -> dict[str, Any]:
    steps = sum(len(block) - 2 for block in trace.schedule if block[0] not in ("skip", "kill"))
    return {
        "trace": trace.path.name if trace.path else "",
        "agents": trace.program.agents,
        "calls": [[call.tool for call in lane] for lane in trace.program.lanes],
        "finding": str(replace(trace.finding.fingerprint, tools=())),
        "scheduler": trace.scheduler,
        "steps": steps,
        "tried": done.tried,
        "reproduced": done.reproduced,
        "diverged": done.diverged,
        "waited": done.waited,
        "first_divergence": done.divergence,
        "error": done.error,
        "seconds": seconds,
    }


def table(rows: list[dict[str, Any]], told: str, command: str) -> str:
    tried, again = sum(r["tried"] for r in rows), sum(r["reproduced"] for r in rows)
    lines = [
        "# Failing traces, replayed",
        "",
        f"`{command}`",
        "",
        f"{told}, calls started by fork. {len(rows)} traces of races, "
        f"{len({r['finding'] for r in rows})} fingerprints: {again} of {tried} replays "
        f"({share(again, tried)}) failed with the same fingerprint, "
        f"{sum(r['diverged'] for r in rows)} did other steps than were recorded, "
        f"{sum(r['waited'] for r in rows)} waited for a lock that was not foreseen. No "
        "one-at-a-time order of these calls shows what the trace was kept for.",
        "",
        "| trace | agents | calls | finding | met by | steps | reproduced | diverged | waited |",
        "|---|---:|---|---|---|---:|---:|---:|---:|",
    ]
    for one in rows:
        calls = " ‖ ".join(", ".join(lane) for lane in one["calls"])
        lines.append(
            f"| {one['trace'][:2]} | {one['agents']} | {calls} | {one['finding']} | "
            f"{one['scheduler']} | {one['steps']} | {one['reproduced']}/{one['tried']} | "
            f"{one['diverged']} | {one['waited']} |"
        )
    for one in rows:
        if one["first_divergence"] or one["error"]:
            lines += ["", f"{one['trace']}: {one['first_divergence'] or one['error']}"]
    return "\n".join(lines) + "\n"


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def saved_in(directory: Path) -> Iterator[Trace]:
    for path in sorted(directory.iterdir()):
        if (path / "trace.json").exists():
            yield load(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, help="replay what was saved here")
    parser.add_argument("--out", type=Path, help="save what is collected here")
    parser.add_argument("--target", default="empirica")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="traces that are replayed at a time")
    parser.add_argument("--seconds", type=float, default=900.0, help="for collecting")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        if args.traces:
            traces = list(saved_in(args.traces))[: args.count]
        else:
            traces = anyio.run(collect, args.target, args.count, args.seed, args.seconds, out)
        paths = [trace.path for trace in traces if trace.path is not None]
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(replayed, paths, repeat(args.times), repeat(args.target)))
    version = traces[0].target_version if traces else ""
    how = "--traces DIR" if args.traces else f"--count {args.count} --seed {args.seed}"
    command = f"python benchmarks/replays.py {how} --times {args.times}"
    text = table(rows, f"{args.target} {version}", command)
    print(text)
    if args.target == "empirica":
        (HERE / "replays.md").write_text(text)
        (HERE / "replays.json").write_text(json.dumps(rows, indent=1) + "\n")
    tried, again = sum(r["tried"] for r in rows), sum(r["reproduced"] for r in rows)
    clean = not any(r["diverged"] or r["waited"] or r["error"] for r in rows)
    return 0 if len(rows) >= args.count and again >= ENOUGH * tried and clean else 1


if __name__ == "__main__":
    sys.exit(main())
