"""Which planted bugs show without any model: the target's own sequential runs are the only judge.

    python benchmarks/model_free.py [--runs 900] [--seed 1] [--only NAME …]

Each planted bug of the reference server gets the same small programs, each of them run several
times, until the oracle `self` refutes every order of one; before and after, the correct server
gets them all. The other oracles are not asked. Left out are the bugs of memory, of locks left
behind and of the wire: sequential runs say nothing about those.

Writes ``model_free.json`` and ``model_free.md`` beside this file; exits with 1 if fewer than 12
bugs are found, or anything on the correct server.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from mcpconc.alone import Inquiry, its_own_model
from mcpconc.campaign import FuzzConfig, programs
from mcpconc.lineup.same import Volatile
from mcpconc.oracle import SELF
from mcpconc.reference.plants import PLANTS
from mcpconc.rig import Rig, rig
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget

HERE = Path(__file__).parent
ENOUGH = 12
ELSEWHERE = ("liveness", "protocol", "resources")
"""Oracles whose bugs are not for this judge."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A bug ("" for none): after how many concurrent runs, and sequential ones beside them, it
    was found; as what; what stayed undecided."""

    bug: str
    kind: str
    found: bool
    runs: int
    alone: int
    seconds: float
    as_what: str = ""
    undecided: int = 0


async def attempt(on: Rig, target: ReferenceTarget, bug: str, kind: str, many: Config) -> Tried:
    target.plant = bug
    its_own_model(on, Volatile())
    on.oracles = (SELF,)
    asked = on.inquire
    assert isinstance(asked, Inquiry)
    undecided, started = 0, time.monotonic()
    for n, program in enumerate(itertools.islice(many.programs(), many.runs), start=1):
        done = await on.run(program, "mixed", many.seed * 7919 + n)
        undecided += bool(done.judgement.unknown)
        if done.judgement.findings:
            what = str(done.judgement.findings[0].fingerprint)
            return Tried(bug, kind, True, n, asked.made, seconds(started), what, undecided)
    return Tried(bug, kind, False, many.runs, asked.made, seconds(started), "", undecided)


def seconds(started: float) -> float:
    return round(time.monotonic() - started, 1)


@dataclass(frozen=True, slots=True)
class Config:
    runs: int
    seed: int

    def programs(self) -> Iterator:
        return programs(
            FuzzConfig(
                out=Path(),
                agents=3,
                calls=4,
                share=1.0,
                seed=self.seed,
                itself=Volatile(),
            )
        )


async def everything(many: Config, only: list[str]) -> list[Tried]:
    target = ReferenceTarget()
    plants = [
        plant for plant in PLANTS if (plant.name in only if only else plant.oracle not in ELSEWHERE)
    ]
    with tempfile.TemporaryDirectory() as work:
        async with rig(target, Identity.ISOLATED, 3, Path(work), lambda text: None) as on:
            results = []
            for bug, kind in [("", "none"), *((p.name, p.kind) for p in plants), ("", "none")]:
                results.append(await attempt(on, target, bug, kind, many))
                print(results[-1], file=sys.stderr, flush=True)
            return results


def table(results: list[Tried], many: Config) -> str:
    planted = [one for one in results if one.bug]
    correct = [one for one in results if not one.bug]
    lines = [
        "# Planted bugs found without a model",
        "",
        f"`python benchmarks/model_free.py --runs {many.runs} --seed {many.seed}`",
        "",
        f"{sum(one.found for one in planted)} of {len(planted)} bugs were found by sequential runs "
        f"of the server itself; {sum(one.runs for one in correct)} runs of the correct server drew "
        f"{sum(one.found for one in correct)} findings. Bugs that show one call at a time are "
        "none to this judge: the server does the same alone.",
        "",
        "| bug | class | found | concurrent runs | sequential runs | s | as |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {one.bug or 'none'} | {one.kind} | {'yes' if one.found else '–'} | {one.runs} | "
        f"{one.alone} | {one.seconds} | {one.as_what} |"
        for one in results
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    many = Config(args.runs, args.seed)
    results = anyio.run(everything, many, args.only)
    text = table(results, many)
    print(text)
    if not args.only:
        (HERE / "model_free.md").write_text(text)
        (HERE / "model_free.json").write_text(
            json.dumps([asdict(one) for one in results], indent=1) + "\n"
        )
    found = sum(one.found for one in results if one.bug)
    alarms = sum(one.found for one in results if not one.bug)
    return 0 if (found >= ENOUGH or args.only) and not alarms else 1


if __name__ == "__main__":
    sys.exit(main())
