"""What a gate or a stress run came to, for people: a function of the summary document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcpconc.errors import Exit
from mcpconc.report.summary import VERDICTS, duration, wrap

__all__ = ["gate_text"]

Document = Mapping[str, Any]

MARKS = {True: "✓", False: "✗", None: "?"}
PHASES = ("scenario", "agents", "world", "settings", "calls", "/s", "p50", "p95", "max", "errors")
LEFT = {"scenario", "world", "settings"}
SHOWN = 5
"""Entries that are named of those that nothing was found out about."""


def gate_text(document: Document, *, width: int = 100) -> str:
    """Ends with a newline. Long lines are wrapped, but a path is never cut."""
    parts = [
        [*_head(document), *_stages(document)],
        list(_thresholds(document)),
        list(_phases(document)),
        list(_slowdown(document)),
        list(_findings(document)),
        list(_baseline(document)),
        list(_traces(document)),
        list(_left_open(document)),
        [_verdict(document)],
    ]
    lines: list[str] = []
    for part in filter(None, parts):
        lines += ["", *part] if lines else part
    return "\n".join(out for line in lines for out in _wrapped(line, width)) + "\n"


def _wrapped(line: str, width: int) -> list[str]:
    # A row of a table is not prose.
    return [line] if len(line) <= width else wrap(line, width)


def _head(document: Document) -> Iterator[str]:
    target, made, profile = document["target"], document["made_by"], document["profile"]
    what = f"{target['name']} {target['version']}".strip()
    yield (
        f"{document['kind']} {profile['name']} of {what} in {duration(made['seconds'])},"
        f" seed {made['seed']}"
    )


def _stages(document: Document) -> Iterator[str]:
    """A line for each stage that ran, and one for what was left out."""
    health, canary, fuzz = document["doctor"], document["canary"], document["fuzz"]
    if health is not None:
        notes = sum(check["state"] != "ok" for check in health["checks"])
        yield f"  doctor  {len(health['checks'])} questions, {notes} worth a look"
    if canary is not None:
        yield f"  canary  {canary['caught']} of {canary['of']} planted bugs caught"
    if document["traces"]:
        counts = Counter(trace["status"] for trace in document["traces"])
        yield f"  traces  {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}"
    for name, part in (("fuzz", fuzz), ("faults", document.get("faulty"))):
        if part is not None:
            overlap = part["overlap"]
            yield (
                f"  {name.ljust(6)}  {part['programs']} programs, {part['calls']} calls, overlap"
                f" {overlap['mean']:.1f} avg / {overlap['max']} max, {part['undecided']} undecided"
                f" ({part['stop']})"
            )
    for name, outcomes in document["faults"].items():
        yield f"    {name}  {', '.join(f'{n}× {how}' for how, n in outcomes.items())}"
    if document["phases"]:
        calls, phases = sum(phase["calls"] for phase in document["phases"]), len(document["phases"])
        yield f"  stress  {phases} phase{'s' * (phases != 1)}, {calls} calls"
    for name in document["skipped"]:
        yield f"  left out: {name} (--skip {name})"


def _thresholds(document: Document) -> Iterator[str]:
    thresholds = document["thresholds"]
    if not thresholds:
        return
    width = max(len(t["expr"]) for t in thresholds)
    yield "thresholds"
    for t in thresholds:
        mark = "·" if t["listed"] else MARKS[t["passed"]]
        yield f"  {mark} {t['expr'].ljust(width)}  {_measured(t)}".rstrip()


def _measured(t: Mapping[str, Any]) -> str:
    if t["passed"] is None:
        return str(t["why"])
    text = f"{t['actual']:.4g}{_unit(t['unit'])}"
    text += f" in {t['where']}" if t["where"] else ""
    if t["listed"]:
        text += f"; known to be missed ({t['listed']['value']:g}): {t['listed']['reason']}"
    elif t["why"]:
        text += f"; {t['why']}"
    return text


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _phases(document: Document) -> Iterator[str]:
    """A row for each phase; a percentile of too few calls is a dash."""
    rows = [_row(phase) for phase in document["phases"]]
    if not rows:
        return
    several = {phase["settings"] for phase in document["phases"]} != {"default"}
    keep = [n for n, name in enumerate(PHASES) if name != "settings" or several]
    widths = {n: max(len(row[n]) for row in [PHASES, *rows]) for n in keep}
    for row in [PHASES, *rows]:
        cells = [
            row[n].ljust(widths[n]) if PHASES[n] in LEFT else row[n].rjust(widths[n]) for n in keep
        ]
        yield "  " + "  ".join(cells).rstrip()
    yield "  latencies in seconds; – is not measured, for too few calls"


def _row(phase: Mapping[str, Any]) -> tuple[str, ...]:
    latency, errors = phase["latency"], (phase.get("rates") or {}).get("errors")
    return (
        phase["scenario"],
        str(phase["agents"]),
        phase["placement"],
        phase["settings"],
        str(phase["calls"]),
        _number(phase["throughput"]),
        *(_number(latency[name] and latency[name]["value"]) for name in ("p50", "p95")),
        _number(latency["max"]),
        "–" if errors is None else f"{errors:.1%}",
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _slowdown(document: Document) -> Iterator[str]:
    """More agents against one, and against as many in worlds of their own."""
    entries = [e for e in document["slowdown"] if e["raw"] or e["shared"]]
    if entries:
        yield "slower than one agent, and than as many in worlds of their own"
    width = max((len(entry["scenario"]) for entry in entries), default=0)
    for entry in entries:
        yield (
            f"  {entry['scenario'].ljust(width)}  {entry['agents']:>3} agents"
            f"  {_estimate(entry['raw'])}, {_estimate(entry['shared'])}  (n = {entry['n']})"
        )


def _estimate(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "not measured"
    return f"{value['value']:+.0%} [{value['low']:+.0%}, {value['high']:+.0%}]"


def _findings(document: Document) -> Iterator[str]:
    groups = (
        ("new", "✗", "new findings"),
        ("unconfirmed", "?", "seen with forked calls only"),
        ("known", "·", "known findings"),
    )
    for status, mark, title in groups:
        found = [f for f in document["findings"] if f["status"] == status]
        if found:
            yield title
        for finding in found:
            yield f"  {mark} {finding['title']}   ({finding['label']}, seen {finding['times']}×)"
            if status == "known":
                yield f"      {finding['reason']}"
            elif finding["trace"]:
                yield f"      mcpconc show {finding['trace']}"
                yield f"      {finding['command']}"


def _baseline(document: Document) -> Iterator[str]:
    """Entries that were not found again, those that fail first; of the others one line for all
    that have the same reason."""
    entries = document["baseline"]
    bad = [e for status in ("stale", "expired") for e in entries if e["status"] == status]
    open_: dict[str, list[str]] = {}
    for entry in entries:
        if entry["status"] == "not judged":
            open_.setdefault(entry["why"], []).append(f"{entry['title']} {entry['fingerprint']}")
    if bad or open_:
        yield "baseline"
    for entry in bad:
        yield f"  ✗ {entry['status']}: {entry['title']}  {entry['fingerprint']}"
        yield f"      {entry['why']}"
    for why, names in open_.items():
        yield f"  ? {len(names)} not judged: {why}"
        others = ["and others, all of them in summary.json"] if len(names) > SHOWN else []
        yield f"      {'; '.join([*names[:SHOWN], *others])}"


def _traces(document: Document) -> Iterator[str]:
    """Saved traces that say something that is not said elsewhere."""
    told = [t for t in document["traces"] if t["status"] in ("FIXED", "ERROR")]
    if told:
        yield "saved traces"
    for trace in told:
        why = f": {trace['why']}" if trace["why"] else ""
        yield f"  {trace['status']} {trace['reproduced']}/{trace['tried']}  {trace['trace']}{why}"


def _left_open(document: Document) -> Iterator[str]:
    unmeasured: Sequence[Mapping[str, str]] = document["unmeasured"]
    if unmeasured:
        yield "not measured"
    for entry in unmeasured:
        yield f"  {entry['what']}: {entry['why']}"
    if document["vacuous"]:
        yield "vacuous: this run could hardly have failed"
    for line in document["vacuous"]:
        yield f"  {line}"


def _verdict(document: Document) -> str:
    code = Exit(document["exit"])
    return f"{VERDICTS.get(code, code.name)} · {document['stop']} · exit {code.value}"
