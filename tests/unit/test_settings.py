"""Settings: their order of precedence, what is refused, and the schema that is published."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpconc.configure import load
from mcpconc.errors import UsageError
from mcpconc.profiles import PROFILES
from mcpconc.settings import SECTIONS, Settings, budget, schema
from mcpconc.thresholds import parse

ROOT = Path(__file__).parents[2]


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write(directory: Path, data: dict[str, Any], name: str = "mcpconc.toml") -> Path:
    file = directory / name
    data = {"tool": {"mcpconc": data}} if name == "pyproject.toml" else data
    file.write_text("".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in data.items()), "utf-8")
    return file


# ------------------------------------------------------------------ precedence


def test_flag_then_file_then_profile_then_default(tmp_path: Path) -> None:
    assert load(tmp_path).fuzz.runs == Settings().fuzz.runs == 100
    assert load(tmp_path, profile="smoke").fuzz.runs == PROFILES["smoke"]["fuzz.runs"] == 12
    write(tmp_path, {"profile": "smoke", "fuzz": {"runs": 7}})
    assert load(tmp_path).fuzz.runs == 7
    assert load(tmp_path).stress.calls == PROFILES["smoke"]["stress.calls"]
    assert load(tmp_path, profile="nightly").fuzz.runs == 7
    assert load(tmp_path, flags={"fuzz.runs": 3}).fuzz.runs == 3


def test_the_profile_that_is_asked_for_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"profile": "smoke"})
    assert load(tmp_path).profile == "smoke"
    assert load(tmp_path, profile="nightly").profile == "nightly"
    assert load(tmp_path, profile="nightly").about == PROFILES["nightly"]["about"]


def test_one_file_counts(tmp_path: Path) -> None:
    write(tmp_path, {"agents": 7}, "pyproject.toml")
    assert load(tmp_path).agents == 7
    write(tmp_path, {"seed": 3})
    assert (load(tmp_path).agents, load(tmp_path).seed) == (5, 3)
    other = write(tmp_path, {"agents": 9}, "other.toml")
    assert load(tmp_path, file=other).agents == 9


def test_a_pyproject_of_somebody_else_is_no_settings_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load(tmp_path) == load(tmp_path / "nowhere")


def test_paths_are_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = write(tmp_path / "sub", {"baseline": "b.toml", "traces": ["t", "/u"]})
    found = load(tmp_path, file=file)
    assert found.baseline == str(tmp_path / "sub" / "b.toml")
    assert found.traces == (str(tmp_path / "sub" / "t"), "/u")
    assert load(tmp_path, file=file, flags={"baseline": "c.toml"}).baseline == "c.toml"


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    own = {
        "mine": {"extends": "smoke", "about": "mine", "fuzz": {"runs": 40}},
        "other": {"extends": "mine", "agents": 9},
    }
    write(tmp_path, {"profile": "other", "profiles": own})
    found = load(tmp_path)
    assert (found.profile, found.agents, found.fuzz.runs, found.stress.calls) == (
        "other",
        9,
        40,
        60,
    )


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"agnets": 5}, "agnets is not a key; did you mean agents?"),
        ({"fuzz": {"run": 5}}, "fuzz.run is not a key; did you mean runs?"),
        ({"xyzzy": 1}, "xyzzy is not a key; known are profile, about, target"),
        ({"fuzz": 3}, "fuzz must be a table"),
        ({"agents": 0}, "agents must be a whole number from 1 on, not 0"),
        ({"agents": True}, "agents must be a whole number from 1 on, not True"),
        ({"fuzz": {"share": 1.5}}, "fuzz.share must be a number from 0 to 1, not 1.5"),
        ({"fuzz": {"shrink": 1}}, "fuzz.shrink must be true or false, not 1"),
        ({"start": "quick"}, "start must be one of auto, ordinary, fork, not 'quick'"),
        ({"traces": "x"}, "traces must be a list of strings, not"),
        ({"stress": {"agents": [1, 0]}}, "stress.agents must be a list of whole numbers from 1 on"),
        ({"thresholds": ["calls.p95 < 2"]}, "calls.p95 is measured in s or ms"),
        ({"profile": "smok"}, "there is no profile 'smok'; did you mean smoke?"),
        ({"profiles": {"a": {"extends": "a"}}}, "profile a extends itself"),
        ({"profiles": {"a": {"extends": "b"}}}, "there is no profile 'b'"),
        ({"profiles": {"a": {"profile": "smoke"}}}, "did you mean extends?"),
        ({"profiles": {"a": {"sead": 1}}}, "profiles.a.sead is not a key; did you mean seed?"),
        ({"profiles": {"a": 1}}, "profiles must be tables"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, data: dict[str, Any], said: str) -> None:
    write(tmp_path, data)
    with pytest.raises(UsageError) as error:
        load(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load(tmp_path, file=tmp_path / "nope.toml")
    (tmp_path / "mcpconc.toml").write_text("agents 5")
    with pytest.raises(UsageError, match="not TOML"):
        load(tmp_path)


# ------------------------------------------------------------------ profiles


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_hold_together(tmp_path: Path, name: str) -> None:
    found = load(tmp_path, profile=name)
    assert found.about
    metrics = {parse(text).metric for text in found.thresholds}
    targets = {"slowdown.shared", "rss.per_agent", "errors.rate", "violations.new", "overlap.avg"}
    assert targets <= metrics
    assert found.agents in found.stress.agents
    assert found.stress.own >= found.agents, "or slowdown.shared is not measured"
    pooled = found.stress.calls * len(found.stress.scenarios)
    assert pooled >= (50 if "calls.p90" in metrics else 100), "or the percentile is not measured"
    numbers = budget(found)
    assert numbers.pop("all") == sum(numbers.values())


def test_the_budget_of_calls() -> None:
    assert budget(Settings()) == {
        "fuzz": 1200,
        "faults": 240,
        "baseline": 60,
        "ladder": 600,
        "own": 400,
        "observed": 0,
        "settings": 0,
        "all": 2500,
    }


# ------------------------------------------------------------------ the schema


def test_the_published_schema_is_the_one_that_is_made() -> None:
    published = json.loads(files("mcpconc").joinpath("mcpconc.schema.json").read_text("utf-8"))
    assert published == schema(), "python -m mcpconc.settings > src/mcpconc/mcpconc.schema.json"
    jsonschema.Draft202012Validator.check_schema(published)


scalars = st.one_of(
    st.booleans(),
    st.integers(-2, 3),
    st.floats(-2, 3).filter(lambda value: not value.is_integer()),
    st.sampled_from(["auto", "ordinary", "fork", "smoke", "other"]),
)
values = scalars | st.lists(scalars, max_size=2)
flat = [f.name for f in fields(Settings) if f.name not in {*SECTIONS, "thresholds", "profile"}]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A few keys, most of which exist, with values that may be right."""
    data: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from([*flat, *SECTIONS, "other"]), max_size=2)):
        if name in SECTIONS and draw(st.integers(0, 9)):
            keys = st.sampled_from([*(f.name for f in fields(SECTIONS[name])), "other"])
            data[name] = draw(st.dictionaries(keys, values, max_size=2))
        else:
            data[name] = draw(values)
    return data


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents(), st.booleans())
def test_the_schema_and_the_reader_agree(
    tmp_path: Path, data: dict[str, Any], within: bool
) -> None:
    data = {"profiles": {"mine": data}} if within else data
    valid = jsonschema.Draft202012Validator(schema()).is_valid(data)
    write(tmp_path, data)
    try:
        load(tmp_path)
        accepted = True
    except UsageError:
        accepted = False
    assert accepted == valid


def test_every_key_is_in_the_schema() -> None:
    made = schema()["properties"]
    assert made.keys() == {f.name for f in fields(Settings)} | {"profiles"}
    for name, section in SECTIONS.items():
        assert made[name]["properties"].keys() == {f.name for f in fields(section)}


def test_the_file_of_this_repository_is_one() -> None:
    assert load(ROOT).baseline == str(ROOT / "gate" / "baseline.toml")
