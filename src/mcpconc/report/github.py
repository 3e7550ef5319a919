"""What GitHub Actions shows: annotations, and the summary of a step."""

from mcpconc.report.cases import Case, failures
from mcpconc.report.document import Json
from mcpconc.report.markdown.common import verdict
from mcpconc.report.markdown.criteria import criteria
from mcpconc.report.markdown.figures import CONTROL, code, prose, table

__all__ = ["ANNOTATIONS", "SUMMARY", "annotations", "step_summary"]

ANNOTATIONS = 10
"""As many of a kind are shown for a step."""
SUMMARY = 1 << 20
"""Bytes that the summary of a step may have."""

CUT = "\n*The rest did not fit in here; the reports have it.*\n"


def annotations(document: Json) -> str:
    """One ``::error`` for each distinct failure, a line each; the last one says of how many more
    there is no room for. Empty if nothing failed."""
    found = failures(document)
    shown = found if len(found) <= ANNOTATIONS else found[: ANNOTATIONS - 1]
    lines = [_error(case) for case in shown]
    if len(found) > len(shown):
        rest = ", ".join(case.name for case in found[len(shown) :])
        lines.append(f"::error title={_property('mcpconc: more failures')}::{_message(rest)}")
    return "".join(f"{line}\n" for line in lines)


def _error(case: Case) -> str:
    told = [case.message or case.name, case.detail]
    told += [f"Again: {case.command}"] if case.command else []
    title = f"mcpconc: {case.suite}: {case.name}"
    where = f"file={_property(case.trace)}," if case.trace else ""
    return f"::error {where}title={_property(title)}::{_message(chr(10).join(filter(None, told)))}"


def _message(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return CONTROL.sub("\ufffd", escaped)


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def step_summary(document: Json) -> str:
    """The verdict, the criteria, and what was found, in Markdown; what does not fit is cut off at
    the end of a line. Ends with a newline."""
    target = document["target"]
    lines = [
        f"## mcpconc {document['kind']}: {verdict(document)}",
        "",
        f"{target['name']} {target['version'] or ''}".rstrip() + f": {prose(document['stop'])}",
        "",
        criteria(document),
        *_findings(document),
        *_unmeasured(document),
    ]
    return _fit("\n".join(lines).rstrip() + "\n")


def _findings(document: Json) -> list[str]:
    order = sorted(document["findings"], key=lambda finding: finding["status"] == "known")
    rows = [
        (
            finding["status"] or "not compared",
            *(f"{prose(finding['title'])} ({finding['label']})", prose(finding["summary"])),
            code(finding["trace"]) if finding["trace"] else "none",
            code(finding["command"]) if finding["command"] else "no trace could be written",
        )
        for finding in order
    ]
    found = table(("status", "finding", "what", "trace", "see it again"), rows)
    return ["### Findings", "", *found] if found else []


def _unmeasured(document: Json) -> list[str]:
    rows = [(prose(entry["what"]), prose(entry["why"])) for entry in document["unmeasured"]]
    found = table(("what", "why"), rows)
    return ["### Not measured", "", *found] if found else []


def _fit(text: str) -> str:
    data = text.encode()
    if len(data) <= SUMMARY:
        return text
    kept = data[: SUMMARY - len(CUT.encode())]
    return kept[: kept.rfind(b"\n") + 1].decode() + CUT
