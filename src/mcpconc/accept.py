"""Writing a baseline: what a gate found, or what saved traces hold, becomes known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mcpconc.baseline import Baseline, Known, Tolerated, render
from mcpconc.errors import UsageError
from mcpconc.gate import NEW, Gated
from mcpconc.jsontext import write
from mcpconc.known import Entry, entry_of, kept_reasons
from mcpconc.trace import load

__all__ = ["from_gate", "from_traces", "save"]

TOLERANCE = 0.1
"""A missed threshold may be worse by this share of what it was."""


def from_traces(old: Baseline, path: Path, roots: Sequence[Path], reason: str) -> Baseline:
    """A baseline at `path` that lists every saved trace in `roots`, and what `old` lists besides.
    What `old` says of them stays: reason, expiry, and the rate where it comes from more runs.

    :raises UsageError: if a trace cannot be read or holds no finding.
    """
    fresh = [
        kept_reasons(entry_of(load(file.parent), _from(path, file.parent), reason), old)
        for root in roots
        for file in sorted(root.glob("*/trace.json"))
    ]
    return Baseline(path, tuple(_together(fresh, old.findings)), old.thresholds)


def from_gate(
    gated: Gated, old: Baseline, path: Path, kept: Sequence[Path], reason: str
) -> Baseline:
    """A baseline at `path` with which this gate, held against `old`, would have passed. Traces of
    new findings are copied to the first of `kept` unless they are in one of these. Entries that are
    stale are dropped, and those that have expired stay so, for somebody to decide. Where nobody had
    recorded how often a trace fails, this gate's replays are. What only forked calls have shown is
    not listed.

    :raises UsageError: if a trace cannot be copied or read.
    """
    known = [_counted(entry) for entry in gated.entries if entry.status != "stale"]
    fresh = []
    for finding in gated.document["findings"]:
        if finding["status"] != NEW:
            continue
        if finding["trace"] is None:
            raise UsageError(f"{finding['title']}: has no trace, so it cannot be listed")
        there = _copied(Path(finding["trace"]), kept)
        fresh.append(entry_of(load(there), _from(path, there), reason))
    missed = [
        Tolerated(expr=t["expr"], value=t["actual"], tolerance=TOLERANCE, reason=reason)
        for t in gated.document["thresholds"]
        # What is new is listed now, so there is nothing to tolerate.
        if t["passed"] is False and t["listed"] is None and not t["expr"].startswith("violations.")
    ]
    names = {t.expr for t in missed}
    return Baseline(
        path,
        tuple(_together(fresh, known)),
        (*(t for t in old.thresholds if t.expr not in names), *missed),
    )


def _counted(entry: Entry) -> Known:
    if not entry.failed or entry.known.rate():
        return entry.known
    return replace(entry.known, failed=entry.failed, of=entry.of)


def save(baseline: Baseline) -> Path:
    """Write the file.

    :raises UsageError: if that cannot be done.
    """
    assert baseline.path is not None
    try:
        baseline.path.parent.mkdir(parents=True, exist_ok=True)
        write(baseline.path, render(baseline))
    except OSError as error:
        raise UsageError(f"cannot write {baseline.path}: {error.strerror or error}") from error
    return baseline.path


def _together(fresh: Iterable[Known], old: Iterable[Known]) -> list[Known]:
    """Those, and of the old ones what is not among them."""
    found = {known.fingerprint: known for known in old}
    found |= {known.fingerprint: known for known in fresh}
    return list(found.values())


def _from(path: Path, trace: Path) -> str:
    """The way from the baseline file to a trace."""
    return Path(os.path.relpath(trace.resolve(), path.parent.resolve())).as_posix()


def _copied(trace: Path, kept: Sequence[Path]) -> Path:
    """Where the trace is kept."""
    if any(trace.resolve().is_relative_to(root.resolve()) for root in kept):
        return trace
    there = kept[0] / trace.name
    try:
        shutil.copytree(trace, there, dirs_exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot keep {trace} in {kept[0]}: {error}") from error
    return there
