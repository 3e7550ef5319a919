"""What a campaign tells while it runs: one stream of plain events, many consumers.

The campaign emits and never asks who listens (after schemathesis' engine); console, log, JUnit
and the rest are functions of this stream and are imported by nobody. Events carry no clock
except durations in seconds: whoever shows elapsed time brings a clock of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcpconc.errors import Exit
from mcpconc.oracle.base import Finding, Fingerprint
from mcpconc.oracle.toll import Toll
from mcpconc.program import Program
from mcpconc.schedule.counts import Cost
from mcpconc.verdict import Verdict

__all__ = [
    "CampaignEvent",
    "CampaignFinished",
    "CampaignStarted",
    "Covered",
    "Emit",
    "FalseAlarm",
    "FindingFound",
    "InfraTrouble",
    "Kept",
    "PhaseFinished",
    "PhaseStarted",
    "PlantProgress",
    "PlantState",
    "PlantTried",
    "ReplayTried",
    "RunFinished",
    "SelftestFinished",
    "ShrinkProgress",
    "StressFinished",
    "TargetProgress",
    "TraceSaved",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignStarted:
    """Everything that was settled before the first run. `max_time` is in seconds; None means
    no such limit. `tools` are the names that the strategy may call."""

    target: str
    version: str
    agents: int
    identities: tuple[str, ...]
    schedulers: tuple[str, ...]
    seed: int
    out: Path
    max_time: float | None = None
    runs: int | None = None
    inflight: int = 1
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """A line about installing, preparing or starting the target."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """One program was run and judged.

    `n` counts from 1. `calls` were sent, `info` of them have an unknown outcome. `overlap` is
    the mean and `overlap_max` the greatest number of calls in flight during the concurrent
    part. `outcomes` is tool → outcome (``success``, ``refused``, …, ``info``) → times.
    `unknown` holds a line for each thing that an oracle could not decide, `pairs` the pairs of
    tools that were in flight at once.
    """

    n: int
    program: str
    calls: int
    seconds: float
    overlap: float
    overlap_max: int
    verdict: Verdict
    info: int = 0
    identity: str = ""
    scheduler: str = ""
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FindingFound:
    """A finding with a fingerprint that this campaign had not seen; not minimised yet."""

    finding: Finding
    program: Program


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkProgress:
    """The minimiser accepted or gave up a candidate; `calls` is the smallest program so far."""

    fingerprint: Fingerprint
    from_calls: int
    calls: int
    attempts: int
    finished: bool = False


@dataclass(frozen=True, slots=True)
class TraceSaved:
    """A finding, minimised and labelled as far as time allowed, is on disk."""

    path: Path
    finding: Finding


@dataclass(frozen=True, slots=True)
class InfraTrouble:
    """Something of ours or of the machine went wrong; the run does not count as a verdict."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTried:
    """One try of a replay. `reproduced` is None where the try itself went wrong (`text`)."""

    n: int
    of: int
    reproduced: bool | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A finding and where its trace is (None where none could be written). Where calls were
    forked, `confirmed` says in how many of how many runs with ordinary starts it came back. `met`
    is how many seconds after the campaign began a run first showed it."""

    finding: Finding
    path: Path | None
    times: int = 1
    from_calls: int = 0
    to_calls: int = 0
    confirmed: tuple[int, int] | None = None
    met: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether a user's server would show it, as far as we know."""
        return self.confirmed is None or self.confirmed[0] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """What a controlled campaign has seen of the orders that there are: `pairs` of `possible` ones
    as far as is known (`mcpconc.schedule.coverage`). Of so many `programs`, `exhausted` showed
    nothing new any more. `learning` runs, which count nowhere else, were made one call at a time
    to see what tools touch."""

    pairs: int
    possible: int
    programs: int
    exhausted: int
    learning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFinished:
    """The end of a campaign, however it came.

    `exit` is the verb's exit code and `stop` one phrase that says why it ended (``time is
    up``, ``100 runs done``, ``interrupted``, …). `never` names the tools that were sent but
    never succeeded, `unused` those that were never sent. `unknown` counts runs with something
    undecided, of which `undecided` is a sample of lines, `infra` the `InfraTrouble`s. `faults` is
    what each of them did.
    `coverage` is None where nothing was controlled, `costs` what calls did inside the target,
    those of minimising included, or None where nothing was counted.
    """

    exit: Exit
    stop: str
    runs: int
    calls: int
    seconds: float
    seed: int
    out: Path
    kept: tuple[Kept, ...] = ()
    never: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    unknown: int = 0
    undecided: tuple[str, ...] = ()
    infra: int = 0
    overlap: float = 0.0
    overlap_max: int = 0
    faults: tuple[Toll, ...] = ()
    coverage: Covered | None = None
    costs: tuple[Cost, ...] | None = None

    def numbers(self) -> dict[str, Any]:
        """What was run, for documents; nothing of what was found."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "programs": self.runs,
            "calls": self.calls,
            "overlap": {"mean": round(self.overlap, 3), "max": self.overlap_max},
            "undecided": self.unknown,
            "undecided_such_as": list(self.undecided),
            "infra": self.infra,
            "never_succeeded": list(self.never),
            "never_called": list(self.unused),
            "faults": [toll.to_json() for toll in self.faults],
        }


class PlantState(StrEnum):
    """What became of a planted bug."""

    CAUGHT = "caught"
    NOT_MINIMAL = "not minimal"
    WRONG_ORACLE = "wrong oracle"
    ESCAPED = "escaped"
    EXCUSED = "escaped (needs: schedule)"
    OUT_OF_TIME = "out of time"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class PlantProgress:
    """Where a self-test is: at the `n`-th `of` so many bugs (0: the correct server)."""

    name: str
    n: int
    of: int
    seed: int
    runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantTried:
    """One planted bug with one seed.

    `oracle` is the one that must catch it; `seen` are all that saw anything in these `runs`,
    which made `calls` calls. `left` counts the calls of the minimal program: those of its
    concurrent part, or where it has none (`overlapping` is false) all; 0 without one. `alone`
    says that no other oracle ought to see it, `undecided` what oracles could not decide.
    """

    name: str
    kind: str
    oracle: str
    state: PlantState
    seed: int
    alone: bool = False
    seen: tuple[str, ...] = ()
    runs: int = 0
    calls: int = 0
    left: int = 0
    overlapping: bool = True
    label: str = ""
    seconds: float = 0.0
    trace: Path | None = None
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A finding, or something undecided, on the server without a planted bug."""

    text: str
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestFinished:
    """The end of a self-test, however it came. `tried` has an entry per bug and seed, in the
    order in which they were run; `silent` counts the programs of the correct server."""

    exit: Exit
    stop: str
    seed: int
    seeds: int
    seconds: float
    out: Path
    tried: tuple[PlantTried, ...] = ()
    silent: int = 0
    alarms: tuple[FalseAlarm, ...] = ()
    infra: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """The `n`-th `of` so many phases of a stress run. `placements` are those that it measures."""

    n: int
    of: int
    scenario: str
    agents: int
    placements: tuple[str, ...]
    settings: str = "default"
    observed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """What a phase gave in one placement. `median` is in seconds, None without enough calls;
    `errors` counts calls that ended as none should, `violations` distinct findings."""

    scenario: str
    agents: int
    placement: str
    settings: str
    observed: bool
    programs: int
    calls: int
    seconds: float
    median: float | None
    errors: int
    violations: int
    undecided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StressFinished:
    """The end of a stress run, however it came; as for a campaign. `exit` is of violations
    alone."""

    exit: Exit
    stop: str
    phases: int
    calls: int
    seconds: float
    seed: int
    out: Path
    kept: tuple[Kept, ...] = ()
    infra: int = 0


CampaignEvent = (
    CampaignStarted
    | TargetProgress
    | RunFinished
    | FindingFound
    | ShrinkProgress
    | TraceSaved
    | InfraTrouble
    | ReplayTried
    | CampaignFinished
    | PlantProgress
    | PlantTried
    | FalseAlarm
    | SelftestFinished
    | PhaseStarted
    | PhaseFinished
    | StressFinished
)

Emit = Callable[[CampaignEvent], None]
"""Where events go. Never raises, never blocks for long."""
