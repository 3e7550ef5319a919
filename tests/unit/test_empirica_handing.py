"""What agents do with each other's work: handoffs, issues, the bus, and what overviews tell."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.empirica.common import OK, Refusal
from mcpconc.model.empirica.constants import Constant
from mcpconc.model.empirica.handoffs import Handoff, Handoffs
from mcpconc.model.empirica.inbox import Inbox
from mcpconc.model.empirica.issues import Issues, Resolution
from mcpconc.model.empirica.reflexes import Entry, Reflexes
from mcpconc.model.empirica.registry import Instance, Registry, Status
from mcpconc.model.empirica.tallies import Tally
from mcpconc.model.empirica.whereabouts import kept_in_files
from mcpconc.model.empirica.yamlish import Broken, parse
from mcpconc.snapshot import Snapshot

PHASES = {
    "PREFLIGHT": "submit_preflight_assessment",
    "CHECK": "submit_check_assessment",
    "POSTFLIGHT": "submit_postflight_assessment",
}


def call(name: str, input: Hashable = None, output: Hashable | None = OK) -> Op:
    return Op("c", 0, name, input, output, 0, 1 if output is not None else None)


def stuck(model: Any, *ops: Op) -> str:
    """The field at which the first operation that does not fit is rejected, "" if all fit."""
    state = model.initial()
    for op in ops:
        result = model.step(state, op)
        if isinstance(result, Reject):
            return result.field
        if model.pure(op):
            assert list(result) == [state]
        state = result[0]
        assert model.describe(state)
    return ""


# ---------------------------------------------------------------------- handoffs


def handed(summary: str, output: Hashable | None = "planning", **more: bool) -> Op:
    return call("handoff_create", Handoff(summary, **more), output)


def left(*rows: Hashable) -> Op:
    return call(SNAPSHOT, None, rows)


def test_the_last_handoff_of_a_session_stays() -> None:
    assert stuck(Handoffs(), handed("a"), handed("b"), left("b")) == ""
    assert stuck(Handoffs(), handed("a"), handed("b"), left("a")) == "task_summary"
    assert stuck(Handoffs(), handed("a"), left()) == "task_summary"


def test_a_handoff_needs_its_words_and_a_session() -> None:
    assert stuck(Handoffs(), handed("a", Refusal("invalid-input"), whole=False)) == ""
    assert stuck(Handoffs(), handed("a", whole=False)) == "invalid-input"
    assert stuck(Handoffs(), handed("a", Refusal("no-session"))) == "spurious-no-session"
    ghost = handed("a", exists=False)
    assert stuck(Handoffs(), ghost) == "session-not-found"
    assert stuck(Handoffs().excusing(frozenset({"ghost-session"})), ghost, left("a")) == ""


def assessed(*phases: str) -> list[Op]:
    vectors = (("know", 0.5), ("uncertainty", 0.2))
    ops = []
    for n, phase in enumerate(phases):
        entry = Entry(token=f"t{n}", vectors=vectors)
        ops.append(call(PHASES[phase], entry))
    return ops


@pytest.mark.parametrize(
    ("phases", "kind"),
    [
        (["PREFLIGHT"], "preflight_only"),
        (["PREFLIGHT", "CHECK"], "investigation"),
        (["PREFLIGHT", "CHECK", "POSTFLIGHT"], "complete"),
        (["PREFLIGHT", "POSTFLIGHT"], "complete"),
    ],
)
def test_the_kind_of_a_handoff_is_told_by_what_was_assessed(phases: list[str], kind: str) -> None:
    before = assessed(*phases)
    assert stuck(Reflexes(), *before, call("handoff_create", Entry(), kind)) == ""
    assert stuck(Reflexes(), *before, call("handoff_create", Entry(), "other")) == "handoff_type"
    none = call("handoff_create", Entry(), Refusal("no-assessments"))
    assert stuck(Reflexes(), *before, none) == "handoff_type"
    assert stuck(Reflexes(), *assessed("CHECK"), none) == ""


def test_a_session_that_is_resumed_is_in_the_phase_of_its_last_assessment() -> None:
    def shown(phase: str) -> Op:
        return call("resume_previous_session", Entry(), phase)

    checked = assessed("PREFLIGHT", "CHECK")
    assert stuck(Reflexes(), shown("PREFLIGHT")) == ""
    assert stuck(Reflexes(), *checked, shown("CHECK")) == ""
    assert stuck(Reflexes(), *checked, shown("PREFLIGHT")) == "sessions.phase"
    excused = Reflexes().excusing(frozenset({"phase-of-cascade"}))
    assert stuck(excused, *checked, shown("PREFLIGHT")) == ""
    assert stuck(excused, *checked, shown("POSTFLIGHT")) == "sessions.phase"
    done = assessed("PREFLIGHT", "POSTFLIGHT")
    assert stuck(excused, *done, shown("PREFLIGHT")) == "sessions.phase"


# ---------------------------------------------------------------------- the registry


def registered(id: str, at: float | None = 1.0, output: bool = True, *can: str) -> Op:
    new = Instance(id, "cli", can)
    told = Instance(id, "cli", can, registered_at=at)
    return call("bus_register", new, told if output else None)


def listed(*instances: Instance, capability: str = "") -> Op:
    return call("bus_instances", capability, instances)


def instance(id: str, at: float | None = 1.0, *can: str) -> Instance:
    return Instance(id, "cli", can, registered_at=at)


def test_who_is_registered_stays_so() -> None:
    both = (registered("a"), registered("b", 2.0))
    assert stuck(Registry(), *both, listed(instance("a"), instance("b", 2.0))) == ""
    assert stuck(Registry(), *both, listed(instance("b", 2.0))) == "instances"
    assert stuck(Registry(), *both, left(instance("b", 2.0))) == "instances"
    assert stuck(Registry(), *both, left(instance("a"), instance("b", 9.0))) == "registered_at"
    torn = call(SNAPSHOT, None, "not readable: no value in 'ty'")
    assert stuck(Registry(), *both, torn) == "file"


def test_registering_again_keeps_the_time_of_the_first() -> None:
    assert stuck(Registry(), registered("a", 1.0), registered("a", 1.0)) == ""
    assert stuck(Registry(), registered("a", 1.0), registered("a", 2.0)) == "registered_at"
    unknown = registered("a", None, False)
    assert stuck(Registry(), unknown, registered("a", 5.0), left(instance("a", 5.0))) == ""


def test_capabilities_select_and_route() -> None:
    able = registered("a", 1.0, True, "git")
    assert (
        stuck(
            Registry(), able, registered("b"), listed(instance("a", 1.0, "git"), capability="git")
        )
        == ""
    )
    sent = call("bus_dispatch", (("git",), "a"), "sent")
    assert stuck(Registry(), able, sent) == ""
    assert stuck(Registry(), able, call("bus_dispatch", (("git",), "z"), "sent")) == "to_instance"
    refused = call("bus_dispatch", (("fly",), ""), Refusal("no-instance"))
    assert stuck(Registry(), able, refused) == ""
    assert stuck(Registry(), call("bus_dispatch", (("git",), "a"), "sent")) == "no-instance"
    assert stuck(Registry(), able, call("bus_dispatch", (("git",), ""), Refusal("no-instance")))


def test_a_status_tells_of_the_registry() -> None:
    def status(id: str, known: int, told: Instance | None) -> Op:
        return call("bus_status", id, Status(known, told))

    assert stuck(Registry(), registered("a"), status("a", 1, instance("a", None))) == ""
    assert stuck(Registry(), registered("a"), status("z", 1, None)) == ""
    assert stuck(Registry(), registered("a"), status("a", 1, None)) == "instances"
    assert stuck(Registry(), registered("a"), status("z", 2, None)) == "total_instances_known"


# ---------------------------------------------------------------------- messages


def sent(token: str) -> Op:
    return call("bus_dispatch", token, "sent")


def polled(*tokens: str, limit: int = 50) -> Op:
    return call("bus_poll", limit, frozenset(tokens))


def test_a_message_is_seen_from_then_on() -> None:
    assert stuck(Inbox(), sent("a"), polled("a"), sent("b"), polled("a", "b")) == ""
    assert stuck(Inbox(), sent("a"), polled()) == "messages"
    assert stuck(Inbox(), sent("a"), call(SNAPSHOT, None, frozenset())) == "messages"
    assert stuck(Inbox(), polled("a")) == "messages"


def test_a_poll_shows_no_more_than_it_was_asked_for() -> None:
    assert stuck(Inbox(), sent("a"), sent("b"), polled("b", limit=1)) == ""
    assert stuck(Inbox(), sent("a"), sent("b"), polled("a", "b", limit=1)) == "messages"


def test_a_status_counts_what_waits() -> None:
    assert stuck(Inbox(), sent("a"), call("bus_status", None, 1)) == ""
    assert stuck(Inbox(), sent("a"), call("bus_status", None, 0)) == "pending_dispatches"


def test_a_dispatch_that_nobody_can_take_is_in_no_inbox() -> None:
    refused = call("bus_dispatch", "a", Refusal("no-instance"))
    assert stuck(Inbox(), refused, polled()) == ""
    assert stuck(Inbox(), call("bus_dispatch", "a", Refusal("error"))) == "spurious-error"


# ---------------------------------------------------------------------- issues, overviews


def test_an_issue_is_resolved_by_the_last_words() -> None:
    def resolved(words: str) -> Op:
        return call("issue_resolve", words)

    words = call(SNAPSHOT, None, ("resolved", "b"))
    assert stuck(Resolution(), resolved("a"), resolved("b"), words) == ""
    assert stuck(Resolution(), resolved("b"), resolved("a"), words) == "resolution"
    assert stuck(Resolution(), call(SNAPSHOT, None, ("new", None))) == ""


def test_a_list_shows_the_issues_that_were_filed() -> None:
    filed, shown = call("memory_compact", 1), call("issue_list", None, 0)
    assert stuck(Issues(), shown) == ""
    assert stuck(Issues(), filed, shown) == "issue_count"
    excused = Issues().excusing(frozenset({"issue-list-empty"}))
    assert stuck(excused, filed, shown) == ""
    assert stuck(excused, filed, filed, call("issue_list", None, 1)) == "issue_count"


def test_overviews_count_what_was_made() -> None:
    made = call("session_create", "a"), call("session_create", "b")
    assert stuck(Tally(), *made, call("workspace_overview", None, 2)) == ""
    assert stuck(Tally(), *made, call("workspace_overview", None, 1)) == "count"
    refused = call("bus_dispatch", "m", Refusal("no-instance"))
    assert stuck(Tally(), refused, call("sync_status", None, 0)) == ""


def test_some_answers_never_change() -> None:
    assert stuck(Constant(field="count", value=0), call("lesson_list", None, 0)) == ""
    assert stuck(Constant(field="count", value=0), call("lesson_list", None, 1)) == "count"


# ---------------------------------------------------------------------- files


REGISTRY = """\
instances:
  a:
    capabilities:
    - git
    - 'yes'
    last_seen: 1795490368.7780383
    machine: null
    metadata: {}
    subscribes: []
    type: cli
  b:
    type: web
"""


def test_the_registry_is_read() -> None:
    instances = parse(REGISTRY)["instances"]
    assert instances["a"]["capabilities"] == ["git", "yes"]
    assert instances["a"]["last_seen"] == 1795490368.7780383
    assert (instances["a"]["machine"], instances["a"]["subscribes"]) == (None, [])
    assert instances["b"] == {"type": "web"}
    assert parse("") == {}


@pytest.mark.parametrize("text", ["instances:\n  a:\n    typ", "- a\n", "a: 1\n   b: 2\n"])
def test_a_registry_that_was_cut_off_is_told(text: str) -> None:
    with pytest.raises(Broken):
        parse(text)


def disagreeing(**files: str) -> set[tuple[str, str]]:
    sessions = {"_rowid_": 1, "session_id": "S", "ai_id": "ai", "instance_id": "i"}
    opened = {"_rowid_": 1, "session_id": "S", "phase": "PREFLIGHT", "transaction_id": "T"}
    paths = {
        "session": "home/.empirica/active_session_i",
        "project": "home/.empirica/instance_projects/i.json",
        "transaction": "ws/.empirica/active_transaction_i.json",
        "breadcrumbs": "ws/.breadcrumbs.yaml",
    }
    snapshot = Snapshot(
        tables={"sessions": {"sessions": [sessions], "reflexes": [opened]}},
        files={paths[name]: text for name, text in files.items()},
    )
    return {
        (copy.kind, copy.fact)
        for copy in kept_in_files(snapshot)
        if len(set(copy.places.values())) > 1
    }


def test_files_and_rows_that_agree() -> None:
    assert not disagreeing(
        session='{"session_id": "S", "ai_id": "ai"}',
        project='{"empirica_session_id": "S"}',
        transaction='{"transaction_id": "T", "session_id": "S"}',
        breadcrumbs="a:\n  b: 1\nc:\n",
    )


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"session": '{"session_id": "Z"}'}, ("instance", "session")),
        ({"session": '{"session_id": "S", "ai_id": "x"}'}, ("instance", "ai_id")),
        ({"session": '{"session_'}, ("instance", "readable")),
        ({"transaction": '{"transaction_id": "Z"}'}, ("transaction", "row")),
        (
            {"transaction": '{"transaction_id": "T", "session_id": "Z"}'},
            ("transaction", "session_id"),
        ),
        ({"breadcrumbs": "a:\n  x: 1\nb:\na:\n"}, ("breadcrumbs", "section")),
    ],
)
def test_files_and_rows_that_disagree(files: dict[str, str], what: tuple[str, str]) -> None:
    assert disagreeing(**files) == {what}


def test_an_instance_whose_files_name_two_sessions() -> None:
    files = {
        "session": '{"session_id": "S", "ai_id": "ai"}',
        "project": '{"empirica_session_id": "Z"}',
    }
    assert disagreeing(**files) == {("instance", "session_id")}
