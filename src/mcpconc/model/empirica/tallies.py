"""How many there are: the numbers that overviews tell, each next to the calls that make it grow.

Sessions of the project (`workspace_overview`), messages and handoffs (notes that `sync_status`
counts). None of them is ever taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import NONE, Quirky, Refusal, answer, op, partition, spurious
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.handoffs import session_of

__all__ = ["Tally", "partitions"]

State = frozenset[str]
READS = frozenset({"workspace_overview", "sync_status"})


@dataclass(frozen=True)
class Tally(Quirky):
    """State: the ids of what there is.

    A call that makes something has its id as input; whether it may be refused is other models'
    business. A read's output is the number told.
    """

    name: str = "tally"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name not in READS:
            return (state if isinstance(op.output, Refusal) else state | {str(op.input)},)
        if op.output is None:
            return (state,)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        same = op.output == len(state)
        return (state,) if same else Reject("count", len(state), op.output)

    def pure(self, op: Op) -> bool:
        return op.name in READS or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return f"there are {len(state)}"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per number that a read told."""
    overviews = [o for o in known.of("workspace_overview") if o.answered]
    if overviews:
        sessions = [
            (o, known.id(o, "session_id", "sessions", "session_id"))
            for o in known.of("session_create")
        ]
        told = [(o, _sessions(o)) for o in overviews]
        yield _tally("sessions", sessions, told)
    synced = [o for o in known.of("sync_status") if o.answered]
    if synced:
        sent = [(o, o.token) for o in known.of("bus_dispatch")]
        yield _tally("messages", sent, [(o, _notes(o, "messages")) for o in synced])
        handed = [(o, session_of(known, o)) for o in known.of("handoff_create")]
        yield _tally("handoffs", handed, [(o, _notes(o, "handoff")) for o in synced])


def _tally(
    key: str, makers: Sequence[tuple[Operation, str]], reads: Sequence[tuple[Operation, int]]
) -> Partition:
    ops = [op(o, id, answer(o, id)) for o, id in makers if id]
    ops += [op(o, None, answer(o, number)) for o, number in reads]
    return partition("tally", key, Tally(), ops)


def _sessions(o: Operation) -> int:
    return int((o.data.get("workspace_stats") or {}).get("total_sessions") or 0)


def _notes(o: Operation, name: str) -> int:
    return int((o.data.get("note_counts") or {}).get(f"empirica/{name}") or 0)
