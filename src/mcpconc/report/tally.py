"""What a campaign amounts to so far, as numbers and lines: pure functions of its events."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mcpconc.events import (
    CampaignEvent,
    CampaignStarted,
    FindingFound,
    InfraTrouble,
    PlantProgress,
    PlantTried,
    ReplayTried,
    RunFinished,
    ShrinkProgress,
    TargetProgress,
    TraceSaved,
)
from mcpconc.oracle.base import Label

__all__ = ["Tally", "ago", "block", "clock", "line"]


@dataclass(slots=True)
class Tally:
    """Sums over the events so far. Times are in seconds since the console was opened."""

    started: CampaignStarted | None = None
    began: float = 0.0
    runs: int = 0
    calls: int = 0
    busy: float = 0.0
    overlap: float = 0.0
    overlap_max: int = 0
    info: int = 0
    unknown: int = 0
    infra: int = 0
    found: int = 0
    labels: Counter[Label] = field(default_factory=Counter)
    last_new: float | None = None
    succeeded: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    doing: str = ""

    def add(self, event: CampaignEvent, at: float) -> None:
        """Take in an event that came `at` this time."""
        match event:
            case CampaignStarted():
                self.started, self.began, self.doing = event, at, ""
            case TargetProgress(text):
                self.doing = text
            case RunFinished():
                self.runs += 1
                self.calls += event.calls
                self.busy += event.seconds
                self.overlap += (event.overlap - self.overlap) / self.runs
                self.overlap_max = max(self.overlap_max, event.overlap_max)
                self.info += event.info
                self.unknown += bool(event.unknown)
                self.sent.update(event.outcomes)
                self.succeeded.update(
                    tool for tool, counts in event.outcomes.items() if counts.get("success")
                )
                self.doing = ""
            case FindingFound():
                self.found += 1
                self.last_new = at
            case ShrinkProgress():
                what = f"{event.fingerprint.property} {event.fingerprint.kind}"
                sizes = f"{event.from_calls} → {event.calls} calls"
                self.doing = f"minimising {what}: {sizes}, {event.attempts} tries"
            case TraceSaved(_, finding):
                if finding.label is not Label.UNLABELLED:
                    self.labels[finding.label] += 1
                    self.doing = ""
            case InfraTrouble():
                self.infra += 1
            case PlantProgress():
                where = f"bug {event.n} of {event.of}: " if event.n else ""
                self.doing = f"seed {event.seed}: {where}{event.name}: {event.runs} runs"
            case PlantTried():
                self.doing = event.name
            case ReplayTried():
                self.doing = f"replayed {event.n} of {event.of}"

    def findings(self) -> str:
        """``2 race, 1 sequential, 1 not labelled yet``, or ``none``."""
        parts = [f"{self.labels[label]} {label.value}" for label in Label if self.labels[label]]
        waiting = self.found - self.labels.total()
        if waiting > 0:
            parts.append(f"{waiting} not labelled yet")
        return ", ".join(parts) or "none"

    def rate(self) -> float:
        """Calls per second while programs ran: minimising does not count."""
        return self.calls / self.busy if self.busy else 0.0


def clock(seconds: float) -> str:
    """``0:02:10``"""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def ago(seconds: float) -> str:
    """``12s``, ``3m``, ``2h``"""
    if seconds < 60:
        return f"{int(seconds)}s"
    return f"{int(seconds // 60)}m" if seconds < 3600 else f"{int(seconds // 3600)}h"


def block(tally: Tally, now: float) -> list[str]:
    """The lines of the live status."""
    start = tally.started
    if start is None:
        return [f"mcpconc · {_doing(tally)} · {clock(now)}"]
    limit = f" of {clock(start.max_time)}" if start.max_time is not None else ""
    wanted = f" of {start.runs}" if start.runs is not None else ""
    inflight = f" × {start.inflight} in flight" if start.inflight > 1 else ""
    new = ""
    if tally.last_new is not None:
        new = f" · last new {ago(now - tally.last_new)} ago"
    schedulers = [name for name in start.schedulers if name != "mixed"] or start.schedulers
    lines = [
        f"mcpconc fuzz · {start.target} {start.version} · {start.agents} agents{inflight}"
        f" · seed {start.seed} · {'+'.join(start.identities)} · {'+'.join(schedulers)}",
        f"  {clock(now - tally.began)}{limit} · {tally.runs}{wanted} programs"
        f" · {tally.calls} calls · {tally.rate():.1f} calls/s"
        f" · overlap {tally.overlap:.1f} avg / {tally.overlap_max} max",
        f"  findings {tally.findings()}{new}",
        f"  tools {len(tally.succeeded)}/{len(start.tools or tally.sent)} succeeded"
        f" · calls without an answer {tally.info} · undecided runs {tally.unknown}"
        f" · infra {tally.infra}",
    ]
    return [*lines, f"  {tally.doing}"] if tally.doing else lines


def line(tally: Tally, now: float) -> str:
    """The same in one line, for logs."""
    if tally.started is None:
        return f"mcpconc: {clock(now)} · {_doing(tally)}"
    text = (
        f"mcpconc: {clock(now - tally.began)} · {tally.runs} programs · {tally.calls} calls"
        f" · {tally.rate():.1f} calls/s · overlap {tally.overlap:.1f}/{tally.overlap_max}"
        f" · findings {tally.findings()}"
    )
    text += f" · undecided {tally.unknown}" if tally.unknown else ""
    text += f" · infra {tally.infra}" if tally.infra else ""
    return text + (f" · {tally.doing}" if tally.doing else "")


def _doing(tally: Tally) -> str:
    """What goes on where no campaign has begun: it may be something else that runs programs."""
    ran = f"{tally.runs} runs · {tally.calls} calls" if tally.runs else "preparing"
    return tally.doing or ran
