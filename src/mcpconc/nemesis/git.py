"""Faults of the git directory: locked refs, damaged notes, refs and objects, all of it gone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio.to_thread

from mcpconc.nemesis.base import Act, Family, Kind, Missed, Strike, undone
from mcpconc.target.execute import execute

__all__ = ["KINDS"]

CALLS = 4.0
"""Times what a call takes that refs stay locked."""
LOCKED_TOO = ("packed-refs", "config", "index", "HEAD")
GARBAGE = "mcpconc wrote this garbage\n"


@asynccontextmanager
async def _locked(strike: Strike) -> AsyncIterator[None]:
    """Every note that is there, as somebody would who died while he wrote it."""
    git = _git(strike)
    wanted = [*_notes(git), *(git / name for name in LOCKED_TOO)]
    strike.begins(f"git's locks on {len(wanted)} refs and files are taken", locks=len(wanted))
    taken: list[Path] = []
    try:
        for path in wanted:
            lock = path.with_name(f"{path.name}.lock")
            try:
                lock.touch(exist_ok=False)
            except OSError:  # somebody writes it just now, or removes it
                continue
            taken.append(lock)
        yield
    finally:
        for lock in taken:
            await undone(partial(lock.unlink, missing_ok=True))


def _damaging(damage: Callable[[Strike, Path], Awaitable[str]]) -> Act:
    @asynccontextmanager
    async def act(strike: Strike) -> AsyncIterator[None]:
        strike.begins(await damage(strike, _git(strike)))
        yield

    return act


async def _note(strike: Strike, git: Path) -> str:
    ref = _one(strike, _notes(git), "note").relative_to(git)
    done = await execute(
        ("git", "notes", "--ref", str(ref), "add", "-f", "-m", GARBAGE),
        env=strike.session.launch.env,
        cwd=git.parent,
        timeout=10.0,
    )
    if done.code:
        raise Missed(f"git refuses to write a note: {done.last_line()}")
    return f"the note {ref} holds garbage"


async def _ref(strike: Strike, git: Path) -> str:
    ref = _one(strike, _notes(git), "note")
    ref.write_text(GARBAGE, "utf-8")
    return f"the ref {ref.relative_to(git)} holds garbage"


async def _objects(strike: Strike, git: Path) -> str:
    return await anyio.to_thread.run_sync(_spoil_objects, git, 1 + strike.fault.pick % 4)


def _spoil_objects(git: Path, every: int) -> str:
    found = sorted(path for path in git.glob("objects/??/*") if path.is_file())
    if not found:
        raise Missed("git has no loose object yet")
    for path in found[::every]:
        path.chmod(0o644)
        path.write_bytes(b"\0" * 16)
    return f"{len(found[::every])} of {len(found)} git objects hold garbage"


async def _delete(strike: Strike, git: Path) -> str:
    shutil.rmtree(git, ignore_errors=True)  # those who write there meanwhile may win
    return "the git directory is deleted"


def _git(strike: Strike) -> Path:
    repository = strike.world.target.layout.repository
    if repository is None:
        raise Missed("the target has no repository")
    git = strike.world.root / repository / ".git"
    if not git.is_dir():
        raise Missed("the git directory is gone already")
    return git


def _notes(git: Path) -> list[Path]:
    """The loose refs of notes."""
    found = git.glob("refs/notes/**/*")
    return sorted(path for path in found if path.is_file() and path.suffix != ".lock")


def _one(strike: Strike, paths: list[Path], what: str) -> Path:
    if not paths:
        raise Missed(f"there is no {what} yet")
    return paths[strike.fault.pick % len(paths)]


def _damage(name: str, about: str, damage: Callable[[Strike, Path], Awaitable[str]]) -> Kind:
    return Kind(
        name=name,
        about=about,
        family=Family.GIT,
        act=_damaging(damage),
        of_agent=False,
        refuses=True,
        spoils="what git keeps",
    )


KINDS = (
    Kind(
        name="lock-refs",
        about="somebody who died has left git's locks on all notes, and they are found later",
        family=Family.GIT,
        act=_locked,
        seconds=lambda strike: CALLS * strike.world.call_seconds,
        of_agent=False,
        refuses=True,
    ),
    _damage("corrupt-note", "one git note is replaced by garbage", _note),
    _damage("corrupt-ref", "one ref of a git note is replaced by garbage", _ref),
    _damage("corrupt-objects", "many git objects are replaced by garbage", _objects),
    _damage("delete-git", "the git directory is deleted", _delete),
)
