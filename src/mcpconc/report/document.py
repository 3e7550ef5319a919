"""The summary: one JSON document that every report of a stress run or a gate is made from.

Its schema, ``summary.schema.json``, is part of the distribution. Members may be added within a
version, so what reads a summary ignores members that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from mcpconc import jsontext
from mcpconc.errors import UsageError

__all__ = ["VERSION", "Json", "deviations", "read", "schema"]

Json = Mapping[str, Any]

VERSION = 1


def schema() -> dict[str, Any]:
    """The published JSON Schema of this version."""
    text = files("mcpconc").joinpath("summary.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def read(path: Path) -> dict[str, Any]:
    """A summary that was saved.

    :raises UsageError: if it cannot be read, is no summary, or is one of another version.
    """
    try:
        document = jsontext.parse(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    version = document.get("mcpconc_summary") if isinstance(document, dict) else None
    if version is None:
        raise UsageError(f"{path}: not a summary; `mcpconc_summary` is missing")
    if version != VERSION:
        raise UsageError(f"{path}: a summary of version {version}; this mcpconc reads {VERSION}")
    return dict(document)


def deviations(document: Json, *, strict: bool = False) -> list[str]:
    """Where a document is not as the schema says, a line each; with `strict` also members that
    the schema does not know. Needs ``jsonschema``."""
    from jsonschema import Draft202012Validator

    rules = _closed(schema()) if strict else schema()
    found = Draft202012Validator(rules).iter_errors(document)
    lines = (f"{error.json_path}: {error.message}" for error in found)
    return [*lines, *(_apart(document) if isinstance(document.get("phases"), list) else ())]


def _closed(rules: Any) -> Any:
    """The same schema, in which no object may have members that are not named."""
    if isinstance(rules, list):
        return [_closed(rule) for rule in rules]
    if not isinstance(rules, dict):
        return rules
    closed = {key: _closed(value) for key, value in rules.items()}
    if isinstance(rules.get("properties"), dict) and "required" in rules:
        closed["additionalProperties"] = False
    return closed


def _apart(document: Json) -> Iterator[str]:
    """What a JSON Schema cannot say: references inside the document lead somewhere."""
    known = {finding.get("fingerprint") for finding in document.get("findings", ())}
    for n, phase in enumerate(document["phases"]):
        for fingerprint in phase.get("violations", ()):
            if fingerprint not in known:
                yield f"$.phases[{n}].violations: no finding has the fingerprint {fingerprint}"
    for n, setting in enumerate(document.get("settings", ())):
        for index in setting.get("phases", ()):
            if not 0 <= index < len(document["phases"]):
                yield f"$.settings[{n}].phases: there is no phase {index}"
