"""Tiny hand-made runs for oracle tests: a target whose knowledge is written down literally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.history import Event, EventType, History, Operation
from mcpconc.model.base import Partition
from mcpconc.model.spec import Copies, Effect, Footprint, Log, Mode, Seen, View
from mcpconc.oracle.base import Run
from mcpconc.program import Program
from mcpconc.snapshot import Snapshot


@dataclass
class Told:
    """A `Spec` that says what the test tells it to say."""

    name: str = "told"
    partition: Sequence[Partition] = ()
    effect: Sequence[Effect] = ()
    rows: Sequence[tuple[str, str, str, str]] = ()
    log: Sequence[Log] = ()
    reads: Sequence[Seen] = ()
    view: Sequence[View] = ()
    copy: Sequence[Copies] = ()
    copy_before: Sequence[Copies] = ()
    footprints: Mapping[tuple[str, str], Footprint] = field(default_factory=dict)
    change: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def partitions(self, operations: Any, snapshot: Any) -> Sequence[Partition]:
        return self.partition

    def effects(self, operations: Any) -> Sequence[Effect]:
        return self.effect

    def attribute(self, operations: Any, snapshot: Any) -> Sequence[tuple[str, str, str, str]]:
        return self.rows

    def logs(self, operations: Any, snapshot: Any) -> Sequence[Log]:
        return self.log

    def seen(self, operations: Any) -> Sequence[Seen]:
        return self.reads

    def views(self, operations: Any, snapshot: Any) -> Sequence[View]:
        return self.view

    def copies(self, snapshot: Snapshot) -> Sequence[Copies]:
        return self.copy if snapshot.tables or snapshot.schema else self.copy_before

    def footprint(self, operation: Operation) -> Footprint | None:
        return self.footprints.get((operation.tool, str(operation.outcome)))

    def changes(self, before: Snapshot, after: Snapshot) -> Mapping[tuple[str, str], int]:
        return self.change

    def owner(self, operation: Operation) -> str:
        return f"owner{operation.agent}"

    def promises_json(self, tool: str) -> bool:
        return True


def history(*lines: str) -> History:
    """A history from lines such as ``1> write`` (call ``1`` of tool ``write`` is sent),
    ``1< ok``, ``1< refused``, ``1< lost`` (nobody knows). Agent: the call's number."""
    events = []
    for index, line in enumerate(lines):
        call, what = line[: -len(line.lstrip("0123456789"))], line.lstrip("0123456789")
        agent = int(call)
        word = what[1:].strip()
        if what[0] == ">":
            value: dict[str, Any] = {"tool": word, "args": {}, "token": f"tok{call}"}
            events.append(Event(index, EventType.INVOKE, agent, call, value))
        elif word == "lost":
            events.append(Event(index, EventType.INFO, agent, call, {"why": "time-out"}))
        else:
            outcome = {"ok": "success"}.get(word, word)
            events.append(Event(index, EventType.OK, agent, call, {"outcome": outcome, "data": {}}))
    return History.of(events)


TWO_AT_ONCE = ("1> write", "2> write", "1< ok", "2< ok")
ONE_THEN_TWO = ("1> write", "1< ok", "2> write", "2< ok")


def table(*rows: Mapping[str, Any]) -> Snapshot:
    """A snapshot with one table, ``db.things``."""
    numbered = [{"_rowid_": n, **row} for n, row in enumerate(rows, start=1)]
    return Snapshot(tables={"db": {"things": numbered}})


def effect(call: str, mode: str = "append", **more: Any) -> Effect:
    """A write of ``db.things`` by `call`, by default of the row with its token."""
    given: dict[str, Any] = {"where": {"text": f"tok{call}"}, **more}
    return Effect(call=call, mode=Mode(mode), kind="thing", database="db", table="things", **given)


def run(told: Told, lines: Sequence[str], after: Snapshot | None, **more: Any) -> Run:
    given: dict[str, Any] = {"before": Snapshot(), **more}
    return Run(Program(3), history(*lines), after=after, spec=told, **given)


def heads(result: Any) -> list[tuple[str, str, str]]:
    """(property, kind, field) of each finding."""
    return [f.fingerprint.head()[1:] for f in result.findings]
