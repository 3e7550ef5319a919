"""Worlds of the real Empirica, put back under its running server."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcpconc.target import resolve
from mcpconc.target.base import Identity, Target
from mcpconc.world import World, world

pytestmark = [pytest.mark.real, pytest.mark.anyio]

VECTORS = {"know": 0.6, "uncertainty": 0.2, "engagement": 0.7}
Ask = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def target(anyio_backend: str) -> Target:
    target = resolve("empirica")
    await target.install(print)
    return target


@pytest.fixture
async def made(target: Target, tmp_path: Path) -> AsyncIterator[World]:
    async with world(target, Identity.ISOLATED, tmp_path / "some where" / "w") as made:
        yield made


@asynccontextmanager
async def server(made: World) -> AsyncIterator[Ask]:
    launch = made.launch(0, 1)
    before = made.members()
    parameters = StdioServerParameters(
        command=launch.argv[0], args=list(launch.argv[1:]), env=dict(launch.env), cwd=launch.cwd
    )
    log = (made.logs / "stderr").open("w")
    async with stdio_client(parameters, log) as streams, ClientSession(*streams) as session:
        await session.initialize()
        for pid in made.members() - before:
            made.adopt(pid)

        async def ask(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await session.call_tool(tool, arguments)
            answer = made.target.interpret(tool, result.content[0].text)
            return dict(answer.data)

        yield ask
    made.servers.clear()
    log.close()


async def test_a_fresh_world(made):
    assert made.before.rows("sessions", "sessions") == []
    assert len(made.before.rows("sessions", "projects")) == 1
    assert made.before.notes == {}
    assert not [line for said in made.before.checks.values() for line in said]
    (made.root / "home" / ".empirica" / "active_session_x").write_text("left over")
    await made.restore()
    assert await made.snapshot() == made.before


async def test_putting_back_under_a_running_server(made):
    async with server(made) as ask:
        for _ in range(2):
            created = await ask("session_create", ai_id="someone")
            snapshot = await made.snapshot()
            (row,) = snapshot.rows("sessions", "sessions")
            assert row["session_id"] == created["session_id"]
            assert row["instance_id"] == "mcpconc-0"
            assert await made.quiesce(30)
            assert made.holders() == {}
            await made.restore()
            assert await made.snapshot() == made.before


async def test_quiescence_includes_the_detached_worker(made):
    async with server(made) as ask:
        session = (await ask("session_create", ai_id="someone"))["session_id"]
        assessment = {"session_id": session, "vectors": VECTORS, "reasoning": "because"}
        await ask("submit_preflight_assessment", **assessment)
        await ask("submit_postflight_assessment", **assessment)
        assert any("postflight_storage_worker" in command for command in made.busy().values())
        assert await made.quiesce(60)
        snapshot = await made.snapshot()
    phases = {row["cascade_phase"] for row in snapshot.rows("sessions", "epistemic_snapshots")}
    assert "POSTFLIGHT" in phases
    assert snapshot.notes[f"refs/notes/empirica/session/{session}/POSTFLIGHT/1"]


async def explicit_session(where: str) -> None:
    """Create a session in explicit mode and print the state files that it left."""
    target = resolve("empirica")
    await target.install(lambda line: None)
    async with world(target, Identity.EXPLICIT, Path(where)) as made, server(made) as ask:
        created = await ask("session_create", ai_id="someone")
        assert await made.quiesce(30)
        snapshot = await made.snapshot()
        (row,) = snapshot.rows("sessions", "sessions")
        print(json.dumps([created["ok"], row["instance_id"], sorted(snapshot.files)]))


def test_a_terminal_gives_agents_no_identity(tmp_path):
    """Empirica looks for a terminal among the ancestors of its processes."""
    program = (
        "import anyio, test_empirica_world as t; "
        f"anyio.run(t.explicit_session, {str(tmp_path / 'w')!r})"
    )
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(Path(__file__).parent)
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    try:
        while chunk := os.read(descriptor, 4096):
            said += chunk
    except OSError:  # the end of a terminal
        pass
    os.close(descriptor)
    os.waitpid(pid, 0)
    assert json.loads(said.decode().strip().splitlines()[-1]) == [True, None, []]
