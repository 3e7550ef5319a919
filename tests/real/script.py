"""A sequential script of calls with a read-back around each: what conformance is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpconc.drive.record import Recorder
from mcpconc.drive.runner import Fleet
from mcpconc.history import History, Operation, Phase
from mcpconc.program import Call, Program, Ref, bind, token_for
from mcpconc.snapshot import Snapshot
from mcpconc.target.base import Identity, Target
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.target.warm import Start, warmed
from mcpconc.world import World, world

__all__ = ["GHOST", "GOOD", "RISKY", "Script", "Walk", "walk"]

GOOD = {"know": 0.6, "uncertainty": 0.2, "engagement": 0.7}
RISKY = {"know": 0.4, "uncertainty": 0.65, "context": 0.8}
"""So uncertain that CHECK loads the project again and replaces its own note."""
GHOST = "00000000-0000-4000-8000-000000000000"


class Script:
    """Calls in the order in which they are written down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(self, agent: int, tool: str, token_in: str = "", **args: Any) -> Call:
        """Append a call; where `token_in` names an argument, ``{}`` in its texts (or all of it)
        is the call's token."""
        position = len(self.calls)
        token = token_for(agent, position) if token_in else ""
        if token_in:
            args[token_in] = filled(args.get(token_in, "{}"), token)
        call = Call(f"{agent}.{position}", agent, tool, args, token)
        self.calls.append(call)
        return call

    def make(self, agent: int, tool: str, field: str, token_in: str = "", **args: Any) -> Ref:
        """Append a call and refer to `field` of its response."""
        return Ref(self.call(agent, tool, token_in, **args).id, field)

    def program(self) -> Program:
        agents = 1 + max(call.agent for call in self.calls)
        return Program(agents, prefix=tuple(self.calls))


def filled(form: Any, token: str) -> Any:
    if isinstance(form, Mapping):
        return {key: filled(value, token) for key, value in form.items()}
    if isinstance(form, list):
        return [filled(value, token) for value in form]
    return form.replace("{}", token) if isinstance(form, str) else form


@dataclass
class Walk:
    """What a script did: the history, and the state before and after each call."""

    program: Program
    history: History
    states: list[Snapshot] = field(default_factory=list)

    @property
    def after(self) -> Snapshot:
        return self.states[-1]

    def operation(self, call: Call) -> Operation:
        return next(o for o in self.history.operations if o.call == call.id)

    def observed(self) -> list[tuple[Operation, Snapshot, Snapshot]]:
        """Each operation with the states around it."""
        pairs = zip(self.states, self.states[1:], strict=False)
        return [
            (o, before, after)
            for o, (before, after) in zip(self.history.operations, pairs, strict=True)
        ]


async def walk(
    script: Script,
    identity: Identity,
    target: Target | None = None,
    start: Start = Start.ORDINARY,
) -> Walk:
    """Run the script alone, in a world of its own, by default of the tested Empirica."""
    target = target or EmpiricaTarget.tested()
    await target.install(print)
    program = script.program()
    async with (
        world(target, identity) as made,
        warmed(made, start, print),
        Fleet.open(made, program.agents, made.logs) as fleet,
    ):
        with Recorder(None) as recorder:
            states = await _step(program, made, fleet, recorder)
            return Walk(program, recorder.history(), states)


async def _step(program: Program, made: World, fleet: Fleet, recorder: Recorder) -> list[Snapshot]:
    states = [await made.snapshot()]
    responses: dict[str, Mapping[str, Any]] = {}
    for session in fleet.sessions:
        session.attach(recorder)
    try:
        for call in program.prefix:
            session = fleet.sessions[call.agent]
            end = await session.call(call, bind(call.args, responses), Phase.PREFIX)
            responses[call.id] = end.value.get("data") or {}
            assert await made.quiesce()
            states.append(await made.snapshot())
    finally:
        for session in fleet.sessions:
            session.detach()
    return states
