"""What phases record, and what becomes of it: on phases that are written down literally."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from mcpconc.events import Kept
from mcpconc.history import Event, EventType, History
from mcpconc.oracle.base import Finding, Fingerprint, Judgement, Result
from mcpconc.program import Call, Program, Ref
from mcpconc.schedule.counts import OUTSIDE, Cost
from mcpconc.strategies.scenarios import class_of
from mcpconc.stress.abreast import Abreast, Meeting
from mcpconc.stress.bottlenecks import bottlenecks
from mcpconc.stress.phases import (
    BLOCK,
    End,
    Group,
    Load,
    Measured,
    Placement,
    Storage,
    Timed,
    Use,
    apart,
    blocks,
    in_flight,
    met,
    timed,
)
from mcpconc.stress.plan import Leg, legs
from mcpconc.stress.summary import ALL, document, grown, slowdown
from mcpconc.target.base import Setting

MS = 1_000_000
FOUND = Finding(
    Fingerprint("linearizability", "refused", "goal"),
    "0.0 was refused",
    evidence={
        "stuck": [
            {"call": "0.0", "field": "refused", "expected": "accepted", "seen": "refused"},
            {"call": "0.1", "field": "goals", "expected": 1, "seen": 2},
        ]
    },
)


def history(*ends: tuple[EventType, dict[str, Any]]) -> History:
    """A call of 100 ms for each of these ends, one after another, by agents 0 and 1 in turn."""
    events: list[Event] = []
    for n, (type, value) in enumerate(ends):
        call = f"{n % 2}.{n // 2}"
        asked = {"tool": f"tool{n}", "args": {}, "phase": "lane"}
        events.append(Event(2 * n, EventType.INVOKE, n % 2, call, asked, n * 200 * MS))
        events.append(Event(2 * n + 1, type, n % 2, call, value, (n * 200 + 100) * MS))
    return History.of(events)


def judged(*findings: Finding) -> Judgement:
    return Judgement((Result("linearizability", findings),))


ENDS = {
    End.ANSWERED: (EventType.OK, {"outcome": "success", "data": {}}),
    End.REFUSED: (EventType.OK, {"outcome": "refused", "data": {}}),
    End.GARBLED: (EventType.OK, {"outcome": "garbled", "data": {}}),
    End.TIMEOUT: (EventType.INFO, {"why": "timeout"}),
    End.LOCKED: (EventType.INFO, {"why": "database locked"}),
    End.DIED: (EventType.INFO, {"why": "server-died"}),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_a_call_ended_is_told_by_its_event(end: End) -> None:
    (call,) = timed(history(ENDS[end]), judged(), 0, {0: 0})
    assert call.end is end
    assert call.seconds == pytest.approx(0.1)
    assert end.error == (end not in (End.ANSWERED, End.REFUSED))


def test_the_targets_own_time_out_is_one() -> None:
    (call,) = timed(history((EventType.INFO, {"why": "target time-out"})), judged(), 0, {0: 0})
    assert call.end is End.TIMEOUT


def test_a_refusal_that_no_order_explains_is_an_error() -> None:
    two = history(ENDS[End.REFUSED], ENDS[End.REFUSED])
    wrong, right = timed(two, judged(FOUND), 0, {0: 0, 1: 1})
    assert (wrong.end, right.end) == (End.SPURIOUS, End.REFUSED)
    assert wrong.end.error


def test_only_the_concurrent_part_is_timed() -> None:
    told = history(ENDS[End.ANSWERED])
    before = {**told.events[0].value, "phase": "prefix"}
    first = Event(0, EventType.INVOKE, 0, "0.0", before)
    assert timed(History.of([first, told.events[1]]), judged(), 0, {0: 0}) == ()


def test_lanes_have_the_numbers_of_the_phase() -> None:
    (call,) = timed(history(ENDS[End.ANSWERED]), judged(), 4, {0: 3})
    assert (call.lane, call.program) == (3, 4)


# ------------------------------------------------------------------ phases


def call(
    lane: int, n: int, seconds: float, tool: str = "t", end: End = End.ANSWERED, program: int = 0
) -> Timed:
    """The `n`-th call of a lane, of which each begins one second after the last."""
    return Timed(program, lane, f"{lane}.{n}", tool, end, float(n), n + seconds)


def phase(
    *groups: list[Timed], agents: int = 2, place: Placement = Placement.ONE, **more: Any
) -> Measured:
    told = Measured("database", agents, place, more.pop("settings", "default"))
    for calls in groups:
        ordered = tuple(sorted(calls, key=lambda call: call.sent))
        told.groups.append(Group(ordered, 10.0, in_flight(ordered), **more))
    return told


def test_calls_in_flight_are_counted_when_one_is_sent() -> None:
    assert in_flight([]) == (0.0, 0)
    assert in_flight([call(0, 0, 0.5), call(0, 1, 0.5)]) == (1.0, 1)
    assert in_flight([call(0, 0, 3.0), call(1, 1, 0.5), call(1, 2, 0.5)]) == (5 / 3, 2)
    assert in_flight([call(0, 0, 1.0), call(1, 1, 1.0)]) == (1.0, 1)


def test_tools_meet_where_calls_of_different_agents_are_in_flight() -> None:
    calls = [call(0, 0, 1.5, "a"), call(1, 1, 1.0, "b"), call(0, 2, 0.5, "a"), call(1, 2, 1, "a")]
    assert met(calls) == {("a", "b"), ("a", "a")}
    assert met([call(0, 0, 3.0, "a"), call(0, 1, 1.0, "b")]) == set()
    assert met([call(0, 0, 1.0, "a"), call(1, 1, 1.0, "b")]) == set()


def test_blocks_are_of_one_lane_of_one_program() -> None:
    lane = [call(0, n, 1.0) for n in range(BLOCK + 2)]
    other = [call(1, 0, 1.0), call(0, 0, 2.0, program=1)]
    assert [len(block) for block in blocks([*lane, *other])] == [BLOCK, 2, 1, 1]


def test_only_the_same_calls_that_ended_alike_are_paired() -> None:
    one = phase([call(0, n, 2.0) for n in range(4)])
    own = phase(
        [
            *(call(0, n, 1.0) for n in range(2)),
            call(0, 2, 0.1, end=End.REFUSED),
            call(0, 3, 1.0, program=1),
        ],
        place=Placement.OWN,
    )
    mine, theirs = one.paired(own)
    assert mine == [[("t answered", 2.0)] * 2]
    assert theirs == [[("t answered", 1.0)] * 2]


def test_growth_is_that_of_the_time_when_everybody_is_at_work() -> None:
    # What is sent when the other lane has ended, and the rush at the beginning, are slow.
    short = [call(0, n, 9.0 if n == 0 else 0.1 + n / 100) for n in range(13)]
    long = [call(1, n, 9.0 if n in (0, *range(13, 30)) else 0.1 + n / 100) for n in range(30)]
    told = phase(short + long)
    early, late = told.thirds()
    assert taken(early) == [0.11, 0.12, 0.13, 0.14]
    assert taken(late) == [0.19, 0.20, 0.21, 0.22]
    assert grown(told, Random(0)) is None  # two blocks on each side are too few
    several = phase(*([*short, *long] for _ in range(4)))
    for n, group in enumerate(several.groups):
        object.__setattr__(group, "calls", tuple(_renamed(c, n) for c in group.calls))
    found = grown(several, Random(0))
    assert found is not None
    assert found.value == pytest.approx(0.205 / 0.125 - 1, rel=0.05)


def taken(several: list[Any]) -> list[float]:
    return sorted({round(took, 3) for block in several for _, took in block})


def _renamed(call: Timed, program: int) -> Timed:
    return Timed(program, *(getattr(call, name) for name in Timed.__slots__[1:]))


def test_a_program_falls_apart_into_what_each_agent_does() -> None:
    shared = Call("0.0", 0, "make", {}, "tok")
    unused = Call("0.1", 0, "make", {})
    mine = Call("0.2", 0, "use", {})
    theirs = Call("1.0", 1, "use", {"id": Ref("0.0", "id")}, "tok1")
    one, other = apart(Program(2, (shared, unused), ((mine,), (theirs,)), inflight=2))
    assert (one.agents, one.prefix, one.lanes) == (1, (), ((mine,),))
    assert other.prefix == (shared,)
    assert other.lanes == ((Call("1.0", 0, "use", {"id": Ref("0.0", "id")}, "tok1"),),)
    assert other.inflight == 2


# ------------------------------------------------------------------ the plan


def test_the_baseline_comes_first_and_the_probe_last() -> None:
    plan = legs((5, 20), 10, ("default", "production"), (5, 50), True)
    assert plan == [
        Leg(1, "default"),
        Leg(5, "default", own=True),
        Leg(20, "default"),
        Leg(1, "production"),
        Leg(5, "production"),
        Leg(5, "default", observed=True),
    ]
    assert [leg.name for leg in plan[3:]] == [
        "1 agent, production",
        "5 agents, production",
        "5 agents, with the probe",
    ]


# ------------------------------------------------------------------ the meeting


def test_lanes_begin_together_and_end_together() -> None:
    said: list[str] = []

    async def lane(meeting: Meeting, n: int, calls: int) -> None:
        scheduler = Abreast(meeting, {0: n}, lambda lane: said.append(f"answer {lane}"))
        for m in range(calls):
            await scheduler.admit(0, f"{m}")
            said.append(f"call {n}.{m}")
            await anyio.sleep(0.01 * (1 + n))
            scheduler.ended(0, f"{m}")
        scheduler.idle(0)
        await scheduler.finish()
        said.append(f"end {n}")

    async def main(rounds: bool) -> None:
        meeting = Meeting(
            (0, 1),
            rounds=rounds,
            opening=lambda: said.append("opening"),
            closing=lambda: said.append("closing"),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(lane, meeting, 0, 3)
            await anyio.sleep(0.02)
            assert said == []
            group.start_soon(lane, meeting, 1, 2)

    anyio.run(main, True)
    assert said[0] == "opening"
    calls = [line.removeprefix("call ") for line in said if line.startswith("call")]
    assert [set(calls[:2]), set(calls[2:4]), calls[4]] == [{"0.0", "1.0"}, {"0.1", "1.1"}, "0.2"]
    assert said[-3] == "closing"
    assert set(said[-2:]) == {"end 0", "end 1"}
    said.clear()
    anyio.run(main, False)
    calls = [line.removeprefix("call ") for line in said if line.startswith("call")]
    assert calls.index("0.1") < calls.index("1.1")  # nobody waits for anybody
    assert said.count("answer 0") == 3


def test_who_cannot_come_holds_nobody_up() -> None:
    said: list[str] = []

    async def main() -> None:
        meeting = Meeting(
            (0, 1),
            rounds=True,
            opening=lambda: said.append("opening"),
            closing=lambda: said.append("closing"),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(meeting.ready, 0)
            await anyio.sleep(0.01)
            meeting.leave(1)
        meeting.leave(0)
        meeting.leave(0)
        await meeting.over.wait()
        nobody = Meeting((0,), rounds=True, opening=lambda: None, closing=lambda: said.append("x"))
        nobody.leave(0)
        await nobody.over.wait()

    anyio.run(main)
    assert said == ["opening", "closing"]


# ------------------------------------------------------------------ the document


def whole(*phases: Measured, kept: tuple[Kept, ...] = ()) -> dict[str, Any]:
    return document(
        phases,
        seed=1,
        target={"name": "t"},
        machine={"cores": 2},
        settings=[Setting("default", "as installed", {}), Setting("fast", "faster", {"A": "1"})],
        kept=kept,
        unmeasured=[],
        stop="all phases done",
        class_of=class_of,
    )


def calls(seconds: float, lanes: int = 4, n: int = 20, tool: str = "t") -> list[Timed]:
    return [call(lane, m, seconds, tool) for lane in range(lanes) for m in range(n)]


def test_slowdown_is_against_one_agent_and_against_worlds_of_their_own() -> None:
    rows = slowdown(
        [
            phase(calls(0.1, lanes=1), agents=1),
            phase(calls(0.3), agents=4),
            phase(calls(0.2), agents=4, place=Placement.OWN),
        ],
        1,
    )
    assert [row["scenario"] for row in rows] == ["database", ALL]
    for row in rows:
        assert row["raw"]["value"] == pytest.approx(2.0)
        assert row["shared"]["value"] == pytest.approx(0.5)
        assert (row["agents"], row["n"], row["pairs"]) == (4, 80, 80)


def test_what_was_not_run_is_not_told() -> None:
    (row, _) = slowdown([phase(calls(0.3), agents=4)], 1)
    assert (row["raw"], row["shared"]) == (None, None)
    assert slowdown([phase(calls(0.3, lanes=1), agents=1)], 1) == []


def test_rates_count_each_kind_of_end() -> None:
    ends = [End.ANSWERED] * 5 + [End.REFUSED, End.SPURIOUS, End.TIMEOUT, End.LOCKED, End.DIED]
    told = phase([call(0, n, 0.1, end=end) for n, end in enumerate(ends)])
    (found,) = whole(told)["phases"]
    assert found["counts"] == {
        "errors": 4,
        "refusals": 2,
        "timeouts": 1,
        "locks": 1,
        "answered": 7,
    }
    assert found["rates"]["errors"] == 0.4
    assert found["throughput"] == 0.6  # six ended as they should, in ten seconds


def test_usage_is_summed_over_programs_and_its_peaks_are_not() -> None:
    use = Use(rss=100 << 20, server_rss=60 << 20, cpu=2.0, threads=3, descriptors=9, sent=5)
    less = Use(rss=50 << 20, server_rss=40 << 20, cpu=1.0, threads=7, descriptors=2, sent=6)
    told = phase(calls(0.1), calls(0.1))
    object.__setattr__(told.groups[0], "uses", {0: use})
    object.__setattr__(told.groups[1], "uses", {0: less})
    (found,) = whole(told)["phases"]
    assert found["usage"] == [
        {
            "agent": 0,
            "rss_mib": 100.0,
            "server_rss_mib": 60.0,
            "cpu_s": 3.0,
            "threads": 7,
            "descriptors": 9,
            "read_mib": 0.0,
            "written_mib": 0.0,
            "sent_bytes": 11,
            "received_bytes": 0,
        }
    ]
    assert found["rss_per_agent_mib"] == {"mean": 100.0, "max": 100.0}
    assert found["cpu_per_call"] == pytest.approx(3 / 160, abs=1e-4)


def test_memory_growth_is_by_calls() -> None:
    points = tuple((n, (50 << 20) + n * (1 << 19)) for n in range(1, 11))
    (found,) = whole(phase(calls(0.1), growth=(points,)))["phases"]
    assert found["rss_growth_mib_per_100_calls"] == pytest.approx(50.0)
    (found,) = whole(phase(calls(0.1)))["phases"]
    assert found["rss_growth_mib_per_100_calls"] is None


def test_storage_and_saturation_stand_beside_the_figures() -> None:
    told = phase(
        calls(0.1),
        calls(0.1),
        storage=Storage(10, 7, 3, 2, 400),
        load=Load(1.0, 2.0, 1.5, 0.1, 0.9, 4.0, 3 << 20, 4, 0.01),
    )
    found = whole(told)
    assert found["phases"][0]["storage"] == {
        "database_bytes": 20,
        "wal_bytes": 7,
        "log_bytes": 6,
        "git_objects": 4,
        "git_bytes": 800,
    }
    assert found["phases"][0]["saturation"] == {
        "cpu_mean": 0.75,
        "cpu_max": 0.9,
        "iowait_mean": 0.05,
        "load": 4.0,
        "memory_used_mib": 3,
    }
    assert found["sampling"] == {
        "looks": 8,
        "seconds_per_look": 0.0025,
        "share_of_a_core": 0.01,
    }


def test_above_five_agents_tools_are_told_by_class() -> None:
    mixed = calls(0.1, tool="goals_list") + calls(0.2, tool="goals_create")
    few, many = phase(mixed, agents=5), phase(mixed, agents=6)
    told = whole(few, many)["phases"]
    assert [tool["tool"] for tool in told[0]["tools"]] == ["goals_create", "goals_list"]
    assert [tool["tool"] for tool in told[1]["tools"]] == ["goals", "reads"]
    assert told[0]["classes"] == told[1]["tools"]


def test_phases_name_what_was_kept_of_their_findings(tmp_path: Path) -> None:
    minimal = FOUND.needing(("goals_create",))
    kept = (Kept(minimal, tmp_path, 3),)
    told = phase(calls(0.1), heads=(FOUND.fingerprint.head(),), undecided=("x: y",))
    found = whole(told, phase(calls(0.1)), kept=kept)
    assert found["phases"][0]["violations"] == [minimal.fingerprint.digest()]
    assert found["phases"][0]["undecided"] == 1
    assert found["phases"][1]["violations"] == []
    (entry,) = found["findings"]
    assert (entry["fingerprint"], entry["times"], entry["status"]) == (
        minimal.fingerprint.digest(),
        3,
        None,
    )
    assert entry["command"] == f"mcpconc replay {tmp_path}"


def test_settings_say_which_phases_are_theirs() -> None:
    found = whole(phase(calls(0.1)), phase(calls(0.1), settings="fast"))
    assert [(s["name"], s["phases"]) for s in found["settings"]] == [
        ("default", [0]),
        ("fast", [1]),
    ]


def test_what_there_are_too_few_calls_for_is_said_not_to_be_measured() -> None:
    said = whole(phase(calls(0.1)))["unmeasured"]
    assert {"what": "p95, p99 of database with 2 agents", "why": "n = 80"} in said
    assert any("inside the target" in line["what"] for line in said)


# ------------------------------------------------------------------ bottlenecks

COSTS = (
    Cost(
        "goals_create",
        {
            "statements": 1000,
            "sql_ns": 400 * MS,
            "schema": 900,
            "schema_ns": 300 * MS,
            "git": 20,
            "git_ns": 200 * MS,
            "imports": 5000,
            "import_ns": 5000 * MS,
            "nested": 10,
            "nested_ns": 8000 * MS,
        },
        calls=10,
        answered=10,
        ns=18_000 * MS,
    ),
    Cost("goals_list", {"imports": 5000, "import_ns": 5000 * MS}, 10, 10, 7_000 * MS),
    Cost(OUTSIDE, {"git": 1000, "git_ns": 9000 * MS}),
)


def test_bottlenecks_are_ranked_by_what_removing_them_would_save() -> None:
    found = bottlenecks(COSTS)
    assert [row["name"] for row in found] == [
        "start of a process",
        "nested commands",
        "schema statements",
        "git processes",
        "other statements",
    ]
    first = found[0]
    assert first["per_call"] == {"count": 500.0, "seconds": 0.5}
    assert first["share"] == 0.4  # of 1.25 s
    assert first["saves_at_most_s"] == 0.5
    schema, git, other = found[2:]
    assert git["per_call"] == {"count": 1.0, "seconds": 0.01}
    assert git["tools"] == ["goals_create"]
    assert git["by_tool"][0]["seconds"] == 0.02
    assert schema["per_call"]["count"] == 45.0
    assert other["per_call"] == {"count": 5.0, "seconds": 0.005}
    assert found[1]["within"]


def test_nothing_counted_is_no_bottleneck() -> None:
    assert bottlenecks(()) == []
    assert bottlenecks((Cost("goals_list", {}, 3, 3, 30 * MS),)) == []


def test_a_tool_of_several_phases_is_one() -> None:
    one, other = phase(calls(0.1)), phase(calls(0.1))
    one.inside = other.inside = COSTS
    found = whole(one, other)
    assert found["phases"][0]["inside"][0]["statements"] == 1000
    (first, *_) = found["bottlenecks"]
    assert first["tools"] == ["goals_create", "goals_list"]
    assert [row["calls"] for row in first["by_tool"]] == [20, 20]
    assert first["per_call"] == {"count": 500.0, "seconds": 0.5}
