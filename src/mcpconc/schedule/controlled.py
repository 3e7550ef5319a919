"""Schedulers that decide at every point where the order of the target's threads can matter.

One thread of the target moves at a time. The next is let go when it is *known* that nothing
moves: each call that was sent has a thread at a point or has ended, and whatever else belongs to
it sleeps in the kernel, because it waits for a child that stands or for another thread. A thread
that needs a lock which another holds is not let go. Sending a call is a step like any other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from mcpconc.program import Program
from mcpconc.schedule import look
from mcpconc.schedule.base import Surroundings
from mcpconc.schedule.conflicts import interleaving, matters
from mcpconc.schedule.control import Control, Thread
from mcpconc.schedule.free import Free
from mcpconc.schedule.points import INVOKE, Kill, Point, Recorded, Step, ThreadId, pack
from mcpconc.schedule.policies import Policy
from mcpconc.schedule.standing import LOOKS, Lane, edge_of, patience, step_of

__all__ = ["GUESS", "Controlled", "Shape"]

Shape = tuple[tuple[str, ...], ...]
"""Tools by lane: programs of one shape have about as many steps."""

Doomed = Callable[[Kill, Point, bool | None], bool]

GUESS = 12
"""Steps of a call of which nothing is known."""

LOOKS_AT_LEAST = 2
"""Looks in a row that must find everything asleep: one takes its time, and who was asleep when it
was looked at may have been woken since by who was looked at later."""
AT_ONCE, SOON, SELDOM = 0.0005, 0.002, 0.02
"""Seconds between two looks: at first, where a thread of the call stands and where none does, and
while something is seen to be at work."""
UNSEEN = 0.5
"""Seconds that everything of a call must be asleep, nothing of it at a point, before it counts as
waiting for something that the probe does not show."""
UNREADY = 1.0
"""Seconds for which others of an agent may be at work while one of its threads stands."""
LEFT = 15.0
"""Seconds for which what calls left at work is controlled when all are answered."""
SILENT = 20.0
"""Seconds that a call may go on without standing anywhere before it is looked at why."""


class Controlled:
    """One run under a policy.

    `policy` makes it, given agents with calls, steps to be expected, and whether these were
    seen. After the run `schedule` is what was done, `steps` the same with what each step
    touched, `notes` what the history should hold.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        policy: Callable[[int, int, bool], Policy],
        recorded: Recorded | None = None,
        kills: Sequence[Kill] = (),
    ) -> None:
        self.name, self.seed = name, seed
        self.remarks: list[str] = []
        self.notes: list[tuple[str, Mapping[str, Any]]] = []
        self.steps: list[Step] = []
        self.passed: list[tuple[Kill, Point]] = []
        """Every point that was met, also where there was nothing to choose: where a process could
        be killed."""
        self.doomed: Doomed = lambda kill, point, due: bool(due)
        """Whether the process is killed at this point, where a kill may be due (None: none is)."""
        self._make = policy
        self._recorded = recorded
        self._kills = {*kills, *(recorded.kills if recorded else ())}
        self._done: list[tuple[int, int, str] | Kill] = []
        self._plain: Free | None = None
        self._lanes: dict[int, Lane] = {}
        self._tools: dict[str, str] = {}
        self._shape: Shape = ()
        self._skip: tuple[frozenset[str], ...] | None = None
        self._met: Counter[tuple[int, int, str]] = Counter()
        self._servers: frozenset[int] = frozenset()
        """Processes that were there before any call was sent."""
        self._strangers: frozenset[int] = frozenset()
        """All processes of which it is known whose they are."""
        self._went: ThreadId | None = None
        self._free = False

    @property
    def schedule(self) -> list[Any]:
        """What was done, as `mcpconc.schedule.points` records it."""
        return pack(self._done, self._skip) if self._done else []

    # -- what the runner tells -----------------------------------------------------------------

    def begin(self, program: Program, surroundings: Surroundings) -> None:
        if surroundings.control is None:
            self._plain = Free(self.seed)
            self._plain.begin(program, surroundings)
            self.remarks.append(f"no probe in the target: {self.name} behaves as free")
            return
        self._control: Control = surroundings.control
        self._shape = tuple(tuple(call.tool for call in lane) for lane in program.lanes)
        self._tools = {call.id: call.tool for lane in program.lanes for call in lane}
        self._lanes = {a: Lane(a, list(tools)) for a, tools in enumerate(self._shape) if tools}
        if program.inflight > 1:
            self.remarks.append(f"{self.name}: one call of each agent at a time")
        length = self._control.lengths.get(self._shape)
        guess = GUESS * len(self._tools)
        self._policy = self._make(len(self._lanes), length or guess, length is not None)
        if self._recorded is not None:
            self._skip = self._recorded.skip
        else:
            self._skip = self._control.learned.harmless(self._shape)
        self._servers = frozenset(thread.pid for thread in self._control.threads)
        self._strangers = look.everybody()
        self._control.take(self)

    async def admit(self, agent: int, call: str) -> None:
        if self._plain is not None:
            await self._plain.admit(agent, call)
            return
        go = anyio.Event()
        self._lanes[agent].waiting[call] = go
        self._control.poke()
        if self._free:
            go.set()
        await go.wait()

    def sent(self, agent: int, call: str) -> None:
        pass

    def ended(self, agent: int, call: str) -> None:
        lane = self._lanes.get(agent)
        if lane is None or lane.call != call:
            return
        self._back(lane)
        lane.call, lane.blocked, lane.last = "", "", None
        for thread in self._control.of(agent):
            # What a server did for this call is done; what else was begun for it may go on.
            if thread.point is None and thread.pid in self._servers:
                thread.ordinal, thread.released, thread.holds = 0, False, frozenset()
        lane.stirs()
        self._control.poke()

    def idle(self, agent: int) -> None:
        if agent in self._lanes:
            self._lanes[agent].over = True
            self._control.poke()

    async def finish(self) -> None:
        if self._plain is not None or not self._lanes:
            return
        try:
            # What calls left at work belongs to them.
            with anyio.move_on_after(LEFT) as limit:
                while not self._free and self._answered() and await self._decide():
                    pass
            if limit.cancelled_caught:
                self._say(f"what calls left at work ran freely after {LEFT:g} s")
        finally:
            self._end()

    def _end(self) -> None:
        complete = not self._free and self._answered()
        self._let_go()
        if complete:
            self._control.lengths[self._shape] = len(self.steps)
            self._control.pairs.add(self.steps)
        self.remarks += self._policy.remarks()
        self.notes += [("lock-expired", wait) for wait in self._control.expired]
        self.remarks += self._control.remarks
        self.remarks += [f"the probe: {fault}" for fault in self._control.faults]
        self._control.faults.clear()

    @property
    def interleaving(self) -> str:
        """See `mcpconc.schedule.conflicts.interleaving`; empty where nothing was controlled."""
        return interleaving(self.steps) if self.steps else ""

    # -- what the probe tells ------------------------------------------------------------------

    def stands(self, thread: Thread) -> None:
        lane = self._lanes.get(thread.agent)
        point = thread.point
        assert point is not None
        if lane is None or self._free:
            self._control.go(thread)
            return
        known = self._control.learned
        if lane.tool:
            known.add(lane.tool, point.label, thread.access)
        self._back(lane)
        if thread.ordinal:
            self._met[thread.agent, thread.ordinal, point.label] += 1
        else:
            lane.stirs()
            return
        if not self._matters(thread) and self._usual(thread) and not self._blocker(thread):
            self._release(thread)
            return
        lane.stirs()

    def gone(self, thread: Thread) -> None:
        lane = self._lanes.get(thread.agent)
        if lane is not None:
            if thread.pid not in self._servers:
                lane.orphans = True
                lane.quiet.clear()
            lane.stirs()

    def _back(self, lane: Lane) -> None:
        """It moves again, although it was found waiting."""
        if lane.blocked == look.NAP:
            made = len(self.steps) - lane.since
            how = "until it was given up" if not made else f"while {made} steps were made"
            self.remarks.append(
                f"agent {lane.agent} waited for a lock that could not be foreseen, {how}"
            )
        lane.blocked = ""

    # -- deciding ------------------------------------------------------------------------------

    async def serve(self) -> None:
        if self._plain is not None:
            await self._plain.serve()
            return
        while not self._free and not self._answered():
            if not await self._decide():
                await self._control.wait(SELDOM)

    async def _decide(self) -> bool:
        """Make one step; False if there is none to be made."""
        await self._settle()
        self._number()
        options = self._options()
        if not options or self._free:
            return not self._free and self._stuck()
        self._choose(options)
        return True

    def _answered(self) -> bool:
        """Whether no call is in flight or to come; what they began may go on."""
        return all(lane.over and not lane.call for lane in self._lanes.values())

    def _number(self) -> None:
        """Give those a number who were not heard of before. Only now, when nothing moves: who of
        two that moved together spoke first is chance, who was begun first is not."""
        for agent, lane in self._lanes.items():
            new = [t for t in self._control.of(agent) if t.point is not None and not t.ordinal]
            for thread in new:
                lane.heard += 1
                lane.pids.add(thread.pid)
                if thread.pid not in self._servers:
                    lane.beside.add(look.parent(thread.pid))
                thread.ordinal = lane.heard
                assert thread.point is not None
                self._met[agent, thread.ordinal, thread.point.label] += 1

    def _choose(self, options: list[tuple[Step, Thread | None]]) -> None:
        for _, thread in options:  # where nothing has to be chosen, in a fixed order
            if thread is not None and not self._matters(thread):
                self._release(thread)
                return
        steps = [step for step, _ in options]
        step, thread = options[self._policy.choose(steps, self._went)]
        self._went = step.id
        self.steps.append(step)
        self._done.append((step.agent, step.thread, step.label))
        if thread is not None:
            self._release(thread)
            return
        lane = self._lanes[step.agent]
        call = next(iter(lane.waiting))
        lane.heard = max((t.ordinal for t in self._control.of(step.agent)), default=0)
        lane.call, lane.tool, lane.last = call, self._tools[call], None
        lane.stirs()
        lane.waiting.pop(call).set()

    def _options(self) -> list[tuple[Step, Thread | None]]:
        """Who can go on, in order of agent and thread; each with the step that it would be."""
        found: list[tuple[Step, Thread | None]] = []
        for agent, lane in sorted(self._lanes.items()):
            if lane.waiting and not lane.call:
                tool = self._tools[next(iter(lane.waiting))]
                found.append((Step(agent, 0, f"{INVOKE} {tool}", tool), None))
            found += [
                (step_of(thread, lane.tool), thread)
                for thread in self._control.of(agent)
                if thread.point is not None and not self._blocker(thread)
            ]
        ids = tuple(step.id for step, _ in found)
        return [(replace(step, options=ids), thread) for step, thread in found]

    def _release(self, thread: Thread) -> None:
        """Let a thread go on, or kill it where it is to be killed here."""
        point = thread.point
        assert point is not None
        times = self._met[thread.agent, thread.ordinal, point.label]
        kill = Kill(thread.agent, thread.ordinal, point.label, times)
        due = self.doomed(kill, point, kill in self._kills if self._kills else None)
        if due:
            self._done.append(kill)
            self.notes.append(("fault", {"fault": "killed", "at": kill.to_json()}))
        self.passed.append((kill, point))
        lane = self._lanes[thread.agent]
        lane.last = thread
        lane.stirs()
        thread.family = look.family(thread.pid, thread.tid)
        self._control.go(thread, due, self._untold(thread, point))

    def _untold(self, thread: Thread, point: Point) -> frozenset[str]:
        """What a process that begins need not tell. Servers stay for other programs, and a kill
        may be wanted where nothing matters."""
        begins = point.kind == "start" and thread.pid not in self._servers
        if not begins or self._skip is None or self._kills or thread.agent >= len(self._skip):
            return frozenset()
        return self._skip[thread.agent]

    def _matters(self, thread: Thread) -> bool:
        skip = self._skip
        mine = skip[thread.agent] if skip is not None and thread.agent < len(skip) else None
        takes = thread.point is not None and bool(thread.point.lock)
        return matters(thread.access, mine, takes)

    def _blocker(self, thread: Thread) -> Thread | None:
        """Who holds the lock that this one needs. What a process holds is said of all of its
        threads, and it is one that stands, if any does, who has to go on first."""
        needed = thread.point.lock if thread.point is not None else ""
        if not needed:
            return None
        holders = [t for t in self._control.threads if t is not thread and needed in t.holds]
        return max(holders, key=lambda t: t.point is not None, default=None)

    def _stuck(self) -> bool:
        """Whether everybody waits for a lock; then it is noted, and all go on freely."""
        lanes = [lane for lane in self._lanes.values() if lane.call]
        if not lanes or any(lane.blocked for lane in lanes):
            return False
        edges = []
        for lane in lanes:
            for thread in self._control.of(lane.agent):
                holder = self._blocker(thread)
                if holder is not None and thread.point is not None:
                    # It may turn out to need nothing; or who held it may have let go of it since
                    # without a word (a connection that is closed) and wait for this very thread.
                    if thread.point.needs == "ddl" or holder.point is None:
                        self._release(thread)
                        return True
                    edges.append(edge_of(thread, holder, lane.call))
        if not edges:
            return False
        self.notes.append(("deadlock", {"edges": edges}))
        who = "; ".join(f"agent {e['agent']} at {e['label']!r} for {e['path']}" for e in edges)
        self.remarks.append(f"everybody waits for a lock: {who}; from here on it runs freely")
        self._let_go()
        return True

    def _let_go(self) -> None:
        self._free = True
        for lane in self._lanes.values():
            for event in lane.waiting.values():
                event.set()
        self._control.leave()

    # -- knowing that nothing moves ------------------------------------------------------------

    async def _settle(self) -> None:
        """Return when nothing moves."""
        pause = 0.0
        while not self._free:
            if any(lane.between for lane in self._lanes.values()):
                await self._control.wait(SELDOM)
                continue
            moving = [lane for lane in self._lanes.values() if not lane.rest]
            if not moving:
                return
            for lane in moving:
                lane.rest = self._usual_rest(lane)
            moving = [lane for lane in moving if not lane.rest]
            if not moving:
                return
            # Where somebody stands already, the others are about to come to rest.
            soon = AT_ONCE if all(self._stands(lane) for lane in moving) else SOON
            if await self._control.wait(max(pause, soon)):
                pause = 0.0
                continue
            busy = [self._looked(lane) for lane in moving]
            pause = min(max(pause, soon) * 1.5, SELDOM) if any(busy) else 0.0

    def _stands(self, lane: Lane) -> bool:
        return any(thread.point is not None for thread in self._control.of(lane.agent))

    def _usual(self, thread: Thread) -> bool:
        """Whether it stands where it was let go last, and nothing was begun in between."""
        lane = self._lanes[thread.agent]
        if lane.last is not thread:
            return False
        threads, before = thread.family
        now, children = look.family(thread.pid, thread.tid)
        return now == threads and children <= before

    def _usual_rest(self, lane: Lane) -> bool:
        mine = self._control.of(lane.agent)
        known = {t.pid for t in mine if not t.released or t.waits} | lane.quiet
        if lane.orphans or not lane.pids <= known:
            self._left_behind(lane)
            if not lane.pids <= known:
                return False
        if not lane.call:
            return not any(t.released and not t.waits for t in mine)
        if not any(t.point is not None for t in mine):
            return bool(lane.blocked)
        if any(t.released and not t.waits for t in mine):
            return False
        return lane.last is not None and lane.last.point is not None and self._usual(lane.last)

    def _left_behind(self, lane: Lane) -> None:
        """Find the agent's processes that lost their parent before they said anything."""
        if lane.orphans:
            lane.orphans = False
            now = look.everybody()
            new, self._strangers = now - self._strangers, now & self._strangers
            for pid in new:
                owner = self._lanes.get(look.of_agent(pid, str(self._control.address)))
                if owner is None:
                    continue  # nobody's yet, perhaps
                self._strangers |= {pid}
                if all(pid != thread.pid for thread in self._control.threads):
                    owner.pids.add(pid)
                    owner.stirs()
        lane.pids = {pid for pid in lane.pids if look.alive(pid)} - self._servers

    def _looked(self, lane: Lane) -> bool:
        """Look at the processes of an agent; whether any are at work."""
        mine = self._control.of(lane.agent)
        standing = [t for t in mine if t.point is not None]
        roots = {t.pid for t in mine} | lane.pids
        seen = look.look(roots, {t.tid for t in standing}, lane.beside - {os.getpid()})
        now = anyio.current_time()
        if lane.began < 0:
            lane.began = now
        if seen.runs:
            lane.asleep = 0
            if standing and now - lane.began > UNREADY:
                self._say(f"agent {lane.agent} was never quite at rest")
                lane.rest = True
            elif not standing and now - lane.began > SILENT:
                self._missing(lane, seen.pids)
            return True
        lane.calm = lane.calm if lane.asleep else now
        lane.asleep += 1
        if lane.asleep == LOOKS_AT_LEAST:
            lane.orphans = True
            known = set(lane.pids)
            self._left_behind(lane)
            if not lane.pids <= known:
                return True
        if standing or not lane.call:
            if lane.asleep >= (LOOKS if seen.naps else LOOKS_AT_LEAST):
                for thread in mine:
                    if thread.released:
                        thread.waits = "others of its call"
                lane.rest, lane.quiet = True, set(seen.pids)
        elif seen.locked:
            if lane.asleep >= LOOKS:
                self._blocks(lane, look.FILE_LOCK)
        elif seen.naps:
            needed = patience(lane.last)
            waits = lane.last is not None and lane.last.tid in seen.naps - seen.until
            if waits and lane.asleep >= needed > 0:
                self._blocks(lane, look.NAP)
        elif now - lane.calm > UNSEEN:
            self._say(f"agent {lane.agent} waits for something that the probe does not show")
            self._blocks(lane, "something unseen")
        return False

    def _blocks(self, lane: Lane, why: str) -> None:
        lane.blocked, lane.since, lane.rest = why, len(self.steps), True

    def _missing(self, lane: Lane, pids: Iterable[int]) -> None:
        """Name the processes of a call that should have said where they stand."""
        known = {t.pid for t in self._control.of(lane.agent)}
        for pid in sorted(set(pids) - known):
            if look.should_report(pid):
                self._say(f"a process of agent {lane.agent} said nothing: {look.command(pid)}")

    def _say(self, remark: str) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)
