"""What was asked: what can be wrong with a request is found before anything starts."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mcpconc.errors import Exit, McpconcError, TargetError, UsageError
from mcpconc.lineup.orders import MOST_CALLS, MOST_LANES
from mcpconc.lineup.same import Volatile
from mcpconc.report.console import tell
from mcpconc.strategies import CascadeMachine, ProgramMachine
from mcpconc.target.base import Identity
from mcpconc.target.reference import PREFIX
from mcpconc.trace import Trace, find, load

__all__ = [
    "agents",
    "calls",
    "identities",
    "itself",
    "load_all",
    "machine",
    "need_git",
    "roots",
    "spec",
    "worse",
    "writable",
]

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


def need_git() -> None:
    if shutil.which("git") is None:
        raise TargetError("git is not on PATH; worlds are git repositories, so please install it")


def spec(target: str, plant: str) -> str:
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


def agents(wanted: int | None, model: str) -> int:
    if model != "self":
        return wanted or 5
    if wanted is not None and wanted > MOST_LANES:
        raise UsageError(
            f"--agents {wanted}: with --model self every order of the calls is run, which "
            f"{MOST_LANES} agents at most allow"
        )
    return wanted or MOST_LANES


def calls(wanted: int | None, model: str, control: bool) -> int:
    if model != "self":
        return wanted or (4 if control else 12)
    if wanted is not None and wanted > MOST_CALLS:
        raise UsageError(
            f"--calls {wanted}: with --model self every order of the calls is run, which "
            f"{MOST_CALLS} calls at most allow"
        )
    return wanted or 4


def itself(args: Namespace) -> Volatile | None:
    """What is volatile where the target is its own model; None where it is not."""
    if args.model == "self":
        return Volatile(
            values=frozenset(path for paths in args.volatile or () for path in paths),
            steady=frozenset(path for paths in args.steady or () for path in paths),
        )
    if args.volatile or args.steady:
        raise UsageError("--volatile and --steady are for --model self")
    return None


def writable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {error.strerror or error}; choose another --out"
        ) from error


def identities(
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


def machine(name: str) -> type[ProgramMachine]:
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


def roots(args: Namespace) -> list[Path]:
    """Where traces are looked up by name."""
    out = [args.out / "traces"] if getattr(args, "out", None) else []
    return list(dict.fromkeys([Path("traces"), *out, Path("out/traces")]))


def load_all(args: Namespace) -> tuple[list[Trace], list[str]]:
    """All traces that can be read, and why the others cannot: one that is damaged does not
    keep the rest from being used."""
    traces: list[Trace] = []
    problems: list[McpconcError] = []
    for name in args.trace:
        try:
            traces.append(load(find(name, roots(args))))
        except McpconcError as error:
            problems.append(error)
    if not traces:
        raise problems[0]
    for problem in problems if not args.json else ():
        tell(sys.stderr, f"mcpconc: {problem}\n")
    return traces, [str(problem) for problem in problems]


def worse(one: Exit, other: Exit) -> Exit:
    return max(one, other, key=SEVERITY.index)
