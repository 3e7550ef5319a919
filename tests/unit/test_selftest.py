"""The self-test on scripted rigs: what becomes of a bug, and of a self-test with such bugs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import ledger
from fakes.rigs import Script
from mcpconc import selftest as selftests
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import FalseAlarm, InfraTrouble, PlantProgress, PlantState, PlantTried
from mcpconc.oracle import ORACLES
from mcpconc.oracle.base import Finding, Fingerprint
from mcpconc.program import Program
from mcpconc.reference.plants import PLANTS, SCHEDULE, Plant, plant
from mcpconc.selftest import CANARY, SelftestConfig, chosen, passing
from mcpconc.trace import load

LOST = Plant("lost-add", "lost update: column", "effects", "it is lost")
STALE = Plant("stale-read", "stale read", "order", "it is old")
NEEDY = Plant("fine-race", "race", "effects", "it is fine", needs=SCHEDULE)

Shows = Callable[[str, Program], Sequence[Finding]]
"""What a run shows of a bug of this name."""


def seen(program: Program, oracle: str = "effects") -> list[Finding]:
    """A finding on the first two concurrent calls, where there are two by different agents."""
    calls = [lane[0].id for lane in program.lanes if lane][:2]
    fingerprint = Fingerprint(oracle, "lost", "entry")
    return [Finding(fingerprint, "an entry is lost", calls=tuple(calls))] * (len(calls) == 2)


def on_all(name: str, program: Program) -> Sequence[Finding]:
    """Every bug is seen by the oracle of its row."""
    rows = {one.name: one for one in (LOST, STALE, NEEDY)}
    return seen(program, rows[name].oracle) if name else ()


class Selftest:
    """A self-test on a scripted rig, where each run takes a second."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = out
        self.events: list[Any] = []
        self.script = Script().take_over(monkeypatch, selftests)

    def run(self, shows: Shows, *plants: Plant, watch: Any = None, **config: Any) -> Any:
        self.script.shows = lambda program: shows(self.script.target.plant, program)

        def emit(event: Any) -> None:
            self.events.append(event)
            if watch is not None:
                watch(event)

        given: dict[str, Any] = {
            "silent": 3,
            "runs": 10,
            "batches": 1,  # to write programs takes longest here
            "machine": ledger.AddMachine,
            "clock": self.script.clock,
            **config,
        }
        return anyio.run(
            selftests.selftest, SelftestConfig(out=self.out, plants=plants, **given), emit
        )

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def selftest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Selftest:
    return Selftest(tmp_path / "out", monkeypatch)


# ------------------------------------------------------------------ what becomes of a bug


def test_a_bug_that_the_right_oracle_sees_is_caught_and_minimised(selftest: Selftest) -> None:
    done = selftest.run(on_all, LOST)
    (tried,) = done.tried
    assert (done.exit, tried.state) == (Exit.PASSED, PlantState.CAUGHT)
    assert (tried.runs, tried.seen, tried.left, tried.label) == (1, ("effects",), 2, "race")
    assert tried.calls > tried.left


def test_without_shrinking_it_is_enough_that_it_is_caught(selftest: Selftest) -> None:
    done = selftest.run(on_all, LOST, shrink=False)
    (tried,) = done.tried
    assert (done.exit, tried.state, tried.left) == (Exit.PASSED, PlantState.CAUGHT, 0)
    assert tried.trace is not None
    assert load(tried.trace).program.concurrent() > 2


def test_its_minimal_trace_is_kept_under_its_name(selftest: Selftest) -> None:
    (tried,) = selftest.run(on_all, LOST).tried
    assert tried.trace == selftest.out / "traces" / "lost-add"
    trace = load(tried.trace)
    assert trace.program.concurrent() == 2
    assert trace.finding is not None


def test_a_bug_that_nobody_sees_has_escaped(selftest: Selftest) -> None:
    done = selftest.run(lambda name, program: (), LOST)
    assert done.exit is Exit.VIOLATION
    assert [(t.state, t.runs, t.left, t.trace) for t in done.tried] == [
        (PlantState.ESCAPED, 10, 0, None)
    ]


def test_a_bug_that_only_another_oracle_sees_is_not_caught(selftest: Selftest) -> None:
    done = selftest.run(lambda name, program: seen(program, "isolation") if name else (), LOST)
    (tried,) = done.tried
    assert (done.exit, tried.state) == (Exit.VIOLATION, PlantState.WRONG_ORACLE)
    assert tried.seen == ("isolation",)
    assert tried.trace is not None
    assert load(tried.trace).shrink.finished is False  # type: ignore[union-attr]


def test_a_program_that_stays_large_is_not_minimal(selftest: Selftest) -> None:
    def only_whole(name: str, program: Program) -> Sequence[Finding]:
        return seen(program) if name and program.concurrent() > 6 else ()

    done = selftest.run(only_whole, LOST, calls=24)
    assert done.exit is Exit.VIOLATION
    assert [(t.state, t.left) for t in done.tried] == [(PlantState.NOT_MINIMAL, 7)]


def test_what_does_not_come_back_is_looked_for_in_another_program(selftest: Selftest) -> None:
    runs = count(1)

    def rarely_at_first(name: str, program: Program) -> Sequence[Finding]:
        return seen(program) if name and (next(runs) == 1 or next(runs) > 60) else ()

    done = selftest.run(rarely_at_first, LOST, runs=60)
    assert [(t.state, t.runs, t.left) for t in done.tried] == [(PlantState.CAUGHT, 1, 2)]


def test_a_bug_that_needs_a_schedule_may_escape(selftest: Selftest) -> None:
    done = selftest.run(lambda name, program: (), NEEDY)
    assert (done.exit, done.tried[0].state) == (Exit.PASSED, PlantState.EXCUSED)


def test_and_is_caught_where_luck_has_it(selftest: Selftest) -> None:
    assert selftest.run(on_all, NEEDY).tried[0].state is PlantState.CAUGHT


def test_all_oracles_that_saw_something_are_told(selftest: Selftest) -> None:
    def both(name: str, program: Program) -> Sequence[Finding]:
        return [*seen(program, "order"), *seen(program)] if name else ()

    (tried,) = selftest.run(both, LOST).tried
    assert (tried.state, tried.seen) == (PlantState.CAUGHT, ("order", "effects"))


# ------------------------------------------------------------------ the correct server


def test_a_finding_on_the_correct_server_is_a_false_alarm(selftest: Selftest) -> None:
    def always(name: str, program: Program) -> Sequence[Finding]:
        return seen(program)

    done = selftest.run(always, LOST)
    assert done.exit is Exit.VIOLATION
    assert done.tried[0].state is PlantState.CAUGHT
    assert [alarm.text for alarm in done.alarms] == [
        "effects: lost entry: an entry is lost"
    ] * done.silent
    assert load(done.alarms[0].path).verdict.name == "VIOLATION"


def test_so_is_a_doubt(selftest: Selftest) -> None:
    selftest.script.undecided = lambda program: ("too hard",)
    done = selftest.run(lambda name, program: (), silent=1)
    assert (done.exit, done.silent) == (Exit.VIOLATION, 1)
    assert selftest.of(FalseAlarm) == [FalseAlarm("undecided: effects: too hard")]


def test_after_each_bug_its_program_is_run_without_it(selftest: Selftest) -> None:
    runs: list[tuple[str, str]] = []

    def record(name: str, program: Program) -> Sequence[Finding]:
        runs.append((name, program.digest()))
        return on_all(name, program)

    done = selftest.run(record, LOST, STALE)
    assert [name for name, _ in runs[:3]] == [""] * 3
    switched_off = [n for n, (name, _) in enumerate(runs) if n > 3 and not name]
    assert len(switched_off) == 2
    assert done.silent == 5
    for n in switched_off:
        assert runs[n][1] in [digest for name, digest in runs[:n] if name]


# ------------------------------------------------------------------ budgets and ends


def test_no_bug_eats_the_time_of_the_others(selftest: Selftest) -> None:
    done = selftest.run(lambda n, p: (), *[LOST, STALE] * 4, budget=160, runs=10_000, silent=0)
    assert {t.state for t in done.tried} == {PlantState.OUT_OF_TIME}
    assert done.exit is Exit.INCONCLUSIVE
    assert min(tried.runs for tried in done.tried) >= 5


def test_what_was_not_reached_is_not_run(selftest: Selftest) -> None:
    done = selftest.run(on_all, LOST, STALE, budget=2)  # the correct server takes three seconds
    assert [t.state for t in done.tried] == [PlantState.NOT_RUN] * 2
    assert (done.exit, done.silent) == (Exit.INCONCLUSIVE, 3)


def test_an_interrupt_keeps_what_is_known(selftest: Selftest) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, PlantProgress) and event.name == STALE.name:
            os.kill(os.getpid(), signal.SIGINT)

    done = selftest.run(on_all, LOST, STALE, watch=interrupt)
    assert (done.exit, done.stop) == (Exit.INTERRUPTED, "interrupted")
    assert [t.state for t in done.tried] == [PlantState.CAUGHT, PlantState.NOT_RUN]
    assert selftest.events[-1] is done


def test_a_server_that_comes_up_again_is_trouble_and_no_verdict(selftest: Selftest) -> None:
    failures = iter([True])

    def once(name: str, program: Program) -> Sequence[Finding]:
        if name and next(failures, False):
            raise TargetError("agent 0 does not come up")
        return on_all(name, program)

    done = selftest.run(once, LOST)
    assert (done.exit, done.infra) == (Exit.PASSED, 1)
    assert len(selftest.of(InfraTrouble)) == 1


def test_servers_that_do_not_come_up_are_no_verdict_either(selftest: Selftest) -> None:
    def never(name: str, program: Program) -> Sequence[Finding]:
        if name == STALE.name:
            raise TargetError("agent 0 does not come up")
        return on_all(name, program)

    done = selftest.run(never, LOST, STALE)
    assert done.exit is Exit.TARGET
    assert [t.state for t in done.tried] == [PlantState.CAUGHT, PlantState.NOT_RUN]
    assert "agent 0 does not come up" in done.stop


# ------------------------------------------------------------------ several seeds


def test_each_seed_tries_every_bug_with_other_programs(selftest: Selftest) -> None:
    done = selftest.run(on_all, LOST, STALE, seed=7, seeds=3, silent=1)
    assert [(t.name, t.seed) for t in done.tried] == [
        (name, seed) for seed in (7, 8, 9) for name in ("lost-add", "stale-read")
    ]
    programs = {program.digest() for _, program, _, _ in selftest.script.ran}
    assert len(programs) > 3


@pytest.mark.parametrize(("caught", "of", "enough"), [(1, 1, True), (9, 10, True), (8, 10, False)])
def test_nine_of_ten_seeds_are_enough(caught: int, of: int, enough: bool) -> None:
    one = PlantTried(name="lost-add", kind="", oracle="effects", state=PlantState.CAUGHT, seed=0)
    escaped = replace(one, state=PlantState.ESCAPED)
    assert passing([one] * caught + [escaped] * (of - caught)) is enough


def test_one_escape_in_ten_passes(selftest: Selftest) -> None:
    def unless_it_is_seed_0(name: str, program: Program) -> Sequence[Finding]:
        seeds = {event.seed for event in selftest.of(PlantProgress)}
        return on_all(name, program) if len(seeds) > 1 else ()

    done = selftest.run(unless_it_is_seed_0, LOST, seeds=10, silent=0, runs=2)
    assert [t.state for t in done.tried].count(PlantState.ESCAPED) == 1
    assert done.exit is Exit.PASSED


# ------------------------------------------------------------------ which bugs


def test_bugs_are_chosen_by_name_class_or_oracle() -> None:
    assert [one.name for one in chosen(["equal-rounds"])] == ["equal-rounds"]
    assert {one.kind for one in chosen(["Dirty read"])} == {"dirty read"}
    assert len(chosen(["lost update"])) > len(chosen(["lost update: file"])) == 1
    assert {one.oracle for one in chosen(["order"])} == {"order"}
    assert len(chosen(["order", "equal-rounds"])) == len(chosen(["order"]))


def test_a_word_that_names_nothing_is_refused_with_what_is_near() -> None:
    with pytest.raises(UsageError, match=r"'equal-round'; did you mean equal-rounds"):
        chosen(["equal-round"])
    with pytest.raises(UsageError, match="mcpconc list"):
        chosen(["zzzzzz"])


def test_every_oracle_has_a_bug_that_it_must_catch() -> None:
    assert {one.oracle for one in PLANTS} >= {name for name, _ in ORACLES}


def test_the_canary_is_of_different_oracles() -> None:
    oracles = [plant(name).oracle for name in CANARY]
    assert len(set(oracles)) == len(oracles) >= 4
