"""Dependencies between two goals, one partition per unordered pair of goals.

At most one dependency between two goals, in one direction; none of a goal on itself. Longer
cycles are not looked for, as documented.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import OK, Quirky, Refusal, answer, op, partition, refused
from mcpconc.model.empirica.facts import Facts

__all__ = ["Dependencies", "partitions"]

Pair = tuple[str, str]
State = frozenset[Pair]


@dataclass(frozen=True)
class Dependencies(Quirky):
    """State: the directed pairs (goal, depends on).

    ``goals_add_dependency``: input is (goal, depends on, both exist). A snapshot's output is
    the sorted tuple of pairs, each as often as there are rows.

    Quirk ``self-dependency``: a goal may depend on itself (trigger: the pair is one goal twice).
    A second one is then refused as a cycle.
    """

    name: str = "dependency"
    known_quirks: frozenset[str] = frozenset({"self-dependency"})

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            assert isinstance(op.output, tuple)
            return (state,) if op.output == tuple(sorted(state)) else _rows(state, op.output)
        assert isinstance(op.input, tuple)
        goal, other, exist = op.input
        due = "" if exist else "goal-not-found"
        if not due and (other, goal) in state:
            due = "dependency-cycle"
        elif not due and (goal, other) in state:
            due = "dependency-exists"
        elif not due and goal == other and "self-dependency" not in self.quirks:
            due = "dependency-cycle"
        reject = refused(op.output, due or "dependency-exists", bool(due))
        if reject is not None:
            return reject
        return (state if due or isinstance(op.output, Refusal) else state | {(goal, other)},)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        if field != "dependency-cycle":
            return ""
        return (
            "Dependencies must not form a cycle: no goal may depend on itself, be it by way of "
            "another one."
        )

    def describe(self, state: State) -> str:
        return ", ".join(f"{a} depends on {b}" for a, b in sorted(state)) or "none"


def _rows(state: State, rows: tuple[Pair, ...]) -> Reject:
    due, seen = Counter(state), Counter(rows)
    return Reject("rows", sorted((due - seen).elements()), sorted((seen - due).elements()))


def partitions(known: Facts) -> Iterator[Partition]:
    """One per pair of goals that a call named."""
    ops: dict[Pair, list[Op]] = defaultdict(list)
    for o in known.of("goals_add_dependency"):
        goal, other = str(o.args.get("goal_id")), str(o.args.get("depends_on"))
        exist = {goal, other} <= known.objective_of_goal.keys()
        pair = (min(goal, other), max(goal, other))
        ops[pair].append(op(o, (goal, other, exist), answer(o, OK)))
    rows: dict[Pair, list[Pair]] = defaultdict(list)
    for row in known.rows("goal_dependencies"):
        goal, other = str(row["goal_id"]), str(row["depends_on_goal_id"])
        rows[min(goal, other), max(goal, other)].append((goal, other))
    for pair in ops:
        left = tuple(sorted(rows[pair])) if known.snapshot is not None else None
        yield partition("dependency", "~".join(pair), Dependencies(), ops[pair], left)
