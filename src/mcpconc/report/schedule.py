"""What happened inside the calls: who ran from which statement to which, in lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcpconc.report.wording import clip
from mcpconc.schedule.points import INVOKE, unpack
from mcpconc.schedule.switches import Block, switches

__all__ = ["inside", "switched"]

MOST = 12
"""Blocks that are told; a minimal schedule has about four."""


def switched(schedule: Sequence[Any]) -> int:
    """How often the schedule goes from one agent to another."""
    return max(len(switches(unpack(schedule).steps)) - 1, 0)


def inside(schedule: Sequence[Any], width: int = 96) -> list[str]:
    """A line for each time that an agent went on: from where, and up to where.

    What it had reached is the statement that it stood *before* when another agent went on.
    """
    recorded = unpack(schedule)
    told = switches(recorded.steps)
    seen: set[int] = set()
    lines = []
    for n, block in enumerate(told[:MOST]):
        whole = not block.until and all(b.agent != block.agent for b in told if b is not block)
        lines.append(clip(f"{'then ' if n else ''}{_line(block, seen, whole)}", width))
        seen.add(block.agent)
    if len(told) > MOST:
        lines.append(f"and {len(told) - MOST} more turns")
    lines += [
        clip(f"agent {kill.agent} was killed before {_said(kill.label)}", width)
        for kill in recorded.kills
    ]
    return lines


def _line(block: Block, seen: set[int], whole: bool) -> str:
    who = f"agent {block.agent}"
    if whole:
        return f"{who} ran whole"
    if block.agent not in seen:
        if not block.until:
            return f"{who} ran to the end of its call"
        return f"{who} ran up to {_said(block.until)}"
    if not block.until:
        return f"{who} went on with {_said(block.first)}"
    if block.first == block.until or block.steps == 1:
        return f"{who} did {_said(block.first)}"
    return f"{who} went on with {_said(block.first)} up to {_said(block.until)}"


def _said(label: str) -> str:
    text = " ".join(label.split())
    if text.startswith(f"{INVOKE} "):
        return f"the call of {text.removeprefix(f'{INVOKE} ')}"
    return text if len(text) <= 60 else f"{text[:59]}…"
