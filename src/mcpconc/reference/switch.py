"""Which bug is planted now.

The file ``plant`` in the world's root names it; it is read at the start of each call, so that a
running server changes with the world that is put back under it. Whatever planted bugs keep in
the process (`scratch`) belongs to one such file, that is to one run, and goes with it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from mcpconc.reference.plants import LOADED, PLANTS

__all__ = ["FILE", "pause", "planted", "refresh", "scratch"]

FILE = "plant"
"""In the world's root: the name of the planted bug (empty: none), then a text that differs from
run to run."""

scratch: dict[str, Any] = {}
"""What planted bugs remember in this process; correct code remembers nothing."""

_NAMES = frozenset(plant.name for plant in (*PLANTS, *LOADED))
_lock = threading.Lock()
_text = ""
_name = ""


def refresh(root: Path) -> None:
    """Look which bug is planted in the world at `root`.

    :raises ValueError: if the file names no bug of the table.
    """
    global _text, _name
    try:
        text = (root / FILE).read_text("utf-8")
    except FileNotFoundError:
        text = ""
    if text == _text:
        return
    name = text.partition("\n")[0]
    if name and name not in _NAMES:
        raise ValueError(f"no planted bug is called {name!r}")
    with _lock:
        if text != _text:
            scratch.clear()
            _text, _name = text, name


def planted(name: str) -> bool:
    """Whether this bug is planted; code asks where it would go wrong."""
    assert name in _NAMES, name
    return _name == name


def pause(seconds: float) -> None:
    """Slow storage or a slow network, in the window of a planted bug that is too narrow to be
    met within a run otherwise."""
    time.sleep(seconds)
