"""What there is: oracles, schedulers, identity modes, machines, tools, targets, planted
bugs, traces."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mcpconc import nemesis, oracle, schedule, strategies
from mcpconc.errors import McpconcError
from mcpconc.oracle.isolation import PROMISED
from mcpconc.reference.plants import PLANTS
from mcpconc.report.finding import titled
from mcpconc.strategies import CascadeMachine, ProgramMachine
from mcpconc.target import FORMS
from mcpconc.target.base import Identity
from mcpconc.target.cache import cache_root
from mcpconc.trace import load

__all__ = ["listing"]

Entry = dict[str, str]

IDENTITIES = {
    Identity.EXPLICIT: "nothing tells agents apart but the session that each call names",
    Identity.ISOLATED: "each agent is an instance, with a current session and transaction of its "
    "own",
    Identity.SHARED: "agents are no instances: they share one current session and transaction",
    Identity.SAME_INSTANCE: "all agents are one instance, with one current session and transaction",
}


def listing(roots: Sequence[Path]) -> dict[str, list[Entry]]:
    """Section → entries of name and one line."""
    return {
        "oracles": [_entry(name, about) for name, about in oracle.describe()],
        "schedulers": [
            _entry(name, _module(type(schedule.make(name, 0))))
            for name in schedule.NAMES
            if len(schedule.members(name)) == 1 and "D" not in name
        ]
        + [_entry("pct:D", "random priorities and D - 1 random changes of them, inside the calls")]
        + [
            _entry(name, f"for each run one of {', '.join(schedule.members(name))}, by seed")
            for name in (schedule.MIXED, schedule.PORTFOLIO)
        ],
        "faults": [
            _entry(kind.name, f"{kind.family}: {kind.about}" + _needs(kind))
            for kind in nemesis.KINDS.values()
        ],
        "identity modes": [_entry(mode.value, _promise(mode)) for mode in Identity],
        "machines": [_entry(name, machine) for name, machine in _machines()],
        "tools": [_entry(tool, "CascadeMachine") for tool in sorted(CascadeMachine.tools)],
        "targets": [_entry("SPEC", FORMS), *_cached()],
        "planted bugs": [
            _entry(plant.name, f"{plant.kind}; {plant.oracle}: {plant.what}") for plant in PLANTS
        ],
        "traces": list(_traces(roots)),
    }


def _entry(name: str, about: Any) -> Entry:
    if not isinstance(about, str):
        about = (inspect.getdoc(about) or "").split("\n\n")[0]
    return {"name": name, "about": " ".join(about.split())}


def _promise(mode: Identity) -> str:
    """How a mode tells agents apart, and what it promises of that."""
    if mode in PROMISED:
        promised = "promised: nothing of one agent shows at another"
    else:
        promised = "nothing promised: what breaks between agents is reported, and no violation"
    return f"{IDENTITIES[mode]}; {promised}"


def _needs(kind: nemesis.Kind) -> str:
    """What a fault takes, and whether it is to be had here."""
    if not kind.needs:
        return ""
    missing = kind.lacking(Path(tempfile.gettempdir()) / "world")
    return f"; needs {kind.needs}" + (f", not to be had here: {missing}" if missing else "")


def _module(of: Any) -> Any:
    """The module that defines it: there, not at the function, stands what it is for."""
    return sys.modules.get(getattr(of, "__module__", ""), of)


def _machines() -> Iterator[tuple[str, Any]]:
    for name in strategies.__all__:
        machine = getattr(strategies, name)
        if inspect.isclass(machine) and issubclass(machine, ProgramMachine) and machine.tools:
            yield f"{strategies.__name__}:{name}", machine


def _cached() -> Iterator[Entry]:
    folder = cache_root() / "targets"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir():
            yield _entry(entry.name, f"installed in {entry}")


def _traces(roots: Sequence[Path]) -> Iterator[Entry]:
    for root in roots:
        for entry in sorted(root.iterdir()) if root.is_dir() else ():
            if not (entry / "trace.json").is_file():
                continue
            try:
                trace = load(entry)
            except McpconcError as error:
                yield _entry(str(entry), f"unreadable: {error}")
                continue
            what = titled(trace.finding) if trace.finding else "no finding"
            yield _entry(str(entry), f"{trace.label.value}: {what}")
