"""The reference server does what the models mean, one call at a time: no quirk is needed where
the real server needs one, and footprints are such as the real server's."""

from __future__ import annotations

import anyio
import pytest

from mcpconc.history import Outcome
from mcpconc.linearize.search import check
from mcpconc.model.empirica import MODELLED, SPEC
from mcpconc.model.empirica.footprint import disagreements, learn
from mcpconc.target.base import Identity
from mcpconc.target.reference import ReferenceTarget
from mcpconc.verdict import Verdict
from real.script import Walk, walk
from real.scripts import SUCCESS, Ruled, defects, meant

MEANT_TO_BE_REFUSED = {
    "submit_postflight_assessment": "session-not-found",
    "submit_preflight_assessment": "session-not-found",
    "goals_add_dependency": "dependency-cycle",
}
"""What the triggers of known defects should be answered where their ids are no good."""

OF_ITS_OWN = ("goals.goal_data:metadata", "workspace.global_sessions.status")
"""Changes in place that it makes and the real server does not: how it keeps marks, and an index
that says which sessions have ended."""

Walked = tuple[Ruled, Walk]


@pytest.fixture(scope="module", params=[meant, defects], ids=lambda script: script.__name__)
def walked(request: pytest.FixtureRequest) -> Walked:
    script = Ruled(Identity.ISOLATED)
    request.param(script)
    return script, anyio.run(walk, script, Identity.ISOLATED, ReferenceTarget())


def test_answers_are_of_the_kind_expected(walked: Walked) -> None:
    script, walk = walked
    for call in script.calls:
        o = walk.operation(call)
        due = script.due.get(call.id, (SUCCESS, None))
        if due == (SUCCESS, None) and o.outcome is Outcome.REFUSED:
            due = (Outcome.REFUSED, MEANT_TO_BE_REFUSED.get(call.tool))
            ids = [o.args.get(name) for name in ("session_id", "goal_id", "depends_on")]
            assert o.args.get("session_id", "").startswith("00000000") or ids[1] == ids[2]
        assert (o.outcome, o.data.get("error")) == due, (call.id, call.tool, o.args, o.data)


def test_the_models_accept_everything_without_a_quirk(walked: Walked) -> None:
    _, walk = walked
    for partition in SPEC.partitions(walk.history.operations, walk.after):
        found = check(partition)
        assert found.verdict is Verdict.OK, (partition.kind, found.stuck)


def test_no_call_changes_more_than_the_real_server_or_leaves_less(walked: Walked) -> None:
    _, walk = walked
    lines = disagreements(learn(walk.observed()))
    assert not [line for line in lines if not any(known in line for known in OF_ITS_OWN)]


def test_every_tool_is_a_modelled_one() -> None:
    from mcpconc.reference.server import INPUTS, TOOLS

    assert set(TOOLS) == set(INPUTS) < MODELLED
