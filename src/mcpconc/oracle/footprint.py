"""Footprint: every change is claimed by a call, and every acknowledged call left all of its own.

The sequential conformance run learns what a call of each tool and outcome changes
(`model.spec.Footprint`). Differences between template and read-back are counted per change key
and owner and compared with what the calls of that owner claim: the least that acknowledged
calls must leave, the most that all calls, also unanswered ones, may leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mcpconc.history import Operation, Outcome
from mcpconc.model.spec import Footprint, Spec, whole
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import NO_READ_BACK, Fate, collect, fate, finding

__all__ = ["footprint", "unjudged"]

NAME = "footprint"
ADD_UP = ("rows:", "ref:", "file:")
"""Changes of which each call makes its own. All others may fall into one or cancel out."""


@dataclass(slots=True)
class _Claims:
    """Bounds of one change key. Owner "" in `least` and `most` means: whoever owns it."""

    least: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    calls: dict[str, list[str]] = field(default_factory=dict)

    def floor(self, owner: str) -> int:
        return self.least[owner]

    def ceiling(self, owner: str) -> int:
        """Own changes, those that any owner may carry, and those that others make on `owner`."""
        others = self.foreign.total() - self.foreign[owner]
        return self.most[owner] + (self.most[""] if owner else 0) + others


def footprint(run: Run) -> Result:
    """Judge the differences between template and read-back.

    A call whose footprint is not known may have changed anything: in a run with one nothing is
    called unclaimed (`unjudged` lists such calls).
    """
    if run.spec is None:
        return Result(NAME)
    if run.before is None or run.after is None:
        return Result(NAME, unknown=(NO_READ_BACK,))
    operations = run.history.operations
    changes = run.spec.changes(run.before, run.after)
    claims, wild = _claims(run.spec, operations, frozenset(owner for _, owner in changes))
    counted: dict[str, Counter[str]] = {key: Counter() for key in claims}
    for (key, owner), times in changes.items():
        counted.setdefault(key, Counter())[owner] += times
    findings: list[Finding] = []
    unknown: list[str] = []
    for key in sorted(counted):
        for one in _key(key, counted[key], claims.get(key, _Claims()), wild):
            if one.fingerprint.property == "missing" and not run.quiescent:
                unknown.append("changes are missing, but the target was still at work")
            else:
                findings.append(one)
    return collect(NAME, findings, unknown)


def unjudged(run: Run) -> tuple[str, ...]:
    """``tool outcome`` of the calls whose footprint is not known, sorted."""
    if run.spec is None:
        return ()
    return tuple(
        sorted(
            {
                f"{op.tool} {op.outcome or 'unanswered'}"
                for op in run.history.operations
                if _bounds(run.spec, op) is None
            }
        )
    )


def _bounds(spec: Spec, op: Operation) -> Footprint | None:
    """The footprint of a call; of one with unknown fate, what it leaves at most."""
    if fate(op) is not Fate.MAYBE:
        return spec.footprint(op)
    done = spec.footprint(replace(op, outcome=Outcome.SUCCESS))
    if done is None:
        return None
    refused = spec.footprint(replace(op, outcome=Outcome.REFUSED)) or Footprint({})

    def most(
        a: Mapping[str, tuple[int, int]], b: Mapping[str, tuple[int, int]]
    ) -> dict[str, tuple[int, int]]:
        return {key: (0, max(a.get(key, (0, 0))[1], b.get(key, (0, 0))[1])) for key in {*a, *b}}

    return Footprint(most(done.changes, refused.changes), most(done.foreign, refused.foreign))


def _claims(
    spec: Spec, operations: Sequence[Operation], owners: frozenset[str]
) -> tuple[dict[str, _Claims], bool]:
    """Claims per change key of those `owners` that changes carry, and whether any call has no known
    footprint."""
    claims: dict[str, _Claims] = {}
    wild = False
    for op in operations:
        owner = whole(spec.owner(op), owners)
        left = _bounds(spec, op)
        if left is None:
            wild = True
            continue
        for key, (least, most) in left.changes.items():
            claim = claims.setdefault(key, _Claims())
            claim.least[owner] += least
            claim.most[owner] += most
            claim.calls.setdefault(owner, []).append(op.call)
        for key, (_, most) in left.foreign.items():
            claim = claims.setdefault(key, _Claims())
            claim.foreign[owner] += most
            claim.calls.setdefault(owner, []).append(op.call)
    return claims, wild


def _key(key: str, counted: Counter[str], claims: _Claims, wild: bool) -> Iterator[Finding]:
    """What is wrong with one change key: at most one finding."""
    pooled = bool(counted[""]) or not counted
    owners = [""] if pooled else sorted({*counted, *claims.least} - {""})
    deficits, excesses = [], []
    for owner in owners:
        if pooled:
            found = counted.total()
            floor, ceiling = claims.least.total(), claims.most.total() + claims.foreign.total()
        else:
            found, floor, ceiling = counted[owner], claims.floor(owner), claims.ceiling(owner)
        if found < floor and key.startswith(ADD_UP):
            deficits.append((owner, found, floor))
        elif found > ceiling and not wild:
            excesses.append((owner, found, ceiling))
    if not deficits and not excesses:
        return
    if deficits and excesses:
        property, summary = "misattributed", f"{key} carries another owner than the call's own"
    elif deficits:
        property = "missing"
        summary = f"an acknowledged call did not leave its whole footprint: {key}"
    else:
        property, summary = "unclaimed", f"no call of the run accounts for {key}"
    blamed = [owner for owner, _, _ in (*deficits, *excesses)]
    calls = [
        call
        for owner, listed in claims.calls.items()
        if pooled or owner in blamed or not owner
        for call in listed
    ]
    yield finding(
        NAME,
        property,
        key,
        summary=summary,
        reason=[
            *(_line(key, o, n, f"at least {b} must be there") for o, n, b in deficits),
            *(_line(key, o, n, f"at most {b} can be explained") for o, n, b in excesses),
        ],
        calls=calls,
        evidence={
            "found": dict(counted),
            "least": dict(claims.least),
            "most": dict(claims.most),
        },
    )


def _line(key: str, owner: str, found: int, bound: str) -> str:
    return f"{key}{f' of {owner}' if owner else ''}: found {found}, {bound}"
