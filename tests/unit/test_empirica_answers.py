"""Empirica's answers, in the shapes in which they really arrive."""

from __future__ import annotations

import json

import pytest

from mcpconc.history import Outcome
from mcpconc.model.empirica.answers import interpret


def wrapped(error: str, command: str = "goals-create") -> str:
    """As the server wraps a command that did not exit with 0."""
    return json.dumps({"ok": False, "error": error, "command": command})


def test_plain_success() -> None:
    answer = interpret("session_create", '{"ok": true, "session_id": "e371"}\n')
    assert answer.outcome is Outcome.SUCCESS
    assert answer.data["session_id"] == "e371"


@pytest.mark.parametrize(
    ("tool", "text", "error"),
    [
        (
            "goals_create",
            wrapped(
                '{"ok": false, "error": "Similar goal(s) already exist", "similar_goals": []}\n'
            ),
            "similar-goal",
        ),
        (
            "goals_add_task",  # the command prints its refusal twice
            wrapped(
                '{"ok": false, "error": "Goal not found: dead"}\n'
                '{\n  "ok": false,\n  "error": "Goal not found: dead"\n}\n'
            ),
            "goal-not-found",
        ),
        (
            "goals_add_task",  # a log line, and nothing found
            wrapped(
                "Goal id prefix '74336' is shorter than 8 characters — refusing to prefix-match"
                " (too easy to hit the wrong goal)\n"
            ),
            "goal-not-found",
        ),
        (
            "submit_postflight_assessment",
            wrapped('{"ok": false, "error": "Unknown POSTFLIGHT key(s): other", "hint": "…"}\n'),
            "invalid-input",
        ),
        (
            "note",  # what the database says
            wrapped("❌ note error: NOT NULL constraint failed: notes.session_id\n"),
            "no-session",
        ),
        (
            "project_bootstrap",
            wrapped(
                '{"ok": false, "error": "Not in a git repository or no remote …", "hint": "…"}'
            ),
            "no-project",
        ),
        (
            "goals_complete_task",  # log lines only
            wrapped("No subtask found matching: dead\nCannot resolve subtask ID: dead\n"),
            "task-not-found",
        ),
        (
            "goals_activate",
            wrapped('{"ok": false, "error": "Goal 55 is already in_progress; goals-activate …"}\n'),
            "not-planned",
        ),
        (
            "goals_activate",
            wrapped('{"ok": false, "error": "Goal 55 is completed, not planned. Continue …"}\n'),
            "not-planned",
        ),
        (
            "goals_add_dependency",
            wrapped('{"ok": false, "error": "Dependency already exists"}'),
            "dependency-exists",
        ),
        (
            "goals_add_dependency",
            wrapped('{"ok": false, "error": "Circular dependency detected", "detail": "…"}'),
            "dependency-cycle",
        ),
        (
            "unknown_resolve",
            wrapped('{"ok": false, "error": "No unknown matched \'00\' \\u2014 nothing …"}'),
            "unknown-not-found",
        ),
        (
            "submit_check_assessment",
            wrapped("❌ Check submit error: Vectors must be a dictionary\n"),
            "invalid-input",
        ),
        (
            "epistemics_list",
            wrapped('{"ok": false, "error": "Session zz not found"}\n'),
            "session-not-found",
        ),
        (
            "goals_refresh",  # exit code 0, no wrapper
            '{"ok": false, "goal_id": "17", "message": "Goal not found or not stale"}',
            "not-stale",
        ),
        (
            "goals_get_tasks",
            '{"ok": false, "goal_id": "55", "message": "No tasks found for goal", "tasks": []}',
            "no-tasks",
        ),
        (
            "submit_postflight_assessment",
            '{"ok": false, "message": "POSTFLIGHT pre-validation failed: …", "error": "session"}',
            "session-not-found",
        ),
        ("goals_create", wrapped("❌ Create goal error: something new"), "error"),
    ],
)
def test_refusals_have_a_stable_class(tool: str, text: str, error: str) -> None:
    answer = interpret(tool, text)
    assert answer.outcome is Outcome.REFUSED
    assert answer.data["error"] == error
    assert answer.data["message"]
    assert not answer.unknown


def test_a_refusal_keeps_what_else_it_says() -> None:
    inner = {
        "ok": False,
        "error": "Similar goal(s) already exist",
        "similar_goals": [{"goal_id": "g"}],
    }
    answer = interpret("goals_create", wrapped(json.dumps(inner)))
    assert answer.data["similar_goals"] == [{"goal_id": "g"}]


def test_usage_is_not_a_refusal() -> None:
    text = "usage: empirica unknown-list\n  [--limit N]\nempirica: error: invalid int value: '1.5'"
    answer = interpret("unknown_list", wrapped(text, "unknown-list"))
    assert answer.outcome is Outcome.USAGE
    assert answer.data["message"] == "empirica: error: invalid int value: '1.5'"


def test_the_targets_own_time_out_is_unknown() -> None:
    answer = interpret(
        "finding_log", '{"ok": false, "error": "Command timed out (30s): finding-log"}'
    )
    assert answer.unknown == "target time-out"


def test_a_locked_database_is_unknown() -> None:
    answer = interpret("goals_create", wrapped("❌ Create goal error: database is locked\n"))
    assert answer.unknown == "database locked"


def test_a_checkpoint_is_read_from_its_lines() -> None:
    text = "✅ Checkpoint created successfully\n   ID: c726\n   Phase: ACT\n   Round: 1\n"
    answer = interpret("checkpoint_create", text)
    assert answer.outcome is Outcome.SUCCESS
    assert answer.data == {"id": "c726", "phase": "ACT", "round": 1, "storage": ""}


def test_no_checkpoint_is_a_success() -> None:
    answer = interpret("checkpoint_load", "⚠️  No checkpoint found for session: e371\n")
    assert (answer.outcome, answer.data) == (Outcome.SUCCESS, {"found": False})


def test_a_found_checkpoint_has_no_ok() -> None:
    answer = interpret("checkpoint_load", '{"session_id": "e371", "phase": "ACT", "round": 1}')
    assert answer.outcome is Outcome.SUCCESS
    assert answer.data["found"] is True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last):",
        '{"ok": true, "goals": [',
        '{"ok": true}\n{"ok": true}',
        'WARNING: something\n{"ok": true}',
        '{"ok": true, "goals": [1]}\n\n⚠️ Truncated (40000 chars)',
    ],
)
def test_what_promises_json_and_is_not_is_garbled(text: str) -> None:
    assert interpret("goals_list", text).outcome is Outcome.GARBLED


def test_json_where_a_checkpoint_is_due_is_garbled() -> None:
    assert interpret("checkpoint_create", '{"ok": true}').outcome is Outcome.GARBLED
