"""What one session makes of good and bad servers: events, notes, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import anyio
import psutil
import pytest

from fakes import FakeTarget, FakeWorld, alone, call, fleet, run
from mcpconc.drive.record import ENDED
from mcpconc.drive.runner import Fleet
from mcpconc.errors import InvariantError, TargetError
from mcpconc.history import Answer, Event, EventType, History, Outcome
from mcpconc.program import Ref


def drive(root: Path, mode: str, *calls: str, inflight: int = 1, **options: float) -> History:
    """One agent makes these calls, by tool name, to a server of this mode."""

    async def main() -> History:
        async with fleet(root, mode, **options) as (up, world):
            lane = [call(f"c{n}", tool, word=f"w{n}") for n, tool in enumerate(calls)]
            return await run(up, world, alone(*lane, inflight=inflight))

    return anyio.run(main)


def end(history: History, name: str = "c0") -> Event:
    (event,) = [
        e
        for e in history.events
        if e.call == name and e.type not in (EventType.INVOKE, EventType.NOTE)
    ]
    return event


def notes(history: History) -> list[str]:
    """What was noted besides scheduling and the end of the run."""
    usual = ("schedule", ENDED)
    return [
        e.value["what"]
        for e in history.events
        if e.type is EventType.NOTE and e.value["what"] not in usual
    ]


def test_an_answer_is_ok_with_data_and_no_text_where_data_says_it_all(tmp_path: Path) -> None:
    history = drive(tmp_path, "good", "echo")
    assert end(history).value == {
        "outcome": "success",
        "data": {"ok": True, "tool": "echo", "word": "w0"},
    }
    assert notes(history) == []


def test_an_invocation_tells_what_was_sent(tmp_path: Path) -> None:
    history = drive(tmp_path, "good", "echo")
    (op,) = history.operations
    assert (op.tool, op.args, op.phase) == ("echo", {"word": "w0"}, "lane")


def test_a_refusal_is_a_completed_call(tmp_path: Path) -> None:
    assert end(drive(tmp_path, "good", "refuse")).value["outcome"] == "refused"


def test_an_is_error_result_is_never_a_success(tmp_path: Path) -> None:
    assert end(drive(tmp_path, "is-error", "unlucky")).value["outcome"] == "refused"


def test_a_text_of_the_wrong_form_is_garbled_and_kept(tmp_path: Path) -> None:
    history = drive(tmp_path, "no-json", "unlucky")
    assert end(history).value == {"outcome": "garbled", "data": {}, "text": "all done!"}


def test_a_result_that_is_no_tool_result_is_garbled_and_noted(tmp_path: Path) -> None:
    history = drive(tmp_path, "malformed-result", "unlucky")
    assert end(history).value["outcome"] == "garbled"
    assert notes(history) == ["malformed"]


@pytest.mark.parametrize(("mode", "outcome"), [("usage", "usage"), ("internal", "garbled")])
def test_a_json_rpc_error_is_an_answer(tmp_path: Path, mode: str, outcome: str) -> None:
    value = end(drive(tmp_path, mode, "unlucky")).value
    assert value["outcome"] == outcome
    assert value["code"] < 0


def test_a_target_that_does_not_know_makes_the_call_info(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            return await run(up, world, alone(call("c0", timed_out=True)))

    event = end(anyio.run(main))
    assert (event.type, event.value["why"]) == (EventType.INFO, "target-timeout")


def test_a_huge_answer_arrives_whole(tmp_path: Path) -> None:
    assert len(end(drive(tmp_path, "huge", "unlucky")).value["data"]["blob"]) == 5_000_000


def test_text_that_is_not_unicode_is_recorded(tmp_path: Path) -> None:
    value = end(drive(tmp_path, "surrogate", "unlucky")).value
    assert value["data"] == {"ok": True, "odd": "?", "big": "123456789012345678901234"}


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("garbage", "garbage"),
        ("binary", "garbage"),
        ("malformed", "malformed"),
        ("stray", "stray-response"),
    ],
)
def test_what_is_wrong_on_the_wire_is_noted_and_the_call_completes(
    tmp_path: Path, mode: str, what: str
) -> None:
    history = drive(tmp_path, mode, "unlucky")
    assert notes(history) == [what]
    assert end(history).value["outcome"] == "success"


def test_a_second_response_is_noted_with_its_call(tmp_path: Path) -> None:
    history = drive(tmp_path, "twice", "unlucky", "echo")
    (note,) = history.notes("duplicate-response")
    assert note.call == "c0"
    assert [op.outcome for op in history.operations] == [Outcome.SUCCESS] * 2


def test_no_answer_in_time_is_info(tmp_path: Path) -> None:
    history = drive(tmp_path, "swallow", "unlucky", "echo", call_timeout=0.3)
    assert end(history).value["why"] == "timeout"
    assert end(history, "c1").type is EventType.OK


def test_an_answer_after_the_time_out_is_noted(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path, "late 0.8", call_timeout=0.4) as (up, world):
            echo = call("c1", "slow", seconds=0.3)
            return await run(
                up, world, alone(call("c0", "unlucky"), echo, call("c2", "slow", seconds=0.3))
            )

    history = anyio.run(main)
    assert end(history).value["why"] == "timeout"
    assert [n.call for n in history.notes("late-response")] == ["c0"]


def test_death_in_mid_call_is_info_and_later_calls_fail(tmp_path: Path) -> None:
    history = drive(tmp_path, "dies", "unlucky", "echo")
    assert end(history).type is EventType.INFO
    assert end(history).value["why"] == "server-died"
    assert end(history, "c1").type is EventType.FAIL
    (note,) = history.notes("server-died")
    assert note.value["stderr"] == "boom: out of luck"


def test_death_is_noticed_where_a_child_keeps_the_pipe(tmp_path: Path) -> None:
    history = drive(tmp_path, "orphan", "unlucky")
    assert end(history).value["why"] == "server-died"
    assert FakeWorld(tmp_path).left() == []


def test_a_server_that_does_not_read_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpconc.drive.session.GRACE", 0.2)
    monkeypatch.setattr("mcp.shared.jsonrpc_dispatcher._ABANDON_WRITE_TIMEOUT", 0.2, raising=False)

    async def main() -> History:
        async with fleet(tmp_path, "deaf", call_timeout=0.2) as (up, world):
            return await run(up, world, alone(call("c0", blob="x" * 1_000_000)))

    assert end(anyio.run(main)).value["why"] == "timeout"


def test_what_comes_between_runs_is_noted_in_the_next_without_a_call(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path, "again 0.3") as (up, world):
            await run(up, world, alone(call("c0", "unlucky")))
            while up.sessions[0].sound:
                await anyio.sleep(0.02)
            return await run(up, world, alone(call("c0")))

    (note,) = anyio.run(main).notes("duplicate-response")
    assert note.call == ""


def test_several_calls_of_one_session_overlap(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            slow = [call(f"c{n}", "slow", seconds=0.5) for n in range(3)]
            return await run(up, world, alone(*slow, inflight=3))

    types = [e.type for e in anyio.run(main).events if e.call]
    assert types[:3] == [EventType.INVOKE] * 3


def test_a_fault_of_ours_is_raised_and_is_no_finding(tmp_path: Path) -> None:
    class Broken(FakeTarget):
        def interpret(self, tool: str, text: str) -> Answer:
            raise ZeroDivisionError("oops")

    async def main() -> None:
        world = FakeWorld(tmp_path, Broken())
        async with Fleet.open(world, 1, tmp_path / "stderr") as up:
            await run(up, world, alone(call("c0")))

    with pytest.raises(InvariantError, match=r"call c0 \(echo\): ZeroDivisionError"):
        anyio.run(main)


def test_the_pid_is_the_servers(tmp_path: Path) -> None:
    async def main() -> None:
        async with fleet(tmp_path) as (up, world):
            assert world.processes() == [up.sessions[0].pid]
            assert world.servers == {up.sessions[0].pid}
        assert world.servers == set()

    anyio.run(main)


def test_nothing_of_our_environment_reaches_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.setenv("TERM", "fancy")

    async def main() -> set[str]:
        async with fleet(tmp_path) as (up, _):
            return set(psutil.Process(up.sessions[0].pid).environ())

    assert anyio.run(main) - {"LC_CTYPE"} == {"MCPCONC_WORLD", "MCPCONC_SERVER", "PATH"}


def test_a_server_lists_its_tools(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with fleet(tmp_path) as (up, _):
            return [tool.name for tool in await up.sessions[0].tools()]

    assert anyio.run(main) == ["echo", "slow", "refuse", "unlucky"]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exits", r"ended before .* its last words: cannot open the database"),
        ("never-answers", r"did not answer `initialize` within 1 s; it said nothing on stderr"),
        ("only-garbage", r"did not answer .* not MCP on its stdout \('Welcome to the server!'\)"),
        ("old", r"bad answer to `initialize` \(.*1066-10-14"),
    ],
)
def test_a_server_that_does_not_come_up_gives_one_clear_line(
    tmp_path: Path, mode: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        drive(tmp_path, mode, "echo", start_timeout=1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert FakeWorld(tmp_path).left() == []


def test_a_program_that_is_not_there_gives_one_clear_line(tmp_path: Path) -> None:
    async def main() -> None:
        world = FakeWorld(tmp_path, FakeTarget(argv=("/nowhere/server",)))
        async with Fleet.open(world, 2, tmp_path / "stderr"):
            pass

    with pytest.raises(TargetError, match=r"/nowhere/server.*no such program"):
        anyio.run(main)


def test_leaving_a_busy_session_is_a_fault_and_kills(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            async with anyio.create_task_group() as tasks:
                histories: list[History] = []

                async def go() -> None:
                    lane = alone(call("c0", "slow", seconds=30))
                    histories.append(await run(up, world, lane))

                tasks.start_soon(go)
                while not up.sessions[0].inflight:
                    await anyio.sleep(0.01)
                await anyio.sleep(0.1)
                await up.sessions[0].leave()
            assert world.left() == []
            return histories[0]

    history = anyio.run(main)
    assert end(history).value["why"] == "cancelled"
    assert history.notes("fault")[0].value["fault"] == "left-busy"


def test_an_unbound_reference_is_a_fail_that_shows_what_was_meant(tmp_path: Path) -> None:
    async def main() -> History:
        async with fleet(tmp_path) as (up, world):
            lane = alone(call("c0", "refuse"), call("c1", word=Ref("c0", "goal_id")))
            return await run(up, world, lane)

    history = anyio.run(main)
    assert end(history, "c1").value == {
        "why": "unbound",
        "text": "response of call c0 has no goal_id",
    }
    assert [op.call for op in history.operations] == ["c0"]
    (invoked,) = [e for e in history.events if e.call == "c1" and e.type is EventType.INVOKE]
    assert invoked.value["args"] == {"word": {"$ref": "c0", "path": "goal_id"}}


def test_bytes_on_the_wire_are_added_up_where_somebody_asks(tmp_path: Path) -> None:
    async def main() -> tuple[int, int, int, int]:
        async with fleet(tmp_path, "good") as (up, world):
            await run(up, world, alone(call("c0", "echo", word="w")))
            session = up.sessions[0]
            traffic = session.metered()
            await run(up, world, alone(call("c1", "echo", word="w" * 1000)))
            first = traffic.sent, traffic.received
            await run(up, world, alone(call("c2", "echo", word="é")))
            return *first, traffic.sent - first[0], traffic.received - first[1]

    sent, received, then_sent, then_received = anyio.run(main)
    # {"method":"tools/call","params":{"name":"echo",…},"jsonrpc":"2.0","id":…} and its answer.
    assert 1000 < sent < 1400
    assert 1000 < received < 1400
    assert sent - then_sent == 1000 - 2  # é takes two bytes
    assert received - then_received == 1000 - 7  # the server writes it \\u00e9
