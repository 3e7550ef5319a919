"""What each verb does: settle what was asked, call the function that does it, print the result.

Everything that can be wrong with the request is found before anything starts.
"""

from __future__ import annotations

import functools
import importlib
import os
import secrets
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from mcpconc import log
from mcpconc.cuts import overlaps
from mcpconc.errors import Exit, McpconcError, TargetError, UsageError
from mcpconc.jsontext import compact
from mcpconc.lineup.orders import MOST_CALLS, MOST_LANES
from mcpconc.lineup.same import Volatile
from mcpconc.report import documents
from mcpconc.report.console import Console, Paint, tell
from mcpconc.report.finding import finding_report
from mcpconc.report.selftest import selftest_document
from mcpconc.strategies import CascadeMachine, ProgramMachine
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.reference import PREFIX
from mcpconc.target.warm import Start, check_start
from mcpconc.trace import Trace, find, load
from mcpconc.verdict import Verdict

__all__ = ["VERBS"]

DEFAULT_TIME = 300.0
MIXED = (Identity.ISOLATED, Identity.EXPLICIT)

SEVERITY = (
    Exit.PASSED,
    Exit.INCONCLUSIVE,
    Exit.VIOLATION,
    Exit.TARGET,
    Exit.USAGE,
    Exit.BUG,
    Exit.INTERRUPTED,
)
"""Of several traces, the exit code furthest to the right counts."""


def fuzz(args: Namespace) -> Exit:
    from mcpconc import campaign, schedule

    _need_git()
    schedule.make(args.scheduler, 0)  # is there one of this name?
    decides = schedule.is_controlled(args.scheduler)
    if args.probe == "control" and not decides:
        raise UsageError(
            f"--probe control: {args.scheduler} decides nothing inside the calls; give "
            "--scheduler random, pct:D or portfolio as well"
        )
    control = decides and args.probe in (None, "control")
    target = _target(args.target, args.plant)
    check_start(resolve(target), Start(args.start))
    config = campaign.FuzzConfig(
        out=_writable(args.out),
        target=target,
        agents=_agents(args.agents, args.model),
        identities=_identities(args.identity, resolve(target).identities),
        max_time=DEFAULT_TIME if args.max_time is None and args.runs is None else args.max_time,
        runs=args.runs,
        seed=secrets.randbelow(2**32) if args.seed is None else args.seed,
        inflight=args.inflight,
        scheduler=args.scheduler,
        calls=_calls(args.calls, args.model, control),
        share=args.share,
        nemesis=_nemesis(args, control),
        bad_input=args.bad_input,
        shrink=not args.no_shrink,
        machine=_machine(args.machine),
        itself=_itself(args),
        start=Start(args.start),
        control=control,
        observe=args.probe == "observe",
    )
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with _console(args) as console:
        done = anyio.run(campaign.fuzz, config, log.recorded(console))
    if args.json:
        _document(documents.campaign_document(done))
    return done.exit


def _nemesis(args: Namespace, control: bool) -> tuple[str, ...]:
    """:raises UsageError: for a fault that there is not, or where faults cannot be injected."""
    from mcpconc import nemesis

    asked = [name for listed in args.nemesis or () for name in listed]
    kinds = nemesis.KINDS
    if "all" in asked:
        asked = [name for name in kinds if kinds[name].inside is control]
    names = nemesis.chosen(asked, kinds)
    if wrong := [name for name in names if kinds[name].inside is not control]:
        others = "random, pct:D or portfolio" if not control else "free, barrier, convoy or mixed"
        where = "inside the calls" if not control else "by time"
        raise UsageError(f"--nemesis {wrong[0]}: it comes {where}; give --scheduler {others}")
    if names and args.model == "self":
        raise UsageError("--nemesis: under faults no target is its own model; leave --model out")
    return names


def replay(args: Namespace) -> Exit:
    from mcpconc import replay as replays

    traces, unreadable = _load_all(args)
    worst = Exit.USAGE if unreadable else Exit.PASSED
    start = Start(args.start)
    for trace in traces if start is Start.FORK else ():
        check_start(resolve(args.target or trace.target), start)
    _need_git()
    log.configure(_writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    results = []
    for trace in traces:
        with _console(args) as console:
            result = anyio.run(
                replays.replay,
                trace,
                args.times,
                args.target,
                args.out / "work",
                log.recorded(console),
                start,
            )
        results.append(result)
        worst = _worse(worst, _replayed(result))
        if not args.json:
            _print(documents.replay_text(result))
        if result.interrupted:
            break
    if args.json:
        replayed = [documents.replay_document(result) for result in results]
        _document({"replays": replayed, "unreadable": unreadable})
    return worst


def _replayed(result: Any) -> Exit:
    if result.interrupted:
        return Exit.INTERRUPTED
    if result.error:
        return Exit.TARGET
    if result.reproduced:
        return Exit.VIOLATION
    return Exit.PASSED if result.tried else Exit.INCONCLUSIVE


def check(args: Namespace) -> Exit:
    from mcpconc import oracle
    from mcpconc.recheck import recheck, spec_of

    traces, unreadable = _load_all(args)
    worst = Exit.USAGE if unreadable else Exit.PASSED
    results = []
    for trace in traces:
        checked = recheck(trace, spec_of(trace.target), oracle.ORACLES)
        results.append(checked)
        worst = _worse(worst, checked.exit)
        if not args.json:
            _print(documents.checked_text(checked))
    if args.json:
        checks = [documents.checked_document(checked) for checked in results]
        _document({"checks": checks, "unreadable": unreadable})
    return worst


def shrink(args: Namespace) -> Exit:
    from mcpconc.replay import shrink_trace

    path = find(args.trace, _roots(args))
    trace = load(path)
    _need_git()
    log.configure(_writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with _console(args) as console:
        smaller, interrupted = anyio.run(
            functools.partial(
                shrink_trace,
                trace,
                out=trace.path or path,
                max_time=args.max_time,
                target=args.target,
                work=args.out / "work",
                emit=log.recorded(console),
            )
        )
    if args.json:
        _document(documents.trace_document(smaller))
    return Exit.INTERRUPTED if interrupted else Exit.PASSED


def explore(args: Namespace) -> Exit:
    from mcpconc.exhaust import explore_trace

    trace = load(find(args.trace, _roots(args)))
    if not overlaps(trace.program):
        raise UsageError(f"{trace.path}: nothing overlaps in its program: there is one order only")
    _need_git()
    check_start(resolve(args.target or trace.target), Start(args.start))
    log.configure(_writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with _console(args) as console:
        verdicts = anyio.run(
            explore_trace,
            trace,
            args.target,
            args.out,
            args.max_runs,
            log.recorded(console),
            Start(args.start),
        )
    if args.json:
        _document(documents.explored_document(verdicts))
    else:
        _print(documents.explored_text(verdicts))
    return verdicts.exit


def show(args: Namespace) -> Exit:
    trace = load(find(args.trace, _roots(args)))
    if args.json:
        _document(documents.trace_document(trace))
    else:
        _print(_paint(args, sys.stdout).report(finding_report(trace, width=_width(sys.stdout))))
    return Exit.PASSED


def doctor(args: Namespace) -> Exit:
    from mcpconc import doctor as doctors

    _need_git()
    log.configure(_writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with _console(args) as console:
        health = anyio.run(doctors.doctor, args.target, args.out / "work", log.recorded(console))
    if args.json:
        _document(health.to_json())
    else:
        _print(health.text())
    return Exit(health.exit)


def selftest(args: Namespace) -> Exit:
    from mcpconc import selftest as selftests

    if args.canary and args.only:
        raise UsageError("--canary and --only both say which bugs to plant: give one of them")
    words = [word for several in args.only or () for word in several]
    _need_git()
    config = selftests.SelftestConfig(
        out=_writable(args.out),
        plants=selftests.chosen(words) if words else selftests.PLANTS,
        budget=args.budget,
        seed=args.seed,
        seeds=args.seeds,
        shrink=not args.no_shrink,
    )
    config = selftests.canary(config) if args.canary else config
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with _console(args) as console:
        done = anyio.run(selftests.selftest, config, log.recorded(console))
    if args.json:
        _document(selftest_document(done))
    return done.exit


def bench(args: Namespace) -> Exit:
    from mcpconc import bench as benches
    from mcpconc.report.bench import bench_document, bench_text

    cases = benches.cases(args.path, whole=args.whole)
    judged = [benches.judge(case, args.steps, args.max_time) for case in cases]
    if args.json:
        _document(bench_document(judged))
    else:
        _print(bench_text(judged))
    verdicts = {one.verdict for one in judged}
    if Verdict.VIOLATION in verdicts:
        return Exit.VIOLATION
    return Exit.INCONCLUSIVE if Verdict.UNKNOWN in verdicts else Exit.PASSED


def list_(args: Namespace) -> Exit:
    from mcpconc.report.listing import listing

    found = listing(_roots(args))
    if args.json:
        _document(found)
    else:
        _print(documents.listing_text(found))
    return Exit.PASSED


VERBS: dict[str, Callable[[Namespace], Exit]] = {
    "fuzz": fuzz,
    "replay": replay,
    "check": check,
    "shrink": shrink,
    "explore": explore,
    "show": show,
    "doctor": doctor,
    "selftest": selftest,
    "bench": bench,
    "list": list_,
}


# ------------------------------------------------------------------ what was asked


def _need_git() -> None:
    if shutil.which("git") is None:
        raise TargetError("git is not on PATH; worlds are git repositories, so please install it")


def _target(target: str, plant: str) -> str:
    """The SPEC of what is to be fuzzed."""
    if not plant:
        return target or "empirica"
    planted = f"{PREFIX}{plant}"
    if target not in ("", "reference", planted):
        raise UsageError(
            f"--plant {plant}: bugs are planted in the reference server and not in {target}; "
            "leave --target out"
        )
    return planted


def _agents(wanted: int | None, model: str) -> int:
    if model != "self":
        return wanted or 5
    if wanted is not None and wanted > MOST_LANES:
        raise UsageError(
            f"--agents {wanted}: with --model self every order of the calls is run, which "
            f"{MOST_LANES} agents at most allow"
        )
    return wanted or MOST_LANES


def _calls(wanted: int | None, model: str, control: bool) -> int:
    if model != "self":
        return wanted or (4 if control else 12)
    if wanted is not None and wanted > MOST_CALLS:
        raise UsageError(
            f"--calls {wanted}: with --model self every order of the calls is run, which "
            f"{MOST_CALLS} calls at most allow"
        )
    return wanted or 4


def _itself(args: Namespace) -> Volatile | None:
    """What is volatile where the target is its own model; None where it is not."""
    if args.model == "self":
        return Volatile(
            values=frozenset(path for paths in args.volatile or () for path in paths),
            steady=frozenset(path for paths in args.steady or () for path in paths),
        )
    if args.volatile or args.steady:
        raise UsageError("--volatile and --steady are for --model self")
    return None


def _writable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {error.strerror or error}; choose another --out"
        ) from error


def _identities(
    wanted: Sequence[Sequence[str]] | None, known: Sequence[Identity]
) -> tuple[Identity, ...]:
    """The modes asked for, or those of `MIXED` that the target knows."""
    if wanted is None:
        return tuple(mode for mode in MIXED if mode in known) or tuple(known[:1])
    names = [name for several in wanted for name in several]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown identity mode {name!r}: this target has {', '.join(known)}")
    return tuple(dict.fromkeys(Identity(name) for name in names))


def _machine(name: str) -> type[ProgramMachine]:
    if not name:
        return CascadeMachine
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        machine = getattr(importlib.import_module(module), attribute or "")
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"no state machine {name!r} (MODULE:CLASS): {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not (isinstance(machine, type) and issubclass(machine, ProgramMachine)):
        raise UsageError(f"{name} is not a subclass of mcpconc.strategies.ProgramMachine")
    return machine


def _roots(args: Namespace) -> list[Path]:
    """Where traces are looked up by name."""
    out = [args.out / "traces"] if getattr(args, "out", None) else []
    return list(dict.fromkeys([Path("traces"), *out, Path("out/traces")]))


def _load_all(args: Namespace) -> tuple[list[Trace], list[str]]:
    """All traces that can be read, and why the others cannot: one that is damaged does not
    keep the rest from being used."""
    traces: list[Trace] = []
    problems: list[McpconcError] = []
    for name in args.trace:
        try:
            traces.append(load(find(name, _roots(args))))
        except McpconcError as error:
            problems.append(error)
    if not traces:
        raise problems[0]
    for problem in problems if not args.json else ():
        tell(sys.stderr, f"mcpconc: {problem}\n")
    return traces, [str(problem) for problem in problems]


def _worse(one: Exit, other: Exit) -> Exit:
    return max(one, other, key=SEVERITY.index)


# ------------------------------------------------------------------ where it is said


def _console(args: Namespace) -> Console:
    # With --json nobody watches: whatever reads standard output wants silence on the other.
    return Console(
        open(os.devnull, "w") if args.json else sys.stdout,
        sys.stderr,
        tty=_is_terminal(sys.stderr),
        paint=_paint(args, sys.stderr),
        ink=_paint(args, sys.stdout),
        width=_width(sys.stderr),
        quiet=args.quiet or args.json,
    )


def _is_terminal(stream: Any) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _paint(args: Namespace, stream: Any) -> Paint:
    plain = args.no_color or bool(os.environ.get("NO_COLOR"))
    return Paint(not plain and _is_terminal(stream))


def _width(stream: Any) -> int:
    if not stream.isatty():
        return 100
    return max(60, min(140, shutil.get_terminal_size((100, 24)).columns))


def _print(text: str) -> None:
    tell(sys.stdout, text)


def _document(value: Any) -> None:
    _print(compact(value) + "\n")
