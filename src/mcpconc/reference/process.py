"""What calls may leave in the process or beside it. Where no bug is planted: nothing."""

from __future__ import annotations

import mmap
import subprocess
import threading
from collections import deque

from mcpconc.reference.store import Store
from mcpconc.reference.switch import pause, planted, scratch

__all__ = ["after", "before"]

KEPT = 16 * 1024 * 1024
"""Bytes that each call leaves behind when memory grows."""
MOST_KEPT = 16
"""Buffers that are kept at most: others want to live on this machine as well."""

SEEPING = 768 * 1024
"""The same where it seeps away."""

LATER, LATEST = 0.02, 0.4
"""Seconds that a call takes longer for each one before it in its process, and in all."""
_counting = threading.Lock()

SLOWER, SLOWEST = 0.75, 1.3
"""Seconds that a call takes longer for each other agent, and in all."""
SLOW = frozenset({"session_create", "goals_create"})
"""The calls that take longer."""
AGENTS = "agents"
"""Directory in the world's root where servers enter themselves when latency grows with them."""

ORPHAN = ("sleep", "600")
"""It ends long after everybody has stopped waiting for it, yet does not outlive the day."""


def before(store: Store, tool: str) -> None:
    """Called before each call is worked on."""
    if planted("memory-grows"):
        buffer = mmap.mmap(-1, KEPT)  # goes back to the system whole when it is let go
        buffer.write(b"\xff" * KEPT)
        scratch.setdefault("kept", deque(maxlen=MOST_KEPT)).append(buffer)
    if planted("memory-seeps"):
        scratch.setdefault("seeped", []).append(b"\xff" * SEEPING)
    if planted("slower-with-calls"):
        with _counting:
            before = scratch.get("calls", 0)
            scratch["calls"] = before + 1
        pause(min(LATEST, LATER * before))
    if planted("slower-with-agents"):
        entered = store.root / AGENTS
        entered.mkdir(exist_ok=True)
        (entered / store.instance).touch()
        others = len(list(entered.iterdir())) - 1
        if others and tool in SLOW:
            pause(min(SLOWEST, SLOWER * others))


def after(tool: str) -> None:
    """Called when a call was worked on and not refused."""
    if planted("orphan-process") and tool == "submit_postflight_assessment":
        subprocess.Popen(
            ORPHAN,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
