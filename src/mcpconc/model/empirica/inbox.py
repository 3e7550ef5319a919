"""Messages on the bus: who was sent something sees it, from then on.

`bus_poll` reads and marks nothing as read, and messages live for a day, so an inbox only grows.
A message to ``*`` is in everybody's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import Quirky, Refusal, answer, op, partition, spurious, token_in
from mcpconc.model.empirica.facts import Facts

__all__ = ["EVERYBODY", "Inbox", "partitions"]

EVERYBODY = "*"
LIMIT = 50
CHANNEL = "dispatch"

State = frozenset[str]
"""Tokens of the messages in it."""


@dataclass(frozen=True)
class Inbox(Quirky):
    """State: the messages of one receiver, by the tokens of the calls that sent them.

    ``bus_dispatch``: input is the token. ``bus_poll``: input is the most that it shows, output
    the tokens shown. ``bus_status``: output is the number of messages waiting. A snapshot's
    output is the tokens of the messages kept for this receiver.
    """

    name: str = "inbox"
    known_quirks: frozenset[str] = frozenset()

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == "bus_dispatch":
            if isinstance(op.output, Refusal):
                # Whether somebody could take it is the registry's business.
                return (state,) if op.output.error == "no-instance" else spurious(op.output)
            return (state | {str(op.input)},)
        if op.output is None:
            return (state,)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.name == "bus_status":
            due = min(len(state), LIMIT)
            same = op.output == due
            return (state,) if same else Reject("pending_dispatches", due, op.output)
        if op.name == "bus_poll":
            most = op.input if isinstance(op.input, int) else LIMIT
            assert isinstance(op.output, frozenset)
            if 0 <= most < len(state):
                full = len(op.output) == most and op.output <= state
                return (state,) if full else Reject("messages", most, len(op.output))
        if op.output == state:
            return (state,)
        seen = op.output if isinstance(op.output, frozenset) else ()
        return Reject("messages", sorted(state), sorted(seen))

    def pure(self, op: Op) -> bool:
        return op.name != "bus_dispatch" or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        return "A message that was sent is in its receiver's inbox." if field == "messages" else ""

    def describe(self, state: State) -> str:
        return f"{len(state)} messages"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per receiver that a call named. A message without a token is nobody's."""
    ops: dict[str, list[Op]] = defaultdict(list)
    everybody: list[Op] = []
    for o in known.of("bus_dispatch"):
        to = _receiver(known, o)
        if not o.token or not to:
            continue
        sent = op(o, o.token, answer(o, "sent"))
        if to == EVERYBODY:
            everybody.append(sent)
        else:
            ops[to].append(sent)
    for o in known.of("bus_poll"):
        if o.args.get("status", "unread") == "read" or o.args.get("channel", CHANNEL) != CHANNEL:
            continue
        shown = frozenset(token_in(m.get("body")) for m in o.data.get("messages") or ())
        ops[str(o.args.get("ai_id"))].append(op(o, o.args.get("limit", LIMIT), answer(o, shown)))
    for o in known.of("bus_status"):
        waiting = o.data.get("pending_dispatches")
        ops[str(o.args.get("instance_id"))].append(op(o, None, answer(o, waiting)))
    kept: dict[str, set[str]] = defaultdict(set)
    for token, message in known.message.items():
        kept[str((message.get("to") or {}).get("ai_id"))].add(token)
    if everybody:
        ops.setdefault(EVERYBODY, [])
    for to in ops:
        left = None
        if known.snapshot is not None:
            left = frozenset(kept[to] | kept[EVERYBODY])
        theirs = [*ops[to], *everybody]
        yield partition("inbox", to, Inbox(), theirs, left)


def _receiver(known: Facts, o: Operation) -> str:
    """Whom a message went to. Where it was for whoever can, only the message says that."""
    if o.args.get("to_instance") == EVERYBODY and o.args.get("required_capabilities"):
        sent = known.message.get(o.token) or {}
        return str((sent.get("to") or {}).get("ai_id") or "")
    return str(o.args.get("to_instance") or "")
