"""JSON as mcpconc writes it: sorted keys, one line for what is short, safe against a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

__all__ = ["compact", "parse", "readable", "sync", "write"]

WIDTH = 100


def compact(value: Any) -> str:
    """One line with sorted keys."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        # Lone surrogates, which a target may well send, are beyond orjson.
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def readable(value: Any, indent: int = 0) -> str:
    """Short, and fit to be read in a diff: whatever fits on one line is on one line."""
    line = compact(value)
    if len(line) + indent <= WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return line
    pad = " " * (indent + 1)
    if isinstance(value, Mapping):
        items = [
            f"{pad}{compact(key)}: {readable(value[key], indent + 1)}" for key in sorted(value)
        ]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    items = [pad + readable(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(items) + "\n" + " " * indent + "]"


def parse(text: str) -> Any:
    """Inverse of both.

    :raises json.JSONDecodeError: with line and column.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        try:
            return json.loads(text)
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", text, 0) from None


def write(file: Path, text: str) -> None:
    """Write and flush to the disk."""
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def sync(directory: Path) -> None:
    """Flush the names in `directory` to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
