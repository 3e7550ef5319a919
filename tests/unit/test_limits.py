"""The target's own limits where its processes are stopped on purpose: what can be set is set to
more, and what passes all the same is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import FakeTarget
from mcpconc.drive.runner import Fleet
from mcpconc.errors import UsageError
from mcpconc.schedule import make
from mcpconc.schedule.controlled import Controlled
from mcpconc.target.base import Identity, Launch, Limited
from mcpconc.target.command import CommandTarget
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.world import STRETCH, ProbeMode, World
from piloting import Target, controlled, piloted, program, run, say
from probing import probed


@dataclass
class Impatient(FakeTarget):
    """Its servers give up after what a variable says."""

    env: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, float] = field(default_factory=lambda: {"LIMIT": 30.0})
    tolerance: float = 7.0

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        return Launch(("true",), self.env, root)


def launched(root: Path, target: Any, probe: ProbeMode | None) -> tuple[World, str | None, float]:
    """The limit with which a server starts, and the tolerance that the controller knows of."""

    async def main() -> tuple[World, str | None, float]:
        world = World(target, Identity.EXPLICIT, root)
        world.logs.mkdir()
        async with world.watched(probe):
            tolerance = world.control.tolerance if world.control is not None else math.inf
            return world, world.launch(0, 1).env.get("LIMIT"), tolerance

    return anyio.run(main)


@pytest.mark.parametrize(
    ("env", "limit"), [({}, 30), ({"LIMIT": "45"}, 45), ({"LIMIT": "for ever"}, 30)]
)
def test_under_control_limits_are_longer(
    tmp_path: Path, env: Mapping[str, str], limit: float
) -> None:
    _, found, tolerance = launched(tmp_path / "w", Impatient(env=env), "control")
    assert found == str(int(limit * STRETCH))
    assert tolerance == 7.0


@pytest.mark.parametrize("probe", [None, "observe"])
def test_otherwise_they_are_as_they_are(tmp_path: Path, probe: ProbeMode | None) -> None:
    assert launched(tmp_path / "w", Impatient(), probe)[1] is None


def test_a_target_without_any_starts_as_ever(tmp_path: Path) -> None:
    assert launched(tmp_path / "w", Impatient(variables={}), "control")[1] is None


def test_a_client_waits_longer_than_the_target(tmp_path: Path) -> None:
    async def main() -> tuple[float, float]:
        async with AsyncExitStack() as stack:
            world = World(Impatient(), Identity.EXPLICIT, tmp_path / "w")
            world.logs.mkdir()
            await stack.enter_async_context(world.watched("control"))
            fleet = await stack.enter_async_context(
                Fleet.open(world, 0, world.logs, stretch=world.stretch)
            )
            return fleet.call_timeout, world.target.call_timeout

    stretched, own = anyio.run(main)
    assert stretched == own * STRETCH


def test_empirica_says_what_can_be_set() -> None:
    target = EmpiricaTarget.tested()
    assert isinstance(target, Limited)
    assert target.variables == {
        "EMPIRICA_MCP_TIMEOUT": 30,
        "EMPIRICA_MCP_CASCADE_TIMEOUT": 120,
    }


def described(directory: Path, text: str) -> CommandTarget:
    path = directory / "server.toml"
    path.write_text(f'{text}\n[server]\nargv = ["true"]\n')
    return CommandTarget.load(path)


def test_a_described_server_may_say_it_too(tmp_path: Path) -> None:
    target = described(tmp_path, "variables = { A = 3, B = 0.5 }\ntolerance = 2")
    assert isinstance(target, Limited)
    assert (target.variables, target.tolerance) == ({"A": 3.0, "B": 0.5}, 2.0)
    silent = described(tmp_path, "")
    assert (silent.variables, silent.tolerance) == ({}, math.inf)


@pytest.mark.parametrize("value", ['"30"', "0", "true"])
def test_a_limit_is_a_number_of_seconds(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=r"variables\.A must be a positive number"):
        described(tmp_path, f"variables = {{ A = {value} }}")


# ------------------------------------------------------------------ what passes all the same


def scheduled(root: Path, tolerance: float) -> Controlled:
    scheduler = make("random", 1)
    assert isinstance(scheduler, Controlled)

    async def main() -> None:
        async with controlled(root, {"t": say("a", "b")}) as (control, target):
            control.tolerance = tolerance
            await run(control, target, program(["t"], ["t"]), scheduler)

    anyio.run(main)
    return scheduler


def test_who_stood_for_too_long_is_named(tmp_path: Path) -> None:
    remarks = scheduled(tmp_path, 0.0).remarks
    assert any("stood for" in line and "before 'b'" in line for line in remarks)
    assert not any("stood for" in line for line in scheduled(tmp_path, math.inf).remarks)


async def gives_up(target: Target, agent: int) -> None:
    async with target.thread(agent) as thread:
        await thread.at("BEGIN", db="a.db", needs="write", writes=["x"])
        for waited in (5_000_000_000, 10_000):
            said = {"lock": "a.db", "label": f"INSERT {waited}", "waited": waited}
            await thread.say({"expired": said})
        await thread.at("ROLLBACK", writes=["x"])


def test_a_wait_for_a_lock_that_was_given_up_is_noted(tmp_path: Path) -> None:
    scheduler = make("random", 1)
    assert isinstance(scheduler, Controlled)
    piloted(tmp_path, {"t": gives_up}, program(["t"]), scheduler)
    said = "agent 0 waited for the lock of a.db before 'INSERT 5000000000' and gave up after 5.0 s"
    assert [line for line in scheduler.remarks if "lock of" in line] == [said]
    ((_, wait),) = [note for note in scheduler.notes if note[0] == "lock-expired"]
    assert (wait["agent"], wait["path"]) == (0, "a.db")


def test_one_run_knows_nothing_of_anothers_waits(tmp_path: Path) -> None:
    one, other = make("random", 1), make("random", 2)
    assert isinstance(one, Controlled)
    assert isinstance(other, Controlled)

    async def main() -> None:
        async with controlled(tmp_path, {"t": gives_up, "u": say("a")}) as (control, target):
            await run(control, target, program(["t"]), one)
            await run(control, target, program(["u"]), other)

    anyio.run(main)
    assert not [note for note in other.notes if note[0] == "lock-expired"]


def test_the_probe_says_when_a_wait_ends_without_the_lock(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import sqlite3
        from contextlib import suppress
        one = sqlite3.connect("a.db", isolation_level=None)
        one.execute("CREATE TABLE t(n INT)")
        one.execute("INSERT INTO t VALUES (1), (2), (3)")
        one.execute("BEGIN IMMEDIATE")
        other = sqlite3.connect("a.db", timeout=0.05)
        with suppress(sqlite3.OperationalError):
            other.execute("INSERT INTO t VALUES (1)")
        one.execute("ROLLBACK")
        reader = one.execute("SELECT n FROM t")
        reader.fetchone()
        other.execute("INSERT INTO t VALUES (1)")
        with suppress(sqlite3.OperationalError):
            other.commit()
        with suppress(sqlite3.OperationalError):
            other.execute("no SQL")
        """,
    )
    assert (heard.code, heard.err) == (0, "")
    assert [(said["lock"], said["label"]) for said in heard.expired] == [
        ("a.db", "INSERT INTO t VALUES (#)"),
        ("a.db", "COMMIT"),
    ]
    assert all(said["waited"] >= 50_000_000 for said in heard.expired)
