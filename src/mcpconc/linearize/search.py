"""Is there an order of these operations that explains every answer?

Wing & Gong's search (JPDC 1993) with Lowe's memo (CCPE 2017), over one partition (Horn &
Kroening, FORTE 2015) at a time. A depth-first walk places one operation after another; an
operation may come next if no unplaced one returned before it was invoked (closed intervals).

Answered operations are numbered by return, so what is placed is always a full run of the first
`low` of them and a few more: a configuration is (low, `rel`: bit i set where number low + i is
placed, `spent`: bits of the never-answered operations that took effect, state). `low` returns
first of all that are left, hence the candidates are those invoked no later than it returned,
and the window of bits is only as wide as operations overlap, however long the history.

Five prunings; each keeps every verdict, and the number of answered operations in the longest
order that can be found. `order` below stands for any order that continues a configuration.

* Memo. A configuration that was seen has the same continuations as the first time.
* Spending less is never worse. A never-answered operation may also never take effect, so each
  order from (low, rel, spent, s) exists as well from (low, rel, fewer spent, s): a configuration
  is dropped if one with a subset of its `spent` was seen. For the same reason a never-answered
  operation is not placed where it changes nothing, nor ever if it is pure.
* Greed. An answered pure operation that may come next and fits is placed at once, alone: in any
  order it can be moved to the front (or put there, if the order lacks it), because it changes no
  state here nor, being pure in *every* state, at the place where it is missing now.
* Twins. Of never-answered operations with equal name, input and agent only the earliest invoked
  one left may be placed: in an order that uses a later one, the earlier can stand in its place,
  since it was invoked sooner, never returns either, and `step` cannot tell them apart. If the
  order uses both, they change places.
* Transitions are computed once per state and kind of operation; see `Model.step`, which by
  contract looks at name, agent, input, output and `answered` alone.

Models may branch: each successor is a configuration of its own, so the prunings above speak of
single states, and an order is found if any choice of successors gives one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.linearize.plan import Plan, plan
from mcpconc.model.base import Partition, Reject
from mcpconc.verdict import Verdict

__all__ = ["BUDGET", "SLICE", "Linearization", "check", "check_all", "decide"]

BUDGET = 1_000_000
"""Steps per partition: about a second of CPU, apart from what the model's own `step` costs."""
SLICE = 2_000
DEEPEST = 32
"""How many of the longest orders are looked at to choose the one that explains best."""

Path = tuple[int, Any] | None
"""Operations placed, last one first: (index, path before it)."""
Frame = tuple[int, int, int, int, int, Path, int, int]
"""low, rel, spent, state, answered operations placed, path, candidates not tried yet:
answered (-1: not entered yet) and never-answered."""


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


def check(partition: Partition, budget: int = BUDGET) -> Linearization:
    """Decide one partition; `unknown` after `budget` steps.

    :raises ValueError: if an operation returns before it is invoked.
    """
    return next(answer for _, answer in decide([partition], budget, budget))


def check_all(
    partitions: Sequence[Partition], budget_each: int = BUDGET, slice: int = SLICE
) -> list[Linearization]:
    """Decide every partition, each within `budget_each` steps; answers in the given order.

    :raises ValueError: if an operation returns before it is invoked.
    """
    answers = dict(decide(partitions, budget_each, slice))
    return [answers[number] for number in range(len(partitions))]


def decide(
    partitions: Sequence[Partition], budget_each: int = BUDGET, slice: int = SLICE
) -> Iterator[tuple[int, Linearization]]:
    """(number, answer) of each partition as it is decided, advancing all by `slice` steps in
    turn: whoever needs one violation only may stop there, however hopeless the others are."""
    runs = {i: _search(plan(p), budget_each, slice) for i, p in enumerate(partitions)}
    while runs:
        for number, run in list(runs.items()):
            try:
                next(run)
            except StopIteration as end:
                del runs[number]
                yield number, end.value


def _search(ready: Plan, budget: int, slice: int) -> Generator[None, None, Linearization]:
    """The walk. Yields every `slice` steps; gives up after `budget` steps."""
    model, ops, n, moves = ready.partition.model, ready.ops, ready.answered, ready.moves
    easy, hard, reach, elder = ready.easy, ready.hard, ready.reach, ready.elder
    states: list[Any] = [model.initial()]
    numbers: dict[Any, int] = {states[0]: 0}
    memo: dict[tuple[int, int, int], tuple[int, ...]] = {}
    eldest: dict[int, int] = {}
    longest: list[tuple[int, Path]] = []
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

    def end(verdict: Verdict, found: Sequence[tuple[int, Path]]) -> Linearization:
        order, state, stuck = _best(ready, states, found)
        return Linearization(verdict, order, state, stuck, steps, len(states))

    stack: list[Frame] = [(0, 0, 0, 0, 0, None, -1, 0)]
    while stack:
        low, rel, spent, s, placed, path, tries, gambles = stack.pop()
        while True:
            if steps >= pause:
                if steps >= budget:
                    return end(Verdict.UNKNOWN, longest)
                yield
                pause = min(steps + slice, budget)
            if tries < 0:
                # A new configuration: greed first, so that the memo holds few of them.
                while low < n and (todo := easy[low] & ~rel):
                    before = rel
                    while todo:
                        bit = todo & -todo
                        todo ^= bit
                        i = low + bit.bit_length() - 1
                        steps += 1
                        new = moves[i].get(s)
                        if move(i, s) if new is None else new:
                            rel |= bit
                            path = (i, path)
                            placed += 1
                    if rel == before or not rel & 1:
                        break
                    full = (~rel & (rel + 1)).bit_length() - 1
                    rel >>= full
                    low += full
                if low == n:
                    return end(Verdict.OK, [(s, path)])
                seen = memo.get((low, rel, s))
                if seen is None:
                    memo[low, rel, s] = (spent,)
                else:
                    steps += len(seen) - 1
                    if any(less & spent == less for less in seen):
                        break
                    memo[low, rel, s] = (*seen, spent)
                if placed > most:
                    most = placed
                    longest = [(s, path)]
                elif placed == most and len(longest) < DEEPEST:
                    longest.append((s, path))
                tries = hard[low] & ~rel
                free = eldest.get(spent)
                if free is None:
                    free = sum(
                        1 << j
                        for j, twin in enumerate(elder)
                        if not spent >> j & 1 and twin & spent == twin
                    )
                    eldest[spent] = free
                gambles = free & reach[low]
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
            successors = moves[i].get(s)
            if successors is None:
                successors = move(i, s)
            if not successors or (i >= n and successors == (s,)):
                continue
            if tries or gambles:
                stack.append((low, rel, spent, s, placed, path, tries, gambles))
            path = (i, path)
            if i >= n:
                spent |= bit
            else:
                placed += 1
                rel |= bit
                if rel & 1:
                    full = (~rel & (rel + 1)).bit_length() - 1
                    rel >>= full
                    low += full
            if len(successors) > 1:
                stack += [(low, rel, spent, o, placed, path, -1, 0) for o in successors[1:]]
            s = successors[0]
            tries = -1
    return end(Verdict.VIOLATION, longest)


def _best(
    ready: Plan, states: Sequence[Any], found: Sequence[tuple[int, Path]]
) -> tuple[tuple[str, ...], Any, tuple[tuple[str, Reject], ...]]:
    """Of equally long orders, the one to explain with: (order, state after it, stuck).

    The choice depends on fields and purity first, so that it is the same in every run in which
    the same goes wrong. A refused operation that is not pure goes before pure ones: leaving out
    a read never makes a write impossible, so the write is what is wrong.
    """
    model = ready.partition.model
    choices = []
    for number, (s, path) in enumerate(found):
        placed = set()
        order = []
        while path is not None:
            placed.add(path[0])
            order.append(ready.ops[path[0]].call)
            path = path[1]
        left = [i for i in range(ready.answered) if i not in placed]
        stuck = []
        for i in left:
            if ready.ops[i].invoked > (ready.ops[left[0]].returned or 0):
                continue
            why = model.step(states[s], ready.ops[i])
            if isinstance(why, Reject):
                stuck.append((model.pure(ready.ops[i]), why.field, i, why))
        stuck.sort(key=lambda each: each[:3])
        rank = (*stuck[0][:2], number) if stuck else (True, "", number)
        calls = tuple((ready.ops[i].call, why) for _, _, i, why in stuck)
        choices.append((rank, tuple(reversed(order)), states[s], calls))
    return min(choices, key=lambda choice: choice[0])[1:] if choices else ((), None, ())
