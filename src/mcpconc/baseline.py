"""The baseline: findings that are known, each with its trace, a reason and perhaps an expiry.

    version = 1

    [[finding]]
    fingerprint = "ad158010"        # what `mcpconc show --json` calls it
    title = "auto_closed_sessions session  session_create ‖ session_create"
    oracle = "effects"              # what the fingerprint stands for
    property = "auto_closed_sessions"
    kind = "session"
    field = ""
    tools = ["session_create", "session_create"]
    faults = []                     # those without which it is not there
    alike = false                   # true: the same property of whatever else
    label = "race"
    trace = "../traces/auto_closed_sessions-session-ad158010"   # from this file
    failed = 5                      # how often the trace failed of so many tries
    of = 5
    reason = "known since 1.14.18"
    expires = 2027-03-31            # optional; fails from the day after

    [[threshold]]
    expr = "calls.p95 < 2s"
    value = 2.6                     # what it was, in the unit of the expression
    tolerance = 0.1                 # it may be worse by this share of `value`
    reason = "five agents on two cores"

Listed and found passes, unlisted fails. An entry is *stale*, which fails, too, if it has no trace
or if its trace failed in none of so many replays that chance explains it in fewer than one case
of a hundred; what time or luck left open is *not judged*.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from mcpconc import tomltext
from mcpconc.errors import UsageError
from mcpconc.oracle.base import Fingerprint, Label
from mcpconc.thresholds import parse

__all__ = ["Baseline", "Known", "Tolerated", "read", "render"]

VERSION = 1
T = TypeVar("T")

BY_ITSELF = ("protocol", "refusal")
"""Oracles that look at one call and its answer."""

LUCK = 0.05
"""So often, at most, a trace fails less often than `rate` says, in runs like those recorded."""
ELSEWHEN = 0.5
"""Part of that rate which is left on another day: what depends on timing was recorded on a machine
that was busy in its own way. Of 85 entries whose races and faults came back in 40 to 80 % of some
runs, three did not in 4, 7 and 11 others, when the machine was at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A finding that is expected. `trace` is a path from the baseline file; it failed in `failed`
    of `of` runs when it was made. After the day `expires` the entry fails.

    What a fault does to one kind of record it may do to all that is written meanwhile, and what one
    tool makes of a bad call others may, too. With `alike` the entry stands for these as well: for
    what breaks the same property while its `faults` last, of whatever kind and field, or, of
    oracles in `BY_ITSELF`, for the same field of whatever tool."""

    fingerprint: str
    oracle: str
    property: str
    kind: str
    trace: str
    reason: str
    field: str = ""
    tools: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    alike: bool = False
    label: str = Label.UNLABELLED.value
    title: str = ""
    failed: int = 0
    of: int = 0
    expires: date | None = None

    def stands_for(self) -> Fingerprint:
        return Fingerprint(
            self.oracle, self.property, self.kind, self.field, self.tools, self.faults
        )

    def rate(self) -> float:
        """The share of runs in which it shows, as far as the recorded ones tell."""
        alone = self.label == Label.SEQUENTIAL and not self.faults
        return rate(self.failed, self.of, alone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerated:
    """A threshold that is known to be missed. `value` is what it was, in the unit of `expr`, and
    may be worse by `tolerance` of it (0.1: ten percent)."""

    expr: str
    value: float
    reason: str
    tolerance: float = 0.0
    expires: date | None = None

    def allows(self, actual: float) -> bool:
        """Whether this is no worse than what is tolerated."""
        threshold = parse(self.expr)
        room = abs(self.value) * self.tolerance
        return threshold.holds(actual) or (
            threshold.excess(actual) <= threshold.excess(self.value) + room
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "tolerance": self.tolerance,
            "reason": self.reason,
            "expires": self.expires and self.expires.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a file lists; nothing where there is no file."""

    path: Path | None = None
    findings: tuple[Known, ...] = ()
    thresholds: tuple[Tolerated, ...] = ()

    def trace(self, known: Known) -> Path:
        """Where the trace of an entry is."""
        here = self.path.parent if self.path is not None else Path()
        return Path(os.path.normpath(here / known.trace))

    def tolerated(self, expr: str) -> Tolerated | None:
        wanted = str(parse(expr))
        return next((t for t in self.thresholds if str(parse(t.expr)) == wanted), None)


# ------------------------------------------------------------------ the file


def rate(failed: int, of: int, alone: bool = False) -> float:
    """The least share of runs that must fail for so many of them to have failed by chance in one
    case of twenty: five of five do not mean always, and of many entries one is always unlucky. The
    lower bound of Clopper and Pearson ("The use of confidence or fiducial limits", 1934), found by
    bisection, and `ELSEWHEN` of it; 0 if none failed. What one agent `alone` shows needs no luck:
    there the rule of succession is enough."""
    if alone:
        return min(failed / of, (failed + 1) / (of + 2)) if of else 0.0
    low, high = 0.0, 1.0
    for _ in range(30 if failed else 0):
        share = (low + high) / 2
        fewer = sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(failed))
        low, high = (low, share) if 1 - fewer > LUCK else (share, high)
    return low * ELSEWHEN


def read(path: Path) -> Baseline:
    """:raises UsageError: if it cannot be read or says something that has no meaning, naming file
    and key."""
    data = tomltext.read(path)
    if data.get("version") != VERSION:
        raise UsageError(f"{path}: version must be {VERSION}; it is {data.get('version')!r}")
    _only(path, data, "", ("version", "finding", "threshold"))
    findings = tuple(_entries(path, data, "finding", Known))
    thresholds = tuple(_entries(path, data, "threshold", Tolerated))
    for known in findings:
        if known.fingerprint != known.stands_for().digest():
            raise UsageError(
                f"{path}: {known.fingerprint} is not the fingerprint of what this entry says, "
                f"which is {known.stands_for().digest()}"
            )
    for tolerated in thresholds:
        parse(tolerated.expr)
    names = [known.fingerprint for known in findings] + [str(parse(t.expr)) for t in thresholds]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: {name} is listed twice")
    return Baseline(path, findings, thresholds)


def _entries(path: Path, data: Mapping[str, Any], name: str, kind: type[T]) -> Iterable[T]:
    listed = data.get(name, [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise UsageError(f"{path}: {name} must be tables, each begun with [[{name}]]")
    for number, entry in enumerate(listed, 1):
        where = f"{name} {number}: "
        known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
        _only(path, entry, where, tuple(known))
        values: dict[str, Any] = {}
        for key, field in known.items():
            if key in entry:
                values[key] = _value(path, where + key, str(field.type), entry[key])
            elif field.default is MISSING:
                raise UsageError(f"{path}: {where}{key} is missing")
        if values.get("alike") and not (values.get("faults") or values["oracle"] in BY_ITSELF):
            raise UsageError(
                f"{path}: {where}alike is for what a fault does, and for what oracles of single "
                f"calls say ({', '.join(BY_ITSELF)}); all else is listed one by one"
            )
        if not str(values["reason"]).strip():
            raise UsageError(f"{path}: {where}reason is empty; say why this is accepted")
        yield kind(**values)


TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a string"),
    "bool": (lambda value: type(value) is bool, "true or false"),
    "int": (lambda value: type(value) is int and value >= 0, "a whole number from 0 on"),
    "float": (lambda value: type(value) in (int, float), "a number"),
    "date | None": (lambda value: type(value) is date, "a date such as 2027-03-31"),
    "tuple[str, ...]": (
        lambda value: type(value) is list and all(isinstance(item, str) for item in value),
        "a list of strings",
    ),
}
"""Annotation of a field → what a value of it is."""


def _value(path: Path, where: str, wanted: str, value: Any) -> Any:
    fits, spoken = TYPES[wanted]
    if not fits(value):
        raise UsageError(f"{path}: {where} must be {spoken}")
    return tuple(value) if isinstance(value, list) else value


def _only(path: Path, data: Mapping[str, Any], where: str, known: Sequence[str]) -> None:
    for key in data:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{path}: {where}{key} is not a key; {hint}")


def render(baseline: Baseline) -> str:
    """The text of the file, entries in order of their names: `read` gives the same again."""
    lines = [
        "# Findings that are known; see `mcpconc gate --help`. `reason` and `expires` are yours.",
        f"version = {VERSION}",
    ]
    entries: list[tuple[str, Any]] = [
        *(("finding", known) for known in sorted(baseline.findings, key=_by_name)),
        *(("threshold", t) for t in sorted(baseline.thresholds, key=lambda t: t.expr)),
    ]
    for name, entry in entries:
        lines += ["", f"[[{name}]]"]
        for field in fields(entry):
            value = getattr(entry, field.name)
            if value != field.default:
                lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _by_name(known: Known) -> tuple[str, str]:
    return (known.property, known.fingerprint)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return value.isoformat() if isinstance(value, date) else repr(value)
