"""What is left after Ctrl-C and after SIGKILL: reports, readable histories, and no process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fakes import ledger
from fakes.processes import mcpconc, members, start, until
from mcpconc.errors import Exit, TargetError
from mcpconc.interrupt import interrupts
from mcpconc.trace import load

FUZZ = ("fuzz", "--machine", "fakes.ledger:LedgerMachine", "--agents", "2", "--max-time", "10m")


@pytest.fixture
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A campaign on the ledger in the mode that the test asks for."""
    target = ledger.write(tmp_path, getattr(request, "param", "racy"))
    with start(tmp_path, *FUZZ, "--target", str(target)) as process:
        yield process
        process.kill()


def events(tmp_path: Path) -> list[dict[str, object]]:
    file = tmp_path / "out" / "mcpconc.log"
    lines = file.read_text().splitlines(True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def seen(tmp_path: Path, *names: str) -> bool:
    return set(names) <= {str(event["event"]) for event in events(tmp_path)}


def test_a_signal_ends_with_a_report_and_nothing_alive(
    campaign: subprocess.Popen[str], tmp_path: Path
) -> None:
    until(lambda: seen(tmp_path, "TraceSaved"))
    campaign.send_signal(signal.SIGINT)
    out, err = campaign.communicate(timeout=60)
    assert campaign.returncode == Exit.INTERRUPTED
    assert "stopping; what was found is kept" in err
    assert out.splitlines()[-1].startswith("INTERRUPTED · interrupted · seed")
    assert "Traceback" not in out + err
    assert seen(tmp_path, "CampaignFinished")
    traces = list((tmp_path / "out" / "traces").iterdir())
    assert traces
    assert all(load(trace).findings for trace in traces)
    assert members(tmp_path) == []
    assert list(tmp_path.glob("mcpconc-*")) == []


@pytest.mark.parametrize("campaign", ["slow"], indirect=True)
def test_impatience_is_answered_too(campaign: subprocess.Popen[str], tmp_path: Path) -> None:
    until(lambda: histories(tmp_path))
    campaign.send_signal(signal.SIGINT)
    until(lambda: [e for e in events(tmp_path) if str(e.get("text", "")).startswith("stopping")])
    campaign.send_signal(signal.SIGINT)
    campaign.communicate(timeout=60)
    assert campaign.returncode == Exit.INTERRUPTED
    assert members(tmp_path) == []


def test_while_servers_are_starting(tmp_path: Path) -> None:
    target = tmp_path / "mute.toml"
    server = Path(ledger.__file__).with_name("server.py")
    target.write_text(f'[server]\nargv = ["{{python}}", "-S", "{server}", "never-answers"]')
    with start(tmp_path, *FUZZ, "--target", str(target)) as process:
        until(lambda: members(tmp_path))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert "INTERRUPTED" in out
    assert members(tmp_path) == []


@pytest.mark.parametrize("campaign", ["slow"], indirect=True)
def test_after_sigkill_the_history_so_far_can_be_checked(
    campaign: subprocess.Popen[str], tmp_path: Path
) -> None:
    until(lambda: histories(tmp_path))
    campaign.kill()
    campaign.wait()
    (history,) = histories(tmp_path)
    checked = mcpconc(tmp_path, ["check", str(history.parent), "--json"])
    assert checked.returncode == Exit.INCONCLUSIVE
    (told,) = json.loads(checked.stdout)["checks"]
    assert told["status"] == "PARTIAL"
    assert told["events"] == len(history.read_text().splitlines()) > 0
    until(lambda: not members(tmp_path), seconds=30)


def histories(tmp_path: Path) -> list[Path]:
    """Histories of a run that is going on and has sent something."""
    found = tmp_path.glob("out/work/*/history.jsonl")
    return [path for path in found if '"invoke"' in path.read_text()]


# ------------------------------------------------------------------ in one process


def test_an_error_inside_comes_out_as_it_is() -> None:
    async def fails() -> None:
        async with interrupts(lambda text: None):
            raise TargetError("no server")

    with pytest.raises(TargetError, match="no server"):
        anyio.run(fails)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_each_signal_ends_the_innermost_scope_that_is_left(number: signal.Signals) -> None:
    ended: list[str] = []
    heard: list[str] = []

    async def work() -> None:
        async with interrupts(heard.append) as signals:
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                signal.raise_signal(number)
                await anyio.sleep(60)
            ended.append("work")
            signal.raise_signal(number)
            await anyio.sleep(60)
        assert signals.count == 2

    anyio.run(work)
    assert ended == ["work"]
    assert len(heard) == 2


def test_a_part_within_is_ended_on_its_own_or_by_a_signal() -> None:
    async def part(done: list[str]) -> bool:
        async with interrupts(lambda text: None) as inner:
            with anyio.CancelScope() as scope:
                inner.scopes.append(scope)
                await anyio.sleep(30)
            done.append("written")
        return bool(inner)

    async def whole() -> None:
        done: list[str] = []
        async with interrupts(lambda text: None) as outer, anyio.create_task_group() as tasks:

            async def end(signalled: bool) -> None:
                await anyio.sleep(0.05)
                assert outer.inner is not None
                if signalled:
                    signal.raise_signal(signal.SIGINT)
                else:
                    outer.inner.cancel()

            for signalled in (False, True):
                tasks.start_soon(end, signalled)
                assert await part(done)
                assert bool(outer) is signalled
                assert outer.inner is None
        assert done == ["written"] * 2

    anyio.run(whole)
