"""Calls and answers in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpconc.history import Event, EventType
from mcpconc.jsontext import compact
from mcpconc.report.names import OPAQUE, Names

__all__ = ["answered", "clip", "sent"]

_TELLING = (
    *("decision", "round", "phase", "status"),
    *("total_subtasks", "completed_subtasks", "completion_percentage", "goals_marked_stale"),
)
_OF_LISTED = ("status", "progress")
_SURROUNDINGS = ("project_id", "user_id", "parent_session_id")
_WHY = ("error", "message", "reason", "hint")


def clip(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def sent(tool: str, args: Mapping[str, Any], names: Names) -> str:
    """``tool(args)``: an id and texts that carry a token bare and first, the rest by name."""
    ids, texts, rest = [], [], []
    several = sum(isinstance(v, str) and bool(OPAQUE.fullmatch(v)) for v in args.values()) > 1
    for key, value in args.items():
        short = names.data(value)
        if isinstance(value, str) and OPAQUE.fullmatch(value):
            ids.append(f"{key}={short}" if several else str(short))
        elif isinstance(value, str) and short != value:
            texts.append(clip(compact(short), 40))
        elif isinstance(value, Mapping):
            rest.append(f"{key}={_record(short)}")
        else:
            rest.append(f"{key}={clip(compact(short), 40)}")
    return f"{tool}({', '.join([*ids, *texts, *rest])})"


def answered(event: Event | None, tool: str, args: Mapping[str, Any], names: Names) -> str:
    """What came back: ``ok g1``, ``refused: no such goal``, ``unknown: timed out``."""
    if event is None:
        return "unknown: the log ends here"
    if event.type is not EventType.OK:
        word = "unknown" if event.type is EventType.INFO else "never sent"
        why = event.value.get("why") or event.value.get("text") or ""
        return names.text(f"{word}: {why}" if why else word)
    data = event.value.get("data") or {}
    outcome = str(event.value.get("outcome", ""))
    if outcome == "success":
        return " ".join(["ok", *_told(event.call, tool, data, args, names)])
    why = next((data[key] for key in _WHY if isinstance(data.get(key), str)), "")
    why = why or str(event.value.get("text", ""))
    return names.text(f"{outcome}: {why}" if why else outcome)


def _told(
    call: str, tool: str, data: Mapping[str, Any], args: Mapping[str, Any], names: Names
) -> list[str]:
    """Ids that are new or what the tool is about, else a list of objects, else the fields that
    tell most."""
    known = {value for value in args.values() if isinstance(value, str)}
    known |= {value for key in _SURROUNDINGS if isinstance(value := data.get(key), str)}
    ids = [
        str(names.data(value))
        for key, value in data.items()
        if key.endswith("_id") and isinstance(value, str) and value not in known
        if OPAQUE.fullmatch(value) and (names.born.get(value) == call or key[:-3] in tool)
    ]
    fields = [f"{key} {names.data(data[key])}" for key in _TELLING if data.get(key) is not None]
    lists = [
        f"{key} [{', '.join(_object(key, item, names) for item in value)}]"
        for key, value in data.items()
        if isinstance(value, list) and (not value or isinstance(value[0], Mapping))
        if value or data.get(f"{key}_count") == 0
    ]
    return list(dict.fromkeys(ids))[:2] + (lists[:1] or fields[:2])


def _object(list_name: str, item: Any, names: Names) -> str:
    """An object of a list by its own id, else by any, with what tells how it is; else whole."""
    if not isinstance(item, Mapping):
        return clip(compact(names.data(item)), 16)
    own = (f"{list_name.removesuffix('s')}_id", "id")
    ids = sorted(
        (k not in own, v) for k, v in item.items() if isinstance(v, str) and OPAQUE.fullmatch(v)
    )
    if not ids:
        return _record(names.data(item))
    state = [str(item[key]) for key in _OF_LISTED if isinstance(item.get(key), str)]
    return " ".join([str(names.data(ids[0][1])), *state])


def _record(fields: Mapping[str, Any]) -> str:
    return clip("{" + ", ".join(f"{k} {compact(v)}" for k, v in fields.items()) + "}", 60)
