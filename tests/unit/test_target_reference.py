"""The reference server as a target: its worlds, how it is started, how it is broken."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import anyio
import pytest

import mcpconc
from mcpconc.errors import TargetError, UsageError
from mcpconc.model.empirica import SPEC
from mcpconc.reference import switch
from mcpconc.reference.store import SESSIONS, WORKSPACE
from mcpconc.target.base import MARKER, Identity
from mcpconc.target.reference import CALL_TIMEOUT, ReferenceTarget, scaling
from mcpconc.world import World


async def silent(target: ReferenceTarget) -> None:
    await target.install(lambda line: None)


def made(root: Path) -> Path:
    root.mkdir()
    anyio.run(ReferenceTarget().prepare, root)
    return root


def test_it_is_here_already():
    target = ReferenceTarget()
    anyio.run(silent, target)
    assert target.version == mcpconc.__version__
    assert target.spec is SPEC


def test_without_git_it_cannot_be_used(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetError, match="git was not found on PATH"):
        anyio.run(silent, ReferenceTarget())


def test_a_bug_is_part_of_the_name_and_may_be_changed():
    target = ReferenceTarget()
    assert target.name == "reference"
    target.plant = "response-twice"
    assert target.name == "reference+response-twice"


# ------------------------------------------------------------------ worlds


def test_a_world_has_what_the_layout_names(tmp_path):
    root = made(tmp_path / "w")
    assert dict(ReferenceTarget().layout.databases) == {
        "sessions": SESSIONS,
        "workspace": WORKSPACE,
    }
    for path in (SESSIONS, WORKSPACE):
        with closing(sqlite3.connect(root / path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() > (0,)


def test_all_worlds_begin_with_the_same_commit(tmp_path):
    def head(root: Path) -> str:
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(
            command, cwd=root / "ws", capture_output=True, text=True, check=True
        ).stdout

    assert head(made(tmp_path / "a")) == head(made(tmp_path / "b"))


def test_a_world_that_cannot_be_made(tmp_path):
    (tmp_path / "ws").write_text("a file where a directory must be")
    with pytest.raises(TargetError, match=r"reference: a world cannot be made: .*ws"):
        anyio.run(ReferenceTarget().prepare, tmp_path)


def test_nothing_of_the_users_configuration_gets_in(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[commit]\n gpgsign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    made(tmp_path / "w")


# ------------------------------------------------------------------ starting


def launched(root: Path, agent: int = 0, agents: int = 1) -> tuple[list[str], Mapping[str, str]]:
    launch = ReferenceTarget().launch(root, agent, agents, Identity.ISOLATED)
    assert launch.cwd == root / "ws"
    return list(launch.argv), launch.env


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_each_agent_is_an_instance_of_its_own(tmp_path):
    instances = [option(launched(tmp_path, agent)[0], "--instance") for agent in range(3)]
    assert instances == ["mcpconc-0", "mcpconc-1", "mcpconc-2"]


def test_nothing_is_inherited_but_where_things_are(tmp_path, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    argv, env = launched(tmp_path)
    assert argv[0] == sys.executable
    assert env[MARKER] == str(tmp_path)
    assert env["HOME"] == str(tmp_path / "home")
    inherited = {name for name, value in env.items() if os.environ.get(name) == value}
    assert inherited <= {"LANG", "TZ", "PATH", "LD_LIBRARY_PATH"}
    assert "secret" not in env.values()


def test_where_python_finds_mcpconc_is_passed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    assert launched(tmp_path)[1]["PYTHONPATH"] == "/some/where"


@pytest.mark.parametrize("identity", [i for i in Identity if i is not Identity.ISOLATED])
def test_there_is_one_identity_mode(tmp_path, identity):
    with pytest.raises(UsageError, match="use isolated"):
        ReferenceTarget().launch(tmp_path, 0, 1, identity)


# ------------------------------------------------------------------ limits


def test_up_to_ten_agents_nothing_is_stretched(tmp_path):
    assert scaling(1) == scaling(10)
    assert scaling(10)["call_timeout"] == ReferenceTarget().call_timeout == CALL_TIMEOUT
    assert float(option(launched(tmp_path, agents=10)[0], "--busy")) == 3


@pytest.mark.parametrize("agents", [11, 50, 200])
def test_the_client_waits_longer_than_the_server(tmp_path, agents):
    busy = float(option(launched(tmp_path, agents=agents)[0], "--busy"))
    assert busy == pytest.approx(3 * agents / 10)
    assert scaling(agents)["call_timeout"] >= busy + 1


# ------------------------------------------------------------------ broken on request


def test_a_restored_world_says_which_bug_it_has_and_that_it_is_another_run(tmp_path):
    target = ReferenceTarget()

    async def main() -> list[str]:
        world = await World.make(target, Identity.ISOLATED, tmp_path / "w")
        texts = []
        try:
            for plant in ("memory-grows", "memory-grows", ""):
                target.plant = plant
                await world.restore()
                texts.append((world.root / switch.FILE).read_text())
        finally:
            await world.close()
        return texts

    texts = anyio.run(main)
    assert [text.partition("\n")[0] for text in texts] == ["memory-grows", "memory-grows", ""]
    assert len(set(texts)) == 3


def test_what_is_planted_is_no_state_of_the_world(tmp_path):
    async def main() -> bool:
        target = ReferenceTarget("memory-grows")
        world = await World.make(target, Identity.ISOLATED, tmp_path / "w")
        try:
            after = await world.snapshot()
            return after == world.before and (world.root / switch.FILE).exists()
        finally:
            await world.close()

    assert anyio.run(main)
