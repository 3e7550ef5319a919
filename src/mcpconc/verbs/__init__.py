"""What each verb does: settle what was asked, call the function that does it, print the result.

Everything that can be wrong with the request is found before anything starts.
"""

from __future__ import annotations

import functools
import secrets
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from mcpconc import log
from mcpconc.cuts import overlaps
from mcpconc.errors import Exit, UsageError
from mcpconc.report import documents
from mcpconc.report.finding import finding_report
from mcpconc.report.selftest import selftest_document
from mcpconc.target import resolve
from mcpconc.target.base import Target
from mcpconc.target.warm import Start, best_start, check_start
from mcpconc.trace import Trace, find, load
from mcpconc.verbs import asked, gates, said
from mcpconc.verdict import Verdict

if TYPE_CHECKING:
    from mcpconc.replay import Replay

__all__ = ["VERBS"]

DEFAULT_TIME = 300.0


def fuzz(args: Namespace) -> Exit:
    from mcpconc import campaign, schedule

    asked.need_git()
    schedule.make(args.scheduler, 0)  # is there one of this name?
    decides = schedule.is_controlled(args.scheduler)
    if args.probe == "control" and not decides:
        raise UsageError(
            f"--probe control: {args.scheduler} decides nothing inside the calls; give "
            "--scheduler random, pct:D or portfolio as well"
        )
    control = decides and args.probe in (None, "control")
    target = asked.spec(args.target, args.plant)
    start = _start(args, resolve(target))
    config = campaign.FuzzConfig(
        out=asked.writable(args.out),
        target=target,
        agents=asked.agents(args.agents, args.model),
        identities=asked.identities(args.identity, resolve(target).identities),
        max_time=DEFAULT_TIME if args.max_time is None and args.runs is None else args.max_time,
        runs=args.runs,
        seed=secrets.randbelow(2**32) if args.seed is None else args.seed,
        inflight=args.inflight,
        scheduler=args.scheduler,
        calls=asked.calls(args.calls, args.model, control),
        share=args.share,
        nemesis=_nemesis(args, control),
        bad_input=args.bad_input,
        shrink=not args.no_shrink,
        machine=asked.machine(args.machine),
        itself=asked.itself(args),
        start=start,
        control=control,
        observe=args.probe == "observe",
    )
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
        done = anyio.run(campaign.fuzz, config, log.recorded(console))
    if args.json:
        said.document(documents.campaign_document(done))
    return done.exit


def _start(args: Namespace, target: Target) -> Start:
    """:raises UsageError: if the target cannot be started as asked."""
    if args.start == "auto":
        # What a fork did not have to import would not be counted.
        return Start.ORDINARY if args.probe == "observe" else best_start(target)
    check_start(target, Start(args.start))
    return Start(args.start)


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
    traces, unreadable = asked.load_all(args)
    start = Start(args.start)
    for trace in traces if start is Start.FORK else ():
        check_start(resolve(args.target or trace.target), start)
    asked.need_git()
    log.configure(asked.writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    results = anyio.run(_replays, args, traces, start)
    if args.json:
        replayed = [documents.replay_document(result) for result in results]
        said.document({"replays": replayed, "unreadable": unreadable})
    worst = Exit.USAGE if unreadable else Exit.PASSED
    for result in results:
        worst = asked.worse(worst, _replayed(result))
    return worst


async def _replays(args: Namespace, traces: Sequence[Trace], start: Start) -> list[Replay]:
    """Each trace in turn, on servers that stay up where the next one can use them."""
    from mcpconc import replay as replays
    from mcpconc.rigs import standing

    results: list[Replay] = []
    async with standing() as rigs:
        for trace in traces:
            with said.console(args) as console:
                tell, work = log.recorded(console), args.out / "work"
                result = await replays.replay(
                    trace, args.times, args.target, work, tell, start, rigs=rigs
                )
            results.append(result)
            if not args.json:
                said.say(documents.replay_text(result))
            if result.interrupted:
                break
    return results


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

    traces, unreadable = asked.load_all(args)
    worst = Exit.USAGE if unreadable else Exit.PASSED
    results = []
    for trace in traces:
        checked = recheck(trace, spec_of(trace.target), oracle.ORACLES)
        results.append(checked)
        worst = asked.worse(worst, checked.exit)
        if not args.json:
            said.say(documents.checked_text(checked))
    if args.json:
        checks = [documents.checked_document(checked) for checked in results]
        said.document({"checks": checks, "unreadable": unreadable})
    return worst


def shrink(args: Namespace) -> Exit:
    from mcpconc.replay import shrink_trace

    path = find(args.trace, asked.roots(args))
    trace = load(path)
    asked.need_git()
    log.configure(asked.writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
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
        said.document(documents.trace_document(smaller))
    return Exit.INTERRUPTED if interrupted else Exit.PASSED


def explore(args: Namespace) -> Exit:
    from mcpconc.exhaust import explore_trace

    trace = load(find(args.trace, asked.roots(args)))
    if not overlaps(trace.program):
        raise UsageError(f"{trace.path}: nothing overlaps in its program: there is one order only")
    asked.need_git()
    check_start(resolve(args.target or trace.target), Start(args.start))
    log.configure(asked.writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
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
        said.document(documents.explored_document(verdicts))
    else:
        said.say(documents.explored_text(verdicts))
    return verdicts.exit


def show(args: Namespace) -> Exit:
    trace = load(find(args.trace, asked.roots(args)))
    if args.json:
        said.document(documents.trace_document(trace))
    else:
        said.say(
            said.paint(args, sys.stdout).report(finding_report(trace, width=said.width(sys.stdout)))
        )
    return Exit.PASSED


def doctor(args: Namespace) -> Exit:
    from mcpconc import doctor as doctors

    asked.need_git()
    log.configure(asked.writable(args.out) / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
        health = anyio.run(doctors.doctor, args.target, args.out / "work", log.recorded(console))
    if args.json:
        said.document(health.to_json())
    else:
        said.say(health.text())
    return Exit(health.exit)


def selftest(args: Namespace) -> Exit:
    from mcpconc import selftest as selftests

    if args.canary and args.only:
        raise UsageError("--canary and --only both say which bugs to plant: give one of them")
    words = [word for several in args.only or () for word in several]
    asked.need_git()
    config = selftests.SelftestConfig(
        out=asked.writable(args.out),
        plants=selftests.chosen(words) if words else selftests.PLANTS,
        budget=args.budget,
        seed=args.seed,
        seeds=args.seeds,
        shrink=not args.no_shrink,
    )
    config = selftests.canary(config) if args.canary else config
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
        done = anyio.run(selftests.selftest, config, log.recorded(console))
    if args.json:
        said.document(selftest_document(done))
    return done.exit


def bench(args: Namespace) -> Exit:
    from mcpconc import bench as benches
    from mcpconc.report.bench import bench_document, bench_text

    cases = benches.cases(args.path, whole=args.whole)
    judged = [benches.judge(case, args.steps, args.max_time) for case in cases]
    if args.json:
        said.document(bench_document(judged))
    else:
        said.say(bench_text(judged))
    verdicts = {one.verdict for one in judged}
    if Verdict.VIOLATION in verdicts:
        return Exit.VIOLATION
    return Exit.INCONCLUSIVE if Verdict.UNKNOWN in verdicts else Exit.PASSED


def list_(args: Namespace) -> Exit:
    from mcpconc.report.listing import listing

    found = listing(asked.roots(args))
    if args.json:
        said.document(found)
    else:
        said.say(documents.listing_text(found))
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
    "stress": gates.stress,
    "gate": gates.gate,
    "diff": gates.diff,
    "list": list_,
}
