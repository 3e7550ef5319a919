"""Empirica: `empirica-mcp`, which starts one `empirica` process per call."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import shutil
import sqlite3
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread

from mcpconc.errors import TargetError, UsageError
from mcpconc.history import Answer
from mcpconc.model.spec import Spec
from mcpconc.procs import on_terminal
from mcpconc.program import Call
from mcpconc.target.base import MARKER, Identity, Launch, Layout, Progress, Setting, Warmth
from mcpconc.target.cache import Installed, Wanted, cache_root, ensure, prune
from mcpconc.target.execute import execute
from mcpconc.target.fresh import fresh
from mcpconc.target.settings import EMPIRICA
from mcpconc.target.sources import copy_sources, digest_of, find_projects

__all__ = ["TESTED", "EmpiricaTarget", "scaling"]

TESTED = "1.14.18"
OLDEST = (1, 7, 5)
UNBOUND = (1, 14, 1)
"""First release that works without a project file for its instance id."""
MCP_2 = (1, 13)
"""First release that runs on an `mcp` of version 2; earlier ones do not say that they do not."""

CALL_SECONDS = 30
CASCADE_SECONDS = 120
"""The server's own limits: ordinary tools, and those that read JSON from stdin."""
HURRIED = (9.0, 12.0)
"""The same where the server is told to hurry: the slowest call takes 7 s on an idle machine."""
NESTED_SECONDS = 30.0
"""What a call gives the commands of Empirica that it starts itself. Those of git have 2 s at times,
but git is not stopped; and whoever waits for SQLite's lock is not let go while it is held."""
UNSCALED_AGENTS = 10
BOUND_AGENTS = 64
PUSHING = """
sync:
  enabled: true
  remote: origin
  notes_remote: origin
  code_remote: origin
  auto_push_on: [postflight]
"""
FIRST_FORGOTTEN = "061"
ADDED_LATE = (
    ("project_findings", "resolution_kind"),  # by 061
    ("goals", "completion_reason"),  # by 068
)
"""The first migration that an older release does not know, and columns that it and later ones add:
one that counts as applied is never applied again."""
KEPT_CHECKOUTS = 3
"""How many states of one checkout stay installed, those used last."""
SHARED_INSTANCE = "mcpconc-all"

_PACKAGES = ("empirica", "empirica-mcp")
_IMPORTED_LATE = tuple(
    f"empirica.{name}"
    for name in (
        *("config.database_config", "config.project_config_loader", "core.bayesian_beliefs"),
        *("core.blindspots", "core.bootstrap", "core.bus_persistence", "core.calibration_config"),
        *("core.canonical.empirica_git.finding_store", "core.canonical.empirica_git.unknown_store"),
        *("core.claims", "core.falsifiers", "core.goals.repository", "core.goals.validation"),
        *("core.post_test.calibration_insights", "core.post_test.criterion_evaluators"),
        *("core.post_test.grounded_calibration", "core.post_test.mapper", "core.prevention"),
        *("core.tasks.repository", "core.visibility", "data.db_adapter", "data.migrations"),
        *("integration.empirica_action_hooks", "utils.finding_refs", "utils.partial_view"),
    )
)
"""What the calls of a cascade import while they run, in one release or another."""
_LAYOUT = Layout(
    databases={
        "sessions": "ws/.empirica/sessions/sessions.db",
        "workspace": "home/.empirica/workspace/workspace.db",
    },
    repository="ws",
    files=(
        "ws/.empirica/active_transaction*.json",
        "home/.empirica/active_session*",
        "home/.empirica/instance_projects/*.json",
        "ws/.breadcrumbs.yaml",
        "ws/.empirica_reflex_logs/**/*.json",
        "home/.empirica/bus-instances.yaml",
    ),
)


@dataclass(slots=True)
class EmpiricaTarget:
    """A release or a checkout of Empirica. `requested` is its release number where it has one,
    `sources` the checkout otherwise."""

    name: str
    requested: str = ""
    sources: Path | None = None
    version: str = ""
    layout: Layout = _LAYOUT
    call_timeout: float = CASCADE_SECONDS + 30.0
    question: tuple[str, Mapping[str, Any]] = ("goals_list", {})
    tolerance: float = NESTED_SECONDS
    shorthand: bool = True
    installed: Installed | None = None
    limits: tuple[float, float] = (CALL_SECONDS, CASCADE_SECONDS)
    """What the server grants to calls, in seconds: to ordinary ones, and to those that read JSON
    from stdin."""
    tuned: Mapping[str, str] = field(default_factory=dict)
    """What servers have in their environment on top (`tune`)."""

    @classmethod
    def tested(cls) -> EmpiricaTarget:
        """The release that mcpconc is tested with."""
        return cls("empirica", TESTED)

    @classmethod
    def release(cls, number: str) -> EmpiricaTarget:
        """:raises UsageError: if that release is too old to be driven."""
        if _numbers(number) < OLDEST:
            raise UsageError(
                f"empirica=={number}: the oldest release that can be driven over MCP is 1.7.5 "
                "(earlier ones do not start, or hang in their CASCADE calls)"
            )
        return cls(f"empirica=={number}", number)

    @classmethod
    def checkout(cls, path: Path) -> EmpiricaTarget:
        """:raises UsageError: if both packages are not found below `path`."""
        find_projects(path, _PACKAGES)
        return cls(f"empirica@{path}", sources=path.resolve())

    @property
    def spec(self) -> Spec | None:
        return cast(Spec, importlib.import_module("mcpconc.model.empirica").SPEC)

    @property
    def variables(self) -> Mapping[str, float]:
        """See `mcpconc.target.base.Limited`."""
        ordinary, cascade = self.limits
        return {"EMPIRICA_MCP_TIMEOUT": ordinary, "EMPIRICA_MCP_CASCADE_TIMEOUT": cascade}

    @property
    def settings(self) -> Mapping[str, Setting]:
        """See `mcpconc.target.base.Tunes`."""
        return EMPIRICA

    @property
    def identities(self) -> Sequence[Identity]:
        """A release that must be bound to its project is so by an instance id."""
        if self._bound():
            return (Identity.ISOLATED, Identity.SAME_INSTANCE)
        return (Identity.ISOLATED, Identity.EXPLICIT, Identity.SHARED, Identity.SAME_INSTANCE)

    async def install(self, progress: Progress) -> None:
        """Install it into the cache, once.

        A checkout is built as a release would be, from a copy, and named by a digest of its
        sources: what is tested is what would ship, it stays the same for the whole run, and
        each change of the sources gives another environment.

        :raises TargetError: if it cannot be installed, or there is no git.
        """
        if shutil.which("git") is None:
            raise TargetError("git was not found on PATH; Empirica keeps notes with it: install it")
        if self.sources is None:
            number = self.requested
            wanted = _wanted(
                f"empirica-{number}",
                f"Empirica {number}",
                tuple(f"{package}=={number}" for package in _PACKAGES),
                _numbers(number),
            )
            self.installed = await ensure(wanted, progress)
            self.version = self.installed.versions["empirica"]
            return
        copied = await anyio.to_thread.run_sync(_private_copy)
        try:
            wanted, digest = await anyio.to_thread.run_sync(_from_sources, self.sources, copied)
            self.installed = await ensure(wanted, progress)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(shutil.rmtree, copied, True)
        await anyio.to_thread.run_sync(prune, wanted.name.rpartition("-")[0], KEPT_CHECKOUTS)
        self.version = f"{self.installed.versions['empirica']}+src.{digest}"

    async def prepare(self, root: Path) -> None:
        """A git repository with one commit in ``ws``, an initialised project in it, and a HOME.

        :raises TargetError: if Empirica or git refuses.
        """
        ws, home = root / "ws", root / "home"
        for directory in (ws, home, root / "tmp"):
            await anyio.Path(directory).mkdir(parents=True, exist_ok=True)
        env = self._environment(root)
        # A fixed date gives every world the same first commit.
        dated = env | {
            "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
            "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
        }
        commands = (
            (("git", "-c", "init.defaultBranch=main", "init", "-q"), env),
            (("git", "config", "user.name", "mcpconc"), env),
            (("git", "config", "user.email", "mcpconc@localhost"), env),
            (("git", "commit", "-q", "--allow-empty", "-m", "An empty project"), dated),
            (
                (
                    *(*_off_terminal(), str(self._bin() / "empirica"), "project-init"),
                    *("--non-interactive", "--output", "json"),
                ),
                env,
            ),
        )
        for argv, environment in commands:
            done = await execute(argv, env=environment, cwd=ws, timeout=120.0)
            if done.code:
                shown = " ".join(argv[-4:])
                raise TargetError(f"{self.name}: `{shown}` failed: {done.last_line()}")
        if self._bound():
            await anyio.to_thread.run_sync(_bind, ws, home)

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        """How to start the server of `agent`, as a user's MCP configuration would.

        :raises UsageError: if this release does not know the identity mode, or so many agents.
        """
        if identity not in self.identities:
            known = ", ".join(self.identities)
            raise UsageError(f"{self.name} has no identity mode {identity.value!r}; use {known}")
        if self._bound() and agent >= BOUND_AGENTS:
            raise UsageError(f"{self.name} can be driven by {BOUND_AGENTS} agents at most")
        env = self._environment(root) | dict(self.tuned)
        if identity is Identity.ISOLATED:
            env["EMPIRICA_INSTANCE_ID"] = _instance(agent)
        elif identity is Identity.SAME_INSTANCE:
            env["EMPIRICA_INSTANCE_ID"] = SHARED_INSTANCE
        if identity is not Identity.EXPLICIT:
            env["EMPIRICA_CWD_RELIABLE"] = "true"
        scaled = scaling(agents, self.limits)
        if scaled["factor"] > 1 or self.limits != (CALL_SECONDS, CASCADE_SECONDS):
            env["EMPIRICA_MCP_TIMEOUT"] = f"{scaled['call_seconds']:.0f}"
            env["EMPIRICA_MCP_CASCADE_TIMEOUT"] = f"{scaled['cascade_seconds']:.0f}"
        ws = root / "ws"
        server = (str(self._bin() / "empirica-mcp"), "--workspace", str(ws))
        return Launch((*_off_terminal(), *server), env, ws)

    def warmth(self, root: Path, identity: Identity) -> Warmth:
        """`empirica`, of which `empirica-mcp` starts one for each call. Half of a call is its
        imports, and a tenth its argument parser, which is the same for all calls."""
        launch = self.launch(root, 0, 1, identity)
        return Warmth(
            script=self._bin() / "empirica",
            env=launch.env,
            cwd=launch.cwd,
            prefix=_off_terminal(),
            modules=_IMPORTED_LATE,
            once=("empirica.cli.cli_core:create_argument_parser",),
        )

    def interpret(self, tool: str, text: str) -> Answer:
        answers = importlib.import_module("mcpconc.model.empirica.answers")
        return cast(Answer, answers.interpret(tool, text))

    def scaling(self, agents: int) -> Mapping[str, float]:
        """See `scaling`."""
        return scaling(agents, self.limits)

    @property
    def patience(self) -> float:
        """Seconds after which the server has killed the process of each call."""
        return max(self.limits)

    def hurry(self) -> None:
        """Servers that are started from now on kill the processes of calls sooner."""
        self.limits = HURRIED

    def tune(self, name: str) -> None:
        """See `mcpconc.target.base.Tunes`.

        :raises UsageError: if no configuration has that name.
        """
        if name not in self.settings:
            known = ", ".join(self.settings)
            raise UsageError(f"{self.name} has no configuration {name!r}; use {known}")
        self.tuned = self.settings[name].environment
        ordinary, cascade = CALL_SECONDS, CASCADE_SECONDS
        self.limits = (
            float(self.tuned.get("EMPIRICA_MCP_TIMEOUT", ordinary)),
            float(self.tuned.get("EMPIRICA_MCP_CASCADE_TIMEOUT", cascade)),
        )

    def push_to(self, root: Path, url: str) -> Mapping[str, str]:
        """POSTFLIGHT pushes the branch, if nothing is uncommitted; ``sync_status`` asks."""
        config, git = root / "ws/.empirica/config.yaml", root / "ws/.git/config"
        return {
            "ws/.empirica/config.yaml": config.read_text("utf-8") + PUSHING,
            "ws/.git/config": git.read_text("utf-8") + f'[remote "origin"]\n\turl = {url}\n',
            "ws/.git/info/exclude": "*\n",
        }

    def age(self, database: sqlite3.Connection) -> str:
        """Take away the last migrations and the columns that they added."""
        late = "DELETE FROM schema_migrations WHERE migration_id >= ?"
        forgotten = database.execute(late, (FIRST_FORGOTTEN,)).rowcount
        taken = []
        for table, column in ADDED_LATE:
            known = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            if column in known:
                for index in _indexes(database, table, column):
                    database.execute(f"DROP INDEX {index}")
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
                taken.append(f"{table}.{column}")
        return f"without {forgotten} migrations and {', '.join(taken) or 'no column'}"

    def fresh(self, name: str, agent: int, token: str) -> tuple[Call, ...]:
        """See `mcpconc.target.fresh`."""
        return fresh(name, agent, token)

    def _bin(self) -> Path:
        if self.installed is None:
            raise TargetError(f"{self.name} is not installed yet")
        return self.installed.bin

    def _bound(self) -> bool:
        number = self.version or self.requested
        return bool(number) and _numbers(number) < UNBOUND

    def _environment(self, root: Path) -> dict[str, str]:
        """The whole environment of a world's processes. Of ours they inherit nothing but where
        git is, and what this machine's Python may need to find its libraries."""
        git = Path(shutil.which("git") or "/usr/bin/git").parent
        path = dict.fromkeys((str(self._bin()), "/usr/local/bin", "/usr/bin", "/bin", str(git)))
        env = {
            MARKER: str(root),
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "PATH": ":".join(path),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "USER": "mcpconc",
            "LOGNAME": "mcpconc",
            "GIT_AUTHOR_NAME": "mcpconc",
            "GIT_AUTHOR_EMAIL": "mcpconc@localhost",
            "GIT_COMMITTER_NAME": "mcpconc",
            "GIT_COMMITTER_EMAIL": "mcpconc@localhost",
            # Nothing of a run leaves the machine, nor reaches a service that happens to run on
            # it: Cortex is looked for on localhost unless told otherwise, embeddings go to
            # Qdrant, and a plug-in is kept up to date.
            "EMPIRICA_CORTEX_URL": "http://127.0.0.1:9",
            "EMPIRICA_ENABLE_EMBEDDINGS": "false",
            "EMPIRICA_NO_AUTOSYNC": "1",
        }
        if "LD_LIBRARY_PATH" in os.environ:
            env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        return env


def scaling(
    agents: int, limits: tuple[float, float] = (CALL_SECONDS, CASCADE_SECONDS)
) -> dict[str, float]:
    """How the server's limits are stretched for many agents, in seconds, and by which factor:
    each call costs about a second of processor time, however many wait for it."""
    factor = max(1.0, agents / UNSCALED_AGENTS)
    return {
        "factor": factor,
        "call_seconds": math.ceil(limits[0] * factor),
        "cascade_seconds": math.ceil(limits[1] * factor),
        "call_timeout": math.ceil(limits[1] * factor) + 30.0,
    }


def _indexes(database: sqlite3.Connection, table: str, column: str) -> list[str]:
    """The indexes in which the column is: they go before it does."""
    names = [row[1] for row in database.execute(f"PRAGMA index_list({table})")]
    inside = {n: [row[2] for row in database.execute(f"PRAGMA index_info({n})")] for n in names}
    return [name for name, columns in inside.items() if column in columns]


def _wanted(
    name: str, label: str, requirements: tuple[str, ...], number: tuple[int, ...]
) -> Wanted:
    return Wanted(
        name=name,
        label=label,
        requirements=(*requirements, *(("mcp<2",) if number < MCP_2 else ())),
        packages=(*_PACKAGES, "mcp"),
        modules=("empirica", "empirica_mcp.server"),
        scripts=_PACKAGES,
    )


def _private_copy() -> Path:
    """An empty directory for the sources of one installation. Its name was never used before:
    uv takes an earlier build for a path that it knows."""
    where = cache_root() / "sources"
    where.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=where))


def _from_sources(root: Path, copied: Path) -> tuple[Wanted, str]:
    """Copy a checkout and say what to install of the copy, and the digest of its state."""
    copy_sources(root, copied)
    digest = digest_of(copied)
    place = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    projects = find_projects(copied, _PACKAGES)
    number = _declared_version(projects["empirica"])
    wanted = _wanted(
        f"empirica-src-{place}-{digest}",
        f"Empirica of {root}",
        tuple(str(projects[package]) for package in _PACKAGES),
        _numbers(number),
    )
    return wanted, digest


def _declared_version(project: Path) -> str:
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    # A version that is computed by the build belongs to a release after those that differ.
    return str(data.get("project", {}).get("version", TESTED))


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 14, 18) of "1.14.18" or "1.14.18rc1+src.…"."""
    numbers = []
    for part in version.split("+")[0].split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _instance(agent: int) -> str:
    return f"mcpconc-{agent}"


def _bind(ws: Path, home: Path) -> None:
    """Tell releases up to 1.14.0 which project each instance works on."""
    directory = home / ".empirica" / "instance_projects"
    directory.mkdir(parents=True, exist_ok=True)
    for instance in (SHARED_INSTANCE, *map(_instance, range(BOUND_AGENTS))):
        (directory / f"{instance}.json").write_text(json.dumps({"project_path": str(ws)}))


def _off_terminal() -> tuple[str, ...]:
    """A command prefix that hides our terminal.

    Empirica takes the terminal of any of its five nearest ancestors for the identity of the
    agent. Where mcpconc runs on one, all agents would be one instance, and a run would depend
    on how it was started; five shells in between make it look as it does without a terminal.
    """
    return ("/bin/sh", "-c", '"$@"; exit $?', "sh") * 5 if on_terminal() else ()
