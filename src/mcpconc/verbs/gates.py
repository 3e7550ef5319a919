"""The verbs that hold a target against figures: stress, gate, diff."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from mcpconc import configure, log
from mcpconc.baseline import Baseline, read
from mcpconc.errors import Exit, UsageError
from mcpconc.events import (
    CampaignEvent,
    CampaignFinished,
    Emit,
    SelftestFinished,
    TraceSaved,
)
from mcpconc.jsontext import readable, write
from mcpconc.report.diff import diff_text
from mcpconc.report.gate import gate_text
from mcpconc.settings import Settings, schema
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start, check_start
from mcpconc.verbs import asked, said

if TYPE_CHECKING:
    from mcpconc.gate import GateConfig, Gated

__all__ = ["REPORTS", "diff", "gate", "stress"]

REPORTS = ("junit", "sarif", "github", "markdown")
BASELINE = Path("gate/baseline.toml")
"""Where a baseline is written if nobody says where."""


def gate(args: Namespace) -> Exit:
    from mcpconc import accept
    from mcpconc import gate as gates

    if args.print_schema:
        said.say(readable(schema()) + "\n")
        return Exit.PASSED
    settings = _settings(args)
    if unknown := [name for name in _flat(args.skip) if name not in gates.STAGES]:
        raise UsageError(f"--skip {unknown[0]}: the stages are {', '.join(gates.STAGES)}")
    old = _baseline(args, settings)
    path = Path(settings.baseline) if settings.baseline else BASELINE
    roots = [Path(root) for root in settings.traces]
    if args.baseline_from_traces:
        written = accept.from_traces(old, path, roots, args.reason)
        return _written(args, accept.save(written), written)
    _need(settings)
    config = gates.GateConfig(
        out=asked.writable(args.out),
        settings=settings,
        baseline=old,
        skip=frozenset(_flat(args.skip)),
        command=_command(),
    )
    done = _run(args, config)
    if args.update_baseline and done.exit in (Exit.PASSED, Exit.VIOLATION, Exit.INCONCLUSIVE):
        keep = [path.parent / "traces", *roots]
        written = accept.from_gate(done, old, path, keep, args.reason)
        return _written(args, accept.save(written), written)
    return done.exit


def stress(args: Namespace) -> Exit:
    """A gate of one stage, of which nothing is asked but what it measures."""
    from mcpconc import gate as gates

    flags: dict[str, Any] = {"floors.overlap": 0, "floors.tools": 0, "floors.pairs": 0}
    flags["floors.programs"] = 1
    if args.scenario:
        flags["stress.scenarios"] = tuple(args.scenario)
    for name in ("calls", "own", "observe", "settings", "baseline_calls", "ladder", "max_time"):
        value = getattr(args, name)
        key = {"baseline_calls": "baseline", "ladder": "agents", "max_time": "time"}.get(name, name)
        if value is not None:
            flags[f"stress.{key}"] = tuple(value) if isinstance(value, list) else value
    if args.start is not None:
        flags["stress.start"] = args.start
    settings = _settings(args, flags)
    _need(settings)
    config = gates.GateConfig(
        kind="stress",
        out=asked.writable(args.out),
        settings=settings,
        baseline=_baseline(args, settings),
        stages={"stress": gates.STAGES["stress"]},
        command=_command(),
    )
    return _run(args, config).exit


def diff(args: Namespace) -> Exit:
    from mcpconc import compare as compares

    asked.need_git()
    for spec in (args.a, args.b):
        check_start(resolve(spec), Start(args.start))
    config = compares.CompareConfig(
        out=asked.writable(args.out),
        a=args.a,
        b=args.b,
        agents=args.agents,
        runs=args.runs,
        calls=args.calls,
        seed=args.seed,
        identity=args.identity,
        start=Start(args.start),
        observe=args.observe,
        alpha=args.alpha,
        max_time=args.max_time,
        command=_command(),
    )
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
        done = anyio.run(compares.compare, config, log.recorded(console))
    document = dict(done.document)
    write(args.out / "diff.json", readable(document) + "\n")
    if args.json:
        said.document(document)
    else:
        said.say(diff_text(document, width=said.width(sys.stdout)))
    return done.exit


# ------------------------------------------------------------------ what was asked


def _settings(args: Namespace, more: Mapping[str, Any] | None = None) -> Settings:
    """What flags, file and profile say, in this order."""
    flags: dict[str, Any] = dict(more or {})
    for text in args.set or ():
        name, mark, value = text.partition("=")
        if not mark:
            raise UsageError(f"--set {text}: write KEY=VALUE, such as fuzz.runs=20")
        flags[name.strip()] = _toml(value.strip())
    for name in ("target", "seed", "baseline"):
        if (value := getattr(args, name, None)) not in (None, ""):
            flags[name] = str(value) if isinstance(value, Path) else value
    if getattr(args, "agents", None) is not None:
        flags["agents"] = args.agents
    if args.verb == "gate" and args.start is not None:
        flags["start"] = args.start
    for name in ("identity", "thresholds", "traces"):
        if getattr(args, name, None):
            flags[name] = tuple(map(str, _flat(getattr(args, name))))
    return configure.load(Path(), file=args.config, profile=args.profile or "", flags=flags)


def _flat(values: Any) -> list[Any]:
    """A flag that may be given several times, each time with several names."""
    found: list[Any] = []
    for value in values or ():
        found += value if isinstance(value, list) else [value]
    return found


def _toml(text: str) -> Any:
    """A value as it would stand in the file; words that are nothing else are strings."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text


def _need(settings: Settings) -> None:
    """:raises UsageError: for what can be seen to be wrong before anything starts."""
    from mcpconc import nemesis, schedule

    asked.need_git()
    target = resolve(settings.target)
    schedule.make(settings.fuzz.scheduler, 0)
    if schedule.is_controlled(settings.fuzz.scheduler):
        raise UsageError(f"fuzz.scheduler: {settings.fuzz.scheduler} needs `mcpconc fuzz`")
    nemesis.chosen([k for k in settings.faults.kinds if k != "all"], nemesis.KINDS)
    if settings.identity:
        asked.identities([settings.identity], target.identities)
    for start in (settings.start, settings.stress.start):
        if start != "auto":
            check_start(target, Start(start))
    Identity(target.identities[0])


def _baseline(args: Namespace, settings: Settings) -> Baseline:
    """The known findings; one that is to be written need not be there yet."""
    if getattr(args, "no_baseline", False) or not settings.baseline:
        return Baseline()
    path = Path(settings.baseline)
    writes = getattr(args, "update_baseline", False) or getattr(args, "baseline_from_traces", False)
    return Baseline(path) if writes and not path.exists() else read(path)


def _command() -> str:
    return shlex.join(["mcpconc", *sys.argv[1:]])


# ------------------------------------------------------------------ what comes of it


def _run(args: Namespace, config: GateConfig) -> Gated:
    from mcpconc import gate as gates

    wanted = _reports(args)
    if args.criteria is not None:
        criteria = importlib.import_module("mcpconc.report.markdown.criteria")
        criteria.check_markers(args.criteria)
    log.configure(args.out / log.NAME, verbose=args.verbose - args.quiet)
    with said.console(args) as console:
        done = anyio.run(gates.gate, config, log.recorded(_stages_only(console)))
    document = dict(done.document)
    write(args.out / "summary.json", readable(document) + "\n")
    if args.json:
        said.document(document)
    else:
        said.say(gate_text(document, width=said.width(sys.stdout)))
    for name in wanted:
        _report(args, name, document)
    if args.criteria is not None:
        criteria.write_criteria(document, args.criteria)
    if done.failure is not None:
        raise done.failure
    return done


def _stages_only(emit: Emit) -> Emit:
    """A stage's own last word is part of the gate's, and so are findings."""

    def tell(event: CampaignEvent) -> None:
        own = (CampaignFinished, SelftestFinished, TraceSaved)
        if not isinstance(event, own) and type(event).__name__ != "StressFinished":
            emit(event)

    return tell


def _reports(args: Namespace) -> list[str]:
    """:raises UsageError: for a report that there is not."""
    wanted = list(dict.fromkeys(_flat(args.report)))
    for name in wanted:
        if name not in REPORTS:
            raise UsageError(f"--report {name}: use {', '.join(REPORTS)}")
    return wanted


def _report(args: Namespace, name: str, document: Mapping[str, Any]) -> None:
    """Write one kind of report into the directory for them."""
    there = args.report_dir or args.out / "reports"
    there.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"mcpconc.report.{name}")
    if name == "markdown":
        made = module.write(document, there)
    elif name == "github":
        steps = os.environ.get("GITHUB_STEP_SUMMARY")
        file = Path(steps) if steps else there / "step-summary.md"
        with file.open("a", encoding="utf-8") as stream:
            stream.write(module.step_summary(document))
        annotations = module.annotations(document)
        made = [file, there / "annotations.txt"]
        write(made[1], annotations)
        if not args.json:
            said.say(annotations)
    else:
        made = [there / {"junit": "junit.xml", "sarif": "mcpconc.sarif"}[name]]
        write(made[0], getattr(module, name)(document))
    if not args.json and not args.quiet:
        said.say("".join(f"  written: {file}\n" for file in made))


def _written(args: Namespace, path: Path, baseline: Baseline) -> Exit:
    known = f"{len(baseline.findings)} findings and {len(baseline.thresholds)} thresholds"
    if args.json and args.baseline_from_traces:
        said.document({"baseline": str(path), "findings": len(baseline.findings)})
    elif not args.json:
        said.say(f"{path} lists {known} now; say in it why each is accepted\n")
    return Exit.PASSED
