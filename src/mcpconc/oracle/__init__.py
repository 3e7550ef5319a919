"""The oracles, in the order in which they judge and are listed.

Cheap and direct ones come first. A finding of one is often seen by another, too (a lost row is
a missing footprint and a history without explanation): each is told, with its own fingerprint.
"""

from __future__ import annotations

from mcpconc.oracle import (
    effects,
    footprint,
    integrity,
    isolation,
    itself,
    linearizability,
    liveness,
    order,
    protocol,
    refusal,
    resources,
)
from mcpconc.oracle.base import Oracle

__all__ = ["ORACLES", "SELF", "describe"]

ORACLES: tuple[tuple[str, Oracle], ...] = (
    ("protocol", protocol.protocol),
    ("refusal", refusal.refusal),
    ("effects", refusal.told(effects.effects, refused=True)),
    ("footprint", refusal.told(footprint.footprint, refused=True)),
    ("linearizability", refusal.told(linearizability.linearizability, refused=False)),
    ("order", refusal.told(order.order, refused=False)),
    ("isolation", refusal.told(isolation.isolation, refused=False)),
    ("integrity", integrity.integrity),
    ("liveness", liveness.liveness),
    ("resources", resources.resources),
)

SELF: tuple[str, Oracle] = ("self", itself.itself)
"""The one more that judges where the target is its own model."""

_WHAT = {
    "protocol": "one well-formed answer to each request, nothing else on the wire",
    "refusal": "bad input is refused promptly, clearly and without effect, and nobody notices",
    "effects": "acknowledged writes are there once, whole, under their owner; nothing else is",
    "footprint": "each call leaves all changes that it makes when alone; nobody makes others",
    "linearizability": "some sequential order explains all answers and the state left",
    "order": "real time, commit order and shown order agree; lists that only grow only grow",
    "isolation": "nothing private to one agent shows at another",
    "integrity": "built-in checks, schema, JSON and copies of one fact are sound",
    "liveness": "in the end everybody answers, nobody is at work, nothing is locked",
    "resources": "servers do not keep memory, and calls do not get slower, over a run",
    "self": "some sequential run of the target gives the same answers and state (--model self)",
}


def describe() -> tuple[tuple[str, str], ...]:
    """(name, what it checks in one line) of each oracle, in order."""
    return tuple((name, _WHAT[name]) for name, _ in (*ORACLES, SELF))
