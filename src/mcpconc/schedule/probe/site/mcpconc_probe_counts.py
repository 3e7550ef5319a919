"""Counting without control: sums of this process, sent at most once a second and at its end."""

from __future__ import annotations

from time import perf_counter_ns

import mcpconc_probe_wire as wire

__all__ = ["counts", "flush", "tick"]

PERIOD = 1_000_000_000
"""Nanoseconds between two reports."""

counts = dict.fromkeys(
    (
        *("statements", "connections", "transactions", "lock_waits", "lock_wait_ns", "sql_ns"),
        *("git", "git_ns", "processes", "process_ns", "files_written"),
    ),
    0,
)
due = 0
"""When the next report may be sent, by `perf_counter_ns`."""


def tick(now: int = 0) -> None:
    """Something was counted."""
    global due
    now = now or perf_counter_ns()
    if now >= due and wire.counting():
        first, due = not due, now + PERIOD
        if not first:
            flush()


def flush() -> None:
    """Send the sums."""
    if wire.counting() and not wire.here.busy:
        wire.tell({"counts": counts})


def _anew() -> None:
    global due
    for name in counts:
        counts[name] = 0
    due = 0


wire.at_fork.append(_anew)
