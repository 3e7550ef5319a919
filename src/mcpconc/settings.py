"""Settings of a gate: what stands in ``mcpconc.toml``, or in ``[tool.mcpconc]`` of pyproject.toml
where there is no such file.

    profile = "release"
    thresholds = ["calls.p95 < 3s", "violations.new == 0"]     # instead of the profile's
    baseline = "gate/baseline.toml"                             # paths are from this file

    [stress]
    scenarios = ["database", "tools"]

    [profiles.mine]                                             # one of your own
    extends = "smoke"
    fuzz.runs = 40

A flag goes before the file, the file before the profile, the profile before the defaults
(`mcpconc.configure` reads it). The keys are the fields of the classes below; the published schema
(`mcpconc.schema.json`) is made of them: ``python -m mcpconc.settings > mcpconc.schema.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

__all__ = ["SECTIONS", "Settings", "budget", "schema"]

STARTS = ("auto", "ordinary", "fork")


def key(
    default: Any,
    about: str,
    *,
    least: float | None = None,
    most: float | None = None,
    of: tuple[str, ...] = (),
) -> Any:
    """A field that may be set. Numbers are from `least` to `most`, texts one `of` these."""
    limits = {"least": least, "most": most, "of": of}
    return field(default=default, metadata={"about": about, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    time: float = key(60.0, "seconds at most", least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    time: float = key(60.0, "seconds at most", least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    time: float = key(240.0, "seconds at most; what is left then is not judged", least=1)
    tries: int = key(20, "replays of one trace at most", least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzz:
    time: float = key(
        300.0,
        "seconds at most, minimising and confirming included",
        least=1,
    )
    runs: int = key(100, "programs at most", least=1)
    calls: int = key(12, "calls of a program, about", least=1)
    inflight: int = key(1, "unanswered calls of an agent", least=1)
    share: float = key(0.7, "probability that agents work on common objects", least=0, most=1)
    scheduler: str = key("mixed", "as `mcpconc fuzz --scheduler`")
    shrink: bool = key(True, "whether findings are minimised")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    time: float = key(150.0, "seconds at most", least=1)
    runs: int = key(20, "programs under faults; 0 leaves them out", least=0)
    kinds: tuple[str, ...] = key(("all",), "as `mcpconc fuzz --nemesis`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    time: float = key(720.0, "seconds at most", least=1)
    scenarios: tuple[str, ...] = key(
        ("bootstrap", "checkpoints", "database", "tools", "cascade"), "program families"
    )
    agents: tuple[int, ...] = key((1, 2, 5, 10), "the ladder; 1 is the baseline", least=1)
    baseline: int = key(12, "calls of each scenario with one agent", least=1)
    calls: int = key(40, "calls of each scenario with every other number", least=1)
    lane: int = key(20, "calls of an agent in a program; each has a fresh world", least=1)
    own: int = key(5, "worlds of their own for up to so many agents", least=0)
    observe: bool = key(False, "count inside the target, in phases of their own")
    observed: int = key(20, "calls of such a phase", least=1)
    settings: tuple[str, ...] = key(("default",), "configurations of the target")
    minimise: float = key(10.0, "seconds for findings of one number of agents", least=0)
    start: str = key("ordinary", "how calls start whose latency counts", of=STARTS[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Below these a run could not have failed, and does not pass."""

    overlap: float = key(1.2, "calls in flight, on average", least=0)
    tools: int = key(8, "different tools that were called", least=0)
    pairs: int = key(10, "different pairs of tools that were in flight at once", least=0)
    programs: int = key(5, "programs that were run and judged", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it, settled. `thresholds` are texts that can be parsed."""

    profile: str = key("release", "the profile that this is based on")
    about: str = key("", "one line on what it is for")
    target: str = key("empirica", "the target's SPEC")
    agents: int = key(5, "agents that fuzz, and that thresholds speak of", least=1)
    identity: tuple[str, ...] = key((), "identity modes; the target's usual ones where empty")
    seed: int = key(0, "of programs and schedules", least=0)
    start: str = key("auto", "how calls start: auto forks them where it can", of=STARTS)
    baseline: str = key("", "file of known findings")
    traces: tuple[str, ...] = key(("traces",), "directories of saved traces")
    thresholds: tuple[str, ...] = key(
        (
            *("calls.p95 < 2s", "slowdown.shared(5) < 20%", "rss.per_agent < 500MB"),
            *("errors.rate < 1%", "violations.new == 0", "overlap.avg >= 2"),
        ),
        "what must hold",
    )
    doctor: Doctor = field(default_factory=Doctor)
    canary: Canary = field(default_factory=Canary)
    replays: Replays = field(default_factory=Replays)
    fuzz: Fuzz = field(default_factory=Fuzz)
    faults: Faults = field(default_factory=Faults)
    stress: Stress = field(default_factory=Stress)
    floors: Floors = field(default_factory=Floors)


SECTIONS: Mapping[str, Any] = {
    f.name: f.default_factory
    for f in fields(Settings)
    if is_dataclass(f.default_factory)  # the class itself
}


def budget(settings: Settings) -> dict[str, int]:
    """About how many calls each part makes on its target, as far as time lets it. A program has
    some calls more than it is asked for, which set up and read back."""
    stress, own = settings.stress, 0
    ladder = [n for n in stress.agents if n > 1]
    own = sum(1 for n in ladder if n <= stress.own)
    each = len(stress.scenarios)
    parts = {
        "fuzz": settings.fuzz.runs * settings.fuzz.calls,
        "faults": settings.faults.runs * settings.fuzz.calls,
        "baseline": each * stress.baseline,
        "ladder": each * len(ladder) * stress.calls,
        "own": each * own * stress.calls,
        "observed": each * stress.observed if stress.observe else 0,
        "settings": (len(stress.settings) - 1) * each * stress.calls,
    }
    return {**parts, "all": sum(parts.values())}


def schema() -> dict[str, Any]:
    """JSON schema of the file, made of the same fields that read it."""
    keys = dict(_properties(Settings))
    profile = {name: rule for name, rule in keys.items() if name != "profile"}
    extends = {"description": "the profile that it changes (release)", "type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcpconc.toml, or [tool.mcpconc] in pyproject.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **keys,
            "profiles": {
                "description": "profiles of your own",
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {**profile, "extends": extends},
                },
            },
        },
    }


def _properties(of: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for f in fields(of):
        if f.name in SECTIONS:
            yield (
                f.name,
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": dict(_properties(SECTIONS[f.name])),
                },
            )
            continue
        names = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
        kind = str(f.type)
        single: dict[str, Any] = {
            "type": names[kind.removeprefix("tuple[").split(",")[0].strip("]")]
        }
        if f.metadata["least"] is not None:
            single["minimum"] = f.metadata["least"]
        if f.metadata["most"] is not None:
            single["maximum"] = f.metadata["most"]
        if f.metadata["of"]:
            single["enum"] = list(f.metadata["of"])
        rule = {"type": "array", "items": single} if kind.startswith("tuple") else single
        yield f.name, {"description": f.metadata["about"], **rule}


if __name__ == "__main__":
    from mcpconc.jsontext import readable

    print(readable(schema()))
