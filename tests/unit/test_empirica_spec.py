"""From operations and rows to what oracles ask: with the ids, tokens and columns that the real
server leaves, cut down to what matters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mcpconc.history import Operation, Outcome, Phase
from mcpconc.linearize.search import check
from mcpconc.model.base import SNAPSHOT, Partition
from mcpconc.model.empirica import MODELLED, SPEC, TOKEN_FIELDS
from mcpconc.model.empirica.footprint import changes, learn
from mcpconc.model.spec import Mode
from mcpconc.program import token_for
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

S, G = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
VECTORS = {"know": 0.6, "uncertainty": 0.2}


class Story:
    """Operations, one after the other unless said otherwise, and rows."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.notes: dict[str, str] = {}

    def call(
        self,
        tool: str,
        data: Mapping[str, Any] | None = None,
        *,
        agent: int = 0,
        error: str = "",
        span: tuple[int, int | None] | None = None,
        **args: Any,
    ) -> str:
        """Add an operation and return its token. `data` None means never answered."""
        n = len(self.operations)
        token = token_for(agent, n)
        args = {k: v.replace("{}", token) if isinstance(v, str) else v for k, v in args.items()}
        invoked, returned = span or (10 * n, 10 * n + 5 if data is not None else None)
        outcome = None
        if data is not None:
            outcome = Outcome.REFUSED if error else Outcome.SUCCESS
            data = {"error": error, **data} if error else data
        self.operations.append(
            Operation(
                call=f"{agent}.{n}",
                agent=agent,
                tool=tool,
                args=args,
                token=token,
                phase=Phase.LANE,
                invoked=invoked,
                returned=returned,
                outcome=outcome,
                data=data or {},
            )
        )
        return token

    def row(self, table: str, **columns: Any) -> None:
        rows = self.tables.setdefault(table, [])
        rows.append({"_rowid_": len(rows) + 1, **columns})

    def session(self, agent: int = 0, id: str = S, **columns: Any) -> None:
        """A session, made and there."""
        self.call("session_create", {"session_id": id, "project_id": "p"}, agent=agent, ai_id="ai")
        self.row("sessions", session_id=id, ai_id="ai", project_id="p", **columns)

    def reflex(self, phase: str, round: int, token: str, session: str = S, **more: Any) -> None:
        self.row(
            "reflexes",
            id=len(self.tables.get("reflexes", [])) + 1,
            session_id=session,
            phase=phase,
            round=round,
            reasoning=token,
            **VECTORS,
            **more,
        )

    def snapshot(self) -> Snapshot:
        notes = {f"refs/notes/empirica/{ref}": {"c": text} for ref, text in self.notes.items()}
        tables = {table: list(rows) for table, rows in self.tables.items()}
        return Snapshot(tables={"sessions": tables}, notes=notes, refs=dict.fromkeys(notes, "0"))

    def partitions(self, kind: str) -> list[Partition]:
        found = SPEC.partitions(self.operations, self.snapshot())
        return [p for p in found if p.kind == kind]

    def verdict(self, kind: str) -> tuple[Verdict, str]:
        """Of the only partition of this kind: the verdict, and the field where it stops."""
        (partition,) = self.partitions(kind)
        result = check(partition)
        field = result.stuck[0][1].field if result.stuck else ""
        return result.verdict, field if result.verdict is Verdict.VIOLATION else ""


def assess(s: Story, tool: str, data: Mapping[str, Any] | None, **more: Any) -> str:
    return s.call(
        f"submit_{tool}_assessment", data, session_id=S, vectors=VECTORS, reasoning="{}", **more
    )


def test_tokens_go_into_tools_that_write() -> None:
    assert TOKEN_FIELDS.keys() <= MODELLED
    assert not {"goals_list", "checkpoint_load", "goals_activate"} & TOKEN_FIELDS.keys()


def test_two_checks_with_one_round_have_no_order() -> None:
    s = Story()
    s.session()
    a = assess(s, "check", {"session_id": S, "round": 1}, span=(10, 20))
    b = assess(s, "check", {"session_id": S, "round": 1}, span=(11, 21), agent=1)
    s.reflex("CHECK", 1, a)
    s.reflex("CHECK", 1, b)
    assert s.verdict("reflexes") == (Verdict.VIOLATION, "round")


def test_checks_in_commit_order_are_fine_whoever_was_invoked_first() -> None:
    s = Story()
    s.session()
    a = assess(s, "check", {"session_id": S, "round": 2}, span=(10, 20))
    b = assess(s, "check", {"session_id": S, "round": 1}, span=(11, 21), agent=1)
    s.reflex("CHECK", 1, b)
    s.reflex("CHECK", 2, a)
    assert s.verdict("reflexes") == (Verdict.OK, "")


@pytest.mark.parametrize("there", [True, False])
def test_an_unanswered_assessment_is_known_by_its_row(there: bool) -> None:
    s = Story()
    s.session()
    token = assess(s, "preflight", None)
    if there:
        s.reflex("PREFLIGHT", 1, token)
    assert s.verdict("reflexes") == (Verdict.OK, "")


@pytest.mark.parametrize(
    ("more", "verdict"), [({"other": 1}, Verdict.OK), ({"work_type": "code"}, Verdict.VIOLATION)]
)
def test_an_assessment_may_be_refused_for_an_argument_that_it_does_not_know(
    more: dict[str, Any], verdict: Verdict
) -> None:
    s = Story()
    s.session()
    tool = "submit_preflight_assessment"
    s.call(tool, {}, error="invalid-input", session_id=S, vectors=VECTORS, **more)
    assert s.verdict("reflexes")[0] is verdict


def test_a_redirected_postflight_is_seen_where_it_went_and_where_it_was_meant_to_go() -> None:
    s = Story()
    other = "33333333-3333-4333-8333-333333333333"
    s.session()
    s.session(id=other, end_time=None)
    token = assess(s, "postflight", {"session_id": other})
    s.reflex("POSTFLIGHT", 1, token, session=other)
    verdicts = {p.key: check(p).verdict for p in s.partitions("reflexes")}
    assert verdicts == {S: Verdict.VIOLATION, other: Verdict.OK}


def test_sessions_are_told_apart_by_instance() -> None:
    s = Story()
    s.session(instance_id="one")
    s.session(agent=1, id=G, instance_id="two")
    assert {check(p).verdict for p in s.partitions("session")} == {Verdict.OK}
    assert len(s.partitions("session")) == 2


def test_two_open_sessions_of_one_instance_have_no_order() -> None:
    s = Story()
    s.session(instance_id="one")
    s.session(id=G, instance_id="one")
    assert s.verdict("session") == (Verdict.VIOLATION, "auto_closed_sessions")


def goal(s: Story, **columns: Any) -> None:
    s.call("goals_create", {"goal_id": G, "session_id": S}, session_id=S, objective="Dig")
    row = {"status": "in_progress", "is_completed": 0, "goal_data": "{}", **columns}
    s.row("goals", id=G, session_id=S, objective="Dig", project_id="p", **row)


def test_an_activation_that_overtakes_a_completion_has_no_order() -> None:
    s = Story()
    s.session()
    goal(s, status="in_progress", is_completed=1, completion_reason="r")
    s.call("goals_complete", {"goal_id": G}, goal_id=G, reason="r", span=(50, 60))
    s.call("goals_activate", {"goal_id": G}, goal_id=G, span=(51, 61), agent=1)
    assert s.verdict("goal")[0] is Verdict.VIOLATION


def test_a_stale_mark_reaches_the_goals_of_its_session_only() -> None:
    s = Story()
    s.session()
    goal(s)
    s.call("goals_mark_stale", {"goals_marked_stale": 0}, session_id="other", reason="r")
    assert [op.name for op in s.partitions("goal")[0].ops] == ["goals_create", SNAPSHOT]


def test_a_list_that_leaves_a_goal_out_is_held_against_it() -> None:
    s = Story()
    s.session()
    goal(s)
    listed = {"goals": [], "filters": {"project_id": "p"}, "truncated": False}
    s.call("goals_list", listed, session_id=S)
    assert s.verdict("goal") == (Verdict.VIOLATION, "goals")


@pytest.mark.parametrize("more", [{"truncated": True}, {"filters": {"project_id": "other"}}])
def test_a_list_that_may_leave_it_out_is_not(more: dict[str, Any]) -> None:
    s = Story()
    s.session()
    goal(s)
    listed = {"goals": [], "filters": {"project_id": "p"}, "truncated": False, **more}
    s.call("goals_list", listed, session_id=S)
    assert s.verdict("goal") == (Verdict.OK, "")
    assert s.partitions("goal")[0].projected == frozenset()


def test_a_task_that_nobody_made_must_be_refused() -> None:
    s = Story()
    s.call("goals_complete_task", {"task_id": "t"}, task_id="t", evidence="{}")
    assert s.verdict("task") == (Verdict.VIOLATION, "task-not-found")


def test_one_objective_twice_has_no_order() -> None:
    s = Story()
    s.session()
    goal(s)
    other = "44444444-4444-4444-8444-444444444444"
    s.call("goals_create", {"goal_id": other, "session_id": S}, session_id=S, objective="DIG")
    s.row("goals", id=other, session_id=S, objective="DIG", goal_data="{}")
    assert s.verdict("objective") == (Verdict.VIOLATION, "similar-goal")


@pytest.mark.parametrize(
    ("goals", "objective", "said"),
    [
        (50, "dig 3x", ""),
        (51, "another", ""),
        (51, "dig 3x", "goals_create: whether a similar goal was open was not judged"),
        (51, "dig 3x deeper", "goals_create: whether a similar goal was open was not judged"),
    ],
)
def test_with_many_goals_similar_ones_are_not_judged_and_the_result_says_so_if_there_are_any(
    goals: int, objective: str, said: str
) -> None:
    s = Story()
    s.session()
    for n, text in enumerate([objective, *(f"dig {n}x" for n in range(goals - 1))]):
        s.call("goals_create", {"goal_id": f"g{n}"}, session_id=S, objective=text)
    found = s.partitions("objective")
    assert [p.note[: len(said)] for p in found if p.note] == ([said] if said else [])
    assert not said or [check(p).verdict for p in found] == [Verdict.OK]


def test_an_unanswered_goal_that_is_there_counts() -> None:
    s = Story()
    s.session()
    token = s.call("goals_create", None, session_id=S, objective="Dig", description="{}")
    s.row("goals", id=G, session_id=S, objective="Dig", description=token, goal_data="{}")
    s.call("goals_create", {"goal_id": "x", "session_id": S}, session_id=S, objective="dig")
    s.row("goals", id="x", session_id=S, objective="dig", goal_data="{}")
    assert s.verdict("objective")[0] is Verdict.VIOLATION


def test_one_text_twice_has_no_order() -> None:
    s = Story()
    for id in ("f1", "f2"):
        token = s.call(
            "finding_log",
            {"finding_id": id, "project_id": "p"},
            session_id=S,
            finding="Wet",
            subject="{}",
        )
        s.row("project_findings", id=id, project_id="p", session_id=S, finding="Wet", subject=token)
    assert s.verdict("finding") == (Verdict.VIOLATION, "finding_id")


def test_effects_select_by_id_or_else_by_token() -> None:
    s = Story()
    told = s.call("goals_create", {"goal_id": G}, session_id=S, objective="a", description="{}")
    lost = s.call("goals_create", None, session_id=S, objective="b", description="{}")
    first, second = SPEC.effects(s.operations)
    assert (first.where, first.values["description"]) == ({"id": G}, told)
    assert (second.where, second.id) == ({"description": lost}, None)
    assert first.mode is Mode.APPEND
    assert {c.ref or c.table for c in first.companions} == {
        f"refs/notes/empirica/goals/{G}",
        "success_criteria",
    }


def test_equal_texts_share_a_key() -> None:
    s = Story()
    s.call("finding_log", {"finding_id": "f", "project_id": "p"}, finding="A  b", session_id=S)
    s.call("finding_log", {"finding_id": "f", "project_id": "p"}, finding="a B", session_id=S)
    assert len({effect.key for effect in SPEC.effects(s.operations)}) == 1


def test_rows_are_traced_to_their_calls() -> None:
    s = Story()
    s.session()
    token = assess(s, "preflight", {"session_id": S})
    s.reflex("PREFLIGHT", 1, token)
    s.reflex("CHECK", 1, "nobody's")
    traced = {(t, call) for _, t, _, call in SPEC.attribute(s.operations, s.snapshot())}
    assert traced == {("sessions", "0.0"), ("reflexes", "0.1"), ("reflexes", "")}


def test_an_automatic_close_is_its_closers() -> None:
    s = Story()
    s.session()
    closing = {"lifecycle": {"auto_closed_sessions": [{"session_id": S}]}, "session_id": G}
    s.call("session_create", closing, ai_id="ai")
    for _ in range(2):
        s.row("reflexes", id=0, session_id=S, phase="POSTFLIGHT", round=1)
        s.tables["reflexes"][-1]["reflex_data"] = '{"auto_closed": true}'
    kinds = [row[:2] + row[3:] for row in SPEC.attribute(s.operations, s.snapshot())]
    assert kinds.count(("automatic close", "reflexes", "0.1")) == 1
    assert kinds.count(("automatic close", "reflexes", "")) == 1


def test_rounds_are_a_log_of_their_own() -> None:
    s = Story()
    s.session()
    for round in (1, 2):
        token = assess(s, "check", {"session_id": S, "round": round})
        s.reflex("CHECK", round, token, timestamp=float(round))
    logs = {log.shown_by: log for log in SPEC.logs(s.operations, s.snapshot())}
    assert logs["round"].rows == (("0.1", 1), ("0.2", 2))
    assert logs["round"].distinct
    assert logs["timestamp"].rows == (("0.1", 1.0), ("0.2", 2.0))


def test_another_agents_transaction_shows() -> None:
    s = Story()
    s.session()
    mine = assess(s, "preflight", {"session_id": S, "transaction_id": "tx"})
    s.reflex("PREFLIGHT", 1, mine, transaction_id="tx")
    token = s.call("finding_log", {"finding_id": "f"}, agent=1, finding="{}", session_id=S)
    s.row("project_findings", id="f", project_id="p", finding=token, transaction_id="tx")
    seen = {(v.kind, v.agent, v.owners) for v in SPEC.views(s.operations, s.snapshot())}
    assert seen == {
        ("reflexes", 0, frozenset({0})),
        ("project_findings", 1, frozenset({0})),
    }


def disagreeing(s: Story) -> set[tuple[str, str]]:
    return {
        (copy.kind, copy.fact)
        for copy in SPEC.copies(s.snapshot())
        if len({json.dumps(v, default=str) for v in copy.places.values()}) > 1
    }


def test_an_unknown_and_its_note_are_compared() -> None:
    s = Story()
    s.row("project_unknowns", id="u", unknown="why", is_resolved=1, resolved_by="a")
    s.notes["unknowns/u"] = '{"unknown": "why", "resolved": false, "resolved_by": null}'
    assert disagreeing(s) == {("unknown", "resolved"), ("unknown", "resolved_by")}


def test_the_last_row_of_a_round_owns_its_note() -> None:
    s = Story()
    s.reflex("CHECK", 1, "tok000x000z")
    s.reflex("CHECK", 1, "tok001x000z")
    note = {"vectors": VECTORS, "meta": {"reasoning": "tok001x000z"}}
    s.notes[f"session/{S}/CHECK/1"] = json.dumps(note)
    assert disagreeing(s) == set()
    s.notes[f"session/{S}/CHECK/1"] = json.dumps(note | {"meta": {"reasoning": "tok000x000z"}})
    assert disagreeing(s) == {("reflexes", "writer")}
    s.notes.clear()
    assert disagreeing(s) == {("reflexes", "note")}


def test_changes_are_named_without_ids() -> None:
    s = Story()
    before = s.snapshot()
    s.row("goals", id=G, session_id=S, status="planned", goal_data='{"a": {"b": 1}}')
    s.row("subtasks", id="t", goal_id=G)
    s.notes[f"session/{S}/CHECK/12"] = "{}"
    middle = s.snapshot()
    assert changes(before, middle) == {
        ("rows:sessions.goals", S): 1,
        ("rows:sessions.subtasks", G): 1,
        ("ref:refs/notes/empirica/session/*/PHASE/#", S): 1,
    }
    goal = {**s.tables["goals"][0], "status": "completed", "goal_data": '{"a": {"b": 2}}'}
    s.tables = {**s.tables, "goals": [goal]}
    assert changes(middle, s.snapshot()) == {
        ("column:sessions.goals.status", G): 1,
        ("json:sessions.goals.goal_data:a.b", G): 1,
    }


def test_what_is_learned_are_bounds_by_tool_and_outcome() -> None:
    s = Story()
    s.call("goals_add_task", {"task_id": "t"}, goal_id=G)
    s.call("goals_add_task", {"task_id": "u"}, goal_id=G)
    states = [s.snapshot()]
    for id in ("t", "u"):
        s.row("subtasks", id=id, goal_id=G)
        states.append(s.snapshot())
    steps = [(s.operations[0], states[0], states[1]), (s.operations[1], states[1], states[1])]
    assert learn(steps) == {
        "goals_add_task success": {"changes": {"rows:sessions.subtasks": (0, 1)}, "foreign": {}}
    }


def test_a_file_that_is_named_after_the_second_may_be_added_or_changed() -> None:
    s = Story()
    s.call("checkpoint_create", {}, session_id=S)
    before = s.snapshot()
    name = f"ws/.empirica_reflex_logs/checkpoints/{S}/checkpoint_ACT_1_20260101_120000.json"
    after = replace(before, files={**before.files, name: "{}"})
    stem = "ws/.empirica_reflex_logs/checkpoints/*/checkpoint_PHASE_#_#_#"
    assert learn([(s.operations[0], before, after)]) == {
        "checkpoint_create success": {
            "changes": {f"file:{stem}": (0, 1), f"content:{stem}": (0, 1)},
            "foreign": {},
        }
    }
