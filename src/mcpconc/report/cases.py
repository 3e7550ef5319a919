"""What a gate judged, one case each: JUnit, SARIF and GitHub's annotations show the same ones.

Each threshold, each finding, each entry of the baseline that is not as it should be, each saved
trace, and the run itself. A document that failed has at least one case that failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mcpconc.report.document import Json

__all__ = ["Case", "State", "by_suite", "cases", "excused", "failures"]

GONE_WRONG = {
    "stale": "the baseline lists it, and it is not found any more",
    "expired": "its entry in the baseline has expired",
}


class State(Enum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    LISTED = "listed"
    UNMEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Case:
    """`rule` names the kind of failure and `fingerprint` this one; both stay the same from run to
    run. `message` is one line and empty where there is nothing to say, `trace` a directory,
    `command` shows it again."""

    suite: str
    rule: str
    name: str
    state: State
    message: str = ""
    detail: str = ""
    fingerprint: str = ""
    trace: str = ""
    command: str = ""


def cases(document: Json) -> list[Case]:
    """All of them, in the order in which they are reported."""
    found = [
        *_run(document),
        *_thresholds(document),
        *_findings(document),
        *_baseline(document),
        *_traces(document),
    ]
    wrong = any(case.state in (State.FAILED, State.ERROR) for case in found)
    if not document["passed"] and not wrong:
        found.append(_of_run("ended", State.ERROR, document["stop"]))
    return found


def failures(document: Json) -> list[Case]:
    """Those that keep it from passing, each once."""
    wrong = {
        (case.rule, case.fingerprint): case
        for case in reversed(cases(document))
        if case.state in (State.FAILED, State.ERROR)
    }
    return list(reversed(wrong.values()))


def excused(threshold: Json) -> bool:
    """A miss that the baseline lists, and no worse than listed."""
    listed, actual = threshold["listed"], threshold["actual"]
    if threshold["passed"] is not False or listed is None:
        return False
    limit = threshold["limit"]
    if None in (actual, limit, listed["value"]):
        return False
    room = abs(listed["value"]) * (listed["tolerance"] or 0.0)
    return bool(abs(actual - limit) <= abs(listed["value"] - limit) + room)


def _of_run(name: str, state: State, message: str = "") -> Case:
    return Case("run", f"run/{name}", name, state, message, fingerprint=name)


def _run(document: Json) -> Iterator[Case]:
    doctor, canary = document["doctor"], document["canary"]
    if doctor is not None:
        bad = [
            f"{check['name']}: {check['answer']}"
            for check in doctor.get("checks", ())
            if check["state"] == "bad"
        ]
        yield _of_run("doctor", State.ERROR if bad else State.PASSED, "; ".join(bad))
    if canary is not None:
        message = f"{canary['caught']} of {canary['of']} planted bugs were caught"
        yield _of_run("canary", State.PASSED if canary["passed"] else State.FAILED, message)
    vacuous = document["vacuous"]
    yield _of_run("vacuous", State.FAILED if vacuous else State.PASSED, "; ".join(vacuous))


def _thresholds(document: Json) -> Iterator[Case]:
    expired = {e["fingerprint"] for e in document["baseline"] if e["status"] == "expired"}
    for threshold in document["thresholds"]:
        expr = threshold["expr"]
        metric = re.match(r"[\w.]*", expr)
        state, message = _judged(threshold, expr in expired)
        rule = f"threshold/{metric[0] if metric else expr}"
        yield Case("thresholds", rule, expr, state, message, fingerprint=expr)


def _judged(threshold: Json, expired: bool) -> tuple[State, str]:
    if threshold["passed"] is None:
        why = str(threshold["why"] or "nobody says why").removeprefix("not measured: ")
        return State.UNMEASURED, f"not measured: {why}"
    actual = f"{threshold['actual']} {threshold['unit']}".rstrip()
    if threshold["passed"]:
        return State.PASSED, f"it is {actual}"
    if excused(threshold) and not expired:
        return State.LISTED, f"it is {actual}; listed: {threshold['listed']['reason']}"
    return State.FAILED, f"{threshold['expr']}: it is {actual}"


def _findings(document: Json) -> Iterator[Case]:
    why = {e["fingerprint"]: e["why"] for e in document["baseline"] if e["status"] == "found"}
    for f in document["findings"]:
        known = f["status"] == "known"
        what = f"{f['title']} ({f['label']})"
        yield Case(
            suite="findings",
            rule=f"{f['oracle']}/{f['property']}",
            name=f"{f['title']} [{f['fingerprint']}]",
            state=State.LISTED if known else State.FAILED,
            message=f"listed: {why.get(f['fingerprint']) or 'known'}" if known else what,
            detail=f["summary"],
            fingerprint=f["fingerprint"],
            trace=f["trace"] or "",
            command=f["command"] or "",
        )


def _baseline(document: Json) -> Iterator[Case]:
    for entry in document["baseline"]:
        status = entry["status"]
        if status == "found":
            continue
        wrong = status in GONE_WRONG
        why = entry["why"] or ""
        yield Case(
            suite="baseline",
            rule=f"baseline/{status.replace(' ', '-')}",
            name=entry["fingerprint"],
            state=State.FAILED if wrong else State.UNMEASURED,
            message=f"{entry['fingerprint']}: {GONE_WRONG[status] if wrong else status}"
            + (f" ({why})" if why else "")
            + _replayed(entry),
            fingerprint=entry["fingerprint"],
            trace=entry["trace"] or "",
        )


def _replayed(entry: Json) -> str:
    if entry["of"] is None:
        return ""
    return f"; {entry['failed']} of {entry['of']} replays failed"


def _traces(document: Json) -> Iterator[Case]:
    listed = {entry["trace"] for entry in document["baseline"] if entry["trace"]}
    for saved in document["traces"]:
        status, trace = saved["status"], saved["trace"]
        state = State.FAILED
        if status == "FIXED":
            state = State.PASSED
        elif status == "ERROR":
            state = State.ERROR
        elif trace in listed:
            state = State.LISTED
        tried = f"{saved['reproduced']} of {saved['tried']} replays failed"
        yield Case(
            suite="traces",
            rule="trace/error" if state is State.ERROR else "trace/fails",
            name=trace,
            state=state,
            message=f"{status}: {trace}, {tried}",
            fingerprint=trace,
            trace=trace,
            command=f"mcpconc replay {shlex.quote(trace)}",
        )


def by_suite(found: list[Case]) -> dict[str, list[Case]]:
    """Suites in the order of their first case."""
    suites: dict[str, list[Case]] = {}
    for case in found:
        suites.setdefault(case.suite, []).append(case)
    return suites
