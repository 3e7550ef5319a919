"""Warm starts, on a small console script: the same as ordinary ones, but for what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest

import fakes
from mcpconc import procs
from mcpconc.errors import TargetError, UsageError
from mcpconc.rig import rig
from mcpconc.target import resolve
from mcpconc.target.base import MARKER, Identity, Launch, Warmth
from mcpconc.target.warm import (
    Start,
    Warm,
    check_start,
    interpreter_of,
    keep_warm,
    shimmed,
    warmed,
)

SETTINGS = """
import itertools, os, sys, threading
TAKEN = sys.stdout
COUNT = itertools.count(1)
LEFT = []
MODE = os.environ.get("TOOL_MODE", "")
assert os.environ.copy()["PATH"].endswith("/bin")
if MODE == "thread":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if MODE == "file":
    KEPT = open(__file__)
if MODE == "broken":
    raise RuntimeError("no such luck")
if MODE == "loud":
    print("to whom it may concern")
    print("a warning", file=sys.stderr)

def built():
    return f"{next(COUNT)} {sys.argv[0]}"
"""


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The script, with what it imports beside it."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "warm_tool.py").write_text(Path(fakes.__file__).with_name("warm_tool.py").read_text())
    (bin / "warm_tool_settings.py").write_text(SETTINGS)
    script = bin / "tool"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom warm_tool import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    script.chmod(0o755)
    return script


def warmth(tool: Path, **env: str) -> Warmth:
    """PYTHONDONTWRITEBYTECODE, or the first start is not like the others."""
    here = tool.parents[1]
    whole = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", MARKER: str(here), **env}
    return Warmth(tool, whole | {"PYTHONDONTWRITEBYTECODE": "1"}, here)


@asynccontextmanager
async def kept(what: Warmth) -> AsyncIterator[Warm]:
    async with keep_warm(what, what.cwd / "warm.txt") as warm:
        yield warm


def run(
    program: Path, what: Warmth, *words: str, shims: Path | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """As a server would start it, found on PATH."""
    launch = shimmed(Launch((), dict(what.env), what.cwd), shims)
    return subprocess.run(
        [program, *words],
        input=b"a line\n",
        capture_output=True,
        env={**launch.env, **env},
        cwd=what.cwd,
        timeout=30,
    )


def both(
    tool: Path, *words: str, what: Warmth | None = None
) -> list[subprocess.CompletedProcess[bytes]]:
    """The same call, started ordinarily and forked."""
    what = what or warmth(tool)

    async def main() -> list[subprocess.CompletedProcess[bytes]]:
        async with kept(what) as warm:
            results = [
                # Both are told of the same PATH.
                await anyio.to_thread.run_sync(lambda p=p: run(p, what, *words, shims=warm.shims))
                for p in (tool, warm.shims / "tool")
            ]
            assert warm.exceptions() == []
        return results

    return anyio.run(main)


def in_warm(what: Warmth, body: Callable[[Warm], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with kept(what) as warm:
            return await body(warm)

    return anyio.run(main)


def test_a_fork_finds_what_an_ordinary_start_finds(tool: Path) -> None:
    ordinary, warm = both(tool, "seen", "two words", "ü")
    assert (warm.returncode, warm.stderr) == (0, b"")
    assert warm.stdout.endswith(b"the end\n")
    first, second = (json.loads(done.stdout.splitlines()[0]) for done in (ordinary, warm))
    assert second == first
    assert first["stdin"] == "a line\n"
    assert first["environ"]["PYTHONWARNINGS"] == "ignore::ResourceWarning"
    assert first["parent"] == os.getpid()


def test_what_a_fork_starts_gets_its_environment(tool: Path) -> None:
    """Also where it is in another order than that of the warm process, and has other words in it:
    C keeps pointers into the memory in which the kernel once put it."""
    what = warmth(tool)

    async def main(warm: Warm) -> list[Any]:
        env = shimmed(Launch((), {"AGENT": "1", **what.env}, what.cwd), warm.shims).env
        turned = dict(reversed(env.items()))
        done = [
            await anyio.to_thread.run_sync(
                lambda p=p: subprocess.run([p], env=turned, input=b"", capture_output=True)
            )
            for p in (tool, warm.shims / "tool")
        ]
        assert warm.exceptions() == []
        return [json.loads(d.stdout.partition(b"\n")[0])["environ of children"] for d in done]

    ordinary, forked = in_warm(what, main)
    assert "AGENT=1" in ordinary
    assert forked == ordinary


def test_where_the_locale_is_coerced_too(tool: Path) -> None:
    what = warmth(tool)
    what = Warmth(tool, {k: v for k, v in what.env.items() if k != "LANG"}, what.cwd)
    ordinary, warm = (json.loads(d.stdout.splitlines()[0]) for d in both(tool, "seen", what=what))
    assert warm == ordinary
    assert warm["environ"]["LC_CTYPE"] == "C.UTF-8"
    assert warm["streams"][1][3] == "surrogateescape"


@pytest.mark.parametrize(
    "words",
    [("exit", "0"), ("exit", "3"), ("exit", "255"), ("words",), ("crash",)]
    + [("kill", str(int(number))) for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)],
)
def test_it_ends_as_an_ordinary_start_does(tool: Path, words: tuple[str, ...]) -> None:
    ordinary, warm = both(tool, *words)
    assert warm.returncode == ordinary.returncode
    assert warm.stdout == ordinary.stdout
    if words != ("kill", "2"):  # a KeyboardInterrupt shows where it was seen
        assert warm.stderr == ordinary.stderr


def test_what_a_call_leaves_undone_is_ended_alike(tool: Path) -> None:
    what = warmth(tool)
    here = what.cwd / "left"

    async def leave(warm: Warm) -> list[tuple[bytes, dict[str, bytes]]]:
        found = []
        for program in (tool, warm.shims / "tool"):
            here.mkdir()
            done = run(program, what, "leave", f"{here}/state.db")
            found.append((done.stdout, {p.name: p.read_bytes() for p in sorted(here.iterdir())}))
            shutil.rmtree(here)
        return found

    ordinary, warm = in_warm(what, leave)
    assert warm == ordinary
    assert warm[0] == b"a thread ends\nthe end\nfinalised\n"
    assert list(warm[1]) == ["state.db", "state.db.txt"]
    assert warm[1]["state.db.txt"] == b"not flushed"


def test_output_that_nobody_takes_is_an_error_alike(tool: Path) -> None:
    what = warmth(tool)

    def unheard(program: Path) -> int:
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as out:
            return subprocess.call([program, "chance"], env=what.env, cwd=what.cwd, stdout=out)

    async def each(warm: Warm) -> list[int]:
        return [unheard(program) for program in (tool, warm.shims / "tool")]

    ordinary, warm = in_warm(what, each)
    assert warm == ordinary == 120


def test_an_event_loop_from_the_import_is_each_forks_own(tool: Path) -> None:
    what = warmth(tool, TOOL_MODE="loop")
    ordinary, warm = both(tool, "loop", what=what)
    assert warm.stdout == ordinary.stdout == b"woken\ndone\nthe end\n"

    async def many(warm: Warm) -> list[bytes]:
        said: list[bytes] = []

        async def one() -> None:
            done = await anyio.to_thread.run_sync(lambda: run(warm.shims / "tool", what, "loop"))
            said.append(done.stdout)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(one)
        return said

    assert in_warm(what, many) == [ordinary.stdout] * 8


def test_forks_differ_in_their_luck_and_share_their_hashes(tool: Path) -> None:
    what = warmth(tool)

    async def twice(warm: Warm) -> list[list[bytes]]:
        return [run(warm.shims / "tool", what, "chance").stdout.split()[:3] for _ in range(2)]

    (luck, hashed, same), (other, again, _) = in_warm(what, twice)
    assert luck != other
    assert hashed == again
    assert same == b"False"


def test_what_may_be_built_once_is_used_once(tool: Path) -> None:
    what = warmth(tool)
    once = Warmth(tool, what.env, what.cwd, once=("warm_tool_settings:built", "warm_tool:gone"))
    ordinary, warm = both(tool, "built", what=once)
    assert warm.stdout == ordinary.stdout == f"1 {tool} 2 {tool} built\nthe end\n".encode()


def test_a_variable_that_imports_look_at_is_in_the_way(tool: Path) -> None:
    what = warmth(tool)

    async def other_mode(warm: Warm) -> tuple[Any, list[str]]:
        assert "TOOL_MODE" in warm.reads
        assert MARKER not in warm.reads  # it was only copied
        done = run(warm.shims / "tool", what, "loop", TOOL_MODE="loop")
        ignored = run(warm.shims / "tool", what, "seen", OTHER="1")
        assert json.loads(ignored.stdout.splitlines()[0])["environ"]["OTHER"] == "1"
        return done.stdout, warm.exceptions()

    assert in_warm(what, other_mode) == (b"woken\ndone\nthe end\n", ["TOOL_MODE"])


def test_what_imports_say_each_call_says(tool: Path) -> None:
    ordinary, warm = both(tool, "exit", "0", what=warmth(tool, TOOL_MODE="loud"))
    assert (warm.stdout, warm.stderr) == (ordinary.stdout, ordinary.stderr)
    assert warm.stderr == b"a warning\n"


def test_files_that_imports_use_are_told(tool: Path) -> None:
    async def main() -> Warm:
        async with keep_warm(warmth(tool), tool.parent / "log", watch=tool.parent) as warm:
            return warm

    assert f"open {tool.parent}/warm_tool_settings.py" in anyio.run(main).touched


@pytest.mark.parametrize(
    ("mode", "why"), [("thread", "threads"), ("file", "open"), ("broken", "no such luck")]
)
def test_what_cannot_be_forked_is_refused(tool: Path, mode: str, why: str) -> None:
    async def nothing(warm: Warm) -> None:
        pytest.fail("it is up")

    with pytest.raises(TargetError, match=why):
        in_warm(warmth(tool, TOOL_MODE=mode), nothing)


def start(warm: Warm, what: Warmth) -> tuple[subprocess.Popen[bytes], int]:
    """A call that goes on; its shim, and the process that does it."""
    shim = subprocess.Popen(
        [warm.shims / "tool", "sleep"], env=what.env, cwd=what.cwd, stdout=subprocess.PIPE
    )
    assert shim.stdout is not None
    return shim, int(shim.stdout.readline())


async def ends(pid: int) -> None:
    with anyio.fail_after(10):
        while (found := procs.stat(pid)) is not None and found.state not in "ZX":
            await anyio.sleep(0.01)


def test_a_killed_shim_takes_its_program_with_it(tool: Path) -> None:
    what = warmth(tool)

    async def kill(warm: Warm) -> None:
        shim, pid = start(warm, what)
        assert pid != shim.pid
        shim.kill()
        shim.wait()
        await ends(pid)
        assert run(warm.shims / "tool", what, "exit", "4").returncode == 4

    in_warm(what, kill)


def test_a_signal_reaches_the_program(tool: Path) -> None:
    what = warmth(tool)

    async def terminate(warm: Warm) -> int:
        shim, pid = start(warm, what)
        shim.terminate()
        code = await anyio.to_thread.run_sync(lambda: shim.wait(10))
        await ends(pid)
        return code

    assert in_warm(what, terminate) == -signal.SIGTERM


def test_nothing_survives_the_block(tool: Path) -> None:
    what = warmth(tool)

    async def leave(warm: Warm) -> subprocess.Popen[bytes]:
        shim, pid = start(warm, what)
        members = procs.Census(MARKER, str(what.cwd)).pids()
        assert members == {warm.pid, shim.pid, pid}
        return shim

    shim = in_warm(what, leave)
    assert shim.wait(10) in (1, -signal.SIGKILL)
    assert procs.Census(MARKER, str(what.cwd)).pids() == set()


def test_nothing_survives_us(tool: Path) -> None:
    """Where we are killed, nobody is left to close anything."""
    what = warmth(tool)
    code = f"""
import anyio, subprocess
from pathlib import Path
from mcpconc.target.base import Warmth
from mcpconc.target.warm import keep_warm
async def main():
    what = Warmth(Path({str(tool)!r}), {dict(what.env)!r}, Path({str(what.cwd)!r}))
    async with keep_warm(what, what.cwd / "log") as warm:
        await anyio.open_process([warm.shims / "tool", "sleep"], stdout=None, env=what.env)
        await anyio.sleep(60)
anyio.run(main)
"""
    census = procs.Census(MARKER, str(what.cwd))
    us = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert us.stdout is not None
    us.stdout.readline()  # the program is at work
    assert len(census.pids()) == 3
    us.kill()
    us.wait()

    async def gone() -> None:
        with anyio.fail_after(10):
            while census.pids():
                await anyio.sleep(0.01)

    anyio.run(gone)


def test_a_launcher_in_between(tool: Path) -> None:
    """As where our terminal is to be hidden from the program."""
    what = warmth(tool)
    shell = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
    ordinary, warm = both(tool, "seen", what=Warmth(tool, what.env, what.cwd, prefix=shell * 5))
    assert warm.stdout == ordinary.stdout
    assert procs.Census(MARKER, str(what.cwd)).pids() == set()


def test_without_the_warm_process_starts_are_ordinary(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpconc.target.warm.AGAIN", 0)
    what = warmth(tool)

    async def kill(warm: Warm) -> Mapping[str, Any]:
        os.kill(warm.pid, signal.SIGKILL)
        await ends(warm.pid)
        done = run(warm.shims / "tool", what, "seen")
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[0])
        return found

    assert in_warm(what, kill)["argv"] == [str(tool), "seen"]


def forked(warm: Warm, what: Warmth) -> bool:
    """Whether a call is forked now: its process is another than the one that was started."""
    shim, pid = start(warm, what)
    with shim:
        shim.kill()
    return pid != shim.pid


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.01)


def test_a_warm_process_that_ends_is_replaced_and_that_is_said(tool: Path) -> None:
    what = warmth(tool)
    place, told = Corner(what), []

    async def main() -> None:
        async with warmed(place, Start.FORK, told.append) as warm:
            assert warm is not None
            first = warm.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: bool(warm.ends))
            await until(lambda: place.servers == {warm.pid} and forked(warm, what))
            assert warm.pid != first
        assert place.servers == set()

    anyio.run(main)
    assert told == ["the warm process ended (signal 9): another is started"]


def test_one_that_ends_again_and_again_is_not_replaced_for_ever(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpconc.target.warm.AGAIN", 1)
    what = warmth(tool)
    place, told = Corner(what), []

    async def main() -> None:
        async with warmed(place, Start.FORK, told.append) as warm:
            assert warm is not None
            for killed in range(2):
                await until(lambda n=killed: len(warm.ends) == n and forked(warm, what))
                os.kill(warm.pid, signal.SIGTERM)
            await until(lambda: len(told) == 2)
            assert place.servers == set()
            assert run(warm.shims / "tool", what, "exit", "3").returncode == 3

    anyio.run(main)
    assert told[1] == (
        "the warm process ended too often (signal 15, signal 15): calls are started ordinarily"
    )


def test_one_that_cannot_come_back_is_told(tool: Path) -> None:
    what = warmth(tool)
    place, told = Corner(what), []

    async def main() -> None:
        async with warmed(place, Start.FORK, told.append) as warm:
            assert warm is not None
            (tool.parent / "warm_tool_settings.py").write_text("raise RuntimeError('gone bad')")
            os.kill(warm.pid, signal.SIGKILL)
            await until(lambda: len(told) == 2)

    anyio.run(main)
    assert told[1].startswith("the warm process is not replaced: ")
    assert told[1].endswith("gone bad")


def test_what_goes_wrong_in_the_block_is_what_is_raised(tool: Path) -> None:
    async def fail(warm: Warm) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_warm(warmth(tool), fail)


def test_it_is_idle_between_calls(tool: Path) -> None:
    what = warmth(tool)

    async def look(warm: Warm) -> bool:
        run(warm.shims / "tool", what)
        with anyio.fail_after(10):
            while procs.at_work(warm.pid):
                await anyio.sleep(0.01)
        return procs.children(warm.pid) == set()

    assert in_warm(what, look)


def test_the_probe_is_loaded_where_it_is_asked_for(tool: Path) -> None:
    site = tool.parents[1] / "site"
    site.mkdir()
    (site / "mcpconc_probe.py").write_text("def start(environ): print(environ['MCPCONC_PROBE'])")
    what = warmth(tool)
    probing = {"MCPCONC_PROBE": "observe:/nowhere", "PYTHONPATH": str(site)}

    async def probe(warm: Warm) -> tuple[bytes, list[str]]:
        return run(warm.shims / "tool", what, "exit", "0", **probing).stdout, warm.exceptions()

    assert in_warm(what, probe) == (b"observe:/nowhere\nthe end\n", [])


def test_the_probe_need_not_be_imported_by_each_fork(tool: Path) -> None:
    site = tool.parents[1] / "site"
    site.mkdir()
    (site / "mcpconc_probe.py").write_text(
        "import os\nhome = os.getpid()\ndef load(): pass\n"
        "def start(environ): print(home == os.getpid())"
    )
    what = warmth(tool)
    probing = {"MCPCONC_PROBE": "control:/nowhere", "PYTHONPATH": str(site)}

    async def main() -> bytes:
        async with keep_warm(what, what.cwd / "log", probe=site) as warm:
            assert run(warm.shims / "tool", what, "exit", "0").stdout == b"the end\n"
            return run(warm.shims / "tool", what, "exit", "0", **probing).stdout

    assert anyio.run(main) == b"False\nthe end\n"


def test_an_interpreter_with_a_long_path(tool: Path) -> None:
    far = tool.parents[1] / ("far " + "x" * 200)
    far.mkdir()
    (far / "python").symlink_to(sys.executable)
    text = tool.read_text().partition("\n")[2]
    head = f"#!/bin/sh\n'''exec' \"{far / 'python'}\" \"$0\" \"$@\"\n' '''\n"
    tool.write_text(head + text)
    ordinary, warm = both(tool, "exit", "7")
    assert (
        (warm.returncode, warm.stdout)
        == (ordinary.returncode, ordinary.stdout)
        == (7, b"the end\n")
    )


def test_which_interpreter_a_script_has(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    for text in (
        "#!/usr/bin/python3\n",
        "#!/bin/sh\n'''exec' /usr/bin/python3 \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"/usr/bin/python3\" \"$0\" \"$@\"\n' '''\n",
    ):
        script.write_text(text)
        assert interpreter_of(script) == "/usr/bin/python3"
    script.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(TargetError, match="no Python script"):
        interpreter_of(script)


def test_a_target_without_a_program_per_call_refuses(tmp_path: Path) -> None:
    target = resolve("reference")
    with pytest.raises(UsageError, match="--start fork"):
        check_start(target, Start.FORK)
    check_start(target, Start.ORDINARY)

    async def main() -> None:
        async with rig(target, Identity.ISOLATED, 1, tmp_path, print, start=Start.FORK):
            pytest.fail("it started")

    with pytest.raises(UsageError, match="leave --start fork out"):
        anyio.run(main)


class Corner:
    """A world without a target's state."""

    identity = Identity.ISOLATED

    def __init__(self, what: Warmth) -> None:
        self.target: Any = SimpleNamespace(name="tool", warmth=lambda root, identity: what)
        self.root = self.logs = what.cwd
        self.shims: Path | None = None
        self.probe: str | None = None
        self.servers: set[int] = set()

    def adopt(self, pid: int) -> None:
        self.servers.add(pid)

    def discard(self, pid: int) -> None:
        self.servers.remove(pid)


def test_servers_of_a_world_find_the_shim(tool: Path) -> None:
    what = warmth(tool)
    place, told = Corner(what), []

    async def main() -> None:
        async with warmed(place, Start.FORK, told.append) as warm:
            assert warm is not None
            assert (place.shims, place.servers) == (warm.shims, {warm.pid})
            launch = shimmed(Launch((), what.env, what.cwd), place.shims)
            found = shutil.which("tool", path=launch.env["PATH"])
            assert found == str(warm.shims / "tool")
            run(Path(found), what, "loop", TOOL_MODE="loop")
        assert (place.shims, place.servers) == (None, set())
        async with warmed(place, Start.ORDINARY) as nothing:
            assert nothing is place.shims is None

    anyio.run(main)
    assert told == ["calls that were not forked: 1 (TOOL_MODE)"]


def test_the_target_says_what_to_keep_warm() -> None:
    check_start(resolve("empirica"), Start.FORK)
