"""Schedules while a program is made smaller: the decisions that made the last one fail are tried
on the next one first, and in the end the fewest switches between agents are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from mcpconc.program import Program
from mcpconc.rig import Execution
from mcpconc.schedule import REPLAY, REPLAY_LOOSELY, Scheduler, make
from mcpconc.schedule.points import Kill, Recorded, pack, unpack
from mcpconc.schedule.switches import blocks, shrink_switches

__all__ = ["SEARCHED", "carried", "fewest_switches", "followed", "steered"]

SEARCHED = ("pct:3", "random", "pct:2")
"""Schedulers that look for a failure where the schedule at hand does not show it."""

_NAME = re.compile(r"mcpconc-(\d+)(?!\d)")

Run = Callable[[Program, Scheduler], Awaitable[Execution]]


def steered(best: Execution, candidate: Program, seed: int, tries: int) -> Iterator[Scheduler]:
    """Schedulers for a candidate, at most so many: the schedule of the best run so far, as far as
    it fits, then searches."""
    schedule = carried(best.schedule, best.run.program, candidate)
    for n in range(tries):
        if n == 0:
            yield make(REPLAY_LOOSELY, seed, schedule)
        else:
            yield make(SEARCHED[(n - 1) % len(SEARCHED)], seed + n)


def followed(execution: Execution, seed: int) -> Scheduler:
    """A scheduler that follows what was done in this run step by step."""
    return make(REPLAY, seed, execution.schedule)


def carried(schedule: Sequence[Any], made_for: Program, candidate: Program) -> list[Any]:
    """The schedule of one program for another that was made from it: calls have kept their ids,
    but agents may have other numbers, or be merged."""
    now = {call.id: call.agent for call in candidate.calls()}
    agents: dict[int, int] = {}
    for call in made_for.calls():
        if call.id in now:
            agents.setdefault(call.agent, now[call.id])
    recorded = unpack(schedule)
    steps = [
        (agents[agent], thread, _renamed(label, agents))
        for agent, thread, label in recorded.steps
        if agent in agents
    ]
    kills = [
        Kill(agents[kill.agent], kill.thread, _renamed(kill.label, agents), kill.occurrence)
        for kill in recorded.kills
        if kill.agent in agents
    ]
    return pack([*kills, *steps], _carried(recorded, agents, candidate))


def _carried(
    recorded: Recorded, agents: dict[int, int], candidate: Program
) -> list[frozenset[str]] | None:
    """What is let go unasked: where agents were merged, what was for all of them."""
    if recorded.skip is None:
        return None
    skip: dict[int, frozenset[str]] = {}
    for old, new in agents.items():
        if old < len(recorded.skip):
            mine = frozenset(_renamed(access, agents) for access in recorded.skip[old])
            skip[new] = skip.get(new, mine) & mine
    return [skip.get(agent, frozenset()) for agent in range(candidate.agents)]


def _renamed(text: str, agents: Mapping[int, int]) -> str:
    """Targets keep files of an agent under its name, in which its number is."""
    return _NAME.sub(lambda found: f"mcpconc-{agents.get(int(found[1]), found[1])}", text)


async def fewest_switches(
    best: Execution,
    shows: Callable[[Execution], bool],
    run: Run,
    *,
    attempts: int,
    expired: Callable[[], bool],
) -> Execution:
    """The run with the fewest switches between agents that still `shows` it: `best`, or another
    of the same program. Nothing is begun after `expired`."""
    recorded = unpack(best.schedule)
    search = shrink_switches(recorded.steps, attempts)
    try:
        candidate = next(search)
        while not expired():
            schedule = pack([*recorded.kills, *candidate], recorded.skip)
            made = await run(best.run.program, make(REPLAY_LOOSELY, best.seed, schedule))
            done = unpack(made.schedule).steps
            if not shows(made):
                candidate = search.send(None)
                continue
            if len(blocks(done)) < len(blocks(unpack(best.schedule).steps)):
                best = made
            candidate = search.send(done)
    except StopIteration:
        pass
    return best
