"""An index of checkpoints in a file beside the database, kept by the planted bugs only: the
correct server looks into the database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcpconc.reference.store import Store
from mcpconc.reference.switch import planted

__all__ = ["Checkpoint", "best", "indexed", "read", "rewriting", "write"]

Checkpoint = dict[str, Any]
"""`session_id`, `phase`, `round`, `timestamp`, `vectors`, `meta`: what a note holds."""

PRIORITY = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Of the highest round, the latest of the phase that comes last in the loop."""
    found = None
    for one in checkpoints:
        if found is None or _rank(one) >= _rank(found):
            found = one
    return found


def _rank(checkpoint: Checkpoint) -> tuple[int, int]:
    return (checkpoint["round"], PRIORITY.index(checkpoint["phase"]))


def indexed() -> bool:
    """Whether checkpoints are looked up in the file."""
    return planted("checkpoint-file-written-back") or planted("checkpoint-file-truncated")


def read(store: Store) -> list[Checkpoint]:
    """What the file holds, oldest first; nothing where it is missing or empty."""
    try:
        text = _path(store).read_text("utf-8")
    except FileNotFoundError:
        text = ""
    found = json.loads(text or "[]")
    assert isinstance(found, list)
    return found


def write(store: Store, checkpoints: list[Checkpoint]) -> None:
    """Replace the file."""
    beside = _path(store).with_name(f"{os.urandom(4).hex()}.new")
    beside.write_text(json.dumps(checkpoints), "utf-8")
    os.replace(beside, _path(store))


@contextmanager
def rewriting(store: Store, checkpoints: list[Checkpoint]) -> Iterator[None]:
    """Open the file, which empties it, and fill it when the block has ended."""
    with _path(store).open("w", encoding="utf-8") as file:
        yield
        json.dump(checkpoints, file)


def _path(store: Store) -> Path:
    return store.root / "ws/.empirica/checkpoints.json"
