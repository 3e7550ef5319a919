"""What a scheduler is: it decides when each call may leave.

The runner asks before each call of the concurrent part and tells when it was answered; prefix
and suffix are not scheduled. A scheduler does no I/O on the target's state except `convoy`,
which holds its write lock for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mcpconc.program import Program
from mcpconc.schedule.points import Step

if TYPE_CHECKING:
    from mcpconc.schedule.control import Control

__all__ = ["Scheduler", "Surroundings", "Uncontrolled"]


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

    @property
    def control(self) -> Control | None:
        """Where the probe in the target's processes reports; None where there is none."""
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

    @property
    def schedule(self) -> Sequence[Any]:
        """What was decided inside the calls, as `mcpconc.schedule.points` records it: plain JSON
        to replay it from. Empty where nothing was."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The same, with what each step touched."""
        ...

    @property
    def notes(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """What the history is to hold beside the remarks: what it is, and its fields."""
        ...

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


class Uncontrolled:
    """What schedulers have in common that decide nothing inside the calls."""

    schedule: Sequence[Any] = ()
    steps: Sequence[Step] = ()
    notes: Sequence[tuple[str, Mapping[str, Any]]] = ()
