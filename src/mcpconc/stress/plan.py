"""What a stress run does, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Leg", "legs"]

WATCHED = 5
"""Agents of the phases with the probe, at most."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Phases that have their servers in common. With `own` each program is also run in worlds of
    their own; with `observed` the probe counts."""

    agents: int
    settings: str
    own: bool = False
    observed: bool = False

    @property
    def name(self) -> str:
        many = "1 agent" if self.agents == 1 else f"{self.agents} agents"
        settings = "" if self.settings == "default" else f", {self.settings}"
        return many + settings + (", with the probe" if self.observed else "")


def legs(
    agents: Sequence[int],
    own: int,
    settings: Sequence[str],
    settings_agents: Sequence[int],
    observe: bool,
) -> list[Leg]:
    """The baseline comes first, then ever more agents, then the other configurations, each with a
    baseline of its own; the probe comes last, because it changes what calls take."""
    ladder = sorted({1, *agents})
    plan = [Leg(n, settings[0], own=1 < n <= own) for n in ladder]
    few = [n for n in sorted({1, *settings_agents}) if n in ladder]
    plan += [Leg(n, name) for name in settings[1:] for n in few]
    if observe:
        plan.append(Leg(max(n for n in ladder if n <= WATCHED), settings[0], observed=True))
    return plan
