"""A schedule as people see it: who ran from where to where, and where one had to give way.

And how to make one smaller: fewer switches between agents show the same (delta debugging after
Zeller & Hildebrandt, 2002, on the blocks between two switches).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from mcpconc.schedule.points import INVOKE

__all__ = ["Turn", "blocks", "fewer", "shrink_switches", "turns"]

Recorded = tuple[int, int, str]
"""Agent, thread, label."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Steps of one call of an agent without another agent's in between; what they have in common
    with the next is their `number` if the agent went on with its next call.

    `labels` are what was done, the sending left out. `begins` is whether the call was sent here,
    `ends` whether it was done, as far as the schedule goes; `call` is how many calls the agent had
    sent before.
    """

    number: int
    agent: int
    tool: str
    call: int
    labels: tuple[str, ...]
    begins: bool
    ends: bool


def blocks(steps: Sequence[Recorded]) -> list[list[Recorded]]:
    """The steps, cut wherever another agent goes on."""
    return [list(block) for _, block in groupby(steps, lambda step: step[0])]


def turns(steps: Sequence[Recorded]) -> list[Turn]:
    """What to tell of a schedule."""
    cut = [
        (number, agent, part)
        for number, block in enumerate(blocks(steps))
        for agent, part in _calls(block)
    ]
    told: list[Turn] = []
    sent: dict[int, list[str]] = {}
    for n, (number, agent, labels) in enumerate(cut):
        begins = _is_sent(labels[0])
        tools = sent.setdefault(agent, [])
        if begins:
            tools.append(labels[0].removeprefix(f"{INVOKE} "))
            labels = labels[1:]
        later = next((part[0] for _, other, part in cut[n + 1 :] if other == agent), "")
        told.append(
            Turn(
                *(number, agent, tools[-1] if tools else "its call", len(tools) - 1),
                *(tuple(labels), begins, not later or _is_sent(later)),
            )
        )
    return told


def _calls(block: Sequence[Recorded]) -> Iterator[tuple[int, list[str]]]:
    """The labels of a block, cut wherever a call is sent."""
    part: list[str] = []
    for _, _, label in block:
        if part and _is_sent(label):
            yield block[0][0], part
            part = []
        part.append(label)
    yield block[0][0], part


def _is_sent(label: str) -> bool:
    return label.startswith(f"{INVOKE} ")


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
