"""Whether the criteria of success are met: a table, by itself or inside a file that somebody else
writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mcpconc.errors import Exit, UsageError
from mcpconc.report.cases import WRONG, Case, State, by_suite, cases, excused
from mcpconc.report.document import Json
from mcpconc.report.markdown.common import busy, reason
from mcpconc.report.markdown.figures import code, given, percent, prose, table

__all__ = ["BEGIN", "END", "check_markers", "criteria", "write_criteria"]

BEGIN, END = "<!-- mcpconc:criteria -->", "<!-- /mcpconc:criteria -->"

HEAD = ("criterion", "result", "measured", "why")
OF_RUN = {
    "doctor": "the target can be judged",
    "canary": "planted bugs are caught",
    "vacuous": "the run could have failed",
}
OF_SUITE = {
    "findings": "nothing is found that is not listed",
    "baseline": "nothing is listed that is not found",
    "traces": "no saved trace fails that is not listed",
}
SHOWN = 3
"""Reasons that a cell of the table may hold."""
CUT_SHORT = (Exit.TARGET, Exit.BUG, Exit.INTERRUPTED)
RESULTS = {
    State.PASSED: "met",
    State.FAILED: "**not met**",
    State.ERROR: "**not met**",
    State.LISTED: "not met, listed",
    State.UNMEASURED: "not measured",
}


def criteria(document: Json) -> str:
    """Each criterion: met, not met, not measured and why. Ends with a newline."""
    rows = [*_thresholds(document), *_judged(document)]
    made = document["made_by"]
    lines = [
        *table(HEAD, rows),
        f"{made['name']} {made['version']}, {made['began']}."
        f" The machine meanwhile: {busy(document['phases'])}. Again: {code(made['command'])}",
    ]
    return "\n".join(lines) + "\n"


def check_markers(path: Path) -> None:
    """See that the table can be put into a file, before there is one.

    :raises UsageError: as `write_criteria` does.
    """
    _put("", path, write=False)


def write_criteria(document: Json, path: Path) -> None:
    """Put the table between the markers `BEGIN` and `END` of a file; every byte outside stays.

    :raises UsageError: if the file cannot be read or written, or does not have each marker once,
        in this order.
    """
    _put(criteria(document), path)


def _put(text: str, path: Path, *, write: bool = True) -> None:
    try:
        new = _between(path.read_bytes(), text, path)
        with path.open("r+b") as file:
            if write:
                file.write(new)
                file.truncate()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _between(old: bytes, text: str, path: Path) -> bytes:
    places = []
    for marker in (BEGIN, END):
        times = old.count(marker.encode())
        if times != 1:
            seen = f"there {times} times" if times else "missing"
            raise UsageError(f"{path}: `{marker}` is {seen}; it must stand there once")
        places.append(old.index(marker.encode()))
    begin, end = places[0] + len(BEGIN), places[1]
    if begin > end:
        raise UsageError(f"{path}: `{END}` stands before `{BEGIN}`")
    line = b"\r\n" if b"\r\n" in old else b"\n"
    inside = text.encode().replace(b"\n", line)
    return old[:begin] + line + line + inside + line + old[end:]


def _thresholds(document: Json) -> Iterator[tuple[str, ...]]:
    for threshold in document["thresholds"]:
        why = reason(threshold)
        result = "met" if threshold["passed"] else "**not met**"
        if threshold["passed"] is None:
            result = "not measured"
        elif excused(threshold):
            result = "not met, listed"
        if listed := threshold["listed"]:
            value = given(listed["value"], threshold["unit"])
            until = f" until {listed['expires']}" if listed["expires"] else ""
            worse = (
                f", tolerated {percent(listed['tolerance'])} worse" if listed["tolerance"] else ""
            )
            why = f"listed with {value}{worse}{until}: {listed['reason']}"
        actual = given(threshold["actual"], threshold["unit"], threshold["limit"])
        if threshold.get("where"):
            actual += f" ({threshold['where']})"
        yield code(threshold["expr"]), result, actual, prose(why)


def _judged(document: Json) -> Iterator[tuple[str, ...]]:
    """What is no threshold: a row for the run's own checks, one for all findings, and so on."""
    found = cases(document)
    suites = by_suite(found)
    for case in suites["run"]:
        what = OF_RUN.get(case.name, "the run came to its end")
        yield what, RESULTS[case.state], "", prose(case.message)
    if document["kind"] == "gate":
        for name in ("doctor", "canary"):
            if document[name] is None:
                yield OF_RUN[name], RESULTS[State.UNMEASURED], "", "that step did not run"
    for suite, what in OF_SUITE.items():
        if suite == "findings" or suites.get(suite):
            state, why = _together(suites.get(suite, []))
            if state is State.PASSED and document["exit"] in CUT_SHORT:
                state, why = State.UNMEASURED, "the run did not come to its end"
            yield what, RESULTS[state], "", prose(why)


def _together(found: list[Case]) -> tuple[State, str]:
    """What several cases come to, and those that decide it: a failure before what is open."""
    wrong = [case.message for case in found if case.state in WRONG]
    left = [case.message for case in found if case.state is State.UNMEASURED]
    listed = [case.name for case in found if case.state is State.LISTED]
    if wrong or left:
        return State.FAILED if wrong else State.UNMEASURED, _first(wrong or left, "; ")
    return State.PASSED, f"listed: {_first(listed, ', ')}" if listed else ""


def _first(names: list[str], between: str) -> str:
    """The first of them: the others stand further down in the reports, each in a row of its own."""
    return between.join([*names[:SHOWN], *(["and others"] if len(names) > SHOWN else [])])
