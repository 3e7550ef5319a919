"""What each fault did in many runs: a table by machine, of what `storms` says of each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpconc.oracle.storms import CLASSES, MISSED, NOT_ASKED, Met, Torn

__all__ = ["Toll", "tolls"]

SAID = 3
"""Refusals after the storm that are quoted."""
FRESH = "fresh."
"""How ids of the calls begin that are made after the storm."""

Steps = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(slots=True)
class Toll:
    """One fault in all its runs.

    It began in `began` of them and in `missed` it did not. `recovery` is class → runs
    (`mcpconc.oracle.storms.CLASSES`, from harmless to bad, then what has no class). `unanswered`
    calls were in flight under it and nobody knows what they did; `torn` is (tool, steps done,
    steps not done) → calls that were left half done; `lost` what was acknowledged and is not
    there → runs. `said` quotes what agents were told after it.
    """

    fault: str
    began: int = 0
    missed: int = 0
    recovery: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    torn: Counter[Steps] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    said: dict[str, None] = field(default_factory=dict)

    def add(self, met: Met) -> None:
        if met.outcome == MISSED:
            self.missed += 1
            return
        self.began += 1
        self.recovery[met.outcome or NOT_ASKED] += 1
        self.unanswered += len(met.unanswered)
        self.torn.update(_steps(torn) for torn in met.torn)
        self.lost.update({_thing(text) for text in met.lost})
        self.said |= dict.fromkeys(met.said[: SAID - len(self.said)])

    def ranked(self) -> Mapping[str, int]:
        """`recovery` from harmless to bad."""
        return {c: self.recovery[c] for c in sorted(self.recovery, key=_rank)}

    def to_json(self) -> dict[str, Any]:
        return {
            "fault": self.fault,
            "began": self.began,
            "missed": self.missed,
            "recovery": dict(self.ranked()),
            "unanswered": self.unanswered,
            "torn": [
                {"tool": tool, "there": list(there), "missing": list(missing), "calls": calls}
                for (tool, there, missing), calls in self.torn.most_common()
            ],
            "lost": [{"what": what, "runs": runs} for what, runs in self.lost.most_common()],
            "said": list(self.said),
        }


def tolls(every: Iterable[Met]) -> tuple[Toll, ...]:
    """What each fault did, by name."""
    found: dict[str, Toll] = {}
    for met in every:
        found.setdefault(met.fault, Toll(met.fault)).add(met)
    return tuple(found[name] for name in sorted(found))


def _steps(torn: Torn) -> Steps:
    """Without whose they are; several steps of one kind are one."""
    there, missing = (tuple(dict.fromkeys(steps)) for steps in (torn.there, torn.missing))
    return torn.tool, there, missing


def _thing(text: str) -> str:
    """What is lost, without whose it was: ``finding's note``."""
    what, _, call = text.rpartition(" of ")
    if not what:
        return text
    return what + (" (of a fresh call)" if call.startswith(FRESH) else "")


def _rank(recovery: str) -> int:
    return CLASSES.index(recovery) if recovery in CLASSES else len(CLASSES)
