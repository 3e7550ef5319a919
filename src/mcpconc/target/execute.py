"""Run a command of ours to its end: bounded, in its own process group, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

from mcpconc.errors import TargetError

__all__ = ["Done", "execute"]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. `code` is negative for a signal."""

    code: int
    out: str
    err: str

    def last_line(self) -> str:
        """The last line that it said, which mostly is the reason for a failure."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit code {self.code}, no output"


async def execute(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout: float,
    on_line: Callable[[str], None] | None = None,
) -> Done:
    """Run `argv` with exactly `env` and an empty stdin. `on_line` gets each line of stderr as
    it comes.

    :raises TargetError: if it cannot be started, or takes longer than `timeout` seconds.
    """
    try:
        process = await anyio.open_process(
            list(argv), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise TargetError(f"{argv[0]} cannot be started: {error.strerror or error}") from error
    out: list[str] = []
    err: list[str] = []
    try:
        with anyio.fail_after(timeout):
            async with anyio.create_task_group() as group:
                assert process.stdout is not None
                assert process.stderr is not None
                group.start_soon(_collect, process.stdout, out, None)
                group.start_soon(_collect, process.stderr, err, on_line)
                await process.wait()
                # A detached child may hold the pipes; what it says is of no interest.
                group.cancel_scope.deadline = anyio.current_time() + 1.0
    except TimeoutError:
        raise TargetError(f"{' '.join(argv)[:200]}: no end within {timeout:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    assert process.returncode is not None
    return Done(process.returncode, "".join(out), "".join(err))


async def _collect(
    stream: anyio.abc.ByteReceiveStream,
    into: list[str],
    on_line: Callable[[str], None] | None,
) -> None:
    rest = ""
    async for text in TextReceiveStream(stream, errors="backslashreplace"):
        into.append(text)
        if on_line is not None:
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                on_line(line.strip())
