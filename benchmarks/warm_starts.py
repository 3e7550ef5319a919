"""What warm starts save, and that what they do is the same in kind.

    python benchmarks/warm_starts.py [--rounds 7] [--agents 1,5]

The target is the real Empirica. Two rigs of so many agents stand side by side, one that starts
calls ordinarily and one that forks them (`mcpconc.target.warm`), and take turns: a round is one
program on each, which of them goes first alternates. In the program every agent makes one call of
each of ten tools in a session of its own, each call as soon as the one before is answered.

* rate: calls per second from the first request to the last answer; the ratio is that of a round,
  and the median over the rounds is judged: at least 3.5 for each number of agents;
* CPU: processor time of all processes of the world per call, detached ones excepted;
* kind: with one agent, outcomes, shapes of answers, rows per table, files, refs and notes must be
  equal; with several, whose order is left to chance, outcomes and refs.

Writes ``warm_starts.json`` and ``warm_starts.md`` beside this file; exits with 1 if a ratio is
missed or something is not of the same kind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from reference_throughput import Eager

from mcpconc.drive.record import Recorder
from mcpconc.history import EventType, History, Outcome
from mcpconc.program import Call, Program, Ref, token_for
from mcpconc.rig import Rig, rig
from mcpconc.snapshot import Snapshot
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

HERE = Path(__file__).parent
RATIO = 3.5
STARTS = (Start.ORDINARY, Start.FORK)
VECTORS = {"know": 0.6, "uncertainty": 0.2, "engagement": 0.7}
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{7,64}|\d+")


def lane(agent: int) -> tuple[Call, ...]:
    """A session from its first call to its last: ten tools, of all weights."""
    name = f"a{agent}c"
    session = Ref(f"{name}0", "session_id")
    goal, word = Ref(f"{name}4", "goal_id"), f"agent {agent}"
    steps: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("session_create", "subject", {"ai_id": f"agent-{agent}"}),
        ("submit_preflight_assessment", "reasoning", {"session_id": session, "vectors": VECTORS}),
        ("finding_log", "finding", {"session_id": session}),
        ("unknown_log", "unknown", {"session_id": session}),
        ("goals_create", "description", {"session_id": session, "objective": f"Dig for {word}"}),
        ("goals_add_task", "description", {"goal_id": goal}),
        ("goals_get_tasks", "", {"goal_id": goal}),
        ("goals_list", "", {"session_id": session}),
        ("checkpoint_create", "", {"session_id": session, "phase": "ACT"}),
        ("submit_postflight_assessment", "reasoning", {"session_id": session, "vectors": VECTORS}),
    )
    calls = []
    for n, (tool, where, args) in enumerate(steps):
        token = token_for(agent, n) if where else ""
        calls.append(
            Call(f"{name}{n}", agent, tool, {**args, **({where: token} if where else {})}, token)
        )
    return tuple(calls)


def program(agents: int) -> Program:
    return Program(agents, lanes=tuple(lane(agent) for agent in range(agents)))


@dataclass
class Turn:
    """One program on one rig."""

    rate: float
    cpu: float
    history: History
    after: Snapshot


async def turn(on: Rig, what: Program) -> Turn:
    await on.settle()
    await on.world.restore()
    before = on.world.cpu_seconds()
    with Recorder(None) as recorder:
        history = await on.fleet.run(what, Eager(1), recorder, on.world, on.world.quiesce)
    cpu = on.world.cpu_seconds() - before
    sent = min(e.ns for e in history.events if e.type is EventType.INVOKE)
    answered = max(e.ns for e in history.events if e.type is EventType.OK)
    calls = what.concurrent()
    after = await on.world.snapshot()
    return Turn(calls / (answered - sent) * 1e9, cpu / calls, history, after)


def shape(value: Any) -> Any:
    """Names and types of what a value holds; of lists, the kinds of their elements."""
    if isinstance(value, Mapping):
        return {ID.sub("*", str(name)): shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return sorted({json.dumps(shape(inner)) for inner in value})
    return "number" if isinstance(value, int | float) else type(value).__name__


def outcomes(turn: Turn) -> dict[str, str]:
    return {
        op.call: op.outcome.value if op.outcome else "info"
        for op in sorted(turn.history.operations, key=lambda op: op.call)
    }


def refs(turn: Turn) -> Counter[str]:
    return Counter(ID.sub("*", name) for name in turn.after.refs)


def kind(turn: Turn) -> dict[str, Any]:
    """What a run did, without ids, times and texts."""
    after = turn.after
    return {
        "outcomes": outcomes(turn),
        "answers": {op.call: shape(op.data) for op in turn.history.operations},
        "rows": {
            f"{database}.{table}": len(rows)
            for database, tables in after.tables.items()
            for table, rows in tables.items()
        },
        "schema": sorted(after.schema),
        "files": Counter(ID.sub("*", path) for path in after.files),
        "refs": refs(turn),
        "notes": Counter(
            (ID.sub("*", name), ID.sub("*", text and shape_of_note(text)))
            for name, notes in after.notes.items()
            for text in notes.values()
        ),
    }


def shape_of_note(text: str) -> str:
    try:
        return json.dumps(shape(json.loads(text)))
    except ValueError:
        return "text"


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in first.items():
        other = second[name]
        if value != other and isinstance(value, Mapping):
            keys = [k for k in {**value, **other} if value.get(k) != other.get(k)]
            found += [f"{name} {k}: {value.get(k)} / {other.get(k)}" for k in keys]
        elif value != other:
            found.append(f"{name}: {value} / {other}")
    return found


async def measure(agents: int, rounds: int) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    target = resolve("empirica")
    await target.install(tell)
    what = program(agents)
    turns: dict[Start, list[Turn]] = {start: [] for start in STARTS}
    unlike: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mcpconc-benchmark-") as base:
        where = Path(base)
        async with (
            rig(target, Identity.ISOLATED, agents, where / "o", tell) as ordinary,
            rig(target, Identity.ISOLATED, agents, where / "f", tell, Start.FORK) as forked,
        ):
            on = {Start.ORDINARY: ordinary, Start.FORK: forked}
            for n in range(rounds + 1):
                got = {start: await turn(on[start], what) for start in STARTS[:: 1 - 2 * (n % 2)]}
                one, other = got[Start.ORDINARY], got[Start.FORK]
                bad = [c for c, o in outcomes(other).items() if o != Outcome.SUCCESS.value]
                unlike += [f"{call} failed" for call in bad]
                if agents == 1:
                    unlike += differences(kind(one), kind(other))
                else:
                    unlike += differences(outcomes(one), outcomes(other))
                    unlike += differences({"refs": refs(one)}, {"refs": refs(other)})
                if n:  # the first round warms the servers up
                    for start in STARTS:
                        turns[start].append(got[start])
                    tell(f"{one.rate:.2f} and {other.rate:.2f} calls/s")
            log = (forked.world.logs / "warm.txt").read_text("utf-8", "replace")
    ratios = [f.rate / o.rate for o, f in zip(*(turns[s] for s in STARTS), strict=True)]
    return {
        "target": f"{target.name} {target.version}",
        "agents": agents,
        "calls": what.concurrent(),
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(r, 2) for r in ratios],
        "calls_per_second": {
            s.value: round(statistics.median(t.rate for t in turns[s]), 2) for s in STARTS
        },
        "cpu_seconds_per_call": {
            s.value: round(statistics.median(t.cpu for t in turns[s]), 3) for s in STARTS
        },
        "seconds_by_tool": {s.value: seconds(t.history for t in turns[s]) for s in STARTS},
        "started_ordinarily": log.count("started ordinarily"),
        "unlike": unlike,
    }


def seconds(histories: Any) -> dict[str, float]:
    """Median time until an answer, by tool."""
    took: dict[str, list[float]] = {}
    for history in histories:
        ns = {(e.call, e.type): e.ns for e in history.events}
        for op in history.operations:
            end = ns.get((op.call, EventType.OK))
            if end is not None:
                took.setdefault(op.tool, []).append(end - ns[op.call, EventType.INVOKE])
    return {tool: round(statistics.median(all) / 1e9, 3) for tool, all in took.items()}


def report(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    lines = [
        "# Warm starts",
        "",
        "    python benchmarks/warm_starts.py",
        "",
        f"{rows[0]['target']} on {machine['cores']} cores, Python {machine['python']}: ten tools "
        f"per agent, medians of {rows[0]['rounds']} rounds. What is measured stands at the top of "
        "the script. The machine was not idle otherwise: its load average was "
        f"{machine['load_before']} before. That makes both arms slower; processor time per call "
        "depends on it least.",
        "",
        "| agents | ordinary, calls/s | forked, calls/s | ratio | least, most "
        "| ordinary, CPU s a call | forked, CPU s a call | started ordinarily | unlike |",
        "|" + " ---: |" * 9,
    ]
    for row in rows:
        rate, cpu = row["calls_per_second"], row["cpu_seconds_per_call"]
        lines.append(
            f"| {row['agents']} | {rate['ordinary']} | {rate['fork']} | **{row['ratio']}** "
            f"| {min(row['ratios'])}, {max(row['ratios'])} | {cpu['ordinary']} | {cpu['fork']} "
            f"| {row['started_ordinarily']} | {len(row['unlike'])} |"
        )
    lines += ["", "Seconds until an answer, median:", ""]
    heads = [
        f"{row['agents']} agent{'s' * (row['agents'] > 1)}, {s}" for row in rows for s in STARTS
    ]
    lines += ["| tool | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for tool in rows[0]["seconds_by_tool"]["ordinary"]:
        cells = [str(row["seconds_by_tool"][s].get(tool, "–")) for row in rows for s in STARTS]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="What warm starts save.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--agents", default="1,5", help="numbers, separated by commas")
    parser.add_argument("--no-write", action="store_true", help="leave the results as they are")
    args = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    rows = [anyio.run(measure, int(n), args.rounds) for n in args.agents.split(",")]
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": load,
        "threshold": RATIO,
    }
    if not args.no_write:
        text = json.dumps({**machine, "rows": rows}, indent=2) + "\n"
        (HERE / "warm_starts.json").write_text(text)
        (HERE / "warm_starts.md").write_text(report(rows, machine))
    print(report(rows, machine))
    for row in rows:
        for line in row["unlike"]:
            print(line[:300])
    sys.exit(any(row["ratio"] < RATIO or row["unlike"] for row in rows))


if __name__ == "__main__":
    main()
