"""One key of a key-value store of texts: get, put, append."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.unique import SHOWN, UNSEEN, Epoch, Pair, apart, chain, latest

__all__ = ["KeyValue"]

NONE: frozenset[str] = frozenset()

READS = ("get", SNAPSHOT)


@dataclass(frozen=True, slots=True)
class KeyValue:
    """The text under one key, empty at first; keys are independent, so each is a partition.

    ``get``: output is the text. ``put``: input is the new text. ``append``: input is put
    behind the text. A snapshot gets. An output of None fits any text.
    """

    name: str = "kv"
    quirks: frozenset[str] = NONE
    known_quirks: frozenset[str] = NONE

    def initial(self) -> str:
        return ""

    def step(self, state: str, op: Op) -> Sequence[str] | Reject:
        """The text afterwards, or the field ``value`` of a get."""
        if op.name in READS:
            if op.output is None or op.output == state:
                return (state,)
            return Reject("value", state, op.output)
        if op.name == "put":
            return (str(op.input),)
        if op.name == "append":
            return (state + str(op.input),)
        raise ValueError(f"a key has get, put and append, not {op.name}")

    def pure(self, op: Op) -> bool:
        return op.name in READS

    def order(self, ops: Sequence[Op]) -> Iterator[Pair]:
        """What a text consists of was written in this order, as far as it was written once.

        Texts are taken apart only if no written value is the beginning of another, so that
        there is one way to do it. The first part of a text tells its epoch: that of a put, or
        the initial one, if no put writes it.
        """
        writers: dict[str, list[int]] = defaultdict(list)
        gets: dict[str, list[int]] = defaultdict(list)
        for i, op in enumerate(ops):
            if op.name not in READS:
                writers[str(op.input)].append(i)
            elif op.output is not None:
                gets[str(op.output)].append(i)
        values = sorted(writers)
        if "" in writers or any(b.startswith(a) for a, b in pairwise(values)):
            return
        once = {value: by[0] for value, by in writers.items() if len(by) == 1}
        puts = {value for value, by in writers.items() if any(ops[i].name == "put" for i in by)}
        inside: dict[int | None, list[int]] = {None: list(gets[""])}
        shown: set[str] = set()
        lengths = sorted({len(value) for value in values})
        stack = [_Text("", "", None)]
        for text in sorted(text for text in gets if text):
            while not text.startswith(stack[-1].text):
                stack.pop()
            before = stack[-1]
            parts = _parts(text[len(before.text) :], writers, lengths)
            if not parts:
                continue
            shown.update(parts)
            top = before.top or parts[0]
            new = [once[part] for part in parts if part in once]
            yield from chain([*([] if before.last is None else [before.last]), *new], SHOWN)
            if top not in puts or top in once:
                inside.setdefault(once[top] if top in puts else None, []).extend(
                    (*new, *gets[text])
                )
                read = latest(ops, gets[before.text])
                if read is not None and new:
                    yield read, new[0], UNSEEN
            stack.append(_Text(text, top, new[-1] if new else before.last))
        yield from apart(ops, [Epoch(opens, members) for opens, members in inside.items()])
        last = latest(ops, (i for text in gets for i in gets[text]))
        if last is not None and not puts:
            for value in values:
                for then in () if value in shown else writers[value]:
                    yield last, then, UNSEEN

    def excusing(self, quirks: frozenset[str]) -> KeyValue:
        return self

    def describe(self, state: str) -> str:
        return repr(state)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that was read: its first part, and the last of its parts that was written once."""

    text: str
    top: str
    last: int | None


def _parts(text: str, values: Mapping[str, object], lengths: Sequence[int]) -> list[str]:
    """The values, of these lengths, that `text` is put together of; none if it is not."""
    parts = []
    start = 0
    while start < len(text):
        part = next((p for n in lengths if (p := text[start : start + n]) in values), "")
        if not part:
            return []
        parts.append(part)
        start += len(part)
    return parts
