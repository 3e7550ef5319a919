"""Kinds of artifacts: where each is kept, by what it is de-duplicated, what may become of it.

Artifacts are made by a tool of their own (``finding_log`` …) or as nodes of ``log_artifacts``,
and closed, corrected and deleted by ``finding_resolve`` and the batch tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from mcpconc.model.empirica.common import same_text

__all__ = ["BY_TOOL", "KINDS", "Kind", "corrected", "key_of", "plain", "resolved", "started"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of artifact.

    `tool` logs one and answers its id as `answer` (neither for sources); `id` is the column of
    the id. `needs` are the texts it cannot do without. Artifacts whose `key` columns hold the
    same text are one (never, if empty). `columns` is what is kept of arguments and what it is
    without them (argument → column, value); `begins` what else a row begins with. `notes` is the
    namespace of its git notes, `blob` the JSON column, `absent` the class of the refusal where
    there is none.
    """

    name: str
    table: str
    tool: str = ""
    answer: str = ""
    id: str = "id"
    needs: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    begins: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    blob: str = ""
    absent: str = "artifact-not-found"


OPEN: Mapping[str, Any] = {"is_resolved": 0, "resolution": None, "resolution_kind": None}
VALID: Mapping[str, Any] = {
    "is_invalidated": 0,
    "invalidation_reason": None,
    "invalidated_by": None,
}

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            *("finding", "project_findings", "finding_log", "finding_id"),
            needs=("finding",),
            key=("finding",),
            columns={
                "finding": ("finding", None),
                "subject": ("subject", None),
                "impact": ("impact", 0.5),
            },
            begins={**OPEN, "superseded_by": None},
            notes="findings",
            blob="finding_data",
        ),
        Kind(
            *("unknown", "project_unknowns", "unknown_log", "unknown_id"),
            needs=("unknown",),
            key=("unknown",),
            columns={"unknown": ("unknown", None), "subject": ("subject", None)},
            begins={"is_resolved": 0, "resolved_by": None, "impact": 0.5},
            notes="unknowns",
            blob="unknown_data",
            absent="unknown-not-found",
        ),
        Kind(
            *("dead_end", "project_dead_ends", "deadend_log", "dead_end_id"),
            needs=("approach", "why_failed"),
            key=("approach", "why_failed"),
            columns={
                "approach": ("approach", None),
                "why_failed": ("why_failed", None),
                "subject": ("subject", None),
            },
            begins={**VALID, "impact": 0.5, "domain": None},
            notes="dead_ends",
            blob="dead_end_data",
        ),
        Kind(
            *("mistake", "mistakes_made", "mistake_log", "mistake_id"),
            needs=("mistake", "why_wrong"),
            columns={
                name: (name, None)
                for name in ("mistake", "why_wrong", "prevention", "cost_estimate")
            },
            begins=VALID,
            notes="mistakes",
            blob="mistake_data",
        ),
        Kind(
            *("assumption", "assumptions", "assumption_log", "assumption_id"),
            needs=("assumption",),
            columns={"assumption": ("assumption", None), "confidence": ("confidence", 0.5)},
            begins={"status": "unverified", "resolution_finding_id": None},
            notes="assumptions",
        ),
        Kind(
            *("decision", "decisions", "decision_log", "decision_id"),
            needs=("choice", "rationale"),
            columns={
                "choice": ("choice", None),
                "rationale": ("rationale", None),
                "confidence": ("confidence_at_decision", 0.7),
                "reversibility": ("reversibility", "exploratory"),
            },
            begins={"outcome": None, "regret_score": None},
            notes="decisions",
        ),
        Kind(
            *("note", "notes", "note", "note_id", "note_id"),
            needs=("text",),
            columns={"text": ("text", None), "tag": ("tag", None)},
        ),
        Kind(
            *("source", "epistemic_sources"),
            needs=("title",),
            columns={"title": ("title", None), "description": ("description", None)},
            begins={"confidence": 0.7, "archived": 0},
        ),
    )
}
BY_TOOL: Mapping[str, Kind] = {kind.tool: kind for kind in KINDS.values() if kind.tool}

RESOLUTION_KINDS = ("stale", "superseded", "retracted", "mistyped")
OUTCOMES = ("upheld", "reversed", "mixed")
STATUSES = ("unverified", "verified", "falsified")
REVERSIBILITIES = ("exploratory", "committal", "forced")
CORRECTABLE: Mapping[str, tuple[str, ...]] = {
    "finding": ("impact", "subject"),
    "unknown": ("impact", "subject"),
    "dead_end": ("impact", "subject", "domain"),
    "mistake": ("prevention",),
    "assumption": ("confidence", "status"),
    "decision": ("outcome", "regret_score", "reversibility"),
    "source": ("confidence", "description"),
}
"""Kind → the columns that `update_artifacts` corrects, of those that are modelled."""

UNSEEN = ("type", "id", "epistemic_source", "visibility")
"""Of an update's item: what names the artifact, and columns that no model looks at."""


def key_of(kind: Kind, project: str, row: Mapping[str, Any]) -> str:
    """What names one among those of its kind: its project and text, or its id."""
    if not kind.key:
        return str(row.get(kind.id))
    return "\n".join((project, *(same_text(row.get(column) or "") for column in kind.key)))


def started(kind: Kind, args: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that has just been made with these arguments."""
    given = {
        column: default if args.get(name) is None else args[name]
        for name, (column, default) in kind.columns.items()
    }
    if kind.name == "source" and isinstance(given["title"], str):
        # A title is taken for a path, of which the last part is kept.
        given["title"] = given["title"].rpartition("/")[2] or given["title"]
    return {**kind.begins, **given}


def resolved(kind: Kind, item: Mapping[str, Any]) -> dict[str, Any] | None:
    """The columns that closing an artifact sets; None where the item has to be refused."""
    words = item.get("resolution", item.get("resolved_by", ""))
    if kind.name == "finding":
        why = item.get("resolution_kind")
        if why is not None and str(why).strip().lower() not in RESOLUTION_KINDS:
            return None
        return {
            "is_resolved": 1,
            "resolution": words,
            "resolution_kind": why if why is None else str(why).strip().lower(),
            "superseded_by": item.get("superseded_by") or None,
        }
    if kind.name == "unknown":
        return {"is_resolved": 1, "resolved_by": words}
    if kind.name in ("dead_end", "mistake"):
        by = item.get("invalidated_by") or item.get("resolved_by") or "resolve-artifacts"
        reason = words or "invalidated"
        return {"is_invalidated": 1, "invalidation_reason": reason, "invalidated_by": by}
    if kind.name == "assumption":
        # The words are not kept; what is not said to be true is taken for false.
        status = "verified" if item.get("verified") is True else "falsified"
        by = item.get("resolution_finding_id") or item.get("superseded_by")
        return {"status": status, "resolution_finding_id": by}
    if kind.name == "decision" and item.get("outcome") in OUTCOMES:
        regret = item.get("regret")
        told = {"regret_score": max(0.0, min(1.0, regret))} if _number(regret) else {}
        return {"outcome": item["outcome"], **told}
    return None


def corrected(kind: Kind, item: Mapping[str, Any]) -> dict[str, Any] | None:
    """The columns that a correction sets; None where nothing in it may be corrected."""
    told = {
        name: value
        for name, value in item.items()
        if name in CORRECTABLE.get(kind.name, ()) and _allowed(name, value)
    }
    return told if told or any(name in item for name in UNSEEN[2:]) else None


def _allowed(column: str, value: Any) -> bool:
    if column in ("impact", "confidence"):
        return _number(value) and 0 <= value <= 1
    if column == "status":
        return value in STATUSES
    if column == "reversibility":
        return value in REVERSIBILITIES
    return True


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(kind: Kind, args: Mapping[str, Any]) -> bool:
    """Whether there is nothing in the arguments for which a call could be refused."""
    known = {*kind.columns, *kind.needs, "session_id"}
    texts = [value for name, value in args.items() if name not in ("confidence", "impact")]
    return (
        args.keys() <= known
        and all(args.get(name) for name in kind.needs)
        and all(isinstance(text, str) and text and text[0] != "-" for text in texts)
        and (kind.name != "mistake" or bool(args.get("prevention")))
        and args.get("reversibility", REVERSIBILITIES[0]) in REVERSIBILITIES
        and all(
            _number(args[n]) and 0 <= args[n] <= 1 for n in ("confidence", "impact") if n in args
        )
    )
