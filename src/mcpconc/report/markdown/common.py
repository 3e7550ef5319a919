"""What the four reports have in common: how they begin and end, and which phases are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcpconc.errors import Exit
from mcpconc.report.document import Json
from mcpconc.report.markdown.figures import (
    NOT,
    READING,
    code,
    counted,
    machine,
    mib,
    number,
    part,
    percent,
    prose,
    seconds,
    table,
)

__all__ = [
    "DEFAULT",
    "Pictures",
    "again",
    "at",
    "beginning",
    "busy",
    "by_scenario",
    "ending",
    "facts",
    "is_probed",
    "joined",
    "ladder",
    "probed",
    "reason",
    "slowdowns",
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
            return [f"![{prose(alt)}]({self.files[name]})", ""]
        return [f"*{self.why}*", ""] if self.why else []


def verdict(document: Json) -> str:
    """``FAILED``"""
    code = document["exit"]
    return VERDICTS.get(code, "PASSED" if document["passed"] else "FAILED")


def beginning(document: Json, title: str) -> list[str]:
    """Title, verdict, how it was made and how to make it again."""
    made, target, profile = document["made_by"], document["target"], document["profile"]
    budget = joined(f"{phase} {number(n)}" for phase, n in profile["budget"].items() if n)
    rows = [
        ("target", f"{target['name']} {target['version'] or 'of unknown version'}"),
        ("as", _known(target, "spec", "identity", "start")),
        ("profile", joined([f"{profile['name']}: {profile['about']}", _calls(budget)], "; ")),
        *((("left out", joined(document["skipped"])),) if document.get("skipped") else ()),
        ("run", f"{made['name']} {made['version']}, {made['began']}, {seconds(made['seconds'])}"),
        ("again", code(made["command"])),
    ]
    return [
        f"# {title}",
        "",
        f"**{verdict(document)}** (exit {document['exit']}): {prose(document['stop'])}",
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
    if (looks := document.get("sampling")) is not None:
        share = percent(looks["share_of_a_core"])
        rows.append(("looking at the processes took", f"{share} of one core"))
    return table(("what", "fact"), rows)


def _calls(budget: str) -> str:
    return f"calls by phase: {budget}" if budget else ""


def _known(of: Json, *names: str) -> str:
    return joined(f"{name} {code(of[name])}" for name in names if of[name])


def _vacuous(document: Json) -> list[str]:
    """A run that could not have failed says so before anything else."""
    if not document["vacuous"]:
        return []
    lines = [f"* {prose(line)}" for line in document["vacuous"]]
    return ["**This run could not have failed:**", "", *lines, ""]


def ending(document: Json) -> list[str]:
    """What was not measured, and why."""
    rows = [(prose(entry["what"]), prose(entry["why"])) for entry in document["unmeasured"]]
    rows += [
        (code(threshold["expr"]), prose(reason(threshold)))
        for threshold in document["thresholds"]
        if threshold["passed"] is None
    ]
    lines = table(("what", "why"), rows) or ["Everything that was asked for was measured.", ""]
    return ["## Not measured", "", *lines]


def reason(threshold: Json) -> str:
    """Why a threshold was not judged."""
    return str(threshold["why"] or "").removeprefix(f"{NOT}: ")


def ladder(document: Json, *, placement: str = "one", settings: str = DEFAULT) -> list[Json]:
    """Phases that are compared by their number of agents: scenario by scenario, fewest first; not
    those in which the probe counted, which slows calls."""
    found = [
        phase
        for phase in document["phases"]
        if not is_probed(phase) and (phase["placement"], phase["settings"]) == (placement, settings)
    ]
    return [phase for phases in by_scenario(found).values() for phase in phases]


def probed(document: Json) -> list[Json]:
    """Phases in which the probe counted."""
    return [phase for phase in document["phases"] if is_probed(phase)]


def is_probed(phase: Json) -> bool:
    return bool(phase.get("observed")) or phase["inside"] is not None


def slowdowns(document: Json) -> list[Json]:
    """Those of the target as it comes."""
    found = [r for r in document["slowdown"] if r.get("settings", DEFAULT) == DEFAULT]
    return [row for rows in by_scenario(found).values() for row in rows]


def by_scenario(phases: Iterable[Json]) -> dict[str, list[Json]]:
    """Phases, or rows that are told like them: scenarios in the order in which they first come,
    each with the fewest agents first."""
    grouped: dict[str, list[Json]] = {}
    for phase in sorted(phases, key=lambda phase: int(phase["agents"])):
        grouped.setdefault(phase["scenario"], []).append(phase)
    return grouped


def again(document: Json, phases: Sequence[Json] = (), *, within: bool = False) -> list[str]:
    """The command that measures these phases again: their own, else that of the whole run. One
    part `within` a chapter does not repeat what the chapter ends with."""
    commands = {phase["command"] for phase in phases if phase.get("command")}
    if within and not commands:
        return []
    lines = sorted(commands) or [document["made_by"]["command"]]
    return [f"Again: {joined(map(code, lines))}", ""]


def busy(phases: Iterable[Json]) -> str:
    """How much of the machine was saturated in several phases: the least and the most."""
    means = [part(phase["saturation"], "cpu_mean") for phase in phases]
    known = sorted(share for share in means if share is not None)
    if not known:
        return NOT
    if known[0] == known[-1]:
        return f"CPU {percent(known[0])}"
    return f"CPU {percent(known[0])} to {percent(known[-1])}, mean of a phase"


def joined(parts: Iterable[str], by: str = ", ") -> str:
    """The parts that are not empty."""
    return by.join(part for part in parts if part)


def at(phase: Json) -> str:
    """``checkpoints, 5 agents``"""
    return f"{phase['scenario']}, {counted(phase['agents'], 'agent')} ({machine(phase)})"
