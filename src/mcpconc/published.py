"""Histories as others publish them: register logs of Jepsen, key-value logs of Porcupine.

Both are text, one event a line; the number of the line is the time of the event. An operation
whose end is not there, or is an ``info``, may have taken effect at any later time or never.
Processes are not told apart, as these models do not: so more operations are alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from mcpconc.errors import TraceError
from mcpconc.model.base import Op, Partition
from mcpconc.model.keyed import by_key, together
from mcpconc.model.kv import KeyValue
from mcpconc.model.register import Register

__all__ = ["Published", "read", "recognised"]

REGISTER = re.compile(r"INFO\s+jepsen\.util - (\d+)\s+:(invoke|ok|fail|info)\s+:(\w+)\s+(.+)")
KEY_VALUE = re.compile(
    r"\{:process (\d+), :type :(invoke|ok|fail|info), :f :(\w+), "
    r':key "([^"]*)", :value (?:nil|"([^"]*)")\}'
)
CAS = re.compile(r"\[(\S+) (\S+)\]")

NIL = "nil"
"""The value of a register before the first write."""

Told = Callable[[re.Match[str], str], Hashable]
"""What a line tells besides process, type and name: the input where it invokes (the text is
then ""), the output where it ends (the text is then the name of the operation)."""


@dataclass(frozen=True, slots=True)
class Published:
    """A history that was read. `operations` counts calls, `kind` is ``register`` or ``kv``."""

    kind: str
    operations: int
    partitions: tuple[Partition, ...]


def read(name: str, text: str, *, whole: bool = False) -> Published | None:
    """Read a log, None if it is empty. Keys are judged apart, or with `whole` together.

    :raises TraceError: naming the line that is not understood.
    """
    form = recognised(text)
    if form is REGISTER:
        ops = _ops(name, text, form, _register)
        register = Partition("register", "", Register(NIL), tuple(ops))
        return Published("register", len(ops), (register,))
    if form is KEY_VALUE:
        ops = _ops(name, text, form, _key_value)
        model = KeyValue()
        parts = [together("kv", model, ops)] if whole else by_key("kv", model, ops)
        return Published("kv", len(ops), tuple(parts))
    if not text.strip():
        return None
    raise TraceError(
        f"{name}: neither a Jepsen register log (INFO  jepsen.util - …) nor a key-value log "
        f"({{:process …}}): {text.strip()[:40]!r}"
    )


def recognised(text: str) -> re.Pattern[str] | None:
    """The form of the lines of a log, by the first one."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return next((form for form in (REGISTER, KEY_VALUE) if form.fullmatch(first)), None)


def _ops(name: str, text: str, form: re.Pattern[str], told: Told) -> list[Op]:
    ops: list[Op] = []
    open: dict[str, int] = {}
    never = set()
    for number, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        event = form.fullmatch(line.strip())
        if event is None:
            raise TraceError(f"{name}, line {number + 1}: garbled: {line[:60]!r}")
        process, type, f = event.group(1, 2, 3)
        if type == "invoke":
            open[process] = len(ops)
            input = told(event, "")
            ops.append(Op(f"{len(ops)}", 0, f, input, None, number, None))
            continue
        if process not in open or ops[open[process]].name != f:
            raise TraceError(f"{name}, line {number + 1}: process {process} has no open :{f}")
        at = open.pop(process)
        if type == "ok" or (type == "fail" and f == "cas"):
            ops[at] = replace(ops[at], output=told(event, f), returned=number)
        elif type == "fail":
            never.add(at)
    return [op for at, op in enumerate(ops) if at not in never]


def _register(event: re.Match[str], ended: str) -> Hashable:
    """A failed cas is one whose comparison failed."""
    type, f, value = event.group(2, 3, 4)
    if f == "cas":
        pair = CAS.fullmatch(value.strip())
        return type == "ok" if ended or pair is None else pair.group(1, 2)
    return value.strip() if (f == "read") == bool(ended) else None


def _key_value(event: re.Match[str], ended: str) -> Hashable:
    f, key, value = event.group(3, 4, 5)
    if not ended:
        return (key, None if f == "get" else value)
    return value if f == "get" else True
