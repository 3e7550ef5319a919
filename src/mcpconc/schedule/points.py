"""Where threads of the target stand, and the steps that a scheduler made of that: plain data.

A *point* is what the probe reports before something that others could notice. A *step* is one
decision of a controlled scheduler: this thread goes on from here. A recorded schedule is a list
of plain JSON: first, where anything was let go unasked, ``["skip", [...]]`` with what (a list of
accesses per agent, see `mcpconc.schedule.conflicts`), then the steps in blocks
``[agent, thread, label, label, ...]``, one block as long as one thread is not interrupted, and
``["kill", agent, thread, label, occurrence]`` where a process was killed at a point instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpconc.errors import TraceError

__all__ = [
    "INVOKE",
    "Kill",
    "Point",
    "Recorded",
    "Step",
    "ThreadId",
    "named_anew",
    "pack",
    "unpack",
    "writes",
]

ThreadId = tuple[int, int]
"""Agent, and which of its threads: 0 is the client that sends the agent's calls, the others are
counted from 1 in the order in which they were heard of since the call was sent."""

INVOKE = "invoke"
"""First word of the label of a step that sends a call: ``invoke goals_create``."""

_NEEDS = frozenset({"", "read", "write", "ddl", "commit"})


@dataclass(frozen=True, slots=True)
class Point:
    """What a thread is about to do. `needs` is the lock that it needs next on `db`, `holds` the
    databases that its process has locked for writing, `reads` and `writes` the objects that are
    touched: ``sessions.db:goals``, ``ref:refs/notes/x``, ``file:ws/a.json``."""

    kind: str
    label: str
    db: str = ""
    needs: str = ""
    holds: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Point:
        """:raises ValueError: if it is not what a probe may say."""
        try:
            point = cls(
                kind=str(data["kind"]),
                label=str(data["label"]),
                db=str(data.get("db") or ""),
                needs=str(data.get("needs") or ""),
                holds=frozenset(map(str, data.get("holds") or ())),
                reads=frozenset(map(str, data.get("reads") or ())),
                writes=frozenset(map(str, data.get("writes") or ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a point: {data!r:.200}") from error
        if point.needs not in _NEEDS:
            raise ValueError(f"not a point: it needs {point.needs!r}")
        return point

    @property
    def lock(self) -> str:
        """The database whose write lock must be free before this thread can go on; or empty."""
        taken = self.needs in ("write", "ddl") and self.db not in self.holds
        return self.db if taken else ""

    @property
    def frees(self) -> str:
        """The lock that this thread lets go of here; or empty. A process that goes on to wait for
        a child after it says nothing more, and yet holds nothing."""
        unlocks = self.kind == "lock" and not self.needs
        return self.db if self.needs == "commit" or unlocks else ""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision as it was carried out. `reads` and `writes` are what it does to others,
    `lock` the write lock that it takes, `holds` those that it had; `options` are the threads
    that could have gone instead, itself included."""

    agent: int
    thread: int
    label: str
    tool: str = ""
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    lock: str = ""
    holds: frozenset[str] = frozenset()
    options: tuple[ThreadId, ...] = ()

    @property
    def id(self) -> ThreadId:
        return self.agent, self.thread


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the process when this thread stands at a point of this label for the
    `occurrence`-th time (from 1 on)."""

    agent: int
    thread: int
    label: str
    occurrence: int = 1

    def to_json(self) -> list[Any]:
        return ["kill", self.agent, self.thread, self.label, self.occurrence]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded schedule, read. `skip` is None where nothing was let go unasked."""

    steps: tuple[tuple[int, int, str], ...] = ()
    skip: tuple[frozenset[str], ...] | None = None
    kills: tuple[Kill, ...] = field(default=())


def writes(point: Point) -> bool:
    """Whether something is written here. In a transaction nothing is before its COMMIT, which is
    a point of its own."""
    return bool(point.writes) or point.needs == "commit"


def pack(
    steps: Iterable[tuple[int, int, str] | Kill], skip: Sequence[frozenset[str]] | None = None
) -> list[Any]:
    """The recorded form; `unpack` is its inverse, and equal schedules have one form."""
    packed: list[Any] = []
    if skip is not None:
        packed.append(["skip", [sorted(accesses) for accesses in skip]])
    last: ThreadId | None = None
    for step in steps:
        if isinstance(step, Kill):
            packed.append(step.to_json())
            last = None
        elif step[:2] == last:
            packed[-1].append(step[2])
        else:
            packed.append(list(step))
            last = step[:2]
    return packed


def named_anew(steps: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The same steps with threads counted in the order in which they come since their agent's
    last call was sent: equal for schedules that differ in names only."""
    names: dict[int, dict[int, int]] = {}
    named = []
    for agent, thread, label in steps:
        if label.startswith(f"{INVOKE} "):
            names[agent] = {}
        mine = names.setdefault(agent, {})
        named.append((agent, mine.setdefault(thread, len(mine)), label))
    return named


def unpack(schedule: Sequence[Any]) -> Recorded:
    """:raises TraceError: if it is no recorded schedule."""
    steps: list[tuple[int, int, str]] = []
    skip: tuple[frozenset[str], ...] | None = None
    kills: list[Kill] = []
    try:
        for entry in schedule:
            if entry[0] == "skip":
                skip = tuple(frozenset(map(str, accesses)) for accesses in entry[1])
            elif entry[0] == "kill":
                _, agent, thread, label, occurrence = entry
                kills.append(Kill(int(agent), int(thread), str(label), int(occurrence)))
            else:
                agent, thread, *labels = entry
                steps += [(int(agent), int(thread), str(label)) for label in labels]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise TraceError(f"not a schedule: {error}") from error
    return Recorded(tuple(steps), skip, tuple(kills))
