"""What two targets differ in, for people: a function of the document of `mcpconc diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcpconc.errors import Exit
from mcpconc.report.summary import VERDICTS, duration, wrap

__all__ = ["diff_text"]

Document = Mapping[str, Any]
Row = Mapping[str, Any]


def diff_text(document: Document, *, width: int = 100) -> str:
    """Ends with a newline. Long lines are wrapped, but a path is never cut."""
    parts = [
        list(_head(document)),
        list(_findings(document)),
        list(_latencies(document)),
        list(_counts(document)),
        list(_tools(document)),
        [_verdict(document)],
    ]
    lines: list[str] = []
    for part in filter(None, parts):
        lines += ["", *part] if lines else part
    return "\n".join(out for line in lines for out in wrap(line, width) or [""]) + "\n"


def _head(document: Document) -> Iterator[str]:
    for side in ("a", "b"):
        target = document[side]
        yield f"{side}  {target['name']} {target['version']}".rstrip()
    undecided = document["undecided"]
    yield (
        f"  {document['programs']} programs on each by {document['agents']} agents, in turns, in"
        f" {duration(document['made_by']['seconds'])}; undecided {undecided['a']} and"
        f" {undecided['b']}, infra {document['infra']}"
    )


def _findings(document: Document) -> Iterator[str]:
    rows: Sequence[Row] = document["findings"]
    if not rows:
        yield "findings: none in either"
        return
    yield "findings, in how many programs of a and of b"
    for row in sorted(rows, key=lambda row: (not row["changed"], row["p"])):
        again = row["again"]
        tested = again or row
        more = (
            f", its program again {again['in_a']} and {again['in_b']} of {again['of']}"
            if again
            else ""
        )
        yield (
            f"  {_mark(row, tested['in_b'] > tested['in_a'])} {row['title']}   {row['in_a']} and"
            f" {row['in_b']} of {row['of']}{more}, p {_p(row['adjusted'])}"
        )
        if (row["changed"] or not row["in_a"]) and row["traces"]:
            trace = row["traces"].get("b") or row["traces"]["a"]
            yield f"      mcpconc show {trace}"


def _latencies(document: Document) -> Iterator[str]:
    rows = [row for row in document["latencies"] if row["adjusted"] is not None]
    few = [row["tool"] for row in document["latencies"] if row["adjusted"] is None]
    if rows:
        yield "latencies: mean seconds of a call"
    for row in rows:
        yield (
            f"  {_mark(row, row['b'] > row['a'])} {row['tool']}  {row['a']:.4g} and {row['b']:.4g}"
            f" ({row['change']:+.0%}), n = {row['n']}, p {_p(row['adjusted'])}"
        )
    if few:
        yield f"  called by too few programs to tell: {', '.join(few)}"


def _counts(document: Document) -> Iterator[str]:
    rows = [row for row in document["counts"] if row["adjusted"] is not None]
    if rows:
        yield "inside: how many a call makes"
    for row in rows:
        yield (
            f"  {_mark(row, row['b'] > row['a'])} {row['count']}  {row['a']:.4g} and"
            f" {row['b']:.4g}, n = {row['n']}, p {_p(row['adjusted'])}"
        )


def _tools(document: Document) -> Iterator[str]:
    for side in ("a", "b"):
        only = document["tools"].get(f"only_{side}")
        if only:
            yield f"left out, for only {side} offers them: {', '.join(only)}"


def _mark(row: Row, worse: bool) -> str:
    """Worse, better, or nothing that luck does not explain."""
    return ("✗" if worse else "✓") if row["changed"] else "·"


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


def _verdict(document: Document) -> str:
    code = Exit(document["exit"])
    return (
        f"{VERDICTS.get(code, code.name)} · {document['said']} · {document['stop']} · seed"
        f" {document['made_by']['seed']} · exit {code.value}"
    )
