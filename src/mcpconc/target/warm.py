"""Warm starts: the program that a server starts for each call is forked and not started anew.

An interpreter that imports a large program may take longer for that than for the call. Here one
process of the world has imported it, a shim under the program's name is first on the servers'
PATH, and each call is a fork that runs the unmodified program: AFL's fork server (Zalewski,
"Fuzzing random programs without execve()", 2014) for Python. Calls become faster, and so races
become more or less likely: what is found like this counts once it was seen with ordinary starts.

Same as in an ordinary start: arguments, environment (as /proc shows it, too), working directory,
descriptors, parent, exit code, signals, end of the interpreter. Not the same: all calls of one
world share one seed of string hashes, so sets of strings have one order; and what a module keeps
from its import (the time, say) is older than the call. A call in whose environment the imports
might have been others is started ordinarily.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc
import anyio.to_thread
import orjson

from mcpconc.errors import TargetError, UsageError, cause
from mcpconc.schedule.probe import SITE
from mcpconc.target import warmth as scripts
from mcpconc.target.base import Identity, Launch, Progress, Target, Warms, Warmth

__all__ = ["Start", "Warm", "best_start", "check_start", "keep_warm", "shimmed", "warmed"]

IMPORTS = 120.0
"""Seconds in which the program must have been imported."""
END = 5.0
"""Seconds that the warm process has for its own end."""
AGAIN = 3
"""How many times a warm process that has ended is replaced; what ends more often will not last."""
_ROOM = 16 * 2**10
"""Bytes of environment that calls may have on top and still show in /proc."""
_PATH_MAX = 107
"""Bytes that the path of a Unix socket may have: sun_path of unix(7), less its NUL."""
_SHEBANG_MAX = 120
"""Bytes that every kernel reads of a script's first line."""
_SCRIPTS = Path(scripts.__file__).parent
_SERVE = """\
import sys, importlib.util as util
spec = util.spec_from_file_location("mcpconc_warmth", {!r}, submodule_search_locations=[{!r}])
sys.modules[spec.name] = util.module_from_spec(spec)
from mcpconc_warmth.server import main
main()
"""
"""Imports them under a name of their own, with nothing of ours on the path."""


class Start(StrEnum):
    """How the processes of calls come to be."""

    ORDINARY = "ordinary"
    FORK = "fork"


@dataclass(slots=True)
class Warm:
    """A warm process. `shims` is the directory that has to be first on PATH, `pid` the process
    (or its launcher) that there is now. `reads` are the variables that imports looked at, `touched`
    the files below the world's root that they used where that was watched. `ends` says how each
    one that there was before has ended."""

    shims: Path
    log: Path
    pid: int = 0
    reads: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    ends: list[str] = field(default_factory=list)

    def exceptions(self) -> list[str]:
        """Which variables were in the way, for each call that was started ordinarily."""
        with suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").splitlines()
            start = "started ordinarily: "
            return [line.removeprefix(start) for line in lines if line.startswith(start)]
        return []


class Place(Protocol):
    """What a warm process needs of the world that it belongs to."""

    target: Target
    identity: Identity
    root: Path
    logs: Path
    shims: Path | None
    """Where `launch` of the world looks for what comes first on PATH."""

    @property
    def probe(self) -> str | None:
        """What the probe in the world's processes does, if there is one."""
        ...

    def adopt(self, pid: int) -> None: ...

    def discard(self, pid: int) -> None: ...


def check_start(target: Target, start: Start) -> None:
    """:raises UsageError: if this target cannot be started like this."""
    if start is Start.FORK and not isinstance(target, Warms):
        raise UsageError(
            f"{target.name}: its servers start no Python program for a call that could be kept "
            "warm; leave --start fork out"
        )


def best_start(target: Target) -> Start:
    """The one that makes most calls: forks where the target can."""
    return Start.FORK if isinstance(target, Warms) else Start.ORDINARY


@asynccontextmanager
async def warmed(
    place: Place, start: Start, progress: Progress = lambda text: None
) -> AsyncIterator[Warm | None]:
    """For the length of a block, servers that are started in this world find warm programs;
    with ``Start.ORDINARY`` nothing happens. `progress` is told if the warm process ended too early,
    and at the end how many calls had to be started ordinarily, if any had.

    :raises UsageError: if the target cannot be started like this.
    :raises TargetError: if its program cannot be kept warm.
    """
    check_start(place.target, start)
    if start is Start.ORDINARY or not isinstance(place.target, Warms):
        yield None
        return
    warmth = place.target.warmth(place.root, place.identity)
    probe = SITE if place.probe == "control" else None
    async with keep_warm(
        *(warmth, place.logs / "warm.txt"), probe=probe, place=place, progress=progress
    ) as warm:
        place.shims = warm.shims
        try:
            yield warm
        finally:
            place.shims = None
            if why := warm.exceptions():
                progress(f"calls that were not forked: {len(why)} ({', '.join(sorted({*why}))})")


@asynccontextmanager
async def keep_warm(
    warmth: Warmth,
    log: Path,
    watch: Path | None = None,
    *,
    probe: Path | None = None,
    place: Place | None = None,
    progress: Progress = lambda text: None,
) -> AsyncIterator[Warm]:
    """A warm process, up when the block begins and gone with all its forks when it ends. `log`
    gets what it says; what imports use below `watch` is noted (that costs every call a little).
    The probe in the directory `probe` is imported as well, so that no fork has to.

    One that ends too early is replaced, a few times; `place` knows of each, and `progress` is told.
    Calls in the meantime are started ordinarily.

    :raises TargetError: if the program cannot be imported and forked, or takes too long.
    """
    shims = Path(await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="mcpconc-warm-")))
    warm = Warm(shims, log)
    trouble: BaseException | None = None
    try:
        python = await anyio.to_thread.run_sync(_make_shim, warmth.script, shims)
        config = {
            "address": str(_address(shims)),
            "script": str(warmth.script),
            "modules": warmth.modules,
            "once": warmth.once,
            "root": str(watch or ""),
            "probe": str(probe or ""),
        }
        words = [
            *(*warmth.prefix, python, "-c", _SERVE.format(scripts.__file__, str(_SCRIPTS))),
            orjson.dumps(config).decode(),
        ]
        async with anyio.create_task_group() as beside:
            await beside.start(_keep, warm, warmth, words, place, progress)
            yield warm
            beside.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        trouble = cause(group)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(shutil.rmtree, shims, True)
    if trouble is not None:
        raise trouble


async def _keep(
    warm: Warm,
    warmth: Warmth,
    words: Sequence[str],
    place: Place | None,
    progress: Progress,
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    """Have one warm process after another, until cancelled or until they end too often."""
    while True:
        try:
            async with _process(warm, warmth, words, place) as process:
                if not warm.ends:
                    task_status.started()
                code = await process.wait()
        except TargetError as error:
            if not warm.ends:
                raise
            progress(f"the warm process is not replaced: {error}")
            return
        warm.ends.append(f"signal {-code}" if code < 0 else f"code {code}")
        if len(warm.ends) > AGAIN:
            how = ", ".join(warm.ends)
            progress(f"the warm process ended too often ({how}): calls are started ordinarily")
            return
        progress(f"the warm process ended ({warm.ends[-1]}): another is started")


@asynccontextmanager
async def _process(
    warm: Warm, warmth: Warmth, words: Sequence[str], place: Place | None
) -> AsyncIterator[anyio.abc.Process]:
    """One that has imported the program."""
    env = first_on_path(warm.shims, warmth.env) | {"MCPCONC_ROOM": "." * _ROOM}
    _address(warm.shims).unlink(missing_ok=True)
    # Its own session: a Ctrl-C on our terminal is not meant for it.
    with warm.log.open("ab") as said:
        process = await anyio.open_process(
            words,
            env=env,
            cwd=warmth.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
    warm.pid = process.pid
    try:
        if place is not None:
            place.adopt(process.pid)  # while it imports, it is nobody's stray
        answer = await _answer(process, warmth.script, warm.log)
        warm.reads, warm.touched = tuple(answer.get("reads", ())), tuple(answer["touched"])
        if place is not None:
            place.adopt(process.pid)  # with what a launcher has started
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
        if place is not None:
            place.discard(process.pid)


def first_on_path(directory: Path, env: Mapping[str, str]) -> dict[str, str]:
    """`env` with `directory` before everything else on PATH."""
    return {**env, "PATH": ":".join(filter(None, (str(directory), env.get("PATH", ""))))}


def shimmed(launch: Launch, shims: Path | None) -> Launch:
    """`launch` so that the server finds what is in `shims` first."""
    return launch if shims is None else replace(launch, env=first_on_path(shims, launch.env))


async def _answer(process: anyio.abc.Process, script: Path, log: Path) -> dict[str, Any]:
    """The one line that the warm process says, once it is ready or knows that it never will be."""
    assert process.stdout is not None
    said = b""
    try:
        with anyio.fail_after(IMPORTS):
            while not said.endswith(b"\n"):
                said += await process.stdout.receive()
    except TimeoutError:
        raise TargetError(f"{script}: not imported within {IMPORTS:g} s") from None
    except anyio.EndOfStream:
        raise TargetError(f"{script}: ended while it was imported; {log} has more") from None
    answer: dict[str, Any] = orjson.loads(said)
    if "error" in answer:
        raise TargetError(" ".join(str(answer["error"]).split())[:500])
    return answer


async def _end(process: anyio.abc.Process) -> None:
    """The end of its stdin is its signal to kill its forks and to end."""
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    with anyio.move_on_after(END):
        await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)
    await process.aclose()


def _make_shim(script: Path, shims: Path) -> str:
    """Write the shim for `script` into the directory `shims`; gives the interpreter to use.

    :raises TargetError: if `script` is no Python script, or the directory's path is too long.
    """
    address = _address(shims)
    if len(os.fsencode(address)) > _PATH_MAX:
        raise TargetError(
            f"{address}: too long for the path of a socket; set TMPDIR to a shorter directory"
        )
    python = interpreter_of(script)
    line = f"{python} -ISE"
    if len(os.fsencode(line)) <= _SHEBANG_MAX and " " not in python:
        first = f"#!{line}\n"
    else:  # /bin/sh executes the second line; for Python it is a string
        first = f"#!/bin/sh\n'''exec' \"{python}\" -ISE \"$0\" \"$@\"\n' '''\n"
    text = (_SCRIPTS / "shim.py").read_text("utf-8")
    text = text.replace('"@ADDRESS@"', repr(str(address)))
    text = text.replace('"@PROGRAM@"', repr(str(script)))
    shim = shims / script.name
    shim.write_text(first + text, "utf-8")
    shim.chmod(stat.S_IRWXU)
    return python


def interpreter_of(script: Path) -> str:
    """The Python that a console script is executed with.

    :raises TargetError: if it is none.
    """
    try:
        lines = script.read_text("utf-8", "replace").splitlines()[:2]
    except OSError as error:
        raise TargetError(f"{script}: cannot be read ({error.strerror})") from error
    first, second = (*lines, "", "")[:2]
    if first == "#!/bin/sh" and second.startswith("'''exec'"):  # for long paths, see `_make_shim`
        return shlex.split(second.removeprefix("'''exec'"))[0]
    words = first.removeprefix("#!").split()
    if not first.startswith("#!") or len(words) != 1 or "python" not in Path(words[0]).name:
        raise TargetError(f"{script}: no Python script, so it cannot be kept warm")
    return words[0]


def _address(shims: Path) -> Path:
    return shims / ".socket"
