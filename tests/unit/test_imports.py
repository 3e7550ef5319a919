"""Who may import whom. The pure parts can be tested and re-used without a target, and drive
and oracles can never come to depend on Hypothesis or on what reports look like."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest

import mcpconc

ROOT = Path(mcpconc.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if "strategies" not in path.parts
)
LONGEST = 500

PURE = {
    *("program", "history", "verdict", "errors", "snapshot", "delta"),
    *("model", "linearize", "lineup"),
    *("metrics", "thresholds", "permutation"),
}
DOING = {
    "anyio",
    "asyncio",
    "mcp",
    "aiosqlite",
    "sqlite3",
    "subprocess",
    "os",
    "pathlib",
    "io",
    "shutil",
    "tempfile",
    "socket",
    "signal",
    "threading",
    "multiprocessing",
    "time",
    "datetime",
    "uuid",
    "secrets",
    "psutil",
    "structlog",
    "hypothesis",
}
"""What reaches outside the process, or into its clock or its luck."""

RUNNING = {
    *("drive", "schedule", "nemesis", "target", "world", "readback", "procs"),
    *("locks", "vitals", "aftermath"),
}
SEARCHING = {"cuts", "shrink", "label", "variety"}
COUNTING = {"figures", "phases", "plan", "bottlenecks", "summary"}
"""Modules of a stress run that only compute."""
LAST = {"report", "verbs", "cli", "pytest_plugin"}
WHO_MAY: dict[str, set[str]] = {
    "report": {"cli", "verbs", "pytest_plugin"},
    "verbs": {"cli"},
    "cli": {"__main__"},
    "pytest_plugin": set(),
}
TABLE = "mcpconc.reference.plants"
"""What others may know of the reference server: which bugs there are."""


def imports(module: str) -> set[str]:
    """Full names of what a module imports, wherever in it, also under TYPE_CHECKING."""
    return names_in(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(), module)


def names_in(source: str, module: str) -> set[str]:
    package = ["mcpconc", *module.split(".")[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            found.update(f"{name}.{alias.name}" for alias in node.names)
    return found


def ours(module: str) -> set[str]:
    """First parts of the imported modules of mcpconc: ``model``, ``oracle``."""
    names = {
        name.removeprefix("mcpconc.").split(".")[0] for name in imports(module) if inside(name)
    }
    return names - {"mcpconc", "__version__"}


def theirs(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module) if not inside(name)}


def inside(name: str) -> bool:
    return name.split(".")[0] == "mcpconc"


def part(module: str) -> str:
    return module.split(".")[0]


def of(parts: set[str]) -> list[str]:
    return [module for module in MODULES if part(module) in parts]


@pytest.mark.parametrize("module", of(PURE))
def test_pure_modules_do_nothing_but_compute(module: str) -> None:
    assert not theirs(module) & DOING
    assert ours(module) <= PURE


@pytest.mark.parametrize("module", of({"oracle"} | SEARCHING))
def test_judging_is_pure_too(module: str) -> None:
    assert not theirs(module) & DOING
    assert ours(module) <= PURE | {"oracle"} | SEARCHING


@pytest.mark.parametrize("module", [m for m in of({"stress"}) if m.split(".")[-1] in COUNTING])
def test_what_becomes_of_measurements_is_pure(module: str) -> None:
    assert not theirs(module) & DOING
    assert not ours(module) & {"rig", "drive", "world", "procs", "campaign", "strategies", *LAST}


@pytest.mark.parametrize("module", of(RUNNING))
def test_running_knows_nothing_of_campaigns_and_reports(module: str) -> None:
    assert "hypothesis" not in theirs(module)
    assert not ours(module) & {"campaign", "keep", "gate", "stages", "strategies", *LAST}


@pytest.mark.parametrize("module", MODULES)
def test_reports_and_entry_points_are_at_the_end_of_the_chain(module: str) -> None:
    for last in ours(module) & LAST:
        assert part(module) == last or part(module) in WHO_MAY[last], f"{module} imports {last}"


@pytest.mark.parametrize("module", of({"reference"}))
def test_the_reference_server_stands_alone(module: str) -> None:
    assert ours(module) <= {"reference"}
    assert "hypothesis" not in theirs(module)


@pytest.mark.parametrize("module", MODULES)
def test_others_know_only_the_table_of_planted_bugs(module: str) -> None:
    known = {name for name in imports(module) if name.startswith("mcpconc.reference")}
    if part(module) in {"reference", "target"}:  # `target` starts it
        return
    assert all(name.startswith(TABLE) for name in known)
    assert not known or part(module) in {"selftest", "catching", *LAST}


@pytest.mark.parametrize("module", MODULES)
def test_the_self_test_joins_like_a_campaign(module: str) -> None:
    if part(module) != "selftest":
        assert "selftest" not in ours(module) or part(module) in LAST | {"gate", "stages"}


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short_enough_to_read(module: str) -> None:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    assert len(path.read_text().splitlines()) <= LONGEST


def test_the_rule_sees_every_way_to_import() -> None:
    source = """
        import os.path
        from mcpconc import cli
        from . import gate
        from .base import Oracle
        if TYPE_CHECKING:
            from mcpconc.report.lanes import draw
        def late():
            import mcp
    """
    assert names_in(dedent(source), "oracle.effects") == {
        "os.path",
        "mcpconc.cli",
        "mcpconc.oracle.gate",
        "mcpconc.oracle.base.Oracle",
        "mcpconc.report.lanes.draw",
        "mcp",
    }
