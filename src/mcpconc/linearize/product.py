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

from mcpconc.linearize.plan import plan
from mcpconc.linearize.search import against, excludes
from mcpconc.model.base import SNAPSHOT, Model, Op, Ordering, Partition, Reject, Ruled
from mcpconc.verdict import Verdict

__all__ = ["TOLD", "Product", "because", "components", "product", "products", "searchable"]

NONE: frozenset[str] = frozenset()

TOLD = "one of the objects explains its answers in no other order"
LARGEST = 2_000_000
"""Parts times operations: the states of so large a search are tens of megabytes."""
ASKED = 2_000
"""Steps to find out which of two operations came first, as one object sees it, …"""
ASKED_IN_ALL = 200_000
"""… and for all questions about a product."""


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
        for part, piece in _pieces(op):
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
        return all(self.parts[part].pure(piece) for part, piece in _pieces(op))

    def order(self, ops: Sequence[Op]) -> Iterator[tuple[int, int, str]]:
        """What each part tells alone: an order of the whole is one of each part.

        Beside what the part's model says, this is asked of the search: where an operation that
        joins parts overlaps another one, can it come first in this part, can it come last?
        """
        of_part = _of_part(ops)
        left = ASKED_IN_ALL
        for part, members in of_part.items():
            alone = Partition("", "", self.parts[part], tuple(op for _, op in members))
            if isinstance(alone.model, Ordering):
                for first, then, why in alone.model.order(alone.ops):
                    yield members[first][0], members[then][0], why
            joints = [k for k, (i, _) in enumerate(members) if len(_pieces(ops[i])) > 1]
            told, steps = _asked(alone, joints, left)
            left -= steps
            for first, then in told:
                yield members[first][0], members[then][0], TOLD

    def excusing(self, quirks: frozenset[str]) -> Product:
        return self

    def describe(self, state: tuple[Hashable, ...]) -> str:
        each = zip(self.kinds, self.parts, state, strict=True)
        return "; ".join(f"{kind} {part.describe(s)}" for kind, part, s in each)

    def met(self, state: tuple[Hashable, ...], op: Op) -> str:
        """`describe` of the part that rejects `op`; "" where none does."""
        for part, piece in _pieces(op):
            if isinstance(self.parts[part].step(state[part], piece), Reject):
                return self.parts[part].describe(state[part])
        return ""

    def rule(self, field: str) -> str:
        kind, _, rest = field.partition(".")
        part = self.parts[self.kinds.index(kind)] if kind in self.kinds else None
        return part.rule(rest) if isinstance(part, Ruled) else ""


def _pieces(op: Op) -> Sequence[tuple[int, Op]]:
    pieces: Any = op.input
    return tuple(pieces)


def _of_part(ops: Sequence[Op]) -> dict[int, list[tuple[int, Op]]]:
    """Part → its operations, each with its number in `ops`."""
    of_part: dict[int, list[tuple[int, Op]]] = {}
    for i, op in enumerate(ops):
        for part, piece in _pieces(op):
            seen = replace(piece, call=op.call, invoked=op.invoked, returned=op.returned)
            of_part.setdefault(part, []).append((i, seen))
    return of_part


def because(model: Product, ops: Sequence[Op], first: int, then: int) -> tuple[Op, Reject] | None:
    """What would be answered otherwise if number `then` came before number `first`, where `order`
    says `TOLD` of them: an operation that gets stuck, and why."""
    for part, members in _of_part(ops).items():
        numbers = [i for i, _ in members]
        if first not in numbers or then not in numbers:
            continue
        alone = Partition("", "", model.parts[part], tuple(op for _, op in members))
        found = against(plan(alone), numbers.index(then), numbers.index(first), ASKED)
        if found.verdict is Verdict.VIOLATION and found.stuck:
            call, why = found.stuck[0]
            stuck = next(op for op in alone.ops if op.call == call)
            return stuck, replace(why, field=f"{model.kinds[part]}.{why.field}")
    return None


def _asked(
    alone: Partition, joints: Sequence[int], budget: int
) -> tuple[list[tuple[int, int]], int]:
    """(first, then) for `joints` and what overlaps them, as the search of one part tells it; and
    the steps that took, about `budget` at most."""
    model, ops = alone.model, alone.ops
    ready = plan(alone)
    answered = [i for i, op in enumerate(ops) if op.answered and op.call != SNAPSHOT]
    told: list[tuple[int, int]] = []
    steps = 0
    for joint in joints:
        for other in answered:
            if steps >= budget:
                return told, steps
            if other == joint or not _overlap(ops[joint], ops[other]):
                continue
            if model.pure(ops[joint]) and model.pure(ops[other]):
                continue
            for first, then in ((joint, other), (other, joint)):
                certain, took = excludes(ready, then, first, ASKED)
                steps += took
                if certain:
                    told.append((first, then))
    return told, steps


def _overlap(a: Op, b: Op) -> bool:
    assert a.returned is not None
    assert b.returned is not None
    return a.invoked <= b.returned and b.invoked <= a.returned


def components(partitions: Sequence[Partition]) -> list[list[Partition]]:
    """The sets of two or more partitions that answered calls join.

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
    found: dict[int, list[Partition]] = {}
    for i, partition in enumerate(partitions):
        found.setdefault(lead(i), []).append(partition)
    return [members for members in found.values() if len(members) > 1]


def searchable(members: Sequence[Partition]) -> bool:
    """Whether a component is small enough to be searched: a state holds those of all parts."""
    return len(members) * sum(len(member.ops) for member in members) <= LARGEST


def products(partitions: Sequence[Partition]) -> list[Partition]:
    """The product of each component."""
    return [product(members) for members in components(partitions)]


def product(members: Sequence[Partition]) -> Partition:
    """Several partitions as one, with each answered call in one piece."""
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
