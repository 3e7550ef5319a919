"""How many of the orders in which the target's statements can meet were seen, and which programs
are likely to show more of them.

A *pair* is (tool, statement) before (tool, statement) of another agent, where both touch one
object and at least one writes it (`mcpconc.schedule.conflicts.Pairs`). *Possible* is every pair of
the statements that were met so far, in both orders. That is an upper bound: within a transaction,
or where one statement decides whether there is another, some of them cannot come.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement, islice, product
from math import fsum

from mcpconc.program import Program
from mcpconc.schedule.conflicts import Learned, Pairs, conflict

__all__ = ["FLOOR", "Coverage"]

FLOOR = 0.1
"""Of the greatest weight: nothing is left out because all that it could show seems to be seen."""

Tools = tuple[str, str]
"""Two tools, or one twice, in alphabetical order."""


@dataclass(slots=True)
class Coverage:
    """Of what was `learned` and the `pairs` seen, which go on growing."""

    learned: Learned = field(default_factory=Learned)
    pairs: Pairs = field(default_factory=Pairs)
    _possible: dict[Tools, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    """Tools → what was known of each then, and the pairs of their statements."""
    _seen: Counter[Tools] = field(default_factory=Counter)
    _counted: int = 0
    """How many pairs `_seen` knows of; none is ever forgotten."""

    def total(self) -> tuple[int, int]:
        """Pairs seen, and pairs possible as far as is known."""
        tools = sorted(self.learned.statements)
        possible = sum(self.possible(*two) for two in combinations_with_replacement(tools, 2))
        return len(self.pairs.seen), possible

    def possible(self, one: str, other: str) -> int:
        """Pairs of statements of these tools, in both orders."""
        tools = _tools(one, other)
        known = tuple(self.learned.changes[tool] for tool in tools)
        if tools not in self._possible or self._possible[tools][0] != known:
            mine, theirs = (
                [access.data for access in self.learned.statements.get(tool, {}).values()]
                for tool in tools
            )
            meet = sum(conflict(a, b) for a in mine for b in theirs)
            self._possible[tools] = known, meet if one == other else 2 * meet
        return self._possible[tools][1]

    def open(self, one: str, other: str) -> float:
        """The part of their pairs that was not seen: 1 where one of them never ran, 0 where no
        order of them can matter."""
        if not {one, other} <= self.learned.tools.keys():
            return 1.0
        possible = self.possible(one, other)
        new = islice(self.pairs.seen, self._counted, None)
        self._seen.update(_tools(first, second) for first, _, second, _ in new)
        self._counted = len(self.pairs.seen)
        return 1 - self._seen[_tools(one, other)] / possible if possible else 0.0

    def weight(self, program: Program) -> float:
        """From `FLOOR` to 1: how much of what its tools can show side by side is open."""
        # The number of open pairs, or a Good-Turing estimate of new ones, showed no more of the
        # reference server than this share.
        meet = [
            self.open(one.tool, other.tool)
            for mine, theirs in combinations(program.lanes, 2)
            for one, other in product(mine, theirs)
        ]
        return FLOOR + (1 - FLOOR) * fsum(meet) / len(meet) if meet else FLOOR


def _tools(one: str, other: str) -> Tools:
    return (one, other) if one <= other else (other, one)
