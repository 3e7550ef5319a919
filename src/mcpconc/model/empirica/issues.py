"""Issues: what failing commands file about themselves, and what becomes of it.

`memory_compact` always fails over MCP and files one each time; that is how runs come by some.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.empirica.common import OK, Quirky, Refusal, answer, op, partition, spurious
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.missing import missing

__all__ = ["Issues", "Resolution", "partitions"]

State = str | None


@dataclass(frozen=True)
class Resolution(Quirky):
    """State: by which words one issue is resolved, None while it is not.

    ``issue_resolve``: input is the words. A snapshot's output is (status, resolution).
    """

    name: str = "issue"
    known_quirks: frozenset[str] = frozenset()

    def initial(self) -> State:
        return None

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == SNAPSHOT:
            due = ("resolved", state) if state is not None else ("new", None)
            return (state,) if op.output == due else Reject("resolution", due, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        return (str(op.input),)

    def pure(self, op: Op) -> bool:
        return op.name == SNAPSHOT or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        return "new" if state is None else f"resolved by {state!r}"


@dataclass(frozen=True)
class Issues(Quirky):
    """State: the number of issues that were filed for certain.

    ``memory_compact``: files one (input 1) or, without a session to file it under, none (input
    0). ``issue_list`` without a filter: output is how many it shows.

    Quirk ``issue-list-empty``: it shows none (trigger: there are some).
    """

    name: str = "issues"
    known_quirks: frozenset[str] = frozenset({"issue-list-empty"})

    def initial(self) -> int:
        return 0

    def step(self, state: int, op: Op) -> Sequence[int] | Reject:
        if op.name == "memory_compact":
            return (state + int(str(op.input)),)
        if op.output is None:
            return (state,)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        assert isinstance(op.output, int)
        if op.output >= state or (not op.output and "issue-list-empty" in self.quirks):
            return (state,)
        return Reject("issue_count", state, op.output)

    def pure(self, op: Op) -> bool:
        return op.name != "memory_compact"

    def describe(self, state: int) -> str:
        return f"{state} issues"


def partitions(known: Facts) -> Iterator[Partition]:
    """One per issue that a call named, and one for the list of all."""
    rows = {str(r["id"]): r for r in known.rows("auto_captured_issues")}
    ops: dict[str, list[Op]] = defaultdict(list)
    nothing: list[tuple[str, Operation]] = []
    for o in known.of("issue_resolve"):
        id = str(o.args.get("issue_id"))
        if id in rows:
            ops[id].append(op(o, str(o.args.get("resolution")), answer(o, OK)))
        elif known.snapshot is not None:
            nothing.append((id, o))
    for id, resolved in ops.items():
        left = (rows[id].get("status"), rows[id].get("resolution"))
        yield partition("issue", id, Resolution(), resolved, left)
    yield from missing("issue", "issue-not-found", nothing)
    filed = [o for o in known.of("memory_compact") if o.answered]
    lists = [o for o in known.of("issue_list") if not o.args]
    if not lists:
        return
    counted = int(len(rows) >= len(filed))
    everything = [op(o, counted, OK) for o in filed]
    everything += [op(o, None, answer(o, o.data.get("issue_count"))) for o in lists]
    yield partition("issues", "all", Issues(), everything)
