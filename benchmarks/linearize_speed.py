"""What deciding published histories costs, beside a plain search in the same run.

    python benchmarks/linearize_speed.py PATH-TO-PORCUPINE-DATA [--rounds 5]

PATH holds ``jepsen/etcd_NNN.log`` and ``kv/cNN-{ok,bad}.txt``. Each round decides the 102
register histories with `mcpconc.linearize` and with the plain search of `plain_search.py`, and
the key-value histories with ours alone (the plain search does not come back from them), keys
apart and, of ten clients, together. Processor time without reading; the best round counts.
For "without needs" the model keeps to itself what it knows of the order of unique values.

Writes ``linearize_speed.json`` beside this file; exits with 1 if a threshold is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plain_search import linearizable

from mcpconc.bench import Case, cases, judge
from mcpconc.linearize.search import decide
from mcpconc.model.base import Model, Op, Reject
from mcpconc.verdict import Verdict

HERE = Path(__file__).parent
RATIO, STEPS = 0.3, 800_000
LINEARIZABLE = {
    *(2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102),
}
PORCUPINE = {"register": 1.01, "c50-ok": 0.36, "c50-bad": 0.05, "c10-ok together": 3.9}
PORCUPINE["c10-bad together"] = 4.4
"""Seconds of processor time of Porcupine (Go) on a like machine; the better ones."""


@dataclass(frozen=True)
class Silent:
    """A model that says nothing of order."""

    of: Model
    name: str = "silent"
    quirks: frozenset[str] = frozenset()
    known_quirks: frozenset[str] = frozenset()

    def initial(self) -> Any:
        return self.of.initial()

    def step(self, state: Any, op: Op) -> Sequence[Any] | Reject:
        return self.of.step(state, op)

    def pure(self, op: Op) -> bool:
        return self.of.pure(op)


def expected(case: Case) -> Verdict:
    number = re.search(r"etcd_(\d+)", case.path.name)
    fine = int(number[1]) in LINEARIZABLE if number else "-ok" in case.path.name
    return Verdict.OK if fine else Verdict.VIOLATION


def best(rounds: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Least processor time of several rounds, and what the work gave."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def ours(some: Sequence[Case], rounds: int) -> dict[str, Any]:
    seconds, judged = best(rounds, lambda: [judge(case, 10**8, 600) for case in some])
    return {
        "seconds": round(seconds, 4),
        "steps": sum(one.steps for one in judged),
        "states": sum(one.states for one in judged),
        "right": all(one.verdict is expected(one.case) for one in judged),
    }


def silent(case: Case) -> Case:
    parts = [replace(p, model=Silent(p.model)) for p in case.partitions]
    return replace(case, partitions=parts)


def longest(case: Case) -> None:
    """Decide, and look for the longest order as for an explanation."""
    for _, found in decide(case.partitions, 10**8):
        if found.verdict is Verdict.VIOLATION:
            return


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("data", type=Path)
    options.add_argument("--rounds", type=int, default=5)
    args = options.parse_args()
    register = list(cases([args.data / "jepsen"]))
    plain_seconds, plain = best(
        args.rounds, lambda: [linearizable(case.partitions[0]) for case in register]
    )
    rows: dict[str, Any] = {"register": ours(register, args.rounds)}
    kv = args.data / "kv"
    for name in ("c01-ok", "c01-bad", "c10-ok", "c10-bad", "c50-ok", "c50-bad"):
        apart = list(cases([kv / f"{name}.txt"]))
        rows[name] = ours(apart, args.rounds)
        rows[f"{name} without needs"] = ours([silent(case) for case in apart], 1)
        if name.endswith("-bad"):
            seconds, _ = best(args.rounds, lambda case=apart[0]: longest(case))
            rows[f"{name} with the longest order"] = {"seconds": round(seconds, 4)}
        if name.startswith("c10"):
            whole = list(cases([kv / f"{name}.txt"], whole=True))
            rows[f"{name} together"] = ours(whole, args.rounds)
            rows[f"{name} together without needs"] = ours([silent(case) for case in whole], 1)
    ratio = rows["register"]["seconds"] / plain_seconds
    right = [
        explained == (expected(case) is Verdict.OK)
        for case, (explained, _) in zip(register, plain, strict=True)
    ]
    result = {
        "python": platform.python_version(),
        "rounds": args.rounds,
        "ours": rows,
        "plain": {
            "seconds": round(plain_seconds, 4),
            "steps": sum(steps for _, steps in plain),
            "right": all(right),
        },
        "ratio": round(ratio, 4),
        "porcupine": PORCUPINE,
    }
    (HERE / "linearize_speed.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    fine = (
        ratio <= RATIO
        and rows["register"]["steps"] <= STEPS
        and all(row.get("right", True) for row in rows.values())
        and all(rows[name]["seconds"] < seconds for name, seconds in PORCUPINE.items())
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
