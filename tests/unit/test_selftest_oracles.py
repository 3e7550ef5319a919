"""The self-test for real: with every oracle it passes, without any one of them it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcpconc.errors import Exit
from mcpconc.events import PlantState, SelftestFinished
from mcpconc.oracle import ORACLES
from mcpconc.reference.plants import PLANTS, plant
from mcpconc.selftest import SelftestConfig, selftest

WITNESSES = {
    "protocol": "stdout-polluted",
    "refusal": "types-unchecked",
    "effects": "refused-goal-is-stored",
    "footprint": "criterion-for-everybody",
    "linearizability": "intermediate-read",
    "order": "equal-rounds",
    "isolation": "transaction-from-shared-file",
    "integrity": "blob-disagrees",
    "liveness": "ref-lock-left",
    "resources": "memory-grows",
}
"""For each oracle a bug that is soon met."""


def run(out: Path, names: Sequence[str], oracles: Any = ORACLES, **config: Any) -> SelftestFinished:
    plants = tuple(plant(name) for name in names)
    cheap = {"agents": 2, "silent": 1, "batches": 4}
    whole = SelftestConfig(out=out, plants=plants, **{**cheap, **config})
    return anyio.run(selftest, whole, lambda event: None, oracles)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> SelftestFinished:
    return run(tmp_path_factory.mktemp("complete"), list(WITNESSES.values()))


def test_every_oracle_has_its_witness() -> None:
    assert list(WITNESSES) == [name for name, _ in ORACLES]
    assert all(plant(name).oracle == oracle for oracle, name in WITNESSES.items())


@pytest.mark.parametrize("oracle", WITNESSES)
def test_with_all_oracles_the_right_one_catches_its_bug(
    oracle: str, complete: SelftestFinished
) -> None:
    (tried,) = [one for one in complete.tried if one.name == WITNESSES[oracle]]
    assert tried.state is PlantState.CAUGHT
    assert oracle in tried.seen


def test_and_the_self_test_passes(complete: SelftestFinished) -> None:
    assert complete.alarms == ()
    assert complete.exit is Exit.PASSED


@pytest.mark.parametrize("oracle", WITNESSES)
def test_without_an_oracle_the_self_test_fails(
    oracle: str, complete: SelftestFinished, tmp_path: Path
) -> None:
    others = tuple((name, judges) for name, judges in ORACLES if name != oracle)
    (caught,) = [one for one in complete.tried if one.name == WITNESSES[oracle]]
    # As many programs as it was caught in with the oracle, and the same ones.
    done = run(tmp_path, [WITNESSES[oracle]], others, runs=max(3, caught.runs))
    assert done.exit is Exit.VIOLATION
    assert done.tried[0].state in (PlantState.ESCAPED, PlantState.WRONG_ORACLE)


@pytest.mark.long
def test_all_bugs_with_several_seeds(tmp_path: Path) -> None:
    """Over ten minutes. Beside the verdict: what nobody else ought to see, nobody else saw."""
    done = run(tmp_path, [one.name for one in PLANTS], agents=5, silent=40, seeds=3, batches=10)
    assert done.exit is Exit.PASSED
    others = {t.name: set(t.seen) - {t.oracle} for t in done.tried if t.alone}
    assert {name: seen for name, seen in others.items() if seen} == {}
