"""Every error a user can meet, in one tree.

    McpconcError
    ├── UsageError        bad flag, bad file, bad configuration        exit 4
    │   └── TraceError    a trace or history that cannot be read       exit 4
    ├── TargetError       the target cannot be installed or started    exit 3
    └── InvariantError    our own bug                                  exit 70

Each message is one line: what was wrong, where, and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

__all__ = [
    "Exit",
    "InvariantError",
    "McpconcError",
    "TargetError",
    "TraceError",
    "UsageError",
    "cause",
    "leaves",
]


class Exit(IntEnum):
    """Exit codes of every verb."""

    PASSED = 0
    VIOLATION = 1
    INCONCLUSIVE = 2
    TARGET = 3
    USAGE = 4
    BUG = 70
    INTERRUPTED = 130


class McpconcError(Exception):
    """Base of every error with a message meant for the user."""

    exit = Exit.BUG


class UsageError(McpconcError):
    """The request itself is wrong: a flag, a path, a configuration file."""

    exit = Exit.USAGE


class TraceError(UsageError):
    """A trace or history file that cannot be read as one."""


class TargetError(McpconcError):
    """The system under test cannot be installed, prepared or started."""

    exit = Exit.TARGET


class InvariantError(McpconcError):
    """A property that mcpconc itself guarantees does not hold: our bug, never the target's."""

    exit = Exit.BUG


def cause(group: BaseExceptionGroup[Any]) -> BaseException:
    """What to tell of several exceptions at once: our own bug before the target's trouble, and
    one that stands alone without the group around it."""
    found = leaves(group)
    for kind in (InvariantError, UsageError, TargetError):
        for leaf in found:
            if isinstance(leaf, kind):
                return leaf
    return found[0] if len(found) == 1 else group


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in an exception group, however deep; one that is no group is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
