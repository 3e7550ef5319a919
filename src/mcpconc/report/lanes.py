"""The picture of a run: one column per agent, one row per event.

    ── concurrent ──────────────────────────────────────────────────────────
      agent 0                            agent 2
    │ 0.2 goals_add_task(g1, "#0.2") ─┐ │
    │                                 │ │ 2.0 goals_add_task(g1, "#2.0") ─┐
    │     → ok t1                     ┘ │                                 │
    │                                   │     → ok t2                     ┘

Rows are in the order of the history, so brackets that overlap are calls that overlapped. A
bracket that ends in ``?`` is a call of which nobody knows whether or when it took effect.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mcpconc.history import Event, EventType, History, Phase
from mcpconc.program import Program
from mcpconc.report.names import Names, name_things
from mcpconc.report.wording import answered, clip, sent

__all__ = ["lanes"]

NARROWEST = 24
MARGIN = "  "
WEATHER = {
    "fault": "fault",
    "healed": "healed",
    "fault-missed": "no fault",
    "fault-failed": "fault failed",
}
"""Notes of a nemesis, and how they are told."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call that was sent: its two events, and the slot of its lane that it occupies."""

    start: Event
    end: Event | None
    slot: int = 0

    @property
    def id(self) -> str:
        return self.start.call

    @property
    def phase(self) -> str:
        return str(self.start.value.get("phase", Phase.LANE))

    def sent(self, names: Names) -> str:
        return f"{self.id} {sent(self.start.value['tool'], self.start.value['args'], names)}"

    def answered(self, names: Names) -> str:
        return answered(self.end, self.start.value["tool"], self.start.value["args"], names)


def lanes(
    program: Program,
    history: History,
    names: Names | None = None,
    *,
    focus: Collection[str] = (),
    width: int = 100,
    rows: int = 60,
) -> str:
    """Draw a run in at most `width` columns and about `rows` rows a part. Where that is too
    little, the calls of `focus` and then the earliest ones are kept, and the picture says how
    many calls it hides."""
    names = names or name_things(program, history)
    calls = _pair(history)
    several = len({call.start.agent for call in calls}) > 1
    parts = {phase: [call for call in calls if call.phase == phase] for phase in Phase}
    out: list[str] = []
    if parts[Phase.PREFIX]:
        out.append(_rule("before" if parts[Phase.LANE] else "one call at a time", width))
        out += _sequential(parts[Phase.PREFIX], history, names, focus, width, rows, several)
    if parts[Phase.LANE]:
        out.append(_rule("concurrent", width))
        out += _concurrent(parts[Phase.LANE], history, names, focus, width, rows)
    if parts[Phase.SUFFIX]:
        out.append(_rule("read-back", width))
        out += _sequential(parts[Phase.SUFFIX], history, names, focus, width, rows, several)
    if not calls:
        out.append(_rule("nothing was sent", width))
    out.append(_rule("", width))
    return "\n".join(line.rstrip() for line in out)


def _pair(history: History) -> list[_Call]:
    """The calls in order of invocation."""
    ends = {
        e.call: e
        for e in history.events
        if e.type in (EventType.OK, EventType.INFO, EventType.FAIL)
    }
    return [_Call(e, ends.get(e.call)) for e in history.events if e.type is EventType.INVOKE]


def _slotted(calls: Sequence[_Call]) -> list[_Call]:
    """The same calls; those of one lane that overlap have different slots."""
    slotted: list[_Call] = []
    for call in calls:
        busy = {
            other.slot
            for other in slotted
            if other.start.agent == call.start.agent
            and (other.end is None or other.end.index > call.start.index)
        }
        slot = next(n for n in range(len(busy) + 1) if n not in busy)
        slotted.append(replace(call, slot=slot))
    return slotted


def _rule(title: str, width: int) -> str:
    head = f"{MARGIN}── {title} " if title else f"{MARGIN}──"
    return head.ljust(width, "─")


def _kept(calls: Sequence[_Call], focus: Collection[str], most: int) -> set[str]:
    """The ids of the calls to show: those in focus first, then the earliest."""
    ranked = sorted(calls, key=lambda call: call.id not in focus)
    return {call.id for call in ranked[:most]}


def _sequential(
    calls: Sequence[_Call],
    history: History,
    names: Names,
    focus: Collection[str],
    width: int,
    rows: int,
    several: bool,
) -> Iterator[str]:
    """One line a call; with `several` agents in the run each says whose it is. Faults that come
    between two calls, or in one, stand before the next."""
    kept = _kept(calls, focus, rows)
    hidden = 0
    first = min(call.start.index for call in calls)
    faults = [e for e in history.events if e.value.get("what") in WEATHER and e.index > first]
    for call in calls:
        while faults and faults[0].index < call.start.index:
            yield MARGIN * 2 + clip(_noted(faults.pop(0), names), width - 2 * len(MARGIN))
        if call.id not in kept:
            hidden += 1
            continue
        if hidden:
            yield _hidden(hidden)
            hidden = 0
        who = f"agent {call.start.agent}: " if several else ""
        room = width - 2 * len(MARGIN)
        answer = f" → {call.answered(names)}"
        line = clip(f"{who}{call.sent(names)}", max(room - len(answer), room // 2))
        yield MARGIN * 2 + clip(line + answer, room)
    if hidden:
        yield _hidden(hidden)
    over = max(call.end.index if call.end else call.start.index for call in calls)
    for event in faults:
        if event.index <= over:
            yield MARGIN * 2 + clip(_noted(event, names), width - 2 * len(MARGIN))


def _hidden(count: int) -> str:
    return f"{MARGIN}⋮ {count} call{'s' if count > 1 else ''} hidden"


def _concurrent(
    calls: Sequence[_Call],
    history: History,
    names: Names,
    focus: Collection[str],
    width: int,
    rows: int,
) -> Iterator[str]:
    """Blocks of as many lanes as fit side by side; a lane without calls is not drawn."""
    agents = sorted({call.start.agent for call in calls})
    most = max(1, (width - len(MARGIN)) // NARROWEST)
    blocks = -(-len(agents) // most) or 1
    size = -(-len(agents) // blocks) or 1
    kept = _kept(calls, focus, max(1, rows // 2))
    for first in range(0, len(agents), size):
        shown = agents[first : first + size]
        here = [call for call in calls if call.start.agent in shown]
        hidden = [call.start.index for call in here if call.id not in kept]
        # Where lanes are in several blocks, only numbered rows tell what happened before what.
        block = _Block(
            _slotted([call for call in here if call.id in kept]), shown, names, width, blocks > 1
        )
        yield from block.draw(history, hidden)


class _Block:
    """Lanes side by side: how wide they are, and which brackets are open."""

    def __init__(
        self,
        calls: Sequence[_Call],
        agents: Sequence[int],
        names: Names,
        width: int,
        numbered: bool,
    ) -> None:
        self.calls = calls
        self.agents = agents
        self.names = names
        self.width = width
        self.numbered = numbered
        self.gutter = 5 if numbered else len(MARGIN)
        self.open: dict[int, set[int]] = {agent: set() for agent in agents}
        self.slots = dict.fromkeys(agents, 1)
        for call in calls:
            self.slots[call.start.agent] = max(self.slots[call.start.agent], call.slot + 1)
        wanted = max((len(self._said(c, b)) for c in calls for b in (True, False)), default=0)
        self.column = min(
            (width - self.gutter) // max(len(agents), 1),
            max(NARROWEST, wanted + 6 + 2 * max(self.slots.values())),
        )

    def draw(self, history: History, hidden: Sequence[int]) -> Iterator[str]:
        """The rows. `hidden` are the indices of the invocations that are not to be drawn."""
        starts = {call.start.index: call for call in self.calls}
        ends = {call.end.index: call for call in self.calls if call.end is not None}
        waiting = sorted(hidden)
        yield " " * self.gutter + "".join(self._head(a).ljust(self.column) for a in self.agents)
        for event in history.events:
            call = starts.get(event.index) or ends.get(event.index)
            noted = event.type is EventType.NOTE and (
                event.agent in self.agents or event.value.get("what") in WEATHER
            )
            if call is None and not noted:
                continue
            passed = [index for index in waiting if index < event.index]
            if passed:
                yield _hidden(len(passed))
                waiting = waiting[len(passed) :]
            yield from self._event(call, event) if call else [self._note(event)]
        if waiting:
            yield _hidden(len(waiting))
        unanswered = [call.id for call in self.calls if call.end is None]
        if unanswered:
            yield self._row(None)
            yield f"{' ' * self.gutter}the log ends here; not answered yet: {' '.join(unanswered)}"

    def _head(self, agent: int) -> str:
        most = self.slots[agent]
        return f"  agent {agent}" + (f" ({most} at a time)" if most > 1 else "")

    def _event(self, call: _Call, event: Event) -> Iterator[str]:
        agent = call.start.agent
        begins = event is call.start
        lines = self._wrapped(call, begins)
        # The bracket opens on the first line of a call and closes on the last of its answer.
        turn = 0 if begins else len(lines) - 1
        mark = "┐" if begins else "┘" if event.type is EventType.OK else "?"
        for number, line in enumerate(lines):
            index = event.index if number == 0 else None
            yield self._row(index, agent, line, call.slot, mark if number == turn else "")
            if begins:
                self.open[agent].add(call.slot)
        if not begins:
            self.open[agent].discard(call.slot)

    def _row(
        self, index: int | None, agent: int = -1, text: str = "", slot: int = 0, mark: str = ""
    ) -> str:
        cells = []
        for lane in self.agents:
            said, end = (text, mark) if lane == agent else ("", "")
            edge = _brackets(self.open[lane], slot, self.slots[lane], end)
            cells.append(f"│ {said.ljust(self._room(lane))}{edge}".ljust(self.column))
        numbered = self.numbered and index is not None
        return (f"{index:>3}  " if numbered else " " * self.gutter) + "".join(cells)

    def _note(self, event: Event) -> str:
        return " " * self.gutter + clip(_noted(event, self.names), self.width - self.gutter)

    def _room(self, agent: int) -> int:
        return self.column - 4 - 2 * self.slots[agent]

    def _said(self, call: _Call, begins: bool) -> str:
        if begins:
            return call.sent(self.names)
        # With one call in flight the bracket says which call is answered.
        several = self.slots[call.start.agent] > 1
        return f"{call.id if several else ' ' * len(call.id)} → {call.answered(self.names)}"

    def _wrapped(self, call: _Call, begins: bool) -> list[str]:
        indent = " " * (len(call.id) + 1)
        return textwrap.wrap(
            self._said(call, begins),
            self._room(call.start.agent) - 1,
            subsequent_indent=indent if begins else indent + "  ",
            max_lines=3,
            placeholder=" …",
            break_on_hyphens=False,
        )


def _noted(event: Event, names: Names) -> str:
    what, said = event.value.get("what", ""), event.value.get("text", "")
    if what in WEATHER:  # what is done to everybody, or says to whom it is done
        return names.text(f"! {WEATHER[what]}: {said or event.value.get('fault', '')}")
    return names.text(f"! {what} of {event.call or f'agent {event.agent}'}: {said}")


def _brackets(open_slots: Collection[int], slot: int, slots: int, mark: str) -> str:
    """The right edge of a cell: two characters a slot. `mark` is drawn in `slot`, with a line
    that leads to it across the slots before."""
    text = ""
    for n in range(slots):
        is_open = n in open_slots
        if mark and n < slot:
            text += "─┼" if is_open else "──"
        elif mark and n == slot:
            text += f"─{mark}" if mark == "┐" or slot else f" {mark}"
        else:
            text += " │" if is_open else "  "
    return text
