"""The yardstick: Wing & Gong's search with Lowe's memo, as published and as Porcupine has it.

A history is a linked list of calls and returns. The walk takes the first call that the model
accepts, lifts it out with its return, and starts again at the head; at a return it must undo the
last choice and go on behind it. (Placed set, state) pairs that were seen are not entered again.
Calls that nobody answered return at the end. Nothing here is shared with `mcpconc.linearize` but
the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcpconc.model.base import Op, Partition, Reject

__all__ = ["linearizable"]


@dataclass(slots=True, eq=False)
class Entry:
    op: Op | None
    number: int
    match: Entry | None = None
    """The return of a call; None for a return."""
    before: Entry | None = None
    after: Entry | None = None


def linearizable(partition: Partition) -> tuple[bool, int]:
    """Whether the history has an order, and how often an operation was tried."""
    model = partition.model
    head = _entries(partition)
    state: Any = model.initial()
    placed = 0
    seen = {(0, state)}
    chosen: list[tuple[Entry, Any]] = []
    steps = 0
    entry = head.after
    while entry is not None:
        if entry.match is not None:
            assert entry.op is not None
            steps += 1
            result = model.step(state, entry.op)
            if not isinstance(result, Reject):
                (after,) = result
                now = placed | 1 << entry.number
                if (now, after) not in seen:
                    seen.add((now, after))
                    chosen.append((entry, state))
                    state, placed = after, now
                    _lift(entry)
                    entry = head.after
                    continue
            entry = entry.after
        else:
            if not chosen:
                return False, steps
            entry, state = chosen.pop()
            placed &= ~(1 << entry.number)
            _unlift(entry)
            entry = entry.after
    return True, steps


def _entries(partition: Partition) -> Entry:
    events: list[tuple[float, bool, int]] = []
    for number, op in enumerate(partition.ops):
        end = float("inf") if op.returned is None else op.returned
        events += [(op.invoked, False, number), (end, True, number)]
    head = last = Entry(None, -1)
    calls: dict[int, Entry] = {}
    for _, returns, number in sorted(events):
        entry = Entry(None if returns else partition.ops[number], number, before=last)
        last.after = last = entry
        if returns:
            calls[number].match = entry
        else:
            calls[number] = entry
    return head


def _lift(call: Entry) -> None:
    for entry in (call, call.match):
        assert entry is not None
        assert entry.before is not None
        entry.before.after = entry.after
        if entry.after is not None:
            entry.after.before = entry.before


def _unlift(call: Entry) -> None:
    for entry in (call.match, call):
        assert entry is not None
        assert entry.before is not None
        entry.before.after = entry
        if entry.after is not None:
            entry.after.before = entry
