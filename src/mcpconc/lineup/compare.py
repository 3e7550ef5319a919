"""A concurrent run against sequential runs of its calls: what still has to be run, and what then
is known.

An order explains the run if a sequential run in that order showed the same. It is refuted if two
sequential runs that begin like it agree with each other and not with the run: nothing that comes
later in it can mend an answer. Sequential runs are made with and without waiting for the world
to rest after each call, and an order is refuted only if it is in both ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mcpconc.history import Operation, Phase
from mcpconc.lineup.differ import Difference, changing, first, times
from mcpconc.lineup.observe import Observation, Record, lengths, observe, recut
from mcpconc.lineup.orders import Order, consistent
from mcpconc.lineup.same import Volatile, same
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

__all__ = ["MOST", "Alone", "Comparison", "Refuted"]

MOST = 4
"""Sequential runs of one order in one way. Two must agree before they refute anything; where no
two of so many do, the order stays undecided."""

LEFT = "(left)"
"""Stands behind an order where it is not an answer that differs, but what is left or what was
read back in the suffix."""

LOST = "a call before or after the concurrent ones was not answered: it may have happened or not"


@dataclass(frozen=True, slots=True)
class Alone:
    """What a sequential run of the concurrent calls in this order showed. `rested` says whether
    the world came to rest after each. None where a call was not answered: then it says nothing.
    """

    order: Order
    rested: bool
    observation: Observation | None


@dataclass(frozen=True, slots=True)
class Refuted:
    """What begins like `prefix` does not explain the run. The last item is a call, for its
    answer, or `LEFT`."""

    prefix: Order
    difference: Difference


@dataclass(slots=True)
class Comparison:
    """What is known of one concurrent run, given as its operations and the state before and after.
    `add` sequential runs until `todo` is None."""

    operations: tuple[Operation, ...]
    before: Snapshot | None
    after: Snapshot | None
    volatile: Volatile = field(default_factory=Volatile)
    alone: list[Alone] = field(default_factory=list)
    seen: Observation = field(init=False)
    orders: tuple[Order, ...] = field(init=False)
    explained: Order | None = field(init=False, default=None)
    """The order that explains the run."""
    unsettled: str = field(init=False, default="")
    """Why nothing can be concluded, whatever the orders show."""
    _lengths: frozenset[int] = field(init=False)
    """Of the ids of all runs."""
    _stops: list[tuple[Alone, Order, Difference]] = field(init=False)
    _refuted: dict[bool, dict[Order, Difference]] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = observe(self.operations, self.before, self.after)
        self.orders = consistent([op for op in self.operations if op.phase is Phase.LANE])
        self.volatile |= Volatile(times(_all(self.seen)))
        self._lengths = lengths(self.seen)
        self.seen = recut(self.seen, self._lengths)
        made, self.alone = self.alone, []
        self._forget()
        for alone in made:
            self.add(alone)

    def add(self, alone: Alone) -> None:
        """Take in a sequential run. Two that should be the same and are not teach which fields
        are volatile; only runs with rests do, because without them a target may still be busy
        with the call before."""
        learned = self.volatile
        if alone.observation is not None:
            self._lengthen(lengths(alone.observation))
            alone = _recut(alone, self._lengths)
            assert alone.observation is not None
            learned |= Volatile(times(_all(alone.observation)))
            for twin in self._twins(alone) if alone.rested else ():
                more = changing(_all(twin), _all(alone.observation), learned)
                learned = more or learned
        self.alone.append(alone)
        if learned == self.volatile:
            self._judge(alone)
            return
        self.volatile = learned
        self._again()

    def _lengthen(self, more: frozenset[int]) -> None:
        """Take for ids whatever may be one, now that some are so long."""
        if more <= self._lengths:
            return
        self._lengths |= more
        self.seen = recut(self.seen, self._lengths)
        self.alone = [_recut(alone, self._lengths) for alone in self.alone]
        self._again()

    def _again(self) -> None:
        self._forget()
        for each in self.alone:
            self._judge(each)

    def todo(self) -> tuple[Order, bool] | None:
        """The order to run next, and whether to rest in it; None where the verdict is known or
        nothing more can be learned."""
        if self.explained is not None or self.unsettled:
            return None
        made = Counter((alone.order, alone.rested) for alone in self.alone)
        for rested in (True, False):
            for order in self.orders:
                if made[order, rested] < MOST and self._why_not(order, rested) is None:
                    return order, rested
        return None

    def verdict(self) -> Verdict:
        if self.explained is not None:
            return Verdict.OK
        if self.unsettled or len(self.refuted()) < len(self.orders):
            return Verdict.UNKNOWN
        return Verdict.VIOLATION

    def refuted(self) -> tuple[tuple[Order, Refuted], ...]:
        """Every order that is refuted, and why, as it is without rests: as users see it."""
        return tuple(
            (order, why)
            for order in self.orders
            if (why := self._why_not(order, False)) and self._why_not(order, True)
        )

    def _why_not(self, order: Order, rested: bool) -> Refuted | None:
        known = self._refuted[rested]
        for n in range(1, len(order) + 1):
            if order[:n] in known:
                return Refuted(order[:n], known[order[:n]])
        left = (*order, LEFT)
        return Refuted(left, known[left]) if left in known else None

    def _twins(self, alone: Alone) -> list[Observation]:
        return [
            other.observation
            for other in self.alone
            if (other.order, other.rested) == (alone.order, alone.rested)
            if other.observation is not None
        ]

    def _forget(self) -> None:
        lost = [op for op in self.operations if op.phase is not Phase.LANE and not op.answered]
        self.explained = None
        self.unsettled = LOST if lost else ""
        self._stops, self._refuted = [], {True: {}, False: {}}

    def _judge(self, alone: Alone) -> None:
        if alone.observation is None or self.unsettled:
            return
        sequence = self._sequence(alone.order)
        why = first(self.seen, alone.observation, sequence, self.volatile)
        if why is None:
            if alone.order in self.orders:
                self.explained = alone.order
            return
        if why.call in alone.order:
            prefix = alone.order[: alone.order.index(why.call) + 1]
        elif why.call in self._calls(Phase.PREFIX):
            self.unsettled = "calls made before the concurrent ones are answered otherwise alone"
            return
        else:
            prefix = (*alone.order, LEFT)
        for other, its, because in self._stops:
            if other.rested is alone.rested and its == prefix and self._agree(alone, other, its):
                self._refuted[alone.rested].setdefault(prefix, because)
        self._stops.append((alone, prefix, why))

    def _calls(self, phase: Phase) -> list[str]:
        return [op.call for op in self.operations if op.phase is phase]

    def _sequence(self, order: Order) -> list[str]:
        """Calls in the order in which they were made when these were made one by one."""
        return [*self._calls(Phase.PREFIX), *order, *self._calls(Phase.SUFFIX)]

    def _agree(self, a: Alone, b: Alone, prefix: Order) -> bool:
        """Whether two sequential runs showed the same as far as they refute."""
        if a.observation is None or b.observation is None:
            return False
        if prefix[-1] == LEFT:
            return same(_all(a.observation), _all(b.observation), self.volatile)
        calls = [*self._calls(Phase.PREFIX), *prefix]
        return same(_of(a.observation, calls), _of(b.observation, calls), self.volatile)


def _recut(alone: Alone, of: frozenset[int]) -> Alone:
    if alone.observation is None:
        return alone
    return replace(alone, observation=recut(alone.observation, of))


def _all(observation: Observation) -> list[Record]:
    return [*observation.answers.values(), *observation.left]


def _of(observation: Observation, calls: Sequence[str]) -> list[Record]:
    return [observation.answers[call] for call in calls if call in observation.answers]
