"""In what two runs differ: for people, and to learn which fields are volatile.

Ids are left out of account here, but for `first`: a field that holds another id in each run is
not volatile for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.lineup.observe import (
    GENERATED,
    MOMENT,
    OUTCOME,
    Bag,
    Id,
    Moment,
    Observation,
    Record,
    Term,
    Text,
)
from mcpconc.lineup.same import TIME, Volatile, leaves, same, shape

__all__ = ["NUMBER", "Difference", "changing", "first", "plain", "times"]

_EPOCH = (1_500_000_000, 2_500_000_000)
"""Seconds; from 2017 to 2049."""
ROUNDS = 8
"""Times that two runs are compared to learn from them: masking one field may show the next."""
NUMBER = "number"
"""The field of a difference that is how many there are."""
NEAR = 500
"""Items of two lists of which each is compared with each, after those that are equal."""
NOTHING = object()
"""Stands for a field that is not there."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where one run first differs from another. `call` is empty for what is left; `kind` is the
    tool or the kind of record and `field` the path in it."""

    call: str
    kind: str
    field: str
    expected: Any
    seen: Any


def times(records: Sequence[Record]) -> frozenset[str]:
    """Paths of fields that hold a point in time, and of the points in time within texts: they
    differ in every run."""
    nothing = Volatile()
    fields = [leaf for record in records for leaf in leaves(record, nothing)]
    return frozenset(path for path, value in fields if _is_time(value)) | {
        f"{path}.{TIME}" for path, value in fields if _has_time(value)
    }


def _has_time(value: Term) -> bool:
    return isinstance(value, Text) and any(isinstance(part, Moment) for part in value.parts)


def _is_time(value: Term) -> bool:
    if isinstance(value, str):
        return MOMENT.fullmatch(value) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return any(_EPOCH[0] * unit <= value <= _EPOCH[1] * unit for unit in (1, 10**3, 10**9))
    return False


def changing(a: Sequence[Record], b: Sequence[Record], volatile: Volatile) -> Volatile | None:
    """What must be volatile beside `volatile`, because `a` and `b` come from runs of the same
    calls in the same order; None where masking fields does not make them the same.

    Ids that are paired otherwise in one than in the other cannot be masked away, nor can it be
    whether a call was done or refused.
    """
    learned = volatile
    for _ in range(ROUNDS):
        if same(a, b, learned):
            return learned
        values: set[str] = set()
        orders: set[str] = set()
        for one, other in _paired(a, b, learned, values):
            _compare(one.term, other.term, one.kind, learned, values, orders)
        # One glitch must not hide for good whether calls of a tool are done or refused.
        steady = frozenset(path for path in values if path.endswith(f".{OUTCOME}"))
        more = learned | Volatile(frozenset(values) - steady, frozenset(orders))
        if more == learned:
            return None
        learned = more
    return None


def _paired(
    a: Sequence[Record], b: Sequence[Record], volatile: Volatile, values: set[str]
) -> Iterator[tuple[Record, Record]]:
    """Records that stand for each other. A kind of which one run has more is volatile."""
    for kind in sorted({r.kind for r in (*a, *b)} - volatile.values):
        ours = [r for r in a if r.kind == kind]
        theirs = [r for r in b if r.kind == kind]
        if Counter(r.key for r in ours) != Counter(r.key for r in theirs):
            if not any(r.key for r in (*ours, *theirs)):  # answers are never all volatile
                values.add(kind)
            continue
        for key in dict.fromkeys(r.key for r in ours):
            mine = [r.term for r in ours if r.key == key]
            yours = [r.term for r in theirs if r.key == key]
            for x, y in _matched(mine, yours, kind, volatile):
                yield Record(kind, key, x), Record(kind, key, y)


def _matched(
    a: Sequence[Term], b: Sequence[Term], path: str, volatile: Volatile
) -> list[tuple[Term, Term]]:
    """Equally many terms in pairs: what is equal but for ids, then what is nearest."""
    equal: dict[Hashable, list[int]] = {}
    for n, y in enumerate(b):
        equal.setdefault(shape(Record(path, "", y), None, volatile), []).append(n)
    found: list[int | None] = []
    for x in a:
        same_as = equal.get(shape(Record(path, "", x), None, volatile))
        found.append(same_as.pop(0) if same_as else None)
    left = sorted(n for rest in equal.values() for n in rest)
    for n, x in enumerate(a):
        if found[n] is None:
            nearest = min(left[:NEAR], key=lambda m: _distance(x, b[m], path, volatile))
            left.remove(nearest)
            found[n] = nearest
    return [(x, b[n]) for x, n in zip(a, found, strict=True) if n is not None]


def _distance(a: Term, b: Term, path: str, volatile: Volatile) -> int:
    """About how many differences there are; in time proportional to the size of the terms."""
    if path in volatile.values:
        return 0
    if isinstance(a, dict) and isinstance(b, dict):
        return sum(
            _distance(a.get(key, NOTHING), b.get(key, NOTHING), f"{path}.{key}", volatile)
            for key in {*a, *b}
        )
    if isinstance(a, tuple | Bag) and type(a) is type(b) and len(_of(a)) == len(_of(b)):
        inside = f"{path}[]"
        ours, theirs = (Counter(_blind(x, inside, volatile) for x in _of(t)) for t in (a, b))
        if isinstance(a, Bag) or path in volatile.orders or ours == theirs:
            return (ours - theirs).total()
        return _apart(list(zip(_of(a), _of(b), strict=True)), inside, volatile)
    return int(_blind(a, path, volatile) != _blind(b, path, volatile))


def _compare(
    a: Term, b: Term, path: str, volatile: Volatile, values: set[str], orders: set[str]
) -> int:
    """Adds the paths at which two terms differ; how many differences there are."""
    if path in volatile.values:
        return 0
    if isinstance(a, dict) and isinstance(b, dict):
        found = 0
        apart = {key for key in {*a, *b} if key not in a or key not in b}
        apart = {key for key in apart if f"{path}.{key}" not in volatile.values}
        if apart - {*a} and apart - {*b} and a.get(OUTCOME) == b.get(OUTCOME):
            # Each has names that the other lacks: they are made up anew in each run.
            values.add(path)
            return len(apart)
        for key in sorted({*a, *b}):
            if key in a and key in b:
                found += _compare(a[key], b[key], f"{path}.{key}", volatile, values, orders)
            elif key in apart:
                values.add(f"{path}.{key}")
                found += 1
        return found
    if isinstance(a, tuple | Bag) and type(a) is type(b):
        return _compare_lists(a, b, path, volatile, values, orders)
    if _blind(a, path, volatile) == _blind(b, path, volatile):
        return 0
    values.add(path)
    return 1


def _compare_lists(
    a: tuple[Term, ...] | Bag,
    b: tuple[Term, ...] | Bag,
    path: str,
    volatile: Volatile,
    values: set[str],
    orders: set[str],
) -> int:
    ours, theirs = _of(a), _of(b)
    if len(ours) != len(theirs):
        values.add(path)
        return 1
    inside = f"{path}[]"
    straight = list(zip(ours, theirs, strict=True))
    if isinstance(a, Bag) or path in volatile.orders:
        pairs, found = _matched(ours, theirs, inside, volatile), 0
    else:
        crossed = _matched(ours, theirs, inside, volatile)
        moved = _apart(crossed, inside, volatile) < _apart(straight, inside, volatile)
        pairs, found = (crossed, 1) if moved else (straight, 0)
        orders.update({path} if moved else ())
    return found + sum(_compare(x, y, inside, volatile, values, orders) for x, y in pairs)


def _apart(pairs: Sequence[tuple[Term, Term]], path: str, volatile: Volatile) -> int:
    return sum(_distance(x, y, path, volatile) for x, y in pairs)


def _blind(value: Term, path: str, volatile: Volatile) -> Hashable:
    """A field with all ids the same."""
    if isinstance(value, Id | Text | dict | tuple | Bag):
        return shape(Record(path, "", value), None, volatile)
    return (type(value).__name__, value)


def first(
    seen: Observation, alone: Observation, order: Sequence[str], volatile: Volatile
) -> Difference | None:
    """Where a run stops to be explained by a sequential one: at the first answer, in this
    order, that is not the same, else in what is left. None where all is the same.

    The answers before it are the same under one bijection of ids.
    """
    ours: list[Record] = []
    theirs: list[Record] = []
    for call in order:
        if call not in seen.answers:
            continue
        ours.append(seen.answers[call])
        if call not in alone.answers:
            return Difference(call, ours[-1].kind, "", "no answer", plain(ours[-1].term))
        theirs.append(alone.answers[call])
        if not same(ours, theirs, volatile):
            return _in_answer(call, theirs, ours, volatile)
    if same([*ours, *seen.left], [*theirs, *alone.left], volatile):
        return None
    return _in_state(alone.left, seen.left, volatile) or _in_ids(
        [*theirs, *alone.left], [*ours, *seen.left], volatile
    )


def _in_answer(
    call: str, expected: Sequence[Record], seen: Sequence[Record], volatile: Volatile
) -> Difference:
    one, other = expected[-1], seen[-1]
    found = list(_differing(one.term, other.term, one.kind, volatile))
    # Whether it was done or refused says more than in which words.
    for path, a, b in sorted(found, key=lambda item: not item[0].endswith(OUTCOME)):
        field = path.removeprefix(f"{other.kind}.")
        return Difference(call, other.kind, field, plain(a), plain(b))
    # Nothing but ids differs: the first one that stands for another than before.
    names: dict[str, str] = {}
    known: set[str] = set()
    for mine, yours in zip(expected, seen, strict=True):
        ids = zip(_id_leaves(mine, volatile), _id_leaves(yours, volatile), strict=False)
        for (path, a), (_, b) in ids:
            if names.setdefault(a, b) != b or (a not in known and b in known and names[a] != b):
                field = path.removeprefix(f"{yours.kind}.")
                return Difference(call, yours.kind, field, "the id of one object", "another's")
            known.add(a)
    return Difference(call, other.kind, "ids", "an id for each object", "the same id for two")


def _id_leaves(record: Record, volatile: Volatile) -> Iterator[tuple[str, str]]:
    for path, value in leaves(record, volatile):
        for part in value.parts if isinstance(value, Text) else (value,):
            if isinstance(part, Id):
                yield path, part.value


def _in_ids(expected: Sequence[Record], seen: Sequence[Record], volatile: Volatile) -> Difference:
    """What differs in nothing but which id stands where: the first kind of record that cannot be
    paired together with those before it."""
    kinds = list(dict.fromkeys(record.kind for record in seen if not record.key))
    wrong = next(
        kind
        for n, kind in enumerate(kinds, start=1)
        if not same(
            [r for r in expected if r.key or r.kind in kinds[:n]],
            [r for r in seen if r.key or r.kind in kinds[:n]],
            volatile,
        )
    )
    told = [r for r in seen if r.kind == wrong]
    return Difference("", wrong, "ids", "the ids of other objects", _brief(told[-1]))


def _in_state(
    expected: Sequence[Record], seen: Sequence[Record], volatile: Volatile
) -> Difference | None:
    for kind in sorted({r.kind for r in (*expected, *seen)} - volatile.values):
        ours = [r for r in expected if r.kind == kind]
        theirs = [r for r in seen if r.kind == kind]
        a = Counter(shape(r, None, volatile) for r in ours)
        b = Counter(shape(r, None, volatile) for r in theirs)
        if a == b:
            continue
        if len(ours) != len(theirs):
            return Difference(
                "", kind, NUMBER, _told(ours, theirs, volatile), _told(theirs, ours, volatile)
            )
        missing = [r for r in ours if shape(r, None, volatile) in a - b]
        surplus = [r for r in theirs if shape(r, None, volatile) in b - a]
        one, other = min(
            ((m, s) for m in missing for s in surplus),
            key=lambda pair: _distance(pair[0].term, pair[1].term, kind, volatile),
        )
        for path, x, y in _differing(one.term, other.term, kind, volatile):
            field = path.removeprefix(f"{kind}.").removeprefix("added.").removeprefix("removed.")
            return Difference("", kind, field, plain(x), plain(y))
    return None


def _told(ours: Sequence[Record], others: Sequence[Record], volatile: Volatile) -> str:
    """How many records, and which the others do not have."""
    more = Counter(shape(r, None, volatile) for r in ours)
    more.subtract(shape(r, None, volatile) for r in others)
    extra = [r for r in ours if more[shape(r, None, volatile)] > 0]
    change = "changed" if any("removed" in r.term for r in ours) else "new"
    return f"{len(ours)} {change}" + (f", among them {_brief(extra[0])}" if extra else "")


def _brief(record: Record) -> str:
    """The texts of a record, cut short."""
    texts = [
        f"{path.rpartition('.')[2]} {value!r}"
        for path, value in leaves(record, Volatile())
        if isinstance(value, str) and value
        if not _is_time(value) and not GENERATED.fullmatch(value)
    ]
    return ", ".join(texts[:3]) or "one without text"


def _differing(a: Term, b: Term, path: str, volatile: Volatile) -> Iterator[tuple[str, Term, Term]]:
    """Path and both values of each difference; lists of different lengths as they are."""
    if path in volatile.values:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from _differing(
                a.get(key, NOTHING), b.get(key, NOTHING), f"{path}.{key}", volatile
            )
    elif isinstance(a, tuple | Bag) and type(a) is type(b) and len(_of(a)) == len(_of(b)):
        straight = list(zip(_of(a), _of(b), strict=True))
        unordered = isinstance(a, Bag) or path in volatile.orders
        pairs = _matched(_of(a), _of(b), f"{path}[]", volatile) if unordered else straight
        for x, y in pairs:
            yield from _differing(x, y, f"{path}[]", volatile)
    elif _blind(a, path, volatile) != _blind(b, path, volatile):
        yield path, a, b


def _of(term: tuple[Term, ...] | Bag) -> tuple[Term, ...]:
    return term.items if isinstance(term, Bag) else term


def plain(term: Term) -> Any:
    """A term as JSON data again."""
    if term is NOTHING:
        return "nothing"
    if isinstance(term, Id | Moment):
        return term.value
    if isinstance(term, Mapping):
        return {key: plain(value) for key, value in term.items()}
    if isinstance(term, tuple | Bag):
        return [plain(item) for item in (term.items if isinstance(term, Bag) else term)]
    if isinstance(term, Text):
        return "".join(part if isinstance(part, str) else part.value for part in term.parts)
    return term
