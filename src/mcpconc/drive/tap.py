"""A tap between `stdio_client` and `ClientSession`: every message of a session, both ways.

The SDK drops what it does not expect (late and unknown responses, lines that are not
JSON-RPC), so whoever judges the wire must listen below it. The tap is also the place with the
truest order: a call is invoked just before its request leaves and ended when its response
arrives, whatever the tasks above do later.

What a conforming server never causes is recorded as a note; `oracle.protocol` judges them:

    garbage             a line on stdout that is not JSON
    malformed           JSON that is not JSON-RPC, or a result that is not a tool result
    stray-response      a response to a request that was never made
    duplicate-response  a second response to one request
    late-response       a response after the client gave up (no fault of the server)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCRequest, JSONRPCResponse
from pydantic import ValidationError

__all__ = ["CURRENT", "EXCERPT", "Exchange", "Reply", "Tap", "Traffic"]

EXCERPT = 500
"""Characters of a foreign text that a note keeps."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to a tool call, taken apart. `code` is set for a JSON-RPC error."""

    text: str
    is_error: bool = False
    code: int | None = None
    malformed: bool = False


class Exchange(Protocol):
    """What the tap needs of a request: it tells when it leaves and what comes back."""

    @property
    def name(self) -> str: ...

    @property
    def over(self) -> bool:
        """Nobody waits for the response any more."""
        ...

    def sent(self) -> None: ...

    def answered(self, reply: Reply) -> None: ...


CURRENT: ContextVar[Exchange | None] = ContextVar("mcpconc_exchange", default=None)
"""The exchange that the running task makes: the SDK gives out the request ids, the tap needs to
know which call an id belongs to, and both run in the caller's context."""


@dataclass(slots=True)
class Traffic:
    """Bytes of the messages of a session, as JSON without a space that it does not need; a line
    that is no message counts as it came."""

    sent: int = 0
    received: int = 0


@dataclass(slots=True, eq=False)
class Tap:
    """Both directions of one server's life.

    `note` gets (what, call, details); `closed` is called once when the server's end of the
    pipe is gone. Where there is `traffic`, it is added up.
    """

    note: Callable[[str, str, Mapping[str, Any]], None]
    closed: Callable[[], None]
    traffic: Traffic | None = None
    heard: int = 0
    """Messages that were JSON-RPC."""
    garbage: int = 0
    first_garbage: str = ""
    strays: int = 0
    _open: dict[int | str, Exchange | None] = field(default_factory=dict)
    _answered: dict[int | str, str] = field(default_factory=dict)

    def between(self, streams: TransportStreams) -> tuple[_Reading, _Writing]:
        """The streams to give to `ClientSession` in place of the transport's own."""
        read, write = streams
        return _Reading(read, self), _Writing(write, self)

    def forget(self) -> None:
        """A new run begins: the names of the last one's calls mean nothing in it."""
        self._answered = dict.fromkeys(self._answered, "")

    def outgoing(self, item: SessionMessage) -> None:
        message = item.message
        if self.traffic is not None:
            self.traffic.sent += _size(message)
        if not isinstance(message, JSONRPCRequest):
            return
        exchange = CURRENT.get() if message.method == "tools/call" else None
        self._open[message.id] = exchange
        if exchange is not None:
            exchange.sent()

    def incoming(self, item: SessionMessage | Exception) -> None:
        if isinstance(item, Exception):
            self._unreadable(item)
            return
        self.heard += 1
        message = item.message
        if self.traffic is not None:
            self.traffic.received += _size(message)
        if isinstance(message, JSONRPCResponse):
            self._response(message.id, lambda: _tool_reply(message.result))
        elif isinstance(message, JSONRPCError):
            error = message.error
            self._response(message.id, lambda: Reply(error.message, True, error.code))

    def _response(self, given: int | str | None, reply: Callable[[], Reply]) -> None:
        # The SDK takes "7" for 7, and so must the books; JSON-RPC does not allow it.
        key = int(given) if isinstance(given, str) and given.isdecimal() else given
        if key is None or (key not in self._open and key not in self._answered):
            self.strays += 1
            self.note("stray-response", "", {"id": given, "text": reply().text[:EXCERPT]})
            return
        if key in self._answered:
            self.strays += 1
            text = reply().text[:EXCERPT]
            self.note("duplicate-response", self._answered[key], {"id": given, "text": text})
            return
        exchange = self._open.pop(key)
        self._answered[key] = exchange.name if exchange is not None else ""
        if exchange is None:
            return
        got = reply()
        if key is not given:
            self.note(
                "malformed", exchange.name, {"text": f"request {key} is answered as {given!r}"}
            )
        if got.malformed:
            self.note("malformed", exchange.name, {"text": got.text[:EXCERPT]})
        if exchange.over:
            self.note("late-response", exchange.name, {"text": got.text[:EXCERPT]})
        else:
            exchange.answered(got)

    def _unreadable(self, error: Exception) -> None:
        line = _line(error)
        if self.traffic is not None:
            self.traffic.received += len(line.encode()) + 1
        try:
            json.loads(line)
            what = "malformed"
        except ValueError:
            what = "garbage"
        self.garbage += 1
        self.first_garbage = self.first_garbage or line[:EXCERPT]
        self.note(what, "", {"text": line[:EXCERPT]})


def _size(message: JSONRPCMessage) -> int:
    """With the newline that ends it."""
    return len(message.model_dump_json(by_alias=True, exclude_unset=True).encode()) + 1


def _line(error: Exception) -> str:
    """The line that the transport could not parse: pydantic keeps its input."""
    if isinstance(error, ValidationError) and (errors := error.errors(include_url=False)):
        given = errors[0].get("input")
        if isinstance(given, str):
            return given
        return json.dumps(given, default=str)
    return str(error)


def _tool_reply(result: Mapping[str, Any]) -> Reply:
    """The text blocks of a tool result, joined by newlines.

    A result with `structuredContent` alone counts as that value's JSON.
    """
    content = result.get("content")
    if not isinstance(content, list) or not all(
        isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
    ):
        return Reply(json.dumps(result, default=str), malformed=True)
    texts = [block.get("text") for block in content if block["type"] == "text"]
    if not all(isinstance(text, str) for text in texts):
        return Reply(json.dumps(result, default=str), malformed=True)
    is_error = result.get("isError") is True
    if not texts and result.get("structuredContent") is not None:
        return Reply(json.dumps(result["structuredContent"]), is_error)
    return Reply("\n".join(str(text) for text in texts), is_error)


class _Reading:
    """The transport's read stream; shows each item to the tap before the SDK gets it."""

    def __init__(self, stream: Any, tap: Tap) -> None:
        self._stream = stream
        self._tap = tap

    async def receive(self) -> SessionMessage | Exception:
        try:
            item: SessionMessage | Exception = await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._tap.closed()
            raise
        self._tap.incoming(item)
        return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Reading:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class _Writing:
    """The transport's write stream; shows each item to the tap just before it leaves."""

    def __init__(self, stream: Any, tap: Tap) -> None:
        self._stream = stream
        self._tap = tap

    async def send(self, item: SessionMessage) -> None:
        self._tap.outgoing(item)
        await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _Writing:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
