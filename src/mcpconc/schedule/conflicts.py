"""Which steps of the target matter to each other, and which orders of them are really different.

Two steps of different agents *conflict* if both touch one object and at least one writes it.
Orders that differ only in steps that do not conflict are one *interleaving* (Mazurkiewicz, 1977);
its name here is the digest of its Foata normal form. What a statement does inside a write
transaction nobody else sees before the COMMIT, so it counts there; what every write transaction
of a database has in common is the object ``lock:DATABASE``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcpconc.schedule.points import Point, Step

__all__ = [
    "Access",
    "Learned",
    "Pairs",
    "conflict",
    "effective",
    "interleaving",
    "levels",
    "matters",
    "touch",
]

LOCK = "lock:"
"""Begins the object that every write transaction of a database has in common."""


@dataclass(frozen=True, slots=True)
class Access:
    """Objects that are read and written. An object with ``*`` is a family: ``*`` stands for any
    text."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def __or__(self, other: Access) -> Access:
        return Access(self.reads | other.reads, self.writes | other.writes)

    @property
    def data(self) -> Access:
        """Without the locks: what would have another value in the other order."""
        if not any(name.startswith(LOCK) for name in self.writes):
            return self
        return Access(self.reads, frozenset(x for x in self.writes if not x.startswith(LOCK)))

    def marked(self) -> Iterable[str]:
        """``r:OBJECT`` and ``w:OBJECT``."""
        yield from (f"r:{name}" for name in self.reads)
        yield from (f"w:{name}" for name in self.writes)


def touch(some: frozenset[str], others: frozenset[str]) -> bool:
    """Whether any object of the one set is, or may be, one of the other."""
    if not some or not others:
        return False
    if not some.isdisjoint(others):
        return True
    return any(_meet(one, other) for one in some for other in others if "*" in one or "*" in other)


def _meet(one: str, other: str) -> bool:
    """Whether a name may fit both: what stands before the first ``*`` and after the last agrees."""
    if "*" not in one:
        one, other = other, one
    head, tail = one.partition("*")[0], one.rpartition("*")[2]
    if "*" not in other:
        return len(other) >= len(head + tail) and other.startswith(head) and other.endswith(tail)
    its_head, its_tail = other.partition("*")[0], other.rpartition("*")[2]
    return (head.startswith(its_head) or its_head.startswith(head)) and (
        tail.endswith(its_tail) or its_tail.endswith(tail)
    )


def conflict(one: Access | Step, other: Access | Step) -> bool:
    """Whether the order of the two can matter."""
    return (
        touch(one.writes, other.writes)
        or touch(one.writes, other.reads)
        or touch(one.reads, other.writes)
    )


def effective(point: Point, unseen: dict[str, set[str]]) -> Access:
    """What others can notice of the step from this point.

    `unseen` is, for each database, what the thread has written in its open transaction; it is
    brought up to date here, so this is to be called once for each point of a thread, in order.
    """
    for database in unseen.keys() - point.holds:  # over without a COMMIT that was seen
        del unseen[database]
    if not point.db or point.kind == "lock":  # the lock on a file is that file
        return Access(point.reads, point.writes)
    inside = f"{point.db}:"
    theirs = frozenset(name for name in point.writes if name.startswith(inside))
    lock = frozenset({f"{LOCK}{point.db}"})
    if point.lock:  # BEGIN, or a statement that is a transaction by itself
        begins = point.label.upper().startswith("BEGIN")
        return Access(point.reads, point.writes - theirs | lock if begins else point.writes | lock)
    if point.db not in point.holds:
        return Access(point.reads, point.writes)
    if point.needs == "commit":
        return Access(frozenset(), frozenset(unseen.pop(point.db, ())) | point.writes | lock)
    unseen.setdefault(point.db, set()).update(theirs)
    reads = frozenset(name for name in point.reads if not name.startswith(inside))
    return Access(reads, point.writes - theirs)


@dataclass(slots=True)
class Learned:
    """What calls of each tool were seen to touch."""

    tools: dict[str, Access] = field(default_factory=dict)
    statements: dict[str, dict[str, Access]] = field(default_factory=dict)
    """The same for each label, as far as others can notice it."""
    changes: Counter[str] = field(default_factory=Counter)
    """How often there was something new to know of a tool."""

    def add(self, tool: str, label: str, access: Access) -> None:
        _join(self.tools, tool, access)
        known = self.statements.setdefault(tool, {})
        if (access.reads or access.writes) and _join(known, label, access):
            self.changes[tool] += 1

    def harmless(self, lanes: Sequence[Iterable[str]]) -> tuple[frozenset[str], ...] | None:
        """For each agent, given the tools that it calls: the accesses (``r:OBJECT``,
        ``w:OBJECT``) that conflict with nothing that another agent's tools were seen to do.
        None where a tool was never seen: then everything may."""
        names = [frozenset(lane) for lane in lanes]
        if any(tool not in self.tools for lane in names for tool in lane):
            return None
        whole = []
        for lane in names:
            access = Access()
            for tool in sorted(lane):
                access |= self.tools[tool]
            whole.append(access)
        found = []
        for agent, mine in enumerate(whole):
            others = Access()
            for other, theirs in enumerate(whole):
                if other != agent:
                    others |= theirs
            both = others.reads | others.writes
            found.append(
                frozenset(
                    [f"r:{x}" for x in mine.reads if not touch(frozenset({x}), others.writes)]
                    + [f"w:{x}" for x in mine.writes if not touch(frozenset({x}), both)]
                )
            )
        return tuple(found)


def _join(known: dict[str, Access], name: str, access: Access) -> bool:
    """Add to what is known of this name; whether that was new."""
    before = known.setdefault(name, Access())
    if access.reads <= before.reads and access.writes <= before.writes:
        return False
    known[name] = before | access
    return True


def matters(access: Access, harmless: frozenset[str] | None, takes: bool) -> bool:
    """Whether a scheduler should choose here. What was never seen before matters. `takes` is
    whether a lock is taken here: letting go of one is nothing that others could do before."""
    marked = [name for name in access.marked() if takes or not name.startswith(f"w:{LOCK}")]
    return bool(marked) if harmless is None else any(name not in harmless for name in marked)


# -- which interleaving it was -----------------------------------------------------------------


def levels(steps: Sequence[Step]) -> list[int]:
    """For each step, the length of the longest chain of steps that ends in it, each of which
    must come after the one before: the levels of the Foata normal form."""
    depth: list[int] = []
    read: dict[str, int] = {}
    written: dict[str, int] = {}
    of_agent: dict[int, int] = {}

    def deepest(table: Mapping[str, int], name: str) -> int:
        if "*" not in name and not families:
            return table.get(name, 0)
        one = frozenset({name})
        return max((d for other, d in table.items() if touch(one, frozenset({other}))), default=0)

    families = any("*" in name for step in steps for name in (*step.reads, *step.writes))
    for step in steps:
        below = of_agent.get(step.agent, 0)
        for name in step.reads:
            below = max(below, deepest(written, name))
        for name in step.writes:
            below = max(below, deepest(written, name), deepest(read, name))
        here = below + 1
        depth.append(here)
        of_agent[step.agent] = here
        for name in step.reads:
            read[name] = max(read.get(name, 0), here)
        for name in step.writes:
            written[name] = max(written.get(name, 0), here)
    return depth


def interleaving(steps: Sequence[Step]) -> str:
    """Sixteen hex digits, the same for two runs if, and only if, one becomes the other by
    exchanging neighbouring steps of different agents that do not conflict."""
    normal = sorted(
        (depth, step.agent, step.thread, step.label)
        for depth, step in zip(levels(steps), steps, strict=True)
    )
    return hashlib.sha256(repr(normal).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Pairs:
    """Which conflicting pairs were seen in which order: (tool, label) before (tool, label) of
    another agent. `patience` is how many runs without a new one mean that there are no more to
    be had."""

    patience: int = 10
    seen: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    runs: int = 0
    barren: int = 0
    """Runs since the last new pair."""

    def add(self, steps: Sequence[Step]) -> frozenset[tuple[str, str, str, str]]:
        """Count one run; the pairs that no earlier run had in this order.

        A pair is a step and the latest one of another agent that conflicts with it: what an
        exchange of the two would change. Who came to a lock first changes nothing by itself.
        """
        found = set()
        data = [Access(step.reads, step.writes).data for step in steps]
        for at, step in enumerate(steps):
            for before in range(at - 1, -1, -1):
                earlier = steps[before]
                if earlier.agent != step.agent and conflict(data[before], data[at]):
                    found.add((earlier.tool, earlier.label, step.tool, step.label))
                    break
        new = frozenset(found - self.seen.keys())
        for pair in found:
            self.seen[pair] = self.seen.get(pair, 0) + 1
        self.runs += 1
        self.barren = 0 if new else self.barren + 1
        return new

    @property
    def exhausted(self) -> bool:
        """Whether the last `patience` runs brought nothing new."""
        return self.barren >= self.patience
