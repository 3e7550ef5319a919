"""Installing targets from the package index, through uv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcpconc.errors import Exit, TargetError
from mcpconc.target import resolve
from mcpconc.target.base import Identity
from mcpconc.world import world

pytestmark = pytest.mark.real

INSTALL = """
import anyio, sys
from mcpconc.target import resolve

target = resolve(sys.argv[1])
anyio.run(target.install, lambda line: print(line, flush=True))
print("version", target.version)
"""


def start(cache: Path, spec: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL, spec],
        env=os.environ | {"MCPCONC_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_starts_at_once_and_a_repair(tmp_path):
    both = [start(tmp_path, "empirica") for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert all(text.endswith("version 1.14.18\n") for text in said)
    assert sum("installing Empirica 1.14.18" in text for text in said) == 1
    assert sum("waiting for it" in text for text in said) == 1

    (script,) = tmp_path.glob("targets/*/bin/empirica-mcp")
    script.unlink()
    repaired = start(tmp_path, "empirica").communicate(timeout=300)[0]
    assert "is broken (the command empirica-mcp is missing); installing it again" in repaired
    assert script.exists()


def test_a_release_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("MCPCONC_CACHE", str(tmp_path))
    with pytest.raises(
        TargetError, match="there is no such release on the package index"
    ) as caught:
        anyio.run(resolve("empirica==999.0.0").install, print)
    assert caught.value.exit == Exit.TARGET


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("MCPCONC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    with pytest.raises(TargetError, match="the package index cannot be reached") as caught:
        anyio.run(resolve("empirica").install, print)
    assert "\n" not in str(caught.value)


def checkout(root: Path) -> Path:
    """Both packages as small as can be."""
    for place, name, module in (
        (root, "empirica", "empirica"),
        (root / "empirica-mcp", "empirica-mcp", "empirica_mcp"),
    ):
        (place / module).mkdir(parents=True)
        (place / module / "__init__.py").write_text("STATE = 'first'\n")
        (place / module / "server.py").write_text("def run(): pass\n")
        dependencies = ["mcp"] if name == "empirica" else ["empirica"]
        (place / "pyproject.toml").write_text(
            f"[project]\nname = '{name}'\nversion = '3.0'\ndependencies = {dependencies}\n"
            f"[project.scripts]\n{name} = '{module}.server:run'\n"
            f"[tool.setuptools]\npackages = ['{module}']\n"
        )
    return root


def test_a_checkout_is_installed_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setenv("MCPCONC_CACHE", str(tmp_path / "cache"))
    root = checkout(tmp_path / "source code")
    before = set(root.rglob("*"))

    def state() -> tuple[str, str]:
        target = resolve(f"empirica@{root}")
        anyio.run(target.install, print)
        python = target.launch(tmp_path, 0, 1, Identity.ISOLATED).env["PATH"].split(":")[0]
        program = "import empirica; print(empirica.STATE)"
        done = subprocess.run([f"{python}/python", "-c", program], capture_output=True, text=True)
        return target.version.split("+")[0], done.stdout.strip()

    assert state() == ("3.0", "first")
    (root / "empirica" / "__init__.py").write_text("STATE = 'second'\n")
    assert state() == ("3.0", "second")
    assert set(root.rglob("*")) == before, "the checkout itself is left alone"


@pytest.mark.long
@pytest.mark.parametrize("number", ["1.7.13", "1.12.0"])
def test_an_old_release_installs_and_prepares(number, tmp_path):
    async def go() -> None:
        target = resolve(f"empirica=={number}")
        await target.install(print)
        assert target.version == number
        async with world(target, Identity.ISOLATED, tmp_path / "w") as made:
            assert made.before.rows("sessions", "sessions") == []
            bound = made.before.files["home/.empirica/instance_projects/mcpconc-0.json"]
            assert json.loads(bound) == {"project_path": str(made.root / "ws")}

    anyio.run(go)
