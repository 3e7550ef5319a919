"""Slow input and output: strace(1) stops whoever asks the kernel to write or to sync."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc

from mcpconc.nemesis.base import Family, Kind, Missed, Strike

__all__ = ["KINDS"]

CALLS = 6.0
"""Times what a call takes that it lasts."""
PART, SHORTEST = 0.02, 0.001
"""Of what a call takes, that each write takes longer; and seconds that it does at least."""
CALLS_OF = "fsync,fdatasync,pwrite64,rename,unlink,openat"
ATTACHES = 1.0
"""Seconds until strace has attached, or said why not."""


@asynccontextmanager
async def _slow(strike: Strike) -> AsyncIterator[None]:
    pids = sorted(strike.world.members())
    if not pids:
        raise Missed("nobody is there")
    micro = int(max(SHORTEST, PART * strike.world.call_seconds) * 1e6)
    attach = [word for pid in pids for word in ("-p", str(pid))]
    process = await anyio.open_process(
        [
            *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS_OF}"),
            *("-e", f"inject={CALLS_OF}:delay_enter={micro}", *attach),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with anyio.move_on_after(ATTACHES):
            while process.returncode is None and not any(map(_traced, pids)):
                await anyio.sleep(0.005)
        if not any(map(_traced, pids)):
            raise Missed("strace may not attach to the target here")
        strike.begins(f"files are opened, written and removed {micro / 1000:g} ms later each time")
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await _detach(process)


async def _detach(process: anyio.abc.Process) -> None:
    """An interrupted strace lets go of everybody; so does the kernel for a killed one."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with anyio.move_on_after(5.0):
            await process.wait()
            break
    await process.aclose()


def _traced(pid: int) -> bool:
    with suppress(OSError):
        said = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
        return "TracerPid:\t0\n" not in said
    return False


def _no_strace(root: Path) -> str:
    return "" if shutil.which("strace") else "strace is not installed"


KINDS = (
    Kind(
        name="slow-files",
        about="whoever opens, writes, syncs, renames or removes a file waits each time",
        family=Family.FILES,
        act=_slow,
        seconds=lambda strike: CALLS * strike.world.call_seconds,
        needs="strace",
        lacking=_no_strace,
        of_agent=False,
        refuses=True,
    ),
)
