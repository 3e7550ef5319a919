"""One tool call on its way through a session: the events that it becomes.

A call ends once: `ok` (answered, refusals too), `fail` (provably never sent) or `info` (nobody
knows). A fault in our own code is none of these; it waits in `error` for the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from mcp_types import INVALID_PARAMS

from mcpconc.drive.record import Recorder
from mcpconc.drive.tap import Reply
from mcpconc.errors import InvariantError, McpconcError
from mcpconc.history import Answer, Event, EventType, Outcome, Phase
from mcpconc.program import Call, Ref, reference

__all__ = ["Request"]


@dataclass(slots=True, eq=False)
class Request:
    """`args` are bound, but for a call that is never sent. `interpret` is the target's."""

    call: Call
    args: Mapping[str, Any]
    phase: Phase
    log: Recorder
    interpret: Callable[[str, str], Answer]
    end: Event | None = None
    error: McpconcError | None = None
    left: bool = False
    """The request has been given to the transport, so the target may have seen it."""
    abandoned: bool = False
    """It left and was given up: the server may still be at it."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)

    @property
    def name(self) -> str:
        return self.call.id

    @property
    def over(self) -> bool:
        return self.end is not None or self.error is not None

    def sent(self) -> None:
        """It leaves now."""
        self.left = True
        self._guard(self._invoke)

    def answered(self, reply: Reply) -> None:
        """Its response has arrived just now."""
        self._guard(lambda: self._finish(*self._meaning(reply)))

    def give_up(self, why: str, text: str = "") -> None:
        """Nobody waits any more; does nothing where it is over."""
        if self.over:
            return
        if self.left:
            self.abandoned = True
            self._guard(lambda: self._finish(EventType.INFO, {"why": why, "text": text}))
        else:
            self._guard(self._invoke)
            self._guard(lambda: self._finish(EventType.FAIL, {"why": why, "text": text}))

    def fault(self, error: Exception) -> None:
        """Something of ours went wrong on its way."""
        if self.error is not None:
            return
        if isinstance(error, McpconcError):
            self.error = error
        else:
            self.error = InvariantError(f"call {self.call.id} ({self.call.tool}): {error!r}")
            self.error.__cause__ = error

    def result(self) -> Event:
        """The event that ended it.

        :raises McpconcError: what went wrong on our side instead.
        """
        if self.error is not None:
            raise self.error
        if self.end is None:
            raise InvariantError(f"call {self.call.id} ({self.call.tool}) has no end")
        return self.end

    def _invoke(self) -> None:
        value = {
            "tool": self.call.tool,
            "args": _shown(self.args),
            "token": self.call.token,
            "phase": self.phase.value,
        }
        self.log.append(EventType.INVOKE, self.call.agent, self.call.id, value)

    def _finish(self, type: EventType, value: Mapping[str, Any]) -> None:
        if not self.over:
            self.end = self.log.append(type, self.call.agent, self.call.id, value)

    def _meaning(self, reply: Reply) -> tuple[EventType, dict[str, Any]]:
        if reply.code is not None:
            # A JSON-RPC error is an answer. That nothing was done follows from "invalid
            # params" alone; any other code says only that no result came.
            outcome = Outcome.USAGE if reply.code == INVALID_PARAMS else Outcome.GARBLED
            return EventType.OK, {
                "outcome": outcome.value,
                "data": {},
                "text": reply.text,
                "code": reply.code,
            }
        if reply.malformed:
            return EventType.OK, {"outcome": Outcome.GARBLED.value, "data": {}, "text": reply.text}
        answer = self.interpret(self.call.tool, reply.text)
        if answer.unknown:
            return EventType.INFO, {"why": answer.unknown, "text": reply.text}
        outcome = answer.outcome
        if reply.is_error and outcome is Outcome.SUCCESS:
            outcome = Outcome.REFUSED
        value: dict[str, Any] = {"outcome": outcome.value, "data": answer.data}
        if not _says_it_all(answer.data, reply.text):
            value["text"] = reply.text
        return EventType.OK, value

    def _guard(self, act: Callable[[], None]) -> None:
        # Runs inside the SDK's tasks: an exception would pass for a broken connection there.
        try:
            act()
        except Exception as error:
            self.fault(error)


def _says_it_all(data: Mapping[str, Any], text: str) -> bool:
    try:
        return bool(orjson.loads(text) == data)
    except orjson.JSONDecodeError:
        return False


def _shown(args: Any) -> Any:
    """Arguments as data; a `Ref` that could not be bound is written as in a program."""
    if isinstance(args, Ref):
        return reference(args)
    if isinstance(args, Mapping):
        return {key: _shown(value) for key, value in args.items()}
    if isinstance(args, list | tuple):
        return [_shown(value) for value in args]
    return args
