"""The socket at which a target's threads say where they stand: who waits there, and that nothing
that is said there does any harm."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from mcpconc.schedule.control import LARGEST, LONGEST, MUTE, UNMUTE, Control, Thread
from piloting import Target, connect

HELLO = b'{"hello": {"pid": 1, "ppid": 1, "tid": 1, "agent": 3, "name": "x"}}\n'


class Silent:
    """A pilot who lets nobody go."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stands(self, thread: Thread) -> None:
        assert thread.point is not None
        self.heard.append(thread.point.label)

    def gone(self, thread: Thread) -> None:
        self.heard.append("gone")


def at(root: Path, test: Callable[[Control, Target], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Control.open(root) as control:
            with anyio.fail_after(20):
                await test(control, Target(control.address))

    anyio.run(main)


def test_without_a_pilot_everybody_goes_on_at_once_and_need_not_tell(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        async with target.thread() as one, target.thread() as other:
            assert await one.at("a") == MUTE
            assert await other.at("b") == MUTE
            assert await one.at("with a lock", holds=["a.db"]) == MUTE
        assert control.points == 3

    at(tmp_path, test)


def test_with_a_pilot_they_are_to_tell_again(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        async with target.thread() as thread:
            assert await thread.at("a") == MUTE
            control.take(Silent())
            assert await thread.stream.receive() == UNMUTE
            control.leave()
            assert await thread.at("b") == MUTE

    at(tmp_path, test)


def test_who_was_never_muted_hears_nothing_of_a_pilot(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        pilot = Silent()
        control.take(pilot)
        async with target.thread() as thread, anyio.create_task_group() as tasks:
            tasks.start_soon(thread.at, "a")
            while not pilot.heard:
                await control.wait(10)
            control.take(pilot)
            control.go(next(iter(control.threads)))
        assert target.log == ["0 a"]

    at(tmp_path, test)


def test_with_a_pilot_a_thread_stands_until_he_lets_it_go(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        pilot = Silent()
        control.take(pilot)
        async with target.thread(agent=2) as thread, anyio.create_task_group() as tasks:
            tasks.start_soon(thread.at, "a")
            assert await control.wait(10)
            while not pilot.heard:
                await control.wait(10)
            assert (pilot.heard, target.log) == (["a"], [])
            (standing,) = control.of(2)
            control.go(standing)
        assert target.log == ["2 a"]

    at(tmp_path, test)


def test_when_the_pilot_leaves_who_stands_goes_on(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        pilot = Silent()
        control.take(pilot)
        async with target.thread() as thread, anyio.create_task_group() as tasks:
            tasks.start_soon(thread.at, "a")
            while not pilot.heard:
                await control.wait(10)
            control.leave()
        assert target.log == ["0 a"]

    at(tmp_path, test)


def test_a_thread_that_hangs_up_is_gone(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        pilot = Silent()
        control.take(pilot)
        async with target.thread() as thread:
            await thread.say({"at": {"kind": "sql", "label": "a"}})
            while not pilot.heard:
                await control.wait(10)
        while pilot.heard != ["a", "gone"]:
            await control.wait(10)
        assert not control.threads

    at(tmp_path, test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json\n",
        b"[]\n",
        b"17\n",
        b'{"hello": {}}\n',
        b'{"hello": {"pid": "x"}}\n',
        b'{"at": {"kind": "sql", "label": "before hello"}}\n',
        HELLO + b'{"at": {}}\n',
        HELLO + b'{"at": {"kind": "sql", "label": "a", "needs": "a rest"}}\n',
        HELLO + b'{"at": []}\n',
        HELLO + b'{"counts": 3}\n',
        HELLO + b'{"counts": {"sql": "many"}}\n',
        b"\xff\xfe\n",
        b"x" * (LARGEST + 1),
    ],
)
def test_what_no_probe_says_ends_that_connection_and_is_told(
    tmp_path: Path, garbage: bytes
) -> None:
    async def test(control: Control, target: Target) -> None:
        made = connect(control.address)

        def speak() -> bytes:
            made.sendall(garbage)
            return made.recv(100)

        with made:
            assert await anyio.to_thread.run_sync(speak) == b""
        assert len(control.faults) == 1
        assert len(control.faults[0]) <= 200
        async with target.thread() as thread:
            assert await thread.at("as ever") == MUTE

    at(tmp_path, test)


def test_a_line_may_come_in_pieces(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        point = json.dumps({"at": {"kind": "sql", "label": "ü" * 50}}, ensure_ascii=False)

        def speak() -> bytes:
            with connect(control.address) as made:
                for byte in HELLO + point.encode() + b"\n":
                    made.sendall(bytes([byte]))
                return made.recv(100)

        assert await anyio.to_thread.run_sync(speak) == MUTE
        assert not control.faults

    at(tmp_path, test)


def test_who_commits_holds_nothing_from_then_on(tmp_path: Path) -> None:
    async def test(control: Control, target: Target) -> None:
        pilot = Silent()
        control.take(pilot)
        async with target.thread(pid=77) as thread, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: thread.at("COMMIT", db="a", needs="commit", holds=["a", "b"]))
            while not pilot.heard:
                await control.wait(10)
            (standing,) = control.threads
            assert standing.holds == {"a", "b"}
            control.go(standing)
            assert standing.holds == {"b"}

    at(tmp_path, test)


def test_when_the_controller_goes_whoever_stands_hears_the_end(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks, Control.open(tmp_path) as control:
            pilot = Silent()
            control.take(pilot)

            async def client() -> None:
                async with Target(control.address).thread() as thread:
                    heard.append(await thread.at("a"))

            tasks.start_soon(client)
            while not pilot.heard:
                await control.wait(10)

    anyio.run(main)
    assert heard == [b""]
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * LONGEST)
    deep.mkdir()

    async def test(control: Control, target: Target) -> None:
        assert len(str(control.address)) <= LONGEST
        async with target.thread() as thread:
            assert await thread.at("a") == MUTE

    at(deep, test)
