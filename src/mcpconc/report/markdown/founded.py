"""Are the figures of a report those of the summary?"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mcpconc.report.document import Json
from mcpconc.report.markdown.figures import READING, cell, line, prose

__all__ = ["unfounded"]

UNITS = ("%", "ms", "s", "KiB", "MiB", "GiB", "KB", "MB", "GB", "calls/s")
_PLAIN = r"-?\d+(?:\.\d+)?"
_UNIT = "|".join(map(re.escape, sorted(UNITS, key=len, reverse=True)))
NUMBER = re.compile(
    rf"(?<![\w.])(?P<number>{_PLAIN})(?:(?=(?: to {_PLAIN})?\s?(?P<unit>{_UNIT})(?!\w)))?"
)
"""A number and its unit; the first one of a range has that of the last. Digits inside a word
(``p95``) are part of its name."""

TIMES = {
    ("s", "ms"): 1e3,
    ("share", "%"): 100.0,
    ("bytes", "KiB"): 1 / 1024,
    ("bytes", "MiB"): 1 / (1 << 20),
    ("bytes", "GiB"): 1 / (1 << 30),
    ("MiB", "GiB"): 1 / 1024,
}
"""By what a figure of the summary is multiplied to be printed: its unit there, the printed one."""

SHARES = (
    *("share", "share_of_a_core", "latency_growth", "tolerance"),
    *("cpu_mean", "cpu_max", "iowait_mean"),
)
ESTIMATED = {"raw", "shared", "rates", "latency_growth_interval"}
"""What has shares inside."""
IN_UNIT = ("actual", "limit", "value")
SECONDS = ("seconds", "seconds_per_look", "cpu_per_call")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A number of the summary and what it is of."""

    value: float
    unit: str

    def printed(self, text: str, unit: str) -> bool:
        """Whether this is it, to the printed precision."""
        times = 1.0 if self.unit == unit else TIMES.get((self.unit, unit))
        if times is None:
            return False
        last = 10.0 ** -len(text.partition(".")[2])
        return abs(self.value * times - float(text)) <= last / 2 * (1 + 1e-6)


def unfounded(document: Json, text: str) -> list[str]:
    """Every number in `text` that is not in the summary, with what stands around it: a figure is
    there in its unit, or is part of a text that is quoted word by word."""
    leaves = set(_leaves(document, (), ""))
    quoted = _texts(document)
    versions = {words for words in quoted if re.fullmatch(r"\d+\.\d+", words)}
    # A fingerprint may have no letter in it.
    words = [
        word
        for word in sorted(quoted, key=len, reverse=True)
        if not re.fullmatch(_PLAIN, word) or re.fullmatch(r"\d{8}", word)
    ]
    rest = text.replace(READING, "")
    if words:
        rest = re.sub(rf"(?<![\w.])(?:{'|'.join(map(re.escape, words))})(?!\w)", "…", rest)

    @functools.cache
    def founded(number: str, unit: str) -> bool:
        if number in versions and not unit:
            return True
        return any(leaf.printed(number, unit) for leaf in leaves)

    found = []
    for row in rest.splitlines():
        for match in NUMBER.finditer(row):
            number, unit = match["number"], match["unit"] or ""
            if not founded(number, unit):
                around = row[max(match.start() - 40, 0) : match.end() + 20].strip()
                found.append(f"{number} {unit}".rstrip() + f": {around}")
    return found


def _texts(value: Any) -> set[str]:
    """Texts and names of the summary that have digits in them, as a report may write them."""
    if isinstance(value, str):
        forms = {value, line(value), prose(value)}
        return forms | {cell(form) for form in forms} if re.search(r"\d", value) else set()
    if isinstance(value, list):
        return {text for item in value for text in _texts(item)}
    if isinstance(value, dict):
        pairs = {f"{key}={item}" for key, item in value.items() if isinstance(item, str)}
        inner = {text for key, item in value.items() for text in (*_texts(key), *_texts(item))}
        return inner | {pair for pair in pairs if re.search(r"\d", pair)}
    return set()


def _leaves(value: Any, path: tuple[str, ...], literal: str) -> Iterator[Leaf]:
    if isinstance(value, dict):
        if path == ("thresholds",):
            literal = str(value.get("unit", ""))
        for key, item in value.items():
            yield from _leaves(item, (*path, key), literal)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path, literal)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Leaf(value, _unit(path, literal))


def _unit(path: tuple[str, ...], literal: str) -> str:
    """What a number is of, from where it stands."""
    key = path[-1]
    if path[0] == "thresholds" and key in IN_UNIT:
        return literal
    if key in SHARES or ESTIMATED & {*path}:
        return "share"
    if "_mib" in key or "rss_per_agent_mib" in path:
        return "MiB"
    if key.endswith("_bytes"):
        return "bytes"
    if key == "throughput":
        return "calls/s"
    timed = "latency" in path and key != "n"
    return "s" if timed or key in SECONDS or key.endswith("_s") else ""
