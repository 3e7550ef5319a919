"""What a phase of a stress run recorded: calls with their times and how they ended, what the
processes used, what was found. Pure: figures of it are made in `mcpconc.stress.summary`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mcpconc.cuts import needs
from mcpconc.history import EventType, History, Operation, Outcome, Phase
from mcpconc.oracle.base import Finding, Judgement
from mcpconc.program import Program
from mcpconc.stress.figures import Block

__all__ = [
    "BLOCK",
    "End",
    "Group",
    "Load",
    "Measured",
    "Placement",
    "Storage",
    "Timed",
    "Use",
    "apart",
    "blocks",
    "in_flight",
    "met",
    "timed",
]

BLOCK = 5
"""Calls of one lane in a row that a bootstrap draws together."""


class Placement(StrEnum):
    """Where the agents of a phase are."""

    ONE = "one"
    """In one world."""
    OWN = "own"
    """Each in a world of its own, at the same time."""


class End(StrEnum):
    """How a call ended, as an operator counts it."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """As a model expects it."""
    SPURIOUS = "spurious"
    """Refused although no order of the calls explains that."""
    GARBLED = "garbled"
    """Answered outside the protocol."""
    TIMEOUT = "timeout"
    LOCKED = "locked"
    """The target says that its database is locked."""
    DIED = "died"

    @property
    def error(self) -> bool:
        return self not in (End.ANSWERED, End.REFUSED)


@dataclass(frozen=True, slots=True)
class Timed:
    """One call of the concurrent part. `program` counts the programs of the phase, `lane` is whose
    call it is. Times are in seconds of one clock."""

    program: int
    lane: int
    call: str
    tool: str
    end: End
    sent: float
    back: float

    @property
    def seconds(self) -> float:
        return self.back - self.sent

    @property
    def kind(self) -> str:
        """What it is compared with: a refusal costs less than the same tool's work."""
        return f"{self.tool} {self.end.value}"


@dataclass(frozen=True, slots=True)
class Use:
    """What the processes of one agent used: the server and all that it started. Memory, threads and
    descriptors are the most that was seen at once, everything else is a sum."""

    rss: int = 0
    server_rss: int = 0
    cpu: float = 0.0
    threads: int = 0
    descriptors: int = 0
    read: int = 0
    written: int = 0
    sent: int = 0
    received: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(
            rss=max(self.rss, other.rss),
            server_rss=max(self.server_rss, other.server_rss),
            cpu=self.cpu + other.cpu,
            threads=max(self.threads, other.threads),
            descriptors=max(self.descriptors, other.descriptors),
            read=self.read + other.read,
            written=self.written + other.written,
            sent=self.sent + other.sent,
            received=self.received + other.received,
        )


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes, and git objects, of worlds, or what they gained while lanes ran. A write-ahead log
    goes when its last reader does: `wal` is its greatest size."""

    database: int = 0
    wal: int = 0
    logs: int = 0
    git_objects: int = 0
    git: int = 0

    def __add__(self, other: Storage) -> Storage:
        return Storage(
            self.database + other.database,
            max(self.wal, other.wal),
            self.logs + other.logs,
            self.git_objects + other.git_objects,
            self.git + other.git,
        )

    def since(self, before: Storage, wal: int) -> Storage:
        """What was gained since then, and how large the write-ahead log became."""
        return Storage(
            self.database - before.database,
            wal,
            self.logs - before.logs,
            self.git_objects - before.git_objects,
            self.git - before.git,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the machine was in so many `seconds`: processor seconds that all cores were at work
    or waited for a disk, the busiest moment as a share, and the sampling's own processor time."""

    seconds: float = 0.0
    capacity: float = 0.0
    """Processor seconds that there were."""
    busy: float = 0.0
    waiting: float = 0.0
    most: float = 0.0
    load: float = 0.0
    memory: int = 0
    looks: int = 0
    looking: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.seconds + other.seconds,
            self.capacity + other.capacity,
            self.busy + other.busy,
            self.waiting + other.waiting,
            max(self.most, other.most),
            max(self.load, other.load),
            max(self.memory, other.memory),
            self.looks + other.looks,
            self.looking + other.looking,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """What one program gave in one placement, calls in the order in which they were sent. `growth`
    is, for each server, (its calls answered so far, its resident memory in bytes) after each of
    them."""

    calls: tuple[Timed, ...]
    seconds: float
    in_flight: tuple[float, int]
    uses: Mapping[int, Use] = field(default_factory=dict)
    growth: tuple[tuple[tuple[int, int], ...], ...] = ()
    storage: Storage | None = None
    load: Load = Load()
    heads: tuple[tuple[str, str, str, str], ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(slots=True)
class Measured:
    """A phase: one scenario with so many agents in one placement under one configuration. What the
    probe counted (`inside`) is there only in phases for that."""

    scenario: str
    agents: int
    placement: Placement
    settings: str
    observed: bool = False
    groups: list[Group] = field(default_factory=list)
    inside: tuple[Any, ...] | None = None

    @property
    def calls(self) -> list[Timed]:
        return [call for group in self.groups for call in group.calls]

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups)

    def thirds(self) -> tuple[list[Block], list[Block]]:
        """The calls of the first and of the last third of each program, as long as everybody was at
        work: neither the rush at the beginning, which is each lane's first call, nor what was sent
        when somebody had ended already."""
        early: list[Timed] = []
        late: list[Timed] = []
        for group in self.groups:
            last: dict[int, float] = {}
            rush: dict[int, str] = {}
            for call in group.calls:
                last[call.lane] = max(last.get(call.lane, 0.0), call.sent)
                rush.setdefault(call.lane, call.call)
            until = min(last.values(), default=0.0)
            steady = [c for c in group.calls if c.sent <= until and rush[c.lane] != c.call]
            third = len(steady) // 3
            early += steady[:third]
            late += steady[len(steady) - third :]
        return blocks(early), blocks(late)

    def paired(self, other: Measured) -> tuple[list[Block], list[Block]]:
        """The calls that both made and that ended alike, in the same blocks."""
        theirs = {(call.program, call.call): call for call in other.calls}
        both = [
            (call, match)
            for call in self.calls
            if (match := theirs.get((call.program, call.call))) and match.end is call.end
        ]
        return blocks(mine for mine, _ in both), blocks(match for _, match in both)


def blocks(calls: Iterable[Timed]) -> list[Block]:
    """Calls of one lane that follow each other, `BLOCK` at a time."""
    lanes: dict[tuple[int, int], list[Timed]] = {}
    for call in calls:
        lanes.setdefault((call.program, call.lane), []).append(call)
    return [
        [(call.kind, call.seconds) for call in lane[n : n + BLOCK]]
        for _, lane in sorted(lanes.items())
        for n in range(0, len(lane), BLOCK)
    ]


def in_flight(calls: Sequence[Timed]) -> tuple[float, int]:
    """Mean, over the moments at which one was sent, and greatest number of calls in flight."""
    # Of two at one moment the end comes first.
    moments = sorted([(call.sent, 1) for call in calls] + [(call.back, -1) for call in calls])
    now = total = most = 0
    for _, change in moments:
        now += change
        if change > 0:
            total, most = total + now, max(most, now)
    return (total / len(calls) if calls else 0.0), most


def met(calls: Sequence[Timed]) -> set[tuple[str, str]]:
    """Tools of which calls of different agents were in flight at the same time; (a, b), a <= b."""
    found: set[tuple[str, str]] = set()
    flying: list[Timed] = []
    for call in sorted(calls, key=lambda call: call.sent):
        flying = [other for other in flying if other.back > call.sent]
        for other in flying:
            if other.lane != call.lane:
                found.add((min(call.tool, other.tool), max(call.tool, other.tool)))
        flying.append(call)
    return found


def apart(program: Program) -> list[Program]:
    """The lanes of a program, each as a program of one agent; with it goes what it needs of the
    prefix, which that agent makes. Calls keep their ids and tokens."""
    found = []
    for lane in program.lanes:
        kept = needs(program, [call.id for call in lane])
        found.append(
            Program(
                agents=1,
                prefix=tuple(replace(c, agent=0) for c in program.prefix if c.id in kept),
                lanes=(tuple(replace(call, agent=0) for call in lane),),
                inflight=program.inflight,
            )
        )
    return found


def timed(
    history: History,
    judgement: Judgement,
    program: int,
    lanes: Mapping[int, int],
) -> tuple[Timed, ...]:
    """The calls of the concurrent part that were sent. A call that nobody answered took until it
    was given up. Lane n of the history is lane `lanes[n]` of the phase."""
    events = history.events
    ends = {event.call: event for event in events if event.type in (EventType.OK, EventType.INFO)}
    last = events[-1] if events else None
    wrong = spurious(judgement.findings)
    made = [op for op in history.operations if op.phase is Phase.LANE]
    found = []
    for op in made:
        end = ends.get(op.call, last)
        assert end is not None, "an operation has an event"
        found.append(
            Timed(
                program=program,
                lane=lanes[op.agent],
                call=op.call,
                tool=op.tool,
                end=ended(op, wrong),
                sent=events[op.invoked].ns / 1e9,
                back=end.ns / 1e9,
            )
        )
    return tuple(found)


def ended(op: Operation, wrong: frozenset[str]) -> End:
    """How this call ended; `wrong` are the calls that were refused although they must not be."""
    if op.outcome is None:
        if "locked" in op.why:
            return End.LOCKED
        return End.DIED if op.why in ("server-died", "log ends here") else End.TIMEOUT
    if op.outcome is Outcome.GARBLED:
        return End.GARBLED
    if op.outcome is Outcome.SUCCESS:
        return End.ANSWERED
    return End.SPURIOUS if op.call in wrong else End.REFUSED


def spurious(findings: Sequence[Finding]) -> frozenset[str]:
    """Calls that were refused although the model accepts them in every order that explains the
    rest: what the oracle of linearizability was stuck at."""
    return frozenset(
        stuck["call"]
        for finding in findings
        for stuck in finding.evidence.get("stuck", ())
        if stuck.get("seen") == "refused" and stuck.get("expected") == "accepted"
    )
