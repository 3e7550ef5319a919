"""Shrinking: the smallest, least concurrent program that still shows the same finding.

Pure search over an injected `attempt`, which costs seconds of real time: so the biggest cuts
come first (only the calls that the finding involves, then everything one at a time), no program
is tried twice, and what cannot help is not tried. The passes follow Lincheck's minimiser (drop
a call, else two at once, else move calls out of the concurrent part) and Hughes and Bolinder's
repetition (Erlang Workshop 2011): a candidate is accepted when any of several tries fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

from mcpconc import cuts
from mcpconc.program import Call, Program, refs

__all__ = ["Attempt", "Shrunk", "shrink"]

BUDGET = 120
PATIENCE = 2
"""How often the program as found is tried, and how often a flaky one's rejected cuts are."""
PAIRS = 10
TEXTS = 6


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one candidate: it failed with the finding's fingerprint head in `failed`
    of `tries` tries. `calls` are those that the finding involves now, where known."""

    failed: int
    tries: int
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`finished` is false where budget or time ended the search: it can go on from `program`.
    `reproduced` is false where not even the program as found failed again; `failed` of `tries`
    is how often the returned program failed when it was accepted."""

    program: Program
    finished: bool
    reproduced: bool
    attempts: int
    failed: int
    tries: int


class _Spent(Exception):
    """Budget or time is used up."""


async def shrink(
    program: Program,
    calls: Collection[str],
    attempt: Callable[[Program], Awaitable[Attempt]],
    *,
    optional: Callable[[Call], Collection[str]] = cuts.droppable,
    budget: int = BUDGET,
    expired: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int, bool], None] = lambda calls, attempts, finished: None,
    better: Callable[[Program, Attempt], None] = lambda program, attempt: None,
) -> Shrunk:
    """Minimise `program`; what is returned was passed to `attempt` and failed, or is `program`.

    `calls` are those that the finding involves. `optional` says which arguments of a call may
    be left out (by default all without Ref or token are tried). At most `budget` attempts are
    made, none after `expired`. After each attempt `progress` is told how many concurrent calls
    the smallest failing program has, how many attempts were made and whether that was all;
    `better` gets every program that is accepted. What `attempt` raises passes through.
    """
    search = _Search(
        best=program,
        involved=frozenset(calls),
        attempt=attempt,
        budget=budget,
        expired=expired,
        progress=progress,
        better=better,
    )
    try:
        reproduced = await _jump(search)
        if reproduced:
            await _to_fixed_point(search)
            if search.flaky:  # bad luck may have rejected what is not needed
                search.forget()
                await _to_fixed_point(search)
            await search.pass_over(_agents)
            await search.pass_over(lambda best, involved: _arguments(best, optional))
        finished = True
    except _Spent:
        reproduced, finished = search.seen is not None, False
    seen = search.seen or Attempt(0, 0)
    progress(search.best.concurrent(), search.attempts, True)
    return Shrunk(search.best, finished, reproduced, search.attempts, seen.failed, seen.tries)


_Shape = tuple[frozenset[str], ...]
_Candidates = Iterator[tuple[str, Program]]


@dataclass(slots=True)
class _Search:
    best: Program
    involved: frozenset[str]
    attempt: Callable[[Program], Awaitable[Attempt]]
    budget: int
    expired: Callable[[], bool]
    progress: Callable[[int, int, bool], None]
    better: Callable[[Program, Attempt], None]
    attempts: int = 0
    seen: Attempt | None = None
    flaky: bool = False
    needs_overlap: bool = False
    trusted: bool = False
    """Whether `involved` is known to be right, not just what the first run said."""
    rejected: set[str] = field(default_factory=set)
    harmless: list[_Shape] = field(default_factory=list)
    """Shapes that did not fail: what is contained in one of them hardly will."""
    orders: set[tuple[str, ...]] = field(default_factory=set)
    """One-at-a-time orders of the concurrent calls that did not fail."""

    def hopeless(self, candidate: Program) -> bool:
        """Whether what is known already speaks against the candidate."""
        calls = [call.id for call in candidate.calls()]
        if not calls or (self.trusted and self.involved.isdisjoint(calls)):
            return True
        shape = _shape(candidate)
        if shape != _shape(self.best) and any(_within(shape, other) for other in self.harmless):
            return True
        if not self.needs_overlap or cuts.overlaps(candidate):
            return False
        return self.order(candidate) in self.orders

    def order(self, candidate: Program) -> tuple[str, ...]:
        """In which order the candidate makes the calls that are concurrent in the best."""
        at_once = {call.id for lane in self.best.lanes for call in lane}
        return tuple(call.id for call in candidate.calls() if call.id in at_once)

    def forget(self) -> None:
        """Give every rejected candidate another chance."""
        self.rejected.clear()
        self.harmless.clear()
        self.orders.clear()

    async def accepts(self, candidate: Program, *, again: bool = False) -> bool:
        """Try a candidate, unless the answer is known; keep it if it fails as wanted.

        :raises _Spent: if it may not be tried any more.
        """
        digest = candidate.digest()
        if not again and (digest in self.rejected or digest == self.best.digest()):
            return False
        if not again and self.hopeless(candidate):
            return False
        if self.attempts >= self.budget or self.expired():
            raise _Spent
        self.attempts += 1
        result = await self.attempt(candidate)
        if result.failed:
            self.best, self.seen = candidate, result
            # A shape that holds a failing one is no evidence against anything.
            shape = _shape(candidate)
            self.harmless = [h for h in self.harmless if not _within(shape, h)]
            self.flaky = self.flaky or result.failed < result.tries
            self.trusted = self.trusted or bool(result.calls)
            self.involved = frozenset(result.calls) or self.involved
            self.better(candidate, result)
        else:
            self.rejected.add(digest)
            if _is_part(candidate, self.best):
                self.harmless.append(_shape(candidate))
            if not cuts.overlaps(candidate):
                self.orders.add(self.order(candidate))
        self.progress(self.best.concurrent(), self.attempts, False)
        return result.failed > 0

    async def pass_over(
        self, candidates: Callable[[Program, frozenset[str]], _Candidates], alone: bool = False
    ) -> bool:
        """Try what `candidates` proposes, on from each accepted one; whether any was.

        After an acceptance proposals are made anew, and those that this pass tried before
        (by name) are not tried again: the next round will. Programs in which nothing overlaps
        are tried only in a pass that is about them (`alone`), once the calls one at a time
        are known to be harmless.
        """
        tried: set[str] = set()
        any_accepted = False
        accepted = True
        while accepted:
            accepted = False
            for what, candidate in candidates(self.best, self.involved):
                if what in tried:
                    continue
                tried.add(what)
                if self.needs_overlap and not alone and not cuts.overlaps(candidate):
                    continue
                if await self.accepts(candidate):
                    any_accepted = accepted = True
                    break
        return any_accepted


def _shape(program: Program) -> _Shape:
    """Which calls it makes, and where."""
    parts = (program.prefix, *program.lanes, program.suffix)
    return tuple(frozenset(call.id for call in part) for part in parts)


def _is_part(candidate: Program, whole: Program) -> bool:
    """Whether it is fewer or moved calls, and not the same number of changed ones."""
    calls = {call.id: call for call in whole.calls()}
    same = all(calls.get(call.id) == call for call in candidate.calls())
    return same and _shape(candidate) != _shape(whole)


def _within(shape: _Shape, other: _Shape) -> bool:
    return len(shape) == len(other) and all(a <= b for a, b in zip(shape, other, strict=True))


async def _jump(search: _Search) -> bool:
    """The big cuts, and whether the finding was seen again at all."""
    for number, candidate in enumerate(_jumps(search.best, search.involved)):
        if await search.accepts(candidate):
            search.trusted = search.trusted or number == 0
            break
    else:
        for _ in range(PATIENCE):
            if await search.accepts(search.best, again=True):
                break
        else:
            return False
    if cuts.overlaps(search.best):
        calls = [call for lane in search.best.lanes for call in lane]
        alone = cuts.sequence(search.best, calls)
        search.needs_overlap = not await search.accepts(alone)
    return True


async def _to_fixed_point(search: _Search) -> None:
    changed = True
    while changed:
        changed = False
        for candidates in (_faults, _lanes, _chunks, _calls, _moves, _inflight, _merges, _sources):
            alone = candidates is _moves
            changed = await search.pass_over(candidates, alone) or changed
        if not changed:
            harmless, search.harmless = search.harmless, []  # pairs are tried against them
            changed = await search.pass_over(_pairs)
            search.harmless += [] if changed else harmless


def _jumps(best: Program, involved: frozenset[str]) -> Iterator[Program]:
    """The calls involved alone, with the whole prefix, with their whole lanes, with all calls
    that build on what they build on."""
    known = {call.id for call in best.calls()} & involved
    if not known:
        return
    yield cuts.only(best, known)
    prefix = {call.id for call in best.prefix}
    lanes = {c.id for lane in best.lanes if any(c.id in known for c in lane) for c in lane}
    sources = {ref.call for c in best.calls() if c.id in known for ref in refs(c.args)}
    kin = {
        c.id
        for lane in best.lanes
        for c in lane
        if any(ref.call in sources for ref in refs(c.args))
    }
    for more in (prefix, prefix | lanes, prefix | kin):
        candidate = cuts.only(best, known | more)
        if cuts.overlaps(candidate) or not cuts.overlaps(best):
            yield candidate


def _faults(best: Program, involved: frozenset[str]) -> _Candidates:
    if len(best.faults) > 1:
        yield "drop all faults", replace(best, faults=())
    for fault in best.faults:
        left = tuple(other for other in best.faults if other != fault)
        yield f"drop {fault.name} at {fault.call}", replace(best, faults=left)


def _lanes(best: Program, involved: frozenset[str]) -> _Candidates:
    if len(best.suffix) > 1:
        yield "drop the suffix", cuts.without(best, [c.id for c in best.suffix])
    lanes = [(agent, [c.id for c in lane]) for agent, lane in enumerate(best.lanes) if lane]
    lanes.sort(key=lambda item: (bool(involved & set(item[1])), -len(item[1])))
    if len(lanes) > 1:
        for agent, calls in lanes:
            yield f"drop lane {agent}", cuts.without(best, calls)


def _chunks(best: Program, involved: frozenset[str]) -> _Candidates:
    """Halves, quarters, … of the calls that the finding does not involve (as ddmin)."""
    needed = cuts.needs(best, involved)
    idle = [c.id for c in _droppable_order(best) if c.id not in needed]
    size = len(idle) // 2
    while size > 1:
        for start in range(0, len(idle), size):
            part = idle[start : start + size]
            yield f"drop {' '.join(part)}", cuts.without(best, part)
        size //= 2


def _calls(best: Program, involved: frozenset[str]) -> _Candidates:
    for call in sorted(_droppable_order(best), key=lambda c: c.id in involved):
        yield f"drop {call.id}", cuts.without(best, [call.id])


def _droppable_order(program: Program) -> list[Call]:
    """Suffix, lanes, prefix, each from its end: calls that others build on come last."""
    lanes = [call for lane in program.lanes for call in reversed(lane)]
    return [*reversed(program.suffix), *lanes, *reversed(program.prefix)]


def _pairs(best: Program, involved: frozenset[str]) -> _Candidates:
    """Two calls at once that may only matter as a pair: neighbours, or calls of one tool."""
    calls = [call for lane in best.lanes for call in lane] + list(best.prefix)
    near = {(a.id, b.id) for part in (best.prefix, *best.lanes) for a, b in pairwise(part)}
    pairs = [
        (a, b)
        for a, b in combinations(calls, 2)
        if ((a.id, b.id) in near or a.tool == b.tool)
        and not {a.id, b.id} & (cuts.dependents(best, [a.id]) & cuts.dependents(best, [b.id]))
    ]
    pairs.sort(key=lambda pair: sum(call.id in involved for call in pair))
    for a, b in pairs[:PAIRS]:
        yield f"drop {a.id} {b.id}", cuts.without(best, [a.id, b.id])


def _moves(best: Program, involved: frozenset[str]) -> _Candidates:
    """Calls out of the concurrent part. With two lanes left the last move makes the run
    sequential; moving the one lane before says the same as moving the other behind."""
    busy = [agent for agent, lane in enumerate(best.lanes) if lane]
    for agent in busy:
        yield f"{best.lanes[agent][0].id} to the prefix", cuts.to_prefix(best, agent)
    for agent in busy:
        last = best.lanes[agent][-1]
        candidate = cuts.to_suffix(best, agent)
        if cuts.overlaps(candidate):
            yield f"{last.id} to the suffix", candidate


def _inflight(best: Program, involved: frozenset[str]) -> _Candidates:
    if best.inflight > 1:
        yield "one call in flight", cuts.normal(replace(best, inflight=1))


def _merges(best: Program, involved: frozenset[str]) -> _Candidates:
    busy = [agent for agent, lane in enumerate(best.lanes) if lane]
    if len(busy) > 2:
        for into, agent in combinations(busy, 2):
            yield f"agent {agent} into {into}", cuts.merge(best, agent, into)
    busy = busy or sorted({call.agent for call in best.calls()})[:1]
    others = sorted({call.agent for call in best.calls()} - set(busy))
    if others:
        yield f"agents {others} into {busy[0]}", cuts.retire(best, others, busy[0])
        for agent in others if len(others) > 1 else ():
            yield f"agent {agent} into {busy[0]}", cuts.retire(best, [agent], busy[0])


def _sources(best: Program, involved: frozenset[str]) -> _Candidates:
    """One source for several: what needs a second session or goal may do with the first."""
    used = {ref.call for call in best.calls() for ref in refs(call.args)}
    for index, call in enumerate(best.prefix):
        twin = next((c for c in best.prefix[:index] if c.tool == call.tool), None)
        if twin is not None and call.id in used:
            yield f"{twin.id} for {call.id}", cuts.redirect(best, call.id, twin.id)


def _agents(best: Program, involved: frozenset[str]) -> _Candidates:
    if cuts.compact(best).agents < best.agents:
        yield "drop unused agents", cuts.compact(best)


def _arguments(best: Program, optional: Callable[[Call], Collection[str]]) -> _Candidates:
    names = {call.id: sorted(set(optional(call)) & cuts.droppable(call)) for call in best.calls()}
    names = {call: listed for call, listed in names.items() if listed}
    if len(names) > 1:
        yield "drop all optional arguments", cuts.without_args(best, names)
    for call, listed in names.items():
        if len(listed) > 1:
            yield f"drop {call}'s optional arguments", cuts.without_args(best, {call: listed})
        for name in listed:
            yield f"drop {call}.{name}", cuts.without_args(best, {call: [name]})
    long = sorted({t for c in best.calls() for t in cuts.texts(c.args) if len(t) > cuts.LONG})
    if long:
        yield "shorten texts", cuts.shorten(best)
        for number, text in enumerate(long[:TEXTS] if len(long) > 1 else []):
            yield f"shorten text {number}", cuts.shorten(best, text)
