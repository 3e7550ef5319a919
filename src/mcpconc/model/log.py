"""An append-only log: append, read."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import SHOWN, UNSEEN, Pair, chain, latest

__all__ = ["AppendLog"]

NONE: frozenset[str] = frozenset()

Entries = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class AppendLog:
    """A list that only grows.

    ``append``: input is the entry, output its position from 0. ``read``: output is the tuple
    of all entries, oldest first. A snapshot reads. An output of None fits anything.
    """

    name: str = "log"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> Entries:
        return ()

    def step(self, state: Entries, op: Op) -> Sequence[Entries] | Reject:
        """The list afterwards, or the field ``entries`` (of a read) or ``position``."""
        if op.name in ("read", SNAPSHOT):
            if op.output is None or op.output == state:
                return (state,)
            return Reject("entries", state, op.output)
        if op.name == "append":
            if op.output is not None and op.output != len(state):
                return Reject("position", len(state), op.output)
            return ((*state, op.input),)
        raise ValueError(f"a log has append and read, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in ("read", SNAPSHOT)

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """Positions tell the order: those answered, and those of entries that were appended
        once in the longest list that was read. A read comes before what stands behind it."""
        appends: dict[Hashable, list[int]] = defaultdict(list)
        reads: dict[int, list[int]] = defaultdict(list)
        longest: Entries = ()
        for i, op in enumerate(ops):
            if op.name == "append":
                appends[op.input].append(i)
            elif isinstance(op.output, tuple):
                reads[len(op.output)].append(i)
                longest = max(longest, op.output, key=len)
        at = {
            position: appends[entry][0]
            for position, entry in enumerate(longest)
            if len(appends.get(entry, ())) == 1
        }
        for i, op in enumerate(ops):
            if op.name == "append" and isinstance(op.output, int):
                at[op.output] = i
        positions = sorted(at)
        yield from chain((at[position] for position in positions), SHOWN)
        placed = {*longest, *(ops[i].input for i in at.values())}
        behind = [i for entry, by in appends.items() if entry not in placed for i in by]
        for length, by in reads.items():
            read = latest(ops, by)
            place = bisect_left(positions, length)
            after = [at[position] for position in positions[place : place + 1]]
            if length == len(longest):
                after += behind
            if read is not None:
                yield from ((read, then, UNSEEN) for then in after)

    def excusing(self, quirks: frozenset[str]) -> AppendLog:
        return self

    def describe(self, state: Entries) -> str:
        return f"[{', '.join(map(str, state))}]"
