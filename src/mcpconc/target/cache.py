"""The per-user cache of installed targets: one virtual environment for each.

Its packages and ours never meet. A virtual environment cannot be moved (its scripts name their
interpreter by absolute path), so it is built where it stays: under a file lock, with a stamp
written last. No stamp, or a check that fails, means that it is built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import orjson

from mcpconc.errors import TargetError, UsageError
from mcpconc.target.base import Progress
from mcpconc.target.execute import Done, execute

__all__ = ["Installed", "Wanted", "cache_root", "ensure", "prune"]

FORMAT = 1
STAMP = "mcpconc.json"
INSTALL_TIMEOUT = 900.0
CHECK_TIMEOUT = 120.0

_CHECK = """
import importlib, importlib.metadata, json, sys
modules, packages = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
print(json.dumps({name: importlib.metadata.version(name) for name in packages}))
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a virtual environment must hold.

    `name` is its directory in the cache; `label` what users call it. `requirements` are
    given to the installer; `packages` are those whose versions count, `modules` those that must
    import, `scripts` the commands that must be there.
    """

    name: str
    label: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    scripts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """A complete virtual environment. `versions` is package → version."""

    path: Path
    versions: Mapping[str, str]

    @property
    def bin(self) -> Path:
        return self.path / "bin"


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """``$MCPCONC_CACHE``, else ``$XDG_CACHE_HOME/mcpconc``, else ``~/.cache/mcpconc``."""
    env = os.environ if environ is None else environ
    if env.get("MCPCONC_CACHE"):
        return Path(env["MCPCONC_CACHE"]).expanduser().absolute()
    # XDG Base Directory Specification: a relative path is to be ignored.
    if Path(env.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(env["XDG_CACHE_HOME"]) / "mcpconc"
    return Path("~/.cache/mcpconc").expanduser()


async def ensure(wanted: Wanted, progress: Progress, root: Path | None = None) -> Installed:
    """The environment, installed now if it is missing or broken. Of several callers at once,
    in any number of processes, one installs and the others wait.

    :raises TargetError: if it cannot be installed.
    :raises UsageError: if the cache directory cannot be written.
    """
    where = (cache_root() if root is None else root) / "targets"
    try:
        where.mkdir(parents=True, exist_ok=True)
        lock = open(where / f"{wanted.name}.lock", "a")  # noqa: SIM115, ASYNC230
    except OSError as error:
        raise UsageError(
            f"cache directory {where}: {error.strerror}; set MCPCONC_CACHE to a writable one"
        ) from error
    path = where / wanted.name
    with lock:
        async with _locked(lock.fileno(), wanted.label, progress):
            stamped = _read_stamp(path)
            if stamped is not None:
                problem, versions = await _check(wanted, path)
                if not problem and versions == stamped:
                    os.utime(path / STAMP)
                    return Installed(path, versions)
                reason = problem or "its packages have changed"
                progress(f"{wanted.label} in {path} is broken ({reason}); installing it again")
            return await _install(wanted, path, progress)


def prune(prefix: str, keep: int, root: Path | None = None) -> None:
    """Remove the environments whose names begin with `prefix`, but for the `keep` used last."""
    where = (cache_root() if root is None else root) / "targets"
    stamps = sorted(where.glob(f"{prefix}*/{STAMP}"), key=lambda stamp: stamp.stat().st_mtime_ns)
    for stamp in stamps[: max(0, len(stamps) - keep)]:
        # The stamp goes first: what is left of the rest is then taken for unfinished.
        stamp.unlink(missing_ok=True)
        shutil.rmtree(stamp.parent, ignore_errors=True)


@asynccontextmanager
async def _locked(file: int, label: str, progress: Progress) -> AsyncIterator[None]:
    """Hold the lock; it goes with the process that holds it, however that ends."""
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not told:
                progress(f"another mcpconc is installing or checking {label}; waiting for it")
                told = True
            await anyio.sleep(0.1)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


async def _install(wanted: Wanted, path: Path, progress: Progress) -> Installed:
    progress(f"installing {wanted.label} into {path} (once)")
    await anyio.to_thread.run_sync(shutil.rmtree, path, True)
    uv = _find_uv()
    if uv is not None:
        await _uv(uv, wanted, path, progress)
    else:
        await _pip(wanted, path, progress)
    problem, versions = await _check(wanted, path)
    if problem:
        raise TargetError(f"{wanted.label} was installed into {path} but does not work: {problem}")
    _write_stamp(path, versions)
    progress(f"installed {wanted.label}")
    return Installed(path, versions)


async def _uv(uv: str, wanted: Wanted, path: Path, progress: Progress) -> None:
    env = _installer_environment()
    done = await execute(
        [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(path)],
        env=env,
        cwd=path.parent,
        timeout=CHECK_TIMEOUT,
    )
    if done.code:
        raise TargetError(f"{path}: no virtual environment can be made: {done.last_line()}")
    command = [
        *(uv, "pip", "install", "--python", str(path / "bin" / "python")),
        # Servers start many processes at once; let none of them write bytecode.
        "--compile-bytecode",
        *wanted.requirements,
    ]

    def tell(line: str) -> None:
        if line and not line.startswith("+"):
            progress(f"  {line}")

    done = await execute(command, env=env, cwd=path.parent, timeout=INSTALL_TIMEOUT, on_line=tell)
    if done.code and _unreachable(done):
        progress("the package index cannot be reached; trying what uv has cached")
        offline = await execute(
            [*command, "--offline"], env=env, cwd=path.parent, timeout=INSTALL_TIMEOUT
        )
        done = done if offline.code else offline
    if done.code:
        raise TargetError(_explain(wanted, path, done))


async def _pip(wanted: Wanted, path: Path, progress: Progress) -> None:
    progress("uv was not found; using venv and pip, which takes longer")
    env = _installer_environment()
    python = str(path / "bin" / "python")
    for command, limit in (
        ([sys.executable, "-m", "venv", str(path)], CHECK_TIMEOUT),
        (
            [python, "-m", "pip", "install", "--disable-pip-version-check", *wanted.requirements],
            INSTALL_TIMEOUT,
        ),
    ):
        done = await execute(command, env=env, cwd=path.parent, timeout=limit)
        if done.code:
            raise TargetError(_explain(wanted, path, done))


def _explain(wanted: Wanted, path: Path, done: Done) -> str:
    said = f"{done.out}\n{done.err}"
    # First: pip, when it reaches no index, says that there is no matching distribution.
    if _unreachable(done):
        return (
            f"{wanted.label} is not installed and the package index cannot be reached: "
            f"{_cause(done)}; connect once, or set UV_DEFAULT_INDEX to an index that is reachable"
        )
    if "no version of" in said or "No matching distribution" in said:
        return (
            f"{wanted.label}: there is no such release on the package index "
            f"(see https://pypi.org/project/{wanted.packages[0]}/#history)"
        )
    return f"{wanted.label} cannot be installed into {path}: {_cause(done)}"


def _unreachable(done: Done) -> bool:
    marks = ("error sending request", "dns error", "client error", "Failed to fetch", "timed out")
    more = ("Network connectivity is disabled", "connection broken by", "ConnectionError")
    return any(mark in done.err for mark in marks + more)


def _cause(done: Done) -> str:
    causes = [
        line.strip().removeprefix("cause:").removeprefix("error:").removeprefix("ERROR:").strip()
        for line in done.err.splitlines()
        if line.strip().startswith(("cause:", "error:", "ERROR:"))
    ]
    return causes[-1][:300] if causes else done.last_line()


def _find_uv() -> str | None:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def _installer_environment() -> dict[str, str]:
    """The caller's environment (proxies, indexes, certificates), without what would point the
    installer to another environment or project."""
    drop = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT"}
    return {name: value for name, value in os.environ.items() if name not in drop}


async def _check(wanted: Wanted, path: Path) -> tuple[str, dict[str, str]]:
    """(what is wrong or "", package → version)."""
    python = path / "bin" / "python"
    for script in wanted.scripts:
        file = path / "bin" / script
        try:
            first = file.read_bytes().split(b"\n", 1)[0]
        except OSError:
            return f"the command {script} is missing", {}
        if str(path).encode() not in first and not first.startswith(b"#!/bin/sh"):
            return f"the command {script} belongs to another environment", {}
    home = path / "home"
    with contextlib.suppress(OSError):
        home.mkdir(exist_ok=True)
    try:
        done = await execute(
            [str(python), "-c", _CHECK, orjson.dumps([wanted.modules, wanted.packages]).decode()],
            env={"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"},
            cwd=home if home.is_dir() else path.parent,
            timeout=CHECK_TIMEOUT,
        )
    except TargetError as error:
        return str(error), {}
    if done.code:
        return done.last_line(), {}
    try:
        return "", orjson.loads(done.out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return f"its check printed {done.out[:80]!r}", {}


def _read_stamp(path: Path) -> dict[str, str] | None:
    try:
        stamp = orjson.loads((path / STAMP).read_bytes())
        if stamp["format"] != FORMAT or stamp["path"] != str(path):
            return None
        return dict(stamp["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_stamp(path: Path, versions: Mapping[str, str]) -> None:
    stamp = {"format": FORMAT, "path": str(path), "versions": dict(versions)}
    new = path / f"{STAMP}.new"
    new.write_bytes(orjson.dumps(stamp, option=orjson.OPT_INDENT_2))
    new.replace(path / STAMP)
