"""What Empirica's objects are meant to do, and exactly what their known defects excuse."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.empirica.artifacts import Change
from mcpconc.model.empirica.batches import DENIED
from mcpconc.model.empirica.common import OK, Quirky, Refusal, same_objective, same_text
from mcpconc.model.empirica.dependencies import Dependencies
from mcpconc.model.empirica.goals import Goal, GoalModel, Shown, Task
from mcpconc.model.empirica.missing import Missing
from mcpconc.model.empirica.objectives import Objectives, OpenGoals
from mcpconc.model.empirica.reflexes import Entry, Loaded, Reflex, Reflexes, listing
from mcpconc.model.empirica.sessions import Resumed, Sessions
from mcpconc.model.empirica.unknowns import Unknown, Unknowns

PREFLIGHT, CHECK = "submit_preflight_assessment", "submit_check_assessment"
POSTFLIGHT = "submit_postflight_assessment"
SURE = (("know", 0.6), ("uncertainty", 0.2))
UNSURE = (("know", 0.4), ("uncertainty", 0.6))


def call(name: str, input: Hashable = None, output: Hashable | None = OK) -> Op:
    return Op("c", 0, name, input, output, 0, 1 if output is not None else None)


def run(model: Any, *ops: Op) -> Any:
    """The state after these operations, or the first rejection. Of several successors the
    first is taken."""
    state = model.initial()
    for op in ops:
        result = model.step(state, op)
        if isinstance(result, Reject):
            return result
        if model.pure(op):
            assert list(result) == [state]
        state = result[0]
    return state


def rejected(model: Any, *ops: Op) -> str:
    """The field at which the last operation is rejected; "" if it is not."""
    before = run(model, *ops[:-1])
    assert not isinstance(before, Reject), before
    result = model.step(before, ops[-1])
    return result.field if isinstance(result, Reject) else ""


def excused(model: Quirky, quirk: str) -> Any:
    return model.excusing(frozenset({quirk}))


# ---------------------------------------------------------------------- sessions


def created(id: str, *closed: str) -> Op:
    return call("session_create", id, frozenset(closed))


def test_a_new_session_closes_the_open_one() -> None:
    state = run(Sessions(), created("a"), created("b", "a"))
    assert (state.open, state.ended) == ({"b"}, {"a"})


def test_two_sessions_that_close_nothing_are_one_too_many() -> None:
    assert rejected(Sessions(), created("a"), created("b")) == "auto_closed_sessions"


def test_a_session_is_not_closed_twice() -> None:
    ops = (created("a"), created("b", "a"), created("c", "a"))
    assert rejected(Sessions(), *ops) == "auto_closed_sessions"


def test_open_sessions_left_are_compared() -> None:
    left = call(SNAPSHOT, None, frozenset({"a", "b"}))
    assert rejected(Sessions(), created("a"), created("b", "a"), left) == "end_time"


def test_a_killed_create_may_have_closed_only() -> None:
    killed = call("session_create", None, None)
    assert run(Sessions(), created("a"), killed).open == frozenset()


def resumed(*open: str, ended: tuple[str, ...] = (), complete: bool = True) -> Op:
    shown = Resumed(frozenset(open), frozenset(ended), complete)
    return call("resume_previous_session", None, shown)


def test_resuming_shows_which_sessions_ended() -> None:
    before = (created("a"), created("b", "a"))
    assert rejected(Sessions(), *before, resumed("b", ended=("a",))) == ""
    assert rejected(Sessions(), *before, resumed("b", complete=False)) == ""
    assert rejected(Sessions(), *before, resumed("b")) == "sessions"
    assert rejected(Sessions(), *before, resumed("a", ended=("b",))) == "sessions.status"


# ---------------------------------------------------------------------- reflexes


def assess(tool: str, output: Hashable | None = OK, token: str = "t", **more: Any) -> Op:
    return call(tool, Entry(token=token, **{"vectors": SURE, **more}), output)


def left(*rows: Reflex) -> Op:
    return call(SNAPSHOT, None, rows)


def test_check_numbers_on() -> None:
    assert rejected(Reflexes(), assess(CHECK, 1), assess(CHECK, 2)) == ""
    assert rejected(Reflexes(), assess(CHECK, 1), assess(CHECK, 1)) == "round"


def test_phases_are_numbered_apart() -> None:
    state = run(Reflexes(), assess(PREFLIGHT), assess(CHECK, 1), assess(PREFLIGHT))
    assert [(r.phase, r.round) for r in state] == [("PREFLIGHT", 1), ("CHECK", 1), ("PREFLIGHT", 2)]


def test_equal_rounds_left_are_rejected() -> None:
    rows = (Reflex("PREFLIGHT", 1, "a", SURE), Reflex("PREFLIGHT", 1, "b", SURE))
    ops = (assess(PREFLIGHT, token="a"), assess(PREFLIGHT, token="b"), left(*rows))
    assert rejected(Reflexes(), *ops) == "round"


def test_a_row_seen_beforehand_tells_its_place_and_round() -> None:
    first = assess(PREFLIGHT, token="a")
    assert rejected(Reflexes(), assess(PREFLIGHT, row=(1, 2))) == "round"
    assert rejected(Reflexes(), first, assess(CHECK, 1, row=(0, 1))) == "write-order"
    assert rejected(Reflexes(), first, assess(CHECK, 1, row=None)) == "rows"


def test_a_missing_or_foreign_row_is_rejected() -> None:
    row = Reflex("PREFLIGHT", 1, "a", SURE)
    assert rejected(Reflexes(), assess(PREFLIGHT, token="a"), left()) == "rows"
    assert rejected(Reflexes(), left(row)) == "rows"


def test_the_note_of_an_unsure_check_may_have_lost_its_words() -> None:
    def loaded(token: str, vectors: Any) -> Op:
        return call("checkpoint_load", Entry(), Loaded("CHECK", 1, token, vectors))

    unsure, sure = assess(CHECK, 1, vectors=UNSURE), assess(CHECK, 1)
    assert rejected(Reflexes(), unsure, loaded("", UNSURE)) == ""
    assert rejected(Reflexes(), unsure, loaded("t", UNSURE)) == ""
    assert rejected(Reflexes(), sure, loaded("", SURE)) == "token"


def test_checkpoints_do_not_number_on() -> None:
    checkpoint = call("checkpoint_create", Entry(token="p", phase="CHECK"), 1)
    assert rejected(Reflexes(), checkpoint, assess(CHECK, 1)) == ""
    assert rejected(Reflexes(), checkpoint, assess(CHECK, 2)) == "round"
    lenient = excused(Reflexes(), "checkpoint-counts-as-round")
    assert rejected(lenient, checkpoint, assess(CHECK, 2)) == ""
    # Without a checkpoint there is nothing to excuse.
    assert rejected(lenient, assess(CHECK, 1), assess(CHECK, 3)) == "round"


def test_a_checkpoint_takes_the_vectors_of_the_latest_row() -> None:
    checkpoint = call("checkpoint_create", Entry(token="p", phase="ACT"), 1)
    state = run(Reflexes(), assess(PREFLIGHT), checkpoint)
    assert state[-1].vectors == SURE


def test_an_automatic_close_is_the_next_postflight() -> None:
    closing = call("session_create", Entry())
    assert run(Reflexes(), assess(POSTFLIGHT), closing)[-1].round == 2
    lenient = excused(Reflexes(), "auto-close-round")
    states = lenient.step(run(Reflexes(), assess(POSTFLIGHT)), closing)
    assert {state[-1].round for state in states} == {1, 2}
    assert {state[-1].round for state in lenient.step((), closing)} == {1}


def test_an_automatic_close_keeps_what_was_recorded_before_postflight() -> None:
    post = assess(POSTFLIGHT, vectors=UNSURE)
    state = run(Reflexes(), assess(PREFLIGHT), post, call("session_create", Entry()))
    assert dict(state[-1].vectors) == {"know": 0.6, "uncertainty": 0.2, "completion": 1.0}


def test_postflight_of_another_session_is_rejected() -> None:
    lenient = excused(Reflexes(), "postflight-redirected")
    own = call(POSTFLIGHT, Entry(elsewhere="own"))
    assert rejected(Reflexes(), own) == "session_id"
    assert run(lenient, own) == ()
    assert rejected(lenient, call(POSTFLIGHT, Entry(elsewhere="strange"))) == "session_id"


def test_a_session_that_does_not_exist_must_be_refused() -> None:
    ghost = assess(PREFLIGHT, exists=False)
    assert rejected(Reflexes(), ghost) == "session-not-found"
    assert rejected(excused(Reflexes(), "ghost-session"), ghost) == ""
    refusal = assess(PREFLIGHT, Refusal("session-not-found"), exists=False)
    assert rejected(Reflexes(), refusal) == ""
    assert rejected(Reflexes(), assess(PREFLIGHT, Refusal("session-not-found"))) != ""


def test_malformed_vectors_may_be_refused_and_others_not() -> None:
    refusal = Refusal("invalid-input")
    assert rejected(Reflexes(), assess(PREFLIGHT, refusal, valid=False)) == ""
    assert rejected(Reflexes(), assess(PREFLIGHT, refusal)) == "spurious-invalid-input"


def test_a_list_is_a_set_of_rows() -> None:
    def read(*rows: tuple[str, str]) -> Op:
        return call("epistemics_list", Entry(), listing(rows))

    ops = (assess(PREFLIGHT, token="a"), assess(CHECK, 1, token="b"))
    assert rejected(Reflexes(), *ops, read(("CHECK", "b"), ("PREFLIGHT", "a"))) == ""
    assert rejected(Reflexes(), *ops, read(("PREFLIGHT", "a"))) == "trajectories"
    assert listing([]) == ()


def test_the_checkpoint_loaded_is_the_highest_round_then_phase() -> None:
    ops = (assess(POSTFLIGHT), assess(PREFLIGHT), assess(PREFLIGHT, token="x"))
    good = Loaded("PREFLIGHT", 2, "x", SURE)
    assert rejected(Reflexes(), *ops, call("checkpoint_load", Entry(), good)) == ""
    other = Loaded("POSTFLIGHT", 1, "t", SURE)
    assert rejected(Reflexes(), *ops, call("checkpoint_load", Entry(), other)) == "phase"
    assert rejected(Reflexes(), *ops, call("checkpoint_load", Entry(), OK)) == "found"
    posted = call("checkpoint_load", Entry(phase="POSTFLIGHT"), other)
    assert rejected(Reflexes(), *ops, posted) == ""


def test_state_assessed_is_that_of_some_row() -> None:
    assert rejected(Reflexes(), assess(PREFLIGHT), call("assess_state", Entry(), SURE)) == ""
    assert rejected(Reflexes(), assess(PREFLIGHT), call("assess_state", Entry(), UNSURE)) != ""
    assert rejected(Reflexes(), call("assess_state", Entry(), ())) == ""


# ---------------------------------------------------------------------- goals


NEW = call("goals_create", "in_progress")
PLANNED = call("goals_create", "planned")
TASK = call("goals_add_task", ("t1", "dig"))
COMPLETE = call("goals_complete", "done")


def done(evidence: str | None, output: Hashable = OK) -> Op:
    return call("goals_complete_task", ("t1", evidence), output)


def shown(completed: bool, output: Hashable) -> Op:
    return call("goals_list", completed, output)


@pytest.mark.parametrize(
    "op",
    [
        COMPLETE,
        TASK,
        call("goals_activate"),
        call("goals_progress", None, (0, 0)),
    ],
)
def test_nothing_works_on_a_goal_that_is_not_there(op: Op) -> None:
    assert rejected(GoalModel(), op) == "goal-not-found"


def test_a_goal_that_is_there_is_found() -> None:
    refusal = call("goals_complete", "done", Refusal("goal-not-found"))
    assert rejected(GoalModel(), NEW, refusal) == "spurious-goal-not-found"


def test_only_planned_goals_are_activated() -> None:
    assert run(GoalModel(), PLANNED, call("goals_activate")).status == "in_progress"
    assert rejected(GoalModel(), NEW, call("goals_activate")) == "not-planned"
    told = call("goals_activate", None, Refusal("not-planned", "completed"))
    assert rejected(GoalModel(), PLANNED, COMPLETE, told) == ""
    assert rejected(GoalModel(), NEW, told) == "status"
    assert rejected(GoalModel(), PLANNED, told) == "spurious-not-planned"


def test_a_completed_goal_stays_completed() -> None:
    active = (Goal("in_progress", reason="done"), True)
    ops = (PLANNED, call("goals_activate"), COMPLETE, call(SNAPSHOT, None, active))
    assert rejected(GoalModel(), *ops) == "status"


def test_the_last_reason_stays() -> None:
    assert run(GoalModel(), NEW, COMPLETE, call("goals_complete", "again")).reason == "again"


def test_only_open_goals_are_marked_stale_and_refreshed() -> None:
    mark, refresh = call("goals_mark_stale", "why"), call("goals_refresh")
    assert run(GoalModel(), NEW, mark).stale == "why"
    assert run(GoalModel(), NEW, COMPLETE, mark).stale is None
    assert rejected(GoalModel(), NEW, mark, refresh) == ""
    assert rejected(GoalModel(), NEW, refresh) == "not-stale"
    assert rejected(GoalModel(), NEW, mark, COMPLETE, refresh) == "not-stale"
    assert rejected(GoalModel(), NEW, mark, call("goals_refresh", None, Refusal("not-stale"))) != ""


def test_tasks_that_are_told_are_those_added() -> None:
    tasks = call("goals_get_tasks", None, frozenset({("t1", "dig", True, "hole")}))
    assert rejected(GoalModel(), NEW, TASK, done("hole"), tasks) == ""
    assert rejected(GoalModel(), NEW, TASK, tasks) == "tasks"
    assert rejected(GoalModel(), NEW, call("goals_get_tasks", None, Refusal("no-tasks"))) == ""
    none = call("goals_get_tasks", None, Refusal("no-tasks"))
    assert rejected(GoalModel(), NEW, TASK, none) == "spurious-no-tasks"


def test_completing_without_evidence_keeps_the_evidence() -> None:
    task = run(GoalModel(), NEW, TASK, done("hole"), done(None)).tasks
    assert task == frozenset({Task("t1", "dig", True, "hole", "hole")})


def test_the_quirk_clears_the_column_only_where_there_was_evidence() -> None:
    lenient = excused(GoalModel(), "evidence-cleared")
    before = run(lenient, NEW, TASK, done("hole"))
    columns = {t.evidence for state in lenient.step(before, done(None)) for t in state.tasks}
    assert columns == {"hole", None}
    assert len(lenient.step(before, done("again"))) == 1
    assert len(lenient.step(run(lenient, NEW, TASK), done(None))) == 1


def test_lists_show_goals_as_they_are() -> None:
    ops = (NEW, TASK)
    assert rejected(GoalModel(), *ops, shown(False, Shown("in_progress", False, "0/1"))) == ""
    assert rejected(GoalModel(), *ops, shown(False, Shown("in_progress", False, "0/0"))) == (
        "goals.progress"
    )
    assert rejected(GoalModel(), *ops, shown(True, OK)) == ""
    assert rejected(GoalModel(), *ops, shown(False, OK)) == "goals"
    assert rejected(GoalModel(), PLANNED, shown(False, Shown("in_progress", False, "0/0"))) == (
        "goals.status"
    )


def test_tasks_left_are_compared_column_and_copy() -> None:
    def rows(evidence: str | None, told: str | None) -> Op:
        task = Task("t1", "dig", True, evidence, told)
        return call(SNAPSHOT, None, (Goal("in_progress", tasks=frozenset({task})), False))

    ops = (NEW, TASK, done("hole"))
    assert rejected(GoalModel(), *ops, rows("hole", "hole")) == ""
    assert rejected(GoalModel(), *ops, rows("hole", "old")) == "tasks.told"


# ---------------------------------------------------------------------- rules over several goals


def objective(id: str | None, text: str, output: Hashable | None = OK) -> Op:
    return call("goals_create", (id, text), output)


def similar(*ids: str) -> Refusal:
    return Refusal("similar-goal", frozenset(ids))


def test_one_open_goal_per_objective() -> None:
    first = objective("g1", "dig")
    assert rejected(Objectives(), first, objective("g2", "dig")) == "similar-goal"
    assert rejected(Objectives(), first, objective(None, "dig", similar("g1"))) == ""
    assert rejected(Objectives(), first, objective(None, "dig", similar("g9"))) == "similar_goals"
    assert rejected(Objectives(), objective(None, "dig", similar("g1"))) == "spurious-similar-goal"


def test_completing_frees_the_objective() -> None:
    ops = (objective("g1", "dig"), call("goals_complete", "g1"))
    assert rejected(Objectives(), *ops, objective("g2", "dig")) == ""


def test_objectives_within_one_another_count_as_equal() -> None:
    ops = (objective("g1", "dig"), objective("g2", "dig deep"))
    assert rejected(Objectives(), *ops) == "similar-goal"


def test_marking_stale_counts_the_open_goals() -> None:
    def mark(count: int) -> Op:
        return call("goals_mark_stale", None, count)

    ops = (call("goals_create", "g1"), call("goals_create", "g2"), call("goals_complete", "g1"))
    assert rejected(OpenGoals(), *ops, mark(1)) == ""
    assert rejected(OpenGoals(), *ops, mark(2)) == "goals_marked_stale"


def depend(a: str, b: str, output: Hashable | None = OK, exist: bool = True) -> Op:
    return call("goals_add_dependency", (a, b, exist), output)


def test_two_goals_depend_once_and_one_way() -> None:
    assert rejected(Dependencies(), depend("a", "b"), depend("a", "b")) == "dependency-exists"
    assert rejected(Dependencies(), depend("a", "b"), depend("b", "a")) == "dependency-cycle"
    again = depend("a", "b", Refusal("dependency-exists"))
    assert rejected(Dependencies(), depend("a", "b"), again) == ""
    assert rejected(Dependencies(), again) == "spurious-dependency-exists"


def test_dependencies_left_are_counted() -> None:
    twice = call(SNAPSHOT, None, (("a", "b"), ("a", "b")))
    assert rejected(Dependencies(), depend("a", "b"), twice) == "rows"


def test_a_goal_cannot_depend_on_itself_but_for_the_quirk() -> None:
    assert rejected(Dependencies(), depend("a", "a")) == "dependency-cycle"
    lenient = excused(Dependencies(), "self-dependency")
    assert rejected(lenient, depend("a", "a")) == ""
    assert rejected(lenient, depend("a", "b"), depend("b", "a")) == "dependency-cycle"


def test_dependencies_need_their_goals() -> None:
    assert rejected(Dependencies(), depend("a", "x", exist=False)) == "goal-not-found"
    refusal = depend("a", "x", Refusal("goal-not-found"), exist=False)
    assert rejected(Dependencies(), refusal) == ""


# ---------------------------------------------------------------------- unknowns


LOG = call("unknown_log", "u1", "u1")


def resolve(by: str, id: str = "u1", output: Hashable = OK) -> Op:
    return call("unknown_resolve", (id, by), output)


def test_one_unknown_per_text() -> None:
    assert rejected(Unknowns(), LOG, LOG) == ""
    assert rejected(Unknowns(), LOG, call("unknown_log", "u2", "u2")) == "unknown_id"


def test_resolving_is_repeatable_and_survives_logging_again() -> None:
    state = run(Unknowns(), LOG, resolve("a"), resolve("b"), LOG)
    assert state == Unknown("u1", True, "b")
    assert rejected(Unknowns(), resolve("a")) == "unknown-not-found"
    missing = resolve("a", "u1", Refusal("unknown-not-found"))
    assert rejected(Unknowns(), LOG, missing) == "spurious-unknown-not-found"


def test_batches_close_and_delete_unknowns_too() -> None:
    closed = call("resolve_artifacts", Change("u1", (("is_resolved", 1), ("resolved_by", "b"))))
    assert run(Unknowns(), LOG, closed) == Unknown("u1", True, "b")
    gone = call("delete_artifacts", Change("u1", None))
    assert run(Unknowns(), LOG, gone, call("unknown_log", "u2", "u2")) == Unknown("u2")
    assert rejected(Unknowns(), LOG, gone, LOG, call("unknown_log", "u2", "u2")) == "unknown_id"
    denied = call("delete_artifacts", Change("u1", None), DENIED)
    assert rejected(Unknowns(), LOG, denied) == "ok"
    assert run(excused(Unknowns(), "deleted-not-ok"), LOG, denied) is None


@pytest.mark.parametrize(
    ("asked", "output", "field"),
    [
        ("open", OK, ""),
        ("open", Unknown("u1"), "unknowns"),
        ("resolved", Unknown("u1", True, "a"), ""),
        ("all", Unknown("u1", True, "b"), "unknowns.resolved_by"),
        ("all", OK, "unknowns"),
    ],
)
def test_lists_of_unknowns(asked: str, output: Hashable, field: str) -> None:
    listed = call("unknown_list", asked, output)
    assert rejected(Unknowns(), LOG, resolve("a"), listed) == field


def test_what_is_missing_is_refused() -> None:
    model = Missing(error="task-not-found")
    assert rejected(model, call("goals_complete_task", None, Refusal("task-not-found"))) == ""
    assert rejected(model, call("goals_complete_task")) == "task-not-found"


def test_natural_keys() -> None:
    assert same_text("  Two\n WORDS ") == "two words"
    assert same_objective(" Dig, deep! ") == "dig deep"
    assert same_objective("dig  deep") != "dig deep"
