"""Histories: what was invoked and what came back, in one total order.

Events are appended to one log in one event loop, so the append order *is* the order; `ns` is
kept for metrics and pictures and never for judging (but for the one oracle that judges how long
calls take, ``oracle/resources.py``). Types follow Jepsen: `invoke`, then `ok`
(answered; a refusal is an answer), `fail` (provably never reached the target) or `info`
(nobody knows). Intervals are closed, as in Porcupine: A precedes B only if A returned before B
was invoked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mcpconc.errors import TraceError

__all__ = ["Answer", "Event", "EventType", "History", "Operation", "Outcome", "Phase", "operations"]


class EventType(StrEnum):
    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"
    NOTE = "note"
    """Not about a call: a fault injected, a server restarted, a stray message on the wire."""


class Outcome(StrEnum):
    """What an answered call answered."""

    SUCCESS = "success"
    REFUSED = "refused"
    USAGE = "usage"
    """The target says that the call is not well-formed; it did nothing."""
    GARBLED = "garbled"
    """An answer that is not of the form that the tool promises."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A tool's text, understood. `unknown` is set where the target itself says that it does
    not know whether the call took effect (its own time-out): such an answer is `info`."""

    outcome: Outcome
    data: Mapping[str, Any]
    unknown: str = ""


class Phase(StrEnum):
    PREFIX = "prefix"
    LANE = "lane"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log.

    `value` is, for `invoke`, ``{"tool", "args", "token", "phase"}`` with arguments as sent; for
    `ok`, ``{"outcome", "data", "text"}`` (`text` only where `data` does not say it all); for
    `fail` and `info`, ``{"why", "text"}``; for `note`, ``{"what", …}``.
    """

    index: int
    type: EventType
    agent: int
    call: str
    value: Mapping[str, Any]
    ns: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "i": self.index,
            "t": self.type.value,
            "agent": self.agent,
            "call": self.call,
            "v": dict(self.value),
            "ns": self.ns,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """Inverse of `to_json`.

        :raises TraceError: if the data does not have the shape of an event.
        """
        try:
            return cls(
                index=data["i"],
                type=EventType(data["t"]),
                agent=data["agent"],
                call=data["call"],
                value=data["v"],
                ns=data.get("ns", 0),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"not an event: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Operation:
    """A call with its interval. `returned` is None where nobody knows whether it took effect:
    the call is then concurrent with everything after its invocation. `under` names a fault in whose
    time it was in flight and which may make a target refuse: parts of it may have been."""

    call: str
    agent: int
    tool: str
    args: Mapping[str, Any]
    token: str
    phase: Phase
    invoked: int
    returned: int | None
    outcome: Outcome | None
    data: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    why: str = ""
    under: str = ""

    @property
    def answered(self) -> bool:
        return self.returned is not None

    @property
    def succeeded(self) -> bool:
        return self.outcome is Outcome.SUCCESS

    def precedes(self, other: Operation) -> bool:
        """Real-time order: this call was answered before `other` was invoked."""
        return self.returned is not None and self.returned < other.invoked


@dataclass(frozen=True, slots=True)
class History:
    """The events of one run and the operations they make up, in order of invocation.

    Calls that failed (never reached the target) have events but no operation.
    """

    events: tuple[Event, ...]
    operations: tuple[Operation, ...]

    @classmethod
    def of(cls, events: Iterable[Event]) -> History:
        listed = tuple(events)
        return cls(listed, operations(listed))

    def notes(self, what: str) -> tuple[Event, ...]:
        return tuple(
            e for e in self.events if e.type is EventType.NOTE and e.value.get("what") == what
        )


def operations(events: Sequence[Event]) -> tuple[Operation, ...]:
    """Pair invocations with their ends.

    An invocation without an end (the log was cut off) counts as `info`.

    :raises TraceError: if a call is invoked twice, or ends without having been invoked.
    """
    invoked: dict[str, Event] = {}
    ended: dict[str, Event] = {}
    for event in events:
        if event.type is EventType.NOTE:
            continue
        if event.type is EventType.INVOKE:
            if event.call in invoked:
                raise TraceError(f"event {event.index}: call {event.call} is invoked twice")
            invoked[event.call] = event
        elif event.call not in invoked:
            raise TraceError(f"event {event.index}: call {event.call} ends but was never invoked")
        elif event.call in ended:
            raise TraceError(f"event {event.index}: call {event.call} ends twice")
        else:
            ended[event.call] = event
    result = []
    for call, start in invoked.items():
        end = ended.get(call)
        if end is not None and end.type is EventType.FAIL:
            continue
        answered = end is not None and end.type is EventType.OK
        value: Mapping[str, Any] = end.value if end is not None else {"why": "log ends here"}
        result.append(
            Operation(
                call=call,
                agent=start.agent,
                tool=start.value["tool"],
                args=start.value["args"],
                token=start.value.get("token", ""),
                phase=Phase(start.value.get("phase", "lane")),
                invoked=start.index,
                returned=end.index if end is not None and answered else None,
                outcome=Outcome(value["outcome"]) if answered else None,
                data=value.get("data") or {},
                text=value.get("text", ""),
                why=value.get("why", ""),
            )
        )
    return tuple(result)
