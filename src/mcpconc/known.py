"""What a baseline says of the findings of a gate, and the findings of its entries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from mcpconc.baseline import Baseline, Known
from mcpconc.errors import McpconcError, UsageError
from mcpconc.events import Kept
from mcpconc.minimise import fault_names, involved_tools
from mcpconc.oracle.base import Finding, Fingerprint, Label
from mcpconc.trace import Trace, load

__all__ = ["Entry", "Met", "entry_of", "kept_reasons", "matching", "met", "needed", "settled"]

DOUBT = 0.01
"""A known finding is gone when luck explains its absence less often than this."""

NO_RACE = (Label.SEQUENTIAL, Label.CROSS_AGENT, Label.UNLABELLED)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of an entry: ``found``, ``stale``, ``expired`` or ``not judged``. Its trace
    failed in `failed` of `of` replays."""

    known: Known
    status: str
    why: str = ""
    failed: int = 0
    of: int = 0

    @property
    def fails(self) -> bool:
        return self.status in ("stale", "expired")


def matching(
    finding: Finding,
    known: Sequence[Known],
    involved: Sequence[str] | None = None,
    faults: Sequence[str] = (),
) -> Known | None:
    """The entry that lists a finding.

    The whole fingerprint counts. A sequential defect is the same however it was met, so there its
    head is enough. What is not minimal yet, and of which `involved` are all tools that it may need,
    is the same as a listed finding with the same head whose tools are among them; of a sequential
    one, which is less minimal, it is enough if it has one of them. What is listed under a fault is
    not the same without it, and what is listed without is the same also where a fault made it more
    likely: `faults` are those that the finding, not minimal, may need. An entry that stands for all
    that is `alike` need not have the same kind or tools, nor, under a fault, the same field.
    """
    mine = finding.fingerprint
    under = {*(mine.faults if involved is None else faults)}
    for entry in known:
        theirs = entry.stands_for()
        if theirs == mine:
            return entry
    for entry in known:
        theirs = entry.stands_for()
        if not {*theirs.faults} <= under:
            continue
        if entry.alike and _alike(theirs, mine) and finding.label in (entry.label, *NO_RACE):
            return entry
        if theirs.head() != mine.head():
            continue
        if theirs.tools == mine.tools:
            return entry
        alone = entry.label == Label.SEQUENTIAL.value
        if alone and finding.label is Label.SEQUENTIAL:
            return entry
        if involved is None or not theirs.tools:
            continue
        common = {*theirs.tools} & {*involved}
        if common == {*theirs.tools} or (alone and common):
            return entry
    return None


def _alike(theirs: Fingerprint, mine: Fingerprint) -> bool:
    """Whether the same property is broken, of anything while a fault lasts, and else, by a call
    that is bad in the same way, of any tool."""
    same = (theirs.oracle, theirs.property) == (mine.oracle, mine.property)
    return same and (bool(theirs.faults) or theirs.field == mine.field)


def needed(rate: float) -> int:
    """Replays without a failure after which something that fails with this rate is gone."""
    if rate <= 0:
        return 0
    return 1 if rate >= 1 else math.floor(math.log(DOUBT) / math.log(1 - rate)) + 1


def settled(
    baseline: Baseline,
    found: Iterable[str],
    replays: Mapping[str, tuple[int, int]],
    today: date,
    unread: Mapping[str, str] | None = None,
) -> tuple[Entry, ...]:
    """What became of each entry. `found` are fingerprints of entries that this gate met, `replays`
    says in how many of how many replays the trace of an entry failed, `unread` of which entries no
    trace could be read, and why."""
    seen, unread = set(found), unread or {}
    entries = []
    for known in baseline.findings:
        name = known.fingerprint
        failed, of = replays.get(name, (0, 0))
        if known.expires is not None and known.expires < today:
            status, why = "expired", f"it was accepted until {known.expires.isoformat()}"
        elif name in unread:
            status, why = "stale", unread[name]
        elif name in seen or failed:
            status, why = "found", ""
        elif not known.rate():
            status, why = "not judged", "nobody has recorded how often its trace fails"
        elif of >= needed(known.rate()):
            odds = (1 - known.rate()) ** of
            status, why = "stale", f"0 of {of} replays failed; by chance in {odds:.1%} of cases"
        else:
            why = f"0 of {of} replays failed; {needed(known.rate())} would tell"
            status, why = "not judged", why if of else "its trace was not replayed"
        entries.append(Entry(known, status, why, failed, of))
    return tuple(entries)


def entry_of(trace: Trace, path: str, reason: str) -> Known:
    """The entry that lists a trace. `path` leads to it from the baseline file.

    :raises UsageError: if the trace holds no finding.
    """
    finding, shrink = trace.finding, trace.shrink
    if finding is None:
        raise UsageError(f"{trace.path}: holds no finding that a baseline could list")
    f = finding.fingerprint
    return Known(
        fingerprint=f.digest(),
        oracle=f.oracle,
        property=f.property,
        kind=f.kind,
        field=f.field,
        tools=f.tools,
        faults=f.faults,
        label=finding.label.value,
        title=f.title(),
        trace=path,
        failed=shrink.failed if shrink else 0,
        of=shrink.of if shrink else 0,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class Met:
    """A finding that a gate met. `involved` are the tools and `faults` the faults that it may need;
    `involved` is None where it is minimal, and its fingerprint has them. `counts` is False where
    only forked calls showed it."""

    finding: Finding
    path: Path | None
    involved: tuple[str, ...] | None = None
    faults: tuple[str, ...] = ()
    times: int = 1
    counts: bool = True


def met(kept: Kept) -> Met:
    """A finding that a campaign kept. Its trace says whether it is minimal."""
    trace, involved = _loaded(kept.path), None
    faults: tuple[str, ...] = ()
    shrink = trace.shrink if trace is not None else None
    # What did not come back could not be made smaller either.
    minimal = shrink is not None and shrink.finished and shrink.failed > 0
    if kept.finding.label is not Label.SEQUENTIAL and not minimal and trace is not None:
        involved = involved_tools(trace.program, kept.finding)
        involved = involved or tuple(sorted({call.tool for call in trace.program.calls()}))
        faults = fault_names(trace.program)
    return Met(kept.finding, kept.path, involved, faults, kept.times, kept.counts)


def _loaded(path: Path | None) -> Trace | None:
    try:
        return None if path is None else load(path)
    except McpconcError:
        return None


def kept_reasons(fresh: Known, old: Baseline) -> Known:
    """An entry with the reason and expiry that the same one has had."""
    for known in old.findings:
        if known.fingerprint == fresh.fingerprint:
            best = max(known, fresh, key=lambda entry: entry.of)
            return replace(
                fresh,
                reason=known.reason,
                expires=known.expires,
                alike=known.alike,
                failed=best.failed,
                of=best.of,
            )
    return fresh
