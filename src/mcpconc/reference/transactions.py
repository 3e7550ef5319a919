"""Epistemic transactions: each PREFLIGHT begins one, and all that its instance writes later is
stamped with it, until the next PREFLIGHT.

The current one of an instance is in a file of that instance. It is read and replaced only by
who holds the write lock of the database, so that it follows the order of commits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mcpconc.reference.store import Store
from mcpconc.reference.switch import planted

__all__ = ["begin", "close", "current"]


def current(store: Store) -> str | None:
    """The instance's latest transaction, also if it is closed; None before its first PREFLIGHT."""
    found = _read(store).get("transaction_id")
    return str(found) if found else None


def begin(store: Store, transaction: str, session: str) -> None:
    """Make it the instance's current transaction."""
    _write(store, {"transaction_id": transaction, "session_id": session, "status": "open"})


def close(store: Store) -> None:
    """POSTFLIGHT: what is written until the next PREFLIGHT still belongs to the transaction."""
    found = _read(store)
    if found:
        _write(store, {**found, "status": "closed"})


def _path(store: Store) -> Path:
    instance = "" if planted("transaction-from-shared-file") else f"_{store.instance}"
    return store.root / "ws/.empirica" / f"active_transaction{instance}.json"


def _read(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(_path(store).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    assert isinstance(found, dict)
    return found


def _write(store: Store, content: dict[str, Any]) -> None:
    path = _path(store)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content), "utf-8")
    os.replace(beside, path)
