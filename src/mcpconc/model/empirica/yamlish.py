"""As much of YAML as PyYAML's ``safe_dump`` makes of nested mappings, lists and plain values in
block style (https://yaml.org/spec/1.1/), which is how Empirica keeps small files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["Broken", "parse"]


class Broken(ValueError):
    """The text is not such a document: mostly because it was cut off."""


def parse(text: str) -> dict[str, Any]:
    """The mapping that `text` holds; empty for an empty text.

    :raises Broken: if it is not a mapping in block style.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    value, rest = _block(lines, 0)
    if rest:
        raise Broken(f"unexpected {rest[0].strip()!r}")
    if not isinstance(value, dict):
        raise Broken("not a mapping")
    return value


def _block(lines: Sequence[str], depth: int) -> tuple[Any, Sequence[str]]:
    """The mapping or list whose lines are indented by `depth`, and the lines behind it."""
    if lines and lines[0].lstrip().startswith("- "):
        return _list(lines, depth)
    found: dict[str, Any] = {}
    while lines and _indent(lines[0]) == depth:
        name, colon, text = lines[0].strip().partition(": ")
        if not colon:
            if not name.endswith(":"):
                raise Broken(f"no value in {name!r}")
            name = name[:-1]
        lines = lines[1:]
        if text.strip():
            found[str(_plain(name))] = _plain(text.strip())
        elif lines and (_indent(lines[0]) > depth or lines[0].lstrip().startswith("- ")):
            found[str(_plain(name))], lines = _block(lines, _indent(lines[0]))
        else:
            found[str(_plain(name))] = None
    return found, lines


def _list(lines: Sequence[str], depth: int) -> tuple[list[Any], Sequence[str]]:
    items = []
    while lines and _indent(lines[0]) == depth and lines[0].lstrip().startswith("- "):
        items.append(_plain(lines[0].strip()[2:]))
        lines = lines[1:]
    return items, lines


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _plain(text: str) -> Any:
    if text[:1] == text[-1:] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text in ("null", "true", "false", "[]", "{}") or text[:1] == '"':
        try:
            return json.loads(text)
        except ValueError as error:
            raise Broken(f"cannot be read: {text!r}") from error
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text
