"""Short names for long ids and tokens, the same name for the same thing everywhere.

An id that a response introduces as ``goal_id`` becomes ``g1``, the next one ``g2``; any other
uuid keeps its first hex digits. A token becomes ``#`` and the id of the call that carries it,
so that a text found in a row or a response shows who wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcpconc.history import History
from mcpconc.program import Program

__all__ = ["Names", "name_things"]

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)
OPAQUE = re.compile(UUID.pattern + r"|\b[0-9a-f]{12,}\b", re.I)

_LETTERS = {"transaction": "tx", "subtask": "t"}


@dataclass(frozen=True, slots=True)
class Names:
    """`short` maps ids and tokens to their names, `born` ids to the call whose answer was the
    first to tell them."""

    short: Mapping[str, str]
    born: Mapping[str, str]
    pattern: re.Pattern[str]

    def text(self, text: str) -> str:
        """`text` with every known id and token by its short name."""
        return self.pattern.sub(lambda m: self.short.get(m[0]) or m[0][:4] + "…", text)

    def data(self, value: Any) -> Any:
        """JSON data with every known id and token by its short name, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item) for item in value]
        return value


def name_things(program: Program, history: History) -> Names:
    """Name the ids of a run in the order in which responses introduce them."""
    short = {c.token: f"#{c.id}" for c in program.calls() if c.token}
    letters: dict[str, str] = {}
    count: dict[str, int] = {}
    born: dict[str, str] = {}
    for event in history.events:
        for kind, value in _ids(event.value.get("data")):
            if value in short or not OPAQUE.fullmatch(value):
                continue
            letter = letters.get(kind) or _letter(kind, letters)
            letters[kind] = letter
            count[letter] = count.get(letter, 0) + 1
            short[value] = f"{letter}{count[letter]}"
            born[value] = event.call
    known = sorted(map(re.escape, short), key=len, reverse=True)
    return Names(short, born, re.compile("|".join([*known, UUID.pattern]), re.I))


def _letter(kind: str, taken: Mapping[str, str]) -> str:
    wanted = _LETTERS.get(kind, kind[0])
    if wanted not in taken.values() or _LETTERS.get(kind) is not None:
        return wanted
    return next((kind[:n] for n in range(2, len(kind)) if kind[:n] not in taken.values()), kind)


def _ids(data: Any, kind: str = "") -> Iterator[tuple[str, str]]:
    """(kind, id) for everything that a response calls an id."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(value, str) and (key == "id" or key.endswith("_id")):
                yield (key[:-3] if key != "id" else kind) or "id", value
        for key, value in data.items():
            if not isinstance(value, str):
                yield from _ids(value, key.removesuffix("s"))
    elif isinstance(data, list):
        for item in data:
            yield from _ids(item, kind)
