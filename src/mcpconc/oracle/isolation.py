"""Isolation: nothing private to one agent shows at another's.

The target's specification lists the places where something private shows (`model.spec.View`): a
column of an agent's row, a field of a response, a file that says what is current for it. In the
identity modes *shared* and *same-instance* the target promises nothing of the kind; which
expectation breaks there, and for whom, is still worth knowing: it is reported under a property
of its own, which no baseline or dedupe can mistake for the broken promise, and is no violation.
"""

from __future__ import annotations

from mcpconc.model.spec import View
from mcpconc.oracle.base import UNPROMISED, Result, Run
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
        shown = f"{view.kind}.{view.field} of agent {view.agent} shows what is private to {owners}"
        # Who wrote it is the other half of the story, and shrinking must keep both.
        named = mentioning(run, view.found)
        sources = [
            op.call for op in run.history.operations if op.agent in view.owners and op.call in named
        ]
        whose = view.why
        if not whose:
            see = f" (see {', '.join(sources[:3])})" if sources else ""
            whose = f"It belongs to {owners} alone{see}."
        tool = next((op.tool for op in run.history.operations if op.call == view.call), "")
        findings.append(
            finding(
                NAME,
                "leak" if promised else UNPROMISED,
                view.kind,
                view.field,
                summary=shown if promised else _broken(view, run.identity, shown),
                reason=[_where(view, tool), whose, _rule(run.identity)],
                calls=[call for call in (view.call, *sources) if call],
                evidence={"found": view.found, "owners": sorted(view.owners)},
            )
        )
    return collect(NAME, findings)


def _broken(view: View, identity: str, shown: str) -> str:
    """Which expectation breaks, and for whom, where nobody promised otherwise."""
    if not view.expected:
        return f"{shown} (identity mode {identity} does not promise otherwise)"
    return f"agent {view.agent} cannot rely on it that {view.expected}"


def _rule(identity: str) -> str:
    if identity in PROMISED:
        return (
            f"In identity mode {identity} agents share nothing private, so no order of the calls "
            "makes this right."
        )
    return (
        f"Identity mode {identity} does not tell agents apart and promises nothing of the kind; "
        "isolated does."
    )


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
