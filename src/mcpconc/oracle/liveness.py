"""Liveness: when a run is over, nothing of it is still at work, nothing is locked, everybody
answers.

Judged from notes of the history alone (`mcpconc.aftermath`, `mcpconc.vitals` and controlled
schedulers write them), so that a saved run is judged as it was. A run without them has nothing to
judge. Locks are left behind only where nobody is at work any more: who still works may still let
go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mcpconc.history import Event, History, Operation
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import collect, finding, masked, mentioning

__all__ = ["deadlocked", "liveness"]

NAME = "liveness"
SERVER = "server"
ANSWERED = "answered"

Edge = Mapping[str, Any]


def liveness(run: Run) -> Result:
    """Orphans (kind: the program), locks left on databases (the database), in git (the ref) and
    on files (the path), servers that answer nobody, and deadlocks (the files waited for)."""
    deadlocks = list(_deadlocks(run.history))
    findings = [*deadlocks, *_stuck(run.history)]
    unknown: list[str] = []
    for note in run.history.notes("aftermath"):
        if note.value["quiescent"]:
            findings += _databases(run, note)
            findings += _lock_files(run, note)
            # Who waits in a circle holds what the others wait for: that is told already.
            findings += [] if deadlocks else _held(run, note)
        else:
            findings += _orphans(run, note)
            unknown.append("locks were not looked for: something was still at work")
    return collect(NAME, findings, unknown)


# -- what is left ------------------------------------------------------------------------------


def _orphans(run: Run, note: Event) -> Iterator[Finding]:
    for stray in note.value.get("strays", ()):
        program = _program(stray["command"])
        yield finding(
            NAME,
            "orphan",
            program,
            summary=f"a process ({program}) goes on after the last call was answered",
            reason=(f"{_who(stray)} was still alive when everybody else had come to rest.",),
            calls=_calls_of(run.history, stray["agent"]),
            evidence=dict(stray),
        )


def _databases(run: Run, note: Event) -> Iterator[Finding]:
    for database, holders in note.value.get("databases", {}).items():
        who = ", ".join(_who(holder) for holder in holders) or "somebody who cannot be seen"
        yield finding(
            NAME,
            "database-locked",
            database,
            summary=f"database {database} stays locked although no call is at work",
            reason=(f"No write transaction can begin; the lock is held by {who}.",),
            calls=[call for h in holders for call in _calls_of(run.history, h["agent"])],
            evidence={"holders": list(holders)},
        )


def _lock_files(run: Run, note: Event) -> Iterator[Finding]:
    for name in note.value.get("lock_files", ()):
        ids = [part for part in name.removesuffix(".lock").split("/") if masked(part) != part]
        yield finding(
            NAME,
            "lock-file-left",
            masked(name.removesuffix(".lock")),
            summary=f"git's lock on {masked(name.removesuffix('.lock'))} was never removed",
            reason=(f".git/{name} is there and nobody is at work; git will not touch that ref.",),
            calls=[call for part in ids for call in mentioning(run, part)],
            evidence={"file": name},
        )


def _held(run: Run, note: Event) -> Iterator[Finding]:
    for held in note.value.get("held", ()):
        yield finding(
            NAME,
            "lock-held",
            masked(held["path"]),
            summary=f"the lock on {masked(held['path'])} is still held when no call is at work",
            reason=(f"{held['path']} is locked by {_who(held)}.",),
            calls=_calls_of(run.history, held["agent"]),
            evidence=dict(held),
        )


def _stuck(history: History) -> Iterator[Finding]:
    """Servers that left their last call unanswered and, asked again, said nothing either."""
    for note in history.notes("asked"):
        said = note.value["said"]
        silent = [what for what, answer in said.items() if answer != ANSWERED]
        if not silent:
            continue
        lost = [op.call for op in _given_up(history) if op.agent == note.agent]
        yield finding(
            NAME,
            "stuck",
            SERVER,
            summary=f"the server of agent {note.agent} does not answer any more",
            reason=(
                f"It left {', '.join(lost)} unanswered. Asked again after the run, with "
                f"{note.value['seconds']:g} s for each answer: {note.value['text']}.",
            ),
            calls=lost,
            evidence=dict(note.value),
        )


# -- who waits for whom ------------------------------------------------------------------------


def deadlocked(history: History) -> frozenset[str]:
    """Calls that were never answered because of a deadlock: their responses were not lost."""
    return frozenset(call for found in _deadlocks(history) for call in found.calls)


def _deadlocks(history: History) -> Iterator[Finding]:
    """Waits that never ended by themselves: first those that a controlled scheduler drove the
    target into, then those that were seen from outside."""
    met = list(_met(history))
    yield from met
    told = {found.fingerprint.kind for found in met}
    yield from (found for found in _seen(history) if found.fingerprint.kind not in told)


def _met(history: History) -> Iterator[Finding]:
    """Where nobody could go on under control, each waited for a lock that another held. It is a
    deadlock, whatever came of it: only somebody's time limit ends it."""
    for note in history.notes("deadlock"):
        edges: Sequence[Edge] = note.value["edges"]
        circle = _circle(edges) or list(edges)
        who = " and ".join(dict.fromkeys(_name(edge) for edge in circle))
        yield finding(
            NAME,
            "deadlock",
            " + ".join(sorted({masked(edge["path"]) for edge in circle})),
            summary=f"deadlock: calls of {who} wait for each other",
            reason=[f"{_words(edge)} It stood before: {edge['label']}" for edge in circle],
            calls=list(dict.fromkeys(edge["call"] for edge in circle)),
            evidence={"edges": circle},
        )


def _seen(history: History) -> Iterator[Finding]:
    """A circle of waits, or a wait of everybody who had a call in flight.

    A note of waits is no finding by itself. It becomes one where a call that was in flight
    then, of somebody who waited, was never answered.
    """
    given_up = _given_up(history)
    for note in history.notes("waits"):
        edges: Sequence[Edge] = note.value["edges"]
        waiting = {edge["agent"] for edge in edges}
        victims = [op for op in given_up if op.agent in waiting and op.invoked < note.index]
        if not victims:
            continue
        circle = _circle(edges)
        if circle:
            who = list(dict.fromkeys(_name(edge) for edge in circle))
            calls = f"calls of {who[0]}" if len(who) == 1 else " and ".join(who)
            what = f"{calls} wait for each other"
        elif _everybody_waits(history, note, edges, victims):
            what = "every call in flight waits for a lock"
        else:
            continue
        told = circle or list(edges)
        files = sorted({masked(edge["path"]) for edge in told})
        yield finding(
            NAME,
            "deadlock",
            " + ".join(files),
            summary=f"deadlock: {what}",
            reason=[_words(edge) for edge in told],
            calls=[op.call for op in victims],
            evidence={"edges": list(told)},
        )


def _circle(edges: Sequence[Edge]) -> list[Edge]:
    """Waits that lead back to where they began, or nothing. By process: two calls in one
    process that wait for each other are a process that waits for itself."""
    by_waiter: dict[int, list[Edge]] = {}
    for edge in edges:
        by_waiter.setdefault(edge["pid"], []).append(edge)

    def search(pid: int, path: list[Edge], seen: frozenset[int]) -> list[Edge]:
        for edge in by_waiter.get(pid, ()):
            for holder in edge["held_by"]:
                if holder["pid"] == start:
                    return [*path, edge]
                if holder["pid"] not in seen:
                    found = search(holder["pid"], [*path, edge], seen | {holder["pid"]})
                    if found:
                        return found
        return []

    for start in sorted(by_waiter):
        found = search(start, [], frozenset({start}))
        if found:
            # Two threads that wait for each other are two waits of one process.
            return found if len(found) > 1 else [e for e in by_waiter[start] if _on_itself(e)]
    return []


def _on_itself(edge: Edge) -> bool:
    return any(holder["pid"] == edge["pid"] for holder in edge["held_by"])


def _everybody_waits(
    history: History, note: Event, edges: Sequence[Edge], victims: Sequence[Operation]
) -> bool:
    """Whether there were as many waits as calls in flight, for each agent that had any."""
    waits: dict[int | None, int] = {}
    for edge in edges:
        waits[edge["agent"]] = waits.get(edge["agent"], 0) + 1
    ended = _ends(history)
    # A call that was given up is in flight still: nobody told the server.
    lost = {op.call for op in victims}
    flying: dict[int, int] = {}
    for op in history.operations:
        if op.invoked < note.index and (op.call in lost or ended.get(op.call, 0) > note.index):
            flying[op.agent] = flying.get(op.agent, 0) + 1
    return bool(flying) and all(waits.get(agent, 0) >= n for agent, n in flying.items())


# -- words -------------------------------------------------------------------------------------


def _given_up(history: History) -> list[Operation]:
    """Calls that the client, or the target for it, stopped waiting for, and whose answer did
    not come later."""
    late = {note.call for note in history.notes("late-response")}
    return [
        op
        for op in history.operations
        if not op.answered and "timeout" in op.why and op.call not in late
    ]


def _ends(history: History) -> dict[str, int]:
    started = {op.call: op.invoked for op in history.operations}
    return {
        e.call: e.index
        for e in history.events
        if e.call in started and e.index > started[e.call] and e.type.value != "note"
    }


def _calls_of(history: History, agent: int | None) -> Iterable[str]:
    return [op.call for op in history.operations if op.agent == agent]


def _name(process: Edge) -> str:
    if process["agent"] is None:
        return f"process {process['pid']}"
    return f"agent {process['agent']}"


def _who(process: Edge) -> str:
    command = f"`{process['command']}`" if process["command"] else "a process that is gone"
    if process["agent"] is None:
        return command
    return f"{command} of agent {process['agent']}"


def _words(edge: Edge) -> str:
    holders = " and ".join(_name(holder) for holder in edge["held_by"]) or "nobody alive"
    return f"{_name(edge)} waits for the lock on {edge['path']}, held by {holders}."


def _program(command: str) -> str:
    """The name of the program in a command line, without its version, path and arguments; of
    an interpreter, what it interprets."""
    words = command.split()
    if not words:
        return "process"
    name = _plain(words[0])
    if not re.fullmatch(r"python|node|ruby|perl|sh|bash|dash", name):
        return name
    for position, word in enumerate(words[1:], start=1):
        if word == "-m" and position + 1 < len(words):
            return words[position + 1]
        if word == "-c":
            break
        if not word.startswith("-"):
            return _plain(word)
    return name


def _plain(word: str) -> str:
    return re.sub(r"[-.\d]*$", "", word.rsplit("/", 1)[-1]) or "process"
