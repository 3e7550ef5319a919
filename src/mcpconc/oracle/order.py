"""Order: real time, commit order and shown order agree, and lists that only grow only grow.

For every insert-only sequence that a target keeps (`model.spec.Log`) three orders exist: calls
that did not overlap happened in real-time order, rows lie in commit order, and the target shows
them by a time stamp or a number. Wherever two of them disagree, somebody has been told a wrong
story. Likewise two reads of an append-only list (`model.spec.Seen`), the first answered before
the second was sent, must show the second as a continuation of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.spec import Log, Seen
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import NO_READ_BACK, collect, finding

__all__ = ["order"]

NAME = "order"

_RULE = {
    "shrinks": "Entries are never taken off this list, and {later} asked for all of them: "
    "whatever {earlier} was shown must be in its answer.",
    "reorders": "Entries of this list never change places.",
    "inserts-before-the-end": "New entries of this list go behind the ones that are there.",
}

_Entry = tuple[str, Any]
"""(call, shown key): one row of a log."""


def order(run: Run) -> Result:
    """Compare the orders of every log and the reads of every list."""
    if run.spec is None:
        return Result(NAME)
    operations = {op.call: op for op in run.history.operations}
    findings: list[Finding] = []
    unknown: list[str] = []
    if run.after is None:
        unknown.append(NO_READ_BACK)
    else:
        for log in run.spec.logs(run.history.operations, run.after):
            try:
                findings.extend(_log(log, operations))
            except TypeError:
                unknown.append(f"{log.kind}: values of {log.shown_by} cannot be compared")
    findings.extend(_reads(run.spec.seen(run.history.operations), operations))
    return collect(NAME, findings, unknown)


def _log(log: Log, operations: Mapping[str, Operation]) -> Iterator[Finding]:
    shown = [entry for entry in log.rows if entry[1] is not None]
    for earlier, later in _against_time([[entry] for entry in log.rows], operations):
        yield _wrong(
            log,
            "commit-against-real-time",
            "",
            f"{later[0]} was answered before {earlier[0]} was sent, yet its row was committed "
            "after the other's",
            (earlier, later),
        )
    by_key = groupby(sorted(shown, key=lambda entry: entry[1]), key=lambda entry: entry[1])
    for earlier, later in _against_time([list(group) for _, group in by_key], operations):
        yield _wrong(
            log,
            "shown-against-real-time",
            log.shown_by,
            f"{later[0]} was answered before {earlier[0]} was sent, yet {log.shown_by} puts it "
            "after the other",
            (earlier, later),
        )
    greatest: _Entry | None = None
    for entry in shown:
        if greatest is not None and entry[1] < greatest[1]:
            yield _wrong(
                log,
                "shown-against-commit",
                log.shown_by,
                f"the row of {entry[0] or 'no call'} was committed after that of "
                f"{greatest[0] or 'no call'}, yet {log.shown_by} puts it before",
                (greatest, entry),
            )
        else:
            greatest = entry
    if log.distinct:
        first: dict[Any, _Entry] = {}
        for entry in shown:
            other = first.setdefault(entry[1], entry)
            if other is not entry:
                yield _wrong(
                    log,
                    "tie",
                    log.shown_by,
                    f"{other[0] or 'no call'} and {entry[0] or 'no call'} were given the same "
                    f"{log.shown_by}, {entry[1]!r}",
                    (other, entry),
                    f"Every row of {log.key} must have a {log.shown_by} of its own: in every order "
                    f"of the calls one comes second, and has to get a new {log.shown_by}.",
                )


def _against_time(
    groups: Sequence[Sequence[_Entry]], operations: Mapping[str, Operation]
) -> Iterator[tuple[_Entry, _Entry]]:
    """Pairs (earlier, later) of an order of which real time says the reverse.

    It is enough to compare each entry with the one of those before it that was invoked last:
    if any of them was invoked after this one returned, that one was. Entries of one group are
    not ordered among themselves.
    """
    last: tuple[int, _Entry] | None = None
    for group in groups:
        known = [(operations[e[0]], e) for e in group if e[0] in operations]
        for op, entry in known:
            if last is not None and op.returned is not None and op.returned < last[0]:
                yield last[1], entry
        for op, entry in known:
            if last is None or op.invoked > last[0]:
                last = (op.invoked, entry)


def _wrong(
    log: Log, property: str, field: str, sentence: str, pair: tuple[_Entry, _Entry], *more: str
) -> Finding:
    return finding(
        NAME,
        property,
        log.kind,
        field,
        summary=sentence,
        reason=(
            f"The {log.kind} rows of {log.key}, read afterwards, in the order in which they were "
            f"committed: {_listed(log)}.",
            *more,
        ),
        calls=[call for call, _ in pair if call],
        evidence={"key": log.key, "rows": [list(entry) for entry in log.rows[:20]]},
    )


def _listed(log: Log) -> str:
    return ", ".join(f"{call or '?'} ({log.shown_by} {key!r})" for call, key in log.rows[:10])


def _reads(seen: Sequence[Seen], operations: Mapping[str, Operation]) -> Iterator[Finding]:
    lists: dict[tuple[str, str], list[tuple[Operation, Seen]]] = {}
    for read in seen:
        op = operations.get(read.call)
        if op is not None and op.answered:
            lists.setdefault((read.kind, read.key), []).append((op, read))
    for reads in lists.values():
        for index, (op, read) in enumerate(reads):
            for before, old in reads[:index]:
                if before.precedes(op):
                    yield from _continued(before, old, op, read)


def _continued(before: Operation, old: Seen, op: Operation, new: Seen) -> Iterator[Finding]:
    """`new` must be `old` with more at its end."""
    gone = [i for i in old.ids if i not in set(new.ids)]
    common = set(old.ids) & set(new.ids)
    if new.complete and gone:
        property = "shrinks"
        what = f"{op.call} leaves out what {before.call} had shown before"
    elif [i for i in old.ids if i in common] != [i for i in new.ids if i in common]:
        property = "reorders"
        what = f"{op.call} sees entries in another order than {before.call} did"
    elif (
        old.complete
        and new.complete
        and common
        and tuple(new.ids[: len(old.ids)]) != tuple(old.ids)
    ):
        property = "inserts-before-the-end"
        what = f"{op.call} sees a new entry before ones that {before.call} saw already"
    else:
        return
    who = "the same agent" if before.agent == op.agent else "another agent"
    yield finding(
        NAME,
        property,
        new.kind,
        summary=f"the past of a list changes: {what}",
        reason=(
            f"{before.call} ({before.tool}) was answered with {_ids(old.ids)}.",
            f"After that, {op.call} ({op.tool}) was sent by {who} and answered with "
            f"{_ids(new.ids)}.",
            _RULE[property].format(earlier=before.call, later=op.call),
            "No correct server may answer this, in any order of the calls.",
        ),
        calls=(before.call, op.call),
        evidence={"key": new.key, "old": list(old.ids), "new": list(new.ids)},
    )


def _ids(ids: Sequence[str]) -> str:
    return f"[{', '.join(ids)}]"
