"""What README shows works."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mcpconc.cli import parser
from mcpconc.configure import load
from mcpconc.model.empirica.spec import MODELLED
from mcpconc.model.empirica.surface import NOT_DRIVEN, TOOLS
from mcpconc.strategies import CascadeMachine, Knobs, generate
from mcpconc.surface import renewed, table
from mcpconc.target.command import CommandTarget

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_a_machine_in_ten_lines() -> None:
    names: dict[str, Any] = {"__name__": "mymodule"}
    exec(blocks("python")[0], names)
    programs = generate(names["WithNotes"], Knobs(), 3, 20)
    assert any(call.tool == "note" for program in programs for call in program.calls())


def test_the_description_of_another_server_is_one(tmp_path: Path) -> None:
    file = tmp_path / "notes.toml"
    file.write_text(blocks("toml")[0])
    assert tomllib.loads(file.read_text())["server"]
    assert CommandTarget.load(file).layout.repository == "ws"


def test_the_settings_are_some(tmp_path: Path) -> None:
    (tmp_path / "mcpconc.toml").write_text(blocks("toml")[1])
    assert load(tmp_path, profile="mine").fuzz.runs == 40


def test_the_commands_are_understood() -> None:
    lines = [line for block in blocks("") for line in block.splitlines()]
    calls = [line.split("#")[0].split()[1:] for line in lines if line.startswith("mcpconc ")]
    calls += [call.split()[1:] for call in re.findall(r"`(mcpconc [^`]+)`", README)]
    assert len(calls) > 8
    for call in calls:
        parser().parse_args(call)


def test_the_table_of_tools_is_the_one_that_is_made() -> None:
    assert table() in README, "python -m mcpconc.surface README.md"
    assert renewed(README) == README


def test_the_table_says_of_every_tool_what_becomes_of_it() -> None:
    driven = MODELLED | {*CascadeMachine.tools}
    assert driven | NOT_DRIVEN.keys() == {*TOOLS}
    assert not MODELLED & NOT_DRIVEN.keys()
