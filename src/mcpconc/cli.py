"""The command line: what may be asked, and how every ending becomes one line and one code."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mcpconc import __version__, gateflags
from mcpconc.argtypes import names as _names
from mcpconc.argtypes import positive as _positive
from mcpconc.argtypes import probability as _probability
from mcpconc.argtypes import seconds as _seconds
from mcpconc.errors import Exit, McpconcError, UsageError, leaves
from mcpconc.manual import DESCRIPTION, EXAMPLES, EXITS

__all__ = ["main"]


class Parser(argparse.ArgumentParser):
    """Errors are ours to report, with our exit code."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parser() -> Parser:
    root = Parser(
        prog="mcpconc",
        description=DESCRIPTION,
        epilog=EXAMPLES[""] + "\n" + EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"mcpconc {__version__}")
    _common(root, root=True)
    verbs = root.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    def verb(name: str, help: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=EXAMPLES[name] + "\n" + EXITS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _common(sub)
        return sub

    _fuzz(verb("fuzz", "search for violations under a budget"))

    replay = verb("replay", "run saved traces again and say how often they fail")
    _traces(replay, several=True)
    replay.add_argument("--times", type=_positive, default=5, metavar="K", help="tries (5)")
    replay.add_argument("--target", default="", metavar="SPEC", help="another target than its own")
    _start(replay, "calls start as a user's would, or are forked, which is faster (ordinary)")
    _out(replay)

    _traces(verb("check", "judge saved traces again, without a server"), several=True)

    shrink = verb("shrink", "spend more time on making a trace smaller")
    _traces(shrink)
    shrink.add_argument(
        "--max-time", type=_seconds, default=300.0, metavar="TIME", help="at most this long (5m)"
    )
    shrink.add_argument("--target", default="", metavar="SPEC", help="another target than its own")
    _out(shrink)

    _traces(verb("show", "draw a trace, with reason and evidence"))

    explore = verb("explore", "run every interleaving of a trace's calls")
    _traces(explore)
    explore.add_argument(
        "--max-runs", type=_positive, default=500, metavar="N", help="interleavings at most (500)"
    )
    explore.add_argument("--target", default="", metavar="SPEC", help="another target than its own")
    _start(explore, "calls start as a user's would, or are forked, which is faster (ordinary)")
    _out(explore)

    doctor = verb("doctor", "say whether a target can be fuzzed")
    _target(doctor)
    _out(doctor)

    _selftest(verb("selftest", "plant bugs in the reference server and see the oracles catch them"))

    _bench(verb("bench", "measure what judging histories costs"))

    gateflags.stress(verb("stress", "measure a target under load, and judge it"))
    gateflags.gate(verb("gate", "decide whether a release may go out"))
    gateflags.diff(verb("diff", "run the same programs on two targets and compare them"))

    verb(
        "list", "list oracles, schedulers, faults, identity modes, machines, tools, targets, traces"
    )
    return root


def _common(to: argparse.ArgumentParser, *, root: bool = False) -> None:
    """Flags that may stand before or after the verb: only the root has defaults."""

    def default(value: Any) -> Any:
        return value if root else argparse.SUPPRESS

    group = to.add_argument_group("output")
    group.add_argument(
        "--json",
        action="store_true",
        default=default(False),
        help="one JSON document on standard output and nothing else",
    )
    group.add_argument(
        "-v", "--verbose", action="count", default=default(0), help="log every program as well"
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", default=default(False), help="no status, only results"
    )
    group.add_argument(
        "--no-color", action="store_true", default=default(False), help="no colours (or NO_COLOR=1)"
    )


def _fuzz(to: argparse.ArgumentParser) -> None:
    _target(to)
    to.set_defaults(target="")  # with --plant it is another one
    to.add_argument(
        "--plant",
        default="",
        metavar="NAME",
        help="break the reference server in this way: --target reference+NAME",
    )
    _out(to)
    to.add_argument(
        "--agents", type=_positive, metavar="N", help="MCP sessions (5; with --model self 3)"
    )
    to.add_argument(
        "--max-time",
        type=_seconds,
        metavar="TIME",
        help="stop after 90s, 5m, 1h30m (5m where --runs is not given either)",
    )
    to.add_argument("--runs", type=_positive, metavar="N", help="stop after so many programs")
    to.add_argument("--seed", type=int, metavar="N", help="of programs and schedules (random)")
    to.add_argument(
        "--identity",
        action="append",
        type=_names,
        metavar="MODE[,MODE]",
        help="how agents are told apart; worlds take turns (isolated,explicit)",
    )
    to.add_argument(
        "--inflight", type=_positive, default=1, metavar="N", help="unanswered calls per agent (1)"
    )
    to.add_argument(
        "--scheduler",
        default="mixed",
        metavar="NAME",
        help="free, barrier, convoy, or mixed of these; random, pct:D, or portfolio of these, "
        "which decide inside the calls of Python servers (mixed)",
    )
    to.add_argument(
        "--probe",
        choices=("control", "observe", "off"),
        help="what is loaded into the server's Python processes: what lets random, pct:D and "
        "portfolio decide (control), what counts what calls do (observe), or nothing (off); "
        "without control, these schedulers are free (control if the scheduler needs it, else off)",
    )
    to.add_argument(
        "--no-probe", dest="probe", action="store_const", const="off", help="--probe off"
    )
    to.add_argument(
        "--calls",
        type=_positive,
        metavar="N",
        help="about how many per program (12; 4 with --model self, which allows 6, and with "
        "random, pct:D and portfolio",
    )
    to.add_argument(
        "--share",
        type=_probability,
        default=0.7,
        metavar="P",
        help="probability that agents work on common objects (0.7)",
    )
    to.add_argument(
        "--bad-input",
        type=_probability,
        default=0.0,
        metavar="SHARE",
        help="share of calls that are bad input: wrong types, huge texts, ids of other kinds (0: "
        "models say nothing of a run in which the target accepted what it should refuse)",
    )
    to.add_argument(
        "--machine",
        default="",
        metavar="MODULE:CLASS",
        help="state machine that writes the programs (mcpconc.strategies:CascadeMachine)",
    )
    to.add_argument(
        "--model",
        choices=("target", "self"),
        default="target",
        help="what says which answers are right: the target's specification (target), or "
        "sequential runs of the same calls on it (self), which needs none",
    )
    to.add_argument(
        "--volatile",
        action="append",
        type=_names,
        metavar="PATH[,PATH]",
        help="with --model self: fields that differ in every run, beside what is learned "
        "(goals_list.goals[].created_at, main.notes.added.changed)",
    )
    to.add_argument(
        "--steady",
        action="append",
        type=_names,
        metavar="PATH[,PATH]",
        help="with --model self: fields that count whatever is learned",
    )
    to.add_argument(
        "--nemesis",
        action="append",
        type=_names,
        metavar="NAME[,NAME]",
        help="faults: each program meets one or more of these, see `mcpconc list`; or all, or none "
        "(none)",
    )
    to.add_argument("--no-shrink", action="store_true", help="keep findings as they were met")
    to.add_argument(
        "--start",
        choices=("auto", "ordinary", "fork"),
        default="auto",
        help="calls start as a user's would, or are forked from a process that has imported the "
        "program: several times as many calls, and what is found is run again as a user's "
        "calls would be before it counts; auto forks them if the target allows it and nobody "
        "counts what they do (auto)",
    )


def _start(to: argparse.ArgumentParser, help: str) -> None:
    to.add_argument("--start", choices=("ordinary", "fork"), default="ordinary", help=help)


def _selftest(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--only",
        action="append",
        type=_names,
        metavar="NAME[,NAME]",
        help="bugs, classes of bugs, or oracles (all)",
    )
    to.add_argument(
        "--canary", action="store_true", help="a few bugs, caught in seconds, not minimised"
    )
    to.add_argument(
        "--budget", type=_seconds, default=600.0, metavar="TIME", help="for each seed (10m)"
    )
    to.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of programs and schedules (0)"
    )
    to.add_argument(
        "--seeds", type=_positive, default=1, metavar="K", help="so many seeds, from --seed on (1)"
    )
    to.add_argument("--no-shrink", action="store_true", help="see that they are caught, no more")
    _out(to)


def _bench(to: argparse.ArgumentParser) -> None:
    to.add_argument("what", choices=["linearize"], metavar="linearize", help="the search alone")
    to.add_argument("path", nargs="+", type=Path, metavar="PATH", help="histories, directories")
    to.add_argument(
        "--whole", action="store_true", help="judge the keys of a key-value log as one object"
    )
    to.add_argument(
        "--steps",
        type=_positive,
        default=10_000_000,
        metavar="N",
        help="at most so many for each object of a history (10000000)",
    )
    to.add_argument(
        "--max-time", type=_seconds, default=60.0, metavar="TIME", help="for each history (1m)"
    )


def _target(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--target",
        default="empirica",
        metavar="SPEC",
        help="empirica, empirica==X.Y.Z, empirica@PATH, reference, reference+PLANT, or PATH.toml"
        " (empirica)",
    )


def _out(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="traces, log, work (out)"
    )


def _traces(to: argparse.ArgumentParser, *, several: bool = False) -> None:
    about = "a trace: its directory, or the beginning of its name in ./traces or ./out/traces"
    if several:
        to.add_argument("trace", nargs="+", metavar="PATH|ID", help=about)
    else:
        to.add_argument("trace", metavar="PATH|ID", help=about)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    :return: the exit code (`errors.Exit`), whatever happens.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = argparse.Namespace(json="--json" in words, out=None)
    try:
        args = parser().parse_args(words, args)
        if not args.verb:
            raise UsageError("nothing to do; see `mcpconc --help`")
        # Hypothesis, mcp and anyio take a second to import; --help does not need them.
        from mcpconc import verbs

        code = int(verbs.VERBS[args.verb](args))
    except SystemExit as exit:  # --help and --version
        code = exit.code if isinstance(exit.code, int) else Exit.USAGE
    except BaseException as error:
        code = _failed(error, args)
    return code


def _failed(error: BaseException, args: argparse.Namespace) -> int:
    """Say in one line what went wrong; the exit code."""
    found = leaves(error)
    ours = [leaf for leaf in found if isinstance(leaf, McpconcError) and leaf.exit != Exit.BUG]
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
        return _say(Exit.INTERRUPTED, "interrupted", args)
    if ours and len(ours) == len(found):
        return _say(ours[0].exit, str(ours[0]), args)
    file = _keep(error, args.out)
    what = " ".join(f"{type(found[0]).__name__}: {found[0]}".split())
    return _say(Exit.BUG, f"this is a bug in mcpconc: {what[:200]}; details in {file}", args)


def _say(code: Exit, message: str, args: argparse.Namespace) -> int:
    line = " ".join(message.split())
    if args.json:
        from mcpconc.jsontext import compact

        envelope = {"code": code.name.lower(), "exit": int(code), "message": line}
        line = compact({"error": envelope})
    else:
        line = f"mcpconc: {line}"
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    return int(code)


def _keep(error: BaseException, out: Path | None) -> Path:
    """The traceback in a file: a terminal is no place for it."""
    text = "".join(traceback.format_exception(error))
    for directory in (out, Path(tempfile.gettempdir())):
        if directory is None:
            continue
        file = directory / f"mcpconc-bug-{os.getpid()}.txt"
        try:
            file.write_text(f"mcpconc {__version__}\n{' '.join(sys.argv)}\n\n{text}")
        except OSError:
            continue
        return file
    return Path("(nowhere to write them)")
