"""What a gate judged, one case each: JUnit, SARIF and GitHub's annotations show the same ones.

Each threshold, each finding, each entry of the baseline that is not as it should be, each saved
trace, and the run itself. A document that failed has at least one case that failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from mcpconc.report.document import Json

__all__ = ["WRONG", "Case", "State", "by_suite", "cases", "distinct", "excused", "failures"]

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


WRONG = (State.FAILED, State.ERROR)


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
    if not document["passed"] and not any(case.state in WRONG for case in found):
        found.append(_of_run("ended", State.ERROR, document["stop"]))
    return found


def failures(document: Json) -> list[Case]:
    """Those that keep it from passing, each once."""
    return [case for case in distinct(cases(document)) if case.state in WRONG]


def distinct(found: Iterable[Case]) -> list[Case]:
    """One case for each fingerprint: a finding and the saved trace that shows it are the same.
    What is wrong is kept before what is not."""
    ranked = sorted(found, key=lambda case: case.state not in WRONG)
    kept = {case.fingerprint: case for case in reversed(ranked)}
    return [case for case in ranked if kept[case.fingerprint] is case]


def excused(threshold: Json) -> bool:
    """A miss that the baseline accepts."""
    return threshold["passed"] is False and threshold["listed"] is not None


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
    for threshold in document["thresholds"]:
        expr = threshold["expr"]
        metric = re.match(r"[\w.]*", expr)
        state, message = _judged(threshold)
        rule = f"threshold/{metric[0] if metric else expr}"
        yield Case("thresholds", rule, expr, state, message, fingerprint=expr)


def _judged(threshold: Json) -> tuple[State, str]:
    if threshold["passed"] is None:
        why = str(threshold["why"] or "nobody says why").removeprefix("not measured: ")
        return State.UNMEASURED, f"not measured: {why}"
    actual = f"{threshold['actual']} {threshold['unit']}".rstrip()
    if threshold["passed"]:
        return State.PASSED, f"it is {actual}"
    if excused(threshold):
        return State.LISTED, f"it is {actual}; listed: {threshold['listed']['reason']}"
    why = f"; {threshold['why']}" if threshold["why"] else ""
    return State.FAILED, f"{threshold['expr']}: it is {actual}{why}"


def _findings(document: Json) -> Iterator[Case]:
    accepted = {e["fingerprint"]: e.get("reason") or e["why"] for e in document["baseline"]}
    for f in document["findings"]:
        state, message = State.FAILED, f"{f['title']} ({f['label']})"
        if f["status"] == "known":
            why = f.get("reason") or accepted.get(f.get("listed_as") or f["fingerprint"])
            state, message = State.LISTED, f"listed: {why or 'known'}"
        elif f["status"] == "unconfirmed":
            state, message = State.UNMEASURED, f"{message}: seen with forked calls only"
        yield Case(
            suite="findings",
            rule=f"{f['oracle']}/{f['property']}",
            name=f"{f['title']} [{f['fingerprint']}]",
            state=state,
            message=message,
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
        told = f"{entry['fingerprint']}: {GONE_WRONG.get(status, status)}"
        told += f" ({entry['why']})" if entry["why"] else ""
        if entry["of"]:
            told += f"; {entry['failed']} of {entry['of']} replays failed"
        yield Case(
            suite="baseline",
            rule=f"baseline/{status.replace(' ', '-')}",
            name=entry["fingerprint"],
            state=State.FAILED if wrong else State.UNMEASURED,
            message=told,
            fingerprint=entry["fingerprint"],
            trace=entry["trace"] or "",
        )


STATES = {"FIXED": State.PASSED, "NOT JUDGED": State.UNMEASURED, "ERROR": State.UNMEASURED}
"""Of a saved trace, where it does not fail."""


def _traces(document: Json) -> Iterator[Case]:
    entries = {entry["trace"]: entry["fingerprint"] for entry in document["baseline"]}
    known = {f["fingerprint"] for f in document["findings"] if f["status"] == "known"}
    for saved in document["traces"]:
        status, trace = saved["status"], saved["trace"]
        fingerprint = saved.get("fingerprint") or entries.get(trace)
        listed = trace in entries or fingerprint in known
        state = STATES.get(status, State.LISTED if listed else State.FAILED)
        told = f"{status}: {trace}, {saved['reproduced']} of {saved['tried']} replays failed"
        told += f" ({saved['why']})" if saved.get("why") else ""
        yield Case(
            suite="traces",
            rule="trace/fails",
            name=trace,
            state=state,
            message=told,
            fingerprint=fingerprint or trace,
            trace=trace,
            command=f"mcpconc replay {shlex.quote(trace)}",
        )


def by_suite(found: list[Case]) -> dict[str, list[Case]]:
    """Suites in the order of their first case."""
    suites: dict[str, list[Case]] = {}
    for case in found:
        suites.setdefault(case.suite, []).append(case)
    return suites
