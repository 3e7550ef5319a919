"""Faults: what may break around a target, done to it while its calls run, and healed.

Jepsen's nemesis, for servers that are processes on one machine: a fault has a name, begins at a
call of the program, is noted in the history with begin and end, and whatever happens is healed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mcpconc.nemesis import client, data, databases, files, git, network, processes, slowness
from mcpconc.nemesis.base import Family, Kind
from mcpconc.nemesis.plan import chosen, possible, with_faults
from mcpconc.nemesis.storm import Weather

__all__ = ["KINDS", "Family", "Kind", "Weather", "chosen", "possible", "with_faults"]

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for module in (processes, client, databases, files, slowness, git, network, data)
        for kind in module.KINDS
    }
)
"""All faults by name."""
