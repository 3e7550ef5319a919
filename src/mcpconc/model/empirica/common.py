"""What all Empirica models share: answers as outputs, quirks, natural keys, tokens."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from mcpconc.history import Operation, Outcome
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject

__all__ = [
    "DATABASE",
    "NONE",
    "OK",
    "Quirky",
    "Refusal",
    "answer",
    "op",
    "partition",
    "read_back",
    "refused",
    "same_objective",
    "same_text",
    "spurious",
    "token_in",
]

DATABASE = "sessions"
"""The name under which a snapshot holds Empirica's project database."""

OK = "ok"
"""Output of a call that succeeded and said nothing that a model checks."""

NONE: frozenset[str] = frozenset()

TOKEN = re.compile(r"tok\d{3,}x\d{3,}z")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Output of a refused call: the class of the refusal, and what it says about the object."""

    error: str
    detail: Hashable = None


@dataclass(frozen=True)
class Quirky:
    """Base of every model here: which known sequential defects this instance excuses."""

    quirks: frozenset[str] = NONE

    def excusing(self, quirks: frozenset[str]) -> Self:
        return replace(self, quirks=quirks)


def answer(operation: Operation, success: Hashable, detail: Hashable = None) -> Hashable | None:
    """The output of an operation; None where nobody knows, also because it is garbled."""
    if not operation.answered or operation.outcome is Outcome.GARBLED:
        return None
    if operation.succeeded:
        return success
    return Refusal(str(operation.data.get("error", "error")), detail)


def op(operation: Operation, input: Hashable, output: Hashable | None, name: str = "") -> Op:
    """The operation as one object sees it. A garbled answer is no answer: the call was sent,
    and whether it took effect is not known."""
    return Op(
        call=operation.call,
        agent=operation.agent,
        name=name or operation.tool,
        input=input,
        output=output,
        invoked=operation.invoked,
        returned=None if output is None else operation.returned,
    )


def read_back(ops: Iterable[Op], output: Hashable) -> Op:
    """The snapshot as the last operation, after everything that was answered."""
    last = max((max(o.invoked, o.returned or 0) for o in ops), default=0)
    return Op(SNAPSHOT, -1, SNAPSHOT, None, output, last + 1, last + 2)


def partition(
    kind: str,
    key: str,
    model: Any,
    ops: Iterable[Op],
    snapshot: Hashable | None = None,
    projected: Iterable[str] = (),
) -> Partition:
    """A partition with its operations in order, and the snapshot behind them where there is
    one. `projected` are names of reads."""
    ordered = sorted(ops, key=lambda o: o.invoked)
    if snapshot is not None:
        ordered.append(read_back(ordered, snapshot))
    return Partition(kind, key, model, tuple(ordered), frozenset(projected))


def refused(output: Hashable | None, error: str, due: bool) -> Reject | None:
    """Whether a refusal of class `error` came exactly where it is due.

    An unanswered call passes: it is stepped as having taken effect, so the caller has to see
    to it that it changes nothing where the refusal was due.
    """
    if output is None:
        return None
    if not isinstance(output, Refusal):
        return Reject(error, "refused", "accepted") if due else None
    if output.error == error and due:
        return None
    if due:
        return Reject(
            f"spurious-{output.error}", f"refused as {error}", f"refused as {output.error}"
        )
    return spurious(output)


def spurious(output: Refusal) -> Reject:
    """A refusal for which there is no reason."""
    return Reject(f"spurious-{output.error}", "accepted", "refused")


def same_text(text: str) -> str:
    """What findings and unknowns are de-duplicated by: case and white space do not count."""
    return " ".join(str(text).strip().lower().split())


def same_objective(text: str) -> str:
    """What goals are de-duplicated by: case and punctuation do not count, inner space does."""
    return re.sub(r"[^\w\s]", "", str(text).lower().strip())


def token_in(*values: Any) -> str:
    """The first token found in these values, or nothing."""
    for value in values:
        if isinstance(value, Mapping):
            found = token_in(*value.values())
            if found:
                return found
        elif isinstance(value, str) and (match := TOKEN.search(value)):
            return match.group()
    return ""
