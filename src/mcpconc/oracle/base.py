"""What oracles take and give.

Verdicts form the chain ``ok < unknown < violation`` (Jepsen's `valid?` lattice); the verdict of
several oracles is the greatest. An oracle that crashes or runs out of budget says `unknown`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mcpconc.history import History
from mcpconc.model.spec import Spec
from mcpconc.oracle.weather import weathered
from mcpconc.program import Program
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

__all__ = [
    "UNPROMISED",
    "Finding",
    "Fingerprint",
    "Judgement",
    "Label",
    "Oracle",
    "Result",
    "Run",
    "Verdict",
    "judge",
]


UNPROMISED = "unpromised"
"""Property of what agents rely on and nothing promises: its findings are no violations."""


class Label(StrEnum):
    SEQUENTIAL = "sequential"
    CROSS_AGENT = "cross-agent"
    RACE = "race"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """What makes two findings the same. Never ids, counts, agents, schedule or text.

    `tools` (sorted names of the minimised program's concurrent tools) is empty until the
    program is minimal, and so is `faults` (sorted names of those that it needs): what is lost when
    the disk is full is not what is lost when it is not. Shrinking accepts on `head`, dedupe and
    baselines use the whole.
    """

    oracle: str
    property: str
    kind: str
    field: str = ""
    tools: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def head(self) -> tuple[str, str, str, str]:
        return (self.oracle, self.property, self.kind, self.field)

    def digest(self) -> str:
        """Eight hex digits that name the whole fingerprint."""
        under = ("under", *self.faults) if self.faults else ()
        whole = "\0".join((*self.head(), *self.tools, *under))
        return hashlib.sha256(whole.encode()).hexdigest()[:8]

    def what(self) -> str:
        """``lost task.status``"""
        return f"{self.property} {self.kind}" + (f".{self.field}" if self.field else "")

    def weather(self) -> str:
        """``under full-disk``; empty where no fault is needed."""
        return f"under {' and '.join(self.faults)}" if self.faults else ""

    def title(self, between: str = " ‖ ") -> str:
        """``lost task.status  goals_add_task ‖ goals_complete``"""
        return "  ".join(filter(None, (self.what(), between.join(self.tools), self.weather())))

    def __str__(self) -> str:
        more = " ".join(filter(None, (" ‖ ".join(self.tools), self.weather())))
        return f"{self.oracle}: {self.what()}" + (f" ({more})" if more else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One violated property of one run.

    `summary` is one sentence; `reason` the lines that explain it in plain English; `calls` the
    calls involved, by id; `evidence` small JSON data (rows, values) for the trace.
    """

    fingerprint: Fingerprint
    summary: str
    reason: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    label: Label = Label.UNLABELLED

    @property
    def promised(self) -> bool:
        """Whether what is broken was promised: if not, it is reported and is no violation."""
        return self.fingerprint.property != UNPROMISED

    def needing(self, tools: Iterable[str], faults: Iterable[str] = ()) -> Finding:
        """The finding of a program that is minimal: what is left in it."""
        left = replace(
            self.fingerprint, tools=tuple(sorted(tools)), faults=tuple(sorted({*faults}))
        )
        return replace(self, fingerprint=left)

    def to_json(self) -> dict[str, Any]:
        f = self.fingerprint
        return {
            "oracle": f.oracle,
            "property": f.property,
            "kind": f.kind,
            "field": f.field,
            "tools": list(f.tools),
            "faults": list(f.faults),
            "fingerprint": f.digest(),
            "label": self.label.value,
            "promised": self.promised,
            "summary": self.summary,
            "reason": list(self.reason),
            "calls": list(self.calls),
            "evidence": self.evidence,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        return cls(
            fingerprint=Fingerprint(
                oracle=data["oracle"],
                property=data["property"],
                kind=data["kind"],
                field=data["field"],
                tools=tuple(data["tools"]),
                faults=tuple(data.get("faults", ())),  # traces of earlier versions have none
            ),
            summary=data["summary"],
            reason=tuple(data["reason"]),
            calls=tuple(data["calls"]),
            evidence=data["evidence"],
            label=Label(data["label"]),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Everything an oracle may look at. `before` is the template's snapshot; `after` is None
    where read-back did not happen. `identity` is the identity mode; `quiescent` whether
    quiescence was proven before read-back."""

    program: Program
    history: History
    before: Snapshot | None
    after: Snapshot | None
    spec: Spec | None
    identity: str = "explicit"
    quiescent: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What one oracle says: findings, and what it could not decide (one line each).

    `notes` say what was judged in part only; they do not change the verdict.
    """

    oracle: str
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        if any(found.promised for found in self.findings):
            return Verdict.VIOLATION
        return Verdict.UNKNOWN if self.unknown else Verdict.OK


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all oracles together say."""

    results: tuple[Result, ...]

    @property
    def verdict(self) -> Verdict:
        return max((r.verdict for r in self.results), default=Verdict.OK)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(f for r in self.results for f in r.findings)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(f"{r.oracle}: {line}" for r in self.results for line in r.unknown)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{r.oracle}: {line}" for r in self.results for line in r.notes)


Oracle = Callable[[Run], Result]


def judge(run: Run, oracles: Sequence[tuple[str, Oracle]]) -> Judgement:
    """Run the oracles; one that crashes says `unknown` with the error, never `ok`. What faults
    were injected is allowed for (`mcpconc.oracle.weather`)."""
    history, left_out = weathered(run.history)
    run = replace(run, history=history)
    results = []
    for name, oracle in oracles:
        if name in left_out:
            results.append(Result(name, notes=(f"not judged: {left_out[name]}",)))
            continue
        try:
            results.append(oracle(run))
        except Exception as error:
            results.append(Result(name, unknown=(f"the oracle crashed: {error!r}",)))
    return Judgement(tuple(results))
