"""What a user may write after --target."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpconc.errors import Exit, UsageError
from mcpconc.reference.plants import PLANTS
from mcpconc.target import resolve
from mcpconc.target.command import CommandTarget
from mcpconc.target.empirica import TESTED, EmpiricaTarget
from mcpconc.target.reference import ReferenceTarget


def checkout(root: Path, *projects: str) -> Path:
    for number, name in enumerate(projects):
        directory = root / f"p{number}"
        directory.mkdir(parents=True)
        (directory / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "2.0"\n')
    return root


def test_the_tested_release():
    target = resolve("empirica")
    assert isinstance(target, EmpiricaTarget)
    assert target.requested == TESTED


@pytest.mark.parametrize("number", ["1.7.5", "1.14.18", "2.0.0", "1.15.0rc1"])
def test_a_release(number):
    target = resolve(f"empirica=={number}")
    assert isinstance(target, EmpiricaTarget)
    assert (target.name, target.requested) == (f"empirica=={number}", number)


@pytest.mark.parametrize("number", ["1.0.0", "1.6.3", "1.7.4", "0.9"])
def test_a_release_that_cannot_be_driven_is_refused_with_the_reason(number):
    with pytest.raises(UsageError, match=r"oldest release that can be driven over MCP is 1\.7\.5"):
        resolve(f"empirica=={number}")


@pytest.mark.parametrize("spec", ["empirica==", "empirica==latest", "empirica==1.14.*"])
def test_what_is_no_release_number(spec):
    with pytest.raises(UsageError, match="not a release number"):
        resolve(spec)


@pytest.mark.parametrize("spec", ["", "empirica2", "empirica 1.14.18", "server.py", "references"])
def test_anything_else_lists_the_forms(spec):
    with pytest.raises(UsageError) as caught:
        resolve(spec)
    assert caught.value.exit == Exit.USAGE
    assert "\n" not in str(caught.value)
    for form in ("empirica==X.Y.Z", "empirica@PATH", "reference+PLANT", "PATH.toml"):
        assert form in str(caught.value)


def test_the_reference_server():
    target = resolve("reference")
    assert isinstance(target, ReferenceTarget)
    assert (target.name, target.plant) == ("reference", "")


@pytest.mark.parametrize("plant", [plant.name for plant in PLANTS])
def test_the_reference_server_with_a_planted_bug(plant):
    target = resolve(f"reference+{plant}")
    assert isinstance(target, ReferenceTarget)
    assert (target.name, target.plant) == (f"reference+{plant}", plant)


@pytest.mark.parametrize("name", ["response-twise", "", "nonsense"])
def test_a_bug_that_nobody_planted_gets_names_that_are_near(name):
    with pytest.raises(UsageError) as caught:
        resolve(f"reference+{name}")
    assert "\n" not in str(caught.value)
    named = [plant.name for plant in PLANTS if plant.name in str(caught.value)]
    assert 1 <= len(named) <= 3
    assert name != "response-twise" or "response-twice" in named


def test_a_checkout(tmp_path):
    target = resolve(f"empirica@{checkout(tmp_path, 'empirica', 'empirica-mcp')}")
    assert isinstance(target, EmpiricaTarget)
    assert target.sources == tmp_path


def test_a_checkout_with_one_package_only(tmp_path):
    with pytest.raises(UsageError, match="with the project name 'empirica-mcp'"):
        resolve(f"empirica@{checkout(tmp_path, 'empirica')}")


def test_a_checkout_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        resolve(f"empirica@{tmp_path / 'nothing'}")


@pytest.mark.parametrize("prefix", ["", "command:"])
def test_a_description(tmp_path, prefix):
    (tmp_path / "t.toml").write_text('[server]\nargv = ["true"]\n')
    target = resolve(f"{prefix}{tmp_path / 't.toml'}")
    assert isinstance(target, CommandTarget)
    assert target.name == f"{prefix}{tmp_path / 't.toml'}"
