"""What calls cost inside the target, by tool, from what its processes count (``--probe observe``).

A process says what it counted, and the history says when which call was open; nothing in between
knows both. So a count belongs to a call only where no other can have caused it:

* A process that was started for a call belongs, whole, to the only call that its agent had open
  when it began; a child of such a process belongs to the call of its parent, however late it is.
* A server lives through all calls. What it counts comes in spells without a pause, and a spell
  belongs to the only call that its agent had open meanwhile.

What falls outside all calls (a server that starts; the harness asking whether a session is well)
is summed under `OUTSIDE`, what several calls of one agent could have caused under `UNSURE`, and so
is a process whose parent was gone before it began to work. A process that is killed takes with it
what it had not told yet, up to a second's worth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcpconc.history import Event, EventType, History

__all__ = ["COUNTED", "OUTSIDE", "UNSURE", "Cost", "Costs", "Report", "total"]

COUNTED = (
    *("statements", "connections", "transactions", "lock_waits", "lock_wait_ns", "sql_ns"),
    *("git", "git_ns", "processes", "process_ns", "files_written"),
    *("schema", "schema_ns", "connect_ns", "nested", "nested_ns", "imports", "import_ns"),
)
"""What a probe counts; names that end in ``_ns`` are nanoseconds. A statement of Python's sqlite3,
a transaction that takes the write lock, a wait for it; git and other processes that were started,
and for how long somebody waited for their end; files opened for writing. Of the statements, those
of the schema (a script counts as one); of the other processes, those that were not started by a
server; modules that processes other than servers loaded, and how long that took."""

OUTSIDE = "(outside calls)"
UNSURE = "(not certain)"

KEPT = 20_000
"""Calls of an agent, and processes, that are remembered for reports that come late."""
ORPHANED = 1
"""Whose child a process is when its parent has ended."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one process of the target counted between `since` and `until`. `parent` is its parent
    when it began, which was at `began`; `server` says that it is one and not started for a call.
    All times are nanoseconds of the machine's monotonic clock."""

    agent: int
    pid: int
    parent: int
    began: int
    server: bool
    since: int
    until: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """What the calls of one tool counted in all: `counts` by the names of `COUNTED`. They took
    `ns` nanoseconds from request to answer, those `answered` of `calls` that were."""

    tool: str
    counts: Mapping[str, int]
    calls: int = 0
    answered: int = 0
    ns: int = 0


@dataclass(slots=True)
class _Calls:
    """The calls of one agent in the order in which they were sent. `reach` is until when any of
    those up to here was open."""

    since: list[int] = field(default_factory=list)
    until: list[int] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    reach: list[int] = field(default_factory=list)

    def add(self, since: int, until: int, tool: str) -> None:
        if len(self.since) >= 2 * KEPT:
            for each in (self.since, self.until, self.tools, self.reach):
                del each[:KEPT]
        self.since.append(since)
        self.until.append(until)
        self.tools.append(tool)
        self.reach.append(max(until, self.reach[-1] if self.reach else 0))

    def open(self, since: int, until: int) -> str:
        """The tool of the only call that was open at any time between these moments."""
        found: list[str] = []
        at = bisect_right(self.since, until) - 1
        while at >= 0 and self.reach[at] >= since and len(found) < 2:
            if self.until[at] >= since:
                found.append(self.tools[at])
            at -= 1
        return UNSURE if len(found) > 1 else found[0] if found else OUTSIDE


@dataclass(slots=True)
class _Process:
    began: int
    parent: int
    server: bool
    last: int
    tool: str = ""
    """Where its counts belong, once that is known."""


class Costs:
    """Adds up what is `heard` from processes of one world and what is known of the calls that
    `ran` there, in the order of time."""

    def __init__(self) -> None:
        self._calls: dict[int, _Calls] = {}
        self._processes: dict[tuple[int, int], _Process] = {}
        self._heard: list[Report] = []
        self._due: list[Report] = []
        self._sums: dict[str, Counter[str]] = {}
        self._sent: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._ns: Counter[str] = Counter()

    def heard(self, report: Report) -> None:
        """Reports of one process come in their order, those of several in any."""
        key = report.agent, report.pid
        known = self._processes.get(key)
        if known is None or known.began != report.began:
            if len(self._processes) >= 2 * KEPT:
                for old in list(self._processes)[:KEPT]:
                    del self._processes[old]
            self._processes[key] = _Process(
                report.began, report.parent, report.server, report.until
            )
        else:
            known.last = max(known.last, report.until)
        self._heard.append(report)

    def ran(self, history: History) -> None:
        """A run is over, and nothing of it is at work any more: a call that was never answered
        counts as open up to here."""
        end = history.events[-1].ns if history.events else 0
        open_: dict[str, Event] = {}
        closed: list[tuple[Event, Event | None]] = []
        for event in history.events:
            if event.type is EventType.INVOKE:
                open_[event.call] = event
            elif event.type is not EventType.NOTE and event.call in open_:
                closed.append((open_.pop(event.call), event))
        closed += [(event, None) for event in open_.values()]
        for sent, back in sorted(closed, key=lambda pair: pair[0].index):
            if back is None or back.type is not EventType.FAIL:
                self._call(sent, back, end)
        # Whose those of this run are is said after the next one: the last of them may be on their
        # way, and a child ends, and reports, before its parent does.
        due, self._due, self._heard = self._due, self._heard, []
        self._settle(due)

    def table(self) -> tuple[Cost, ...]:
        """By tool, in order of their names; `OUTSIDE` and `UNSURE`, if there is any, come last."""
        due, self._due, self._heard = [*self._due, *self._heard], [], []
        self._settle(due)
        rest = [name for name in (OUTSIDE, UNSURE) if name in self._sums]
        return tuple(
            Cost(
                tool,
                dict(self._sums.get(tool, {})),
                self._sent[tool],
                self._answered[tool],
                self._ns[tool],
            )
            for tool in [*sorted(self._sent), *rest]
        )

    def _call(self, sent: Event, back: Event | None, end: int) -> None:
        tool = sent.value["tool"]
        answered = back is not None and back.type is EventType.OK
        until = back.ns if back is not None and answered else end
        self._calls.setdefault(sent.agent, _Calls()).add(sent.ns, until, tool)
        self._sent[tool] += 1
        if answered:
            self._answered[tool] += 1
            self._ns[tool] += until - sent.ns

    def _settle(self, due: list[Report]) -> None:
        for report in due:
            self._sums.setdefault(self._whose(report), Counter()).update(report.counts)

    def _whose(self, report: Report) -> str:
        calls = self._calls.get(report.agent, _Calls())
        if report.server:
            return calls.open(report.since, report.until)
        process = self._processes.get((report.agent, report.pid))
        if process is None or process.began != report.began:
            return UNSURE  # so long ago that another one has its number
        return self._tool(report.agent, process, calls)

    def _tool(self, agent: int, process: _Process, calls: _Calls) -> str:
        if not process.tool:
            parent = self._processes.get((agent, process.parent))
            if process.parent == ORPHANED:
                process.tool = UNSURE
            elif parent is None or parent.server or parent.began >= process.began:
                process.tool = calls.open(process.began, process.began)
            elif parent.last >= process.began:
                process.tool = self._tool(agent, parent, calls)
            else:
                # Its parent was killed, or it is another one that has the number of one that ended.
                process.tool = UNSURE
        return process.tool


def total(tables: Iterable[Iterable[Cost]]) -> tuple[Cost, ...]:
    """The sums of several tables."""
    found: dict[str, Cost] = {}
    for cost in (cost for table in tables for cost in table):
        before = found.get(cost.tool, Cost(cost.tool, {}))
        found[cost.tool] = Cost(
            cost.tool,
            dict(Counter(before.counts) + Counter(cost.counts)),
            before.calls + cost.calls,
            before.answered + cost.answered,
            before.ns + cost.ns,
        )
    return tuple(
        sorted(found.values(), key=lambda cost: (cost.tool in (OUTSIDE, UNSURE), cost.tool))
    )
