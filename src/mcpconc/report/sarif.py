"""SARIF 2.1.0, for code scanning: what failed, and what the baseline lists as suppressed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from mcpconc.errors import Exit
from mcpconc.report.cases import Case, State, cases, distinct
from mcpconc.report.document import Json

__all__ = ["SCHEMA", "sarif"]

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

FINGERPRINT = "mcpconc/v1"
"""The version changes when fingerprints of the same thing would."""

COMPLETED = (Exit.PASSED, Exit.VIOLATION, Exit.INCONCLUSIVE)
SHOWN = (State.FAILED, State.ERROR, State.LISTED)


def sarif(document: Json) -> str:
    """One run of one tool. The location of a result is the directory of its trace; what has none
    is a logical one, the expression of a threshold, say. Ends with a newline."""
    made = document["made_by"]
    results = [case for case in distinct(cases(document)) if case.state in SHOWN]
    rules = sorted({case.rule for case in results})
    driver = {
        "name": made["name"],
        "version": made["version"],
        "rules": [{"id": rule, "shortDescription": {"text": _about(rule)}} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"{made['name']}/{document['kind']}/"},
        "invocations": [
            {
                "commandLine": made["command"],
                "exitCode": document["exit"],
                "executionSuccessful": document["exit"] in COMPLETED,
            }
        ],
        "results": [_result(case, rules) for case in results],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _about(rule: str) -> str:
    """``effects/lost`` in words."""
    kind, _, what = rule.partition("/")
    texts = {
        "threshold": f"A threshold on {what} is missed",
        "baseline": f"An entry of the baseline is {what.replace('-', ' ')}",
        "trace": "A saved trace fails",
        "run": f"The run itself: {what}",
    }
    return texts.get(kind, f"The oracle {kind} says: {what.replace('_', ' ')}")


def _result(case: Case, rules: list[str]) -> dict[str, Any]:
    told = [case.message, case.detail, f"Again: {case.command}" if case.command else ""]
    listed = case.state is State.LISTED
    result: dict[str, Any] = {
        "ruleId": case.rule,
        "ruleIndex": rules.index(case.rule),
        "level": "note" if listed else "error",
        "message": {"text": "\n".join(text for text in told if text) or case.name},
        "locations": [_location(case)],
        "partialFingerprints": {FINGERPRINT: f"{case.rule}:{case.fingerprint}"},
        "suppressions": [],
    }
    if listed:
        why = {"justification": case.message} if case.message else {}
        result["suppressions"] = [{"kind": "external", "status": "accepted", **why}]
    return result


def _location(case: Case) -> dict[str, Any]:
    if case.trace:
        return {"physicalLocation": {"artifactLocation": {"uri": quote(case.trace)}}}
    return {"logicalLocations": [{"fullyQualifiedName": f"{case.suite}/{case.name}"}]}
