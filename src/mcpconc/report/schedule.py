"""What happened inside the calls: who ran from which statement to which, in lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcpconc.program import Program
from mcpconc.schedule.points import unpack
from mcpconc.schedule.switches import Turn, turns

__all__ = ["inside", "switched"]

MOST = 12
"""Turns that are told; a minimal schedule has about four."""

LONGEST = 60
"""Characters of a statement, about."""

NAMED = 3
"""Steps that are named of those that a turn made between its first and its last."""

_CHANGES = re.compile(
    r"INSERT|UPDATE|DELETE|REPLACE|(?:CREATE|ALTER|DROP) "
    r"|git (?:notes \S+ )*(?:add|append|remove|update-ref|commit)"
    r"|opened to|rename |unlink ",
    re.I,
)
_BEGINS = re.compile(r"BEGIN(?: \w+)*: (?=\S)", re.I)
_SELECT = re.compile(r"(SELECT )(?!DISTINCT)(.*?)( FROM [\w.\"]+)(.*)", re.I)
_INSERT = re.compile(r"((?:INSERT|REPLACE)(?: OR \w+)? INTO [\w.\"]+)\s*\(.*", re.I)
_UPDATE = re.compile(r"(UPDATE [\w.\"]+ SET )(.*)", re.I)
_DELETE = re.compile(r"(DELETE FROM [\w.\"]+).*", re.I)
_OBJECT = re.compile(r"(?:INTO|UPDATE|FROM) ([\w.]+)|refs(?:/\w+){3}")
_FILES: Mapping[str, str] = {
    "open to truncate ": "truncating {}",
    "opened to truncate ": "writing {}",
    "open to append ": "opening {}",
    "opened to append ": "appending to {}",
    "open to write ": "opening {}",
    "opened to write ": "writing {}",
    "look for ": "looking for {}",
    "make directory ": "making {}",
    "unlink ": "removing {}",
    "rename ": "renaming {}",
    "read ": "reading {}",
    "list ": "listing {}",
    "lock ": "locking {}",
}


def switched(schedule: Sequence[Any]) -> int:
    """How often the schedule goes from one agent to another."""
    return max(len({turn.number for turn in turns(unpack(schedule).steps)}) - 1, 0)


def inside(schedule: Sequence[Any], program: Program | None = None, about: str = "") -> list[str]:
    """A line for each time that an agent went on: with what, and up to what. The statement that
    comes after "up to" was done; the next one was not before the agent went on.

    Calls have their ids where the `program` is given. In between, what touches an object that
    `about` speaks of is named first, then what changes anything.
    """
    recorded = unpack(schedule)
    ids = _ids(program)
    told: dict[int, list[str]] = {}
    for turn in turns(recorded.steps):
        line = told.setdefault(turn.number, [f"agent {turn.agent}"])
        line.append(("then " if len(line) > 1 else "") + _said(turn, ids, about))
    lines = [
        f"{'then ' if n else ''}{who} {', '.join(parts)}"
        for n, (who, *parts) in enumerate(told.values())
    ]
    if len(lines) > MOST:
        lines[MOST:] = [f"and {len(lines) - MOST} more turns"]
    return [
        *lines,
        *(f"agent {kill.agent} was killed before {_step(kill.label)}" for kill in recorded.kills),
    ]


def _ids(program: Program | None) -> Mapping[tuple[int, int], str]:
    """(agent, how many calls it had sent before) → id."""
    lanes = program.lanes if program is not None else ()
    return {(a, n): call.id for a, lane in enumerate(lanes) for n, call in enumerate(lane)}


def _said(turn: Turn, ids: Mapping[tuple[int, int], str], about: str) -> str:
    id = ids.get((turn.agent, turn.call), "")
    call = f"{id} {turn.tool}".strip()
    if not turn.labels:
        return f"ran all of {call}" if turn.ends else f"sent {call}"
    first, (last, in_last) = _step(turn.labels[0]), _last(turn.labels)
    if turn.begins and turn.ends:
        return f"ran all of {call}{_with(_named(turn.labels, about))}"
    if turn.begins:
        named = _with(_named(turn.labels[:-in_last], about))
        return f"ran {call}{f'{named},' if named else ''} up to {last}"
    if turn.ends:
        between = _named(turn.labels[1:], about, but=first)
        return f"went on with {_and([first, *between])} to the end of {id or turn.tool}"
    if len(turn.labels) == in_last:
        return f"went on with {last}, no further"
    between = _named(turn.labels[1:-in_last], about, but=first)
    return f"went on with {_and([first, *between])} up to {last}"


def _last(labels: Sequence[str]) -> tuple[str, int]:
    """The last step, and of how many labels it is made: a COMMIT is told with what it commits."""
    if labels[-1] == "COMMIT" and len(labels) > 1:
        return f"the `COMMIT` of {_step(labels[-2])}", 2
    return _step(labels[-1]), 1


def _with(steps: Sequence[str]) -> str:
    return f", with {_and(steps)}" if steps else ""


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _named(labels: Sequence[str], about: str, but: str = "") -> list[str]:
    """The steps that tell most, in the order in which they were done."""
    told: dict[str, int] = {}
    for label in labels:
        text = _BEGINS.sub("", label)
        rank = 0 if _speaks_of(text, about) else 1 if _CHANGES.match(text) else 2
        step = _step(label)
        if rank < 2 and step != but:
            told[step] = min(rank, told.get(step, rank))
    best = sorted(told, key=told.__getitem__)[:NAMED]
    return [step for step in told if step in best]


def _speaks_of(text: str, about: str) -> bool:
    """Whether a statement's table, or the place of a git ref, is spoken of."""
    names = [found[1] or found[0] for found in _OBJECT.finditer(text)]
    return any(re.search(rf"(?<![\w/]){re.escape(name)}(?![\w])", about) for name in names)


def _step(label: str) -> str:
    """A statement without what does not tell which one it is; what is done to a file, in words."""
    text = _BEGINS.sub("", " ".join(label.split()))
    for begin, words in _FILES.items():
        if text.startswith(begin):
            return words.format(text.removeprefix(begin))
    if found := _SELECT.match(text):
        text = f"{found[1]}…{found[3]}{' …' if found[4] else ''}"
    elif found := _INSERT.match(text):
        text = f"{found[1]} …"
    elif found := _UPDATE.match(text):
        text = found[1] + re.sub(r"\s+WHERE .*", " …", found[2], flags=re.I)
    elif found := _DELETE.match(text):
        text = f"{found[1]} …"
    return f"`{_short(text)}`"


def _short(text: str) -> str:
    """Cut after a whole word, or after a whole item of a list where it is in one."""
    if len(text) <= LONGEST:
        return text
    kept = text[: LONGEST - 1]
    end = max(kept.rfind(", ") + 1, kept.rfind(" "))
    return f"{kept[: end if end > LONGEST // 2 else len(kept)].rstrip()} …"
