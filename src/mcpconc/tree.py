"""Directory trees: copy one aside, put it back at the same place, compare.

Putting back keeps the inodes of directories (servers have them as working directory) and gives
every file a new one (a process that still has an old file open cannot write into the new).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["Manifest", "copy", "difference", "manifest", "put_back", "remove"]

Manifest = Mapping[str, tuple[str, int, str]]
"""Path relative to the root → (kind, size in bytes, digest). Directories are listed too."""


def manifest(root: Path) -> Manifest:
    """What is below `root`. Files and links carry a digest of their content.

    :raises OSError: where something cannot be read, or vanishes while it is read.
    """
    found: dict[str, tuple[str, int, str]] = {}
    for path, entry in _walk(str(root), ""):
        if entry.is_symlink():
            found[path] = ("link", 0, os.readlink(entry.path))
        elif entry.is_dir():
            found[path] = ("directory", 0, "")
        elif entry.is_file():
            with open(entry.path, "rb") as file:
                content = file.read()
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            found[path] = ("file", len(content), digest)
        else:
            found[path] = ("special", 0, "")
    return found


def difference(found: Manifest, wanted: Manifest) -> list[str]:
    """One line for each path that is missing, too much or changed; empty if they are equal."""
    lines = [f"{path} is missing" for path in wanted if path not in found]
    lines += [f"{path} is left over" for path in found if path not in wanted]
    lines += [
        f"{path} differs" for path, entry in wanted.items() if found.get(path, entry) != entry
    ]
    return sorted(lines)


def copy(source: Path, destination: Path, skip: Callable[[str], bool] = lambda path: False) -> None:
    """Copy the tree `source` to `destination`, which must not exist. `skip` is asked with each
    path relative to the root; sockets and pipes are never copied.

    :raises OSError: where something cannot be read or written.
    """
    destination.mkdir(parents=True)
    for path, entry in _walk(str(source), ""):
        if not skip(path):
            _copy_entry(entry, f"{destination}/{path}")


def put_back(template: Path, root: Path) -> None:
    """Make `root` equal to `template`, in place.

    :raises OSError: where something cannot be read, written or removed.
    """
    wanted = dict(_walk(str(template), ""))
    # Reverse order: what a directory holds goes before it, and `x.db-wal` before `x.db`.
    keep: set[str] = set()
    for path, entry in sorted(_walk(str(root), ""), reverse=True):
        new = wanted.get(path)
        if entry.is_dir(follow_symlinks=False):
            if new is not None and new.is_dir(follow_symlinks=False):
                keep.add(path)
            else:
                os.rmdir(entry.path)
        else:
            os.unlink(entry.path)
    for path, entry in wanted.items():
        if path not in keep:
            _copy_entry(entry, f"{root}/{path}")


def remove(root: Path) -> None:
    """Remove a tree; nothing happens where there is none. Read-only entries (git objects in a
    read-only directory) go too.

    :raises OSError: where something cannot be removed.
    """

    def again(function: Callable[[str], object], path: str, _: object) -> None:
        if isinstance(_, tuple) and isinstance(_[1], FileNotFoundError):
            return
        os.chmod(os.path.dirname(path), stat.S_IRWXU)
        function(path)

    shutil.rmtree(root, onerror=again)


def _walk(root: str, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
    found = []
    with os.scandir(root) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = prefix + entry.name
        found.append((path, entry))
        if entry.is_dir(follow_symlinks=False):
            found += _walk(entry.path, path + "/")
    return found


def _copy_entry(entry: os.DirEntry[str], destination: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), destination)
    elif entry.is_dir():
        os.mkdir(destination, stat.S_IMODE(entry.stat().st_mode) | stat.S_IRWXU)
    elif entry.is_file():
        shutil.copyfile(entry.path, destination)
        shutil.copystat(entry.path, destination)
