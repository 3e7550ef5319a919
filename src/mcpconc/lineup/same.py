"""Whether two runs showed the same, up to a bijection of the ids that they generated.

Graph isomorphism in small: ids are the nodes, and the records in which they stand tell them
apart. Colours are refined (Weisfeiler and Leman, 1968) until they are stable; where ids that look
alike have to do with each other, one of them is paired with each candidate in turn, so that the
answer is exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.lineup.observe import Bag, Id, Moment, Record, Term, Text

__all__ = ["ANY", "TIME", "Volatile", "leaves", "same", "shape"]

ANY = "(any)"
"""What stands for every value of a volatile field."""

TIME = "(time)"
"""In a path: the points in time within a text."""

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
    fixed_a: Mapping[str, int],
    fixed_b: Mapping[str, int],
    volatile: Volatile,
) -> bool:
    numbers: dict[Hashable, int] = {}
    colours_a = _refined(a, fixed_a, volatile, numbers)
    colours_b = _refined(b, fixed_b, volatile, numbers)
    if Counter(colours_a.values()) != Counter(colours_b.values()):
        return False
    if _shapes(a, colours_a, volatile) != _shapes(b, colours_b, volatile):
        return False
    alike = Counter(colours_a.values())
    unsettled = _entangled(a, colours_a, volatile) | _entangled(b, colours_b, volatile)
    if not unsettled:
        return True
    smallest = min(unsettled, key=lambda colour: (alike[colour], colour))
    one = min(i for i, colour in colours_a.items() if colour == smallest)
    mark = len(fixed_a)
    return any(
        _isomorphic(a, b, {**fixed_a, one: mark}, {**fixed_b, other: mark}, volatile)
        for other, colour in colours_b.items()
        if colour == smallest
    )


def _refined(
    records: Sequence[Record],
    fixed: Mapping[str, int],
    volatile: Volatile,
    numbers: dict[Hashable, int],
) -> dict[str, int]:
    """Id → colour: equal where nothing tells two ids apart. Colours depend on the records and
    not on the ids, so that those of two runs can be compared: both with the same `numbers`, by
    what a colour stands for."""

    def number(of: Hashable) -> int:
        return numbers.setdefault(of, len(numbers))

    colours: dict[str, int] = {
        name: number(("fixed", fixed.get(name)))
        for record in records
        for _, value in leaves(record, volatile)
        for name in _ids(value)
    }
    classes = len(set(colours.values()))
    while True:
        seen: dict[str, list[int]] = defaultdict(list)
        for record in records:
            whole = number((record.kind, record.key, shape(record, colours, volatile)))
            for path, value in leaves(record, volatile):
                for place, name in enumerate(_ids(value)):
                    seen[name].append(number((whole, path, place, colours[name])))
        colours = {
            name: number((colour, tuple(sorted(seen[name])))) for name, colour in colours.items()
        }
        if len(set(colours.values())) == classes:
            return colours
        classes = len(set(colours.values()))


def _entangled(
    records: Sequence[Record], colours: Mapping[str, int], volatile: Volatile
) -> set[int]:
    """Colours of ids that are connected, through records and others that are not unique, with
    another of the same colour.

    Ids that are connected with none such are interchangeable with those of their colour,
    together with all that they are connected with: the records say by colour which one of them
    stands where.
    """
    alike = Counter(colours.values())
    above = {name: name for name, colour in colours.items() if alike[colour] > 1}

    def top(name: str) -> str:
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for record in records:
        names = [n for _, value in leaves(record, volatile) for n in _ids(value) if n in above]
        for name in names[1:]:
            above[top(name)] = top(names[0])
    together = Counter((top(name), colours[name]) for name in above)
    return {colour for (_, colour), n in together.items() if n > 1}


def _shapes(
    records: Sequence[Record], colours: Mapping[str, int], volatile: Volatile
) -> Counter[Any]:
    return Counter((r.kind, r.key, shape(r, colours, volatile)) for r in records)


def shape(record: Record, colours: Mapping[str, int] | None, volatile: Volatile) -> Hashable:
    """A record with colours in the place of ids (one colour for all where `colours` is None),
    and without what is volatile."""
    return _shape(record.term, record.kind, colours, volatile)


def _shape(
    term: Term, path: Path, colours: Mapping[str, int] | None, volatile: Volatile
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
    if isinstance(term, Text) and f"{path}.{TIME}" in volatile.values:
        term = Text(tuple(ANY if isinstance(part, Moment) else part for part in term.parts))
    # 1, 1.0 and True are different answers.
    return (type(term).__name__, _coloured(term, colours))


def _coloured(value: Term, colours: Mapping[str, int] | None) -> Hashable:
    if isinstance(value, Id):
        return ("id", colours[value.value] if colours is not None else None)
    if isinstance(value, Text):
        return tuple(_coloured(part, colours) for part in value.parts)
    if isinstance(value, Moment):
        return ("time", value.value)
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
