"""TOML files that people write."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mcpconc.errors import UsageError

__all__ = ["read"]


def read(path: Path) -> dict[str, Any]:
    """:raises UsageError: if it cannot be read or is not TOML, naming the file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
