"""After the storm: does a fresh call of each agent succeed, and what did it take?

Each agent makes a few calls that any agent can make at any time (`mcpconc.target.base.Recovers`,
else the target's question). They are part of the history like any other. Noted for each agent:

    recovery   how: by itself, on the next call, after a restart of its server, not at all
"""

from __future__ import annotations

from enum import StrEnum

import anyio

from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet, Make
from mcpconc.history import Event, EventType, Outcome
from mcpconc.program import Call, token_for
from mcpconc.target.base import Answers, Recovers, Target
from mcpconc.world import World

__all__ = ["Recovery", "recover"]

FRESH = 900
"""Tokens of fresh calls are those of positions from here on."""


class Recovery(StrEnum):
    BY_ITSELF = "by itself"
    NEXT_CALL = "on the next call"
    RESTART = "after a restart"
    PERSON = "needs a person"


async def recover(world: World, fleet: Fleet, recorder: Recorder, make: Make) -> None:
    """Make the fresh calls of all agents, at once, and note what it took.

    :raises TargetError: if a server does not come up again.
    """
    begun = next((e.index for e in recorder.events if e.value.get("what") == "fault"), 0)
    restarted = {
        e.agent
        for e in recorder.events[begun:]
        if e.type is EventType.NOTE and e.value["what"] == "server-restarted"
    }
    async with anyio.create_task_group() as group:
        for session in fleet.sessions:
            group.start_soon(
                _one, world, fleet, recorder, make, session.agent, session.agent in restarted
            )


async def _one(
    world: World, fleet: Fleet, recorder: Recorder, make: Make, agent: int, restarted: bool
) -> None:
    said: list[str] = []
    how = Recovery.PERSON
    for number, success in enumerate(
        (
            Recovery.RESTART if restarted else Recovery.BY_ITSELF,
            Recovery.NEXT_CALL,
            Recovery.RESTART,
        )
    ):
        if number == 2:  # what a person does first
            await fleet.revive(agent, recorder)
        failed = ""
        for call in fresh(world.target, agent, number):
            failed = failed or _failure(call, await make(call))
        await world.quiesce()
        if not failed:
            how = success
            break
        said += [failed] if failed not in said else []
    recorder.note("recovery", agent, how=how.value, said=said, text=how.value)


def fresh(target: Target, agent: int, number: int) -> tuple[Call, ...]:
    """What an agent calls after the storm, for the `number`-th time; none where the target
    offers nothing that can be called at any time."""
    name = f"fresh.{agent}.{number}"
    if isinstance(target, Recovers):
        return target.fresh(name, agent, token_for(agent, FRESH + number))
    question = target.question if isinstance(target, Answers) else None
    if question is None:
        return ()
    tool, args = question
    return (Call(name, agent, tool, args),)


def _failure(call: Call, end: Event) -> str:
    if end.type is EventType.OK and end.value["outcome"] == Outcome.SUCCESS.value:
        return ""
    value = end.value
    return f"{call.tool}: {value.get('outcome', end.type.value)} {_text(value)}"[:300]


def _text(value: object) -> str:
    if isinstance(value, dict):
        data = value.get("data") or {}
        return str(value.get("text") or data.get("error") or value.get("why") or "")
    return ""
