"""Faults: drawn by a seed, begun at their call, healed whatever happens, told in the history."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from mcpconc import locks, procs
from mcpconc.drive.record import Recorder
from mcpconc.errors import UsageError
from mcpconc.history import EventType, History
from mcpconc.nemesis import KINDS, Family, Kind, Weather, chosen, files, network, with_faults
from mcpconc.nemesis.base import Missed, Strike, undone
from mcpconc.oracle.storms import storms
from mcpconc.program import Call, Fault, Program
from mcpconc.rig import Execution, Rig, rig
from mcpconc.schedule.points import Kill, Point
from mcpconc.target.base import Identity
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.target.reference import ReferenceTarget
from mcpconc.verdict import Verdict

LANES = tuple(
    tuple(
        Call(f"{agent}.{n}", agent, "note", {"text": f"tok{agent:03d}x{n:03d}z", "session_id": "s"})
        for n in range(4)
    )
    for agent in range(2)
)


def program(*faults: Fault) -> Program:
    """Two agents that log findings in sessions of their own."""
    prefix = tuple(Call(f"s{a}", a, "session_create", {"ai_id": f"ai{a}"}) for a in range(2))
    lanes = tuple(
        tuple(
            Call(
                f"{a}.{n}",
                a,
                "finding_log",
                {"finding": f"finding tok{a:03d}x{n:03d}z", "session_id": f"unknown-{a}"},
                f"tok{a:03d}x{n:03d}z",
            )
            for n in range(4)
        )
        for a in range(2)
    )
    return Program(2, prefix=prefix, lanes=lanes, faults=faults)


STORMS = {
    **{
        name: (Fault(name, "0.1"),)
        for name in (
            *("kill-server", "stop-server", "cancel", "disconnect", "hold-lock", "hold-lock-long"),
            *("readonly-database", "readonly-git", "full-disk", "lock-refs", "corrupt-note"),
            *("empty-database", "older-schema", "remote-hangs"),
        )
    },
    "two at once": (Fault("stop-server", "0.1"), Fault("hold-lock", "1.1")),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Execution]:
    """What became of the program under each of `STORMS`, on one reference server after another;
    and under the key "left" what outlived all of it."""

    async def main() -> dict[str, Any]:
        target = ReferenceTarget()
        target.hurry()
        await target.install(lambda text: None)
        work = tmp_path_factory.mktemp("work")
        async with rig(target, Identity.ISOLATED, 2, work, lambda text: None) as on:
            runs: dict[str, Any] = {
                name: await on.run(program(*faults), "free", 0) for name, faults in STORMS.items()
            }
            return {**runs, "left": await left_behind(on)}

    return anyio.run(main)


async def left_behind(on: Rig) -> list[str]:
    """Processes and locks that outlive the runs."""
    await on.settle()
    strays = [f"process {command}" for command in on.world.strays().values()]
    return strays + [
        f"lock on {name}"
        for name, path in on.world.databases.items()
        if locks.stays_locked(path, 0.1)
    ]


def told(execution: Execution) -> list[str]:
    """The notes of faults, in order."""
    names = ("fault", "healed", "fault-missed", "server-died", "server-restarted")
    return [
        f"{e.value['what']} {e.value.get('fault', '')}".strip()
        for e in execution.run.history.events
        if e.value.get("what") in names
    ]


def by_call(history: History) -> dict[str, str]:
    return {op.call: str(op.outcome or op.why) for op in history.operations}


# -- end to end, on the reference server -------------------------------------------------------


Runs = Mapping[str, Any]


def test_cancelled_in_the_midst_of_faults_everything_is_healed(tmp_path: Path) -> None:
    """A lock is held, a server stands still, a directory is read-only, and somebody interrupts."""
    faults = tuple(Fault(name, "0.0") for name in ("hold-lock-long", "stop-server", "readonly-git"))

    async def main() -> tuple[list[str], bool, set[int]]:
        target = ReferenceTarget(call_seconds=20.0)  # faults last in proportion
        await target.install(lambda text: None)
        async with rig(target, Identity.ISOLATED, 2, tmp_path, lambda text: None) as on:
            with anyio.CancelScope() as scope, anyio.move_on_after(30.0):
                async with anyio.create_task_group() as group:
                    group.start_soon(on.run, program(*faults), "free", 0)
                    await anyio.sleep(3.0)
                    scope.cancel()
            world = on.world
            frozen = files.is_frozen(world.root)
            stopped = {p for p in world.members() if (s := procs.stat(p)) and s.state == "T"}
            locked = [n for n, p in world.databases.items() if locks.stays_locked(p, 0.1)]
            return locked, frozen, stopped

    assert anyio.run(main) == ([], False, set())


def test_a_server_that_is_killed_is_started_again_and_its_lane_goes_on(made: Runs) -> None:
    assert told(made["kill-server"]) == [
        "fault kill-server",
        "server-died",
        "server-restarted",
        "healed kill-server",
    ]
    assert {"0.2", "0.3", "1.3"} <= by_call(made["kill-server"].run.history).keys()
    (met,) = storms(made["kill-server"].run)
    assert (met.fault, met.outcome) == ("kill-server", "after a restart")


def test_a_disconnected_client_comes_back(made: Runs) -> None:
    assert "server-restarted" in told(made["disconnect"])


@pytest.mark.parametrize("name", ["stop-server", "cancel", "hold-lock"])
def test_faults_that_pass_need_nobody(made: Runs, name: str) -> None:
    assert told(made[name])[:2] == [f"fault {name}", f"healed {name}"]
    assert storms(made[name].run)[0].outcome == "by itself"


@pytest.mark.parametrize("name", STORMS)
def test_a_target_that_bears_it_is_not_blamed(made: Runs, name: str) -> None:
    assert made[name].judgement.verdict is Verdict.OK


@pytest.mark.parametrize("name", ["readonly-database", "readonly-git", "lock-refs"])
def test_what_is_read_only_can_be_written_to_afterwards(made: Runs, name: str) -> None:
    """Where it is to be had; the directory was put back for the next run, so nothing stayed."""
    if "fault-missed" in " ".join(told(made[name])):
        pytest.skip(made[name].run.history.notes("fault-missed")[0].value["text"])
    assert told(made[name]) == [f"fault {name}", f"healed {name}"]
    assert storms(made[name].run)[0].outcome == "by itself"


def test_what_a_fault_destroys_is_no_finding_but_told(made: Runs) -> None:
    emptied = made["empty-database"]
    (met,) = storms(emptied.run)
    assert met.outcome == "data lost"
    assert met.said
    assert not emptied.judgement.findings
    assert any("not judged: empty-database destroyed" in n for n in emptied.judgement.notes)


@pytest.mark.parametrize("name", ["older-schema", "remote-hangs"])
def test_a_fault_that_the_target_does_not_know_never_begins(made: Runs, name: str) -> None:
    (met,) = storms(made[name].run)
    assert met.outcome == "never began"


def test_a_cancelled_call_is_one_of_which_nobody_knows(made: Runs) -> None:
    assert by_call(made["cancel"].run.history)["0.1"] == "cancelled"
    assert storms(made["cancel"].run)[0].unanswered == ("0.1",)


def test_a_lock_that_is_held_too_long_makes_calls_fail(made: Runs) -> None:
    (met,) = storms(made["hold-lock-long"].run)
    assert met.unanswered


def test_two_faults_at_once(made: Runs) -> None:
    assert sorted(told(made["two at once"])) == sorted(
        ["fault stop-server", "healed stop-server", "fault hold-lock", "healed hold-lock"]
    )


def test_nothing_outlives_the_faults(made: Runs) -> None:
    assert made["left"] == []


# -- the storm itself --------------------------------------------------------------------------


class Kinds:
    """A fault that writes down what is done with it."""

    def __init__(self, seconds: float = 0.0, breaks: Exception | None = None, **more: Any) -> None:
        self.log: list[str] = []
        self.breaks = breaks
        kind = Kind(
            name="odd",
            about="odd",
            family=Family.DATA,
            act=self.act,
            seconds=lambda strike: seconds,
            **more,
        )
        self.kinds = {"odd": kind}

    @asynccontextmanager
    async def act(self, strike: Strike) -> AsyncIterator[None]:
        if strike.fault.pick == 13:
            raise Missed("no luck")
        strike.begins("odd things happen")
        self.log.append("begun")
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                self.log.append("healed")
            if self.breaks is not None:
                raise self.breaks


class Place:
    call_seconds = 0.01
    root = Path("/nowhere")
    shims = None


def weather(kinds: Kinds, *faults: Fault) -> tuple[Weather, Any]:
    recorder = Recorder(None, clock=lambda: 0)
    return Weather(Place(), None, recorder, program(*faults), kinds.kinds), recorder  # type: ignore[arg-type]


def send(recorder: Any, call: str) -> None:
    recorder.append(EventType.INVOKE, 0, call, {"tool": "t", "args": {}})


def test_a_fault_begins_when_its_call_is_sent_and_ends_with_the_calm() -> None:
    kinds = Kinds(seconds=60.0)
    storm, recorder = weather(kinds, Fault("odd", "0.1"))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(storm.serve)
            send(recorder, "0.0")
            await anyio.sleep(0.05)
            assert kinds.log == []
            send(recorder, "0.1")
            await anyio.sleep(0.05)
            assert kinds.log == ["begun"]
            await storm.calm()
            assert kinds.log == ["begun", "healed"]

    anyio.run(main)
    assert [e.value["what"] for e in recorder.events if "what" in e.value] == ["fault", "healed"]


def test_it_is_healed_when_the_run_is_cancelled() -> None:
    kinds = Kinds(seconds=60.0)
    storm, recorder = weather(kinds, Fault("odd", "0.1"))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(storm.serve)
            send(recorder, "0.1")
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()

    anyio.run(main)
    assert kinds.log == ["begun", "healed"]


@pytest.mark.parametrize(
    ("fault", "lacking", "why"),
    [
        (Fault("odd", "0.1", pick=13), "", "no luck"),
        (Fault("odd", "0.1"), "no such tool here", "no such tool here"),
        (Fault("odd", "never.sent"), "", "the calls are over"),
    ],
)
def test_what_cannot_be_done_is_said(fault: Fault, lacking: str, why: str) -> None:
    kinds = Kinds(lacking=lambda root: lacking)
    storm, recorder = weather(kinds, fault)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(storm.serve)
            send(recorder, "0.1")
            await anyio.sleep(0.05)
            await storm.calm()

    anyio.run(main)
    assert kinds.log == []
    (note,) = recorder.history().notes("fault-missed")
    assert why in note.value["text"]


def standing(agent: int, label: str, **more: Any) -> tuple[Kill, Point]:
    return Kill(agent, 1, label), Point("sql", label, **more)


def test_a_process_dies_before_the_thing_that_was_drawn_and_only_once() -> None:
    storm, recorder = weather(Kinds(inside=True), Fault("odd", "0.1", pick=1))
    written = standing(0, "INSERT", writes=frozenset({"db:t"}))
    asked = [
        storm.doomed(*written, None),  # the call was not sent yet
        send(recorder, "0.1"),
        storm.doomed(*standing(1, "INSERT", writes=frozenset({"db:t"})), None),
        storm.doomed(*standing(0, "SELECT", reads=frozenset({"db:t"})), None),
        storm.doomed(*written, None),
        storm.doomed(*standing(0, "COMMIT", needs="commit"), None),
        storm.doomed(*written, None),
    ]
    assert asked == [False, None, False, False, False, True, False]
    (note,) = recorder.history().notes("fault")
    assert "killed before: COMMIT" in note.value["text"]


def test_a_recorded_kill_is_the_only_one() -> None:
    storm, recorder = weather(Kinds(inside=True), Fault("odd", "0.1", pick=0))
    send(recorder, "0.1")
    written = standing(0, "INSERT", writes=frozenset({"db:t"}))
    assert [storm.doomed(*written, due) for due in (False, True, False)] == [False, True, False]


# -- some of them by themselves ----------------------------------------------------------------


def test_nothing_below_a_read_only_directory_changes_and_then_all_of_it_does(
    tmp_path: Path,
) -> None:
    if why := KINDS["readonly-git"].lacking(tmp_path):
        pytest.skip(why)
    below = tmp_path / "frozen" / "below"
    below.mkdir(parents=True)
    (below / "file").write_text("old")
    with files.read_only(tmp_path / "frozen"):
        assert files.is_frozen(tmp_path)
        for change in (
            lambda: (below / "file").write_text("new"),
            lambda: (below / "other").touch(),
            lambda: (below / "file").unlink(),
            lambda: (tmp_path / "frozen" / "beside").mkdir(),
        ):
            with pytest.raises(PermissionError):
                change()
        (tmp_path / "outside").touch()
    assert not files.is_frozen(tmp_path)
    (below / "file").write_text("new")


def test_what_two_faults_have_frozen_is_free_after_both(tmp_path: Path) -> None:
    if why := KINDS["readonly-git"].lacking(tmp_path):
        pytest.skip(why)
    (tmp_path / "file").touch()
    first, second = files.read_only(tmp_path), files.read_only(tmp_path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert not files.is_frozen(tmp_path)
    (tmp_path / "file").write_text("new")


def test_healing_waits_for_a_fault_that_hinders_it(tmp_path: Path) -> None:
    """Locks are left behind if somebody makes their directory read-only, and tries only once."""
    if why := KINDS["readonly-git"].lacking(tmp_path):
        pytest.skip(why)
    lock = tmp_path / "git" / "HEAD.lock"
    lock.parent.mkdir()
    lock.touch()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            with files.read_only(lock.parent):
                with pytest.raises(PermissionError):
                    lock.unlink()
                group.start_soon(undone, lock.unlink)
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.2)
                assert lock.exists()

    anyio.run(main)
    assert not lock.exists()


def test_what_cannot_be_healed_to_its_end_is_said() -> None:
    kinds = Kinds(breaks=OSError("no way back"))
    storm, recorder = weather(kinds, Fault("odd", "0.1"))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(storm.serve)
            send(recorder, "0.1")
            await anyio.sleep(0.05)
            await storm.calm()

    anyio.run(main)
    notes = [e.value["what"] for e in recorder.events if "what" in e.value]
    assert notes == ["fault", "fault-failed"]


def test_an_older_schema_of_empirica_lacks_what_was_added_late() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript("""
        CREATE TABLE schema_migrations (migration_id TEXT);
        CREATE TABLE goals (id TEXT, completion_reason TEXT);
        CREATE INDEX why ON goals (completion_reason);
    """)
    database.executemany(
        "INSERT INTO schema_migrations VALUES (?)", [(f"{n:03d}_x",) for n in range(50, 70)]
    )
    said = EmpiricaTarget.tested().age(database)
    assert "without 9 migrations and goals.completion_reason" in said
    assert [row[1] for row in database.execute("PRAGMA table_info(goals)")] == ["id"]
    assert database.execute("SELECT count(*) FROM schema_migrations").fetchone() == (11,)


@pytest.mark.parametrize(
    ("handler", "said"),
    # What git says depends on whether it was writing when the other end was gone.
    [(network.cuts, "hung up|reset by peer|[Bb]roken pipe|disconnect"), (network.hangs, "")],
)
def test_a_push_to_a_remote_that_fails_it(tmp_path: Path, handler: Any, said: str) -> None:
    """With a real git: one remote hangs up when the push has begun, the other lets it wait."""
    git = ("git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@localhost")
    for words in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run([*git, *words], check=True, timeout=60)

    async def push() -> str | None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        url = f"git://127.0.0.1:{port}/remote"
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, handler)
            answer = None
            with anyio.move_on_after(2.0 if not said else 30.0):
                done = await anyio.run_process([*git, "push", url, "HEAD:main"], check=False)
                answer = done.stderr.decode()
            group.cancel_scope.cancel()
        return answer

    answer = anyio.run(push)
    assert answer is None if not said else re.search(said, str(answer))


# -- what is drawn -----------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_faults_at_concurrent_calls() -> None:
    drawn = [with_faults(program(), tuple(KINDS), seed) for seed in range(200)]
    assert drawn == [with_faults(program(), tuple(KINDS), seed) for seed in range(200)]
    faults = [fault for each in drawn for fault in each.faults]
    assert {fault.call for fault in faults} == {call.id for lane in LANES for call in lane}
    assert len({fault.name for fault in faults}) == len(KINDS)
    assert {len(each.faults) for each in drawn} == {1, 2, 3}


def test_faults_survive_being_saved_and_old_programs_stay_what_they_were() -> None:
    stormed = program(Fault("cancel", "0.1", 0.25, 7))
    assert Program.from_json(stormed.to_json()) == stormed
    assert "faults" not in program().to_json()
    assert stormed.digest() != program().digest()


def test_a_fault_goes_with_its_call() -> None:
    stormed = program(Fault("cancel", "0.1"), Fault("cancel", "1.1"))
    left = stormed.map_calls(lambda call: None if call.id == "0.1" else call)
    assert left.faults == (Fault("cancel", "1.1"),)
    assert replace(stormed, faults=()) == program()


def test_names_are_all_none_or_of_faults() -> None:
    assert chosen(["all"], KINDS) == tuple(KINDS)
    assert chosen(["none"], KINDS) == ()
    assert chosen(["cancel", "kill-call", "cancel"], KINDS) == ("cancel", "kill-call")
    with pytest.raises(UsageError, match="kill-servr: there is no such fault; did you mean kill-s"):
        chosen(["kill-servr"], KINDS)


def test_every_fault_says_what_it_is() -> None:
    for name, kind in KINDS.items():
        assert kind.name == name
        assert kind.about
        assert kind.family in Family
