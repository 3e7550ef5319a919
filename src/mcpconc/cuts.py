"""Edits that make a program smaller or less concurrent; pure, for `shrink` and `label`.

Every edit keeps call ids, tokens and Refs, and never leaves a Ref to a call that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcpconc.program import Call, Program, Ref, refs

__all__ = [
    "compact",
    "dependents",
    "droppable",
    "merge",
    "needs",
    "normal",
    "only",
    "overlaps",
    "redirect",
    "retire",
    "sequence",
    "shorten",
    "texts",
    "to_prefix",
    "to_suffix",
    "without",
    "without_args",
]

LONG = 24
"""Texts longer than this many characters are worth shortening."""
SHORT = 12


def overlaps(program: Program) -> bool:
    """Whether any two calls may be in flight together."""
    busy = [lane for lane in program.lanes if lane]
    return len(busy) > 1 or (program.inflight > 1 and any(len(lane) > 1 for lane in busy))


def normal(program: Program) -> Program:
    """The same runs, written in one way only: a lane per agent, no lanes where nothing
    overlaps, no `inflight` that no lane can use."""
    lanes = (*program.lanes, *((),) * (program.agents - len(program.lanes)))
    if not overlaps(program):
        rest = tuple(call for lane in lanes for call in lane)
        return replace(program, prefix=program.prefix + rest, lanes=((),) * len(lanes), inflight=1)
    longest = max(len(lane) for lane in lanes)
    return replace(program, lanes=lanes, inflight=min(program.inflight, longest))


def needs(program: Program, calls: Iterable[str]) -> frozenset[str]:
    """These calls and all that they reference, however indirectly."""
    targets = {c.id: {ref.call for ref in refs(c.args)} for c in program.calls()}
    return _closure(calls, targets)


def dependents(program: Program, calls: Iterable[str]) -> frozenset[str]:
    """These calls and all that reference them, however indirectly."""
    users: dict[str, set[str]] = {}
    for call in program.calls():
        for ref in refs(call.args):
            users.setdefault(ref.call, set()).add(call.id)
    return _closure(calls, users)


def _closure(start: Iterable[str], edges: Mapping[str, Collection[str]]) -> frozenset[str]:
    known: set[str] = set()
    todo = list(start)
    while todo:
        call = todo.pop()
        if call not in known:
            known.add(call)
            todo.extend(edges.get(call, ()))
    return frozenset(known)


def only(program: Program, calls: Iterable[str]) -> Program:
    """These calls and what they reference."""
    kept = needs(program, calls)
    return normal(program.map_calls(lambda c: c if c.id in kept else None))


def without(program: Program, calls: Iterable[str]) -> Program:
    """All but these calls and those that reference them."""
    gone = dependents(program, calls)
    return normal(program.map_calls(lambda c: None if c.id in gone else c))


def to_prefix(program: Program, agent: int) -> Program:
    """The first call of the agent's lane, made before the concurrent part."""
    call, *rest = program.lanes[agent]
    return normal(
        replace(
            program,
            prefix=(*program.prefix, call),
            lanes=_with_lane(program.lanes, agent, tuple(rest)),
        )
    )


def to_suffix(program: Program, agent: int) -> Program:
    """The last call of the agent's lane, made after the concurrent part."""
    *rest, call = program.lanes[agent]
    return normal(
        replace(
            program,
            lanes=_with_lane(program.lanes, agent, tuple(rest)),
            suffix=(call, *program.suffix),
        )
    )


def _with_lane(
    lanes: Sequence[tuple[Call, ...]], agent: int, lane: tuple[Call, ...]
) -> tuple[tuple[Call, ...], ...]:
    return (*lanes[:agent], lane, *lanes[agent + 1 :])


def sequence(
    program: Program, order: Iterable[Call] | None = None, *, one_agent: bool = False
) -> Program:
    """The concurrent calls one after the other, by default lane by lane.

    They become the end of the prefix; with `one_agent` every call is made by agent 0, and they
    become its lane. Explicit ids stay: a Ref to another agent's session still names that one.
    """
    calls = tuple(order or (call for lane in program.lanes for call in lane))
    if not one_agent:
        empty = ((),) * max(program.agents, 1)
        return replace(program, prefix=program.prefix + calls, lanes=empty, inflight=1)
    alone = replace(program, agents=1, lanes=(calls,), inflight=1)
    return alone.map_calls(lambda c: replace(c, agent=0))


def merge(program: Program, agent: int, into: int) -> Program:
    """All that one agent does done by another, its lane behind the other's."""
    moved = tuple(replace(c, agent=into) for c in program.lanes[agent])
    lanes = _with_lane(program.lanes, agent, ())
    lanes = _with_lane(lanes, into, lanes[into] + moved)
    return normal(retire(replace(program, lanes=lanes), [agent], into))


def retire(program: Program, agents: Collection[int], into: int) -> Program:
    """What these agents do in prefix and suffix, done by another."""

    def given(calls: tuple[Call, ...]) -> tuple[Call, ...]:
        return tuple(replace(c, agent=into) if c.agent in agents else c for c in calls)

    return replace(program, prefix=given(program.prefix), suffix=given(program.suffix))


def redirect(program: Program, gone: str, to: str) -> Program:
    """Without the call `gone`: what referenced it references `to`."""

    def change(value: Any) -> Any:
        return replace(value, call=to) if isinstance(value, Ref) and value.call == gone else value

    return normal(
        program.map_calls(
            lambda c: None if c.id == gone else replace(c, args=_mapped(c.args, change))
        )
    )


def compact(program: Program) -> Program:
    """Agents without calls dropped, the others renumbered from 0 in the same order."""
    used = sorted({call.agent for call in program.calls()})
    number = {agent: index for index, agent in enumerate(used)}
    lanes = [program.lanes[agent] if agent < len(program.lanes) else () for agent in used]
    return replace(program, agents=max(len(used), 1), lanes=tuple(lanes) or ((),)).map_calls(
        lambda c: replace(c, agent=number[c.agent])
    )


def droppable(call: Call) -> frozenset[str]:
    """Arguments that hold neither a Ref nor the call's token: all that might be optional. What
    makes a call bad input stays, or it would be called bad and be good."""
    return frozenset(
        name
        for name, value in call.args.items()
        if not (call.bad and name == call.bad.arg)
        and not any(refs(value))
        and not (call.token and any(call.token in t for t in texts(value)))
    )


def without_args(program: Program, names: Mapping[str, Collection[str]]) -> Program:
    """Without these arguments (call id → names)."""
    return program.map_calls(
        lambda c: replace(c, args={k: v for k, v in c.args.items() if k not in names.get(c.id, ())})
    )


def shorten(program: Program, only_text: str | None = None) -> Program:
    """Long texts cut short: to the token where they hold one, else to their beginning.

    One text becomes the same everywhere and two become different ones, because targets know
    things by their names. With `only_text`, that one alone.
    """
    tokens = [c.token for c in program.calls() if c.token]
    taken = set(texts([c.args for c in program.calls()]))
    short: dict[str, str] = {}
    for text in sorted(taken):
        if len(text) <= LONG or (only_text is not None and text != only_text):
            continue
        found = [token for token in tokens if token in text]
        if len(found) > 1:
            continue
        begin = found[0] if found else text[:SHORT].strip()
        new, number = begin, 1
        while new in taken:
            number += 1
            new = f"{begin} {number}"
        taken.add(new)
        short[text] = new

    def change(value: Any) -> Any:
        return short.get(value, value) if isinstance(value, str) else value

    return program.map_calls(
        lambda c: c if c.bad else replace(c, args=_mapped(c.args, change))  # huge is its point
    )


def texts(value: Any) -> list[str]:
    """Every text in an argument value."""
    found: list[str] = []

    def note(item: Any) -> Any:
        if isinstance(item, str):
            found.append(item)
        return item

    _mapped(value, note)
    return found


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return change(value)
