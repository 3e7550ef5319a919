"""The command line as another program uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

__all__ = ["mcpconc"]


def mcpconc(*args: str) -> tuple[int, Any]:
    """Exit code and ``--json`` document of a command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "mcpconc", *args, "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)
