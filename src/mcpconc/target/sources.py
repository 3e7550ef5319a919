"""A source checkout of a target: where its packages are, what state they are in, a copy."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mcpconc.errors import UsageError

__all__ = ["copy_sources", "digest_of", "find_projects"]

_NOT_SOURCES = frozenset(
    {"__pycache__", "node_modules", "venv", "site-packages", ".git", ".hg", ".venv", ".tox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)
_BUILT = frozenset({"build", "dist"})
_DEPTH = 4


def find_projects(root: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Project name → directory below `root` of the pyproject.toml that declares it; the one
    nearest to `root` where there are several.

    :raises UsageError: if `root` is no directory, or holds no project of one of the `names`.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such directory; it must be a checkout of {names[0]}")
    found: dict[str, Path] = {}
    for directory, files in _directories(root):
        if "pyproject.toml" in files:
            name = _project_name(directory / "pyproject.toml")
            if name in names:
                found.setdefault(name, directory)
    for name in names:
        if name not in found:
            raise UsageError(
                f"{root}: no pyproject.toml with the project name {name!r} in it or "
                f"{_DEPTH} levels below; the checkout must hold {' and '.join(names)}"
            )
    return found


def digest_of(root: Path) -> str:
    """Twelve hex digits over the paths and contents of all source files below `root`."""
    total = hashlib.sha256()
    for path in _files(root):
        content = hashlib.sha256(path.read_bytes()).digest()
        total.update(str(path.relative_to(root)).encode("utf-8", "surrogateescape"))
        total.update(b"\0" + content)
    return total.hexdigest()[:12]


def copy_sources(root: Path, destination: Path) -> None:
    """Copy the source files below `root`, those that `digest_of` counts, to `destination`."""
    for path in _files(root):
        new = destination / path.relative_to(root)
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, new)


def _project_name(file: Path) -> str:
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    project = data.get("project", {})
    return str(project.get("name", "")).lower().replace("_", "-")


def _directories(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Source directories, nearest first, down to a fixed depth."""
    level = [root]
    for _ in range(_DEPTH + 1):
        below = []
        for directory in level:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            files = [entry.name for entry in entries if entry.is_file()]
            yield directory, files
            below += [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and _is_source(entry.name, files)
            ]
        level = below


def _files(root: Path) -> Iterator[Path]:
    for directory, below, files in os.walk(root):
        below[:] = sorted(
            name
            for name in below
            if _is_source(name, files) and not (Path(directory, name) / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(directory, name)
            if not name.endswith((".pyc", ".pyo")) and path.is_file():
                yield path


def _is_source(name: str, siblings: list[str]) -> bool:
    if name in _NOT_SOURCES or name.endswith(".egg-info"):
        return False
    # A directory `build` or `dist` is a build's output only beside the project file.
    return not (name in _BUILT and "pyproject.toml" in siblings)
