"""Flags of the verbs that hold a target against figures. What is not given stands in the file, the
profile or the defaults (`mcpconc.settings`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from mcpconc.argtypes import names, positive, seconds, whole

__all__ = ["diff", "gate", "stress"]

REPORTS = "junit, sarif, github, markdown"


def gate(to: argparse.ArgumentParser) -> None:
    _settings(to)
    to.add_argument(
        "--start",
        choices=("auto", "ordinary", "fork"),
        help="how calls start where their latency does not count: auto forks them if the target "
        "allows it (auto)",
    )
    to.add_argument(
        "--traces",
        action="append",
        type=names,
        metavar="DIR[,DIR]",
        help="directories of saved traces (traces)",
    )
    to.add_argument(
        "--skip",
        action="append",
        type=names,
        metavar="STAGE[,STAGE]",
        help="leave out doctor, canary, traces, fuzz, faults or stress; the report says so",
    )
    known = to.add_argument_group("known findings")
    _baseline(known)
    known.add_argument(
        "--update-baseline",
        action="store_true",
        help="after the gate, list in it what it found and drop what is stale; exit 0",
    )
    known.add_argument(
        "--baseline-from-traces",
        action="store_true",
        help="list all saved traces in it, and run nothing",
    )
    known.add_argument(
        "--reason",
        default="listed by mcpconc, and nobody has said why yet",
        metavar="TEXT",
        help="why what is new in it is accepted",
    )
    _reports(to)
    to.add_argument(
        "--print-schema", action="store_true", help="the JSON schema of mcpconc.toml; run nothing"
    )


def stress(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="bootstrap, checkpoints, database, tools, cascade (all of the profile)",
    )
    _settings(to)
    to.add_argument(
        "--ladder",
        type=_numbers,
        metavar="N[,N]",
        help="numbers of agents to compare; 1 is the baseline",
    )
    to.add_argument("--calls", type=positive, metavar="N", help="calls of each phase")
    to.add_argument(
        "--baseline-calls", type=positive, metavar="N", help="calls of each phase with one agent"
    )
    to.add_argument(
        "--own",
        type=whole,
        metavar="N",
        help="up to so many agents the same calls are also made in worlds of their own (0: never)",
    )
    to.add_argument(
        "--observe",
        action=argparse.BooleanOptionalAction,
        help="whether the probe counts what calls do inside the target, in phases of their own",
    )
    to.add_argument(
        "--settings",
        type=names,
        metavar="NAME[,NAME]",
        help="configurations of the target to compare (default)",
    )
    to.add_argument("--max-time", type=seconds, metavar="TIME", help="stop after this long")
    to.add_argument("--start", choices=("ordinary", "fork"), help="how calls start (ordinary)")
    _baseline(to)
    _reports(to)


def diff(to: argparse.ArgumentParser) -> None:
    for name, about in (("a", "the first target"), ("b", "the one that is compared with it")):
        to.add_argument(f"--{name}", required=True, metavar="SPEC", help=about)
    to.add_argument("--agents", type=positive, default=5, metavar="N", help="MCP sessions (5)")
    to.add_argument("--runs", type=positive, default=12, metavar="N", help="programs (12)")
    to.add_argument(
        "--calls", type=positive, default=12, metavar="N", help="about how many per program (12)"
    )
    to.add_argument(
        "--max-time", type=seconds, metavar="TIME", help="begin no more programs after this long"
    )
    to.add_argument("--seed", type=whole, default=0, metavar="N", help="of programs (0)")
    to.add_argument("--identity", default="", metavar="MODE", help="how agents are told apart")
    to.add_argument(
        "--start",
        choices=("ordinary", "fork"),
        default="ordinary",
        help="how calls start (ordinary)",
    )
    to.add_argument(
        "--observe",
        action="store_true",
        help="have the probe count what calls do inside; latencies are then with the probe",
    )
    to.add_argument(
        "--alpha",
        type=_alpha,
        default=0.05,
        metavar="P",
        help="chance of any false alarm among all latencies that are compared (0.05)",
    )
    _out(to)


def _settings(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--profile", metavar="NAME", help="smoke, release, nightly, or your own (release)"
    )
    to.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings (mcpconc.toml, else [tool.mcpconc] in pyproject.toml)",
    )
    to.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="any key of the settings, such as fuzz.runs=20",
    )
    to.add_argument(
        "--threshold",
        action="append",
        dest="thresholds",
        metavar="EXPR",
        help="what must hold, such as 'calls.p95 < 2s', instead of the profile's",
    )
    to.add_argument("--target", metavar="SPEC", help="what is held against them (empirica)")
    to.add_argument("--agents", type=positive, metavar="N", help="agents that thresholds speak of")
    to.add_argument("--seed", type=whole, metavar="N", help="of programs and schedules (0)")
    to.add_argument(
        "--identity",
        action="append",
        type=names,
        metavar="MODE[,MODE]",
        help="how agents are told apart",
    )


def _baseline(to: argparse._ActionsContainer) -> None:
    to.add_argument("--baseline", type=Path, metavar="FILE", help="the findings that are known")
    to.add_argument("--no-baseline", action="store_true", help="nothing is known")


def _reports(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--report",
        action="append",
        type=names,
        metavar="KIND[,KIND]",
        help=f"write reports as well: {REPORTS}",
    )
    to.add_argument("--report-dir", type=Path, metavar="DIR", help="where reports go (OUT/reports)")
    to.add_argument(
        "--criteria",
        type=Path,
        metavar="FILE",
        help="write the table of criteria, met or not, into a file of yours, between its lines "
        "<!-- mcpconc:criteria --> and <!-- /mcpconc:criteria -->",
    )
    _out(to)


def _out(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="traces, log, work (out)"
    )


def _numbers(text: str) -> list[int]:
    return [positive(part) for part in names(text)]


def _alpha(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
