"""Several partitions as one object: what each object explains alone, do they explain together?

P-compositionality (Horn & Kroening, FORTE 2015) lets objects be judged apart only where every
operation touches one of them. A call that reads or writes several, such as a list, may be
explained at one moment by the one and at another moment by the other. Where answered calls
join partitions, the component they make is searched once more as a product.

A call that nobody answered is left in pieces, one for each object, of which each may have taken
effect or not: whether such a call was torn is another oracle's business.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.model.base import SNAPSHOT, Model, Op, Ordering, Partition, Reject

__all__ = ["Product", "products"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Product:
    """The states of `parts` side by side. An op's input is ((part, that part's op), …), which
    are stepped one after another; a field is prefixed by the kind of object, ``goal.tasks``.
    """

    parts: tuple[Model, ...]
    kinds: tuple[str, ...]
    name: str = "product"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> tuple[Hashable, ...]:
        return tuple(part.initial() for part in self.parts)

    def step(self, state: tuple[Hashable, ...], op: Op) -> Sequence[tuple[Hashable, ...]] | Reject:
        states = [state]
        pieces: Any = op.input
        for part, piece in pieces:
            after = []
            why = None
            for s in states:
                result = self.parts[part].step(s[part], piece)
                if isinstance(result, Reject):
                    why = why or result
                else:
                    after += [(*s[:part], new, *s[part + 1 :]) for new in result]
            if why is not None and not after:
                return replace(why, field=f"{self.kinds[part]}.{why.field}")
            states = after
        return states

    def pure(self, op: Op) -> bool:
        pieces: Any = op.input
        return all(self.parts[part].pure(piece) for part, piece in pieces)

    def order(self, ops: Sequence[Op]) -> Iterator[tuple[int, int, str]]:
        """What each part tells alone: an order of the whole is one of each part."""
        of_part: dict[int, list[tuple[int, Op]]] = {}
        for i, op in enumerate(ops):
            pieces: Any = op.input
            for part, piece in pieces:
                seen = replace(piece, invoked=op.invoked, returned=op.returned)
                of_part.setdefault(part, []).append((i, seen))
        for part, seen_by in of_part.items():
            model = self.parts[part]
            if isinstance(model, Ordering):
                for first, then, why in model.order([op for _, op in seen_by]):
                    yield seen_by[first][0], seen_by[then][0], why

    def excusing(self, quirks: frozenset[str]) -> Product:
        return self

    def describe(self, state: tuple[Hashable, ...]) -> str:
        each = zip(self.kinds, self.parts, state, strict=True)
        return "; ".join(f"{kind} {part.describe(s)}" for kind, part, s in each)


def products(partitions: Sequence[Partition]) -> list[Partition]:
    """One product for each set of two or more partitions that answered calls join.

    The read-back joins nothing: it comes after every answered call, so it sees each object at
    the same moment anyway.
    """
    leader = list(range(len(partitions)))

    def lead(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[str, int] = {}
    for i, partition in enumerate(partitions):
        for op in partition.ops:
            if op.answered and op.call != SNAPSHOT:
                leader[lead(i)] = lead(first.setdefault(op.call, i))
    components: dict[int, list[Partition]] = {}
    for i, partition in enumerate(partitions):
        components.setdefault(lead(i), []).append(partition)
    return [_product(members) for members in components.values() if len(members) > 1]


def _product(members: Sequence[Partition]) -> Partition:
    whole: dict[tuple[Any, ...], list[tuple[int, Op]]] = {}
    for part, member in enumerate(members):
        for op in member.ops:
            piece_of = part if not op.answered else -1
            whole.setdefault((op.call, op.invoked, op.returned, piece_of), []).append((part, op))
    ops = []
    for (call, invoked, returned, _), pieces in whole.items():
        head = pieces[0][1]
        # What `step` must not look at is made equal, so that equal pieces compare equal.
        end = None if returned is None else 0
        bare = tuple((p, replace(op, call="", invoked=0, returned=end)) for p, op in pieces)
        ops.append(
            Op(call, head.agent, head.name, bare, True if end == 0 else None, invoked, returned)
        )
    ops.sort(key=lambda op: op.invoked)
    kinds = tuple(member.kind for member in members)
    return Partition(
        kind=" + ".join(sorted(set(kinds))),
        key=", ".join(f"{member.kind} {member.key}" for member in members),
        model=Product(tuple(member.model for member in members), kinds),
        ops=tuple(ops),
    )
