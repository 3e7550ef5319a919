"""mcpconc as a process of its own, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from mcpconc.target.base import MARKER

__all__ = ["environment", "mcpconc", "members", "start", "until"]

TESTS = Path(__file__).parents[1]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Worlds are made below `tmp_path`, so that their processes can be told from others'."""
    inherited = {k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}
    return {**inherited, "TMPDIR": str(tmp_path), "PYTHONPATH": str(TESTS), **more}


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """mcpconc, to which the ledger is known, at work in `tmp_path`."""
    return subprocess.Popen(
        [sys.executable, "-m", "fakes.ledger", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a signal is for it alone
    )


def mcpconc(tmp_path: Path, words: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    """The plain command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mcpconc", *words],
        cwd=tmp_path,
        env=environment(tmp_path, **env),
        capture_output=True,
        text=True,
        timeout=120,
    )


def members(tmp_path: Path) -> list[str]:
    """Command lines of everything alive in a world below `tmp_path`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER, "").startswith(str(tmp_path)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is true; the bound is for the day it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
