"""Texts that are the same in every run of the same program: what differs is masked."""

from __future__ import annotations

import os
import re

__all__ = [*("configure", "enter_temporary", "family", "inside", "normal", "scratch", "temporary")]

LONGEST = 200
MASK = "#"

_EDGE, _END = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
_DIFFERS = re.compile(
    "|".join(
        (
            r"tok\d{3}x\d{3}z",  # what mcpconc puts into arguments
            _EDGE + r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}" + _END,
            _EDGE + r"\d{4}-?\d\d-?\d\d(?:[T _]?\d\d[:\-]?\d\d(?:[:\-]?\d\d)?(?:\.\d+)?)?"
            r"(?:Z|[+\-]\d\d:?\d\d)?" + _END,
            _EDGE + r"[0-9a-fA-F]{7,}" + _END,
            r"(?<![0-9])\d{4,}(?:\.\d+)?",
            _EDGE + r"\d+\.\d{3,}" + _END,
        )
    )
)
_RANDOM = re.compile(r"[a-z0-9_]{8}(?=(?:\.\w+)?(?:/|$))")
"""What `tempfile` makes a name of, at its end or before its ending."""

_temporary: dict = {}
_worlds: tuple = ()
_spelled: tuple = ()
_scratch = ""


def configure(world: str, scratch: str = "") -> None:
    """`world` is the directory that holds all state, "" if there is none; `scratch` the one that
    holds temporary files."""
    global _worlds, _spelled, _scratch
    roots = {world.rstrip("/"), os.path.realpath(world)} if world else set()
    _worlds = tuple(sorted((root + "/" for root in roots), key=len, reverse=True))
    # Some make a name of a path.
    _spelled = tuple(root[:-1].replace("/", mark) for root in _worlds for mark in ("-", "_", "%2F"))
    _scratch = f"{inside(scratch)}/" if inside(scratch) else ""


def normal(text: str) -> str:
    """`text` with ids, times, numbers and places masked, then cut."""
    for world in _worlds:
        text = text.replace(world, "").replace(world[:-1], "WORLD")
    return _mask(" ".join(text.split()))[:LONGEST]


def _mask(text: str) -> str:
    for name in _spelled:
        text = text.replace(name, MASK)
    text = _DIFFERS.sub(MASK, text)
    for number in {os.getpid(), os.getppid()}:
        if number < 1000 and str(number) in text:  # longer ones are masked already
            text = re.sub(rf"(?<!\d){number}(?!\d)", MASK, text)
    return text


def family(name: str) -> str:
    """`name` with ``*`` for what differs: all objects of its kind."""
    return _mask(name).replace(MASK, "*")


def inside(path) -> str:
    """`path` relative to the world, "" if it is not in it or is no path."""
    if not _worlds or isinstance(path, int) or path is None:
        return ""
    try:
        text = os.fsdecode(path)
        if text[:1] != "/":
            text = os.path.join(os.getcwd(), text)
        for world in _worlds:
            if text.startswith(world):
                relative = text[len(world) :]
                if relative[:1] == "." or "//" in relative or "/." in relative:
                    relative = os.path.normpath(text)[len(world) :]
                if _scratch and relative.startswith(_scratch):
                    relative = _scratch + _RANDOM.sub(MASK, relative[len(_scratch) :])
                return relative
    except (OSError, TypeError, ValueError):
        pass
    return ""


def scratch(name: str) -> bool:
    """Whether `name`, relative to the world, is one of a temporary file."""
    return bool(_scratch) and name.startswith(_scratch)


def enter_temporary(path) -> None:
    """This file has a name that nobody else uses."""
    if len(_temporary) > 1000:
        _temporary.clear()
    _temporary[os.path.abspath(os.fsdecode(path))] = True


def temporary(path) -> bool:
    """Whether it was entered."""
    return bool(_temporary) and os.path.abspath(os.fsdecode(path)) in _temporary
