"""Warm starts of the real Empirica: the same in kind as ordinary ones."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from mcpconc import procs
from mcpconc.rig import rig
from mcpconc.target import resolve
from mcpconc.target.base import MARKER, Identity
from mcpconc.target.warm import Start, keep_warm
from mcpconc.world import world
from real.test_probe import stopped

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from warm_starts import Turn, differences, kind, program, turn

pytestmark = pytest.mark.real


def tree(root: Path) -> set[str]:
    """Every file of the world but those of git, which names them after their content."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def test_one_session_is_the_same_in_kind(tmp_path: Path) -> None:
    async def one(start: Start) -> tuple[Turn, set[str], str]:
        target = resolve("empirica")
        await target.install(print)
        async with rig(target, Identity.ISOLATED, 1, tmp_path / start, print, start) as on:
            done = await turn(on, program(1))
            log = on.world.logs / "warm.txt"
            said = log.read_text() if log.exists() else ""
            return done, tree(on.world.root), said

    ordinary, left, _ = anyio.run(one, Start.ORDINARY)
    warm, also_left, said = anyio.run(one, Start.FORK)
    assert "started ordinarily" not in said
    assert [op.succeeded for op in warm.history.operations] == [True] * 10
    assert differences(kind(ordinary), kind(warm)) == []
    assert {name for name in also_left if "sessions.db" in name} == {
        name for name in left if "sessions.db" in name
    }
    assert warm.cpu < ordinary.cpu / 2


def test_imports_depend_on_nothing_that_calls_or_runs_change() -> None:
    """Neither a file of the world nor a variable by which agents differ."""

    async def main() -> None:
        target = resolve("empirica")
        await target.install(print)
        async with world(target, Identity.ISOLATED) as made:
            warmth = target.warmth(made.root, Identity.ISOLATED)  # type: ignore[attr-defined]
            async with keep_warm(warmth, made.logs / "warm.txt", watch=made.root) as warm:
                assert warm.touched == ()
                agents = [made.launch(agent, 50).env for agent in (0, 1)]
                differ = {n for env in agents for n in env if env[n] != warmth.env.get(n)}
                assert "EMPIRICA_INSTANCE_ID" in differ
                assert not differ & set(warm.reads)
                assert "HOME" in warm.reads
            assert procs.Census(MARKER, str(made.root)).pids() == set()

    anyio.run(main)


def test_the_probe_says_the_same_in_a_fork(tmp_path: Path) -> None:
    """Every statement, file and git command, in the same order: what is run is the same."""

    def points(start: Start) -> list[list[tuple[str, str]]]:
        _, heard = stopped(tmp_path / start, start)
        return [heard.said(command) for command in ("session-create", "finding-log")]

    ordinary, forked = points(Start.ORDINARY), points(Start.FORK)
    assert min(map(len, ordinary)) > 50
    assert forked == ordinary
