"""What artifacts and edges are meant to do, and how batches are read."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.history import Operation, Outcome
from mcpconc.linearize.search import check
from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.empirica import SPEC
from mcpconc.model.empirica.answers import interpret
from mcpconc.model.empirica.artifacts import Artifact, Artifacts, Change, Listing
from mcpconc.model.empirica.batches import DENIED, changed, logged, wired
from mcpconc.model.empirica.common import OK, Refusal
from mcpconc.model.empirica.edges import CUT, DRAW, END_GONE, Draw, Edge, Edges
from mcpconc.model.empirica.kinds import BY_TOOL, KINDS, corrected, resolved, started
from mcpconc.model.spec import Mode
from mcpconc.verdict import Verdict
from unit.test_empirica_models import call, excused, rejected, run
from unit.test_empirica_spec import S, Story, disagreeing

F, D = "55555555-5555-4555-8555-555555555555", "66666666-6666-4666-8666-666666666666"
GHOST = "00000000-0000-4000-8000-000000000000"
FINDINGS = Artifacts(field="finding_id")


def row(id: str, subject: str | None = None, **more: Any) -> Artifact:
    return Artifact(id, tuple(sorted({"finding": "wet", "subject": subject, **more}.items())))


def log(id: str, subject: str | None = None, output: Hashable | None = None) -> Op:
    return call("finding_log", row(id, subject), output or id)


def change(id: str, output: Hashable = OK, **values: Any) -> Op:
    return call("update_artifacts", Change(id, tuple(sorted(values.items()))), output)


def delete(id: str, output: Hashable = OK) -> Op:
    return call("delete_artifacts", Change(id, None), output)


def left(*rows: Artifact) -> Op:
    return call(SNAPSHOT, None, rows)


# ---------------------------------------------------------------------- artifacts


def test_one_artifact_per_text_and_the_first_words_stay() -> None:
    assert run(FINDINGS, log("f1", "a"), log("f1", "b")) == row("f1", "a")
    assert rejected(FINDINGS, log("f1", "a"), log("f2", "b")) == "finding_id"


def test_artifacts_left_are_compared() -> None:
    assert rejected(FINDINGS, log("f1", "a"), left(row("f1", "a"))) == ""
    assert rejected(FINDINGS, log("f1", "a"), left(row("f1", "b"))) == "subject"
    assert rejected(FINDINGS, log("f1", "a"), left(row("f1", "a"), row("f2", "a"))) == "rows"
    assert rejected(FINDINGS, log("f1"), left(row("f2"))) == "id"


def test_the_last_change_stays_and_what_it_does_not_name_is_kept() -> None:
    state = run(FINDINGS, log("f1", "a"), change("f1", impact=0.1), change("f1", impact=0.9))
    assert state == row("f1", "a", impact=0.9)


def test_a_text_is_free_again_once_it_is_deleted() -> None:
    assert run(FINDINGS, log("f1"), delete("f1"), log("f2")) == row("f2")
    missing = Refusal("artifact-not-found")
    assert rejected(FINDINGS, log("f1"), delete("f1"), change("f1", missing, impact=1)) == ""
    assert rejected(FINDINGS, log("f1"), delete("f1"), change("f1", impact=1)) == (
        "artifact-not-found"
    )
    assert rejected(FINDINGS, log("f1"), delete("f1"), left(row("f1"))) == "rows"


def test_a_deletion_that_is_done_has_to_say_so() -> None:
    assert rejected(FINDINGS, log("f1"), delete("f1", DENIED)) == "ok"
    lenient = excused(FINDINGS, "deleted-not-ok")
    assert run(lenient, log("f1"), delete("f1", DENIED)) is None
    # Nothing but those words is excused.
    assert rejected(lenient, delete("f1", DENIED)) == "artifact-not-found"


def test_what_cannot_be_changed_has_to_be_refused() -> None:
    wrong = Change("f1", (), valid=False)
    invalid = call("update_artifacts", wrong, Refusal("invalid-input"))
    assert rejected(FINDINGS, log("f1"), invalid) == ""
    assert rejected(FINDINGS, log("f1"), call("update_artifacts", wrong)) == "invalid-input"
    assert rejected(FINDINGS, log("f1"), change("f1", Refusal("invalid-input"))) == (
        "spurious-invalid-input"
    )


def test_a_successor_may_be_missing() -> None:
    change = Change("f1", (("superseded_by", "f2"),), successor=True)
    refused = call("finding_resolve", change, Refusal("no-successor"))
    assert run(FINDINGS, log("f1"), refused) == row("f1")


def test_lists_of_sources() -> None:
    def read(output: Hashable, asked: bool = True) -> Op:
        return call("source_list", Listing(asked), output)

    shown = (("finding", "wet"), ("id", "f1"))
    assert rejected(FINDINGS, log("f1"), read(shown)) == ""
    assert rejected(FINDINGS, log("f1"), read(OK)) == "sources"
    assert rejected(FINDINGS, read(shown)) == "sources"
    assert rejected(FINDINGS, log("f1"), read((("finding", "dry"),))) == "sources.finding"
    assert rejected(FINDINGS, log("f1"), read(shown, asked=False)) == "sources"
    assert rejected(excused(FINDINGS, "filter-ignored"), log("f1"), read(shown, False)) == ""


# ---------------------------------------------------------------------- edges


def draw(output: Hashable = OK, **more: Any) -> Op:
    return call("log_artifacts", Draw(DRAW, **more), output)


def cut(output: Hashable = OK) -> Op:
    return call("delete_artifacts", Draw(CUT), output)


GONE = call("delete_artifacts", Draw(END_GONE, end=1))


def test_an_edge_is_drawn_once_and_cut_once() -> None:
    assert run(Edges(), draw(), draw()) == Edge(True)
    assert rejected(Edges(), draw(), cut(), cut()) == "no-edge"
    assert rejected(Edges(), draw(), cut(), cut(Refusal("no-edge"))) == ""


def test_an_edge_goes_with_its_ends_and_is_not_drawn_to_nothing() -> None:
    assert run(Edges(), draw(), GONE) == Edge(False, (True, False))
    assert rejected(Edges(), GONE, draw()) == "no-end"
    assert rejected(Edges(), GONE, draw(Refusal("no-end"))) == ""
    assert rejected(Edges(), draw(Refusal("no-end"))) == "spurious-no-end"
    assert rejected(Edges(), draw(), GONE, call(SNAPSHOT, None, True)) == "edge"


def test_what_a_call_logs_itself_is_there() -> None:
    assert run(Edges(first=(False, True)), draw(made=(True, False))) == Edge(True)


OPS = st.lists(
    st.sampled_from([draw(), draw(Refusal("no-end")), cut(), cut(Refusal("no-edge")), GONE])
)


@given(OPS)
def test_pure_operations_change_nothing_and_no_edge_outlives_its_ends(ops: list[Op]) -> None:
    model = Edges()
    state = model.initial()
    for op in ops:
        result = model.step(state, op)
        if isinstance(result, Reject):
            continue
        assert not model.pure(op) or list(result) == [state]
        (state,) = result
        assert all(state.ends) or not state.there


# ---------------------------------------------------------------------- what kinds are


@pytest.mark.parametrize(
    ("kind", "item", "due"),
    [
        ("finding", {"resolution": "r"}, {"is_resolved": 1, "resolution": "r"}),
        ("finding", {"resolution_kind": "bad"}, None),
        ("dead_end", {"resolution": "r"}, {"invalidated_by": "resolve-artifacts"}),
        ("assumption", {"resolution": "r"}, {"status": "falsified"}),
        ("assumption", {"verified": True}, {"status": "verified"}),
        ("decision", {"outcome": "mixed", "regret": 7}, {"regret_score": 1.0}),
        ("decision", {"resolution": "r"}, None),
        ("source", {"resolution": "r"}, None),
    ],
)
def test_what_closing_sets(kind: str, item: dict[str, Any], due: dict[str, Any] | None) -> None:
    told = resolved(KINDS[kind], item)
    assert told is None if due is None else told is not None and told.items() >= due.items()


@pytest.mark.parametrize(
    ("kind", "item", "due"),
    [
        ("finding", {"impact": 0.5}, {"impact": 0.5}),
        ("finding", {"impact": 4}, None),
        ("finding", {"finding": "another"}, None),
        ("finding", {"impact": 4, "subject": "s"}, {"subject": "s"}),
        ("finding", {"visibility": "local"}, {}),
        ("assumption", {"status": "banana"}, None),
        ("note", {"text": "another"}, None),
    ],
)
def test_what_may_be_corrected(kind: str, item: dict[str, Any], due: dict[str, Any] | None) -> None:
    assert corrected(KINDS[kind], item) == due


def test_what_a_row_begins_with() -> None:
    values = started(KINDS["source"], {"title": "a/b", "description": None})
    assert values == {"title": "b", "description": None, "confidence": 0.7, "archived": 0}
    assert set(BY_TOOL) > {"deadend_log", "note"}


# ---------------------------------------------------------------------- batches


def batch(tool: str, data: dict[str, Any] | None, error: str = "", **args: Any) -> Operation:
    s = Story()
    s.call(tool, data, error=error, **args)
    return s.operations[0]


def nodes(*texts: str) -> list[dict[str, Any]]:
    return [
        {"ref": f"f{n}", "type": "finding", "data": {"finding": text}}
        for n, text in enumerate(texts)
    ]


def test_each_node_of_a_batch_is_told_by_its_ref() -> None:
    o = batch("log_artifacts", {"created": {"f0": F}, "errors": ["x"]}, nodes=nodes("a", "b"))
    first, second = logged([o], lambda table: ())
    assert (first.id, first.output) == (F, F)
    assert (second.id, second.output) == ("", Refusal("not-created"))


def test_a_node_of_an_unanswered_batch_is_known_by_its_words() -> None:
    o = batch("log_artifacts", None, nodes=nodes("tok000x000z a", "tok000x000z b"))
    rows = [{"id": F, "finding": "tok000x000z b"}]
    assert [one.id for one in logged([o], lambda table: rows)] == ["", F]


@pytest.mark.parametrize("graph", [{"nodes": 3}, {"nodes": [3, {"type": "x"}]}, {"edges": [{}]}])
def test_malformed_batches_say_nothing(graph: dict[str, Any]) -> None:
    o = batch("log_artifacts", {"error": "invalid-input"}, "invalid-input", **graph)
    assert not list(logged([o], lambda table: ()))
    assert not list(wired([o], ()))


def item(id: str, kind: str = "finding", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": id, **more}


def test_each_item_of_a_batch_is_refused_by_itself() -> None:
    errors = [f"finding: not found — no row matches id '{F}'", "Unsupported type: 'source'"]
    items = [item(F), item(D, "dead_end"), item(GHOST, "source")]
    o = batch("resolve_artifacts", {"resolved": 1, "errors": errors}, resolutions=items)
    outputs = [change.output for change in changed([o], ())]
    assert outputs == [Refusal("artifact-not-found"), OK, Refusal("invalid-input")]


@pytest.mark.parametrize(("told", "due"), [(0, OK), (1, None), (2, "artifact-not-found")])
def test_an_artifact_that_is_named_twice(told: int, due: str | None) -> None:
    errors = [f"finding: not found — no row matches id '{F}'"] * told
    o = batch("resolve_artifacts", {"errors": errors}, resolutions=[item(F), item(F)])
    outputs = {getattr(change.output, "error", change.output) for change in changed([o], ())}
    assert outputs == {due}
    effects = list(SPEC.effects([o]))
    assert len(effects) == (2 if due == OK else 0)


def test_one_wrong_field_of_several_does_not_refuse_a_correction() -> None:
    errors = [f"finding {F[:8]}: impact 4 is not a number from 0 to 1"]
    updates = [item(F, impact=4, subject="s")]
    o = batch("update_artifacts", {"updated": 1, "errors": errors}, updates=updates)
    (change,) = changed([o], ())
    assert (change.output, change.values, change.valid) == (OK, {"subject": "s"}, True)


def test_a_deletion_that_lists_what_it_did_is_no_refusal() -> None:
    done = {"ok": False, "deleted": 1, "items": [item(F, action="deleted")], "errors": ["vectors"]}
    answer = interpret("delete_artifacts", json.dumps(done))
    assert answer.outcome is Outcome.SUCCESS
    o = batch("delete_artifacts", dict(answer.data), deletions=[item(F)], dry_run=False)
    assert [change.output for change in changed([o], ())] == [DENIED]
    looked = batch("delete_artifacts", dict(answer.data), deletions=[item(F)])
    assert not list(changed([looked], ()))


def test_an_edge_that_was_skipped_is_told_by_its_number() -> None:
    said = [f"edge 1 ({F}->{GHOST} related): to={GHOST} matches no existing artifact — skipped"]
    edges = [{"from": F, "to": to, "relation": "related"} for to in (D, GHOST)]
    o = batch("log_artifacts", {"created": {}, "edge_warnings": said}, edges=edges)
    assert [edge.output for edge in wired([o], ())] == [OK, Refusal("no-end")]


def test_what_a_batch_refuses_under_a_fault_says_nothing() -> None:
    errors = [f"Error resolving finding '{F}': attempt to write a readonly database"]
    items = [item(F), item(D, "dead_end")]
    o = batch("resolve_artifacts", {"resolved": 1, "errors": errors}, resolutions=items)
    stormy = replace(o, under="readonly-database")
    assert [change.output for change in changed([o], ())] == [Refusal("invalid-input"), OK]
    assert [change.output for change in changed([stormy], ())] == [None, OK]
    assert [effect.where for effect in SPEC.effects([stormy])] == [{"id": D}]

    logs = batch("log_artifacts", {"created": {}, "errors": ["disk full"]}, nodes=nodes("a"))
    stormy = replace(logs, under="full-disk")
    assert [one.output for one in logged([stormy], lambda table: ())] == [None]
    assert not list(SPEC.effects([stormy]))

    said = [f"edge 0 ({F}->{D} related): to={D} matches no existing artifact — skipped"]
    edges = [{"from": F, "to": D, "relation": "related"}]
    draws = batch("log_artifacts", {"created": {}, "edge_warnings": said}, edges=edges)
    assert [edge.output for edge in wired([replace(draws, under="full-disk")], ())] == [None]


# ---------------------------------------------------------------------- the whole of it


def made(s: Story, *texts: str) -> None:
    """A session, and a batch of findings, each with a row and a note."""
    s.session()
    created = {f"f{n}": f"{n}{F[1:]}" for n in range(len(texts))}
    data = {"created": created, "nodes_created": len(texts), "errors": []}
    s.call("log_artifacts", data, session_id=S, nodes=nodes(*texts), edges=[])
    for id, text in zip(created.values(), texts, strict=True):
        s.row("project_findings", id=id, project_id="p", session_id=S, finding=text, is_resolved=0)
        s.notes[f"findings/{id}"] = json.dumps({"finding": text, "session_id": S})
    s.notes["receipts"] = '{"batch_log": 1}'


def verdicts(s: Story) -> set[tuple[str, Verdict]]:
    found = SPEC.partitions(s.operations, s.snapshot())
    return {(p.kind, check(p).verdict) for p in found if p.kind != "session"}


def test_a_batch_is_as_many_logs_and_one_receipt() -> None:
    s = Story()
    made(s, "wet", "dry")
    assert verdicts(s) == {("finding", Verdict.OK), ("receipts", Verdict.OK)}
    modes = [(e.kind, e.mode) for e in SPEC.effects(s.operations)]
    assert modes[1:] == [("finding", Mode.DEDUPLICATE)] * 2
    traced = {call for kind, _, _, call in SPEC.attribute(s.operations, s.snapshot())}
    assert traced == {"0.0", "0.1"}


def test_a_lost_receipt_is_missed() -> None:
    s = Story()
    made(s, "wet")
    s.notes["receipts"] = "{}"
    assert ("receipts", Verdict.VIOLATION) in verdicts(s)


def test_an_edge_to_what_was_deleted_meanwhile_dangles() -> None:
    s = Story()
    made(s, "wet", "dry")
    first, second = (str(row["id"]) for row in s.tables["project_findings"])
    edge = {"from": first, "to": second, "relation": "related"}
    s.call("log_artifacts", {"created": {}}, edges=[edge], span=(50, 60))
    done = {"ok": True, "deleted": 1, "items": [item(second, action="deleted")]}
    gone = [item(second)]
    s.call("delete_artifacts", done, deletions=gone, dry_run=False, agent=1, span=(51, 61))
    del s.tables["project_findings"][1]
    del s.notes[f"findings/{second}"]
    s.notes["receipts"] = '{"batch_log": 1}{"batch_log": 0}'
    s.row("artifact_edges", from_id=first, to_id=second, relation="related")
    assert s.verdict("edge") == (Verdict.VIOLATION, "edge")
    s.tables["artifact_edges"].clear()
    assert s.verdict("edge") == (Verdict.OK, "")


def test_what_is_kept_twice_of_an_artifact() -> None:
    s = Story()
    made(s, "wet")
    assert not disagreeing(s)
    (finding,) = s.tables["project_findings"]
    s.notes[f"findings/{finding['id']}"] = json.dumps({"finding": "dry", "session_id": S})
    edges = {"edges": [{"to": D, "relation": "related"}, {"to": "g", "relation": "attached_to"}]}
    finding["finding_data"] = json.dumps(edges)
    s.notes[f"dead_ends/{D}"] = "{}"
    assert disagreeing(s) == {("finding", "finding"), ("finding", "edges"), ("dead_end", "row")}


def test_what_is_written_down_of_a_deletion_is_the_deleters() -> None:
    s = Story()
    s.session()
    done = {"ok": True, "deleted": 0, "items": [], "audit": "recorded"}
    token = s.call("delete_artifacts", done, deletions=[], reason="{}", dry_run=False)
    s.row("decisions", id="d", choice="Deleted 0", rationale=token)
    s.row("decisions", id="e", choice="Deleted 0", rationale="nobody's")
    traced = [t[:1] + t[2:] for t in SPEC.attribute(s.operations, s.snapshot())]
    assert ("audit", "d", "0.1") in traced
    assert ("audit", "e", "") in traced
