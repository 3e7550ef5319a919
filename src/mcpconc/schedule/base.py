"""What a scheduler is: it decides when each call may leave.

The runner asks before each call of the concurrent part and tells when it was answered; prefix
and suffix are not scheduled. A scheduler does no I/O on the target's state except `convoy`,
which holds its write lock for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mcpconc.program import Program

__all__ = ["Scheduler", "Surroundings"]


class Surroundings(Protocol):
    """What a scheduler may know of the world it schedules in."""

    @property
    def databases(self) -> Mapping[str, Path]:
        """Name → absolute path; the first is the one that the target's writers contend for."""
        ...

    @property
    def call_seconds(self) -> float:
        """Seconds that a call takes as a rule."""
        ...

    def waiting(self) -> int:
        """How many of the world's calls are asleep in SQLite's busy handler now."""
        ...


class Scheduler(Protocol):
    """One instance serves one run. Its decisions follow from `name`, `seed` and the program."""

    name: str
    seed: int
    remarks: list[str]
    """What people should know of this run's schedule, one line each; recorded after it."""

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        """Called once, before the concurrent part."""
        ...

    async def serve(self) -> None:
        """What is to be done beside the concurrent part; cancelled when that has ended."""
        ...

    async def admit(self, agent: int, call: str) -> None:
        """Return when this call may be sent."""
        ...

    def sent(self, agent: int, call: str) -> None: ...

    def ended(self, agent: int, call: str) -> None:
        """The call was answered, failed or given up."""
        ...

    def idle(self, agent: int) -> None:
        """This agent's lane has no further call."""
        ...

    async def finish(self) -> None:
        """Called once after the concurrent part, whatever happened: let go of everything."""
        ...
