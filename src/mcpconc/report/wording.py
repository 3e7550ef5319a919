"""Calls and answers in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpconc.history import Event, EventType
from mcpconc.jsontext import compact
from mcpconc.report.names import OPAQUE, Names

__all__ = ["answered", "clip", "sent"]

_TELLING = ("decision", "round", "phase", "status", "completion_percentage")
_SURROUNDINGS = ("project_id", "user_id", "parent_session_id")
_WHY = ("error", "message", "reason", "hint")


def clip(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def sent(tool: str, args: Mapping[str, Any], names: Names) -> str:
    """``tool(args)``: ids and texts that carry a token bare, the rest by name."""
    parts = []
    for key, value in args.items():
        short = names.data(value)
        if isinstance(value, str) and OPAQUE.fullmatch(value):
            parts.append(str(short))
        elif isinstance(value, str) and short != value:
            parts.append(clip(compact(short), 40))
        elif isinstance(value, Mapping):
            parts.append(f"{key}={_record(short)}")
        else:
            parts.append(f"{key}={clip(compact(short), 40)}")
    return f"{tool}({', '.join(parts)})"


def answered(event: Event | None, args: Mapping[str, Any], names: Names) -> str:
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
        return " ".join(["ok", *_told(data, args, names)])
    why = next((data[key] for key in _WHY if isinstance(data.get(key), str)), "")
    why = why or str(event.value.get("text", ""))
    return names.text(f"{outcome}: {why}" if why else outcome)


def _told(data: Mapping[str, Any], args: Mapping[str, Any], names: Names) -> list[str]:
    """The new ids, else the lists of objects, else the fields that tell most."""
    known = {value for value in args.values() if isinstance(value, str)}
    known |= {value for key in _SURROUNDINGS if isinstance(value := data.get(key), str)}
    ids = [
        str(names.data(value))
        for key, value in data.items()
        if key.endswith("_id") and isinstance(value, str) and value not in known
        if OPAQUE.fullmatch(value)
    ]
    fields = [f"{key} {names.data(data[key])}" for key in _TELLING if data.get(key) is not None]
    lists = [
        f"{key} [{', '.join(_object(item, names) for item in value)}]"
        for key, value in data.items()
        if isinstance(value, list) and (not value or isinstance(value[0], Mapping))
        if value or data.get(f"{key}_count") == 0
    ]
    return list(dict.fromkeys(ids))[:2] + (lists[:1] or fields[:2])


def _object(item: Any, names: Names) -> str:
    if not isinstance(item, Mapping):
        return clip(compact(names.data(item)), 16)
    ids = [v for k, v in item.items() if (k == "id" or k.endswith("_id")) and isinstance(v, str)]
    return str(names.data(ids[0])) if ids else _record(names.data(item))


def _record(fields: Mapping[str, Any]) -> str:
    return clip("{" + ", ".join(f"{k} {compact(v)}" for k, v in fields.items()) + "}", 40)
