"""What to call a finding: sequential, cross-agent or race.

The minimised program is run again one call at a time, in every order of its concurrent calls
that real time could have given them, and the fingerprints are compared. One agent alone shows
it: `sequential`. Some order of several agents shows it: `cross-agent`, no overlap needed. No
order shows it: `race`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from mcpconc.cuts import sequence
from mcpconc.oracle.base import Label
from mcpconc.program import Call, Program, refs

__all__ = ["LIMIT", "Labelled", "label", "none_shows", "orders"]

LIMIT = 24
"""Up to so many orders all are run; of more, a sample of so many."""

MANY = 14

Head = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Labelled:
    """`basis` says in words how the label was decided. `tried` of the `possible` orders were
    run; `shown` is the one-at-a-time program that showed the finding, if one did."""

    label: Label
    basis: str
    tried: int
    possible: int
    shown: Program | None = None

    @property
    def exhaustive(self) -> bool:
        return self.tried >= self.possible


async def label(
    program: Program,
    head: Head,
    run_sequentially: Callable[[Program], Awaitable[Collection[Head]]],
    *,
    seed: int = 0,
    limit: int = LIMIT,
    expired: Callable[[], bool] = lambda: False,
) -> Labelled:
    """Decide the label of the finding with this fingerprint head.

    `run_sequentially` runs a program that has no concurrency and says which heads it showed.
    It is called at most twice per order, and not after `expired`: where that comes before all
    were tried, the label stays `unlabelled`.
    """
    possible, chosen = orders(program, limit, seed)
    several = len({call.agent for call in program.calls()}) > 1
    for kind, one_agent in ((Label.SEQUENTIAL, True), (Label.CROSS_AGENT, False)):
        if kind is Label.CROSS_AGENT and not several:
            continue
        who = "one agent alone shows it" if one_agent else "shown one call at a time"
        for tried, order in enumerate(chosen, start=1):
            if expired():
                return _out_of_time(tried - 1, possible)
            candidate = sequence(program, order, one_agent=one_agent)
            if head in await run_sequentially(candidate):
                basis = f"{who}, in order {tried} of {possible}"
                return Labelled(kind, basis, tried, possible, candidate)
    return Labelled(Label.RACE, none_shows(len(chosen), possible), len(chosen), possible)


def none_shows(tried: int, possible: int) -> str:
    """That none of the orders shows the finding, in words."""
    if tried < possible:
        return (
            f"{tried} of {possible} one-at-a-time orders, sampled, were tried, none of them "
            "shows it"
        )
    if possible < 2:
        return "the only one-at-a-time order was tried, it does not show it"
    every, none = ("both", "neither") if possible == 2 else (f"all {possible}", "none")
    return f"{every} one-at-a-time orders were tried, {none} shows it"


def _out_of_time(tried: int, possible: int) -> Labelled:
    """Time is up before every order was tried: an order not tried might have shown it."""
    basis = f"only {tried} of {possible} one-at-a-time orders were tried, then time was up"
    return Labelled(Label.UNLABELLED, basis, tried, possible)


def orders(
    program: Program, limit: int = LIMIT, seed: int = 0
) -> tuple[int, tuple[tuple[Call, ...], ...]]:
    """How many one-at-a-time orders of the concurrent calls there are, and at most `limit`.

    An order respects Refs and, where a lane has one call in flight, lanes; of several calls in
    flight any may be served first. More than `limit` are sampled: at each place one of the
    calls that may come next, weighted by the number of orders that it leaves, so that every
    order is equally likely.
    """
    calls = [call for lane in program.lanes for call in lane]
    before = _before(program, calls)

    @cache
    def count(done: int) -> int:
        if done == (1 << len(calls)) - 1:
            return 1
        return sum(count(done | 1 << n) for n in _next(before, done))

    def all_from(done: int, order: tuple[Call, ...]) -> Iterator[tuple[Call, ...]]:
        if len(order) == len(calls):
            yield order
        for n in _next(before, done):
            yield from all_from(done | 1 << n, (*order, calls[n]))

    possible = count(0)
    if possible <= limit:
        return possible, tuple(all_from(0, ()))
    random = Random(seed)
    sample: dict[tuple[str, ...], tuple[Call, ...]] = {}
    while len(sample) < limit:
        done = 0
        order: list[Call] = []
        while len(order) < len(calls):
            ready = _next(before, done)
            (n,) = random.choices(ready, [count(done | 1 << n) for n in ready])
            done |= 1 << n
            order.append(calls[n])
        sample.setdefault(tuple(c.id for c in order), tuple(order))
    return possible, tuple(sample.values())


def _before(program: Program, calls: list[Call]) -> list[int]:
    """For each call the bit set of those that must come before it.

    With very many calls lanes keep their order in any case, or counting would take for ever.
    """
    in_lane = program.inflight == 1 or len(calls) > MANY
    position = {call.id: n for n, call in enumerate(calls)}
    before = []
    for n, call in enumerate(calls):
        first = [position[ref.call] for ref in refs(call.args) if ref.call in position]
        if in_lane:
            first += [m for m in range(n) if calls[m].agent == call.agent]
        before.append(sum(1 << m for m in set(first)))
    return before


def _next(before: list[int], done: int) -> list[int]:
    return [n for n, first in enumerate(before) if not done & 1 << n and first & done == first]
