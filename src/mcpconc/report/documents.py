"""What each verb prints: a text for people, and with ``--json`` one document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcpconc.events import CampaignFinished, Covered
from mcpconc.oracle.base import Finding
from mcpconc.recheck import Checked
from mcpconc.report.costs import costs_document
from mcpconc.report.finding import titled
from mcpconc.trace import Trace

if TYPE_CHECKING:
    from mcpconc.exhaust import Verdicts
    from mcpconc.replay import Replay

__all__ = [
    "campaign_document",
    "checked_document",
    "checked_text",
    "explored_document",
    "explored_text",
    "listing_text",
    "replay_document",
    "replay_text",
    "trace_document",
]


def campaign_document(done: CampaignFinished) -> dict[str, Any]:
    return {
        "verdict": done.exit.name.lower(),
        "exit": int(done.exit),
        "stop": done.stop,
        **done.numbers(),
        "coverage": _covered(done.coverage),
        "costs": None if done.costs is None else costs_document(done.costs),
        "out": str(done.out),
        "findings": [
            {
                **kept.finding.to_json(),
                "trace": str(kept.path) if kept.path else None,
                "times": kept.times,
                "from_calls": kept.from_calls,
                "to_calls": kept.to_calls,
                "counts": kept.counts,
                "met_after": round(kept.met, 1),
            }
            for kept in done.kept
        ],
    }


def _covered(seen: Covered | None) -> dict[str, int] | None:
    if seen is None:
        return None
    return {
        "pairs_seen": seen.pairs,
        "pairs_possible": seen.possible,
        "programs": seen.programs,
        "programs_exhausted": seen.exhausted,
        "learning_runs": seen.learning,
    }


def trace_document(trace: Trace) -> dict[str, Any]:
    return {
        **trace.to_json(),
        "path": str(trace.path) if trace.path else None,
        "complete": trace.complete,
        "history": [event.to_json() for event in trace.history.events],
    }


def checked_document(checked: Checked) -> dict[str, Any]:
    trace = checked.trace
    return {
        "trace": str(trace.path),
        "status": checked.status,
        "recorded": trace.verdict.name.lower(),
        "verdict": checked.judgement.verdict.name.lower(),
        "exit": int(checked.exit),
        "events": len(trace.history.events),
        "findings": [finding.to_json() for finding in checked.judgement.findings],
        "gone": [finding.to_json() for finding in checked.gone],
        "new": [finding.to_json() for finding in checked.new],
        "undecided": list(checked.judgement.unknown),
        "judged_in_part": list(checked.judgement.notes),
    }


def checked_text(checked: Checked) -> str:
    return "\n".join(_checked(checked)) + "\n"


def _checked(checked: Checked) -> Iterator[str]:
    trace = checked.trace
    verdict = checked.judgement.verdict.name.lower()
    recorded = (
        "" if verdict == trace.verdict.name.lower() else f", was {trace.verdict.name}".lower()
    )
    if not trace.complete:
        recorded = f", judged on the {len(trace.history.events)} events before it was cut off"
    yield f"{checked.status:9} {verdict}{recorded}  {trace.path}"
    labels = {finding.fingerprint.head(): finding for finding in trace.findings}
    for finding in _distinct(checked.judgement.findings):
        head = finding.fingerprint.head()
        mark = "✗" if finding.promised else "·"
        if head in labels:
            yield f"  {mark} {_line(labels[head])}  ({labels[head].label.value})"
        elif trace.complete:
            yield f"  + {_line(finding)}  (not recorded)"
        else:
            yield f"  {mark} {_line(finding)}"
    for finding in checked.gone:
        yield f"  - {_line(finding)}  (recorded, not found now)"
    for line in checked.judgement.unknown:
        yield f"  ? {line}"
    for line in checked.judgement.notes:
        yield f"  judged in part: {line}"


def _distinct(findings: Sequence[Finding]) -> list[Finding]:
    return list({finding.fingerprint.head(): finding for finding in findings}.values())


def _line(finding: Finding) -> str:
    return f"{finding.fingerprint.oracle}: {titled(finding)}"


def replay_document(replay: Replay) -> dict[str, Any]:
    return {
        "trace": str(replay.trace),
        "status": replay.status.value,
        "reproduced": replay.reproduced,
        "tried": replay.tried,
        "diverged": replay.diverged,
        "divergence": replay.divergence or None,
        "waited": replay.waited,
        "others": list(replay.others),
        "error": replay.error or None,
    }


def replay_text(replay: Replay) -> str:
    text = f"{replay.status.value} {replay.reproduced}/{replay.tried}  {replay.trace}\n"
    text += f"  {replay.error}\n" if replay.error else ""
    if replay.diverged:
        text += f"  {replay.diverged} of {replay.tried} did not follow the recorded schedule\n"
        text += f"  {replay.divergence}\n" if replay.divergence else ""
    if replay.waited:
        text += f"  {replay.waited} of {replay.tried} waited for a lock that was not foreseen\n"
    text += "".join(f"  + {other}  (not what this trace was kept for)\n" for other in replay.others)
    return text


def explored_document(verdicts: Verdicts) -> dict[str, Any]:
    done = verdicts.exhausted
    return {
        "trace": str(verdicts.trace),
        "interleavings": done.explored.interleavings,
        "complete": done.finished and done.explored.complete,
        "safe": done.safe,
        "runs": done.runs,
        "undecided": done.undecided,
        "findings": [
            {
                **one.finding.to_json(),
                "interleavings": one.interleavings,
                "trace": str(one.trace),
            }
            for one in verdicts.seen
        ],
    }


def explored_text(verdicts: Verdicts) -> str:
    done = verdicts.exhausted
    number = done.explored.interleavings
    said = str(done.explored) if done.finished else f"{number} interleavings explored, then ended"
    worst = max(done.failing.values(), default=0)
    how = f"{worst} of them fail" if worst else "none of them fails"
    lines = [f"{said}: {how}"]
    for one in verdicts.seen:
        lines += [
            f"  {one.interleavings} of {number}  {_line(one.finding)}",
            f"    mcpconc show {one.trace}",
        ]
    if done.undecided:
        lines.append(f"  {done.undecided} of {number}  an oracle could not decide")
    return "\n".join([*lines, f"  {done.runs} runs of {verdicts.trace}"]) + "\n"


def listing_text(listing: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """Sections of name and one line each."""
    parts = []
    for title, entries in listing.items():
        width = max((len(entry["name"]) for entry in entries), default=0)
        lines = [f"  {e['name'].ljust(width)}  {e['about']}".rstrip() for e in entries]
        parts.append("\n".join([title, *(lines or ["  none"])]))
    return "\n\n".join(parts) + "\n"
