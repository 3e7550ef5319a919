"""JUnit XML, in the form that Jenkins' xUnit plug-in publishes a schema of and pytest writes."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from mcpconc.report.cases import Case, State, by_suite, cases
from mcpconc.report.document import Json

__all__ = ["junit"]

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, however it is written."""

ELEMENTS = {
    State.FAILED: "failure",
    State.ERROR: "error",
    State.LISTED: "skipped",
    State.UNMEASURED: "skipped",
}


def junit(document: Json) -> str:
    """A suite for each kind of thing that was judged. What the baseline lists and what was not
    measured is skipped. Ends with a newline."""
    made, target = document["made_by"], document["target"]
    found = cases(document)
    whole = {"name": f"{made['name']} {document['kind']}", **_counted(found)}
    if made["seconds"] is not None:
        whole["time"] = f"{made['seconds']:.3f}"
    root = ET.Element("testsuites", _clean(whole))
    for suite, members in by_suite(found).items():
        skipped = sum(case.state in (State.LISTED, State.UNMEASURED) for case in members)
        about = {"name": suite, **_counted(members), "skipped": str(skipped)}
        element = ET.SubElement(root, "testsuite", _clean({**about, "timestamp": made["began"]}))
        properties = ET.SubElement(element, "properties")
        for name, value in (
            ("target", f"{target['name']} {target['version'] or ''}".strip()),
            ("seed", str(made["seed"])),
            ("command", made["command"]),
        ):
            ET.SubElement(properties, "property", _clean({"name": name, "value": value}))
        for case in members:
            _add(element, case)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add(suite: ET.Element, case: Case) -> None:
    names = {"classname": f"mcpconc.{case.suite}", "name": case.name}
    element = ET.SubElement(suite, "testcase", _clean(names))
    if case.state in ELEMENTS:
        told = {"type": case.rule, "message": case.message}
        outcome = ET.SubElement(element, ELEMENTS[case.state], _clean(told))
        outcome.text = UNPRINTABLE.sub("\ufffd", _detail(case)) or None


def _detail(case: Case) -> str:
    lines = case.detail.splitlines()
    lines += [f"trace: {case.trace}"] if case.trace else []
    lines += [f"again: {case.command}"] if case.command else []
    return "\n".join(line for line in lines if line)


def _counted(found: list[Case]) -> dict[str, str]:
    return {
        "tests": str(len(found)),
        "failures": str(sum(case.state is State.FAILED for case in found)),
        "errors": str(sum(case.state is State.ERROR for case in found)),
    }


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    return {key: UNPRINTABLE.sub("\ufffd", value) for key, value in attributes.items()}
