"""The Empirica target, as far as it goes without Empirica."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcpconc.errors import TargetError, UsageError
from mcpconc.target import empirica
from mcpconc.target.base import MARKER, Identity, Scales
from mcpconc.target.cache import Installed
from mcpconc.target.empirica import EmpiricaTarget, scaling

ROOT = Path("/some where/w")


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr(empirica, "on_terminal", lambda: False)


@pytest.fixture
def target() -> EmpiricaTarget:
    return installed(EmpiricaTarget.tested())


def installed(target: EmpiricaTarget) -> EmpiricaTarget:
    target.installed = Installed(Path("/cache/empirica"), {})
    return target


def ids(target: EmpiricaTarget, identity: Identity) -> list[str | None]:
    launches = [target.launch(ROOT, agent, 3, identity) for agent in range(3)]
    return [launch.env.get("EMPIRICA_INSTANCE_ID") for launch in launches]


def test_isolated_agents_have_an_instance_each(target):
    assert ids(target, Identity.ISOLATED) == ["mcpconc-0", "mcpconc-1", "mcpconc-2"]


def test_agents_of_one_instance_share_it(target):
    assert len(set(ids(target, Identity.SAME_INSTANCE))) == 1
    assert ids(target, Identity.SAME_INSTANCE)[0]


@pytest.mark.parametrize("identity", [Identity.EXPLICIT, Identity.SHARED])
def test_other_modes_have_no_instance(target, identity):
    assert ids(target, identity) == [None, None, None]


def test_only_explicit_agents_have_no_reliable_directory(target):
    reliable = {
        identity: target.launch(ROOT, 0, 1, identity).env.get("EMPIRICA_CWD_RELIABLE")
        for identity in Identity
    }
    assert reliable.pop(Identity.EXPLICIT) is None
    assert set(reliable.values()) == {"true"}


def test_a_server_is_started_as_a_user_would(target):
    launch = target.launch(ROOT, 0, 1, Identity.ISOLATED)
    assert launch.argv == ("/cache/empirica/bin/empirica-mcp", "--workspace", f"{ROOT}/ws")
    assert launch.cwd == ROOT / "ws"
    assert launch.env["PATH"].startswith("/cache/empirica/bin:")
    assert launch.env["HOME"] == f"{ROOT}/home"
    assert launch.env[MARKER] == str(ROOT)


@pytest.mark.parametrize("name", ["EMPIRICA_INSTANCE_ID", "TMUX_PANE", "GIT_DIR", "CORTEX_API_KEY"])
def test_nothing_of_the_caller_gets_through(target, monkeypatch, name):
    monkeypatch.setenv(name, "the caller's")
    assert "the caller's" not in target.launch(ROOT, 0, 1, Identity.EXPLICIT).env.values()


def test_on_a_terminal_five_shells_stand_between(target, monkeypatch):
    plain = target.launch(ROOT, 0, 1, Identity.EXPLICIT).argv
    monkeypatch.setattr(empirica, "on_terminal", lambda: True)
    hidden = target.launch(ROOT, 0, 1, Identity.EXPLICIT).argv
    assert hidden[-len(plain) :] == plain
    assert hidden.count("/bin/sh") == 5


def test_limits_are_stretched_above_ten_agents(target):
    def limits(agents: int) -> tuple[str | None, str | None]:
        env = target.launch(ROOT, 0, agents, Identity.ISOLATED).env
        return env.get("EMPIRICA_MCP_TIMEOUT"), env.get("EMPIRICA_MCP_CASCADE_TIMEOUT")

    assert limits(10) == (None, None)
    assert limits(25) == ("75", "300")
    assert limits(50) == ("150", "600")


@pytest.mark.parametrize("agents", [1, 10, 11, 50])
def test_the_client_waits_longer_than_the_server(target, agents):
    assert isinstance(target, Scales)
    scaled = scaling(agents)
    assert scaled == target.scaling(agents)
    assert scaled["call_timeout"] > scaled["cascade_seconds"] >= 120 * scaled["factor"]
    assert scaling(1)["call_timeout"] == target.call_timeout


def test_releases_that_must_be_bound_know_two_modes():
    old = installed(EmpiricaTarget.release("1.12.0"))
    assert set(old.identities) == {Identity.ISOLATED, Identity.SAME_INSTANCE}
    assert set(EmpiricaTarget.tested().identities) == set(Identity)
    with pytest.raises(UsageError, match="no identity mode 'explicit'; use isolated, same-inst"):
        old.launch(ROOT, 0, 1, Identity.EXPLICIT)


def test_every_agent_of_an_old_release_is_bound(tmp_path):
    old = installed(EmpiricaTarget.release("1.12.0"))
    empirica._bind(tmp_path / "ws", tmp_path / "home")
    directory = tmp_path / "home" / ".empirica" / "instance_projects"
    for agent, identity in ((0, Identity.ISOLATED), (63, Identity.ISOLATED), (0, "same-instance")):
        instance = old.launch(ROOT, agent, 1, Identity(identity)).env["EMPIRICA_INSTANCE_ID"]
        bound = json.loads((directory / f"{instance}.json").read_text())
        assert bound == {"project_path": str(tmp_path / "ws")}
    with pytest.raises(UsageError, match="64 agents at most"):
        old.launch(ROOT, 64, 65, Identity.ISOLATED)


def test_a_target_must_be_installed_before_it_is_launched():
    with pytest.raises(TargetError, match="not installed yet"):
        EmpiricaTarget.tested().launch(ROOT, 0, 1, Identity.ISOLATED)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("1.14.18", (1, 14, 18)),
        ("1.15.0rc1", (1, 15, 0)),
        ("1.14.18+src.ab12", (1, 14, 18)),
        ("2.0", (2, 0)),
    ],
)
def test_version_numbers(version, numbers):
    assert empirica._numbers(version) == numbers


def test_releases_that_run_on_the_first_mcp_only_get_it():
    def requirements(number: str) -> tuple[str, ...]:
        return empirica._wanted("n", "l", (), empirica._numbers(number)).requirements

    assert requirements("1.12.38") == ("mcp<2",)
    assert requirements("1.13.0") == ()


def test_a_configuration_is_in_the_environment_of_servers(target):
    plain = target.launch(ROOT, 0, 1, Identity.ISOLATED).env
    target.tune("minimal")
    lean = target.launch(ROOT, 0, 1, Identity.ISOLATED).env
    assert {name: value for name, value in lean.items() if name not in plain} == {
        "EMPIRICA_CALIBRATION_FEEDBACK": "false",
        "EMPIRICA_RETROSPECTIVE_GATE": "false",
    }
    target.tune("default")
    assert target.launch(ROOT, 0, 1, Identity.ISOLATED).env == plain


@pytest.mark.parametrize("name", empirica.EMPIRICA)
def test_limits_that_a_configuration_sets_are_ours_too(target, name):
    target.tune(name)
    env = target.launch(ROOT, 0, 20, Identity.ISOLATED).env
    cascade = int(target.tuned.get("EMPIRICA_MCP_CASCADE_TIMEOUT", "120"))
    assert env["EMPIRICA_MCP_CASCADE_TIMEOUT"] == str(2 * cascade)
    assert target.scaling(20)["call_timeout"] == 2 * cascade + 30
    assert target.patience == cascade


def test_git_is_configured_by_its_environment(target):
    target.tune("high-performance")
    env = target.launch(ROOT, 0, 1, Identity.ISOLATED).env
    given = {
        env[f"GIT_CONFIG_KEY_{n}"]: env[f"GIT_CONFIG_VALUE_{n}"]
        for n in range(int(env["GIT_CONFIG_COUNT"]))
    }
    assert given == {"core.fsync": "none", "gc.auto": "0"}


def test_an_unknown_configuration_is_told_with_those_that_there_are(target):
    with pytest.raises(UsageError, match="no configuration 'fast'; use default, minimal"):
        target.tune("fast")
