"""Any MCP stdio server, described in a TOML file.

    version = "1.2"                     # optional: recorded in traces
    databases = { main = "data/notes.db" }
    repository = "ws"                   # optional: a git work tree
    files = ["data/*.json"]             # optional: further state, read back as text
    call_timeout = 60                   # optional: seconds for an answer
    start_timeout = 60                  # optional: seconds for a server to start
    rest_timeout = 30                   # optional: seconds until its last process should have ended
    question = { tool = "list" }        # optional: a read (with args = {...}) to ask stuck servers
    call_seconds = 0.02                 # optional: seconds that a call takes as a rule
    variables = { NOTES_LIMIT = 30 }    # optional: variables that set its own limits, in seconds
    tolerance = 10                      # optional: seconds that a process may stand still before
                                        # it runs into a limit that cannot be set

    [server]
    argv = ["{here}/.venv/bin/notes-mcp", "--db", "{root}/data/notes.db"]
    cwd = "{root}"                      # optional
    env = { NOTES_USER = "agent-{agent}" }
    inherit = ["PATH"]                  # optional: variables taken from the caller; PATH always is

    [prepare]
    commands = [["mkdir", "-p", "data"]]  # run in {root}, once, in an empty directory

    [reset]
    commands = []                       # run after the files of a world were put back

``{root}`` is the world, ``{here}`` the directory of the file, ``{python}`` the Python that
runs mcpconc, ``{agent}`` the agent's
number and ``{agents}`` how many there are (both only in [server]). State belongs below
``{root}``, which is also HOME: it is what is put back between runs.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import anyio
import orjson

from mcpconc import tomltext
from mcpconc.errors import TargetError, UsageError
from mcpconc.history import Answer, Outcome
from mcpconc.model.spec import Spec
from mcpconc.target.base import (
    CALL_SECONDS,
    MARKER,
    REST_SECONDS,
    Identity,
    Launch,
    Layout,
    Progress,
)
from mcpconc.target.execute import execute

__all__ = ["CommandTarget"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TOP = {
    *("version", "databases", "repository", "files"),
    *("call_timeout", "start_timeout", "call_seconds"),
    *("rest_timeout", "question", "server", "prepare", "reset"),
    *("variables", "tolerance"),
}
_EVERYWHERE = {"root", "here", "python"}
_SERVER = {"argv", "cwd", "env", "inherit"}
_COMMANDS = {"commands", "timeout"}


@dataclass(frozen=True, slots=True)
class Commands:
    commands: tuple[tuple[str, ...], ...] = ()
    timeout: float = 120.0


@dataclass(slots=True)
class CommandTarget:
    """A server that mcpconc knows nothing of but how to start it and where its state is."""

    name: str
    here: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    inherit: tuple[str, ...]
    cwd: str
    layout: Layout
    prepare_commands: Commands
    reset_commands: Commands
    call_timeout: float
    start_timeout: float
    rest_timeout: float
    question: tuple[str, Mapping[str, Any]] | None
    call_seconds: float = CALL_SECONDS
    variables: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = math.inf
    version: str = ""
    spec: Spec | None = None
    identities: Sequence[Identity] = (Identity.EXPLICIT,)

    @classmethod
    def load(cls, path: Path, spec: str = "") -> CommandTarget:
        """The target that a file describes; `spec` is what the user called it.

        :raises UsageError: if it cannot be read or is not a target description; the message
            names the file and the key.
        """
        return _parse(_Reader(path, tomltext.read(path)), spec or str(path))

    async def install(self, progress: Progress) -> None:
        """Nothing to install; the command must be there.

        :raises TargetError: if it is not.
        """
        if "{root}" in self.argv[0]:
            return
        command = self._fill(self.argv[0], Path(), 0, 1)
        if shutil.which(command, path=self._base().get("PATH")) is None:
            raise TargetError(f"{self.name}: the command {command} was not found; see server.argv")

    async def prepare(self, root: Path) -> None:
        """:raises TargetError: if a command of [prepare] fails."""
        await anyio.Path(root).mkdir(parents=True, exist_ok=True)
        for path in self.layout.databases.values():
            await anyio.Path(root / path).parent.mkdir(parents=True, exist_ok=True)
        await self._run("prepare", self.prepare_commands, root)

    async def reset(self, root: Path) -> None:
        """Called after a world's files were put back.

        :raises TargetError: if a command of [reset] fails.
        """
        await self._run("reset", self.reset_commands, root)

    def launch(self, root: Path, agent: int, agents: int, identity: Identity) -> Launch:
        def fill(text: str) -> str:
            return self._fill(text, root, agent, agents)

        env = {"HOME": str(root)} | self._base()
        env |= {key: fill(value) for key, value in self.env.items()} | {MARKER: str(root)}
        return Launch(tuple(map(fill, self.argv)), env, Path(fill(self.cwd)))

    def interpret(self, tool: str, text: str) -> Answer:
        """A JSON object is its own data; other text becomes ``{"text": …}``. Where the object
        says ``"ok": false`` or ``"error"``, the call was refused."""
        try:
            data = orjson.loads(text)
        except ValueError:
            return Answer(Outcome.SUCCESS, {"text": text})
        if not isinstance(data, dict):
            return Answer(Outcome.SUCCESS, {"value": data})
        refused = data.get("ok") is False or ("ok" not in data and bool(data.get("error")))
        return Answer(Outcome.REFUSED if refused else Outcome.SUCCESS, data)

    def _base(self) -> dict[str, str]:
        names = ("PATH", "LANG", *self.inherit)
        return {name: os.environ[name] for name in names if name in os.environ}

    def _fill(self, text: str, root: Path, agent: int, agents: int) -> str:
        values = {
            "root": root,
            "here": self.here,
            "python": sys.executable,
            "agent": agent,
            "agents": agents,
        }
        return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), text)

    async def _run(self, what: str, commands: Commands, root: Path) -> None:
        env = self._base() | {"HOME": str(root), MARKER: str(root)}
        for command in commands.commands:
            argv = [self._fill(word, root, 0, 1) for word in command]
            done = await execute(argv, env=env, cwd=root, timeout=commands.timeout)
            if done.code:
                raise TargetError(
                    f"{self.name}: [{what}] {' '.join(argv)} failed: {done.last_line()}"
                )


class _Reader:
    """Typed access to one TOML document; every complaint names file and key."""

    def __init__(self, path: Path, data: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        self._data = data
        self._prefix = prefix

    def complain(self, key: str, what: str) -> UsageError:
        return UsageError(f"{self.path}: {self._prefix}{key} {what}")

    def only(self, known: set[str]) -> None:
        for key in self._data:
            if key not in known:
                raise self.complain(key, f"is not a key; known are {', '.join(sorted(known))}")

    def table(self, key: str) -> _Reader:
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            raise self.complain(key, "must be a table")
        return _Reader(self.path, value, f"{self._prefix}{key}.")

    def text(self, key: str, default: str) -> str:
        value = self._data.get(key, default)
        if not isinstance(value, str):
            raise self.complain(key, "must be a string")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self._data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.complain(key, "must be a positive number of seconds")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        return self._texts(key, self._data.get(key, []))

    def lists(self, key: str) -> tuple[tuple[str, ...], ...]:
        value = self._data.get(key, [])
        if not isinstance(value, list):
            raise self.complain(key, "must be a list of commands, each a list of strings")
        found = tuple(self._texts(f"{key}[{i}]", command) for i, command in enumerate(value))
        for i, command in enumerate(found):
            if not command:
                raise self.complain(f"{key}[{i}]", "must not be empty")
        return found

    def mapping(self, key: str) -> dict[str, str]:
        value = self._data.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.complain(key, "must be a table of strings")
        return dict(value)

    def values(self, key: str) -> dict[str, Any]:
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            raise self.complain(key, "must be a table")
        return dict(value)

    def inside(self, key: str, value: str) -> str:
        """A path below the world."""
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not value:
            raise self.complain(key, f"must be a path relative to the world, not {value!r}")
        return value

    def placeholders(self, key: str, text: str, known: set[str]) -> None:
        for match in _PLACEHOLDER.finditer(text):
            if match[1] not in known:
                names = ", ".join(f"{{{name}}}" for name in sorted(known))
                raise self.complain(key, f"has an unknown placeholder {match[0]}; use {names}")

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.complain(key, "must be a list of strings")
        return tuple(value)


def _parse(top: _Reader, name: str) -> CommandTarget:
    top.only(_TOP)
    server = top.table("server")
    server.only(_SERVER)
    argv = server.texts("argv")
    if not argv:
        raise server.complain("argv", "is missing; it is the command that starts the server")
    env = server.mapping("env")
    cwd = server.text("cwd", "{root}")
    for key, text in (("argv", " ".join(argv)), ("cwd", cwd), *env.items()):
        where = key if key in ("argv", "cwd") else f"env.{key}"
        server.placeholders(where, text, _EVERYWHERE | {"agent", "agents"})
    databases = top.mapping("databases")
    for key, path in databases.items():
        top.inside(f"databases.{key}", path)
    repository = top.text("repository", "")
    files = top.texts("files")
    for pattern in files:
        top.inside("files", pattern)
    return CommandTarget(
        name=name,
        version=top.text("version", ""),
        here=top.path.resolve().parent,
        argv=argv,
        env=env,
        inherit=server.texts("inherit"),
        cwd=cwd,
        layout=Layout(
            databases, top.inside("repository", repository) if repository else None, files
        ),
        prepare_commands=_commands(top, "prepare"),
        reset_commands=_commands(top, "reset"),
        call_timeout=top.seconds("call_timeout", 60.0),
        start_timeout=top.seconds("start_timeout", 60.0),
        rest_timeout=top.seconds("rest_timeout", REST_SECONDS),
        question=_question(top),
        call_seconds=top.seconds("call_seconds", CALL_SECONDS),
        variables=_variables(top),
        tolerance=top.seconds("tolerance", math.inf),
    )


def _variables(top: _Reader) -> dict[str, float]:
    table = top.table("variables")
    return {name: table.seconds(name, 0.0) for name in top.values("variables")}


def _question(top: _Reader) -> tuple[str, Mapping[str, Any]] | None:
    table = top.table("question")
    table.only({"tool", "args"})
    tool = table.text("tool", "")
    return (tool, table.values("args")) if tool else None


def _commands(top: _Reader, key: str) -> Commands:
    table = top.table(key)
    table.only(_COMMANDS)
    commands = table.lists("commands")
    for i, command in enumerate(commands):
        table.placeholders(f"commands[{i}]", " ".join(command), _EVERYWHERE)
    return Commands(commands, table.seconds("timeout", 120.0))
