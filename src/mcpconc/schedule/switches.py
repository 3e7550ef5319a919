"""A schedule as people see it: who ran from where to where, and where one had to give way.

And how to make one smaller: fewer switches between agents show the same (delta debugging after
Zeller & Hildebrandt, 2002, on the blocks between two switches).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from mcpconc.schedule.points import INVOKE

__all__ = ["Block", "blocks", "fewer", "shrink_switches", "switches"]

Recorded = tuple[int, int, str]
"""Agent, thread, label."""


@dataclass(frozen=True, slots=True)
class Block:
    """Steps of one agent without another's in between: from the label `first` on, up to the label
    `until`, before which it stood when another went on (empty: it went on to its end)."""

    agent: int
    first: str
    until: str
    steps: int


def blocks(steps: Sequence[Recorded]) -> list[list[Recorded]]:
    """The steps, cut wherever another agent goes on."""
    return [list(block) for _, block in groupby(steps, lambda step: step[0])]


def switches(steps: Sequence[Recorded]) -> list[Block]:
    """What to tell of a schedule."""
    cut = blocks(steps)
    told = []
    for n, block in enumerate(cut):
        agent = block[0][0]
        later = next((other[0][2] for other in cut[n + 1 :] if other[0][0] == agent), "")
        # A call that is not sent yet is nothing that was interrupted.
        until = "" if later.startswith(f"{INVOKE} ") else later
        told.append(Block(agent, block[0][2], until, len(block)))
    return told


def fewer(steps: Sequence[Recorded]) -> Iterator[tuple[Recorded, ...]]:
    """Schedules of the same steps with fewer switches, the boldest first: all of one agent's
    after all of another's; then two blocks of one agent together, the later one moved to the
    earlier or the earlier one to the later."""
    cut = blocks(steps)
    agents = list(dict.fromkeys(block[0][0] for block in cut))
    if len(cut) > len(agents):
        yield tuple(step for agent in agents for step in steps if step[0] == agent)
        back = reversed(agents)
        yield tuple(step for agent in back for step in steps if step[0] == agent)
    span = len(cut) // 2
    while span >= 1:
        # Everything of one agent in a window is brought together, then in smaller windows.
        for start in range(0, len(cut) - 1, span):
            window = cut[start : start + span * 2 + 1]
            for order in _gathered(window):
                candidate = [*cut[:start], *order, *cut[start + len(window) :]]
                flat = tuple(step for block in candidate for step in block)
                if len(blocks(flat)) < len(cut):
                    yield flat
        span //= 2


def _gathered(window: Sequence[list[Recorded]]) -> Iterator[list[list[Recorded]]]:
    agents = list(dict.fromkeys(block[0][0] for block in window))
    for lead in agents:
        mine = [block for block in window if block[0][0] == lead]
        if len(mine) < 2:
            continue
        others = [block for block in window if block[0][0] != lead]
        yield [*mine, *others]
        yield [*others, *mine]


def shrink_switches(
    steps: Sequence[Recorded], attempts: int = 100
) -> Generator[tuple[Recorded, ...], Sequence[Recorded] | None, tuple[Recorded, ...]]:
    """Look for the fewest switches that still show it. Each candidate that comes out is to be
    run loosely (`mcpconc.schedule.policies.Follow`): send what was really done if that showed
    it, else None. Returned is the best of what was sent, or `steps`."""
    best = tuple(steps)
    tried: set[tuple[tuple[int, int], ...]] = {_shape(best)}
    improved = True
    while improved:
        improved = False
        for candidate in fewer(best):
            if _shape(candidate) in tried:
                continue
            if attempts == 0:
                return best
            tried.add(_shape(candidate))
            attempts -= 1
            done = yield candidate
            if done is not None and len(blocks(done)) < len(blocks(best)):
                best, improved = tuple(done), True
                tried.add(_shape(best))
                break
    return best


def _shape(steps: Sequence[Recorded]) -> tuple[tuple[int, int], ...]:
    return tuple(step[:2] for step in steps)
