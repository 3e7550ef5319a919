"""Every modelled tool, refusals included, one call at a time against the real server: the models
accept it, need a quirk exactly where its trigger is, and footprints are as recorded.

``MCPCONC_LEARN=1 pytest tests/real/test_conformance.py`` writes the footprints anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

import mcpconc.model.empirica.footprint as footprint
from mcpconc.linearize.search import check
from mcpconc.model.base import Partition
from mcpconc.model.empirica import MODELLED, SPEC
from mcpconc.program import Call
from mcpconc.target.base import Identity
from mcpconc.target.warm import Start
from mcpconc.verdict import Verdict
from real.arguments import arguments
from real.graphs import graphs
from real.handing import handing
from real.script import Walk, walk
from real.scripts import SUCCESS, Ruled, defects, meant

pytestmark = pytest.mark.real


def judged(walked: Walk) -> Iterator[Partition]:
    yield from SPEC.partitions(walked.history.operations, walked.after)


def why(partition: Partition) -> str:
    found = check(partition)
    stuck = "; ".join(f"{call}: {r.field} {r.expected} {r.seen}" for call, r in found.stuck)
    return f"{partition.kind} {partition.key}: {partition.model.describe(found.state)}: {stuck}"


def needed(partition: Partition) -> set[str]:
    """The quirks without any one of which the partition cannot be explained."""
    known = partition.model.known_quirks
    if check(partition).verdict is Verdict.OK:
        return set()
    assert check(allowing(partition, known)).verdict is Verdict.OK, why(allowing(partition, known))
    return {q for q in known if check(allowing(partition, known - {q})).verdict is not Verdict.OK}


def allowing(partition: Partition, quirks: frozenset[str]) -> Partition:
    return replace(partition, model=partition.model.excusing(quirks))


SCRIPTS: dict[Callable[[Ruled], object], Start] = {
    **dict.fromkeys((meant, defects), Start.ORDINARY),
    **dict.fromkeys((handing, graphs, arguments), Start.FORK),
}

Walks = dict[tuple[str, Identity], tuple[Ruled, Walk]]


@pytest.fixture(scope="module")
def walks() -> Walks:
    """Every script walked once."""
    made: Walks = {}
    for identity in (Identity.ISOLATED, Identity.EXPLICIT):
        for script, start in SCRIPTS.items():
            ruled = Ruled(identity)
            script(ruled)
            walked = anyio.run(walk, ruled, identity, None, start)
            made[script.__name__, identity] = (ruled, walked)
    return made


IDENTITIES = pytest.mark.parametrize("identity", [Identity.ISOLATED, Identity.EXPLICIT])


@IDENTITIES
@pytest.mark.parametrize("name", [script.__name__ for script in SCRIPTS])
def test_answers_are_of_the_kind_expected(walks: Walks, name: str, identity: Identity) -> None:
    script, walked = walks[name, identity]
    for call in script.calls:
        o = walked.operation(call)
        outcome, error = script.due.get(call.id, (SUCCESS, None))
        assert (o.outcome, o.data.get("error")) == (outcome, error), told(call, o.data)


def told(call: Call, data: object) -> str:
    return f"{call.id} {call.tool} {dict(call.args)} answered {data}"


@IDENTITIES
def test_the_models_accept_what_works_as_meant(walks: Walks, identity: Identity) -> None:
    _, walked = walks["meant", identity]
    wrong = [why(p) for p in judged(walked) if check(p).verdict is not Verdict.OK]
    assert not wrong


@IDENTITIES
@pytest.mark.parametrize("script", [defects, handing, graphs, arguments])
def test_each_quirk_is_needed_where_its_trigger_is(
    walks: Walks, script: Callable[[Ruled], dict[str, set[str]]], identity: Identity
) -> None:
    _, walked = walks[script.__name__, identity]
    due = script(Ruled(identity))
    found: dict[str, set[str]] = {}
    for partition in judged(walked):
        found.setdefault(partition.kind, set()).update(needed(partition))
    assert {kind: quirks for kind, quirks in found.items() if quirks} == due


def test_every_modelled_tool_succeeds(walks: Walks) -> None:
    walked = [walks[script.__name__, Identity.ISOLATED][1] for script in SCRIPTS]
    done = {o.tool for walk in walked for o in walk.history.operations if o.succeeded}
    assert done == MODELLED


def test_footprints_are_as_recorded(walks: Walks) -> None:
    observed = [seen for _, walked in walks.values() for seen in walked.observed()]
    learned = footprint.learn(observed)
    if os.environ.get("MCPCONC_LEARN"):
        file = Path(footprint.__file__).with_name("footprint.json")
        file.write_text(json.dumps(learned, indent=1, sort_keys=True) + "\n")
        footprint._learned.cache_clear()
    assert not footprint.disagreements(learned)
