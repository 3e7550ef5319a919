"""Rigs that stay up from one replay to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcpconc import rigs as module
from mcpconc.errors import TargetError
from mcpconc.rigs import Rigs, Wanted, standing
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start

ONE = Wanted("reference", Identity.EXPLICIT, 2, Start.ORDINARY, None, hurried=False)


class Servers:
    """Stands in for what a rig starts, and writes down what is up."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.breaks: Exception | None = None

    @asynccontextmanager
    async def rig(
        self, target: Any, identity: Identity, agents: int, work: Path, *rest: Any
    ) -> AsyncIterator[str]:
        if self.breaks is not None:
            raise self.breaks
        self.log.append(f"up {agents}")
        try:
            yield f"rig of {agents}"
        finally:
            self.log.append(f"down {agents}")


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(module, "rig", servers.rig)
    return servers


def use(what: Callable[[Rigs], Awaitable[None]]) -> None:
    async def main() -> None:
        async with standing() as rigs:
            await what(rigs)

    anyio.run(main)


async def get(rigs: Rigs, wanted: Wanted) -> Any:
    return await rigs.get(wanted, Path("work"), lambda text: None)


def test_the_same_is_started_once(servers: Servers) -> None:
    async def twice(rigs: Rigs) -> None:
        assert await get(rigs, ONE) is await get(rigs, replace(ONE))
        assert servers.log == ["up 2"]

    use(twice)
    assert servers.log == ["up 2", "down 2"]


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, agents=3),
        replace(ONE, identity=Identity.ISOLATED),
        replace(ONE, target="reference+blob-disagrees"),
        replace(ONE, start=Start.FORK),
        replace(ONE, probe="control"),
        replace(ONE, hurried=True),
        replace(ONE, own="a trace"),
    ],
)
def test_for_another_the_first_is_ended_before(servers: Servers, other: Wanted) -> None:
    async def both(rigs: Rigs) -> None:
        await get(rigs, ONE)
        await get(rigs, other)

    use(both)
    assert [line.split()[0] for line in servers.log] == ["up", "down", "up", "down"]


def test_it_outlives_whoever_was_cancelled(servers: Servers) -> None:
    async def cut(rigs: Rigs) -> None:
        with anyio.CancelScope() as scope:
            await get(rigs, ONE)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        assert servers.log == ["up 2"]
        await rigs.close()
        assert servers.log == ["up 2", "down 2"]
        await get(rigs, ONE)

    use(cut)
    assert servers.log == ["up 2", "down 2"] * 2


def test_what_does_not_start_says_so_and_the_next_may(servers: Servers) -> None:
    async def retry(rigs: Rigs) -> None:
        servers.breaks = TargetError("no server")
        with pytest.raises(TargetError, match="no server"):
            await get(rigs, ONE)
        servers.breaks = None
        await get(rigs, ONE)

    use(retry)
    assert servers.log == ["up 2", "down 2"]


def test_a_mistake_comes_out_as_itself_and_leaves_nothing_up(servers: Servers) -> None:
    async def fails(rigs: Rigs) -> None:
        await get(rigs, ONE)
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        use(fails)
    assert servers.log == ["up 2", "down 2"]


def test_cancelled_as_a_whole_nothing_stays_up(servers: Servers) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.05):
            async with standing() as rigs:
                await get(rigs, ONE)
                await anyio.sleep_forever()

    anyio.run(main)
    assert servers.log == ["up 2", "down 2"]
