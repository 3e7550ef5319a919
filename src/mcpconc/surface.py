"""Which of Empirica's tools are driven, and how far what they do is judged.

``python -m mcpconc.surface`` prints the table that README holds; with the name of a file, it is
put there in the place of the one before.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from mcpconc.model.empirica.spec import MODELLED
from mcpconc.model.empirica.surface import NOT_DRIVEN, TOOLS
from mcpconc.strategies import CascadeMachine

__all__ = ["renewed", "table"]

HEAD = "| tool | generated | modelled | read back | why not |"
NOTHING = "–"
ROWS = re.compile(r"(?:rows|column|json):\w+\.(\w+)")
REFS = re.compile(r"(?:ref|note):refs/notes/empirica/(\w+)")
FILES = re.compile(r"(?:file|content):(?:ws|home)/\.?(?:.*/)?([.\w-]+)")


def table() -> str:
    """A line per tool: whether programs call it, whether a model speaks of its answers, what of
    its traces is read back, or why not."""
    lines = [HEAD, "|---|---|---|---|---|"]
    for tool in TOOLS:
        told = ", ".join(_read_back(tool)) or NOTHING
        cells = [
            f"`{tool}`",
            "yes" if tool in CascadeMachine.tools else NOTHING,
            "yes" if tool in MODELLED else NOTHING,
            told,
            NOT_DRIVEN.get(tool, ""),
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _read_back(tool: str) -> Iterator[str]:
    """Tables, notes and files that the tool was seen to change, and that are read back."""
    text = files("mcpconc.model.empirica").joinpath("footprint.json").read_text("utf-8")
    seen: dict[str, None] = {}
    for name, entry in json.loads(text).items():
        if name.partition(" ")[0] != tool:
            continue
        for key in (*entry["changes"], *entry["foreign"]):
            for pattern, form in ((ROWS, "{}"), (REFS, "notes {}"), (FILES, "file {}")):
                match = pattern.match(key)
                if match:
                    seen[form.format(match[1])] = None
    yield from sorted(seen)


def renewed(text: str) -> str:
    """`text` with the table in it as it is now."""
    return re.sub(rf"{re.escape(HEAD)}\n(?:\|.*\n)*", lambda _: table(), text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(renewed(Path(name).read_text("utf-8")), "utf-8")
    if not sys.argv[1:]:
        print(table(), end="")
