"""Reading the settings of a gate: flags, file, profile, defaults, in this order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from mcpconc import tomltext
from mcpconc.errors import UsageError
from mcpconc.profiles import PROFILES
from mcpconc.settings import SECTIONS, Settings
from mcpconc.thresholds import parse

__all__ = ["load"]

FILES = ("mcpconc.toml", "pyproject.toml")
"""The first one of these that has settings counts alone."""

PATHS = ("baseline", "traces")
"""Keys that are paths from the file."""

Part = TypeVar("Part")


def load(
    here: Path,
    *,
    file: Path | None = None,
    profile: str = "",
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings for a gate that is started in `here`. `file` is read instead of what is there;
    `profile` and `flags` (names of keys with dots → values) go before what the file says.

    :raises UsageError: in one line, with the file and the key.
    """
    path, data = _read(here, file)
    data = dict(data)
    own = data.pop("profiles", {})
    if not isinstance(own, dict) or not all(isinstance(table, dict) for table in own.values()):
        raise UsageError(f"{path}: profiles must be tables, each begun with [profiles.NAME]")
    wanted = profile or data.pop("profile", Settings.__dataclass_fields__["profile"].default)
    data.pop("profile", None)
    settings = replace(_based(wanted, own, str(path)), profile=wanted)
    settings = _apply(settings, data, f"{path}: ")
    settings = _apply(settings, _nested(flags or {}), "")
    for text in settings.thresholds:
        parse(text)
    for name in own:  # also those that are not used must be right
        _based(name, own, str(path))
    return settings


def _read(here: Path, file: Path | None) -> tuple[Path, Mapping[str, Any]]:
    """The tables, with their paths made those from where we are."""
    for path in (here / name for name in FILES) if file is None else (file,):
        if not path.exists():
            if file is None:
                continue
            raise UsageError(f"{path}: there is no such file")
        data = tomltext.read(path)
        if path.name == "pyproject.toml":
            tool = data.get("tool", {})
            found: Any = tool.get("mcpconc") if isinstance(tool, dict) else None
            if found is None and file is None:
                continue
            if not isinstance(found, dict):
                raise UsageError(f"{path}: tool.mcpconc must be a table")
            data = found
        return path, _placed(data, path.parent)
    return here / FILES[0], {}


def _placed(data: dict[str, Any], directory: Path) -> dict[str, Any]:
    """With paths that begin at the file's directory."""

    def place(value: Any) -> Any:
        if isinstance(value, list):
            return [place(item) for item in value]
        return str(directory / value) if isinstance(value, str) and value else value

    return {name: place(value) if name in PATHS else value for name, value in data.items()}


def _based(name: Any, own: Mapping[str, Any], path: str, seen: tuple[str, ...] = ()) -> Settings:
    """The settings of a profile: one that ships, or one of the file's own."""
    if name in own and name not in seen:
        table = dict(own[name])
        base = table.pop("extends", "release")
        if "profile" in table:
            raise UsageError(f"{path}: profiles.{name}.profile is not a key; did you mean extends?")
        settings = _based(base, own, path, (*seen, name))
        return _apply(settings, table, f"{path}: profiles.{name}.")
    if name in PROFILES:
        return _apply(Settings(), _nested(PROFILES[name]), f"profile {name}: ")
    if name in seen:
        raise UsageError(f"{path}: profile {name} extends itself")
    known = [*PROFILES, *own]
    near = get_close_matches(str(name), known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"{path}: there is no profile {name!r}; {hint}")


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"fuzz.runs": 3}`` as tables."""
    tables: dict[str, Any] = {}
    for name, value in flat.items():
        *above, last = name.split(".")
        table = tables
        for part in above:
            table = table.setdefault(part, {})
        table[last] = list(value) if isinstance(value, tuple) else value
    return tables


def _apply(settings: Part, data: Mapping[str, Any], where: str) -> Part:
    """The settings with what a table says.

    :raises UsageError: for a key that there is not, or a value that it cannot have.
    """
    part: Any = settings
    known = {f.name: f for f in fields(part)}
    changes: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{where}{name} is not a key; {hint}")
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise UsageError(f"{where}{name} must be a table")
            changes[name] = _apply(getattr(part, name), value, f"{where}{name}.")
        else:
            changes[name] = _value(f"{where}{name}", known[name], value)
    changed: Part = replace(part, **changes)
    return changed


TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "whole number"),
    "float": ((int, float), "number"),
    "str": ((str,), "string"),
    "bool": ((bool,), "true or false"),
}


def _value(where: str, f: Any, value: Any) -> Any:
    """The value of a field, if it can have it."""
    kind, least, of = str(f.type), f.metadata["least"], f.metadata["of"]
    most = f.metadata["most"]
    many = kind.startswith("tuple")
    single = kind.removeprefix("tuple[").removesuffix(", ...]")
    types, spoken = TYPES[single]

    def right(item: Any) -> bool:
        return (
            type(item) in types
            and (least is None or item >= least)
            and (most is None or item <= most)
            and (not of or item in of)
        )

    items = value if many else [value]
    if not isinstance(items, list) or not all(map(right, items)):
        spoken = f"a list of {spoken}s" if many else spoken if single == "bool" else f"a {spoken}"
        spoken += (
            "" if least is None else f" from {least:g} {'on' if most is None else f'to {most:g}'}"
        )
        spoken = f"one of {', '.join(of)}" if of else spoken
        raise UsageError(f"{where} must be {spoken}, not {value!r}")
    if many:
        return tuple(value)
    return float(value) if single == "float" else value
