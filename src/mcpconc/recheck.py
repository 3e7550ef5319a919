"""Judge a saved run again: no server, no network, only what the trace holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcpconc.errors import Exit, UsageError
from mcpconc.model.spec import Spec
from mcpconc.oracle import SELF
from mcpconc.oracle.base import Finding, Judgement, Oracle, judge
from mcpconc.target import resolve
from mcpconc.trace import Trace, to_run
from mcpconc.verdict import Verdict

__all__ = ["Checked", "recheck", "spec_of"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a saved run is now, beside what it was when it was saved.

    `gone` were recorded and are not found any more, `new` are found and were not recorded.
    """

    trace: Trace
    judgement: Judgement
    gone: tuple[Finding, ...]
    new: tuple[Finding, ...]

    @property
    def same(self) -> bool:
        """Verdict and findings are the recorded ones."""
        agrees = self.judgement.verdict == self.trace.verdict
        return agrees and not self.gone and not self.new

    @property
    def status(self) -> str:
        if not self.trace.complete:
            return "PARTIAL"
        return "SAME" if self.same else "DIFFERENT"

    @property
    def exit(self) -> Exit:
        """A violation is one whether or not it was recorded; a recorded one that is gone is
        no pass, because either record or oracle is wrong."""
        if self.judgement.verdict is Verdict.VIOLATION:
            return Exit.VIOLATION
        if self.judgement.verdict is Verdict.UNKNOWN or self.gone:
            return Exit.INCONCLUSIVE
        return Exit.PASSED


def spec_of(target: str) -> Spec | None:
    """The specification that oracles need for runs of this target; None where it has none.

    A checkout or description that is not on this machine is no obstacle: a target's
    specification is ours.
    """
    try:
        return resolve(target).spec
    except UsageError:
        return resolve("empirica").spec if target.startswith("empirica") else None


def recheck(trace: Trace, spec: Spec | None, oracles: Sequence[tuple[str, Oracle]]) -> Checked:
    """Judge the saved run and compare heads of fingerprints with the recorded findings."""
    judgement = judge(to_run(trace, spec), (*oracles, SELF) if trace.model else oracles)
    recorded = {f.fingerprint.head(): f for f in trace.findings}
    found = {f.fingerprint.head(): f for f in judgement.findings}
    return Checked(
        trace,
        judgement,
        gone=tuple(f for head, f in recorded.items() if head not in found),
        new=tuple(f for head, f in found.items() if head not in recorded),
    )
