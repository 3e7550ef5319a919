"""How the time and memory of judging grow with the history.

    python benchmarks/linearize_growth.py [--sizes 1000 3000 10000 30000 100000] [--agents 50]

Histories of `empirica_history.py`: 50 agents, every kind of object that the model of Empirica
has, one call in two hundred never answered; correct, and with one late defect (the last list of
tasks leaves out one that was added long ago). Each is judged in a process of its own, so that
its memory is its own. Processor time of three parts:

* telling apart: operations and read-back are sorted into objects;
* objects: each is searched alone;
* together: objects that calls join are searched as one where they are few enough, within a
  budget; where they are not, reads of many objects are judged as far as they speak of each
  object (*projected*), and the result says so.

Telling apart and objects have to grow no faster than n log n. Writes ``linearize_growth.json`` and
``linearize_growth.svg`` beside this file (the plot needs matplotlib: ``pip install
mcpconc[bench]``); exits with 1 if a threshold is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from empirica_history import history, late_defect

from mcpconc.linearize.product import components, product, searchable
from mcpconc.linearize.search import check, check_all
from mcpconc.model.empirica.spec import SPEC
from mcpconc.oracle.linearizability import BUDGET, TOGETHER
from mcpconc.verdict import Verdict

HERE = Path(__file__).parent
MEGABYTES = 1_000
SLACK = 1.5
"""Time per n log n may grow by this much over all sizes: a shared machine is no clock."""


def one(calls: int, agents: int, defect: bool) -> dict[str, Any]:
    """Judge one history."""
    operations, snapshot = history(calls, agents)
    if defect:
        operations = late_defect(operations)
    start = time.process_time()
    partitions = SPEC.partitions(operations, snapshot)
    apart = time.process_time()
    answers = check_all(partitions, BUDGET)
    objects = time.process_time()
    explained = [
        partition
        for partition, found in zip(partitions, answers, strict=True)
        if found.verdict is Verdict.OK
    ]
    sets: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for members in components(explained):
        found = check(product(members), TOGETHER) if searchable(members) else None
        how = "too large" if found is None else found.verdict.name.lower()
        sets[how] += 1
        largest[how] = max(largest[how], len(members))
    together = time.process_time()
    return {
        "calls": calls,
        "agents": agents,
        "defect": defect,
        "verdict": max(found.verdict for found in answers).name.lower(),
        "undecided": sum(found.verdict is Verdict.UNKNOWN for found in answers),
        "objects": dict(Counter(partition.kind for partition in partitions)),
        "operations": sum(len(partition.ops) for partition in partitions),
        "projected": sorted({name for partition in partitions for name in partition.projected}),
        "joined sets": dict(sets),
        "largest joined set": dict(largest),
        "steps": sum(found.steps for found in answers),
        "seconds": {
            "telling apart": round(apart - start, 3),
            "objects": round(objects - apart, 3),
            "together": round(together - objects, 3),
        },
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def judging(row: dict[str, Any]) -> float:
    seconds: float = row["seconds"]["telling apart"] + row["seconds"]["objects"]
    return seconds


def plot(rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "mcpconc", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for defect, name in ((False, "correct"), (True, "one late defect")):
        some = [row for row in rows if row["defect"] is defect]
        sizes = [row["calls"] for row in some]
        left.plot(sizes, [judging(row) for row in some], marker="o", label=name)
        right.plot(sizes, [row["peak_mb"] for row in some], marker="o", label=name)
    sizes = sorted({row["calls"] for row in rows})
    scale = judging(rows[0]) / (sizes[0] * math.log(sizes[0]))
    left.plot(sizes, [scale * n * math.log(n) for n in sizes], "k:", label="n log n")
    left.set(xscale="log", yscale="log", xlabel="calls", ylabel="processor time, s")
    right.set(xscale="log", yscale="log", xlabel="calls", ylabel="peak memory, MB")
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.suptitle(f"Judging {rows[0]['agents']} agents of Empirica, object by object")
    figure.tight_layout()
    figure.savefig(HERE / "linearize_growth.svg", metadata={"Date": None})


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--agents", type=int, default=50)
    options.add_argument(
        "--sizes", type=int, nargs="+", default=[1_000, 3_000, 10_000, 30_000, 100_000]
    )
    options.add_argument("--one", choices=("correct", "defect"), help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        print(json.dumps(one(args.sizes[0], args.agents, args.one == "defect")))
        return 0
    rows = []
    for size in args.sizes:
        for kind in ("correct", "defect"):
            words = [sys.executable, __file__, "--one", kind]
            words += ["--sizes", str(size), "--agents", str(args.agents)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
            print(json.dumps(rows[-1]), flush=True)
    per = [judging(row) / (row["calls"] * math.log(row["calls"])) for row in rows]
    growth = max(per) / max(per[:2])
    result = {"growth of time per n log n": round(growth, 3), "rows": rows}
    (HERE / "linearize_growth.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(rows)
    right = all(row["verdict"] == ("violation" if row["defect"] else "ok") for row in rows)
    small = all(row["peak_mb"] < MEGABYTES for row in rows)
    print(f"time per n log n grew by {growth:.2f}; verdicts right: {right}; memory: {small}")
    return 0 if right and small and growth <= SLACK else 1


if __name__ == "__main__":
    sys.exit(main())
