"""What a campaign keeps: one trace per distinct finding, the smallest program known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes.rigs import Script, ScriptedRig
from mcpconc.events import FindingFound, TraceSaved
from mcpconc.keep import Keeper
from mcpconc.oracle.base import UNPROMISED, Finding, Fingerprint, Label
from mcpconc.program import Call, Fault, Program
from mcpconc.target.base import Identity
from mcpconc.trace import load

Shows = Callable[[Program], Sequence[Finding]]


def program(*lanes: str) -> Program:
    """``program("add read", "add")``: two agents, the first makes two calls."""
    calls = [
        tuple(Call(f"{agent}.{n}", agent, tool, {}) for n, tool in enumerate(lane.split()))
        for agent, lane in enumerate(lanes)
    ]
    return Program(len(lanes), lanes=tuple(calls))


def overlapping(program: Program, tool: str) -> list[Call]:
    """Calls of this tool in the concurrent part, if two agents make them."""
    calls = [c for lane in program.lanes for c in lane if c.tool == tool]
    return calls if len({c.agent for c in calls}) > 1 else []


def found(calls: Sequence[Call], property: str = "lost", oracle: str = "effects") -> Finding:
    fingerprint = Fingerprint(oracle, property, "entry")
    return Finding(fingerprint, "it is wrong", calls=tuple(c.id for c in calls))


def adds_race(program: Program) -> list[Finding]:
    racing = overlapping(program, "add")
    return [found(racing)] if racing else []


class Notebook:
    """A keeper, and runs for it on a scripted rig."""

    def __init__(self, directory: Path, shows: Shows) -> None:
        self.script = Script(shows)
        self.rig: Any = ScriptedRig(self.script, Identity.EXPLICIT)
        self.told: list[Any] = []
        self.keeper = Keeper(directory / "traces", 7, self.told.append, self.script.clock)

    def run(self, *programs: Program) -> Notebook:
        for one in programs:
            self.keeper.note(self.rig, anyio.run(self.rig.run, one, "barrier", 1))
        return self

    def minimise(self, limit: float = math.inf, times: int = 99) -> Notebook:
        while self.keeper.pending and times:
            anyio.run(self.keeper.minimise_next, limit)
            times -= 1
        return self

    @property
    def kept(self) -> list[tuple[str, str, int]]:
        """(fingerprint, label, times) of each finding."""
        return [
            (str(k.finding.fingerprint), k.finding.label.value, k.times) for k in self.keeper.kept()
        ]

    @property
    def traces(self) -> list[Path]:
        return sorted(self.keeper.directory.iterdir())


def test_a_new_finding_is_on_disk_at_once(tmp_path: Path) -> None:
    book = Notebook(tmp_path, adds_race).run(program("add read", "add"))
    assert [type(event) for event in book.told] == [FindingFound, TraceSaved]
    (trace,) = book.traces
    assert load(trace).program == program("add read", "add")
    assert load(trace).seed == 7


def test_the_trace_of_the_minimal_program_takes_its_place(tmp_path: Path) -> None:
    book = Notebook(tmp_path, adds_race).run(program("add read", "add")).minimise()
    assert book.kept == [("effects: lost entry (add ‖ add)", "race", 1)]
    (trace,) = book.traces
    assert load(trace).program.concurrent() == 2
    (kept,) = book.keeper.kept()
    assert (kept.path, kept.from_calls, kept.to_calls) == (trace, 3, 2)


def test_what_is_known_is_counted(tmp_path: Path) -> None:
    book = Notebook(tmp_path, adds_race)
    book.run(program("add", "add"), program("add read", "add")).minimise()
    book.run(program("add", "add read"))
    assert book.kept == [("effects: lost entry (add ‖ add)", "race", 3)]
    assert len(book.traces) == 1


def struck(one: Program, *faults: str) -> Program:
    """The program with these faults at its first call."""
    return replace(one, faults=tuple(Fault(name, "0.0", 0.5, 1) for name in faults))


def test_a_fault_that_a_finding_needs_is_part_of_what_it_is(tmp_path: Path) -> None:
    def lost_when_full(program: Program) -> list[Finding]:
        full = any(fault.name == "full-disk" for fault in program.faults)
        return [found([c for c in program.calls() if c.tool == "add"])] if full else []

    book = Notebook(tmp_path, lost_when_full)
    book.run(struck(program("add read", "add"), "full-disk", "hold-lock")).minimise()
    assert book.kept == [("effects: lost entry (add under full-disk)", "sequential", 1)]


def test_what_is_there_without_a_fault_is_another_finding(tmp_path: Path) -> None:
    def of_two_kinds(program: Program) -> list[Finding]:
        racing = overlapping(program, "add")
        return [found(racing)] if racing and (program.faults or len(racing) > 2) else []

    book = Notebook(tmp_path, of_two_kinds)
    book.run(struck(program("add", "add"), "full-disk")).minimise()
    book.run(program("add", "add", "add")).minimise()
    assert book.kept == [
        ("effects: lost entry (add ‖ add under full-disk)", "race", 1),
        ("effects: lost entry (add ‖ add ‖ add)", "race", 1),
    ]
    book.run(struck(program("add read", "add"), "full-disk"))
    assert [times for *_, times in book.kept] == [2, 1]


def test_two_findings_that_turn_out_to_be_one(tmp_path: Path) -> None:
    def blames_reads(program: Program) -> list[Finding]:
        racing = overlapping(program, "add")
        reads = [c for lane in program.lanes for c in lane if c.tool == "read"]
        return [found(reads or racing)] if racing else []

    book = Notebook(tmp_path, blames_reads).run(program("add", "add")).minimise()
    book.run(program("add read", "add"))
    assert len(book.traces) == 2
    book.minimise()
    assert book.kept == [("effects: lost entry (add ‖ add)", "race", 2)]
    assert len(book.traces) == 1


def test_three_of_one_kind_are_enough(tmp_path: Path) -> None:
    def of_any_tool(program: Program) -> list[Finding]:
        tools = {c.tool for c in program.calls()}
        return [found(racing) for tool in tools if (racing := overlapping(program, tool))]

    book = Notebook(tmp_path, of_any_tool)
    for tool in "abcde":
        book.run(program(tool, tool)).minimise()
    assert [times for *_, times in book.kept] == [1, 1, 3]
    assert len(book.traces) == 3


def test_other_symptoms_of_a_race_share_its_minimal_program(tmp_path: Path) -> None:
    def twofold(program: Program) -> list[Finding]:
        racing = overlapping(program, "add")
        return [found(racing), found(racing, "tie", "order")] if racing else []

    book = Notebook(tmp_path, twofold).run(program("add read", "add")).minimise(times=1)
    assert not book.keeper.pending
    assert book.kept == [
        ("effects: lost entry (add ‖ add)", "race", 1),
        ("order: tie entry (add ‖ add)", "race", 1),
    ]
    assert [load(trace).program.concurrent() for trace in book.traces] == [2, 2]


def test_what_one_agent_alone_shows_as_well_is_no_symptom_of_the_race(tmp_path: Path) -> None:
    def always_wrong(program: Program) -> list[Finding]:
        adds = [c for c in program.calls() if c.tool == "add"]
        return [*adds_race(program), *([found(adds, "late", "order")] if adds else [])]

    book = Notebook(tmp_path, always_wrong).run(program("add", "add")).minimise()
    assert book.kept == [
        ("effects: lost entry (add ‖ add)", "race", 1),
        ("order: late entry (add)", "sequential", 1),
    ]


def test_a_quirk_is_kept_once_and_not_minimised(tmp_path: Path) -> None:
    def quirk(program: Program) -> list[Finding]:
        return [replace(found(list(program.calls())), label=Label.SEQUENTIAL)]

    book = Notebook(tmp_path, quirk).run(program("add"), program("bump"), program("add bump"))
    assert not book.keeper.pending
    assert book.kept == [("effects: lost entry", "sequential", 3)]
    assert len(book.traces) == 1


def test_what_comes_back_easily_is_minimised_first(tmp_path: Path) -> None:
    def by_tool(program: Program) -> list[Finding]:
        return [
            found(racing, tool)
            for tool in ("add", "bump")
            if (racing := overlapping(program, tool))
        ]

    book = Notebook(tmp_path, by_tool)
    book.run(program("add", "add"), program("bump", "bump"), program("bump", "bump"))
    book.minimise(times=1)
    labels = {k.finding.fingerprint.property: k.finding.label for k in book.keeper.kept()}
    assert labels == {"bump": Label.RACE, "add": Label.UNLABELLED}


def test_what_was_met_on_a_rig_that_is_closed_stays_as_it_is(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, adds_race).run(program("add", "add"))
    notebook.keeper.closed(object())  # type: ignore[arg-type]
    assert notebook.keeper.pending
    notebook.keeper.closed(notebook.rig)
    assert not notebook.keeper.pending
    assert [label for _, label, _ in notebook.kept] == ["unlabelled"]


def test_what_is_new_is_minimised_before_more_of_a_kind(tmp_path: Path) -> None:
    def by_tool(program: Program) -> list[Finding]:
        return [
            found(racing, "tie" if tool == "c" else "lost")
            for tool in "abc"
            if (racing := overlapping(program, tool))
        ]

    book = Notebook(tmp_path, by_tool)
    book.run(program("a", "a")).minimise()
    book.run(program("b", "b"), program("b", "b"), program("c", "c")).minimise(times=1)
    assert [(what, label) for what, label, _ in book.kept] == [
        ("effects: lost entry (a ‖ a)", "race"),
        ("effects: tie entry (c ‖ c)", "race"),
        ("effects: lost entry", "unlabelled"),
    ]


@pytest.mark.parametrize(
    ("limit", "others", "spent"),
    [(100, 0, 90), (200, 0, 100), (200, 1, 100), (300, 2, 100), (300, 9, 90)],
)
def test_nobody_waits_for_a_race_that_seldom_comes_back(
    tmp_path: Path, limit: int, others: int, spent: int
) -> None:
    lanes = (" ".join(["add"] * 8), " ".join(["add"] * 8))

    def only_as_a_whole(program: Program) -> list[Finding]:
        racing = overlapping(program, "add")
        return [found(racing, str(n)) for n in range(1 + others) if len(racing) == 16]

    book = Notebook(tmp_path, only_as_a_whole).run(program(*lanes)).minimise(limit, times=1)
    assert spent <= book.keeper.spent <= spent + 3


def test_what_nothing_promised_is_minimised_last(tmp_path: Path) -> None:
    def both(program: Program) -> list[Finding]:
        return [
            found(racing, what)
            for tool, what in (("a", UNPROMISED), ("b", "lost"))
            if (racing := overlapping(program, tool))
        ]

    book = Notebook(tmp_path, both)
    book.run(program("a", "a"), program("a", "a"), program("b", "b")).minimise(times=1)
    labels = {k.finding.fingerprint.property: k.finding.label for k in book.keeper.kept()}
    assert labels == {"lost": Label.RACE, UNPROMISED: Label.UNLABELLED}


def test_time_is_counted_also_when_minimising_fails(tmp_path: Path) -> None:
    def once(program: Program) -> list[Finding]:
        if len(book.script.ran) > 1:
            raise ZeroDivisionError
        return adds_race(program)

    book = Notebook(tmp_path, once)
    book.run(program("add", "add"))
    with pytest.raises(ZeroDivisionError):
        book.minimise()
    assert book.keeper.spent == 1
    assert len(book.traces) == 1


def test_what_was_seen_once_waits_until_it_is_late(tmp_path: Path) -> None:
    def racing(program: Program) -> list[Finding]:
        calls = overlapping(program, "add")
        return [found(calls, "0")] if len(calls) > 1 else []

    book = Notebook(tmp_path, racing).run(program("add", "add"))
    assert not book.keeper.ready(late=False)
    assert book.keeper.ready(late=True)
    book.run(program("add add", "add"))
    assert book.keeper.ready(late=False)


def test_it_is_known_when_a_finding_was_first_met(tmp_path: Path) -> None:
    book = Notebook(tmp_path, adds_race)
    book.script.clock.now = 100.0
    book.keeper.began = 90.0
    book.run(program("add", "add"), program("add", "add", "read")).minimise()
    (kept,) = book.keeper.kept()
    assert kept.met == 10.0 + book.script.seconds
    assert book.script.clock.now > 90.0 + kept.met


def test_of_two_that_turn_out_to_be_one_the_earlier_time_counts(tmp_path: Path) -> None:
    def shows(program: Program) -> list[Finding]:
        racing = overlapping(program, "add")
        reading = [c for lane in program.lanes for c in lane if c.tool == "read"]
        return [found([*racing, *reading])] if racing else []

    book = Notebook(tmp_path, shows)
    book.run(program("add", "add"), program("add read", "add")).minimise()
    (kept,) = book.keeper.kept()
    assert kept.met == book.script.seconds
