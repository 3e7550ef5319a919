"""Standard input and output as MCP's streams, and what may go wrong there.

The streams of the SDK are wrapped as long as the server lives, because a bug may be planted at
any moment; where none is, each message goes straight through.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest, JSONRPCResponse

from mcpconc.reference.switch import planted

__all__ = ["stdio"]

SAME_TIME = 0.03
"""Seconds within which two responses count as ready at the same time: a server that sends
responses in batches would wait for more of them."""


@asynccontextmanager
async def stdio() -> AsyncIterator[tuple[Any, Any]]:
    """The streams to serve on."""
    stdout = os.dup(1)  # the SDK keeps whatever else is printed off the wire
    try:
        async with stdio_server() as (read, write):
            wire = _Wire(stdout, write)
            yield _Reading(read, wire), _Writing(write, wire)
    finally:
        os.close(stdout)


@dataclass(slots=True)
class _Ready:
    """A response that waits for company. `asked` is the place of its request among all."""

    item: SessionMessage
    id: str | int
    asked: int
    gone: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Wire:
    stdout: int
    write: Any
    requests: int = 0
    open: dict[str | int, int] = field(default_factory=dict)
    """Id of each tool call that is not answered → its place among all."""
    ready: _Ready | None = None

    def heard(self, item: SessionMessage | Exception) -> None:
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method == "tools/call":
            self.requests += 1
            self.open[message.id] = self.requests

    async def say(self, item: SessionMessage) -> None:
        message = item.message
        if not isinstance(message, JSONRPCResponse) or message.id not in self.open:
            await self.write.send(item)
            return
        asked = self.open.pop(message.id)
        if planted("stdout-polluted") and _refused(message):
            os.write(self.stdout, b"call refused, see the answer\n")
        if planted("responses-swapped") or planted("response-lost"):
            await self._in_company(_Ready(item, message.id, asked))
            return
        await self.write.send(item)
        if planted("response-twice") and asked < self.requests:
            await self.write.send(item)

    async def _in_company(self, one: _Ready) -> None:
        other = self.ready
        if other is not None:
            self.ready = None
            other.gone.set()
            await self._both(other, one)
        else:
            self.ready = one
            with anyio.move_on_after(SAME_TIME):
                await one.gone.wait()
            if self.ready is one:
                self.ready = None
                await self.write.send(one.item)

    async def _both(self, one: _Ready, other: _Ready) -> None:
        if planted("response-lost"):
            await self.write.send(max(one, other, key=lambda ready: ready.asked).item)
            return
        for body, number in ((one, other), (other, one)):
            message = body.item.message.model_copy(update={"id": number.id})
            await self.write.send(SessionMessage(message))


def _refused(message: JSONRPCResponse) -> bool:
    content = message.result.get("content") or [{}]
    return str(content[0].get("text", "")).startswith('{"ok": false')


class _Reading:
    def __init__(self, stream: Any, wire: _Wire) -> None:
        self._stream = stream
        self._wire = wire

    @property
    def last_context(self) -> Any:
        """The SDK asks for it by name."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        item: SessionMessage | Exception = await self._stream.receive()
        self._wire.heard(item)
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
    def __init__(self, stream: Any, wire: _Wire) -> None:
        self._stream = stream
        self._wire = wire

    async def send(self, item: SessionMessage) -> None:
        await self._wire.say(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _Writing:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
