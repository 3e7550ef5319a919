"""A script on artifacts: every tool that logs, closes, corrects, deletes or lists them."""

from __future__ import annotations

from mcpconc.program import Ref
from real.script import GHOST, GOOD
from real.scripts import Ruled

__all__ = ["graphs"]


def graphs(script: Ruled) -> dict[str, set[str]]:
    """Every tool of this kind with every refusal; kind → quirks that its objects need. A deletion
    says that it failed only where a session is known."""
    s = script
    session = s.make(0, "session_create", "session_id", "subject", ai_id="ai-0")
    other = s.make(1, "session_create", "session_id", "subject", ai_id="ai-1")
    s.call(0, "submit_preflight_assessment", "reasoning", session_id=session, vectors=GOOD)
    singles(s, session, other)
    nodes = [
        {"ref": "f", "type": "finding", "data": {"finding": "{} f", "impact": 0.4}},
        {"ref": "u", "type": "unknown", "data": {"unknown": "{} u"}},
        {"ref": "d", "type": "dead_end", "data": {"approach": "{} d", "why_failed": "wet"}},
        {"ref": "m", "type": "mistake", "data": {"mistake": "{} m", "why_wrong": "dry"}},
        {"ref": "a", "type": "assumption", "data": {"assumption": "{} a", "confidence": 0.2}},
        {"ref": "s", "type": "source", "data": {"title": "{} s", "description": "long"}},
    ]
    edges = [
        {"from": "f", "to": "s", "relation": "sourced_from"},
        {"from": "d", "to": "f", "relation": "grounded_by"},
        {"from": "s", "to": GHOST, "relation": "related"},
    ]
    batch = s.call(
        0, "log_artifacts", nodes=nodes, token_in="nodes", session_id=session, edges=edges
    )
    made = {ref: Ref(batch.id, f"created.{ref}") for ref in "fudmas"}
    again = [{"ref": "x", "type": "dead_end", "data": {"approach": "common", "why_failed": "it"}}]
    loop = [{"from": made["d"], "to": made["f"], "relation": "grounded_by"}]
    s.call(1, "log_artifacts", session_id=other, nodes=again, edges=loop)
    bad = [{"ref": "x", "type": "finding", "data": {}}]
    s.refused("invalid-input", 0, "log_artifacts", session_id=session, nodes=bad)
    torn = [{"from": "x", "to": "nothing", "relation": "evidence"}]
    s.refused("invalid-input", 0, "log_artifacts", session_id=session, nodes=again, edges=torn)
    s.refused("no-session", 0, "log_artifacts", session_id="zzz", nodes=again)
    project = {"project_id": Ref(session.call, "project_id")}
    s.call(0, "source_list", **project)
    closing(s, made)
    s.call(1, "source_list", include_archived=True, **project)
    s.call(1, "source_list", direction="praxic", **project)
    deleting(s, made)
    quirks = {"source": {"filter-ignored"}}
    if s.isolated:
        quirks |= {"dead_end": {"deleted-not-ok"}, "mistake": {"deleted-not-ok"}}
    return quirks


def deleting(s: Ruled, made: dict[str, Ref]) -> None:
    gone = [{"type": "mistake", "id": made["m"]}, {"type": "assumption", "id": GHOST}]
    s.call(0, "delete_artifacts", deletions=gone)  # no more than a look, unless it is told so
    s.refused("invalid-input", 0, "delete_artifacts", deletions=gone, apply=True)
    s.refused("invalid-input", 0, "delete_artifacts", deletions=[])
    edge = {"from": made["f"], "to": made["s"], "relation": "sourced_from"}
    s.call(1, "delete_artifacts", "reason", edges=[edge], dry_run=False)
    gone += [{"type": "dead_end", "id": made["d"]}, {"type": "source", "id": made["s"]}]
    s.call(0, "delete_artifacts", "reason", deletions=gone, dry_run=False)


def singles(s: Ruled, session: Ref, other: Ref) -> None:
    common = {"session_id": session, "approach": "Common", "why_failed": "it"}
    s.call(0, "deadend_log", "subject", **common)
    s.call(1, "deadend_log", "subject", **common)
    s.call(0, "mistake_log", "mistake", session_id=session, why_wrong="w", prevention="p")
    s.call(0, "assumption_log", "assumption", session_id=session, confidence=0.4)
    choice = {"session_id": other, "choice": "left", "reversibility": "committal"}
    s.call(1, "decision_log", "rationale", **choice)
    s.call(1, "note", "text", session_id=other, tag="doubt")
    s.refused("invalid-input", 0, "note", session_id=session, text="")
    s.refused("invalid-input", 0, "deadend_log", session_id=session, approach="x")
    s.usage(0, "decision_log", session_id=session, choice="x", rationale="y", reversibility="z")


def closing(s: Ruled, made: dict[str, Ref]) -> None:
    s.call(0, "finding_resolve", "resolution", finding_id=made["f"], kind="stale")
    s.call(1, "finding_resolve", "resolution", finding_id=made["f"], superseded_by=made["d"])
    s.refused("artifact-not-found", 0, "finding_resolve", "resolution", finding_id=GHOST)
    s.refused(
        "no-successor",
        0,
        "finding_resolve",
        "resolution",
        finding_id=made["f"],
        superseded_by=GHOST,
    )
    s.usage(0, "finding_resolve", finding_id=made["f"], resolution="r", kind="bad")
    items = [
        {"type": "finding", "id": made["f"], "resolution": "{}", "resolution_kind": "retracted"},
        {"type": "unknown", "id": made["u"], "resolution": "{}"},
        {"type": "mistake", "id": made["m"], "resolution": "{}", "invalidated_by": "me"},
        {"type": "assumption", "id": made["a"], "resolution": "{}", "verified": True},
        {"type": "dead_end", "id": GHOST, "resolution": "{}"},
    ]
    s.call(0, "resolve_artifacts", "resolutions", resolutions=items)
    s.refused("invalid-input", 0, "resolve_artifacts", unknowns=[])
    updates = [
        {"type": "finding", "id": made["f"], "impact": 0.9},
        {"type": "mistake", "id": made["m"], "prevention": "{}"},
        {"type": "assumption", "id": made["a"], "confidence": 0.8, "status": "falsified"},
        {"type": "source", "id": made["s"], "description": "{}"},
        {"type": "finding", "id": GHOST, "impact": 0.9},
        {"type": "dead_end", "id": made["d"], "impact": 4},
    ]
    s.call(1, "update_artifacts", "updates", updates=updates)
    s.refused("invalid-input", 0, "update_artifacts", updates=[])
