"""Refusal: bad input is refused promptly and clearly, changes nothing, and nobody else notices.

A program says which of its calls are bad input (`program.Bad`). For each of them:

* ``accepted``: the target took what the tool's own input schema forbids. What the schema allows
  it may take; such a call is then one like any other.
* ``unclear``: the refusal names neither the argument at fault nor its value, or shows the insides
  of the program instead.
* ``effect``: it was refused, and yet its token is in the state left, outside the log of refusals
  that the target declares. A refused call without a token is judged by the oracle `footprint`.
* ``slow``, ``no-answer``, ``server-died``: it was not refused promptly.
* ``noticed``: its token shows in what another agent was answered; ``delayed``: it held others up.

All comparisons of times are with other calls of the same run, by whole factors, and are told only
where no single moment in which the machine stood still explains them; what is slow without such
proof is `unknown`.

Models know nothing of what a call may do that should have been refused: `told` keeps their
verdicts apart from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.history import EventType, History, Operation, Outcome
from mcpconc.oracle.base import Finding, Label, Oracle, Result, Run
from mcpconc.oracle.common import NO_READ_BACK, Fate, as_json, collect, fate, finding
from mcpconc.program import Bad

__all__ = ["refusal", "told"]

NAME = "refusal"
FACTOR = 3.0
"""Times as long as anything comparable took, before a call counts as slow."""
ENOUGH = 4
"""Calls to compare with, at least."""
SHOWN = 40
"""Characters of a bad value that a refusal has to repeat at most."""

INSIDES = re.compile(
    r"Traceback \(most recent call last\)|\b(Type|Attribute|Key|Index|Overflow|Recursion|Unicode"
    r"\w*|Operational|Integrity|Interface|Programming|OS)Error\b|object has no attribute"
    r"|unsupported operand|not supported between instances|binding parameter|object is not "
    r"(iterable|subscriptable|callable)|must be real number|panicked at"
)
"""What a program says of itself, not of the input."""

CONFLICT = re.compile(r"\b(already|exists?|similar|duplicate|circular|stale|locked)\b", re.I)
"""A refusal for what is there, whatever the input."""

ABOUT_IT = frozenset({"empty-required", "blank-id", "other-id", "prefix-id", "odd-id", "huge-id"})
"""Badness that schemas do not forbid, and that hardly anything else can be wrong beside."""


def refusal(run: Run) -> Result:
    """Judge every call that is bad input; one finding per property, tool and kind of badness."""
    bad = {call.id: call.bad for call in run.program.calls() if call.bad is not None}
    if not bad:
        return Result(NAME)
    calls = [(op, bad[op.call]) for op in run.history.operations if op.call in bad]
    unknown: list[str] = []
    findings = [f for op, why in calls for f in (*_accepted(op, why), *_unclear(op, why))]
    refused = [(op, why) for op, why in calls if fate(op) is Fate.REFUSED]
    if any(op.token for op, _ in refused) and (run.before is None or run.after is None):
        unknown.append(NO_READ_BACK)
    else:
        findings += _effects(run, refused)
    findings += _noticed(run, refused)
    times = _Times.of(run.history, frozenset(bad))
    for found, undecided in (_prompt(run, calls, times), _delayed(run, calls, times)):
        findings += found
        unknown += undecided
    return collect(NAME, findings, unknown)


def told(oracle: Oracle, *, refused: bool) -> Oracle:
    """The oracle, not led astray by bad input.

    With `refused` false it does not see bad calls that were refused: to a model they never were,
    and whether they should have been is said here. Where a bad call was accepted that models do not
    understand, findings become `unknown`: they may follow from it.
    """

    def judged(run: Run) -> Result:
        bad = {call.id: call.bad for call in run.program.calls() if call.bad is not None}
        if not bad:
            return oracle(run)
        operations = run.history.operations
        beyond = [
            f"{op.tool} accepted that {bad[op.call].why[:SHOWN]}"
            for op in operations
            if op.call in bad and op.succeeded and not _understood(bad[op.call])
        ]
        if not refused:
            left = [op for op in operations if op.call not in bad or fate(op) is not Fate.REFUSED]
            run = replace(run, history=History(run.history.events, tuple(left)))
        result = oracle(run)
        if not beyond or not result.findings:
            return result
        line = f"{len(result.findings)} findings may follow from bad input: {'; '.join(beyond)}"
        return replace(result, findings=(), unknown=(*result.unknown, line))

    return judged


def _understood(bad: Bad) -> bool:
    return bad.plain and not bad.forbidden


# -- the answer --------------------------------------------------------------------------------


def _told(
    property: str, op: Operation, bad: Bad, summary: str, reason: Sequence[str], **evidence: Any
) -> Finding:
    return finding(
        NAME,
        property,
        op.tool,
        bad.kind,
        summary=summary,
        reason=[f"{op.call} ({op.tool}): {_cut(bad.why)}.", *reason],
        calls=(op.call,),
        evidence={"bad": bad.kind, "argument": bad.arg, "why": _cut(bad.why), **evidence},
    )


def _accepted(op: Operation, bad: Bad) -> Iterator[Finding]:
    if op.succeeded and bad.forbidden:
        one = _told(
            "accepted",
            op,
            bad,
            f"{op.tool} accepts what its own input schema forbids ({bad.kind})",
            (f"The schema does not allow it, and {op.call} was answered success.",),
            answer=_cut(json.dumps(dict(op.data), default=str)),
        )
        yield replace(one, label=Label.SEQUENTIAL)


def _unclear(op: Operation, bad: Bad) -> Iterator[Finding]:
    if fate(op) is not Fate.REFUSED:
        return
    message = str(op.data.get("message") or op.data.get("error") or op.text)
    # Behind a synopsis, which names every argument, command lines say what is wrong.
    said = re.split(r"\berror: ", message)[-1] if message.startswith("usage:") else message
    insides = INSIDES.search(said)
    if insides is not None:
        reason = f"It was told {_cut(said)!r}, which shows the insides of the program."
    elif not _must_say(said, bad, op) or _says(said, bad, op):
        return
    else:
        reason = f"It was told {_cut(said)!r}, which names neither the argument nor its value."
    one = _told(
        "unclear",
        op,
        bad,
        f"{op.tool} refuses bad input ({bad.kind}) without saying what is wrong",
        (reason,),
        message=_cut(message),
    )
    yield replace(one, label=Label.SEQUENTIAL)


def _must_say(said: str, bad: Bad, op: Operation) -> bool:
    """Whether the refusal has to be about the bad argument. What a target may well accept it may
    refuse for any ordinary reason: for what is there already, or for another argument."""
    if not bad.forbidden and bad.kind not in ABOUT_IT:
        return False
    others = (v for name, v in op.args.items() if name != bad.arg and isinstance(v, str))
    return not CONFLICT.search(said) and not any(len(v) > 3 and v in said for v in others)


def _says(said: str, bad: Bad, op: Operation) -> bool:
    """Whether a refusal names the argument, by its name or what it is the name of, or repeats
    its value (or the beginning of it)."""
    words = re.sub(r"[\W_]+", " ", said.lower())
    name = re.sub(r"[\W_]+", " ", bad.arg.lower()).strip()
    for known in {name, re.sub(r" (ids?|name|list)$", "", name)} - {""}:
        if re.search(rf"{re.escape(known.rstrip('s'))}s?\b", words):  # a subtask is a task
            return True
    value = op.args.get(bad.arg)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    shown = (text.strip()[:SHOWN], json.dumps(text)[1:SHOWN], repr(text)[:SHOWN])
    return any(form and form in said for form in shown)


# -- the state ---------------------------------------------------------------------------------


def _effects(run: Run, refused: Sequence[tuple[Operation, Bad]]) -> Iterator[Finding]:
    """Refused calls whose token is in what is left."""
    signed = [(op, why) for op, why in refused if op.token]
    if run.before is None or run.after is None or not signed:
        return
    left = list(_new(run))
    for op, why in signed:
        declared = run.spec.footprint(op) if run.spec is not None else None
        allowed = set(declared.changes) if declared is not None else set()
        places = {
            place: shown
            for key, place, text, shown in left
            if op.token in text and key not in allowed
        }
        if places:
            yield _told(
                "effect",
                op,
                why,
                f"{op.tool} was refused for bad input ({why.kind}), yet left something behind",
                (
                    f"It was answered {op.outcome}. {op.token!r}, which only {op.call} sent, is "
                    f"found in {', '.join(sorted(places))}.",
                ),
                found=places,
            )


def _new(run: Run) -> Iterator[tuple[str, str, str, Any]]:
    """What was not there before: (change key, place, its text, as evidence)."""
    assert run.before is not None
    assert run.after is not None
    for database, tables in run.after.tables.items():
        for table, rows in tables.items():
            old = run.before.rows(database, table)
            if rows == old:
                continue
            known = {json.dumps(row, sort_keys=True, default=str) for row in old}
            for row in rows:
                text = json.dumps(row, sort_keys=True, default=str)
                if text not in known:
                    yield f"rows:{database}.{table}", f"{database}.{table}", text, as_json(row)
    for ref, objects in run.after.notes.items():
        if objects != run.before.notes.get(ref):
            text = json.dumps(objects, default=str)
            yield f"ref:{ref}", ref, text, _cut(text)
    for path, text in run.after.files.items():
        if text != run.before.files.get(path):
            yield f"file:{path}", path, text, _cut(text)


def _noticed(run: Run, refused: Sequence[tuple[Operation, Bad]]) -> Iterator[Finding]:
    """Answers to other agents that hold the token of a refused call."""
    tokens = {op.token: (op, why) for op, why in refused if op.token}
    for other in run.history.operations if tokens else ():
        text = json.dumps([other.data, other.text], default=str)
        for token, (op, why) in tokens.items():
            if other.agent != op.agent and token in text:
                one = _told(
                    "noticed",
                    op,
                    why,
                    f"what {op.tool} refused as bad input ({why.kind}) shows at another agent",
                    (
                        f"{op.call} was refused, and {other.call} ({other.tool}) of agent "
                        f"{other.agent} was answered with its {token!r}.",
                    ),
                    answer=_cut(text),
                )
                yield replace(one, calls=(op.call, other.call))


# -- time --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Times:
    """Intervals of the concurrent calls: by event number, and in seconds. `good` are those that
    are answered and not bad; `clear` those of them that overlap no bad call."""

    span: Mapping[str, tuple[int, int]]
    seconds: Mapping[str, float]
    good: Sequence[Operation]
    clear: Sequence[Operation]
    fit: bool
    """Whether times of this run say anything."""
    late: float
    """Seconds by which the client itself was late at most: a megabyte takes time to send."""

    @classmethod
    def of(cls, history: History, bad: frozenset[str]) -> _Times:
        ends = {
            event.call: event
            for event in history.events
            if event.type in (EventType.OK, EventType.INFO)
        }
        ns = {event.index: event.ns for event in history.events}
        lane = [op for op in history.operations if op.call in ends]
        span = {op.call: (op.invoked, ends[op.call].index) for op in lane}
        seconds = {call: (ns[end] - ns[begin]) / 1e9 for call, (begin, end) in span.items()}
        spoilt = [span[call] for call in bad if call in span]
        good = [op for op in lane if op.answered and op.call not in bad]
        clear = [op for op in good if not any(_meet(span[op.call], s) for s in spoilt)]
        late = max((note.value.get("late", 0) for note in history.notes("resources")), default=0)
        return cls(span, seconds, good, clear, _fit(history), late)

    def inside(self, call: str) -> list[Operation]:
        """Good calls that were sent and answered while this one was under way."""
        begin, end = self.span[call]
        return [
            op for op in self.good if begin < self.span[op.call][0] and self.span[op.call][1] < end
        ]


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _fit(history: History) -> bool:
    """Whether nobody held calls back inside the target, and nothing was hurt."""
    held = {note.value["name"] for note in history.notes("schedule")} - {"free", "barrier"}
    hurt = any(history.notes(what) for what in ("fault", "server-died", "server-restarted"))
    return not (held or hurt)


_Found = tuple[list[Finding], list[str]]


def _prompt(run: Run, calls: Sequence[tuple[Operation, Bad]], times: _Times) -> _Found:
    """Bad calls that were refused late or not at all."""
    found: list[Finding] = []
    unknown: list[str] = []
    longest = max((times.seconds[op.call] for op in times.good), default=0.0)
    dead = {note.agent for note in run.history.notes("server-died")}
    hurt = {note.agent for note in run.history.notes("fault")}
    for op, why in calls:
        if op.call not in times.span:
            continue
        took = times.seconds[op.call]
        inside = times.inside(op.call)
        meanwhile = (
            f"Meanwhile {len(inside)} good calls were sent and answered, and of all good calls "
            f"none took longer than {longest:.2f} s.",
        )
        if op.outcome is None and op.why == "server-died":
            if op.agent in dead - hurt and _alone(op, times, run.history):
                summary = f"the server of {op.tool} ends over bad input ({why.kind})"
                found.append(_told("server-died", op, why, summary, ("It alone was in flight.",)))
        elif op.outcome is None and "time" in op.why:
            lost = [o for o in run.history.operations if o is not op and not o.answered]
            if len(inside) > 1 and all(_behind(o, inside, times) for o in lost):
                summary = f"{op.tool} does not answer bad input ({why.kind})"
                found.append(_told("no-answer", op, why, summary, meanwhile, seconds=took))
                if times.fit:
                    others = [o for o in lost if o.agent != op.agent]
                    found += _held_up(op, why, others, meanwhile)
            else:
                unknown.append(f"{op.call} ({op.tool}, {why.kind}) was not answered in time")
        elif fate(op) is Fate.REFUSED and times.fit and len(times.good) >= ENOUGH:
            if took <= FACTOR * (longest + times.late):
                continue
            if len(inside) > 1:
                summary = f"{op.tool} takes its time to refuse bad input ({why.kind})"
                reason = (f"The refusal took {took:.2f} s.", *meanwhile)
                found.append(_told("slow", op, why, summary, reason, seconds=round(took, 3)))
            else:
                unknown.append(f"{op.call} ({op.tool}, {why.kind}) was refused late")
    return found, unknown


def _behind(lost: Operation, inside: Sequence[Operation], times: _Times) -> bool:
    """Whether a call that was not answered in time was sent when a bad one had been under way for
    so long that one of the calls `inside` it was over."""
    return "time" in lost.why and any(times.span[o.call][1] < lost.invoked for o in inside)


def _held_up(
    op: Operation, why: Bad, others: Sequence[Operation], meanwhile: Sequence[str]
) -> Iterator[Finding]:
    """That other agents' calls behind a bad one were not answered in time, either."""
    if others:
        calls = ", ".join(f"{o.call} ({o.tool}) of agent {o.agent}" for o in others)
        told = _told(
            "delayed",
            op,
            why,
            f"bad input to {op.tool} ({why.kind}) holds up calls of other agents",
            (f"Sent behind it, {calls} got no answer in time, as it got none itself.", *meanwhile),
        )
        yield replace(told, calls=(op.call, *(o.call for o in others)))


def _alone(op: Operation, times: _Times, history: History) -> bool:
    """Whether its agent had nothing else in flight."""
    return not any(
        other.agent == op.agent
        and other is not op
        and other.call in times.span
        and _meet(times.span[other.call], times.span[op.call])
        for other in history.operations
    )


def _delayed(run: Run, calls: Sequence[tuple[Operation, Bad]], times: _Times) -> _Found:
    """Other agents' calls that took far longer beside bad input than anything did without.

    Allowed is three times what the slowest like call without bad input took, and as much again for
    everything beside it. It is told where two such calls did not overlap, so that no one moment
    explains both, and no call without bad input beside it was as slow.
    """
    if not times.fit or len(times.clear) < ENOUGH:
        return [], []
    floor = FACTOR * (max(times.seconds[op.call] for op in times.clear) + times.late)
    usual: dict[tuple[str, str], float] = {}
    for op in times.clear:
        usual[_key(op)] = max(usual.get(_key(op), 0.0), times.seconds[op.call])
    slow: list[tuple[Operation, Operation, Bad, float]] = []
    for op in times.good:
        by = [
            (one, why)
            for one, why in calls
            if one.agent != op.agent
            and one.call in times.span
            and _meet(times.span[one.call], times.span[op.call])
        ]
        if not by or _key(op) not in usual:
            continue
        beside = [
            o for o in times.good if o is not op and _meet(times.span[o.call], times.span[op.call])
        ]
        cost = sum(usual.get(_key(o), usual[_key(op)]) for o in beside)
        allowed = max(floor, FACTOR * (usual[_key(op)] + cost))
        if times.seconds[op.call] > allowed:
            one, why = max(by, key=lambda item: times.seconds[item[0].call])
            slow.append((op, one, why, allowed))
    for op, one, why, allowed in slow:
        twin = next((s for s in slow if s[0].precedes(op) or op.precedes(s[0])), None)
        if twin is None:
            continue
        took = {o.call: round(times.seconds[o.call], 3) for o in (op, twin[0])}
        told = _told(
            "delayed",
            one,
            why,
            f"bad input to {one.tool} ({why.kind}) holds up calls of other agents",
            (
                f"Beside it {op.call} ({op.tool}) of agent {op.agent} took {took[op.call]} s; "
                f"{allowed:.2f} s are explained by what else was at work.",
                f"So did {twin[0].call} ({twin[0].tool}) beside {twin[1].call} at another time, "
                "and no call without bad input beside it was that slow.",
            ),
            seconds=took,
            allowed=round(allowed, 3),
        )
        return [replace(told, calls=(one.call, op.call, twin[1].call, twin[0].call))], []
    return [], [
        f"{op.call} ({op.tool}) took long beside bad input to {one.tool}, once"
        for op, one, _, _ in slow
    ]


def _key(op: Operation) -> tuple[str, str]:
    return op.tool, op.outcome.value if op.outcome is not None else Outcome.GARBLED.value


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
