"""The wheel, installed in an environment of its own and used from another directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mcpconc
from samples import lost_task

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real
"""It needs the package index."""


def run(directory: Path, *words: str | Path) -> str:
    """A command with nothing of this checkout in its environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(words, cwd=directory, env=kept, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a source archive, as the one on the index would be, and that from a copy."""
    there = tmp_path_factory.mktemp("source")
    for name in ("src", "strategies", "traces", "pyproject.toml", "README.md", "Makefile"):
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, there / name, symlinks=True, ignore=unwanted)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, there)
    run(there, sys.executable, "-m", "uv", "build", "--out-dir", there / "dist")
    (built,) = (there / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment that holds the wheel and what it requires."""
    there = tmp_path_factory.mktemp("environment")
    run(there, sys.executable, "-m", "uv", "venv", "--python", sys.executable, there / "venv")
    python = there / "venv" / "bin" / "python"
    run(there, sys.executable, "-m", "uv", "pip", "install", "--python", python, wheel)
    return python.parent


def test_the_wheel_holds_strategies_and_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert {
        "mcpconc/strategies/cascade.py",
        "mcpconc/strategies/machine.py",
        "mcpconc/model/empirica/footprint.json",
        "mcpconc/py.typed",
        "mcpconc/mcpconc.schema.json",
        "mcpconc/target/warmth/shim.py",
        "mcpconc/schedule/probe/site/sitecustomize.py",
    } <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mcpconc"}


def test_the_command(installed: Path, tmp_path: Path) -> None:
    said = run(tmp_path, installed / "mcpconc", "--version")
    assert said == f"mcpconc {mcpconc.__version__}\n"
    assert "linearizability" in run(tmp_path, installed / "mcpconc", "list")


def test_strategies_can_be_imported(installed: Path, tmp_path: Path) -> None:
    code = (
        "import mcpconc.strategies as s; from mcpconc.strategies import CascadeMachine;"
        "print(CascadeMachine.__name__, s.__file__)"
    )
    name, file = run(tmp_path, installed / "python", "-c", code).split()
    assert name == "CascadeMachine"
    assert Path(file).is_relative_to(installed.parent)


def test_a_trace_can_be_checked(installed: Path, tmp_path: Path) -> None:
    lost_task().save(tmp_path / "traces" / "lost-task-4fd1c2aa")
    said = run(tmp_path, installed / "python", "-m", "mcpconc", "check", "lost-task", "--json")
    assert '"status":' in said
    assert "crashed" not in said


def test_pytest_finds_the_plugin(installed: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import entry_points;"
        "print([e.load().__name__ for e in entry_points(group='pytest11') if e.name == 'mcpconc'])"
    )
    run(
        tmp_path,
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--python",
        installed / "python",
        "pytest",
    )
    said = run(tmp_path, installed / "python", "-c", code)
    assert said.strip() == "['mcpconc.pytest_plugin']"
