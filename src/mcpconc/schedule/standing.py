"""What a controlled scheduler keeps of each agent, and what it makes of a thread that stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio

from mcpconc.schedule.control import Thread
from mcpconc.schedule.points import Step

__all__ = ["LOOKS", "Lane", "edge_of", "patience", "step_of"]

LOOKS = 5
"""Looks in a row that must find a thread asleep on a timer before it counts as waiting for a
lock: SQLite's busy handler sleeps for up to 100 ms at a time."""


@dataclass(slots=True, eq=False)
class Lane:
    """One agent: the call that it has in flight, the one that waits to be sent, and whether
    all of it is known to be at rest."""

    agent: int
    tools: list[str]
    call: str = ""
    tool: str = ""
    waiting: dict[str, anyio.Event] = field(default_factory=dict)
    over: bool = False
    rest: bool = False
    last: Thread | None = None
    pids: set[int] = field(default_factory=set)
    """Its processes, those included that nobody is the parent of any more."""
    beside: set[int] = field(default_factory=set)
    """Others that have a hand in them: who forks them and waits for their end."""
    quiet: set[int] = field(default_factory=set)
    """Those that were asleep when it was found to be at rest."""
    orphans: bool = False
    """Whether a process has ended since it was last looked for those that it left behind."""
    heard: int = 0
    """How many threads were heard of since the call was sent; their numbers are not used again."""
    blocked: str = ""
    since: int = 0
    """Steps that had been made when it was found blocked."""
    asleep: int = 0
    began: float = -1.0
    """When it was first looked at since it moved last."""
    calm: float = 0.0
    """Since when it sleeps."""

    @property
    def between(self) -> bool:
        """Whether the runner is about to say what comes next."""
        return not (self.over or self.call or self.waiting)

    def stirs(self) -> None:
        self.rest, self.asleep, self.began = False, 0, -1.0


def step_of(thread: Thread, tool: str) -> Step:
    """The step that it would be to let this thread go on."""
    point = thread.point
    assert point is not None
    access = thread.access
    return Step(
        thread.agent,
        thread.ordinal,
        point.label,
        tool,
        access.reads,
        access.writes,
        point.lock,
        point.holds,
    )


def patience(thread: Thread | None) -> int:
    """How many looks must find a thread in a timed sleep until it is SQLite that sleeps there;
    0 where it cannot be. Only a COMMIT that comes back may sleep for another reason."""
    if thread is None or thread.last is None or thread.last.kind == "lock":
        return 0
    return LOOKS if thread.last.lock else 5 * LOOKS if thread.last.needs == "commit" else 0


def edge_of(thread: Thread, holder: Thread, call: str) -> dict[str, Any]:
    """Who waits for whom, as plain data."""
    assert thread.point is not None
    return {
        "agent": thread.agent,
        "pid": thread.pid,
        "command": thread.name,
        "call": call,
        "label": thread.point.label,
        "path": thread.point.lock.removeprefix("lock:"),
        "held_by": [{"agent": holder.agent, "pid": holder.pid, "command": holder.name}],
    }
