"""The linearizability oracle over made-up targets: findings, quirks, budgets, notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
import pytest

from mcpconc.history import History
from mcpconc.model.base import SNAPSHOT, Op, Partition, Reject
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register
from mcpconc.model.spec import Spec
from mcpconc.oracle import linearizability as oracle_module
from mcpconc.oracle.base import Fingerprint, Label, Result, Run
from mcpconc.oracle.linearizability import linearizability
from mcpconc.program import Program
from mcpconc.verdict import Verdict


@dataclass(frozen=True)
class Objects:
    """A specification whose partitions are given."""

    given: tuple[Partition, ...]

    def partitions(self, operations: Sequence[Any], snapshot: Any) -> Sequence[Partition]:
        return self.given


def judged(*partitions: Partition) -> Result:
    spec = cast(Spec, Objects(partitions))
    return linearizability(Run(Program(2), History((), ()), None, None, spec))


def op(
    call: str,
    name: str,
    input: object,
    output: object,
    invoked: int,
    returned: int | None,
    agent: int = 0,
) -> Op:
    return Op(call, agent, name, input, output, invoked, returned)


def left(output: object) -> Op:
    return Op(SNAPSHOT, -1, SNAPSHOT, None, output, 100, 101)


def lost_update(key: str = "g1") -> Partition:
    return Partition(
        "goal",
        key,
        AppendLog(),
        (
            op("a", "append", "t1", None, 0, 2),
            op("b", "append", "t2", None, 1, 3, agent=1),
            left(("t2",)),
        ),
    )


@dataclass(frozen=True)
class Forgetful(AppendLog):
    """A log with two known defects: writing "twice" adds two, and writing "never" none."""

    quirks: frozenset[str] = frozenset()
    known_quirks: frozenset[str] = frozenset({"doubled", "dropped"})

    def step(self, state: tuple[Any, ...], op: Op) -> Sequence[tuple[Any, ...]] | Reject:
        if op.input == "twice" and "doubled" in self.quirks:
            return [(*state, "twice", "twice")]
        if op.input == "never" and "dropped" in self.quirks:
            return [state]
        return super().step(state, op)

    def excusing(self, quirks: frozenset[str]) -> Forgetful:
        return replace(self, quirks=quirks)


def written(entry: str, *entries: str) -> Partition:
    return Partition(
        "note", "n", Forgetful(), (op("w", "append", entry, None, 0, 1), left(entries))
    )


def test_a_target_without_a_model_is_not_judged() -> None:
    result = linearizability(Run(Program(1), History((), ()), None, None, None))
    assert (result.verdict, result.findings) == (Verdict.OK, ())


def test_a_violation_is_named_by_kind_and_field_and_never_by_ids() -> None:
    (found,) = judged(lost_update()).findings
    assert found.fingerprint == Fingerprint("linearizability", "entries", "goal")
    assert found.calls == ("a", "b")
    assert found.summary == "log g1: entries is left as [t2], not as [t1, t2]"
    assert found.reason[0] == "No order of a (append) and b (append) explains what is left:"


def test_the_same_violation_of_two_objects_is_one_finding() -> None:
    result = judged(lost_update("g1"), lost_update("g2"))
    assert [f.evidence["count"] for f in result.findings] == [2]


def test_evidence_is_json() -> None:
    (found,) = judged(lost_update()).findings
    assert orjson.loads(orjson.dumps(found.to_json()))["evidence"]["instances"][0]["stuck"]


def test_a_needed_quirk_passes_and_is_reported_as_sequential() -> None:
    (found,) = judged(written("twice", "twice", "twice")).findings
    assert found.fingerprint == Fingerprint("linearizability", "quirk", "note", "doubled")
    assert found.label is Label.SEQUENTIAL
    assert "doubled" in found.summary


def test_without_its_trigger_a_quirk_excuses_nothing() -> None:
    (found,) = judged(written("once", "once", "once")).findings
    assert found.fingerprint == Fingerprint("linearizability", "entries", "note")


def test_a_quirk_that_is_not_needed_is_not_reported() -> None:
    assert judged(written("twice", "twice")).findings == ()


def test_a_quirk_does_not_hide_the_violation_behind_it() -> None:
    (found,) = judged(written("twice", "twice", "twice", "stray")).findings
    assert found.fingerprint.property == "entries"
    assert found.evidence["instances"][0]["stuck"][0]["expected"] == ["twice", "twice"]


def test_a_budget_that_runs_out_is_unknown_and_names_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(oracle_module, "BUDGET", 3)
    result = judged(lost_update())
    assert result.verdict is Verdict.UNKNOWN
    assert result.unknown == ("goal g1: no verdict on 3 operations within 3 steps",)


def test_what_the_specification_leaves_unjudged_is_noted_and_changes_no_verdict() -> None:
    result = judged(Partition("goal", "", AppendLog(), (), note="too many goals"))
    assert (result.verdict, result.notes) == (Verdict.OK, ("too many goals",))


def mixed_list() -> tuple[Partition, Partition]:
    """x is written before y, and one list shows the new y beside the old x."""
    x = (op("wx", "write", 1, None, 0, 1), op("list", "read", None, 0, 0, 9, agent=1))
    y = (op("wy", "write", 1, None, 2, 3), op("list", "read", None, 1, 0, 9, agent=1))
    reads = frozenset({"read"})
    return (
        Partition("goal", "x", Register(), x, reads),
        Partition("goal", "y", Register(), y, reads),
    )


def test_a_read_that_mixes_two_moments_of_two_objects_is_found() -> None:
    (found,) = judged(*mixed_list()).findings
    assert found.fingerprint == Fingerprint("linearizability", "across-objects", "goal", "value")
    assert "list" in found.calls


def test_joined_objects_too_large_to_search_are_noted_and_change_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(oracle_module, "TOGETHER", 1)
    result = judged(*mixed_list())
    assert result.verdict is Verdict.OK
    assert "read was judged per goal, not whole" in result.notes


def test_what_one_object_refutes_is_not_reported_again_across_objects() -> None:
    x, y = mixed_list()
    broken = replace(x, ops=(*x.ops, op("r", "read", None, 7, 20, 21)))
    assert [f.fingerprint.property for f in judged(broken, y).findings] == ["value"]
