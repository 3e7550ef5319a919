"""All tools of Empirica 1.14.18's MCP server, and why some of them are not driven."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["NOT_DRIVEN", "TOOLS", "UNABLE"]

UNABLE: Mapping[str, str] = {
    "source_add": "the command wants `--noetic` or `--praxic`, which no argument becomes",
    "lesson_create": "the server adds `-`, which the command does not take",
    "session_snapshot": "the command wants a session, which no argument becomes",
    "memory_compact": "the command wants JSON on its standard input and gets none; it files an "
    "issue about itself each time",
    "goals_ready": "needs the `bd` program, which does not come with it",
}
"""Tools that cannot succeed, whatever their arguments are → why."""

_REMOTE = "needs a service or a git remote that a world does not have"
_MODEL = "needs an embedding store, which is not part of the installation"
_BACKGROUND = "starts or steers processes that outlive the call"
_DERIVED = "shows in another form what tools that are modelled show"

NOT_DRIVEN: Mapping[str, str] = {
    **UNABLE,
    "bootstrap_context": _DERIVED,
    "commit_context": "reads the git log, which no tool writes",
    "doctor": "looks at the installation and takes seven seconds; asks nothing of the state",
    "goals_discover": _DERIVED,
    "goals_search": _MODEL,
    "investigate": _MODEL,
    "lesson_search": "there are no lessons, for none can be made",
    "listener_arm": _BACKGROUND,
    "listener_off": _BACKGROUND,
    "listener_on": _BACKGROUND,
    "loop_heartbeat": _BACKGROUND,
    "loop_register": _BACKGROUND,
    "loop_schedule_next": _BACKGROUND,
    "loop_status": _BACKGROUND,
    "mailbox_reply": _REMOTE,
    "mesh_status": _REMOTE,
    "noetic_batch": "reads and searches the files of the workspace, which no tool writes",
    "notify_emit": _REMOTE,
    "practice_context": _REMOTE,
    "profile_status": _DERIVED,
    "project_embed": _MODEL,
    "project_search": _MODEL,
    "sync_push": _REMOTE,
    "workspace_map": "looks at the directories around the workspace",
}
"""Tool → why no program calls it, or no model speaks of it."""

TOOLS: tuple[str, ...] = (
    *("assess_state", "assumption_log", "bootstrap_context", "bus_dispatch"),
    *("bus_instances", "bus_poll", "bus_register", "bus_status"),
    *("calibration_report", "checkpoint_create", "checkpoint_load", "commit_context"),
    *("deadend_log", "decision_log", "delete_artifacts", "doctor"),
    *("efficiency_report", "epistemics_list", "epistemics_show", "finding_log"),
    *("finding_resolve", "get_empirica_introduction", "goals_activate", "goals_add_dependency"),
    *("goals_add_task", "goals_complete", "goals_complete_task", "goals_create"),
    *("goals_discover", "goals_get_tasks", "goals_list", "goals_mark_stale"),
    *("goals_progress", "goals_ready", "goals_refresh", "goals_search"),
    *("handoff_create", "investigate", "issue_list", "issue_resolve"),
    *("lesson_create", "lesson_list", "lesson_search", "listener_arm"),
    *("listener_off", "listener_on", "log_artifacts", "loop_heartbeat"),
    *("loop_register", "loop_schedule_next", "loop_status", "mailbox_reply"),
    *("memory_compact", "mesh_status", "mistake_log", "noetic_batch"),
    *("note", "notify_emit", "practice_context", "profile_status"),
    *("project_bootstrap", "project_embed", "project_search", "resolve_artifacts"),
    *("resume_previous_session", "session_create", "session_snapshot", "source_add"),
    *(
        "source_list",
        "submit_check_assessment",
        "submit_postflight_assessment",
        "submit_preflight_assessment",
    ),
    *("sync_push", "sync_status", "unknown_list", "unknown_log"),
    *("unknown_resolve", "update_artifacts", "workspace_map", "workspace_overview"),
)
"""The tools that the server lists."""
