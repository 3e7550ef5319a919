"""Whether two runs showed the same, up to a bijection of the ids that they generated.

Graph isomorphism in small: ids are the nodes, and the records in which they stand tell them
apart. Colours are refined (Weisfeiler and Leman, 1968) until they are stable; where several ids
still look alike, one of them is paired with each candidate in turn, so that the answer is exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.lineup.observe import Bag, Id, Record, Term, Text

__all__ = ["ANY", "Volatile", "leaves", "same", "shape"]

ANY = "(any)"
"""What stands for every value of a volatile field."""

Path = str
"""``goals_list.goals[].status``: the kind of the record, then names; ``[]`` for an item."""


@dataclass(frozen=True, slots=True)
class Volatile:
    """What differs between runs that did the same: `values` are paths of fields whose value says
    nothing, `orders` paths of lists whose order does not. A volatile record kind stands for
    all that it holds, and for how many there are.

    `steady` are paths that are never masked, whatever was learned.
    """

    values: frozenset[Path] = field(default_factory=frozenset)
    orders: frozenset[Path] = field(default_factory=frozenset)
    steady: frozenset[Path] = field(default_factory=frozenset)

    def __or__(self, other: Volatile) -> Volatile:
        steady = self.steady | other.steady
        return Volatile(
            (self.values | other.values) - steady, (self.orders | other.orders) - steady, steady
        )


def same(a: Sequence[Record], b: Sequence[Record], volatile: Volatile) -> bool:
    """Whether some bijection of the generated ids makes the records of `a` those of `b`."""
    left = [r for r in a if r.kind not in volatile.values]
    right = [r for r in b if r.kind not in volatile.values]
    return _isomorphic(left, right, {}, {}, volatile)


def _isomorphic(
    a: Sequence[Record],
    b: Sequence[Record],
    fixed_a: Mapping[str, Hashable],
    fixed_b: Mapping[str, Hashable],
    volatile: Volatile,
) -> bool:
    colours_a, colours_b = _refined(a, fixed_a, volatile), _refined(b, fixed_b, volatile)
    if Counter(colours_a.values()) != Counter(colours_b.values()):
        return False
    if _shapes(a, colours_a, volatile) != _shapes(b, colours_b, volatile):
        return False
    alike = Counter(colours_a.values())
    several = sorted((n, repr(colour)) for colour, n in alike.items() if n > 1)
    if not several:
        return True  # every id has a colour of its own: the colours are the bijection
    _, smallest = several[0]
    one = min(i for i, colour in colours_a.items() if repr(colour) == smallest)
    mark = ("paired", len(fixed_a))
    return any(
        _isomorphic(a, b, {**fixed_a, one: mark}, {**fixed_b, other: mark}, volatile)
        for other, colour in colours_b.items()
        if repr(colour) == smallest
    )


def _refined(
    records: Sequence[Record], fixed: Mapping[str, Hashable], volatile: Volatile
) -> dict[str, int]:
    """Id → colour: equal where nothing tells two ids apart. Colours depend on the records and
    not on the ids, so that those of two runs can be compared."""
    colours: dict[str, int] = {
        name: hash(("fixed", fixed.get(name)))
        for record in records
        for _, value in leaves(record, volatile)
        for name in _ids(value)
    }
    classes = len(set(colours.values()))
    while True:
        seen: dict[str, list[int]] = defaultdict(list)
        for record in records:
            whole = hash((record.kind, record.key, shape(record, colours, volatile)))
            for path, value in leaves(record, volatile):
                for place, name in enumerate(_ids(value)):
                    seen[name].append(hash((whole, path, place, _coloured(value, colours))))
        colours = {
            name: hash((colour, tuple(sorted(seen[name])))) for name, colour in colours.items()
        }
        if len(set(colours.values())) == classes:
            return colours
        classes = len(set(colours.values()))


def _shapes(
    records: Sequence[Record], colours: Mapping[str, Hashable], volatile: Volatile
) -> Counter[Any]:
    return Counter((r.kind, r.key, shape(r, colours, volatile)) for r in records)


def shape(record: Record, colours: Mapping[str, Hashable] | None, volatile: Volatile) -> Hashable:
    """A record with colours in the place of ids (one colour for all where `colours` is None),
    and without what is volatile."""
    return _shape(record.term, record.kind, colours, volatile)


def _shape(
    term: Term, path: Path, colours: Mapping[str, Hashable] | None, volatile: Volatile
) -> Hashable:
    if path in volatile.values:
        return ANY
    if isinstance(term, dict):
        return tuple(
            (key, _shape(term[key], f"{path}.{key}", colours, volatile))
            for key in sorted(term)
            if f"{path}.{key}" not in volatile.values
        )
    if isinstance(term, tuple | Bag):
        items = term.items if isinstance(term, Bag) else term
        shapes = [_shape(item, f"{path}[]", colours, volatile) for item in items]
        if isinstance(term, Bag) or path in volatile.orders:
            shapes.sort(key=repr)
        return ("[]", *shapes)
    # 1, 1.0 and True are different answers.
    return (type(term).__name__, _coloured(term, colours))


def _coloured(value: Term, colours: Mapping[str, Hashable] | None) -> Hashable:
    if isinstance(value, Id):
        return ("id", colours[value.value] if colours is not None else None)
    if isinstance(value, Text):
        return tuple(_coloured(part, colours) for part in value.parts)
    return value  # type: ignore[no-any-return]


def _ids(value: Term) -> Iterator[str]:
    if isinstance(value, Id):
        yield value.value
    elif isinstance(value, Text):
        for part in value.parts:
            yield from _ids(part)


def leaves(record: Record, volatile: Volatile) -> Iterator[tuple[Path, Term]]:
    """Path and value of every field that is not volatile."""
    yield from _leaves(record.term, record.kind, volatile)


def _leaves(term: Term, path: Path, volatile: Volatile) -> Iterator[tuple[Path, Term]]:
    if path in volatile.values:
        return
    if isinstance(term, dict):
        for key in sorted(term):
            yield from _leaves(term[key], f"{path}.{key}", volatile)
    elif isinstance(term, tuple | Bag):
        for item in term.items if isinstance(term, Bag) else term:
            yield from _leaves(item, f"{path}[]", volatile)
    else:
        yield path, term
