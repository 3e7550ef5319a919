"""Counting without control: sums of this process, sent at most once a second and at its end."""

from __future__ import annotations

from time import monotonic

import mcpconc_probe_wire as wire

__all__ = ["counts", "flush", "tick"]

PERIOD = 1.0
"""Seconds between two reports."""

counts = dict.fromkeys(
    (
        *("statements", "connections", "transactions", "lock_waits", "lock_wait_ns", "sql_ns"),
        *("git", "git_ns", "processes", "process_ns", "files_written"),
    ),
    0,
)
_due = [0.0]


def tick() -> None:
    """Something was counted."""
    now = monotonic()
    if now >= _due[0] and wire.counting():
        first = not _due[0]
        _due[0] = now + PERIOD
        if not first:
            flush()


def flush() -> None:
    """Send the sums."""
    if wire.counting() and not wire.here.busy:
        wire.tell({"counts": counts})


def _anew() -> None:
    for name in counts:
        counts[name] = 0
    _due[0] = 0.0


wire.at_fork.append(_anew)
