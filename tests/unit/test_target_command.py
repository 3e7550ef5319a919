"""Targets described in TOML."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from mcpconc.errors import TargetError, UsageError
from mcpconc.history import Outcome
from mcpconc.target.base import MARKER, Identity
from mcpconc.target.command import CommandTarget

WHOLE = """
version = "1.2"
databases = { main = "data/x.db" }
repository = "ws"
files = ["data/*.json"]
call_timeout = 7
start_timeout = 8
rest_timeout = 9
question = { tool = "list", args = { limit = 1 } }
call_seconds = 0.5
[server]
argv = ["{here}/server", "--db", "{root}/data/x.db", '{"json": {}}']
cwd = "{root}/ws"
env = { WHO = "agent-{agent} of {agents}" }
inherit = ["MY_TOKEN"]
[prepare]
commands = [["{python}", "-c", "pass"], ["mkdir", "ws"]]
timeout = 5
[reset]
commands = [["true"]]
"""


def load(directory: Path, text: str) -> CommandTarget:
    (directory / "t.toml").write_text(text)
    return CommandTarget.load(directory / "t.toml")


def test_a_whole_description(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "not passed on")
    target = load(tmp_path, WHOLE)
    root = tmp_path / "a world"
    launch = target.launch(root, 2, 5, Identity.EXPLICIT)
    assert launch.argv == (
        f"{tmp_path}/server",
        "--db",
        f"{root}/data/x.db",
        '{"json": {}}',
    )
    assert launch.cwd == root / "ws"
    assert launch.env["WHO"] == "agent-2 of 5"
    assert launch.env["MY_TOKEN"] == "secret"
    assert launch.env["HOME"] == launch.env[MARKER] == str(root)
    assert "OTHER" not in launch.env
    assert target.layout.databases == {"main": "data/x.db"}
    assert target.layout.repository == "ws"
    assert (target.call_timeout, target.start_timeout) == (7.0, 8.0)
    assert target.call_seconds == 0.5
    assert target.rest_timeout == 9.0
    assert target.question == ("list", {"limit": 1})
    assert target.version == "1.2"


def test_a_minimal_description(tmp_path):
    target = load(tmp_path, '[server]\nargv = ["true"]')
    assert target.layout.databases == {}
    assert target.layout.repository is None
    assert target.question is None
    assert target.launch(tmp_path, 0, 1, Identity.EXPLICIT).cwd == tmp_path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "server.argv is missing"),
        ("[server]\nargv = []", "server.argv is missing"),
        ('[server]\nargv = "true"', "server.argv must be a list of strings"),
        ('[server]\nargv = ["x"]\ncommand = 1', "server.command is not a key; known are argv"),
        ('sever = 1\n[server]\nargv = ["x"]', "sever is not a key"),
        ('server = ["x"]', "server must be a table"),
        ('[server]\nargv = ["{wrold}"]', r"server.argv has an unknown placeholder {wrold}; use"),
        ('[server]\nargv = ["x"]\nenv = { A = 1 }', "server.env must be a table of strings"),
        ('[server]\nargv = ["x"]\nenv = { A = "{b}" }', "server.env.A has an unknown placeholder"),
        ('call_timeout = "x"\n[server]\nargv = ["x"]', "call_timeout must be a positive number"),
        ('call_timeout = true\n[server]\nargv = ["x"]', "call_timeout must be a positive number"),
        ('databases = { a = "/x" }\n[server]\nargv = ["x"]', "databases.a must be a path relative"),
        ('databases = ["x"]\n[server]\nargv = ["x"]', "databases must be a table of strings"),
        ('repository = "../x"\n[server]\nargv = ["x"]', "repository must be a path relative"),
        ('files = ["/etc/*"]\n[server]\nargv = ["x"]', "files must be a path relative"),
        (
            '[server]\nargv = ["x"]\n[prepare]\ncommands = ["mkdir x"]',
            "prepare.commands[0] must be a list of strings",
        ),
        (
            '[server]\nargv = ["x"]\n[reset]\ncommands = [["{agent}"]]',
            "reset.commands[0] has an unknown placeholder {agent}",
        ),
        ('[server]\nargv = ["x"]\n[prepare]\ncommands = [[]]', "commands[0] must not be empty"),
        ("[server", "not TOML"),
    ],
)
def test_complaints_name_file_and_key(tmp_path, text, complaint):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "t.toml") in str(caught.value)
    assert complaint in str(caught.value)


def test_a_description_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"no\.toml: No such file"):
        CommandTarget.load(tmp_path / "no.toml")


def test_a_server_that_is_not_there(tmp_path):
    target = load(tmp_path, '[server]\nargv = ["no-such-server"]')
    with pytest.raises(TargetError, match="the command no-such-server was not found; see server"):
        anyio.run(target.install, print)


def test_a_server_that_is_there(tmp_path):
    anyio.run(load(tmp_path, '[server]\nargv = ["{python}"]').install, print)


def test_preparing_runs_in_the_world(tmp_path):
    text = """
        databases = { main = "deep/data/x.db" }
        [server]
        argv = ["true"]
        [prepare]
        commands = [["sh", "-c", "pwd > where; echo $HOME > home; touch deep/data/x.db"]]
    """
    root = tmp_path / "a world"
    anyio.run(load(tmp_path, text).prepare, root)
    assert (root / "where").read_text().strip() == (root / "home").read_text().strip() == str(root)


def test_a_command_that_hangs_is_ended(tmp_path):
    text = '[server]\nargv = ["x"]\n[prepare]\ntimeout = 0.2\ncommands = [["sleep", "60"]]'
    with pytest.raises(TargetError, match=r"sleep 60: no end within 0\.2 s"):
        anyio.run(load(tmp_path, text).prepare, tmp_path / "w")


@pytest.mark.parametrize(
    ("text", "outcome", "data"),
    [
        ('{"ok": true, "id": 1}', Outcome.SUCCESS, {"ok": True, "id": 1}),
        ('{"ok": false}', Outcome.REFUSED, {"ok": False}),
        ('{"error": "no"}', Outcome.REFUSED, {"error": "no"}),
        ('{"ok": true, "error": "warning"}', Outcome.SUCCESS, {"ok": True, "error": "warning"}),
        ("[1]", Outcome.SUCCESS, {"value": [1]}),
        ("hello", Outcome.SUCCESS, {"text": "hello"}),
    ],
)
def test_answers(tmp_path, text, outcome, data):
    answer = load(tmp_path, f'[server]\nargv = ["{sys.executable}"]').interpret("tool", text)
    assert (answer.outcome, answer.data, answer.unknown) == (outcome, data, "")
