"""The end of a campaign in some twenty lines: what was found, what was not tried, where it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mcpconc.errors import Exit
from mcpconc.events import CampaignFinished, Covered, Kept
from mcpconc.oracle.base import Label
from mcpconc.oracle.storms import MISSED
from mcpconc.report.costs import costs_table
from mcpconc.report.finding import MEANING, confirmation, titled

__all__ = ["VERDICTS", "duration", "summary", "wrap"]

ORDER = (Label.RACE, Label.CROSS_AGENT, Label.UNLABELLED, Label.SEQUENTIAL)

VERDICTS = {
    Exit.PASSED: "PASSED",
    Exit.VIOLATION: "VIOLATION",
    Exit.INCONCLUSIVE: "INCONCLUSIVE",
    Exit.TARGET: "TARGET UNUSABLE",
    Exit.INTERRUPTED: "INTERRUPTED",
}


def summary(done: CampaignFinished, *, width: int = 100) -> str:
    """Ends with a newline. Long lines are wrapped, but a path is never cut."""
    lines = [wrapped for line in _lines(done) for wrapped in wrap(line, width)]
    if done.costs is not None:
        lines[-1:-1] = costs_table(done.costs)
    return "\n".join(lines) + "\n"


def wrap(line: str, width: int) -> list[str]:
    """A line in as many as it needs, further ones indented more; a path is never cut."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(done: CampaignFinished) -> Iterator[str]:
    found = len(done.kept)
    yield f"{found or 'no'} finding{'' if found == 1 else 's'} in {duration(done.seconds)}"
    for label in ORDER:
        kept = [e for e in done.kept if e.finding.label is label and e.finding.promised]
        if kept:
            yield f"  {label.value}: {MEANING[label]}"
        for entry in kept:
            yield from _finding(entry)
    yield from _unpromised([entry for entry in done.kept if not entry.finding.promised])
    if done.never:
        yield f"  never succeeded: {', '.join(done.never)}"
    if done.unused:
        yield f"  never called: {', '.join(done.unused)}"
    for line in done.undecided:
        yield f"  undecided: {line}"
    if done.runs and done.overlap_max < 2:
        yield "  no two calls ever overlapped: no race could have shown"
    yield (
        f"  {done.runs} programs, {done.calls} calls, overlap {done.overlap:.1f} avg /"
        f" {done.overlap_max} max, {done.unknown} undecided, {done.infra} infra"
    )
    if done.coverage is not None:
        yield from _coverage(done.coverage)
    yield from _faults(done)
    if found:
        yield f"  traces in {done.out / 'traces'}"
    first = next((entry.path for entry in done.kept if entry.path), None)
    if first is not None:
        yield f"  mcpconc show {first}"
    verdict = VERDICTS.get(done.exit, done.exit.name)
    yield f"{verdict} · {done.stop} · seed {done.seed} · exit {done.exit.value}"


def _unpromised(kept: Sequence[Kept]) -> Iterator[str]:
    """What breaks although nothing promised it: no violation, and apart from those."""
    if kept:
        yield "  expectations that the identity mode does not promise, and that break:"
    for entry in kept:
        yield f"    · {entry.finding.summary}"
        yield f"      {titled(entry.finding)}   ({entry.finding.label.value}, {_facts(entry)})"
        yield f"      {entry.path or 'no trace could be written'}"


def _coverage(seen: Covered) -> Iterator[str]:
    yield (
        f"  coverage: {seen.pairs} of {seen.possible} orders of conflicting statements,"
        f" {seen.exhausted} of {seen.programs} different programs exhausted"
    )
    if seen.learning:
        yield (
            f"  {seen.learning} more {'run' if seen.learning == 1 else 'runs'}, one call at a time"
            " and not judged, to learn what tools touch"
        )


def _faults(done: CampaignFinished) -> Iterator[str]:
    """What became of each fault, the worst last: ``kill-server  12× after a restart``."""
    if done.faults:
        yield "  faults, and how the target recovered:"
    width = max((len(toll.fault) for toll in done.faults), default=0)
    for toll in done.faults:
        classes = [f"{times}× {recovery}" for recovery, times in toll.ranked().items()]
        classes += [f"{toll.missed}× {MISSED}"] if toll.missed else []
        yield f"    {toll.fault.ljust(width)}  {', '.join(classes)}"
        for (tool, there, missing), calls in toll.torn.most_common():
            yield (
                f"      {calls}× half done: {tool} left {', '.join(there)} and not "
                f"{', '.join(missing)}"
            )
        for what, runs in toll.lost.most_common():
            yield f"      {runs}× lost: {what}"


def _finding(entry: Kept) -> Iterator[str]:
    mark = "✗" if entry.counts else "?"
    yield f"    {mark} {titled(entry.finding)}   ({_facts(entry)})"
    yield f"      {entry.path or 'no trace could be written'}"


def _facts(entry: Kept) -> str:
    facts = [f"seen {entry.times}×"]
    if 0 < entry.to_calls < entry.from_calls:
        facts.append(f"{entry.from_calls} → {entry.to_calls} calls")
    if entry.confirmed is not None:
        facts.append(confirmation(entry.confirmed))
    return ", ".join(facts)


def duration(seconds: float) -> str:
    """``2m 05s``, ``7s``"""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
