"""Every state that a SIGKILL can leave behind in three writing tools of Empirica.

    python benchmarks/kill_points.py [--tools finding_log goals_create …] [--target empirica]

Each tool's call runs once for each point before which one of its processes writes something, and
the process is killed there (`mcpconc.crash`). Calls are forked (`--start fork`), which changes how
long they take and not what they write. What the oracles say of each state is part of the table:
where a state is torn, they name how. Writes ``kill_points.json`` and ``kill_points.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from mcpconc.crash import CrashState, crash_states
from mcpconc.lineup.observe import observe
from mcpconc.program import Call, Program, Ref, token_for
from mcpconc.rig import Rig, rig
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

HERE = Path(__file__).parent
SESSION = Ref("0.0", "session_id")
VECTORS = {"know": 0.5, "uncertainty": 0.5}
TOOLS: dict[str, dict[str, Any]] = {
    "finding_log": {"session_id": SESSION, "finding": "{}", "impact": 0.5},
    "goals_create": {"session_id": SESSION, "objective": "{}"},
    "submit_preflight_assessment": {
        "session_id": SESSION,
        "vectors": VECTORS,
        "reasoning": "{}",
    },
    "unknown_log": {"session_id": SESSION, "unknown": "{}"},
    "checkpoint_create": {"session_id": SESSION, "phase": "ACT"},
}


def program(tool: str) -> Program:
    token = token_for(0, 1)
    args = {key: token if value == "{}" else value for key, value in TOOLS[tool].items()}
    return Program(
        1,
        prefix=(Call("0.0", 0, "session_create", {"ai_id": "ai-0"}),),
        lanes=((Call("0.1", 0, tool, args, token),),),
    )


async def before(on: Rig, what: Program) -> Counter[str]:
    """How many records of each kind there are without the call."""
    run = (await on.run(replace(what, lanes=((),)), "free", 0)).run
    return Counter(
        record.kind for record in observe(run.history.operations, run.before, run.after).left
    )


def row(state: CrashState, known: Counter[str]) -> dict[str, Any]:
    there = Counter(record.kind for record in state.left)
    operation = state.shown.run.history.operations[-1]
    return {
        "killed_before": [f"{kill.label} ({kill.occurrence})" for kill in state.kills],
        "left": dict(sorted((there - known).items())),
        "gone": dict(sorted((known - there).items())),
        "answer": operation.outcome.value if operation.outcome else "none",
        "findings": sorted(
            {str(finding.fingerprint) for finding in state.shown.judgement.findings}
        ),
    }


async def everything(spec: str, tools: list[str]) -> dict[str, Any]:
    target = resolve(spec)
    start = Start.FORK if spec.startswith("empirica") else Start.ORDINARY
    results: dict[str, Any] = {}

    def told(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    await target.install(told)
    with tempfile.TemporaryDirectory() as work:
        async with rig(target, Identity.ISOLATED, 1, Path(work), told, start, "control") as on:
            for tool in tools:
                began = time.monotonic()
                what = program(tool)
                known = await before(on, what)
                states = await crash_states(
                    on,
                    what,
                    progress=lambda n, of, tool=tool: told(f"{tool}: {n} of {of}"),
                )
                results[tool] = {
                    "kills": sum(len(state.kills) for state in states),
                    "seconds": round(time.monotonic() - began, 1),
                    "states": [row(state, known) for state in states],
                }
    return {"target": f"{spec} {target.version}", "start": start.value, "tools": results}


def table(found: dict[str, Any]) -> str:
    lines = [
        "# Crash states",
        "",
        f"{found['target']}, calls started by {found['start']}. One row per state that a SIGKILL "
        "of the call's process can leave, at the points that the probe sees; rows in the order in "
        "which the call goes through them. `python benchmarks/kill_points.py`",
    ]
    for tool, told in found["tools"].items():
        lines += [
            "",
            f"## {tool}",
            "",
            f"{told['kills']} kills, {len(told['states'])} states, {told['seconds']} s",
            "",
            "| killed before | left of the call | answer | what the oracles say |",
            "|---|---|---|---|",
        ]
        for state in told["states"]:
            lines.append(
                f"| {_kills(state['killed_before'])} | {_counts(state)} | {state['answer']} | "
                f"{'; '.join(state['findings']) or '–'} |"
            )
    return "\n".join(lines) + "\n"


def _kills(labels: list[str]) -> str:
    if not labels:
        return "(not killed)"
    first = _label(labels[0])
    return first if len(labels) == 1 else f"{first} … {_label(labels[-1])} ({len(labels)} points)"


def _label(text: str) -> str:
    return f"`{text[:60].replace('|', '/')}`"


def _counts(state: dict[str, Any]) -> str:
    said = [f"{kind.replace('|', '/')} +{n}" for kind, n in state["left"].items()]
    said += [f"{kind.replace('|', '/')} -{n}" for kind, n in state["gone"].items()]
    return ", ".join(said) or "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", nargs="*", default=list(TOOLS)[:3], choices=list(TOOLS))
    parser.add_argument("--target", default="empirica")
    args = parser.parse_args()
    found = anyio.run(everything, args.target, args.tools)
    text = table(found)
    print(text)
    if args.target == "empirica":
        (HERE / "kill_points.md").write_text(text)
        (HERE / "kill_points.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
