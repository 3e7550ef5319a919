"""What a run was made on, for whoever reads its figures."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import psutil

from mcpconc.errors import TargetError
from mcpconc.target.execute import execute

__all__ = ["machine"]


async def machine(where: Path) -> dict[str, Any]:
    """Facts of this machine; the file system is that of `where`. What cannot be found out is
    None."""
    return {
        "cores": psutil.cpu_count(),
        "cpu": _cpu(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "git": await _git(),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(where),
        "platform": sys.platform,
    }


def _cpu() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Processor"):
            return value.strip()
    return None


async def _git() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = await execute((git, "--version"), env={}, cwd=Path("/"), timeout=10.0)
    except TargetError:
        return None
    return done.out.strip().removeprefix("git version ") or None


def _filesystem(where: Path) -> str | None:
    """The type of the file system that `where`, or what there is of its path, is on."""
    real = where.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if real.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else None
