"""Is there an order of these calls, respecting real time, that explains every answer and the
state that is left?

Each object is judged alone, then those that answered calls join are judged together, because a
read of several objects may be right about each and yet mix two moments.

A known defect of the target (a quirk) is never a filter: a partition that no order explains is
searched again with every quirk of its model excused. If that explains it, each quirk that is
needed is a finding, labelled `sequential`. If not, that search gives the explanation, so that a
quirk does not hide the race behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcpconc.linearize.explain import Explanation, explain
from mcpconc.linearize.product import components, product, searchable
from mcpconc.linearize.search import Linearization, check, check_all
from mcpconc.linearize.words import both, refusal, show, valued
from mcpconc.model.base import SNAPSHOT, Partition
from mcpconc.oracle.base import Finding, Label, Result, Run
from mcpconc.oracle.common import collect, finding
from mcpconc.verdict import Verdict

__all__ = ["linearizability"]

NAME = "linearizability"
BUDGET = 300_000
"""Steps per object, about a third of a second."""
TOGETHER = 100_000
"""Steps per set of joined objects. Past that they are left to the single objects' verdicts."""


def linearizability(run: Run) -> Result:
    """Judge every object of the run, and the joined ones together.

    A search that runs out of budget makes the result `unknown`. What was judged in part only
    is noted and changes nothing: a read of many objects, where they are too many to search
    as one.

    Whether quiescence was proven makes no difference here: a call that nobody answered may
    take effect after the read-back in either case, which is the same as never.
    """
    if run.spec is None:
        return Result(NAME)
    partitions = run.spec.partitions(run.history.operations, run.after)
    findings: list[Finding] = []
    unknown: list[str] = []
    explained: list[Partition] = []
    for partition, found in zip(partitions, check_all(partitions, BUDGET), strict=True):
        if found.verdict is Verdict.VIOLATION:
            partition, found, quirks = _excused(partition, found)
            findings += quirks
        if found.verdict is Verdict.OK:
            explained.append(partition)
        elif found.verdict is Verdict.VIOLATION:
            findings.append(_violation(partition, found))
        else:
            unknown.append(
                f"{partition.kind} {partition.key}: no verdict on {len(partition.ops)} "
                f"operations within {BUDGET} steps"
            )
    notes: list[str] = []
    apart = dict.fromkeys((p.kind, name) for p in explained for name in sorted(p.projected))
    for members in components(explained):
        joined = product(members) if searchable(members) else None
        whole = check(joined, TOGETHER) if joined is not None else None
        if joined is not None and whole is not None and whole.verdict is Verdict.VIOLATION:
            findings.append(_across(joined, whole))
        elif whole is None or whole.verdict is Verdict.UNKNOWN:
            kinds = " + ".join(sorted({member.kind for member in members}))
            notes.append(
                f"objects joined by calls were judged one by one, not together: {len(members)} "
                f"objects, {kinds}"
            )
    if notes:
        notes += [f"{name} was judged per {kind}, not whole" for kind, name in apart]
    notes += [partition.note for partition in partitions if partition.note]
    return replace(collect(NAME, findings, unknown), notes=tuple(dict.fromkeys(notes)))


def _excused(
    partition: Partition, found: Linearization
) -> tuple[Partition, Linearization, list[Finding]]:
    """The partition with the quirks that it needs, the answer to that, and the quirks as
    findings; where quirks do not suffice, with all of them and no finding."""
    quirks = partition.model.known_quirks
    if not quirks:
        return partition, found, []
    lenient = _allowing(partition, quirks)
    answer = check(lenient, BUDGET)
    if answer.verdict is not Verdict.OK:
        return lenient, answer, []
    needed = quirks
    refused: dict[str, tuple[Partition, Linearization]] = {}
    for quirk in sorted(quirks):
        strict = _allowing(partition, needed - {quirk})
        without = check(strict, BUDGET)
        if without.verdict is Verdict.OK:
            needed -= {quirk}
        elif without.verdict is Verdict.VIOLATION:
            refused[quirk] = strict, without
    findings = [_quirk(q, *refused.get(q, (partition, found))) for q in sorted(needed)]
    return _allowing(partition, needed), answer, findings


def _allowing(partition: Partition, quirks: frozenset[str]) -> Partition:
    return replace(partition, model=partition.model.excusing(quirks))


def _violation(partition: Partition, found: Linearization) -> Finding:
    why = explain(partition, found)
    return finding(
        NAME,
        why.field,
        partition.kind,
        summary=f"{_object(partition)}: {_contradiction(partition, why)}",
        reason=why.lines,
        calls=_calls(why),
        evidence=_evidence(partition, found),
    )


def _across(joined: Partition, found: Linearization) -> Finding:
    why = explain(joined, found)
    kind, _, field = why.field.partition(".")
    every = f"each of {joined.key}" if joined.key.count(", ") < 4 else "each object alone"
    return finding(
        NAME,
        "across-objects",
        kind,
        field,
        summary=f"{_contradiction(joined, why)}; {every} has an order that explains it, but no "
        "order explains them all",
        reason=why.lines,
        calls=_calls(why),
        evidence=_evidence(joined, found),
    )


def _quirk(quirk: str, partition: Partition, found: Linearization) -> Finding:
    why = explain(partition, found)
    told = finding(
        NAME,
        "quirk",
        partition.kind,
        quirk,
        summary=f"{_object(partition)}: nothing but the known defect {quirk} "
        f"explains why {_contradiction(partition, why)}",
        reason=why.lines,
        calls=_calls(why),
        evidence=_evidence(partition, found),
    )
    return replace(told, label=Label.SEQUENTIAL)


def _contradiction(partition: Partition, why: Explanation) -> str:
    seen, expected = show(why.seen), show(why.expected)
    if why.call == SNAPSHOT:
        if why.seen is None:
            return f"{why.field} is left empty, where it must be {expected}"
        return f"{why.field} is left as {seen}, not as {expected}"
    tools = {op.call: op.name for op in partition.ops}
    tool = tools[why.call]
    if why.rivals:
        many = "both" if len(why.rivals) == 2 else "all"
        names = both([f"{call} ({tools[call]})" for call in why.rivals])
        return f"{names} were {many} accepted, where one must be refused ({refusal(why.field)})"
    if expected.startswith("refused as "):
        return f"{why.call} ({tool}) was {seen}, not {expected.removeprefix('refused ')}"
    if {seen, expected} == {"accepted", "refused"}:
        why_not = f" ({refusal(why.field)})"
        words = [seen + why_not, expected] if seen == "refused" else [seen, expected + why_not]
        return f"{why.call} ({tool}) was {words[0]}, not {words[1]}"
    return f"{why.call} ({tool}) got {valued(why.field, why.seen)}, not {expected}"


def _object(partition: Partition) -> str:
    """The object as people call it."""
    key = f"'{partition.key}'" if " " in partition.key else partition.key.replace("~", " and ")
    return f"{partition.model.name} {key}"


def _calls(why: Explanation) -> Iterator[str]:
    return (call for call in why.calls if call != SNAPSHOT)


def _evidence(partition: Partition, found: Linearization) -> dict[str, Any]:
    return {
        "object": partition.key if " + " in partition.kind else f"{partition.kind} {partition.key}",
        "order": list(found.order),
        "state": partition.model.describe(found.state),
        "stuck": [
            {
                "call": call,
                "field": why.field,
                "expected": _plain(why.expected),
                "seen": _plain(why.seen),
            }
            for call, why in found.stuck
        ],
    }


def _plain(value: Any) -> Any:
    """The value as JSON data: sets sorted, anything unknown as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else show(value)
