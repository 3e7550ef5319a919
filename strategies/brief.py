"""Calls as somebody in a hurry writes them: the beginning of an id, and no session where the server
knows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcpconc.model.empirica.shorthand import IMPLYING, TAKES
from mcpconc.model.spec import SHORTEST
from mcpconc.program import Ref

__all__ = ["brief"]


def brief(tool: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call of Empirica, shortened as far as the tool allows."""
    if tool in IMPLYING and "session_id" in args:
        return {name: value for name, value in args.items() if name != "session_id"}
    whole = args.get(TAKES.get(tool, ""))
    if isinstance(whole, Ref):
        return {**args, TAKES[tool]: replace(whole, keep=SHORTEST)}
    return args
