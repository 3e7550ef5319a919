"""How often a program is worth running under controlled schedules: as long as that shows orders of
steps that were not seen before. And what has to be known of its tools before the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcpconc import trace as traces
from mcpconc.program import Program
from mcpconc.rig import Rig
from mcpconc.schedule.conflicts import Pairs, interleaving
from mcpconc.schedule.learn import Learn
from mcpconc.schedule.points import Step

__all__ = ["MOST", "Turn", "acquaint"]

MOST = 12
"""Runs of one program: other programs show more than the last interleavings of one."""

BARREN = 3
"""Runs in a row that show nothing new, after which a program is exhausted: the same interleavings
(Mazurkiewicz traces) again, or others in which the same conflicting pairs come in the same
orders as in earlier runs of this campaign."""


@dataclass(slots=True)
class Turn:
    """One program, and what its runs showed."""

    program: Program
    runs: int = 0
    known: set[str] = field(default_factory=set)
    repeated: int = 0
    barren: int = 0

    def add(self, steps: Sequence[Step], pairs: Pairs) -> None:
        """Count a run, which `pairs` has counted already."""
        self.runs += 1
        name = interleaving(steps)
        self.repeated = self.repeated + 1 if name in self.known else 0
        self.barren = min(self.barren + 1, pairs.barren)
        self.known.add(name)

    @property
    def spent(self) -> bool:
        """Whether its runs have stopped showing anything new."""
        return self.repeated >= BARREN or self.barren >= 2 * BARREN

    @property
    def exhausted(self) -> bool:
        """Whether another run is a waste."""
        return self.spent or self.runs >= MOST


async def acquaint(on: Rig, lesson: Program) -> bool:
    """Run a program one call at a time, unjudged, to see what its tools touch; whether there was
    any of which nothing was known.

    :raises TargetError: if a server that died does not come up again.
    """
    control = on.world.control
    tools = {call.tool for lane in lesson.lanes for call in lane}
    if control is None or tools <= control.learned.tools.keys():
        return False
    ran = await on.execute(lesson, Learn(), 0)
    traces.discard(ran.directory)
    return True
