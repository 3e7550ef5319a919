"""Does some sequential run of the target itself explain this concurrent one?

Judges what `mcpconc.alone` has put into the history: notes on sequential runs of the same calls.
Where nobody has tried it has nothing to say. See `mcpconc.lineup` for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcpconc import delta
from mcpconc.history import Event, History, Operation, Phase
from mcpconc.linearize.words import both, either, show
from mcpconc.lineup.compare import LEFT, Alone, Comparison, Refuted
from mcpconc.lineup.differ import NUMBER, Difference
from mcpconc.lineup.observe import observe
from mcpconc.lineup.orders import Order
from mcpconc.lineup.same import Volatile
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import finding
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

__all__ = ["ALONE", "VOLATILE", "itself", "note_of", "volatile_of"]

NAME = "self"

ALONE = "alone"
"""The note on a sequential run."""

VOLATILE = "volatile"
"""The note on what differs between sequential runs that did the same."""

SAID = 6
"""Orders that a finding tells of."""


def itself(run: Run) -> Result:
    """`violation` if every order is refuted, `unknown` if none explains the run and not all are.

    :raises KeyError, TypeError: if the notes are not what `note_of` makes.
    """
    if not run.history.notes(VOLATILE):  # nobody has tried
        return Result(NAME)
    for note in run.history.notes(VOLATILE):
        if note.value.get("untried"):
            return Result(NAME, unknown=(note.value["untried"],))
    compared = Comparison(run.history.operations, run.before, run.after, volatile_of(run.history))
    for note in run.history.notes(ALONE):
        compared.add(_alone(note.value, run.before or Snapshot()))
    verdict = compared.verdict()
    if verdict is Verdict.OK:
        return Result(NAME)
    if verdict is Verdict.VIOLATION:
        return Result(NAME, findings=(_finding(run, compared),))
    of = len(compared.orders)
    why = compared.unsettled or (
        f"{len(compared.refuted())} of {of} orders are refuted by sequential runs, the others "
        "neither explain the run nor come out the same twice"
    )
    return Result(NAME, unknown=(why,))


def note_of(order: Order, rested: bool, alone: Run) -> dict[str, Any]:
    """The content of a note on the sequential run `alone`."""
    complete = alone.quiescent and all(op.answered for op in alone.history.operations)
    return {
        "order": list(order),
        "rested": rested,
        "events": [e.to_json() for e in alone.history.events if e.call] if complete else None,
        "left": delta.diff(alone.before or Snapshot(), alone.after or Snapshot())
        if complete
        else None,
    }


def _alone(note: Mapping[str, Any], before: Snapshot) -> Alone:
    observation = None
    if note["events"] is not None:
        history = History.of(Event.from_json(event) for event in note["events"])
        observation = observe(history.operations, before, delta.patch(before, note["left"]))
    return Alone(tuple(note["order"]), note["rested"], observation)


def volatile_of(history: History) -> Volatile:
    """What was known to be volatile when this run was judged."""
    volatile = Volatile()
    for note in history.notes(VOLATILE):
        volatile |= Volatile(
            frozenset(note.value["values"]),
            frozenset(note.value["orders"]),
            frozenset(note.value["steady"]),
        )
    return volatile


def _finding(run: Run, compared: Comparison) -> Finding:
    lane = [op for op in run.history.operations if op.phase is Phase.LANE]
    operations = sorted(lane, key=lambda op: (op.agent, op.invoked))
    named = _names(operations)
    refuted = compared.refuted()
    # The longest explanation says what is violated; of several, the likeliest order's.
    order, why = max(refuted, key=lambda item: len(item[1].prefix))
    stop = why.difference
    every = " ‖ ".join(op.tool for op in operations)
    lines = [f"No order of {both([named(op.call) for op in operations])} gives what was seen:"]
    said: dict[str, list[str]] = {}
    for tried, because in refuted:
        said.setdefault(_told(because, named), []).append(_short(tried, because, named))
    for text, orders in list(said.items())[:SAID]:
        lines.append(f"  {either(list(dict.fromkeys(orders)))} {text}")
    if len(said) > SAID:
        lines.append(f"  and {len(said) - SAID} more")
    lines.append(
        f"{'Each' if len(refuted) > 1 else 'This'} order was run on the server itself, one call at "
        "a time: twice without pauses, and twice with pauses in which it finished what it still "
        "had to do. It came out the same each time."
    )
    left = why.prefix[-1] == LEFT
    return finding(
        NAME,
        "unexplained",
        stop.kind,
        stop.field,
        summary=f"{every}: one at a time, these calls never "
        + (
            f"leave {_what(stop).rstrip(':')} as it is here"
            if left
            else f"get this answer ({stop.field})"
        ),
        reason=tuple(lines),
        calls=tuple(op.call for op in operations),
        evidence={
            "orders": len(refuted),
            "nearest": [named(call).partition(" ")[0] for call in order],
            "field": stop.field,
            "expected": stop.expected,
            "seen": stop.seen,
            "volatile": sorted(compared.volatile.values | compared.volatile.orders),
        },
    )


def _told(refuted: Refuted, named: Callable[[str], str]) -> str:
    """What an order would have given against what was seen."""
    why = refuted.difference
    expected, seen = show(why.expected), show(why.seen)
    if not why.call:
        return f"leaves {_what(why)} {expected}; found {seen}"
    what = f"{why.field.strip('()')} " if why.field else ""
    return f"makes {named(why.call)} answer {what}{expected}; it answered {seen}"


def _what(why: Difference) -> str:
    """``goals.tasks``, ``rows of goals``; databases mostly have tables of different names."""
    table = why.kind.partition(".")[2] if " " not in why.kind else ""
    if why.field == NUMBER:
        return f"rows of {table}:" if table else f"{why.kind}:"
    return f"{table or why.kind}.{why.field}"


def _short(order: Order, refuted: Refuted, named: Callable[[str], str]) -> str:
    """An order as far as it refutes: tools are named in the head line."""
    calls = [call for call in refuted.prefix if call != LEFT]
    names = [named(call).partition(" ")[0] for call in calls]
    if len(names) == 1:
        return f"{names[0]} {'alone' if len(order) == 1 else 'first'}"
    return " before ".join(names) if len(names) == 2 else ", then ".join(names)


def _names(operations: Sequence[Operation]) -> Callable[[str], str]:
    """``0.4 (tool)`` for a call, as the picture names it."""
    names = {op.call: f"{op.call} ({op.tool})" for op in operations}
    return lambda call: names.get(call, f"the later call {call}")
