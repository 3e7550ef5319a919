"""What values that were written once tell about the order of operations.

Where a value has a single writer, whoever saw the value came after that writer; whoever saw a
later state without it came before. Models turn this into pairs for `Ordering.order`; what
registers and stores of texts have in common is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mcpconc.model.base import Op

__all__ = [
    "APART",
    "NEIGHBOURS",
    "SHOWN",
    "UNSEEN",
    "Epoch",
    "Pair",
    "apart",
    "chain",
    "latest",
    "overlap",
]

Pair = tuple[int, int, str]
"""First, then, why; by number in the operations given."""

SHOWN = "their effects are seen in this order"
UNSEEN = "the first does not see the effect of the second"
APART = "what the first saw or wrote was gone for good when the second wrote"

NEIGHBOURS = 8
"""Each operation or epoch is compared with so many of those before it: a bound on the pairs."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Operations that lie between one overwrite and the next: the state of this epoch is such
    as no other epoch has. `opens` is the overwrite, None where the epoch is the initial state's
    (which no later state equals). `members` are what is known to lie inside, `opens` included."""

    opens: int | None
    members: Sequence[int]


def overlap(first: Op, then: Op) -> bool:
    """Whether real time does not say already that `first` came before `then`."""
    return first.returned is None or first.returned >= then.invoked


def chain(numbers: Iterable[int], why: str) -> Iterator[Pair]:
    return ((first, then, why) for first, then in pairwise(numbers))


def latest(ops: Sequence[Op], numbers: Iterable[int]) -> int | None:
    """Of reads of one state, the one that was invoked last. To put it before a write is to put
    all of them before it: the others can be placed by then, and fit where it fits."""
    return max(numbers, key=lambda i: ops[i].invoked, default=None)


def apart(ops: Sequence[Op], epochs: Sequence[Epoch]) -> Iterator[Pair]:
    """Epochs do not mix: if anything of one came before anything of another in real time, then
    all of it came before the other's overwrite (the zones of Gibbons & Korach, SIAM J. Comput.
    1997, for registers)."""
    ranked = []
    for epoch in epochs:
        ends = [end for i in epoch.members if (end := ops[i].returned) is not None]
        if ends:
            # Nothing comes before the initial state.
            first = min(ends) if epoch.opens is not None else -1
            ranked.append((first, max(ops[i].invoked for i in epoch.members), epoch))
    ranked.sort(key=lambda each: each[0])
    for place, (b_first, b_last, b) in enumerate(ranked):
        for a_first, a_last, a in ranked[max(0, place - NEIGHBOURS) : place]:
            if a_first < b_last and b.opens is not None:
                yield from _before(ops, a, b.opens)
            if b_first < a_last and a.opens is not None:
                yield from _before(ops, b, a.opens)


def _before(ops: Sequence[Op], epoch: Epoch, then: int) -> Iterator[Pair]:
    return ((i, then, APART) for i in epoch.members if overlap(ops[i], ops[then]))
