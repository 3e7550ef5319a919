"""Instances: which session a call means that names none.

The server keeps, for each instance, the session made last and the one of its open transaction.
The latter is meant while the transaction is open, else the former, where it is kept at all. Where
agents share an instance, they share this too: whoever was last decides for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, OK, Quirky, Refusal, answer, op, partition, refused
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.whereabouts import named

__all__ = ["Current", "Instances", "homes", "partitions"]

MOVES = ("session_create", "submit_preflight_assessment", "submit_postflight_assessment")
IMPLIES = "implied"


@dataclass(frozen=True, slots=True)
class Current:
    """The session made last, and that of the open transaction."""

    session: str = ""
    transaction: str = ""


@dataclass(frozen=True)
class Instances(Quirky):
    """State: the `Current` sessions of one instance.

    ``session_create``, PREFLIGHT, POSTFLIGHT: input is the session. ``implied``, a call that
    named none: output is the session that it got, or a refusal. `falls_back` says whether the
    session made last is kept.
    """

    falls_back: bool = True
    name: str = "instance"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> Current:
        return Current()

    def step(self, state: Current, op: Op) -> Sequence[Current] | Reject:
        if op.name == IMPLIES:
            reject = self._implied(state, op)
            return reject if reject is not None else (state,)
        if isinstance(op.output, Refusal):
            return (state,)  # for what reason is other models' business
        session = str(op.input)
        if op.name == "session_create":
            return (replace(state, session=session),)
        if op.name == "submit_preflight_assessment":
            return (replace(state, transaction=session),)
        closed = replace(state, transaction="")
        return (closed,) if session == state.transaction else (closed, state)

    def _implied(self, state: Current, op: Op) -> Reject | None:
        due = state.transaction or (state.session if self.falls_back else "")
        if op.output is None:
            return None
        if not due or isinstance(op.output, Refusal):
            return refused(op.output, "no-session", not due)
        return None if op.output == due else Reject("session_id", due, op.output)

    def pure(self, op: Op) -> bool:
        return op.name == IMPLIES or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        if field != "session_id":
            return ""
        return (
            "A call that names no session means that of its instance's open transaction, else the "
            "one that its instance made last."
        )

    def describe(self, state: Current) -> str:
        if state.transaction:
            return f"a transaction is open in {state.transaction}"
        return f"the session made last is {state.session}" if state.session else "no session"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per instance in which a call named no session. None where it cannot be told to which
    instance everybody belongs."""
    if known.snapshot is None or not known.implied:
        return
    files = named(known.snapshot)
    agents = homes(known)
    ops: dict[str, list[Op]] = defaultdict(list)
    lost: set[str] = set()
    for one in known.implied:
        if one.operation.agent in agents:
            home = agents[one.operation.agent]
            said = answer(one.operation, one.session or OK)
            if one.session is None and not isinstance(said, Refusal):
                said = None
            if not (isinstance(said, Refusal) and said.error != "no-session"):
                ops[home].append(op(one.operation, None, said, IMPLIES))
    for o in known.of(*MOVES):
        session = _session(known, o)
        if o.agent not in agents:
            # Whoever he is, he may share an instance with the only one that is known.
            lost |= set(agents.values()) if len(set(agents.values())) == 1 else set()
        elif session:
            ops[agents[o.agent]].append(op(o, session, answer(o, OK)))
    for home, listed in ops.items():
        if home not in lost and any(o.name == IMPLIES for o in listed):
            model = Instances(falls_back="project" in files.get(home, {}))
            keeps = files.get(home) is not None
            yield partition("instance", home or "shared", model, listed if keeps else _only(listed))


def _only(ops: Sequence[Op]) -> list[Op]:
    """What is left where the server keeps nothing of instances: nobody has a session."""
    return [o for o in ops if o.name == IMPLIES]


def homes(known: Facts) -> dict[int, str]:
    """Agent → instance. Those that made no session are where all others are, if that is one."""
    found = dict(known.instance)
    others = {o.agent for o in known.of(*MOVES)} | {i.operation.agent for i in known.implied}
    places = set(found.values())
    if places == {""} or (len(places) == 1 and len(found) > 1):
        found |= dict.fromkeys(others - found.keys(), next(iter(places)))
    return found


def _session(known: Facts, o: Operation) -> str:
    if o.tool == "session_create":
        return known.id(o, "session_id", "sessions", "session_id")
    return str(
        (o.data.get("session_id") if o.succeeded else None) or o.args.get("session_id") or ""
    )
