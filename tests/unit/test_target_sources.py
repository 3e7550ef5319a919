"""A checkout: where its projects are, and what state it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpconc.errors import UsageError
from mcpconc.target.sources import copy_sources, digest_of, find_projects


def project(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    (directory / "code.py").write_text("x = 1\n")
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = project(tmp_path / "checkout", "main")
    project(root / "packages" / "extra", "Main_Extra")
    return root


def test_projects_are_found_by_name_wherever_they_are(root):
    found = find_projects(root, ("main", "main-extra"))
    assert found == {"main": root, "main-extra": root / "packages" / "extra"}


def test_the_nearest_project_of_a_name_counts(root):
    project(root / "a" / "vendored", "main")
    assert find_projects(root, ("main",)) == {"main": root}


def test_what_is_installed_in_the_checkout_is_no_source(root):
    project(root / ".venv" / "lib", "wanted")
    with pytest.raises(UsageError, match="'wanted'"):
        find_projects(root, ("wanted",))


def test_a_broken_project_file_is_passed_over(root):
    (root / "packages" / "extra" / "pyproject.toml").write_text("[project")
    with pytest.raises(UsageError, match="'main-extra'"):
        find_projects(root, ("main", "main-extra"))


def test_the_digest_follows_the_sources(root):
    first = digest_of(root)
    assert digest_of(root) == first
    (root / "packages" / "extra" / "code.py").write_text("x = 2\n")
    changed = digest_of(root)
    assert changed != first
    (root / "packages" / "extra" / "code.py").rename(root / "packages" / "extra" / "other.py")
    assert digest_of(root) not in {first, changed}


@pytest.mark.parametrize(
    "path", ["__pycache__/a.py", ".git/index", "code.pyc", "build/x.py", "main.egg-info/PKG-INFO"]
)
def test_the_digest_does_not_follow_what_is_made_from_them(root, path):
    first = digest_of(root)
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text("made")
    assert digest_of(root) == first


def test_a_package_called_build_is_a_source(root):
    first = digest_of(root)
    (root / "packages" / "build").mkdir()
    (root / "packages" / "build" / "code.py").touch()
    assert digest_of(root) != first


def test_a_copy_has_the_same_digest_and_nothing_else(root, tmp_path):
    (root / ".git").mkdir()
    (root / ".git" / "index").touch()
    copy_sources(root, tmp_path / "copy")
    assert digest_of(tmp_path / "copy") == digest_of(root)
    assert not (tmp_path / "copy" / ".git").exists()
