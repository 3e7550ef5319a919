"""Which programs to run first: those in which new kinds of calls meet.

Hypothesis draws what it likes, so some tools are rare, and two calls of rare ones that meet on
one object are rarer still; races live there. Of the programs that are written, the one comes
next that shows most of what the earlier ones have shown least (greedy additional coverage, as in
test prioritisation: Rothermel et al., IEEE TSE 27(10), 2001).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from mcpconc.program import Call, Program, Ref

__all__ = ["features", "varied"]

Feature = tuple[str, ...]

SURROUNDINGS = "session_id"
"""Nearly every call names one; on it calls meet only with their like."""


def features(program: Program) -> frozenset[Feature]:
    """What may be met in the concurrent part.

    ========================================  =================================================
    ``("call", tool, argument, …)``           a call with these arguments
    ``("beside", tool)``                      two of one tool, by different agents
    ``("meet", tool, tool, argument)``        by different agents, on one object or text
    ``("again", tool, argument)``             twice by one agent on one object or text
    ``("inside", tool, tool, argument)``      the same at once: in flight in one process
    ``("apart", tool, tool)``                 at once in one process, for different sessions
    ========================================  =================================================
    """
    lanes = [list(enumerate(lane)) for lane in program.lanes]
    calls = [item for lane in lanes for item in lane]
    found: set[Feature] = {("call", call.tool, *sorted(call.args)) for _, call in calls}
    for (n, one), (m, other) in combinations(calls, 2):
        found.update(_pair(one, other, abs(n - m) < program.inflight))
    return frozenset(found)


def _pair(one: Call, other: Call, close: bool) -> Iterator[Feature]:
    first, second = sorted((one.tool, other.tool))
    like = first == second
    together = [name for name in _common(one, other) if like or name != SURROUNDINGS]
    if one.agent != other.agent:
        if like:
            yield "beside", first
        for name in together:
            yield "meet", first, second, name
        return
    for name in together if like else ():
        yield "again", first, name
    for name in together if close else ():
        yield "inside", first, second, name
    sessions = [call.args.get(SURROUNDINGS) for call in (one, other)]
    if close and None not in sessions and sessions[0] != sessions[1]:
        yield "apart", first, second


def _common(one: Call, other: Call) -> Iterator[str]:
    """Arguments by which both name the same thing; an object may have different names."""
    theirs = dict(_named(other))
    for thing, name in _named(one):
        if thing in theirs:
            yield max(name, theirs[thing])


def _named(call: Call) -> Iterator[tuple[Ref | str, str]]:
    """(object or text, argument) for what others can name too: no token is in it."""
    for name, value in call.args.items():
        if isinstance(value, Ref) or (
            isinstance(value, str) and not (call.token and call.token in value)
        ):
            yield value, name


def varied(programs: Sequence[Program]) -> list[Program]:
    """The same programs, most telling first: every beginning of the list shows about as much as
    so few programs can."""
    left = [(features(program), program) for program in programs]
    seen: Counter[Feature] = Counter()
    ordered: list[Program] = []
    while left:
        best = max(range(len(left)), key=lambda n: _worth(left[n][0], seen))
        shown, program = left.pop(best)
        seen.update(shown)
        ordered.append(program)
    return ordered


def _worth(shown: Collection[Feature], seen: Counter[Feature]) -> float:
    """A feature counts less each time that it was shown."""
    return sum(1 / (1 + seen[feature]) for feature in shown)
