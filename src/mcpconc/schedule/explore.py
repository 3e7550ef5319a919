"""All interleavings of a short program, each but once: dynamic partial-order reduction.

Flanagan & Godefroid, POPL 2005, with sleep sets (Godefroid, 1996). The search runs nothing
itself: it asks for a run that follows a prefix of steps and is told what was really done. Steps
of one agent count as one thread, in the order in which they came. "All" is relative to the points
that the probe sees, and to the runs having followed what they were asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from mcpconc.schedule.conflicts import conflict, interleaving
from mcpconc.schedule.points import Step

__all__ = ["Explored", "Plan", "explore"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The next run: follow `prefix` (agent, thread, label), then go on with whoever is first
    among those who can and are not in `asleep`. An agent sleeps because what begins with its
    step (given) was run before; a conflicting step of another agent wakes it."""

    prefix: tuple[tuple[int, int, str], ...]
    asleep: Mapping[int, Step]


@dataclass(frozen=True, slots=True)
class Explored:
    """What came of it. `redundant` runs repeated an interleaving, `diverged` ones did not follow
    their prefix, `nested` ones had a choice among threads of one agent, and only one way of
    those was tried."""

    runs: int = 0
    interleavings: int = 0
    redundant: int = 0
    diverged: int = 0
    nested: int = 0

    @property
    def complete(self) -> bool:
        return not self.diverged and not self.nested

    def __str__(self) -> str:
        n = self.interleavings
        if self.complete:
            return f"all {n} interleavings explored, as far as the points seen go"
        why = [f"{self.diverged} runs diverged"] * bool(self.diverged)
        why += [f"{self.nested} runs had choices inside one agent"] * bool(self.nested)
        return f"{n} interleavings explored, not all: {' and '.join(why)}"


@dataclass(slots=True)
class _Node:
    """A state of the program: who could go on and with which step, who did, who is still to be
    tried, and what need not be."""

    options: frozenset[int]
    ahead: dict[int, Step]
    sleep: dict[int, Step]
    chosen: Step
    todo: set[int] = field(default_factory=set)
    done: dict[int, Step] = field(default_factory=dict)


def explore(limit: int = 10_000) -> Generator[Plan, Sequence[Step], Explored]:
    """Send the steps of each run for the `Plan` of it; returned is what was explored.

    At most `limit` runs are asked for; whoever stops the generator earlier knows less than all.
    """
    nodes: list[_Node] = []
    seen: set[str] = set()
    runs = redundant = diverged = nested = 0
    plan = Plan((), {})
    while runs < limit:
        steps = yield plan
        runs += 1
        followed = tuple((s.agent, s.thread, s.label) for s in steps[: len(plan.prefix)])
        if followed != plan.prefix:
            diverged += 1
        else:
            name = interleaving(steps)
            redundant += name in seen
            seen.add(name)
            nested += any(_nested(step) for step in steps)
            _grow(nodes, steps)
            _races(nodes, steps)
        found = _next(nodes)
        if found is None:
            break
        plan = found
    else:
        diverged += 1  # not all, and no run is to blame
    return Explored(runs, len(seen), redundant, diverged, nested)


def _nested(step: Step) -> bool:
    agents = [agent for agent, _ in step.options]
    return len(agents) != len(set(agents))


def _grow(nodes: list[_Node], steps: Sequence[Step]) -> None:
    """Add the states that this run was the first to reach."""
    ahead: list[dict[int, Step]] = [{}]
    for step in reversed(steps):
        ahead.append({**ahead[-1], step.agent: step})
    ahead.reverse()
    for at in range(len(nodes), len(steps)):
        step = steps[at]
        sleep = _after(nodes[-1]) if nodes else {}
        if step.agent in sleep:
            return  # nobody but sleepers could go on: from here on it was all run before
        options = frozenset(agent for agent, _ in step.options)
        nodes.append(_Node(options, ahead[at], sleep, step, {step.agent}))


def _after(node: _Node) -> dict[int, Step]:
    """Who sleeps when this node's chosen step is done."""
    return {
        agent: step
        for agent, step in (node.sleep | node.done).items()
        if agent != node.chosen.agent and _independent(step, node.chosen)
    }


def _independent(one: Step, other: Step) -> bool:
    return not (conflict(one, other) or (one.lock and one.lock == other.lock))


def _together(one: Step, other: Step) -> bool:
    """Whether there may be a state in which both can go: not if one waits for a lock that the
    other lets go of."""
    return not ((one.lock and one.lock in other.holds) or (other.lock and other.lock in one.holds))


def _races(nodes: list[_Node], steps: Sequence[Step]) -> None:
    """Wherever two steps of different agents depend on each other and nothing else orders
    them, see that the other order is tried too."""
    before: list[int] = []  # for each step, as a bit mask, the steps that must come before it
    last: dict[int, int] = {}
    for j, step in enumerate(steps):
        own = last.get(step.agent)
        clock = past = 0 if own is None else before[own] | 1 << own
        races = []
        for i in range(j - 1, -1, -1):
            other = steps[i]
            if other.agent == step.agent or _independent(other, step):
                continue
            if i < len(nodes) and not clock >> i & 1 and _together(other, step):
                races.append(i)
            past |= before[i] | 1 << i
        before.append(past)
        last[step.agent] = j
        for i in races:
            _reverse(nodes[i], i, j, steps, before)


def _reverse(node: _Node, i: int, j: int, steps: Sequence[Step], before: Sequence[int]) -> None:
    """Have somebody tried at `i` with whom a run can begin in which step `j` comes before step
    `i`, after what step `i` is not needed for (source sets: Abdulla et al., POPL 2014)."""
    rest = [k for k in range(i + 1, j) if not before[k] >> i & 1]
    mask = sum(1 << k for k in rest)
    ways = {steps[k].agent for k in rest if not before[k] & mask}
    if not before[j] & mask:
        ways.add(steps[j].agent)
    if not ways & node.options:
        node.todo |= node.options  # whoever it would be waits for a lock
    elif not ways & node.todo:
        node.todo.add(min(ways & node.options))


def _next(nodes: list[_Node]) -> Plan | None:
    """Leave the deepest state where nothing is left to be tried, and try what is left."""
    while nodes:
        node = nodes[-1]
        node.done[node.chosen.agent] = node.chosen
        left = node.todo & node.ahead.keys() - node.done.keys() - node.sleep.keys()
        if left:
            node.chosen = node.ahead[min(left)]
            prefix = tuple((n.chosen.agent, n.chosen.thread, n.chosen.label) for n in nodes)
            return Plan(prefix, _after(node))
        nodes.pop()
    return None
