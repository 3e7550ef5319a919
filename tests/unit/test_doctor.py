"""Can this target be fuzzed? On the fake servers, where everything that may be wrong is."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import ledger
from mcpconc.cli import main
from mcpconc.doctor import Health, doctor
from mcpconc.errors import Exit, UsageError
from mcpconc.program import refs
from mcpconc.strategies import CascadeMachine


@pytest.fixture(autouse=True)
def the_ledger_has_a_model() -> Iterator[None]:
    with ledger.installed():
        yield


def examine(target: Path, emit: Any = lambda event: None) -> Health:
    return anyio.run(doctor, str(target), target.parent, emit)


def plain(tmp_path: Path, mode: str) -> Path:
    """A server of which nothing is known but how to start it."""
    server = ledger.HERE / "server.py"
    target = tmp_path / "plain.toml"
    target.write_text(f'[server]\nargv = ["{{python}}", "-S", "{server}", "{mode}"]')
    return target


def states(health: Health) -> dict[str, str]:
    return {check.name: check.state for check in health.checks}


def test_a_target_without_a_model(tmp_path: Path) -> None:
    health = examine(plain(tmp_path, "good"))
    assert health.exit is Exit.PASSED
    assert states(health) == {
        "machine": "ok",
        "target": "ok",
        "server": "ok",
        "tools": "ok",
        "probe": "note",
    }
    assert "✓ tools    4: echo, refuse, slow, unlucky\n" in health.text()


def test_a_target_with_a_model_is_probed(tmp_path: Path) -> None:
    health = examine(ledger.write(tmp_path))
    assert health.exit is Exit.PASSED
    told = {check.name: check for check in health.checks}
    assert told["probe"].state == "ok"
    assert told["unread"].state == "note"
    assert "session_create refused" in told["unread"].lines
    assert "not offered by this server: assess_state" in told["tools"].lines[0]
    assert told["processes"].answer == "none left at work"


def test_a_server_that_does_not_start_is_an_answer(tmp_path: Path) -> None:
    health = examine(plain(tmp_path, "exits"))
    assert health.exit is Exit.TARGET
    last = health.checks[-1]
    assert (last.name, last.state) == ("target", "bad")
    assert "cannot open the database" in last.answer
    assert health.text().splitlines()[-1].startswith("✗ target")


def test_what_is_no_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown target"):
        anyio.run(doctor, "nope", tmp_path, lambda event: None)


def test_a_signal_ends_it(tmp_path: Path) -> None:
    def impatient(event: Any) -> None:
        if not heard:
            heard.append(event)
            signal.raise_signal(signal.SIGINT)

    heard: list[Any] = []
    assert examine(plain(tmp_path, "never-answers"), impatient).exit is Exit.INTERRUPTED


def test_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["doctor", "--target", str(plain(tmp_path, "exits")), "--out", "o", "--json"]
    assert main(words) == Exit.TARGET
    document = json.loads(capsys.readouterr().out)
    assert document["exit"] == 3
    assert [check["state"] for check in document["checks"]] == ["ok", "ok", "bad"]
    assert (tmp_path / "o" / "mcpconc.log").exists()


def test_the_probe_calls_every_tool_and_knows_what_it_refers_to() -> None:
    from mcpconc.doctor import probe
    from mcpconc.model.empirica.surface import UNABLE

    program = probe()
    called = {call.tool for call in program.calls()}
    assert called == set(CascadeMachine.tools) | UNABLE.keys()
    known: set[str] = set()
    for call in program.calls():
        assert {ref.call for ref in refs(call.args)} <= known
        known.add(call.id)
