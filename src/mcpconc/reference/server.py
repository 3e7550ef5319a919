"""The MCP server: tools in worker threads, one text per call."""

from __future__ import annotations

import json
import sqlite3
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_thread
from mcp.server.lowlevel import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

from mcpconc.reference import (
    artifacts,
    assessments,
    dependencies,
    epistemics,
    goals,
    process,
    sessions,
    switch,
    tasks,
)
from mcpconc.reference.store import Refused, Store
from mcpconc.reference.switch import planted
from mcpconc.reference.wire import stdio

__all__ = ["INPUTS", "TOOLS", "answer", "serve"]

THREADS = 256
"""Calls that one server works on at once."""

LONG = 600
"""Characters of an answer that a planted bug takes for long."""

TOOLS: Mapping[str, Callable[[Store, dict[str, Any]], dict[str, Any] | str]] = {
    **sessions.TOOLS,
    **assessments.TOOLS,
    **epistemics.TOOLS,
    **artifacts.TOOLS,
    **goals.TOOLS,
    **tasks.TOOLS,
    **dependencies.TOOLS,
}

_ASSESSMENT = ("vectors", "session_id reasoning")
INPUTS: Mapping[str, tuple[str, str]] = {
    "session_create": ("", "ai_id project_id subject"),
    "submit_preflight_assessment": _ASSESSMENT,
    "submit_check_assessment": _ASSESSMENT,
    "submit_postflight_assessment": _ASSESSMENT,
    "epistemics_list": ("", "session_id"),
    "assess_state": ("", "session_id"),
    "checkpoint_create": ("session_id phase", "metadata"),
    "checkpoint_load": ("session_id", "phase max_age"),
    "finding_log": ("finding", "session_id subject impact"),
    "unknown_log": ("unknown", "session_id subject"),
    "unknown_resolve": ("unknown_id", "resolved_by"),
    "unknown_list": ("", "session_id subject limit resolved all"),
    "goals_create": (
        "objective",
        "session_id description status"
        " scope_breadth scope_duration scope_coordination estimated_complexity",
    ),
    "goals_list": ("", "session_id completed"),
    "goals_complete": ("goal_id", "reason"),
    "goals_activate": ("goal_id", ""),
    "goals_refresh": ("goal_id", ""),
    "goals_mark_stale": ("", "session_id reason"),
    "goals_progress": ("goal_id", ""),
    "goals_get_tasks": ("goal_id", ""),
    "goals_add_task": ("goal_id description", ""),
    "goals_complete_task": ("task_id", "evidence"),
    "goals_add_dependency": ("goal_id depends_on", "description"),
}
"""Tool → its required and its optional arguments, as names with spaces in between."""

_TYPES = {
    "vectors": "object",
    **dict.fromkeys(("impact", "limit", "max_age"), "number"),
    **dict.fromkeys(("resolved", "all", "completed"), "boolean"),
    **dict.fromkeys(goals.SCOPE, "number"),
}
"""Argument → JSON type, where it is not a string."""

_JSON = frozenset(_TYPES) - {"vectors"}
"""Of those, the ones whose type is looked at here."""

PHASES = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")
"""Of a checkpoint."""


async def serve(store: Store) -> None:
    """Serve `store` over stdin and stdout until stdin ends."""
    threads = anyio.CapacityLimiter(THREADS)

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[_described(name) for name in TOOLS])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        text = await anyio.to_thread.run_sync(
            answer, store, params.name, params.arguments or {}, limiter=threads
        )
        return CallToolResult(content=[TextContent(type="text", text=text)])

    server: Server[Any] = Server(
        "mcpconc-reference", on_list_tools=list_tools, on_call_tool=call_tool
    )
    async with stdio() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def answer(store: Store, tool: str, args: dict[str, Any]) -> str:
    """Do one call; what it answers. Nothing is raised: what goes wrong is told in the answer."""
    try:
        switch.refresh(store.root)
        process.before(store, tool)
        text = _done(store, tool, args)
        process.after(tool)
    except Refused as refusal:
        return json.dumps({"ok": False, "error": str(refusal), **refusal.more})
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return json.dumps({"ok": False, "error": "database is locked"})
        return _failed(error)
    except Exception as error:
        return _failed(error)
    if planted("text-is-not-json") and len(text) > LONG:
        return text[: len(text) // 2]
    return text


def _done(store: Store, tool: str, args: dict[str, Any]) -> str:
    wrong = _usage(tool, args)
    if wrong is not None:
        return wrong
    done = TOOLS[tool](store, args)
    return done if isinstance(done, str) else json.dumps({"ok": True, **done})


def _failed(error: Exception) -> str:
    traceback.print_exc(file=sys.stderr)
    return json.dumps({"ok": False, "error": f"internal error: {type(error).__name__}: {error}"})


def _usage(tool: str, args: Mapping[str, Any]) -> str | None:
    """The answer to a call that cannot be understood."""
    if tool not in TOOLS:
        return json.dumps({"ok": False, "error": f"Unknown tool: {tool}"})
    required, optional = (names.split() for names in INPUTS[tool])
    strings = (name for name in (*required, *optional) if name not in _TYPES)
    if missing := [name for name in required if args.get(name) in (None, "")]:
        wrong = f"the following arguments are required: {', '.join(missing)}"
    elif bad := [name for name in strings if not isinstance(args.get(name, ""), str)]:
        wrong = f"not a text: {', '.join(bad)}"
    elif bad := [name for name in args if name in _JSON and not _is(_TYPES[name], args[name])]:
        if planted("types-unchecked"):
            return None
        wrong = f"not a {_TYPES[bad[0]]}: {', '.join(bad)}"
    elif not isinstance(args.get("limit", 0), int):
        wrong = f"argument --limit: invalid int value: {args['limit']!r}"
    elif tool == "checkpoint_create" and args.get("phase", "ACT") not in PHASES:
        wrong = f"argument --phase: invalid choice (choose from {', '.join(PHASES)})"
    else:
        return None
    error = f"usage: {tool} [arguments]\n{tool}: error: {wrong}"
    return json.dumps({"ok": False, "error": error, "command": tool})


def _is(type: str, value: Any) -> bool:
    return isinstance(value, int | float) and isinstance(value, bool) == (type == "boolean")


def _described(tool: str) -> Tool:
    required, optional = (names.split() for names in INPUTS[tool])
    return Tool(
        name=tool,
        input_schema={
            "type": "object",
            "properties": {n: {"type": _TYPES.get(n, "string")} for n in (*required, *optional)},
            "required": required,
        },
    )
