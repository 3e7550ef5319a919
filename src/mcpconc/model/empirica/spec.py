"""Empirica as oracles see it: `SPEC` implements `model.spec.Spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcpconc.history import Operation
from mcpconc.model.base import Partition
from mcpconc.model.empirica import (
    artifacts,
    assessments,
    constants,
    dependencies,
    edges,
    goal_calls,
    handoffs,
    inbox,
    instances,
    issues,
    objectives,
    registry,
    sessions,
    tallies,
    unknowns,
)
from mcpconc.model.empirica.answers import HUMAN
from mcpconc.model.empirica.copies import kept_twice
from mcpconc.model.empirica.effects import effects_of
from mcpconc.model.empirica.facts import facts
from mcpconc.model.empirica.footprint import changes, footprint_of, owner_of
from mcpconc.model.empirica.privacy import private
from mcpconc.model.empirica.readings import attributed, lists_seen, logged
from mcpconc.model.spec import Copies, Effect, Footprint, Log, Seen, View
from mcpconc.snapshot import Snapshot

__all__ = ["MODELLED", "SPEC", "TOKEN_FIELDS", "EmpiricaSpec"]

TOKEN_FIELDS: Mapping[str, tuple[str, ...]] = {
    "session_create": ("subject",),
    "submit_preflight_assessment": ("reasoning",),
    "submit_check_assessment": ("reasoning",),
    "submit_postflight_assessment": ("reasoning",),
    "finding_log": ("subject", "finding"),
    "unknown_log": ("subject", "unknown"),
    "unknown_resolve": ("resolved_by",),
    "goals_create": ("description", "objective"),
    "goals_add_task": ("description",),
    "goals_complete_task": ("evidence",),
    "goals_complete": ("reason",),
    "goals_mark_stale": ("reason",),
    "goals_add_dependency": ("description",),
    "checkpoint_create": ("metadata",),
    "deadend_log": ("subject", "approach"),
    "mistake_log": ("mistake",),
    "assumption_log": ("assumption",),
    "decision_log": ("rationale", "choice"),
    "note": ("text",),
    "log_artifacts": ("nodes",),
    "finding_resolve": ("resolution",),
    "resolve_artifacts": ("resolutions",),
    "update_artifacts": ("updates",),
    "delete_artifacts": ("reason",),
    "handoff_create": ("task_summary",),
    "issue_resolve": ("resolution",),
    "bus_register": ("subscribes",),
    "bus_dispatch": ("payload",),
}
"""Tool → the arguments that may carry the call's token, best first.

Each is stored where read-back finds it: in a column of (nearly) its own name, the metadata of a
checkpoint (which must be the text of a JSON object, such as ``{"token": "…"}``, or it is thrown
away) in `reflexes.reflex_data`, the reason of a stale mark in `goals.goal_data`. The second
argument, where there is one, is a natural key: put the token there only if the key is not meant
to be shared. `goals_activate` and `goals_refresh` have no free field, reads need none.
"""

MODELLED: frozenset[str] = frozenset(TOKEN_FIELDS) | {
    *("goals_activate", "goals_refresh", "goals_progress", "goals_list", "goals_get_tasks"),
    *("unknown_list", "checkpoint_load", "epistemics_list", "assess_state", "source_list"),
    *("resume_previous_session", "issue_list", "project_bootstrap", "workspace_overview"),
    *("bus_instances", "bus_status", "bus_poll", "sync_status"),
    *("efficiency_report", "lesson_list", "get_empirica_introduction", "calibration_report"),
    "epistemics_show",
}
"""The tools that the models speak of."""


class EmpiricaSpec:
    """All members are pure; see `model.spec.Spec` for what each of them is."""

    name = "empirica"

    def partitions(
        self, operations: Sequence[Operation], snapshot: Snapshot | None
    ) -> Sequence[Partition]:
        known = facts(operations, snapshot)
        return [
            *sessions.partitions(known),
            *assessments.partitions(known),
            *goal_calls.partitions(known),
            *objectives.partitions(known),
            *dependencies.partitions(known),
            *unknowns.partitions(known),
            *artifacts.partitions(known),
            *edges.partitions(known),
            *handoffs.partitions(known),
            *registry.partitions(known),
            *inbox.partitions(known),
            *instances.partitions(known),
            *issues.partitions(known),
            *tallies.partitions(known),
            *constants.partitions(known),
        ]

    def effects(self, operations: Sequence[Operation]) -> Sequence[Effect]:
        return list(effects_of(facts(operations, None)))

    def attribute(
        self, operations: Sequence[Operation], snapshot: Snapshot
    ) -> Sequence[tuple[str, str, str, str]]:
        return list(attributed(facts(operations, snapshot)))

    def logs(self, operations: Sequence[Operation], snapshot: Snapshot) -> Sequence[Log]:
        return list(logged(facts(operations, snapshot)))

    def seen(self, operations: Sequence[Operation]) -> Sequence[Seen]:
        return list(lists_seen(facts(operations, None)))

    def views(self, operations: Sequence[Operation], snapshot: Snapshot | None) -> Sequence[View]:
        return list(private(facts(operations, snapshot)))

    def copies(self, snapshot: Snapshot) -> Sequence[Copies]:
        return list(kept_twice(snapshot))

    def footprint(self, operation: Operation) -> Footprint | None:
        return footprint_of(operation)

    def changes(self, before: Snapshot, after: Snapshot) -> Mapping[tuple[str, str], int]:
        return changes(before, after)

    def owner(self, operation: Operation) -> str:
        return owner_of(operation)

    def promises_json(self, tool: str) -> bool:
        return tool not in HUMAN


SPEC = EmpiricaSpec()
