"""What a target is: how to install it, make a world for it, start a server, read its answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mcpconc.history import Answer
from mcpconc.model.spec import Spec
from mcpconc.program import Call

__all__ = [
    "CALL_SECONDS",
    "MARKER",
    "REST_SECONDS",
    "Ages",
    "Answers",
    "Hurries",
    "Identity",
    "Launch",
    "Layout",
    "Light",
    "Limited",
    "Paces",
    "Progress",
    "Pushes",
    "Recovers",
    "Resets",
    "Rests",
    "Scales",
    "Shortens",
    "Starts",
    "Target",
    "Warms",
    "Warmth",
]

MARKER = "MCPCONC_WORLD"
"""Environment variable that every process of a world inherits; processes are found by it."""

CALL_SECONDS = 1.0
"""What a call takes where the target does not say."""

REST_SECONDS = 30.0
"""Seconds without progress after which a world does not come to rest any more, where the target
does not say."""

Progress = Callable[[str], None]
"""Called with one line of text whenever there is something to tell."""


class Identity(StrEnum):
    """How the target tells agents apart (Empirica's four identity modes)."""

    EXPLICIT = "explicit"
    ISOLATED = "isolated"
    SHARED = "shared"
    SAME_INSTANCE = "same-instance"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one server. `env` is the whole environment, nothing is inherited."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a world's state is. Paths are relative to the world's root.

    `databases` is name → path; `repository` the git work tree or None; `files` are globs of
    further state files to read back as text.
    """

    databases: Mapping[str, str] = field(default_factory=dict)
    repository: str | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Warmth:
    """The program that servers of a world start by name for each call, and how it is kept warm.

    `script` is a Python console script; `env` and `cwd` are what calls have in common, `prefix`
    are words before the command that starts the warm process. `modules` are imported beside what
    the script imports by itself; `once` are functions without arguments, ``module:function``,
    whose result does not depend on the call and that may be called before it.
    """

    script: Path
    env: Mapping[str, str]
    cwd: Path
    prefix: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    once: tuple[str, ...] = ()


class Target(Protocol):
    """A system under test."""

    @property
    def name(self) -> str:
        """The SPEC that the user gave."""
        ...

    @property
    def version(self) -> str:
        """What is really installed; empty before `install`."""
        ...

    @property
    def layout(self) -> Layout: ...

    @property
    def spec(self) -> Spec | None: ...

    @property
    def identities(self) -> Sequence[Identity]:
        """The identity modes it knows; the first is the default."""
        ...

    @property
    def call_timeout(self) -> float:
        """Seconds after which the client gives up on a call; longer than the target's own
        limits."""
        ...

    async def install(self, progress: Progress) -> None:
        """Make the target ready to start; does nothing where it is.

        :raises TargetError: if that is impossible.
        """
        ...

    async def prepare(self, root: Path) -> None:
        """Initialise the state of an empty world at `root`; the result becomes its template.

        :raises TargetError: if the target refuses.
        """
        ...

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        """How to start the server of one agent. `agents` scales the target's own time-outs."""
        ...

    def interpret(self, tool: str, text: str) -> Answer:
        """Understand a tool's text."""
        ...


@runtime_checkable
class Resets(Protocol):
    """A target with something left to do after a world's files were put back."""

    async def reset(self, root: Path) -> None:
        """:raises TargetError: if it fails."""
        ...


@runtime_checkable
class Scales(Protocol):
    """A target with limits of its own, which `launch` stretches for many agents."""

    def scaling(self, agents: int) -> Mapping[str, float]:
        """What is stretched, for the record; ``call_timeout`` replaces the target's own."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A target that gives up by itself what takes too long. Where its processes are stopped on
    purpose they must not run into that: what could be set is set to more."""

    @property
    def variables(self) -> Mapping[str, float]:
        """Environment variable of its servers → the seconds that it sets, and that hold where it
        is not set."""
        ...

    @property
    def tolerance(self) -> float:
        """Seconds for which one of its processes can stand before a limit passes that cannot be
        set; infinite where there is none."""
        ...


@runtime_checkable
class Paces(Protocol):
    """A target that says how long its calls take: pauses between calls are in proportion."""

    @property
    def call_seconds(self) -> float:
        """Seconds that a call takes as a rule when nothing else is at work."""
        ...


@runtime_checkable
class Starts(Protocol):
    """A target that says how long its servers may take to start."""

    @property
    def start_timeout(self) -> float:
        """Seconds until `initialize` is answered."""
        ...


@runtime_checkable
class Light(Protocol):
    """A target whose worlds are small."""

    @property
    def in_memory(self) -> bool:
        """Whether its worlds are best kept in memory: putting one back takes a few milliseconds
        there, and ten times that where directories are removed on a disk."""
        ...


@runtime_checkable
class Rests(Protocol):
    """A target that says how soon after its last answer nothing of it is at work any more."""

    @property
    def rest_timeout(self) -> float:
        """Seconds after which a process that still runs has no good reason to."""
        ...


@runtime_checkable
class Answers(Protocol):
    """A target that every session of which can be asked something that changes nothing."""

    @property
    def question(self) -> tuple[str, Mapping[str, Any]] | None:
        """Tool and arguments of a cheap read; what it answers does not matter. None where it
        has none."""
        ...


@runtime_checkable
class Ages(Protocol):
    """A target whose database has had other schemas, and is brought up to date when opened."""

    def age(self, database: sqlite3.Connection) -> str:
        """Take from its main database what the last releases added; gives what that was.

        :raises sqlite3.Error: if it cannot be taken.
        """
        ...


@runtime_checkable
class Shortens(Protocol):
    """A target that knows what calls leave out: the end of an id, and the session that an agent
    works in."""

    shorthand: bool


@runtime_checkable
class Hurries(Protocol):
    """A target whose calls wait for locks, and that can be told to wait less long."""

    @property
    def patience(self) -> float:
        """Seconds after which each of its calls has given up waiting, as it is now."""
        ...

    def hurry(self) -> None:
        """Servers that are started from now on have limits that are as short as they may be
        without any call being cut off that waits for nobody."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration of a target: `environment` is what its servers get on top. `about` says in
    a few words what it changes."""

    name: str
    about: str
    environment: Mapping[str, str]


@runtime_checkable
class Tunes(Protocol):
    """A target that can be configured."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Its configurations by name; the first one is how it comes."""
        ...

    def tune(self, name: str) -> None:
        """Servers that are started from now on are configured like that.

        :raises UsageError: if no configuration has that name.
        """
        ...


@runtime_checkable
class Pushes(Protocol):
    """A target that pushes to a git remote where it is configured to."""

    def push_to(self, root: Path, url: str) -> Mapping[str, str]:
        """What makes it push: path below `root` → what that file holds then."""
        ...


@runtime_checkable
class Recovers(Protocol):
    """A target that knows calls which each agent can make at any time, whatever came before."""

    def fresh(self, name: str, agent: int, token: str) -> tuple[Call, ...]:
        """A few of them, that write and read, with ids that begin with `name`."""
        ...


@runtime_checkable
class Warms(Protocol):
    """A target whose servers start a Python program for each call, which can be kept warm."""

    def warmth(self, root: Path, identity: Identity) -> Warmth:
        """What to keep warm for the world at `root`."""
        ...
