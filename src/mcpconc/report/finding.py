"""The whole report of one finding: verdict, picture, reason, evidence, the next command."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mcpconc.oracle.base import Finding, Label
from mcpconc.report.lanes import lanes
from mcpconc.report.names import Names, name_things
from mcpconc.trace import Trace

__all__ = ["brief", "confirmation", "finding_report", "headline", "titled"]

MEANING = {
    Label.RACE: "no one-at-a-time order of these calls shows it",
    Label.CROSS_AGENT: "some one-at-a-time order of several agents shows it, no overlap needed",
    Label.SEQUENTIAL: "one agent alone shows it",
    Label.UNLABELLED: "nobody has tried yet whether it takes several agents, or overlap",
}


def titled(finding: Finding) -> str:
    """``lost task.status  goals_add_task ‖ goals_complete``"""
    f = finding.fingerprint
    what = f"{f.property} {f.kind}" + (f".{f.field}" if f.field else "")
    return (
        f"{what}  {(', ' if finding.label is Label.SEQUENTIAL else ' ‖ ').join(f.tools)}".rstrip()
    )


def headline(finding: Finding, trace: Trace) -> str:
    """The verdict line."""
    shrink, details = trace.shrink, []
    if shrink is not None:
        details.append(
            f"{shrink.from_calls} → {shrink.to_calls} calls"
            if shrink.to_calls
            else f"{trace.program.concurrent()} calls"
        )
        if not shrink.finished:
            details.append("not minimal yet")
        if shrink.of:
            details.append(f"reproduced {shrink.failed}/{shrink.of}")
    if trace.confirmed is not None:
        details.append(confirmation(trace.confirmed))
    details.append(finding.label.value)
    return f"✗ {titled(finding)}   ({', '.join(details)})"


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
    parts = [
        "\n".join(_wrap(headline(finding, trace), "", width)),
        picture + _legend(picture),
        "\n".join(_reason(finding, trace, names, width)),
        "\n".join(_evidence(finding, names, width)),
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


def _legend(picture: str) -> str:
    token = re.search(r"#(\d+\.\d+)", picture)
    return f"\n  #{token[1]}: a text that call {token[1]} sent and no other" if token else ""


def _conditions(trace: Trace) -> str:
    target = f"{trace.target} {trace.target_version}".strip()
    return ", ".join(filter(None, (target, f"{trace.identity} identity", trace.scheduler)))


def _reason(finding: Finding, trace: Trace, names: Names, width: int) -> Iterator[str]:
    yield from _wrap(names.text(finding.summary), "  ", width)
    for line in finding.reason:
        body = line.lstrip()
        yield from _wrap(names.text(body), "  " + " " * (len(line) - len(body)), width)
    basis = f" ({trace.label_basis})" if trace.label_basis else ""
    if finding.label is Label.SEQUENTIAL:
        basis = ""
    yield from _wrap(f"{finding.label.value}: {MEANING[finding.label]}{basis}", "  ", width)
    yield from _wrap(f"seen on {_conditions(trace)}", "  ", width)


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
