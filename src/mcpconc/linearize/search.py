"""Is there an order of these operations that explains every answer?

Wing & Gong's search (JPDC 1993) with Lowe's memo (CCPE 2017), over one partition (Horn &
Kroening, FORTE 2015) at a time. A depth-first walk places one operation after another; an
operation may come next if no unplaced one returned before it was invoked (closed intervals).

Answered operations are numbered by return, so what is placed is always a full run of the first
`low` of them and a few more: a configuration is (low, `rel`: bit i set where number low + i is
placed, `spent`: bits of the never-answered operations that took effect, state). `low` returns
first of all that are left, hence the candidates are those invoked no later than it returned,
and the window of bits is only as wide as operations overlap, however long the history. (An
answered operation that is open for very long is kept among the never-answered; see `plan`.)

The prunings. Each keeps every verdict, and all but the last keep the number of answered
operations in the longest order. `order` below stands for any order that continues a
configuration.

* Memo. A configuration that was seen has the same continuations as the first time. Where no
  operation is open this is all that a quiescent cut can give: of what came before, nothing but
  the state (and what is spent) goes on.
* Spending less is never worse. A never-answered operation may also never take effect, so each
  order from (low, rel, spent, s) exists as well from (low, rel, fewer spent, s): a configuration
  is dropped if one with a subset of its `spent` was seen (and the same answered ones in it). For
  the same reason a never-answered operation is not placed where it changes nothing, nor ever if
  it is pure.
* Greed. An answered pure operation that may come next and fits is placed at once, alone: in any
  order it can be moved to the front (or put there, if the order lacks it), because it changes no
  state here nor, being pure in *every* state, at the place where it is missing now.
* Twins. Of never-answered operations with equal name, input and agent only the earliest invoked
  one left may be placed: in an order that uses a later one, the earlier can stand in its place,
  since it was invoked sooner, never returns either, and `step` cannot tell them apart. If the
  order uses both, they change places.
* Transitions are computed once per state and kind of operation; see `Model.step`, which by
  contract looks at name, agent, input, output and `answered` alone.
* Needs. Some models can tell from unique values what comes before what in every *complete* order
  (`Ordering`); an operation is not placed before those that it needs. No complete order is lost,
  and the prunings above argue with orders of the model alone: what they put in the place of a
  complete order is complete, so it has what it needs too. Orders that are not complete may be
  lost: where this search finds none, the verdict stands, and a second one without needs looks
  for the longest order.

Models may branch: each successor is a configuration of its own, so the prunings above speak of
single states, and an order is found if any choice of successors gives one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.linearize.plan import Plan, plan
from mcpconc.model.base import Partition, Reject
from mcpconc.verdict import Verdict

__all__ = [
    "BUDGET",
    "SLICE",
    "Linearization",
    "against",
    "check",
    "check_all",
    "decide",
    "excludes",
]

BUDGET = 1_000_000
"""Steps per partition: about a second of CPU, apart from what the model's own `step` costs."""
SLICE = 2_000
DEEPEST = 32
"""How many of the longest orders are looked at to choose the one that explains best."""

Path = tuple[int, Any] | None
"""Operations placed, last one first: (index, path before it)."""
Prefix = tuple[int, int, int, int, Path]
"""low, rel, spent, state, path."""
Frame = tuple[int, int, int, int, int, int, Path, int, int]
"""low, rel, spent, free (the late that are not spent and whose elder twins are), state, answered
operations placed, path, candidates not tried yet: answered (-1: not entered yet) and late."""
Needs = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Linearization:
    """What the search found.

    `order` holds the calls of a linearization, or of the longest prefix that can be explained,
    counted in answered calls; `state` is the state after it. `stuck` is each answered call that
    could come next there and why the state refuses it, the one to report first. `steps` is how
    often an operation was tried; `states` how many different states that gave.
    """

    verdict: Verdict
    order: tuple[str, ...]
    state: Any
    stuck: tuple[tuple[str, Reject], ...]
    steps: int
    states: int


def never() -> bool:
    return False


def check(partition: Partition, budget: int = BUDGET, *, brief: bool = False) -> Linearization:
    """Decide one partition; `unknown` after `budget` steps. `brief` as in `decide`.

    :raises ValueError: if an operation returns before it is invoked.
    """
    return next(answer for _, answer in decide([partition], budget, budget, brief=brief))


def check_all(
    partitions: Sequence[Partition], budget_each: int = BUDGET, slice: int = SLICE
) -> list[Linearization]:
    """Decide every partition, each within `budget_each` steps; answers in the given order.

    :raises ValueError: if an operation returns before it is invoked.
    """
    answers = dict(decide(partitions, budget_each, slice))
    return [answers[number] for number in range(len(partitions))]


def decide(
    partitions: Sequence[Partition],
    budget_each: int = BUDGET,
    slice: int = SLICE,
    *,
    brief: bool = False,
    expired: Callable[[], bool] = never,
) -> Iterator[tuple[int, Linearization]]:
    """(number, answer) of each partition as it is decided, advancing all by `slice` steps in
    turn: whoever needs one violation only may stop there, however hopeless the others are.

    With `brief`, a violation is answered as soon as it is certain, though a longer order than
    its `order` might be explained. `expired` is asked after each slice; once it says yes,
    everything undecided is `unknown`.

    :raises ValueError: if an operation returns before it is invoked.
    """
    # Plans are made as they are needed, so that a violation in the first partition does not
    # wait for the reading of the last.
    runs = {i: _decide(p, budget_each, slice, brief, expired) for i, p in enumerate(partitions)}
    while runs:
        for number, run in list(runs.items()):
            try:
                next(run)
            except StopIteration as end:
                del runs[number]
                yield number, end.value


def excludes(ready: Plan, first: int, then: int, budget: int) -> tuple[bool, int]:
    """Whether it is certain, within `budget` steps, that no complete order places number `first`
    of the partition's operations before number `then`; and the steps that took. Both must be
    answered: prunings that leave out a never-answered one, or put its twin in its place, keep
    the order of the others.
    """
    found = against(ready, first, then, budget)
    return found.verdict is Verdict.VIOLATION, found.steps


def against(ready: Plan, first: int, then: int, budget: int) -> Linearization:
    """The search among orders that place number `first` before number `then`; see `excludes`."""
    then = ready.place[then]
    needs = {**ready.needs, then: (*ready.needs.get(then, ()), ready.place[first])}
    walk = _search(ready, needs, budget, budget, never)
    try:
        while True:
            next(walk)
    except StopIteration as end:
        found: Linearization = end.value
        return found


def _decide(
    partition: Partition, budget: int, slice: int, brief: bool, expired: Callable[[], bool]
) -> Generator[None, None, Linearization]:
    """The search with what operations need, then for the longest order without."""
    ready = plan(partition)
    found = yield from _search(ready, ready.needs, budget, slice, expired)
    if found.verdict is not Verdict.VIOLATION or not ready.needs or brief:
        return found
    free = yield from _search(ready, {}, max(budget - found.steps, 0), slice, expired)
    steps = found.steps + free.steps
    if free.verdict is Verdict.UNKNOWN:
        left = {op.call for op in partition.ops if op.answered}
        free = max(free, found, key=lambda each: len(left.intersection(each.order)))
        return replace(free, verdict=Verdict.VIOLATION, steps=steps)
    # An order is its own proof: were a model wrong about what is needed, this would still hold.
    return replace(free, steps=steps)


def _search(
    ready: Plan, needs: Needs, budget: int, slice: int, expired: Callable[[], bool]
) -> Generator[None, None, Linearization]:
    """The walk. Yields every `slice` steps; gives up after `budget` steps."""
    model, ops, n, moves = ready.partition.model, ready.ops, ready.answered, ready.moves
    easy, hard, reach, younger = ready.easy, ready.hard, ready.reach, ready.younger
    far, reads, gates = ready.far, ready.reads, ready.gates
    states, numbers = ready.states, ready.numbers
    memo: dict[tuple[int, int, int], tuple[int, ...]] = {}
    longest: list[Prefix] = []
    most = -1
    steps = 0
    pause = min(slice, budget)

    def move(i: int, state: int) -> tuple[int, ...]:
        """The successors of `state` by operation `i`, none where it is refused."""
        result = model.step(states[state], ops[i])
        new = []
        for successor in () if isinstance(result, Reject) else result:
            number = numbers.setdefault(successor, len(states))
            if number == len(states):
                states.append(successor)
            new.append(number)
        moves[i][state] = answer = tuple(new)
        return answer

    def end(verdict: Verdict, found: Sequence[Prefix]) -> Linearization:
        order, state, stuck = _best(ready, found)
        return Linearization(verdict, order, state, stuck, steps, len(states))

    stack: list[Frame] = [(0, 0, 0, ready.free, 0, 0, None, -1, 0)]
    while stack:
        low, rel, spent, free, s, placed, path, tries, gambles = stack.pop()
        while True:
            if steps >= pause:
                if steps >= budget or expired():
                    return end(Verdict.UNKNOWN, longest)
                yield
                pause = min(steps + slice, budget)
            if tries < 0:
                # A new configuration. What is placed without a gap goes into `low`.
                while rel & 1 or (gates and gates.get(low, 0) & spent):
                    full = (~rel & (rel + 1)).bit_length() - 1 or 1
                    rel >>= full
                    low += full
                if low == n:
                    return end(Verdict.OK, [(low, rel, spent, s, path)])
                # Greed first, so that the memo holds few of them.
                todo = easy[low] & ~rel
                while todo:
                    bit = todo & -todo
                    todo ^= bit
                    i = low + bit.bit_length() - 1
                    steps += 1
                    if needs and i in needs and _lacks(needs[i], n, low, rel, spent):
                        continue
                    new = moves[i].get(s)
                    if move(i, s) if new is None else new:
                        rel |= bit
                        path = (i, path)
                        placed += 1
                if reads:
                    todo = reads & ~spent & ((1 << reach[low]) - 1)
                    while todo:
                        bit = todo & -todo
                        todo ^= bit
                        i = n + bit.bit_length() - 1
                        steps += 1
                        if needs and i in needs and _lacks(needs[i], n, low, rel, spent):
                            continue
                        new = moves[i].get(s)
                        if move(i, s) if new is None else new:
                            spent |= bit
                            free ^= bit
                            path = (i, path)
                            placed += 1
                if rel & 1 or (gates and gates.get(low, 0) & spent):
                    continue
                seen = memo.get((low, rel, s))
                if seen is None:
                    memo[low, rel, s] = (spent,)
                else:
                    steps += len(seen) - 1
                    if any(o & spent == o and not (o ^ spent) & far for o in seen):
                        break
                    memo[low, rel, s] = (*seen, spent)
                # So that a budget in steps is one of memory too.
                steps += spent.bit_length() >> 9
                if placed > most:
                    most = placed
                    longest = [(low, rel, spent, s, path)]
                elif placed == most and len(longest) < DEEPEST:
                    longest.append((low, rel, spent, s, path))
                tries = hard[low] & ~rel
                gambles = free & ~reads & ((1 << reach[low]) - 1) if free else 0
            if tries:
                bit = tries & -tries
                tries ^= bit
                i = low + bit.bit_length() - 1
            elif gambles:
                bit = gambles & -gambles
                gambles ^= bit
                i = n + bit.bit_length() - 1
            else:
                break
            steps += 1
            if needs and i in needs and _lacks(needs[i], n, low, rel, spent):
                continue
            successors = moves[i].get(s)
            if successors is None:
                successors = move(i, s)
            if not successors or (i >= n and successors == (s,) and not bit & far):
                continue
            if tries or gambles:
                stack.append((low, rel, spent, free, s, placed, path, tries, gambles))
            path = (i, path)
            if i < n:
                placed += 1
                rel |= bit
            else:
                placed += 1 if bit & far else 0
                spent |= bit
                free = (free ^ bit) | younger[i - n]
            if len(successors) > 1:
                stack += [(low, rel, spent, free, o, placed, path, -1, 0) for o in successors[1:]]
            s = successors[0]
            tries = -1
    return end(Verdict.VIOLATION, longest)


def _lacks(needed: Sequence[int], n: int, low: int, rel: int, spent: int) -> bool:
    """Whether one of these is not placed."""
    for i in needed:
        if not (spent >> (i - n) & 1 if i >= n else i < low or rel >> (i - low) & 1):
            return True
    return False


def _best(
    ready: Plan, found: Sequence[Prefix]
) -> tuple[tuple[str, ...], Any, tuple[tuple[str, Reject], ...]]:
    """Of equally long orders, the one to explain with: (order, state after it, stuck).

    The choice depends on fields and purity first, so that it is the same in every run in which
    the same goes wrong. A refused operation that is not pure goes before pure ones: leaving out
    a read never makes a write impossible, so the write is what is wrong.
    """
    model, ops, n = ready.partition.model, ready.ops, ready.answered
    choices = []
    for number, (low, rel, spent, s, path) in enumerate(found):
        near = (ready.easy[low] | ready.hard[low]) & ~rel if low < n else 0
        far = ready.far & ~spent & ((1 << ready.reach[low]) - 1) if low < n else 0
        stuck = []
        for i in (*_bits(near, low), *_bits(far, n)):
            why = model.step(ready.states[s], ops[i])
            if isinstance(why, Reject):
                stuck.append((model.pure(ops[i]), why.field, i, why))
        stuck.sort(key=lambda each: each[:3])
        rank = (*stuck[0][:2], number) if stuck else (True, "", number)
        choices.append((rank, s, path, tuple((ops[i].call, why) for _, _, i, why in stuck)))
    if not choices:
        return (), None, ()
    _, s, path, calls = min(choices, key=lambda choice: choice[0])
    order = []
    while path is not None:
        order.append(ops[path[0]].call)
        path = path[1]
    return tuple(reversed(order)), ready.states[s], calls


def _bits(mask: int, first: int) -> Iterator[int]:
    """The numbers that a mask stands for, bit 0 being `first`."""
    while mask:
        bit = mask & -mask
        mask ^= bit
        yield first + bit.bit_length() - 1
