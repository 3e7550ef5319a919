"""What Empirica answers over MCP, understood.

The server wraps a command line: exit code 0 gives its standard output, any other gives
``{"ok": false, "error": <stderr or stdout>, "command": …}`` whose `error` is a text that may
hold JSON once, twice, behind log lines, or not at all. `isError` is never set, so everything
that follows is read off the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcpconc.history import Answer, Outcome

__all__ = ["HUMAN", "interpret"]

HUMAN = frozenset({"checkpoint_create", "checkpoint_load", "handoff_create"})
"""Tools that answer, at least in one case, with something else than one JSON document."""

TIMEOUT = "Command timed out ("
TRUNCATED = "⚠️ Truncated ("
UNASSESSED = "No CASCADE workflow assessments found"

CLASSES: tuple[tuple[str, str], ...] = (
    ("Similar goal(s) already exist", "similar-goal"),
    ("Failed to resolve issue", "issue-not-found"),
    ("Dependency goal not found", "goal-not-found"),
    ("Goal not found or not stale", "not-stale"),
    ("Goal not found", "goal-not-found"),
    ("not found — no row matches id", "goal-not-found"),
    ("No tasks found for goal", "no-tasks"),
    ("is already in_progress", "not-planned"),
    (", not planned.", "not-planned"),
    ("No subtask found matching", "task-not-found"),
    ("Refusing to resolve subtask", "task-not-found"),
    ("task_not_found", "task-not-found"),
    ("Dependency already exists", "dependency-exists"),
    ("Circular dependency", "dependency-cycle"),
    ("refusing to prefix-match", "goal-not-found"),
    ("No unknown matched", "unknown-not-found"),
    ("no finding matched", "artifact-not-found"),
    ("superseded_by ", "no-successor"),
    ("Invalid session_id", "session-not-found"),
    ("pre-validation failed", "session-not-found"),
    ("Missing required: session_id", "no-session"),
    ("could not auto-derive from active transaction", "no-session"),
    ("No session to mark stale", "no-session"),
    ("No active transaction", "no-session"),
    ("NOT NULL constraint failed: notes.session_id", "no-session"),
    ("No instances match capabilities", "no-instance"),
    ("dispatch failed", "not-sent"),
    ("Memory compact error", "no-input"),
    ("Invalid input", "invalid-input"),
    ("Config must include", "invalid-input"),
    ("must include 'vectors'", "invalid-input"),
    ("Vectors must be a dictionary", "invalid-input"),
    ("unsupported operand", "invalid-input"),
    ("must be between", "invalid-input"),
    ("must be 0.0-1.0", "invalid-input"),
    ("Missing required", "invalid-input"),
    ("Unrecognised top-level key", "invalid-input"),
    ("Unknown POSTFLIGHT key", "invalid-input"),
    ("Body must include", "invalid-input"),
    ("No deletions, edges", "invalid-input"),
    ("note text required", "invalid-input"),
    ("Run `empirica log-artifacts --schema`", "invalid-input"),
    ("Could not resolve session_id or project_id", "no-session"),
    ("Could not resolve project_id", "no-project"),
    ("Not in a git repository or no remote", "no-project"),
    ("Legacy mode requires", "invalid-input"),
    ("Unknown tool", "unknown-tool"),
)
"""A text that an error contains → its class, tried in this order. Ids and texts of the caller
never get into a class: classes are part of what fingerprints are made of."""


def interpret(tool: str, text: str) -> Answer:
    """Understand the text that `tool` answered.

    A refusal's data holds `error` (its class), `message` (its words), and what else the target
    says in it. `unknown` is set for the target's own time-out, and for a database that stayed
    locked: of the several transactions that most calls consist of, some may be committed.
    """
    if TRUNCATED in text[-80:]:
        return _garbled("truncated", text)
    try:
        documents, rest = _documents(text)
    except ValueError:
        return _garbled("not JSON", text)
    if len(documents) == 1 and not rest.strip():
        document = documents[0]
        if document.get("ok") is False and not _listed(tool, document):
            return _failed(document)
        if tool == "checkpoint_create":
            return _garbled("not a checkpoint", text)
        if tool == "checkpoint_load":
            return Answer(Outcome.SUCCESS, {**document, "found": True})
        return Answer(Outcome.SUCCESS, document)
    if tool == "handoff_create" and len(documents) == 2 and not rest.strip():
        return Answer(Outcome.SUCCESS, documents[0])
    if tool == "handoff_create" and UNASSESSED in text:
        return Answer(Outcome.REFUSED, {"error": "no-assessments", "message": UNASSESSED})
    if documents:
        return _garbled("more than one JSON document", text)
    if tool == "checkpoint_create":
        return _checkpoint(text)
    if tool == "checkpoint_load" and "No checkpoint found" in text:
        return Answer(Outcome.SUCCESS, {"found": False})
    return _garbled("not JSON", text)


def _listed(tool: str, document: Mapping[str, Any]) -> bool:
    """Whether an answer that says that it failed lists what it has done all the same."""
    return tool == "delete_artifacts" and bool(document.get("items")) and "deleted" in document


def _documents(text: str) -> tuple[list[Mapping[str, Any]], str]:
    """The JSON objects at the start of `text`, and what is left behind them.

    :raises ValueError: if something that begins like an object is not one.
    """
    decoder = json.JSONDecoder()
    found: list[Mapping[str, Any]] = []
    rest = text.lstrip()
    while rest.startswith("{"):
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].lstrip()
    return found, rest


def _failed(document: Mapping[str, Any]) -> Answer:
    """An answer with ``"ok": false``, unwrapped."""
    raw = document.get("error") or document.get("message") or ""
    error = raw if isinstance(raw, str) else json.dumps(raw)
    if "command" in document and _is_usage(error):
        return Answer(Outcome.USAGE, {"error": "usage", "message": _last_line(error)})
    if error.startswith(TIMEOUT):
        return Answer(
            Outcome.REFUSED, {"error": "time-out", "message": error}, unknown="target time-out"
        )
    inner = _inner(error) if "command" in document else document
    said = inner.get("error") or inner.get("message") or error
    message = said if isinstance(said, str) else json.dumps(said)
    if "database is locked" in error:
        return Answer(
            Outcome.REFUSED,
            {"error": "database-locked", "message": message},
            unknown="database locked",
        )
    data = {**inner, "error": _classify(f"{message}\n{inner.get('message', '')}\n{error}")}
    return Answer(Outcome.REFUSED, {**data, "message": message})


def _inner(error: str) -> Mapping[str, Any]:
    """The first JSON object inside the text of an error, or nothing."""
    start = error.find("{")
    if start < 0:
        return {}
    try:
        documents, _ = _documents(error[start:])
    except ValueError:
        return {}
    return documents[0] if documents else {}


def _classify(error: str) -> str:
    for part, name in CLASSES:
        if part in error:
            return name
    if "Session " in error and " not found" in error:
        return "session-not-found"
    return "error"


def _is_usage(error: str) -> bool:
    """argparse: a usage text, mostly after log lines, ending in ``…: error: …``."""
    return error.startswith("usage: ") or ("usage: " in error and ": error: " in error)


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1]


def _checkpoint(text: str) -> Answer:
    """checkpoint_create's text for people: ``ID:``, ``Phase:``, ``Round:`` lines."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.strip().partition(":")
        if colon:
            fields.setdefault(name.lower(), value.strip())
    if "Checkpoint created" not in text or not {"id", "phase", "round"} <= fields.keys():
        return _garbled("not a checkpoint", text)
    if not fields["round"].isdigit():
        return _garbled("not a checkpoint", text)
    return Answer(
        Outcome.SUCCESS,
        {
            "id": fields["id"],
            "phase": fields["phase"],
            "round": int(fields["round"]),
            "storage": fields.get("storage", ""),
        },
    )


def _garbled(why: str, text: str) -> Answer:
    return Answer(Outcome.GARBLED, {"error": why, "message": text[:200]})
