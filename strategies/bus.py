"""Agents that find and write to each other: the registry of instances, and messages."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mcpconc.strategies.machine import ProgramMachine, act, chance, needs

__all__ = ["BUS_READS", "BUS_WRITES", "BusRules"]

BUS_WRITES = ("bus_register", "bus_dispatch")
BUS_READS = ("bus_instances", "bus_status", "bus_poll")

COMMON_INSTANCES = ("bus-common", "bus-other")
CAPABILITIES = ("git", "shell")
NOBODY_CAN = "fly"


class BusRules(ProgramMachine):
    """Rules to mix into a machine. An instance is known by a name that its agent chooses, so that
    everybody can write to everybody without having to be told an id. All share one registry, so
    that nothing of this happens where nothing is to be shared."""

    def instance(self, agent: int, percent: int, pick: int) -> str:
        """A name that agents share, or the agent's own one."""
        return COMMON_INSTANCES[pick % 2] if self.sharing(percent) else f"bus-{agent}"

    @act(theirs=chance, pick=chance, can=st.sets(st.sampled_from(CAPABILITIES)))
    @needs("bus_register")
    def bus_register(self, agent: int, theirs: int, pick: int, can: set[str]) -> None:
        if not self.knobs.share:
            return
        args: dict[str, Any] = {
            "instance_id": self.instance(agent, theirs, pick),
            "type": "agent",
            "capabilities": ",".join(sorted(can)),
        }
        self.call(agent, "bus_register", args, token_in="subscribes")

    @act(theirs=chance, pick=chance, way=st.sampled_from(("one", "one", "all", "able")))
    @needs("bus_dispatch")
    def bus_dispatch(self, agent: int, theirs: int, pick: int, way: str) -> None:
        if not self.knobs.share:
            return
        args: dict[str, Any] = {"from_instance": f"bus-{agent}", "action": "look"}
        if way == "one":
            other = (agent + 1) % self.knobs.agents
            args["to_instance"] = self.instance(other, theirs, pick)
        else:
            args["to_instance"] = "*"
        if way == "able":
            wanted = NOBODY_CAN if pick >= 90 else CAPABILITIES[pick % 2]
            args["required_capabilities"] = wanted
        self.call(agent, "bus_dispatch", args, "payload", '{"token": "{}"}')

    @act(theirs=chance, pick=chance, tool=st.sampled_from(BUS_READS))
    @needs(*BUS_READS)
    def read_bus(self, agent: int, theirs: int, pick: int, tool: str) -> None:
        if not self.knobs.share:
            return
        name = self.instance(agent, theirs, pick)
        args = {"bus_status": {"instance_id": name}, "bus_poll": {"ai_id": name}}.get(tool, {})
        if tool == "bus_instances" and pick >= 70:
            args = {"capability": CAPABILITIES[pick % 2]}
        self.call(agent, tool, args)
