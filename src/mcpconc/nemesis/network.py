"""Faults of a git remote, on the loopback interface: nobody there, silent, or gone in mid-push.

While such a fault lasts the target is configured to use the remote (`mcpconc.target.base.Pushes`);
as a rule it has none. The remote speaks just enough of git's protocol (gitprotocol-pack(5)) for a
push to begin.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread

from mcpconc.nemesis.base import Act, Family, Kind, Missed, Strike, undone
from mcpconc.target.base import Pushes

__all__ = ["KINDS", "cuts", "hangs"]

LONG = 1.2
"""Times the target's own limit: whoever waits for the remote gives up."""
NO_REFS = b"0" * 40 + b" capabilities^{}\0report-status delete-refs ofs-delta\n"
HOST = "127.0.0.1"

Handler = Callable[[anyio.abc.ByteStream], Awaitable[None]]


async def hangs(stream: anyio.abc.ByteStream) -> None:
    """Listen, and say nothing."""
    async with stream:
        async for _ in stream:
            pass


async def cuts(stream: anyio.abc.ByteStream) -> None:
    """Offer an empty repository, take what comes first of a push, and hang up."""
    async with stream:
        try:
            await stream.receive()  # what is asked for
            await stream.send(b"%04x" % (len(NO_REFS) + 4) + NO_REFS + b"0000")
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


def _remote(handler: Handler | None) -> Act:
    @asynccontextmanager
    async def act(strike: Strike) -> AsyncIterator[None]:
        if handler is None:
            async with _configured(strike, _free_port()):
                yield
            return
        listener = await anyio.create_tcp_listener(local_host=HOST)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, handler)
            async with _configured(strike, listener.extra(anyio.abc.SocketAttribute.local_port)):
                yield
            group.cancel_scope.cancel()

    return act


@asynccontextmanager
async def _configured(strike: Strike, port: int) -> AsyncIterator[None]:
    """The target uses the remote at this port for the length of a block."""
    target, root = strike.world.target, strike.world.root
    if not isinstance(target, Pushes):
        raise Missed("the target pushes to no remote")
    url = f"git://{HOST}:{port}/remote"
    changes = {root / path: text for path, text in target.push_to(root, url).items()}
    strike.begins(f"the git remote is {url}")
    before = {path: await anyio.to_thread.run_sync(_read, path) for path in changes}
    try:
        for path, text in changes.items():
            await anyio.to_thread.run_sync(_write, path, text)
        yield
    finally:
        for path, old in before.items():
            await undone(partial(_write, path, old))


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def _write(path: Path, text: str | None) -> None:
    """In one piece, or not at all where there was nothing."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)


def _free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port: int = unused.getsockname()[1]
        return port


def _kind(name: str, about: str, handler: Handler | None) -> Kind:
    return Kind(
        name=name,
        about=about,
        family=Family.GIT,
        act=_remote(handler),
        seconds=lambda strike: LONG * strike.patience,
        of_agent=False,
        refuses=True,
    )


KINDS = (
    _kind("remote-down", "there is a git remote to push to, and nobody answers there", None),
    _kind("remote-hangs", "the git remote takes connections and says nothing", hangs),
    _kind("remote-cuts", "the git remote hangs up in the middle of a push", cuts),
)
