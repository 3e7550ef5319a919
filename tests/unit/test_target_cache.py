"""The install cache, with an installer that needs no network."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcpconc.errors import TargetError, UsageError
from mcpconc.target import cache
from mcpconc.target.cache import Installed, Wanted, cache_root, ensure, prune

INSTALLER = """#!{python}
import os, pathlib, sys, time, venv

with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "venv":
    venv.create(sys.argv[-1], with_pip=False)
    sys.exit()
time.sleep({pause})
said = os.environ.get("INSTALLER_SAYS")
if said and not ("--offline" in sys.argv and os.environ.get("INSTALLER_HAS_CACHED")):
    sys.stderr.write(said)
    sys.exit(1)
python = pathlib.Path(sys.argv[sys.argv.index("--python") + 1])
(site,) = (python.parent.parent / "lib").glob("python*/site-packages")
(site / "demo.py").write_text("")
(site / "demo-1.0.dist-info").mkdir()
(site / "demo-1.0.dist-info" / "METADATA").write_text("Name: demo\\nVersion: 1.0\\n")
script = python.parent / "demo"
script.write_text(f"#!{{python}}\\n")
script.chmod(0o755)
"""

WANTED = Wanted("demo-1.0", "Demo 1.0", ("demo==1.0",), ("demo",), ("demo",), ("demo",))


class Setup:
    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = directory / "a cache"
        self.log = directory / "log"
        self.log.touch()
        self.said: list[str] = []
        self._script = directory / "uv"
        self.slow(0)
        monkeypatch.setattr(cache, "_find_uv", lambda: str(self._script))

    def slow(self, pause: float) -> None:
        text = INSTALLER.format(python=sys.executable, log=str(self.log), pause=pause)
        self._script.write_text(text)
        self._script.chmod(0o755)

    async def ensure(self) -> Installed:
        return await ensure(WANTED, self.said.append, self.root)

    def run(self) -> Installed:
        return anyio.run(self.ensure)

    def installs(self) -> int:
        return self.log.read_text().count("pip install")


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(tmp_path, monkeypatch)


def test_it_is_installed_once(setup):
    first = setup.run()
    assert first.versions == {"demo": "1.0"}
    assert (first.bin / "demo").exists()
    assert setup.run() == first
    assert setup.installs() == 1


def test_of_two_at_once_one_installs_and_the_other_says_that_it_waits(setup):
    setup.slow(1)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(setup.ensure)
            group.start_soon(setup.ensure)

    anyio.run(both)
    assert setup.installs() == 1
    assert sum("waiting for it" in line for line in setup.said) == 1


def break_stamp(path: Path) -> None:
    (path / "mcpconc.json").unlink()


def break_stamp_format(path: Path) -> None:
    (path / "mcpconc.json").write_text("{}")


def break_python(path: Path) -> None:
    (path / "bin" / "python").unlink()


def break_script(path: Path) -> None:
    (path / "bin" / "demo").unlink()


def break_module(path: Path) -> None:
    next(path.glob("lib/python*/site-packages/demo.py")).write_text("import nowhere")


def break_version(path: Path) -> None:
    metadata = next(path.glob("lib/python*/site-packages/demo-1.0.dist-info/METADATA"))
    metadata.write_text("Name: demo\nVersion: 2.0\n")


def break_place(path: Path) -> None:
    (path / "bin" / "demo").write_text("#!/somewhere/else/bin/python\n")


@pytest.mark.parametrize(
    "damage",
    [
        *(break_stamp, break_stamp_format, break_python, break_script),
        *(break_module, break_version, break_place),
    ],
)
def test_a_broken_environment_is_installed_again(setup, damage):
    first = setup.run()
    damage(first.path)
    assert setup.run() == first
    assert setup.installs() == 2
    assert setup.run() == first
    assert setup.installs() == 2


def test_an_interrupted_installation_is_done_again(setup):
    setup.slow(30)

    async def interrupted() -> None:
        with anyio.move_on_after(1):
            await setup.ensure()

    anyio.run(interrupted)
    setup.slow(0)
    assert setup.run().versions == {"demo": "1.0"}


def test_a_release_that_does_not_exist(setup, monkeypatch):
    monkeypatch.setenv(
        "INSTALLER_SAYS",
        "error: No solution found\n  cause: Because there is no version of demo==1.0 and you …",
    )
    with pytest.raises(TargetError, match=r"Demo 1\.0: there is no such release on the package"):
        setup.run()


UNREACHABLE = "error: Request failed\n  cause: dns error\n  cause: Connection refused (os error 1)"


def test_no_network_is_one_line(setup, monkeypatch):
    monkeypatch.setenv("INSTALLER_SAYS", UNREACHABLE)
    with pytest.raises(TargetError) as caught:
        setup.run()
    assert "cannot be reached: Connection refused (os error 1); connect once" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_network_the_installers_own_cache_may_do(setup, monkeypatch):
    monkeypatch.setenv("INSTALLER_SAYS", UNREACHABLE)
    monkeypatch.setenv("INSTALLER_HAS_CACHED", "1")
    assert setup.run().versions == {"demo": "1.0"}


def test_what_is_installed_needs_no_network(setup, monkeypatch):
    setup.run()
    monkeypatch.setenv("INSTALLER_SAYS", UNREACHABLE)
    assert setup.run().versions == {"demo": "1.0"}


def test_another_failure_is_told_as_it_is(setup, monkeypatch):
    monkeypatch.setenv("INSTALLER_SAYS", "error: Failed to build\n  cause: no compiler\n")
    with pytest.raises(TargetError, match=r"cannot be installed into .*: no compiler"):
        setup.run()


def test_what_does_not_work_after_installation_is_not_kept(setup):
    wanted = Wanted("x", "X", ("x",), ("demo",), ("no_such_module",), ("demo",))
    for _ in range(2):
        with pytest.raises(TargetError, match=r"does not work: .*no_such_module"):
            anyio.run(ensure, wanted, setup.said.append, setup.root)
    assert setup.installs() == 2


def test_only_what_was_used_last_is_kept(setup):
    def use(version: int) -> Installed:
        wanted = replace(WANTED, name=f"demo-{version}")
        return anyio.run(ensure, wanted, setup.said.append, setup.root)

    first, second, third = map(use, range(3))
    assert use(0) == first
    prune("demo-", 2, setup.root)
    assert [env.path.exists() for env in (first, second, third)] == [True, False, True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_cache_that_cannot_be_written(setup, tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="set MCPCONC_CACHE"):
        setup.run()


def test_a_cache_that_is_a_file(setup):
    setup.root.touch()
    with pytest.raises(UsageError, match="set MCPCONC_CACHE"):
        setup.run()


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"MCPCONC_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/mcpconc")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/mcpconc"),
        ({}, Path.home() / ".cache/mcpconc"),
    ],
)
def test_where_the_cache_is(environ, root):
    assert cache_root(environ) == root
