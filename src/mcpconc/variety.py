"""Which programs to run first: those in which new kinds of calls meet.

Hypothesis draws what it likes, so some tools are rare, and two calls of rare ones that meet on
one object are rarer still; races live there. Of the programs that are written, the one comes
next that shows most of what the earlier ones have shown least (greedy additional coverage, as in
test prioritisation: Rothermel et al., IEEE TSE 27(10), 2001).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import fsum

from mcpconc.cuts import needs, normal, overlaps
from mcpconc.program import Call, Program, Ref, refs

__all__ = ["Feature", "features", "focused", "lessons", "varied"]

Feature = tuple[str, ...]

SURROUNDINGS = "session_id"
"""Nearly every call names one; on it calls meet with their like, and with those on its parts."""


def features(program: Program) -> frozenset[Feature]:
    """What may be met in the concurrent part.

    ==========================================  ===============================================
    ``("call", tool, argument, …)``             a call with these arguments
    ``("beside", tool)``                        two of one tool, by different agents
    ``("meet", tool, argument, …)``             by different agents, on one object or text
    ``("again", tool, argument, …)``            the same twice by one agent
    ``("inside", tool, argument, …)``           the same at once: in flight in one process
    ``("apart", tool, tool)``                   at once in one process, for different sessions
    ==========================================  ===============================================

    Where two calls meet, each tells how it names the object: ``tool, argument, tool, argument``.
    ``<goal_id`` is the goal of the task that it names.
    """
    made = {call.id: call for call in program.calls()}
    calls = [
        (n, call, dict(_named(call, made))) for lane in program.lanes for n, call in enumerate(lane)
    ]
    found: set[Feature] = {("call", call.tool, *sorted(call.args)) for _, call, _ in calls}
    for (n, one, its), (m, other, others) in combinations(calls, 2):
        close = abs(n - m) < program.inflight
        on = [
            tuple(sorted([(one.tool, its[thing]), (other.tool, others[thing])]))
            for thing in its
            if thing in others
        ]
        found.update(_pair(one, other, close, [(*a, *b) for a, b in on if _counts(a, b)]))
    return frozenset(found)


def _pair(one: Call, other: Call, close: bool, on: Sequence[Feature]) -> Iterator[Feature]:
    like = one.tool == other.tool
    if one.agent != other.agent:
        if like:
            yield "beside", one.tool
        for names in on:
            yield "meet", *names
        return
    for names in on if like else ():
        yield "again", *names
    for names in on if close else ():
        yield "inside", *names
    sessions = [call.args.get(SURROUNDINGS) for call in (one, other)]
    if close and None not in sessions and sessions[0] != sessions[1]:
        yield "apart", *sorted((one.tool, other.tool))


def _counts(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two (tool, argument) that name one thing meet there."""
    names = {one[1], other[1]}
    if names == {SURROUNDINGS}:
        return one[0] == other[0]
    return names != {f"<{SURROUNDINGS}"}


def _named(call: Call, made: Mapping[str, Call]) -> Iterator[tuple[Ref | str, str]]:
    """(object or text, argument) for what others can name too: no token is in it. What an
    object was made from (the goal of a task) comes first, so that its own name wins."""
    for value in call.args.values():
        if isinstance(value, Ref) and value.call in made:
            for thing, name in _named(made[value.call], made):
                if isinstance(thing, Ref):
                    yield thing, f"<{name.lstrip('<')}"
    for name, value in call.args.items():
        if isinstance(value, Ref) or (
            isinstance(value, str) and not (call.token and call.token in value)
        ):
            yield value, name
        elif not isinstance(value, str):  # objects deep in a batch
            yield from ((ref, name) for ref in refs(value))


def varied(
    programs: Sequence[Program],
    weight: Callable[[Program], float] = lambda program: 1.0,
    seen: Counter[Feature] | None = None,
) -> Iterator[Program]:
    """The same programs, most telling first: every beginning shows about as much as so few
    programs can. What a program shows counts by its `weight`, which is asked anew each time that
    one is taken: it may have changed by what was seen meanwhile. `seen` counts what those taken
    so far show, those of earlier calls included."""
    left = [(features(program), program) for program in programs]
    seen = Counter() if seen is None else seen
    while left:
        best = max(range(len(left)), key=lambda n: weight(left[n][1]) * _worth(left[n][0], seen))
        shown, program = left.pop(best)
        seen.update(shown)
        yield program


def _worth(shown: Collection[Feature], seen: Counter[Feature]) -> float:
    """A feature counts less each time that it was shown."""
    # Sets come in another order in each process, and rounding must not decide which is best.
    return fsum(1 / (1 + seen[feature]) for feature in shown)


def focused(program: Program, seen: Counter[Feature], calls: int, lanes: int) -> Iterator[Program]:
    """Small programs cut out of a large one, most telling first: at most so many concurrent calls
    in so many lanes, and what those refer to before them. They end when every concurrent call
    was in one. `seen` counts what the programs given so far show.
    """
    everybody = [call for lane in program.lanes for call in lane]
    left = {call.id for call in everybody}
    while left:
        chosen: list[Call] = []
        while len(chosen) < calls:
            agents = {call.agent for call in chosen}
            room = [
                call
                for call in everybody
                if call not in chosen and (call.agent in agents or len(agents) < lanes)
            ]
            # One call alone shows little: begin with two.
            more: list[tuple[Call, ...]] = list(combinations(room, 1 if chosen else 2))
            more = [some for some in more if chosen or any(call.id in left for call in some)]
            if not more:
                break
            chosen += max(
                more, key=lambda some: _worth(_meetings(_cut(program, [*chosen, *some])), seen)
            )
        if not chosen:
            return
        small = _cut(program, chosen)
        seen.update(_meetings(small))
        left -= {call.id for call in chosen}
        if overlaps(small):
            yield small


def lessons(programs: Sequence[Program]) -> Iterator[Program]:
    """Few programs, cut out of these, in which each tool is called in a lane that is called in one
    of theirs."""
    left = {call.tool for program in programs for lane in program.lanes for call in lane}
    while left:
        firsts = [
            {call.tool: call for lane in program.lanes for call in lane if call.tool in left}
            for program in programs
        ]
        best = max(range(len(programs)), key=lambda n: len(firsts[n]))
        yield _part(programs[best], list(firsts[best].values()))
        left -= firsts[best].keys()


def _meetings(program: Program) -> set[Feature]:
    """What is shown but for calls by themselves: races are between calls."""
    return {feature for feature in features(program) if feature[0] != "call"}


def _cut(program: Program, chosen: Sequence[Call]) -> Program:
    return normal(_part(program, chosen))


def _part(program: Program, chosen: Sequence[Call]) -> Program:
    """The chosen calls in their lanes, and the others that they need in the prefix."""
    side_by_side = {call.id for call in chosen}
    kept = needs(program, side_by_side)
    before = [c for lane in program.lanes for c in lane if c.id in kept - side_by_side]
    return replace(
        program,
        prefix=(*(call for call in program.prefix if call.id in kept), *before),
        lanes=tuple(tuple(c for c in lane if c.id in side_by_side) for lane in program.lanes),
        suffix=tuple(c for c in program.suffix if needs(program, [c.id]) <= kept | {c.id}),
    )
