"""The whole report of one finding: verdict, picture, reason, evidence, the next command."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcpconc.label import none_shows
from mcpconc.oracle.base import Finding, Label
from mcpconc.report.lanes import lanes
from mcpconc.report.names import Names, name_things
from mcpconc.report.schedule import inside, switched
from mcpconc.trace import Trace

__all__ = ["brief", "confirmation", "finding_report", "headline", "titled"]

MEANING = {
    Label.RACE: "it needs overlap",
    Label.CROSS_AGENT: "several agents, no overlap needed",
    Label.SEQUENTIAL: "no overlap and no second agent needed",
    Label.UNLABELLED: "nobody has tried yet whether it takes several agents, or overlap",
}

APART = (Label.SEQUENTIAL, Label.CROSS_AGENT)
"""Findings with these labels need no overlap."""


def titled(finding: Finding) -> str:
    """``lost task.status  goals_add_task ‖ goals_complete``"""
    return finding.fingerprint.title(", " if finding.label in APART else " ‖ ")


def headline(finding: Finding, trace: Trace) -> str:
    """The verdict line."""
    shrink, details = trace.shrink, []
    if shrink is not None:
        apart = shrink.to_calls and finding.label in APART
        concurrent = 0 if apart else trace.program.concurrent()
        details.append(_size(shrink.from_calls, shrink.to_calls, concurrent))
        if not shrink.finished:
            details.append("not minimal yet")
        if shrink.of:
            details.append(f"reproduced {shrink.failed}/{shrink.of}")
    if trace.schedule:
        turns = switched(trace.schedule)
        details.append(f"schedule {turns} switch{'es' * (turns != 1)}")
    if trace.confirmed is not None:
        details.append(confirmation(trace.confirmed))
    details.append(finding.label.value)
    mark = "✗" if finding.promised else "·"
    return f"{mark} {titled(finding)}   ({', '.join(details)})"


def _size(before: int, after: int, concurrent: int) -> str:
    """What is counted is the concurrent calls, and all where none is concurrent any more."""
    if not after or before == after == concurrent:
        return f"{concurrent} concurrent calls"
    if concurrent:
        return f"{before} → {after} concurrent calls"
    return f"{before} concurrent → {after} calls"


def confirmation(tries: tuple[int, int]) -> str:
    """What became of a finding that was met in a run whose calls were forked."""
    seen, tried = tries
    said = "confirmed" if seen else "not confirmed"
    return f"{said} with ordinary starts" + (f" {seen}/{tried}" if tried else " yet")


def finding_report(trace: Trace, path: Path | None = None, *, width: int = 100) -> str:
    """Everything about the finding that `trace` was kept for, as text of at most `width`
    columns; a trace without one is drawn and says so. Ends with a newline."""
    where = path or trace.path
    finding = trace.finding
    names = name_things(trace.program, trace.history)
    focus = finding.calls if finding else ()
    picture = lanes(trace.program, trace.history, names, focus=focus, width=width)
    if finding is None:
        state = "a run that found nothing" if trace.complete else "a run that was cut off"
        return f"  {state}   ({_conditions(trace)})\n\n{picture}\n"
    reason = "\n".join(_reason(finding, trace, names, width))
    evidence = "\n".join(_evidence(finding, names, width))
    parts = [
        "\n".join(_wrap(headline(finding, trace), "", width)),
        "\n".join([picture, *_legend(trace, picture, reason + evidence, width)]),
        reason,
        "\n".join(_inside(trace, names, width)),
        evidence,
        "\n".join(_others(trace, names, width)),
    ]
    if where is not None:
        parts.append(f"  mcpconc replay {where}\n  mcpconc show {where}")
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(trace: Trace, path: Path, *, width: int = 100) -> str:
    """A finding in three lines, for what needs no picture. Ends with a newline."""
    finding = trace.finding
    if finding is None:
        return f"{path}\n"
    names = name_things(trace.program, trace.history)
    summary = _wrap(names.text(finding.summary), "  ", width)
    return "\n".join([*_wrap(headline(finding, trace), "", width), *summary, f"  {path}\n"])


def _legend(trace: Trace, picture: str, told: str, width: int) -> Iterator[str]:
    """What the names mean. The example is the one that is spoken of, if any is."""
    pattern = r"#(\d+\.\d+)"
    calls = trace.finding.calls if trace.finding else ()
    shown = list(re.finditer(pattern, picture))
    token = next((t for t in re.finditer(pattern, told) if t[0] in picture), None)
    token = token or next((t for t in shown if t[1] in calls), shown[0] if shown else None)
    if token:
        yield from _wrap(
            f'"{token[0]}": a text that only call {token[1]} sent; where it turns up, call '
            f"{token[1]} wrote it",
            "  ",
            width,
        )
    # Whoever shrinks a run renumbers agents, and not calls.
    moved = [c for c in trace.program.calls() if c.id.split(".")[0] != str(c.agent)]
    if moved and f" {moved[-1].id} " in picture:
        yield from _wrap(
            f"{moved[-1].id} is only a name: that call was sent by agent {moved[-1].agent}",
            "  ",
            width,
        )


def _conditions(trace: Trace) -> str:
    target = f"{trace.target} {trace.target_version}".strip()
    scheduler = f"scheduler {trace.scheduler}" if trace.scheduler else ""
    if trace.schedule:
        scheduler = "the schedule below"
    faults = " and ".join(f"{fault.name} at {fault.call}" for fault in trace.program.faults)
    weather = f"under {faults}" if faults else ""
    return ", ".join(filter(None, (target, f"{trace.identity} identity", scheduler, weather)))


def _reason(finding: Finding, trace: Trace, names: Names, width: int) -> Iterator[str]:
    yield from _wrap(names.text(finding.summary), "  ", width)
    for line in finding.reason:
        body = line.lstrip()
        yield from _wrap(names.text(body), "  " + " " * (len(line) - len(body)), width)
    label = f"{finding.label.value}: {MEANING[finding.label]}{_basis(finding.label, trace)}"
    yield from _wrap(label, "  ", width)
    yield from _wrap(f"seen with: {_conditions(trace)}", "  ", width)
    for met in trace.faults:
        yield from _wrap(_met(met), "  ", width)


def _met(met: Mapping[str, Any]) -> str:
    """What became of a fault (`mcpconc.oracle.storms.Met`), and of the calls that it cut short."""
    told = f"{met['fault']} at {met['call']}, recovery: {met['outcome'] or 'not asked'}"
    for torn in met.get("torn", ()):
        there, missing = ", ".join(torn["there"]), ", ".join(torn["missing"])
        told += f"; {torn['call']} {torn['tool']} left {there} and not {missing}"
    return told


def _basis(label: Label, trace: Trace) -> str:
    """How the label was decided, where that says more than the label."""
    basis = trace.label_basis
    if label is Label.UNLABELLED:
        return f" ({basis})" if basis else ""
    if label is Label.CROSS_AGENT:
        return "; it happens with the calls above sent one at a time"
    if label is not Label.RACE or not basis:
        return ""
    # So it stands in traces of former days.
    old = re.fullmatch(
        r"not shown by (?:all )?(\d+)(?: sampled of (\d+))? one-at-a-time orders", basis
    )
    if old:
        basis = none_shows(int(old[1]), int(old[2] or old[1]))
    return f". {basis[0].upper()}{basis[1:]}."


def _inside(trace: Trace, names: Names, width: int) -> Iterator[str]:
    """Who stood where when another went on, where the schedule was controlled."""
    if trace.schedule:
        yield '  inside the calls ("up to" a step: that was done, the next was not)'
        finding = trace.finding
        about = [finding.fingerprint.kind, finding.summary, *finding.reason] if finding else []
        for line in inside(trace.schedule, trace.program, " ".join(about)):
            yield from _wrap(names.text(line), "    ", width)


def _evidence(finding: Finding, names: Names, width: int) -> Iterator[str]:
    evidence = finding.evidence
    if evidence.get("count") == 1 and len(evidence.get("instances", ())) == 1:
        evidence = evidence["instances"][0]
    if evidence:
        yield "  evidence"
    key_width = max((len(key) for key in evidence), default=0)
    for key, value in evidence.items():
        said = names.data(value)
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        yield from _wrap(
            f"{key.ljust(key_width)}  {text}", "    ", width, hang=key_width + 2, lines=4
        )


def _others(trace: Trace, names: Names, width: int) -> Iterator[str]:
    others = trace.findings[1:]
    for other in others[:3]:
        yield from _wrap(
            f"also in this run: {titled(other)}: {names.text(other.summary)}",
            "  ",
            width,
            lines=2,
        )
    if len(others) > 3:
        yield f"  and {len(others) - 3} more"


def _wrap(
    text: str, indent: str, width: int, *, hang: int = 2, lines: int | None = None
) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * hang,
        break_on_hyphens=False,
        max_lines=lines,
        placeholder=" …",
    )
