"""Protocol: what went over the wire is MCP, one response to each request, and the right one.

After JSON-RPC 2.0 and the MCP specification (stdio transport: "The server MUST NOT write
anything to its stdout that is not a valid MCP message"). The tap of the driver notes what the
SDK would drop (``drive/tap.py`` lists the names); the rest shows in the calls themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from mcpconc.history import Event, EventType, History, Operation, Outcome
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import collect, finding
from mcpconc.oracle.liveness import deadlocked

__all__ = ["protocol"]

NAME = "protocol"
SERVER = "server"
"""The kind of object of what is not about one tool."""

TRACEBACK = "Traceback (most recent call last)"


def protocol(run: Run) -> Result:
    """One finding per property, tool (or "server") and field.

    A call without an answer is a finding only where the same server answered a later one, of
    the run or asked after it (note ``asked``), and `unknown` where nobody asked: a server that
    answers nobody is the liveness oracle's business.
    """
    history = run.history
    tools = {op.call: op.tool for op in history.operations}
    unanswered, undecided = _unanswered(history)
    findings = [
        *_noted(history, tools),
        *_deaths(history),
        *_answers(history, tools),
        *_tracebacks(history),
        *_crossed(history),
        *unanswered,
    ]
    return collect(NAME, findings, undecided)


def _noted(history: History, tools: dict[str, str]) -> Iterator[Finding]:
    """What the tap noticed."""
    for note in history.notes("garbage"):
        yield finding(
            NAME,
            "garbage",
            SERVER,
            "stdout",
            summary=f"the server of agent {note.agent} wrote to stdout what is not a message",
            reason=(f"stdout: {note.value['text']!r}",),
            evidence=dict(note.value),
        )
    for note in history.notes("malformed"):
        kind = tools.get(note.call, SERVER)
        yield finding(
            NAME,
            "malformed",
            kind,
            "result" if note.call else "message",
            summary=f"{_whose(note, kind)} is JSON but not of the shape that the protocol demands",
            reason=(f"received: {note.value['text']!r}",),
            calls=_calls(note),
            evidence=dict(note.value),
        )
    for note in history.notes("stray-response"):
        yield finding(
            NAME,
            "stray-response",
            SERVER,
            "id",
            summary=f"the server of agent {note.agent} answered a request that nobody made",
            reason=(f"request id {note.value['id']!r}: {note.value['text']!r}",),
            evidence=dict(note.value),
        )
    for note in history.notes("duplicate-response"):
        kind = tools.get(note.call, SERVER)
        yield finding(
            NAME,
            "duplicate-response",
            kind,
            "id",
            summary=f"{_whose(note, kind)} came twice",
            reason=(f"the second response says {note.value['text']!r}",),
            calls=_calls(note),
            evidence=dict(note.value),
        )


def _deaths(history: History) -> Iterator[Finding]:
    """Servers that ended without having been hurt."""
    hurt = {note.agent: note.index for note in reversed(history.notes("fault"))}
    for note in history.notes("server-died"):
        if hurt.get(note.agent, note.index) < note.index:
            continue
        open_calls = _open_at(history, note)
        yield finding(
            NAME,
            "server-died",
            SERVER,
            summary=f"the server of agent {note.agent} ended in the middle of the run",
            reason=(f"its last words on stderr: {note.value.get('stderr') or '(none)'}",),
            calls=open_calls,
            evidence=dict(note.value),
        )


def _open_at(history: History, note: Event) -> list[str]:
    return [
        op.call
        for op in history.operations
        if op.agent == note.agent
        and op.invoked < note.index
        and (op.returned is None or op.returned > note.index)
    ]


def _answers(history: History, tools: dict[str, str]) -> Iterator[Finding]:
    """Answers that are not of the form that the tool promises, and JSON-RPC errors."""
    malformed = {note.call for note in history.notes("malformed")}
    for event in history.events:
        if event.type is not EventType.OK or event.value["outcome"] != Outcome.GARBLED.value:
            continue
        tool, text = tools[event.call], str(event.value.get("text", ""))
        code = event.value.get("code")
        if code is not None:
            yield finding(
                NAME,
                "error-response",
                tool,
                str(code),
                summary=f"{tool} was answered with JSON-RPC error {code}",
                reason=(f"{event.call}: {text[:300]!r}",),
                calls=(event.call,),
                evidence={"code": code, "text": text[:300]},
            )
        elif event.call not in malformed:
            yield finding(
                NAME,
                "garbled",
                tool,
                "text",
                summary=f"the text that {tool} answered cannot be read as what it promises",
                reason=(f"{event.call}: {text[:300]!r}",),
                calls=(event.call,),
                evidence={"text": text[:300]},
            )


def _tracebacks(history: History) -> Iterator[Finding]:
    for op in history.operations:
        text = next((s for s in _strings([op.text, op.data]) if TRACEBACK in s), None)
        if text is not None:
            last = text.strip().splitlines()[-1].strip()
            yield finding(
                NAME,
                "traceback",
                op.tool,
                "text",
                summary=f"{op.tool} answered with a Python traceback",
                reason=(f"{op.call}: … {last[:300]}",),
                calls=(op.call,),
                evidence={"text": text[-1000:]},
            )


def _crossed(history: History) -> Iterator[Finding]:
    """Two concurrent calls of one session, each answered with the other's token and not with
    its own: the responses went to the wrong requests."""
    answered = [op for op in history.operations if op.answered and op.token]
    said = {op.call: json.dumps([op.data, op.text], default=str) for op in answered}
    for a, b in combinations(answered, 2):
        if a.agent != b.agent or a.token == b.token or a.precedes(b) or b.precedes(a):
            continue
        right = a.token in said[a.call] or b.token in said[b.call]
        if not right and a.token in said[b.call] and b.token in said[a.call]:
            first, second = sorted((a.tool, b.tool))
            yield finding(
                NAME,
                "crossed-response",
                first,
                "id",
                summary=f"{first} and {second}, in flight together, got each other's responses",
                reason=(
                    f"{a.call} sent {a.token} and was answered with {b.token}.",
                    f"{b.call} sent {b.token} and was answered with {a.token}.",
                ),
                calls=(a.call, b.call),
            )


def _unanswered(history: History) -> tuple[list[Finding], list[str]]:
    """Calls that the client gave up on: lost by a server that is at work, or undecided."""
    explained = {note.call for note in history.notes("late-response")} | deadlocked(history)
    findings, undecided = [], []
    for op in history.operations:
        if op.answered or op.why != "timeout" or op.call in explained:
            continue
        witness = _answered_later(history, op)
        asked = _asked(history, op)
        if witness is not None:
            calls: tuple[str, ...] = (op.call, witness.call)
            what = f"{witness.call} ({witness.tool})"
        elif asked is None:
            undecided.append(f"{op.tool} ({op.call}) was not answered, nor was any later call")
            continue
        elif asked:
            what, calls = f"{asked} (asked after the run)", (op.call,)
        else:
            continue
        findings.append(
            finding(
                NAME,
                "unanswered",
                op.tool,
                "response",
                summary=f"{op.tool} was never answered by a server that went on to answer others",
                reason=(
                    f"{op.call} had no response when the client gave up; {what}, sent later to "
                    "the same server, was answered.",
                ),
                calls=calls,
            )
        )
    return findings, undecided


def _answered_later(history: History, lost: Operation) -> Operation | None:
    ends = [
        note.index
        for what in ("server-died", "server-restarted")
        for note in history.notes(what)
        if note.agent == lost.agent and note.index > lost.invoked
    ]
    life = min(ends, default=len(history.events))
    for op in history.operations:
        if op.agent == lost.agent and lost.invoked < op.invoked and op.returned is not None:
            return op if op.returned < life else None
    return None


def _asked(history: History, lost: Operation) -> str | None:
    """The tool that the server of a lost call answered when it was asked again after the run;
    empty if it did not answer, None if it was not asked, or nothing but a ping: tools may hang
    while pings are answered."""
    for note in history.notes("asked"):
        if note.agent == lost.agent and note.index > lost.invoked:
            said: Mapping[str, str] = note.value["said"]
            if any(how != "answered" for how in said.values()):
                return ""
            return next((what for what in said if what != "ping"), None)
    return None


def _whose(note: Event, kind: str) -> str:
    if note.call:
        return f"the response to {kind}"
    return f"a message of the server of agent {note.agent}"


def _calls(note: Event) -> tuple[str, ...]:
    return (note.call,) if note.call else ()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
