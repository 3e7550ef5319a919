"""What the four reports have in common: how they begin and end, and which phases are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcpconc.errors import Exit
from mcpconc.report.document import Json
from mcpconc.report.markdown.figures import (
    NOT,
    READING,
    cell,
    code,
    machine,
    mib,
    number,
    seconds,
    table,
)

__all__ = [
    "DEFAULT",
    "Pictures",
    "again",
    "beginning",
    "by_scenario",
    "ending",
    "facts",
    "joined",
    "ladder",
    "probed",
    "verdict",
]

DEFAULT = "default"
"""Name of the settings that the target has if nobody changes them."""

VERDICTS = {
    Exit.PASSED: "PASSED",
    Exit.VIOLATION: "FAILED",
    Exit.INCONCLUSIVE: "INCONCLUSIVE",
    Exit.TARGET: "TARGET UNUSABLE",
    Exit.INTERRUPTED: "INTERRUPTED",
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """Files of plots by the name of the plot; `why` says what keeps plots from being there."""

    files: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    def show(self, name: str, alt: str) -> list[str]:
        """The picture, or why it is missing, and an empty line."""
        if name in self.files:
            return [f"![{cell(alt)}]({self.files[name]})", ""]
        return [f"*{self.why}*", ""] if self.why else []


def verdict(document: Json) -> str:
    """``FAILED``"""
    code = document["exit"]
    return VERDICTS.get(code, "PASSED" if document["passed"] else "FAILED")


def beginning(document: Json, title: str) -> list[str]:
    """Title, verdict, how it was made and how to make it again."""
    made, target, profile = document["made_by"], document["target"], document["profile"]
    budget = joined(f"{phase} {number(calls)}" for phase, calls in profile["budget"].items())
    rows = [
        ("target", f"{target['name']} {target['version'] or 'of unknown version'}"),
        ("as", _known(target, "spec", "identity", "start")),
        ("profile", joined([f"{profile['name']}: {profile['about']}", _calls(budget)], "; ")),
        ("run", f"{made['name']} {made['version']}, {made['began']}, {seconds(made['seconds'])}"),
        ("again", code(made["command"])),
    ]
    return [
        f"# {title}",
        "",
        f"**{verdict(document)}** (exit {document['exit']}): {cell(document['stop'])}",
        "",
        *table(("", ""), rows),
        *_vacuous(document),
        READING,
        "",
    ]


def facts(document: Json) -> list[str]:
    """The machine, as a table."""
    on = document["machine"]
    rows = [
        ("processor", f"{on['cpu'] or NOT}, cores: {number(on['cores'])}"),
        ("memory", mib(on["memory_mib"])),
        *((name, on[name] or NOT) for name in ("python", "sqlite", "git", "kernel", "filesystem")),
    ]
    return table(("what", "fact"), rows)


def _calls(budget: str) -> str:
    return f"calls by phase: {budget}" if budget else ""


def _known(of: Json, *names: str) -> str:
    return joined(f"{name} {code(of[name])}" for name in names if of[name])


def _vacuous(document: Json) -> list[str]:
    """A run that could not have failed says so before anything else."""
    if not document["vacuous"]:
        return []
    lines = [f"* {cell(line)}" for line in document["vacuous"]]
    return ["**This run could not have failed:**", "", *lines, ""]


def ending(document: Json) -> list[str]:
    """What was not measured, and why."""
    rows = [(entry["what"], entry["why"]) for entry in document["unmeasured"]]
    rows += [
        (threshold["expr"], threshold["why"] or "")
        for threshold in document["thresholds"]
        if threshold["passed"] is None
    ]
    lines = table(("what", "why"), rows) or ["Everything that was asked for was measured.", ""]
    return ["## Not measured", "", *lines]


def ladder(document: Json, *, placement: str = "one", settings: str = DEFAULT) -> list[Json]:
    """Phases that are compared by their number of agents, fewest first; not those in which the
    probe counted, which slows calls."""
    phases = [
        phase
        for phase in document["phases"]
        if phase["inside"] is None
        and (phase["placement"], phase["settings"]) == (placement, settings)
    ]
    return sorted(phases, key=lambda phase: int(phase["agents"]))


def probed(document: Json) -> list[Json]:
    """Phases in which the probe counted."""
    return [phase for phase in document["phases"] if phase["inside"] is not None]


def by_scenario(phases: Iterable[Json]) -> dict[str, list[Json]]:
    """Scenarios in the order in which they first come."""
    grouped: dict[str, list[Json]] = {}
    for phase in phases:
        grouped.setdefault(phase["scenario"], []).append(phase)
    return grouped


def again(document: Json, phases: Sequence[Json]) -> list[str]:
    """The command that measures these phases again: their own, else that of the whole run."""
    commands = {phase.get("command") or document["made_by"]["command"] for phase in phases}
    return [f"Again: {joined(code(line) for line in sorted(commands))}", ""]


def joined(parts: Iterable[str], by: str = ", ") -> str:
    """The parts that are not empty."""
    return by.join(part for part in parts if part)


def at(phase: Json) -> str:
    """``checkpoints, 5 agents``"""
    agents = phase["agents"]
    return f"{phase['scenario']}, {agents} agent{'s' * (agents != 1)} ({machine(phase)})"
