"""What judging costs: read histories from files, decide each, measure.

Files are Jepsen's register logs, key-value logs (see `published`), and runs of our own: traces,
or the directories of runs. Only the decision is timed, not the reading.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mcpconc import published
from mcpconc.errors import TraceError, UsageError
from mcpconc.linearize.product import components, product, searchable
from mcpconc.linearize.search import SLICE, decide
from mcpconc.model.base import Partition
from mcpconc.recheck import spec_of
from mcpconc.trace import load
from mcpconc.verdict import Verdict

__all__ = ["Case", "Judged", "cases", "judge"]

LOGS = (".log", ".txt")
OWN = ("trace.json", "run.json", "history.jsonl")


@dataclass(frozen=True, slots=True)
class Case:
    """A history that was read: its calls, and the objects to judge. `kind` is ``register``,
    ``kv`` or ``run``."""

    path: Path
    kind: str
    operations: int
    partitions: Sequence[Partition]


@dataclass(frozen=True, slots=True)
class Judged:
    """What deciding a case cost: steps of the search, different states, seconds of processor
    time. `peak_mb` is the most memory that this process held so far. `apart` counts the sets of
    objects joined by calls on which the search together gave up; they were judged one by one.
    """

    case: Case
    verdict: Verdict
    apart: int
    steps: int
    states: int
    seconds: float
    peak_mb: float


def cases(paths: Sequence[Path], *, whole: bool = False) -> Iterator[Case]:
    """The histories in these files and directories, which are searched to any depth for logs
    (``*.log``, ``*.txt``) and runs. Empty logs do not count. With `whole`, the keys of a
    key-value log are one object.

    :raises UsageError: if there is nothing at a path, or a log is not understood.
    """
    for path in paths:
        if path.is_dir():
            found = list(chain.from_iterable(_case(file, whole) for file in _inside(path)))
            if not found:
                raise UsageError(f"no history in {path}: no log that is understood, and no trace")
            yield from found
        else:
            yield from _case(path, whole)


def judge(case: Case, budget: int, max_time: float) -> Judged:
    """Decide a case, within `budget` steps for each object and about `max_time` seconds."""
    start = time.process_time()

    def expired() -> bool:
        return time.process_time() - start > max_time

    verdict, steps, states, apart = Verdict.OK, 0, 0, 0
    for _, found in decide(case.partitions, budget, SLICE, brief=True, expired=expired):
        verdict = max(verdict, found.verdict)
        steps += found.steps
        states += found.states
        if verdict is Verdict.VIOLATION:
            break
    for members in components(case.partitions) if verdict is Verdict.OK else ():
        if not searchable(members):
            apart += 1
            continue
        for _, found in decide([product(members)], budget, SLICE, brief=True, expired=expired):
            steps += found.steps
            states += found.states
            apart += found.verdict is Verdict.UNKNOWN
            if found.verdict is Verdict.VIOLATION:
                verdict = Verdict.VIOLATION
    seconds = time.process_time() - start
    return Judged(case, verdict, apart, steps, states, seconds, _peak_mb())


def _inside(directory: Path) -> Iterator[Path]:
    """Logs that are understood, and one file of each run. What else lies in the directory of a
    run belongs to the run."""
    for folder, folders, files in os.walk(directory):
        folders.sort()
        own = next((name for name in OWN if name in files), None)
        if own is not None:
            folders.clear()
            yield Path(folder, own)
            continue
        for name in sorted(files):
            file = Path(folder, name)
            if file.suffix in LOGS and published.recognised(file.read_text(errors="replace")):
                yield file


def _case(file: Path, whole: bool) -> Iterator[Case]:
    if file.name in OWN:
        trace = load(file.parent)
        spec = spec_of(trace.target)
        if spec is None:
            raise UsageError(f"{file.parent}: the target {trace.target} has no model to judge by")
        operations = trace.history.operations
        yield Case(file.parent, "run", len(operations), spec.partitions(operations, trace.after))
        return
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(
            f"cannot read {file}: {getattr(error, 'strerror', None) or error}"
        ) from error
    found = published.read(str(file), text, whole=whole)
    if found is not None:
        yield Case(file, found.kind, found.operations, found.partitions)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
