"""What differs between two targets that ran the same programs, and whether that is more than luck.
Pure: what each program showed goes in, rows with p-values come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mcpconc.oracle.base import Finding
from mcpconc.permutation import holm, paired

__all__ = ["ALL", "Head", "Pair", "Shown", "counts", "findings", "latencies"]

ALL = "all"
"""The name of all tools together."""

FEWEST = 6
"""Programs below which no difference of a tool could ever be significant: 2 of 64 sign patterns."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one run of a program showed: tool → seconds that each of its answered calls took,
    findings, and with the probe a count's name → how many there were of it."""

    times: Mapping[str, Sequence[float]]
    findings: tuple[Finding, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    undecided: bool = False


Pair = tuple[Shown, Shown]
"""One program on both."""

Head = tuple[str, str, str, str]
"""Of a fingerprint."""


def latencies(pairs: Sequence[Pair], alpha: float, seed: int = 0) -> list[dict[str, Any]]:
    """A row for all calls and one for each tool, by their mean times in the programs that both
    answered. `adjusted` is None for tools of too few programs to tell."""
    tools = sorted({tool for pair in pairs for one in pair for tool in one.times})
    rows = []
    for tool in [ALL, *tools]:
        means = [
            (fmean(a), fmean(b))
            for a, b in ((_times(a, tool), _times(b, tool)) for a, b in pairs)
            if a and b
        ]
        rows.append({"tool": tool, **_compared(means, seed)})
    return _adjusted(rows, "tool", alpha)


def counts(pairs: Sequence[Pair], alpha: float, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each thing that the probe counts: how many a call makes of it."""
    names = sorted({name for pair in pairs for one in pair for name in one.counts})
    rows = []
    for name in names:
        each = [(_per_call(a, name), _per_call(b, name)) for a, b in pairs]
        rows.append({"count": name, **_compared(each, seed)})
    return _adjusted(rows, "count", alpha)


def findings(
    pairs: Sequence[Pair],
    alpha: float,
    seed: int = 0,
    again: Mapping[Head, Sequence[Pair]] | None = None,
) -> list[dict[str, Any]]:
    """A row for each distinct finding: in how many programs each target showed it. Where `again`
    has further runs of the program that showed it first, these are tested, and not the programs
    by which it was found."""
    heads: dict[Head, Finding] = {}
    for pair in pairs:
        for one in pair:
            for finding in one.findings:
                heads.setdefault(finding.fingerprint.head(), finding)
    rows: list[dict[str, Any]] = []
    for head, finding in sorted(heads.items()):
        seen = _seen(pairs, head)
        repeated = _seen((again or {}).get(head, ()), head)
        f = finding.fingerprint
        rows.append(
            {
                "head": head,
                "title": f.title(),
                "oracle": f.oracle,
                "summary": finding.summary,
                "of": len(seen),
                **_sides(seen),
                "again": {"of": len(repeated), **_sides(repeated)} if repeated else None,
                "p": paired(repeated or seen, seed).p,
            }
        )
    adjusted = holm({row["head"]: row["p"] for row in rows})
    for row in rows:
        row["adjusted"] = adjusted[row["head"]]
        row["changed"] = row["adjusted"] <= alpha
    return rows


def _times(shown: Shown, tool: str) -> list[float]:
    if tool == ALL:
        return [time for times in shown.times.values() for time in times]
    return list(shown.times.get(tool, ()))


def _per_call(shown: Shown, name: str) -> float:
    calls = sum(map(len, shown.times.values()))
    return shown.counts.get(name, 0.0) / calls if calls else 0.0


def _seen(pairs: Sequence[Pair], head: Head) -> list[tuple[float, float]]:
    """1 for each side that showed it."""

    def shows(one: Shown) -> float:
        return float(any(finding.fingerprint.head() == head for finding in one.findings))

    return [(shows(a), shows(b)) for a, b in pairs]


def _sides(seen: Sequence[tuple[float, float]]) -> dict[str, int]:
    return {"in_a": int(sum(a for a, _ in seen)), "in_b": int(sum(b for _, b in seen))}


def _compared(means: Sequence[tuple[float, float]], seed: int) -> dict[str, Any]:
    tested = paired(means, seed)
    a = fmean(first for first, _ in means) if means else None
    b = fmean(second for _, second in means) if means else None
    return {
        "n": tested.n,
        "a": a,
        "b": b,
        "change": b / a - 1 if a and b is not None else None,
        "p": tested.p,
        "exact": tested.exact,
    }


def _adjusted(rows: list[dict[str, Any]], name: str, alpha: float) -> list[dict[str, Any]]:
    adjusted = holm({row[name]: row["p"] for row in _enough(rows)})
    for row in rows:
        row["adjusted"] = adjusted.get(row[name])
        row["changed"] = row["adjusted"] is not None and row["adjusted"] <= alpha
    return rows


def _enough(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["n"] >= FEWEST]
