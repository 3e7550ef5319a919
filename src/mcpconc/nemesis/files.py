"""Faults of files: a directory that nobody can write to, a disk that is full.

Root may write where modes forbid it, so for root files are made immutable (`chattr +i`) instead.
If mcpconc itself is killed meanwhile they stay so: ``chattr -R -i`` on the world's directory.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import resource
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mcpconc.nemesis.base import Act, Family, Kind, Missed, Strike

__all__ = ["KINDS", "is_frozen", "read_only"]

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of ioctl_iflags(2), where a long has eight bytes."""
_IMMUTABLE = 0x10
CALLS = 4.0
"""Times what a call takes that these faults last."""
LIMITS = (0, 4096, 65536)
"""Bytes that files may still have when the disk is "full": nothing can be written at all, or
files that are larger cannot grow."""


def _frozen(where: Callable[[Strike], Path], what: str) -> Act:
    @asynccontextmanager
    async def act(strike: Strike) -> AsyncIterator[None]:
        path = where(strike)
        if not path.is_dir():
            raise Missed(f"{what} is not there")
        strike.begins(f"{what} is read-only", path=str(path.relative_to(strike.world.root)))
        freeze = read_only(path)
        await anyio.to_thread.run_sync(freeze.__enter__)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(freeze.__exit__, None, None, None))

    return act


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Nothing in this directory, nor below it, can be created, changed or removed.

    :raises OSError: where that cannot be done, or not be undone.
    """
    change, undo = (_immutable, _mutable) if os.geteuid() == 0 else (_unwritable, _writable)
    done: list[Path] = []
    try:
        for path in [root, *sorted(root.rglob("*"))]:
            # Others are at work here: what vanishes is not our concern.
            with suppress(FileNotFoundError):
                if (path.is_dir() or path.is_file()) and change(path):
                    done.append(path)
        yield
    finally:
        trouble: OSError | None = None
        for path in reversed(done):
            try:
                undo(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                trouble = error
        if trouble is not None:
            raise trouble


def _flags(path: Path, new: int | None = None) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        if new is not None:
            fcntl.ioctl(descriptor, _SET_FLAGS, array.array("l", [new]))
        return flags[0]
    finally:
        os.close(descriptor)


def _immutable(path: Path) -> bool:
    """False where it is already: then somebody else makes it mutable again."""
    old = _flags(path)
    _flags(path, old | _IMMUTABLE)
    return not old & _IMMUTABLE


def _mutable(path: Path) -> None:
    _flags(path, _flags(path) & ~_IMMUTABLE)


def _unwritable(path: Path) -> bool:
    old = stat.S_IMODE(path.stat().st_mode)
    path.chmod(old & ~stat.S_IWUSR)
    return bool(old & stat.S_IWUSR)


def _writable(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)


def is_frozen(root: Path) -> bool:
    """Whether `read_only` has left anything here as it made it."""
    for path in [root, *root.rglob("*")]:
        with suppress(OSError):
            if path.is_dir() and (_flags(path) & _IMMUTABLE or not path.stat().st_mode & 0o200):
                return True
    return False


def _cannot_freeze(root: Path) -> str:
    if os.geteuid() != 0:
        return ""
    try:
        with tempfile.TemporaryDirectory(dir=root.parent) as there, read_only(Path(there)):
            return "" if not _can_create(Path(there)) else "immutable files can be changed here"
    except OSError as error:
        return f"files cannot be made immutable here ({error.strerror})"


def _can_create(directory: Path) -> bool:
    try:
        (directory / "new").touch()
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EACCES)
    (directory / "new").unlink()
    return True


@asynccontextmanager
async def _full(strike: Strike) -> AsyncIterator[None]:
    """A limit on the size of files, for every process that is there and whatever it starts:
    writing past it fails as on a full disk, but with EFBIG."""
    most = LIMITS[strike.fault.pick % len(LIMITS)]
    before: dict[int, tuple[int, int]] = {}
    strike.begins(f"no file can be written past {most} bytes", limit=most)
    try:
        for pid in strike.world.members():
            with suppress(ProcessLookupError):
                old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, old[1]))
                before[pid] = old
        yield
    finally:
        for pid in strike.world.members():
            with suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before.get(pid, (hard, hard)))


def _no_prlimit(root: Path) -> str:
    return "" if hasattr(resource, "prlimit") else "prlimit(2) is Linux's"


def _database(strike: Strike) -> Path:
    for path in strike.world.databases.values():
        return path.parent
    raise Missed("the target has no database")


def _home(strike: Strike) -> Path:
    home = Path(strike.session.launch.env.get("HOME", "/"))
    if not home.is_relative_to(strike.world.root):
        raise Missed("HOME is not in the world")
    return home


def _git(strike: Strike) -> Path:
    repository = strike.world.target.layout.repository
    if repository is None:
        raise Missed("the target has no repository")
    return strike.world.root / repository / ".git"


def _kind(name: str, what: str, where: Callable[[Strike], Path]) -> Kind:
    return Kind(
        name=name,
        about=f"{what} is read-only for a few calls' time",
        family=Family.FILES,
        act=_frozen(where, what),
        seconds=lambda strike: CALLS * strike.world.call_seconds,
        needs="as root a file system with immutable files",
        lacking=_cannot_freeze,
        of_agent=False,
        refuses=True,
    )


KINDS = (
    _kind("readonly-database", "the directory of the main database", _database),
    _kind("readonly-home", "HOME", _home),
    _kind("readonly-git", "the git directory", _git),
    Kind(
        name="full-disk",
        about="files cannot grow (a limit on their size) for a few calls' time",
        family=Family.FILES,
        act=_full,
        seconds=lambda strike: CALLS * strike.world.call_seconds,
        needs="prlimit",
        lacking=_no_prlimit,
        of_agent=False,
        refuses=True,
    ),
)
