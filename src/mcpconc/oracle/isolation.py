"""Isolation: nothing private to one agent shows at another's.

The target's specification lists the places where something private shows (`model.spec.View`): a
column of an agent's row, a field of a response. In the identity modes *shared* and
*same-instance* the target promises nothing of the kind; what is found there is still worth
knowing, so it is reported under a property of its own, which no baseline or dedupe can mistake
for the broken promise.
"""

from __future__ import annotations

from mcpconc.model.spec import View
from mcpconc.oracle.base import Result, Run
from mcpconc.oracle.common import collect, finding, mentioning

__all__ = ["PROMISED", "isolation"]

NAME = "isolation"
PROMISED = frozenset({"explicit", "isolated"})
"""Identity modes in which agents must not see each other's private state."""


def isolation(run: Run) -> Result:
    """One finding per kind and field through which an agent saw what is not its own."""
    if run.spec is None:
        return Result(NAME)
    promised = run.identity in PROMISED
    findings = []
    for view in run.spec.views(run.history.operations, run.after):
        if not view.owners or view.agent in view.owners:
            continue
        owners = ", ".join(f"agent {owner}" for owner in sorted(view.owners))
        note = "" if promised else f" (identity mode {run.identity} does not promise otherwise)"
        # Who wrote it is the other half of the story, and shrinking must keep both.
        named = mentioning(run, view.found)
        sources = [
            op.call for op in run.history.operations if op.agent in view.owners and op.call in named
        ]
        whose = view.why
        if not whose:
            see = f" (see {', '.join(sources[:3])})" if sources else ""
            whose = f"It belongs to {owners} alone{see}."
        right = (
            f"In identity mode {run.identity} agents share nothing private, so no order of the "
            "calls makes this right."
        )
        tool = next((op.tool for op in run.history.operations if op.call == view.call), "")
        findings.append(
            finding(
                NAME,
                "leak" if promised else "leak-unpromised",
                view.kind,
                view.field,
                summary=f"{view.kind}.{view.field} of agent {view.agent} shows what is private to "
                f"{owners}{note}",
                reason=[_where(view, tool), whose, *([right] if promised else ())],
                calls=[call for call in (view.call, *sources) if call],
                evidence={"found": view.found, "owners": sorted(view.owners)},
            )
        )
    return collect(NAME, findings)


def _where(view: View, tool: str) -> str:
    """Where the value shows: in an answer, in a row that a call wrote, or in what is left."""
    if not view.call:
        return f"The state left for agent {view.agent} has {view.field} {view.found}."
    if tool == view.kind:
        return f"{view.call} ({tool}) of agent {view.agent} was told {view.field} {view.found}."
    return (
        f"The row that {view.call} (agent {view.agent}) wrote to {view.kind} carries {view.field} "
        f"{view.found}."
    )
