"""Standard input and output as MCP's streams, and what may go wrong there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.stdio import stdio_server

__all__ = ["stdio"]


@asynccontextmanager
async def stdio() -> AsyncIterator[tuple[Any, Any]]:
    """The streams to serve on."""
    async with stdio_server() as streams:
        yield streams
