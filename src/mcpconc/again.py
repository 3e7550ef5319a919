"""How often a program is worth running under controlled schedules: as long as that shows orders of
steps that were not seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcpconc.program import Program
from mcpconc.schedule.conflicts import Pairs, interleaving
from mcpconc.schedule.points import Step

__all__ = ["MOST", "Turn"]

MOST = 12
"""Runs of one program: other programs show more than the last interleavings of one."""

BARREN = 3
"""Runs in a row that show nothing new, after which a program is exhausted: the same interleavings
(Mazurkiewicz traces) again, or others in which the same conflicting pairs come in the same
orders as in earlier runs of this campaign."""


@dataclass(slots=True)
class Turn:
    """One program, and what its runs showed. `exhausted` says whether another run is a waste."""

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
    def exhausted(self) -> bool:
        return self.runs >= MOST or self.repeated >= BARREN or self.barren >= 2 * BARREN
