"""Values and lists in words, for explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["both", "difference", "either", "refusal", "show", "valued"]

WIDTH = 160


def show(value: Any) -> str:
    """A value for people: lists in brackets, sets sorted, records in braces, long ones cut."""
    if record := _record(value):
        text = "{" + ", ".join(f"{name} {show(item)}" for name, item in record.items()) + "}"
    elif isinstance(value, frozenset | set):
        text = "{" + ", ".join(sorted(map(show, value))) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(show, value)) + "]"
    elif value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value) if isinstance(value, str) and value else repr(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _record(value: Any) -> dict[str, Any]:
    """Named values: fields of a dataclass that say something, a mapping, or pairs of a name and
    a number; empty for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: item for name, item in named.items() if item not in (None, "", ())}
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if isinstance(value, tuple) and all(isinstance(item, tuple) for item in value):
        pairs = [item for item in value if len(item) == 2 and isinstance(item[0], str)]
        if len(pairs) == len(value) and all(isinstance(n, int | float) for _, n in pairs):
            return dict(pairs)
    return {}


def valued(field: str, value: Any) -> str:
    """Field and value. What is called with a hyphen is our name for it, and nobody else's."""
    name = ".".join(part for part in field.split(".") if "-" not in part)
    if not name:
        return show(value)
    return f"no {name}" if value is None else f"{name} {show(value)}"


def difference(expected: Any, seen: Any) -> str:
    """What collections differ by, in brackets; nothing for other values, and where it is seen
    at once."""
    if not all(isinstance(value, tuple | list | set | frozenset) for value in (expected, seen)):
        return ""
    if not expected or not seen or not all(isinstance(i, str) for i in (*expected, *seen)):
        return ""
    missing = [item for item in expected if item not in seen]
    surplus = [item for item in seen if item not in expected]
    said = [f"{show(item)} is missing" for item in missing[:3]]
    said += [f"{show(item)} is one too many" for item in surplus[:3]]
    return f" ({', '.join(said)})" if said else ""


def refusal(field: str) -> str:
    """The class of refusal that a field stands for."""
    return field.rpartition(".")[2].removeprefix("spurious-")


def either(items: Sequence[str]) -> str:
    return " or ".join(f"({item})" if len(items) > 1 and ", " in item else item for item in items)


def both(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else list(items))
