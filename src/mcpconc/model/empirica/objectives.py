"""Objectives: of goals whose objectives are equal, or one of which contains the other, at most
one is open. And how many goals of a session are open, which `goals_mark_stale` tells.

Both are rules over several goals, so each is a partition of its own beside the goals'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import (
    NONE,
    OK,
    Quirky,
    Refusal,
    answer,
    op,
    partition,
    refused,
    same_objective,
    spurious,
)
from mcpconc.model.empirica.facts import Facts

__all__ = ["Objectives", "OpenGoals", "partitions", "similar"]

LOOKED_AT = 50
"""So many open goals, the newest, are compared with a new one. Which are the newest the target
tells by its clock, so runs with more goals are not judged."""
COMPARED = 500
"""Of more objectives than these it is not asked whether any two are similar."""

State = frozenset[tuple[str, str, bool]]


def similar(one: str, other: str) -> bool:
    """Whether two normalised objectives count as the same."""
    return one in other or other in one


@dataclass(frozen=True)
class Objectives(Quirky):
    """State: (goal id, normalised objective, open) of the goals made so far.

    ``goals_create``: input is (id or None, objective); a refusal tells the similar goals as a
    frozenset of ids. ``goals_complete``: input is the id. A snapshot's output is the ids of
    the goals that exist.
    """

    name: str = "objective"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            made = frozenset(id for id, _, _ in state)
            return (state,) if made == op.output else Reject("rows", made, op.output)
        if op.name == "goals_complete":
            same = {goal for goal in state if goal[0] == op.input}
            return ((state - same) | {(id, text, False) for id, text, _ in same},)
        assert isinstance(op.input, tuple)
        id, text = op.input
        others = frozenset(i for i, t, is_open in state if is_open and similar(t, text))
        reject = refused(op.output, "similar-goal", bool(others))
        if reject is not None:
            return reject
        if isinstance(op.output, Refusal):
            told = op.output.detail
            return (state,) if told == others else Reject("similar_goals", others, told)
        if others or id is None:
            return (state,)
        return (state | {(id, text, True)},)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        due = "A goal must be refused while one with a similar objective is open."
        return due if field == "similar-goal" else ""

    def describe(self, state: State) -> str:
        return ", ".join(f"{text!r} is {'open' if o else 'done'}" for _, text, o in sorted(state))


@dataclass(frozen=True)
class OpenGoals(Quirky):
    """State: the ids of a session's open goals. ``goals_create`` and ``goals_complete``: input
    is the id. ``goals_mark_stale``: output is the count that it told."""

    name: str = "open-goals"
    known_quirks: frozenset[str] = NONE

    def initial(self) -> frozenset[str]:
        return frozenset()

    def step(self, state: frozenset[str], op: Op) -> Sequence[frozenset[str]] | Reject:
        if op.name == "goals_create":
            return (state | {str(op.input)},)
        if op.name == "goals_complete":
            return (state - {str(op.input)},)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.output is None or op.output == len(state):
            return (state,)
        return Reject("goals_marked_stale", len(state), op.output)

    def pure(self, op: Op) -> bool:
        return op.name == "goals_mark_stale"

    def describe(self, state: frozenset[str]) -> str:
        goals = f"{len(state)} goals" if len(state) > 1 else "one goal" if state else "no goal"
        return f"{goals} of the session {'are' if len(state) > 1 else 'is'} open"


def partitions(known: Facts) -> Iterator[Partition]:
    yield from _objectives(known)
    yield from _open_goals(known)


def _objectives(known: Facts) -> Iterator[Partition]:
    creates: dict[str, list[Operation]] = defaultdict(list)
    for o in known.of("goals_create"):
        text = same_objective(o.args.get("objective", ""))
        if not _malformed(text, o):
            creates[text].append(o)
    if len(known.objective_of_goal) > LOOKED_AT:
        if _matters(creates):
            note = (
                "goals_create: whether a similar goal was open was not judged, because the run has "
                f"more than {LOOKED_AT} goals"
            )
            yield Partition("objective", "", Objectives(), (), note=note)
        return
    for group in _groups(sorted(creates)):
        ops = [_create(known, text, o) for text in group for o in creates[text]]
        goals = {g for g, text in known.objective_of_goal.items() if text in group}
        ops += [
            op(o, str(o.args["goal_id"]), answer(o, OK))
            for o in known.of("goals_complete")
            if o.args.get("goal_id") in goals and (o.succeeded or answer(o, OK) is None)
        ]
        made = None
        if known.snapshot is not None:
            made = frozenset(goals & {str(row["id"]) for row in known.rows("goals")})
        yield partition("objective", group[0], Objectives(), ops, made)


def _matters(creates: Mapping[str, Sequence[Operation]]) -> bool:
    """Whether two calls asked for similar goals, as far as that is cheap to tell."""
    if len(creates) > COMPARED or any(len(calls) > 1 for calls in creates.values()):
        return True
    return any(len(group) > 1 for group in _groups(sorted(creates)))


def _malformed(text: str, o: Operation) -> bool:
    """Refused for what the arguments themselves say, whatever other goals there are."""
    scope = ("scope_breadth", "scope_duration", "scope_coordination", "estimated_complexity")
    given = [o.args[name] for name in scope if o.args.get(name) is not None]
    fine = text and all(isinstance(n, int | float) and 0 <= n <= 1 for n in given)
    return not fine and isinstance(answer(o, OK), Refusal)


def _create(known: Facts, text: str, o: Operation) -> Op:
    told = o.data.get("similar_goals")
    detail = frozenset(str(g.get("goal_id")) for g in told) if isinstance(told, list) else None
    return op(o, (known.id(o, "goal_id", "goals") or None, text), answer(o, OK, detail))


def _groups(texts: Sequence[str]) -> list[list[str]]:
    """Texts that are similar, or connected by similar ones, together."""
    groups: list[list[str]] = []
    for text in texts:
        near = [g for g in groups if any(similar(text, other) for other in g)]
        groups = [g for g in groups if g not in near]
        groups.append(sorted([text, *(other for g in near for other in g)]))
    return groups


def _open_goals(known: Facts) -> Iterator[Partition]:
    ops: dict[str, list[Op]] = defaultdict(list)
    for o in known.of("goals_mark_stale"):
        if o.args.get("session_id"):
            count = answer(o, o.data.get("goals_marked_stale"))
            ops[str(o.args["session_id"])].append(op(o, None, count))
    for o in known.of("goals_create"):
        gid = known.id(o, "goal_id", "goals")
        if gid and known.session_of_goal.get(gid) in ops:
            ops[known.session_of_goal[gid]].append(op(o, gid, answer(o, OK)))
    for o in known.of("goals_complete"):
        session = known.session_of_goal.get(str(o.args.get("goal_id")), "")
        if session in ops and (o.succeeded or answer(o, OK) is None):
            ops[session].append(op(o, str(o.args["goal_id"]), answer(o, OK)))
    for session in ops:
        yield partition("open-goals", session, OpenGoals(), ops[session])
