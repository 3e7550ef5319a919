"""The reference server as a process, over a real client; and what may be planted in its wire."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from mcpconc import procs
from mcpconc.model.empirica.spec import MODELLED
from mcpconc.oracle.base import Judgement
from mcpconc.program import Call, Program, Ref
from mcpconc.reference import process, server, sessions, store, switch
from mcpconc.reference.server import INPUTS
from mcpconc.reference.store import SESSIONS, WORKSPACE, Refused, Store
from mcpconc.rig import rig
from mcpconc.target.base import MARKER, Identity
from mcpconc.target.reference import ReferenceTarget


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("template")
    store.prepare(made)
    return made


@pytest.fixture
def root(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "world"))


@pytest.fixture(autouse=True)
def nothing_planted() -> Iterator[None]:
    yield
    switch.refresh(Path("/nowhere"))


def plant(root: Path, name: str, run: int = 1) -> None:
    (root / switch.FILE).write_text(f"{name}\n{run}\n")


@asynccontextmanager
async def client(root: Path, **options: Any) -> AsyncIterator[ClientSession]:
    arguments = ["-P", "-m", "mcpconc.reference", "--root", str(root), "--instance", "a"]
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(root / "home"), MARKER: str(root)}
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
    with anyio.fail_after(60):
        async with (
            stdio_client(parameters) as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            yield session


async def said(session: ClientSession, tool: str, **args: Any) -> dict[str, Any]:
    return json.loads(await text(session, tool, **args))


async def text(session: ClientSession, tool: str, **args: Any) -> str:
    return (await session.call_tool(tool, args)).content[0].text


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold SQLite's write lock."""
    with closing(sqlite3.connect(root / SESSIONS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


# ------------------------------------------------------------------ a process that serves


def test_it_has_the_tools_that_the_models_know(root: Path) -> None:
    async def main() -> None:
        async with client(root) as session:
            tools = {tool.name: tool.input_schema for tool in (await session.list_tools()).tools}
            assert tools.keys() == INPUTS.keys() < MODELLED
            assert tools["goals_add_task"]["required"] == ["goal_id", "description"]
            assert tools["unknown_list"]["properties"]["all"] == {"type": "boolean"}

    anyio.run(main)


def test_it_answers_refuses_and_explains_how_to_be_called(root: Path) -> None:
    async def main() -> None:
        async with client(root) as session:
            made = await said(session, "session_create", ai_id="ai-0", subject="words")
            assert made["ok"] is True
            assert made["subject"] == "words"
            refused = await said(session, "goals_complete", goal_id="nothing has this id")
            assert refused["ok"] is False
            assert "Goal not found" in refused["error"]
            usage = await said(session, "goals_complete", reason="no goal")
            assert "the following arguments are required: goal_id" in usage["error"]

    anyio.run(main)


def test_calls_in_flight_do_not_wait_for_one_another(root: Path) -> None:
    answered: list[str] = []

    async def main() -> None:
        async with client(root, busy=30) as session:
            opened = await said(session, "session_create", ai_id="ai-0")

            async def ask(tool: str, **args: Any) -> None:
                await said(session, tool, session_id=opened["session_id"], **args)
                answered.append(tool)

            async with anyio.create_task_group() as calls:
                with locked(root):
                    calls.start_soon(functools.partial(ask, "unknown_log", unknown="why?"))
                    calls.start_soon(functools.partial(ask, "finding_log", finding="so"))
                    await asleep(2)
                    await ask("unknown_list")
                    assert answered == ["unknown_list"]
            assert len(answered) == 3

    async def asleep(threads: int) -> None:
        (pid,) = procs.Census(MARKER, str(root)).pids()
        while procs.asleep_in_busy_handler([pid]) != {pid: threads}:
            await anyio.sleep(0.01)

    anyio.run(main)


def test_a_database_that_stays_locked_is_told(root: Path) -> None:
    async def main() -> None:
        async with client(root, busy=0.05) as session:
            with locked(root):
                answer = await said(session, "session_create", ai_id="ai-0")
            assert answer == {"ok": False, "error": "database is locked"}
            assert (await said(session, "session_create", ai_id="ai-0"))["ok"] is True

    anyio.run(main)


def test_a_bug_is_switched_in_a_running_server(root: Path) -> None:
    async def main() -> None:
        async with client(root) as session:
            opened = await said(session, "session_create", ai_id="ai-0")
            for number in range(8):
                about = {"session_id": opened["session_id"], "unknown": f"question {number}"}
                await said(session, "unknown_log", **about)
            whole = await text(session, "unknown_list")
            plant(root, "text-is-not-json")
            cut = await text(session, "unknown_list")
            plant(root, "")
            assert len(json.loads(whole)["unknowns"]) == 8
            assert whole.startswith(cut)
            assert len(cut) < len(whole)
            assert await text(session, "unknown_list") == whole

    anyio.run(main)


# ------------------------------------------------------------------ answers


@pytest.fixture
def state(root: Path) -> Store:
    return Store(root, "a")


def test_a_tool_that_there_is_not(state: Store) -> None:
    assert json.loads(server.answer(state, "goals_delete", {})) == {
        "ok": False,
        "error": "Unknown tool: goals_delete",
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "required: goal_id, description"),
        ({"goal_id": "", "description": "d"}, "required: goal_id"),
        ({"goal_id": 7, "description": "d"}, "not a text: goal_id"),
    ],
)
def test_arguments_that_cannot_be_understood(state: Store, args: Any, words: str) -> None:
    answer = server.answer(state, "goals_add_task", args)
    told = ReferenceTarget().interpret("goals_add_task", answer)
    assert told.outcome == "usage"
    assert words in json.loads(answer)["error"]


def test_every_tool_says_what_it_takes() -> None:
    assert server.INPUTS.keys() == server.TOOLS.keys()


def test_a_refusal_carries_its_fields(state: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: Store, args: Mapping[str, Any]) -> dict[str, Any]:
        raise Refused("Goal not found", goal_id="g")

    monkeypatch.setitem(server.TOOLS, "goals_list", refuse)  # type: ignore[arg-type]
    answer = json.loads(server.answer(state, "goals_list", {}))
    assert answer == {"ok": False, "error": "Goal not found", "goal_id": "g"}


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), sqlite3.OperationalError("oops")])
def test_a_bug_of_ours_is_an_answer_too(
    state: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any, error: Exception
) -> None:
    def fail(store: Store, args: Mapping[str, Any]) -> dict[str, Any]:
        raise error

    monkeypatch.setitem(server.TOOLS, "goals_list", fail)  # type: ignore[arg-type]
    answer = json.loads(server.answer(state, "goals_list", {}))
    assert answer["error"].startswith("internal error: ")
    assert answer["error"].endswith("oops")
    assert "Traceback" in capsys.readouterr().err


# ------------------------------------------------------------------ sessions


def rows(root: Path, sql: str, database: str = SESSIONS) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / database)) as connection:
        return connection.execute(sql).fetchall()


def opened(root: Path, ai: str = "ai-0", instance: str = "a") -> tuple[str, list[str]]:
    """The id of a new session, and those that it closed."""
    made = sessions.session_create(Store(root, instance), {"ai_id": ai})
    closed = [one["session_id"] for one in made["lifecycle"]["auto_closed_sessions"]]
    return made["session_id"], closed


def test_a_session_closes_the_one_before_it_everywhere(root: Path) -> None:
    first, nothing = opened(root)
    second, closed = opened(root)
    assert (nothing, closed) == ([], [first])
    assert rows(root, "SELECT session_id FROM sessions WHERE end_time IS NULL") == [(second,)]
    index = rows(root, "SELECT session_id, status FROM global_sessions", WORKSPACE)
    assert sorted(index) == sorted([(first, "ended"), (second, "active")])


@pytest.mark.parametrize("other", [{"ai": "ai-1"}, {"instance": "b"}])
def test_sessions_of_others_stay_open(root: Path, other: dict[str, str]) -> None:
    opened(root)
    assert opened(root, **other)[1] == []


def test_an_automatic_close_sums_up_what_was_assessed(root: Path) -> None:
    session, _ = opened(root)
    state = Store(root, "a")
    for tool, vectors in (
        ("submit_preflight_assessment", {"know": 0.1, "uncertainty": 0.2}),
        ("submit_check_assessment", {"know": 0.5}),
        ("submit_postflight_assessment", {"know": 0.9}),
    ):
        server.TOOLS[tool](state, {"session_id": session, "vectors": vectors, "reasoning": "r"})
    opened(root)
    last = "SELECT phase, round, know, uncertainty, completion, reasoning, reflex_data"
    assert rows(root, f"{last} FROM reflexes ORDER BY id DESC LIMIT 1") == [
        ("POSTFLIGHT", 2, 0.5, 0.2, 1.0, None, '{"auto_closed": true}')
    ]


# ------------------------------------------------------------------ the process


def test_nothing_is_left_where_nothing_is_planted(state: Store) -> None:
    switch.refresh(state.root)
    process.before(state, "goals_list")
    process.after("submit_postflight_assessment")
    assert not switch.scratch
    assert not (state.root / process.AGENTS).exists()
    assert not procs.children(os.getpid())


def test_memory_grows_by_what_is_really_used(state: Store) -> None:
    plant(state.root, "memory-grows")
    switch.refresh(state.root)
    process.before(state, "goals_list")
    start = procs.resident([os.getpid()])
    for _ in range(3):
        process.before(state, "goals_list")
    assert procs.resident([os.getpid()]) - start > 2.5 * process.KEPT / 1024


def test_memory_is_bounded_and_goes_with_the_run(
    state: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KEPT", 4096)
    plant(state.root, "memory-grows")
    switch.refresh(state.root)
    for _ in range(2 * process.MOST_KEPT):
        process.before(state, "goals_list")
    assert len(switch.scratch["kept"]) == process.MOST_KEPT
    plant(state.root, "memory-grows", run=2)
    switch.refresh(state.root)
    assert not switch.scratch


def test_postflight_starts_a_process_that_outlives_it(state: Store) -> None:
    plant(state.root, "orphan-process")
    switch.refresh(state.root)
    process.after("submit_preflight_assessment")
    assert not procs.children(os.getpid())
    process.after("submit_postflight_assessment")
    (orphan,) = procs.children(os.getpid())
    assert os.getsid(orphan) == orphan
    os.kill(orphan, signal.SIGKILL)
    os.waitpid(orphan, 0)


def test_latency_grows_with_the_agents_that_have_called(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(process, "pause", pauses.append)
    plant(root, "slower-with-agents")
    switch.refresh(root)
    for instance in ("a", "b", "a", "c", "d", "a"):
        process.before(Store(root, instance), "goals_create")
        process.before(Store(root, instance), "goals_list")
    assert pauses == [0.75, 0.75, 1.3, 1.3, 1.3]


# ------------------------------------------------------------------ what the oracles see

BUGS_OF_THE_WIRE = {
    "responses-swapped": "crossed-response",
    "response-lost": "unanswered",
    "response-twice": "duplicate-response",
    "stdout-polluted": "garbage",
    "text-is-not-json": "garbled",
}


def together() -> Program:
    """One agent with many calls in flight, some of which are answered at the same time: tasks
    asked for, one refusal, and then a long list."""
    session, goal = Ref("p0", "session_id"), Ref("p1", "goal_id")
    prefix = (
        Call("p0", 0, "session_create", {"ai_id": "ai-0", "subject": "s"}),
        Call("p1", 0, "goals_create", {"session_id": session, "objective": "one"}),
    )
    lane = []
    for n in range(4):
        token = f"tok000x{n:03}z"
        args = {"goal_id": goal, "description": token}
        lane.append(Call(f"c{n}", 0, "goals_add_task", args, token=token))
    lane.append(Call("refused", 0, "goals_complete", {"goal_id": "nothing has this id"}))
    suffix = (Call("s0", 0, "goals_get_tasks", {"goal_id": goal}),)
    return Program(1, prefix=prefix, lanes=(tuple(lane),), suffix=suffix, inflight=5)


TRIES = 10
"""Runs in which calls in flight together have been answered at the same time, or never will."""


@functools.cache
def judged() -> Mapping[str, Judgement]:
    """Bug → what the oracles say of `together`, of the first run in which the bug shows. One rig
    serves all of them."""

    async def main() -> dict[str, Judgement]:
        found = {}
        target = ReferenceTarget(call_timeout=2.0)
        with tempfile.TemporaryDirectory() as base, anyio.fail_after(120):
            async with rig(target, Identity.ISOLATED, 1, Path(base), lambda line: None) as up:
                for name in ("", *BUGS_OF_THE_WIRE):
                    target.plant = name
                    for seed in range(TRIES):
                        found[name] = (await up.run(together(), "barrier", seed)).judgement
                        if found[name].findings:
                            break
        return found

    return anyio.run(main)


def test_without_a_bug_there_is_nothing_to_see() -> None:
    assert judged()[""].findings == ()


@pytest.mark.parametrize("name", BUGS_OF_THE_WIRE)
def test_what_is_wrong_on_the_wire_is_seen_by_protocol(name: str) -> None:
    (protocol,) = (r for r in judged()[name].results if r.oracle == "protocol")
    properties = {finding.fingerprint.property for finding in protocol.findings}
    assert properties == {BUGS_OF_THE_WIRE[name]}
