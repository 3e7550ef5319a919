"""The reference server: fast, correct, and broken on request."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread

from mcpconc import __version__
from mcpconc.errors import TargetError, UsageError
from mcpconc.history import Answer
from mcpconc.model.spec import Spec
from mcpconc.program import Call
from mcpconc.reference import switch
from mcpconc.reference.plants import LOADED, PLANTS
from mcpconc.target.base import MARKER, Identity, Launch, Layout, Progress
from mcpconc.target.execute import execute
from mcpconc.target.fresh import fresh

__all__ = ["PREFIX", "ReferenceTarget", "scaling"]

PREFIX = "reference+"
"""What stands before the name of a planted bug in the SPEC."""

BUSY, HURRIED = 3.0, 0.4
"""Seconds that a call waits for another one's lock; and where it is told to hurry."""
CALL_TIMEOUT = 4.0
CALL_SECONDS = 0.01
REST_TIMEOUT = 1.5
START_TIMEOUT = 30.0
UNSCALED_AGENTS = 10

_LAYOUT = Layout(
    databases={
        "sessions": "ws/.empirica/sessions/sessions.db",
        "workspace": "home/.empirica/workspace/workspace.db",
    },
    repository="ws",
    files=(
        "ws/.empirica/active_transaction*.json",
        "home/.empirica/active_session*",
        "ws/.empirica_reflex_logs/**/*.json",
    ),
)
_runs = itertools.count(1)


@dataclass(slots=True)
class ReferenceTarget:
    """The server of `mcpconc.reference`. `plant` is the bug that it has in the runs to come, or
    "" for none; it may be set between two runs, and running servers change with it."""

    plant: str = ""
    version: str = __version__
    layout: Layout = _LAYOUT
    call_timeout: float = CALL_TIMEOUT
    start_timeout: float = START_TIMEOUT
    call_seconds: float = CALL_SECONDS
    rest_timeout: float = REST_TIMEOUT
    identities: Sequence[Identity] = field(default=(Identity.ISOLATED,))
    in_memory: bool = True
    busy: float = BUSY

    @classmethod
    def with_bug(cls, name: str) -> ReferenceTarget:
        """:raises UsageError: if no planted bug has that name."""
        names = [plant.name for plant in (*PLANTS, *LOADED)]
        if name not in names:
            near = get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
            raise UsageError(
                f"{PREFIX}{name}: no planted bug has that name; nearest are {', '.join(near)}"
            )
        return cls(name)

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.plant}" if self.plant else "reference"

    @property
    def question(self) -> tuple[str, Mapping[str, Any]]:
        """A read that is never refused."""
        return ("unknown_list", {})

    @property
    def patience(self) -> float:
        """Seconds that a call waits for another one's lock; several times, one after another."""
        return self.busy

    def hurry(self) -> None:
        """From now on servers are started with a short limit."""
        self.busy = HURRIED

    def fresh(self, name: str, agent: int, token: str) -> tuple[Call, ...]:
        """See `mcpconc.target.fresh`."""
        return fresh(name, agent, token)

    @property
    def spec(self) -> Spec | None:
        return cast(Spec, importlib.import_module("mcpconc.model.empirica").SPEC)

    async def install(self, progress: Progress) -> None:
        """It is here already, but for git.

        :raises TargetError: if there is no git.
        """
        if shutil.which("git") is None:
            raise TargetError("git was not found on PATH; the reference server keeps notes with it")

    async def prepare(self, root: Path) -> None:
        """Databases, a repository with one commit, a HOME.

        :raises TargetError: if git refuses, or the disk does.
        """
        # A process of its own: it needs an environment of its own.
        make = "import sys; from pathlib import Path; from mcpconc.reference import store;"
        done = await execute(
            (sys.executable, "-P", "-c", f"{make} store.prepare(Path(sys.argv[1]))", str(root)),
            # A fixed date gives every world the same first commit.
            env=_environment(root)
            | {
                "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
                "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
            },
            cwd=root,
            timeout=60.0,
        )
        if done.code:
            raise TargetError(f"{self.name}: a world cannot be made: {done.last_line()}")

    async def reset(self, root: Path) -> None:
        """Tell the servers of this world which bug they have now, and that a new run begins."""
        text = f"{self.plant}\n{next(_runs)}\n"
        await anyio.to_thread.run_sync(partial(_replace, root / switch.FILE, text))

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        """How to start the server of `agent`.

        :raises UsageError: for an identity mode that it does not know.
        """
        if identity not in self.identities:
            known = ", ".join(self.identities)
            raise UsageError(f"{self.name} has no identity mode {identity.value!r}; use {known}")
        busy = scaling(agents, self.busy)["busy_seconds"]
        server = (sys.executable, "-P", "-m", "mcpconc.reference", "--root", str(root))
        argv = (*server, "--instance", f"mcpconc-{agent}", "--busy", f"{busy:g}")
        return Launch(argv, _environment(root), root / "ws")

    def interpret(self, tool: str, text: str) -> Answer:
        answers = importlib.import_module("mcpconc.model.empirica.answers")
        return cast(Answer, answers.interpret(tool, text))

    def scaling(self, agents: int) -> Mapping[str, float]:
        """See `scaling`."""
        return scaling(agents, self.busy)


def scaling(agents: int, busy: float = BUSY) -> dict[str, float]:
    """How the server's limit is stretched for many agents, in seconds, and by which factor: all
    of them queue for one write lock."""
    factor = max(1.0, agents / UNSCALED_AGENTS)
    return {
        "factor": factor,
        "busy_seconds": busy * factor,
        "call_timeout": BUSY * factor + (CALL_TIMEOUT - BUSY) * min(factor, 10.0),
    }


def _environment(root: Path) -> dict[str, str]:
    """The whole environment of a world's processes: where Python and git are, and nothing that
    could make one machine's git behave unlike another's."""
    git = Path(shutil.which("git") or "/usr/bin/git").parent
    env = {
        MARKER: str(root),
        "HOME": str(root / "home"),
        "PATH": ":".join(dict.fromkeys((str(git), "/usr/local/bin", "/usr/bin", "/bin"))),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        if name in os.environ:
            env[name] = os.environ[name]
    return env


def _replace(path: Path, text: str) -> None:
    # In one piece: a server may look at any moment.
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)
