"""What a gate makes of what its stages found: verdict, baseline, thresholds, vacuity."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gated import latency, phase
from mcpconc import accept, stages
from mcpconc import gate as gates
from mcpconc.baseline import Baseline, Tolerated, read
from mcpconc.errors import Exit, TargetError, UsageError
from mcpconc.events import CampaignFinished, PlantState, PlantTried, SelftestFinished
from mcpconc.gate import GateConfig, Gated, gate
from mcpconc.known import Met, entry_of
from mcpconc.oracle.base import Finding, Fingerprint, Label
from mcpconc.oracle.toll import Toll
from mcpconc.program import Fault
from mcpconc.settings import Canary, Faults, Floors, Fuzz, Replays, Settings, Stress
from mcpconc.stages import Gate
from mcpconc.target.base import Identity
from mcpconc.trace import Shrink
from samples import lost_task

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PAIR = ("session_create", "session_create")
RACE = Finding(Fingerprint("effects", "open", "session", "", PAIR), "it is open", label=Label.RACE)
THRESHOLDS = ("calls.p95 < 2s", "violations.new == 0")
LOAD = {"phases": [phase(latency=latency(p95=1.5))]}

Does = Callable[[Gate], None]


def quietly(event: Any) -> None:
    """Nobody listens."""


def busy(work: Gate) -> None:
    """Enough was done that something could have failed."""
    work.seen.programs = 20
    work.seen.tools.update({f"tool{n}": 1 for n in range(10)})
    work.seen.pairs = {(f"tool{n}", "tool0") for n in range(20)}
    work.parts.update(LOAD)


def run(
    *does: Does,
    out: Path = Path("out"),
    baseline: Baseline = Baseline(),  # noqa: B008
    skip: Sequence[str] = (),
    **given: Any,
) -> Gated:
    """A gate of one stage that does these things."""

    async def stage(work: Gate) -> None:
        for do in does or (busy,):
            do(work)
        for _ in range(10):  # as in a real stage, there is time to hear a signal
            await anyio.lowlevel.checkpoint()

    settings = Settings(target="reference", start="ordinary", **{"thresholds": THRESHOLDS, **given})
    config = GateConfig(
        out=out,
        settings=settings,
        baseline=baseline,
        skip=frozenset(skip),
        stages={"stress": stage},
        clock=lambda: 5.0,
        now=lambda: NOW,
    )
    done = anyio.run(gate, config, quietly)
    json.dumps(done.document)
    return done


def finds(finding: Finding = RACE, **more: Any) -> Does:
    def do(work: Gate) -> None:
        work.found.append(Met(finding, Path("out/traces/open"), **more))

    return do


@pytest.fixture
def known(tmp_path: Path) -> Baseline:
    """A file that lists `RACE`, with a trace of it."""
    trace = replace(
        lost_task(), findings=(RACE,), shrink=Shrink(finished=True, failed=5, of=5)
    ).save(tmp_path / "traces" / "open")
    entry = entry_of(replace(lost_task(), findings=(RACE,)), "traces/open", "it is known")
    entry = replace(entry, failed=5, of=5)
    assert trace.is_dir()
    return Baseline(tmp_path / "baseline.toml", (entry,))


# ------------------------------------------------------------------ verdicts


def test_it_passes() -> None:
    done = run()
    assert (done.exit, done.document["passed"]) == (Exit.PASSED, True)
    assert done.document["stop"] == "all that was asked holds"
    assert [t["passed"] for t in done.document["thresholds"]] == [True, True]


def test_the_document_says_where_it_comes_from() -> None:
    document = run().document
    assert (document["mcpconc_summary"], document["kind"]) == (1, "gate")
    assert document["made_by"]["began"] == "2026-11-30T12:00:00+00:00"
    assert document["profile"]["agents"] == 5
    assert document["profile"]["budget"]["all"] > 0
    assert document["target"]["spec"] == "reference"


def test_a_new_finding_fails() -> None:
    done = run(busy, finds())
    assert done.exit == Exit.VIOLATION
    assert done.document["stop"] == "1 new finding, 1 threshold missed"
    (finding,) = done.document["findings"]
    assert (finding["status"], finding["listed_as"]) == ("new", None)
    assert finding["fingerprint"] == RACE.fingerprint.digest()
    assert finding["command"] == "mcpconc replay out/traces/open --times 10"


def test_a_finding_that_is_listed_passes(known: Baseline) -> None:
    done = run(busy, finds(), baseline=known)
    assert done.exit == Exit.PASSED
    assert [f["status"] for f in done.document["findings"]] == ["known"]
    assert [e["status"] for e in done.document["baseline"]] == ["found"]


def test_one_that_is_not_minimal_is_the_one_that_is_listed(known: Baseline) -> None:
    vague = replace(RACE, fingerprint=replace(RACE.fingerprint, tools=()))
    involved = ("note", "session_create")
    assert run(busy, finds(vague, involved=involved), baseline=known).exit == Exit.PASSED
    assert run(busy, finds(vague, involved=("note",)), baseline=known).exit == Exit.VIOLATION


def test_a_mistake_of_ours_leaves_what_was_found_before() -> None:
    def breaks(work: Gate) -> None:
        raise ExceptionGroup("", [RuntimeError("no such group")])

    done = run(busy, finds(), breaks)
    assert done.exit == Exit.BUG
    assert done.document["stop"] == "stress: a bug in mcpconc: RuntimeError('no such group')"
    assert [f["status"] for f in done.document["findings"]] == ["new"]
    assert isinstance(done.failure, ExceptionGroup)
    assert run().failure is None


def test_phases_name_a_finding_as_the_list_of_findings_does(known: Baseline) -> None:
    vague = replace(RACE, fingerprint=replace(RACE.fingerprint, tools=()))
    digests = [f.fingerprint.digest() for f in (vague, RACE)]

    def both(work: Gate) -> None:
        work.parts["phases"] = [{**LOAD["phases"][0], "violations": digests}]

    involved = ("note", "session_create")
    done = run(busy, finds(vague, involved=involved), finds(), both, baseline=known)
    (finding,) = done.document["findings"]
    assert (finding["fingerprint"], finding["title"]) == (digests[1], RACE.fingerprint.title())
    assert finding["tools"] == [*PAIR]
    assert done.document["phases"][0]["violations"] == [digests[1]]


def test_the_same_finding_twice_is_one() -> None:
    done = run(busy, finds(times=2), finds(times=3))
    assert [f["times"] for f in done.document["findings"]] == [5]


def test_what_only_forked_calls_showed_is_left_open() -> None:
    done = run(busy, finds(counts=False))
    assert done.exit == Exit.INCONCLUSIVE
    assert done.document["stop"] == "1 finding seen with forked calls only"
    assert run(busy, finds(counts=False), finds()).exit == Exit.VIOLATION


def replayed(known: Baseline, failed: int, of: int) -> Does:
    def do(work: Gate) -> None:
        work.replayed[known.findings[0].fingerprint] = (failed, of)

    return do


def test_an_entry_that_never_fails_again_is_stale(known: Baseline) -> None:
    done = run(busy, replayed(known, 0, 15), baseline=known)
    assert (done.exit, done.document["stop"]) == (Exit.VIOLATION, "1 stale entry")
    assert done.document["baseline"][0]["why"].startswith("0 of 15 replays failed")


def test_an_entry_that_was_replayed_too_seldom_is_not_judged(known: Baseline) -> None:
    done = run(busy, replayed(known, 0, 14), baseline=known)
    assert done.exit == Exit.PASSED
    (entry,) = done.document["baseline"]
    assert (entry["status"], entry["why"]) == (
        "not judged",
        "0 of 14 replays failed; 15 would tell",
    )


def test_an_entry_without_a_trace_is_stale(known: Baseline) -> None:
    (entry,) = known.findings
    gone = replace(known, findings=(replace(entry, trace="traces/gone"),))
    done = run(busy, finds(), baseline=gone)
    assert done.exit == Exit.VIOLATION
    assert done.document["baseline"][0]["why"].startswith("no trace at ")


def test_an_entry_expires(known: Baseline) -> None:
    (entry,) = known.findings
    for day, wanted in ((30, Exit.PASSED), (29, Exit.VIOLATION)):
        old = replace(entry, expires=NOW.date().replace(day=day))
        done = run(busy, finds(), baseline=replace(known, findings=(old,)))
        assert done.exit == wanted
    assert done.document["stop"] == "1 expired entry"


# ------------------------------------------------------------------ thresholds


def test_a_threshold_that_is_missed_fails() -> None:
    done = run(thresholds=("calls.p95 < 1s",))
    assert (done.exit, done.document["stop"]) == (Exit.VIOLATION, "1 threshold missed")
    (told,) = done.document["thresholds"]
    assert (told["expr"], told["passed"], told["actual"], told["limit"]) == (
        "calls.p95 < 1s",
        False,
        1.5,
        1.0,
    )


@pytest.mark.parametrize(
    ("value", "day", "exit", "why"),
    [
        (1.4, 30, Exit.PASSED, None),
        (1.3, 30, Exit.VIOLATION, "the baseline accepts 1.3, and 10% more or less; it is worse"),
        (1.4, 29, Exit.VIOLATION, "the baseline accepted it until 2026-11-29"),
    ],
)
def test_a_miss_may_be_listed_with_value_and_tolerance(
    value: float, day: int, exit: Exit, why: str | None
) -> None:
    tolerated = Tolerated(
        expr="calls.p95<1s",
        value=value,
        tolerance=0.1,
        reason="slow",
        expires=NOW.date().replace(day=day),
    )
    done = run(thresholds=("calls.p95 < 1s",), baseline=Baseline(None, (), (tolerated,)))
    (told,) = done.document["thresholds"]
    assert (done.exit, told["passed"], told["why"]) == (exit, False, why)
    assert (told["listed"] is None) is (exit == Exit.VIOLATION)


def test_what_was_not_measured_is_inconclusive() -> None:
    wanted = ("calls.p95(10) < 2s",)
    done = run(thresholds=wanted)
    assert (done.exit, done.document["stop"]) == (Exit.INCONCLUSIVE, "1 threshold not measured")


# ------------------------------------------------------------------ vacuity


def test_a_run_that_did_nothing_is_no_pass() -> None:
    done = run(lambda work: None, thresholds=())
    assert done.exit == Exit.INCONCLUSIVE
    assert done.document["vacuous"] == ["no program was run: neither fuzzing nor stress"]


@pytest.mark.parametrize(
    ("floors", "said"),
    [
        ({"programs": 21}, "programs with a verdict 20 is below 21"),
        ({"tools": 11}, "tools called 10 is below 11"),
        ({"pairs": 21}, "pairs of tools in flight at once 20 is below 21"),
        ({"overlap": 3.5}, "overlap.avg 3 of stress is below 3.5"),
    ],
)
def test_below_a_floor_it_is_vacuous(floors: dict[str, Any], said: str) -> None:
    done = run(floors=Floors(**floors))
    assert (done.exit, done.document["vacuous"]) == (Exit.INCONCLUSIVE, [said])
    assert done.document["stop"] == f"vacuous: {said}"
    assert run().document["vacuous"] == []


def test_programs_that_were_not_decided_do_not_count() -> None:
    def undecided(work: Gate) -> None:
        work.seen.undecided = 17

    assert "programs with a verdict 3 is below 5" in run(busy, undecided).document["vacuous"]


def test_fuzzing_without_overlap_is_vacuous() -> None:
    def fuzzed(work: Gate) -> None:
        work.parts["fuzz"] = {
            "programs": 20,
            "undecided": 0,
            "overlap": {"mean": 1.0, "max": 1},
        }

    assert run(busy, fuzzed).document["vacuous"] == ["overlap.avg 1 of fuzz is below 1.2"]


def test_a_violation_counts_more_than_vacuity() -> None:
    assert run(finds(), floors=Floors(programs=99)).exit == Exit.VIOLATION


# ------------------------------------------------------------------ ends


def test_stages_that_are_left_out_are_named() -> None:
    done = run(skip=["stress"], thresholds=THRESHOLDS)
    assert done.document["skipped"] == ["stress"]
    assert [t["why"] for t in done.document["thresholds"]] == [
        "not measured: stress was left out (--skip stress)"
    ] * 2


def test_an_unusable_target_ends_it_with_what_is_known() -> None:
    def breaks(work: Gate) -> None:
        raise TargetError("it does not start")

    done = run(busy, finds(), breaks)
    assert (done.exit, done.document["stop"]) == (Exit.TARGET, "stress: it does not start")
    assert len(done.document["findings"]) == 1


def test_a_signal_ends_it_with_what_is_known() -> None:
    def interrupted(work: Gate) -> None:
        signal.raise_signal(signal.SIGINT)

    done = run(busy, finds(), interrupted)
    assert (done.exit, done.document["stop"]) == (Exit.INTERRUPTED, "interrupted")
    assert len(done.document["findings"]) == 1


def test_a_canary_that_is_not_seen_is_our_bug() -> None:
    def unseen(work: Gate) -> None:
        work.ended = (Exit.BUG, "the canary: a planted bug escaped")

    assert run(busy, finds(), unseen).exit == Exit.BUG


# ------------------------------------------------------------------ the baseline that it writes


def trace_of(finding: Finding, there: Path) -> Path:
    saved = replace(lost_task(), findings=(finding,), shrink=Shrink(finished=True, failed=2, of=5))
    return saved.save(there)


def test_with_the_baseline_that_a_gate_writes_it_passes(tmp_path: Path) -> None:
    found = trace_of(RACE, tmp_path / "out" / "traces" / "open")

    def met(work: Gate) -> None:
        work.found.append(Met(RACE, found))

    wanted = {"thresholds": ("calls.p95 < 1s", "violations.new == 0")}
    file = tmp_path / "gate" / "baseline.toml"
    first = run(busy, met, **wanted)
    assert first.exit == Exit.VIOLATION
    written = accept.from_gate(
        first, Baseline(), file, [file.parent / "traces", tmp_path / "traces"], "so it is"
    )
    assert accept.save(written) == file
    again = read(file)
    assert [entry.trace for entry in again.findings] == ["traces/open"]
    assert (file.parent / "traces" / "open" / "trace.json").is_file()
    assert [t.expr for t in again.thresholds] == ["calls.p95 < 1s"]
    assert again.findings[0].reason == "so it is"
    assert run(busy, met, baseline=again, **wanted).exit == Exit.PASSED

    without = replace(again, findings=())
    assert run(busy, met, baseline=without, **wanted).exit == Exit.VIOLATION


def test_stale_entries_are_dropped_and_others_stay(known: Baseline, tmp_path: Path) -> None:
    assert known.path is not None
    fictitious = replace(
        known.findings[0],
        property="fiction",
        fingerprint=replace(RACE.fingerprint, property="fiction").digest(),
    )
    both = replace(known, findings=(*known.findings, fictitious))

    def vain(work: Gate) -> None:
        work.replayed[fictitious.fingerprint] = (0, 15)

    done = run(busy, finds(), vain, baseline=both)
    assert (done.exit, done.document["stop"]) == (Exit.VIOLATION, "1 stale entry")
    left = accept.from_gate(done, both, known.path, [tmp_path], "new")
    assert left.findings == known.findings


@pytest.mark.parametrize(("before", "after"), [((0, 0), (2, 3)), ((5, 5), (5, 5))])
def test_how_often_a_trace_fails_is_recorded_where_nobody_knew(
    known: Baseline, tmp_path: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    entry = replace(known.findings[0], failed=before[0], of=before[1])
    listed = replace(known, findings=(entry,))

    def again(work: Gate) -> None:
        work.replayed[entry.fingerprint] = (2, 3)

    done = run(busy, again, baseline=listed)
    assert known.path is not None
    (left,) = accept.from_gate(done, listed, known.path, [tmp_path], "new").findings
    assert (left.failed, left.of) == after


def test_a_trace_that_is_kept_already_stays_where_it_is(tmp_path: Path) -> None:
    there = trace_of(RACE, tmp_path / "traces" / "open")
    done = run(busy, lambda work: work.found.append(Met(RACE, there)))
    file = tmp_path / "gate" / "baseline.toml"
    written = accept.from_gate(
        done, Baseline(), file, [file.parent / "traces", tmp_path / "traces"], "x"
    )
    assert [entry.trace for entry in written.findings] == ["../traces/open"]


def test_a_baseline_of_saved_traces(tmp_path: Path, known: Baseline) -> None:
    other = replace(RACE, fingerprint=Fingerprint("order", "tie", "entry"))
    trace_of(other, tmp_path / "traces" / "tie")
    assert known.path is not None
    written = accept.from_traces(known, known.path, [tmp_path / "traces"], "new here")
    assert {(e.property, e.trace, e.reason, e.failed) for e in written.findings} == {
        ("open", "traces/open", "it is known", 5),
        ("tie", "traces/tie", "new here", 2),
    }


# ------------------------------------------------------------------ stages


def test_a_part_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcpconc.interrupt import interrupts

    monkeypatch.setattr(stages, "GRACE", 0.05)
    monkeypatch.setattr(stages, "STARTING", 0.01)
    ended: list[bool] = []

    async def slow() -> str:
        async with interrupts(lambda text: None) as signals, anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                signals.scopes.append(scope)
                await anyio.sleep(30)
            tasks.cancel_scope.cancel()
        ended.append(bool(signals))
        return "what is known"

    async def whole() -> None:
        async with interrupts(lambda text: None) as signals:
            work = _gate(signals=signals)
            assert await stages.within(work, 0.01, slow) == "what is known"
            assert not signals

    anyio.run(whole)
    assert ended == [True]


def _gate(**given: Any) -> Gate:
    from mcpconc.target import resolve

    settings = given.pop("settings", Settings(target="reference", start="ordinary"))
    return Gate(
        **{
            "settings": settings,
            "target": resolve("reference"),
            "baseline": Baseline(),
            "out": Path("out"),
            "emit": quietly,
            "clock": lambda: 0.0,
            "today": NOW.date(),
            **given,
        }
    )


class Replayed:
    """Stands in for replays: the trace fails in these tries, counted from 1."""

    def __init__(self, *hits: int) -> None:
        self.hits, self.asked = hits, []
        self.order: list[str] = []

    async def __call__(
        self,
        trace: Any,
        times: int,
        target: str,
        work: Any,
        emit: Any,
        start: Any,
        enough: Any,
        rigs: Any,
    ) -> Any:
        from mcpconc.replay import Replay

        self.asked.append((times, target))
        self.order.append(trace.path.name)
        hits = 0
        for tried in range(1, times + 1):
            hits += tried in self.hits
            if enough(hits, tried):
                break
        return Replay(trace.path, hits, tried)


@pytest.mark.parametrize(
    ("hits", "failed", "tries", "status", "tried"),
    [
        ((1,), 5, 20, "STILL FAILS", 1),
        ((2,), 5, 20, "FLAKY", 2),
        ((), 5, 20, "FIXED", 15),
        ((), 5, 2, "NOT JUDGED", 2),
        ((), 1, 20, "NOT JUDGED", 20),
        ((), 3, 50, "FIXED", 47),
        ((), 0, 20, "FIXED", stages.TRIES),
    ],
)
def test_what_becomes_of_a_saved_trace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hits: tuple[int, ...],
    failed: int,
    tries: int,
    status: str,
    tried: int,
) -> None:
    shrink = Shrink(finished=True, failed=failed, of=5)
    saved = replace(lost_task(), findings=(RACE,), shrink=shrink, target="reference+x")
    saved.save(tmp_path / "traces" / "open")
    other = replace(saved, target="empirica")
    other.save(tmp_path / "traces" / "other")
    again = Replayed(*hits)
    monkeypatch.setattr(stages.replays, "replay", again)
    settings = Settings(
        target="reference==1",
        traces=(str(tmp_path / "traces"),),
        start="ordinary",
        replays=Replays(tries=tries),
    )
    work = _gate(settings=settings)
    anyio.run(stages.traces, work)
    (told,) = work.parts["traces"]
    assert (told["status"], told["tried"], told["reproduced"]) == (status, tried, bool(hits))
    assert [target for _, target in again.asked] == ["reference==1"]
    assert len(work.found) == len(hits)
    assert [entry["why"] for entry in work.unmeasured] == ["its trace is of empirica"]


SET = Settings(
    target="reference",
    agents=4,
    seed=9,
    start="ordinary",
    fuzz=Fuzz(time=11, runs=12, calls=13, inflight=2, share=0.5, scheduler="convoy", shrink=False),
    faults=Faults(time=14, runs=15, kinds=("cancel", "full-disk", "hold-lock")),
    stress=Stress(
        time=16,
        scenarios=("tools",),
        agents=(1, 3),
        baseline=17,
        calls=18,
        lane=19,
        own=3,
        observe=True,
        observed=21,
        settings=("default", "minimal"),
        minimise=22,
    ),
)


@pytest.fixture
def campaigns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What campaigns and stress runs were asked; each ends as if its time had been up."""
    asked: list[Any] = []

    async def fuzz(config: Any, emit: Any) -> CampaignFinished:
        asked.append(config)
        return CampaignFinished(
            exit=Exit.INTERRUPTED,
            stop="interrupted",
            runs=0,
            calls=0,
            seconds=1,
            seed=1,
            out=config.out,
            faults=(
                Toll("cancel", 1, recovery=Counter({"by itself": 1})),
                Toll("full-disk", 0, missed=1),
            ),
        )

    async def stress(config: Any, emit: Any) -> Any:
        asked.append(config)
        document = {"phases": [], "unmeasured": [{"what": "x", "why": "y"}], "stop": "z"}
        return SimpleNamespace(exit=Exit.INTERRUPTED, kept=(), document=lambda: document)

    monkeypatch.setattr(stages.campaign, "fuzz", fuzz)
    monkeypatch.setattr(stages, "stress", stress)
    return SimpleNamespace(asked=asked, work=_gate(settings=SET, out=tmp_path))


def test_what_fuzzing_is_asked(campaigns: Any) -> None:
    anyio.run(stages.fuzz, campaigns.work)
    (config,) = campaigns.asked
    assert (config.target, config.agents, config.seed) == ("reference", 4, 9)
    assert (config.max_time, config.runs, config.calls, config.inflight) == (11, 12, 13, 2)
    assert (config.share, config.scheduler, config.shrink) == (0.5, "convoy", False)
    assert config.nemesis == ()
    assert campaigns.work.parts["fuzz"]["stop"] == stages.LATE


def test_what_fuzzing_under_faults_is_asked(campaigns: Any) -> None:
    anyio.run(stages.faults, campaigns.work)
    (config,) = campaigns.asked
    assert (config.max_time, config.runs) == (14, 15)
    assert config.nemesis == ("cancel", "full-disk", "hold-lock")
    assert campaigns.work.parts["faults"] == {"cancel": {"by itself": 1}}
    assert campaigns.work.unmeasured == [
        {"what": "recovery from full-disk, hold-lock", "why": "no program met it"}
    ]


def test_no_runs_under_faults_are_none(campaigns: Any) -> None:
    campaigns.work.settings = replace(SET, faults=Faults(runs=0))
    anyio.run(stages.faults, campaigns.work)
    assert campaigns.asked == []
    assert campaigns.work.parts == {}


def test_what_stress_is_asked(campaigns: Any) -> None:
    anyio.run(stages.load_, campaigns.work)
    (config,) = campaigns.asked
    assert (config.target, config.seed, config.max_time) == ("reference", 9, 16)
    assert (config.scenarios, config.agents, config.baseline) == (("tools",), (1, 3), 17)
    assert (config.calls, config.lane, config.own, config.share) == (18, 19, 3, 0.5)
    assert (config.observe, config.observed, config.minimise) == (True, 21, 22)
    assert (config.settings, config.settings_agents) == (("default",), (4,))
    assert campaigns.work.parts == {"phases": []}
    assert campaigns.work.unmeasured == [
        {"what": "settings minimal", "why": "reference has no such configuration"},
        {"what": "x", "why": "y"},
        {"what": "stress", "why": stages.LATE},
    ]


@pytest.mark.parametrize(
    ("exit", "ended", "vacuous"),
    [
        (Exit.PASSED, None, []),
        (Exit.VIOLATION, "the canary: a planted bug escaped", []),
        (Exit.INCONCLUSIVE, None, ["the canary: 1 of 2 planted bugs caught in time"]),
    ],
)
def test_what_becomes_of_the_canary(
    monkeypatch: pytest.MonkeyPatch, exit: Exit, ended: str | None, vacuous: list[str]
) -> None:
    asked: list[Any] = []

    async def selftest(config: Any, emit: Any) -> SelftestFinished:
        asked.append(config)
        tried = tuple(
            PlantTried(name="x", kind="x", oracle="x", state=state, seed=0)
            for state in (PlantState.CAUGHT, PlantState.ESCAPED)
        )
        return SelftestFinished(
            exit=exit, stop="", seed=0, seeds=1, seconds=2, out=config.out, tried=tried
        )

    monkeypatch.setattr(stages.selftest, "selftest", selftest)
    work = _gate(settings=replace(SET, canary=Canary(time=33)))
    anyio.run(stages.canary, work)
    assert (asked[0].budget, asked[0].seed) == (33, 9)
    assert {plant.name for plant in asked[0].plants} == {*stages.selftest.CANARY}
    assert (work.parts["canary"]["caught"], work.parts["canary"]["of"]) == (1, 2)
    assert (work.ended[1] if work.ended else None, work.vacuous) == (
        ended and f"{ended}, so this gate would mean nothing",
        vacuous,
    )


def test_entries_come_first_and_nothing_begins_when_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Baseline
) -> None:
    for name in ("open", "another"):
        saved = replace(
            lost_task(),
            findings=(RACE,),
            shrink=Shrink(finished=True, failed=5, of=5),
            target="reference",
        )
        saved.save(tmp_path / "traces" / name)
    ticks = iter(range(100))
    monkeypatch.setattr(stages.replays, "replay", Replayed(1))
    work = _gate(
        baseline=known,
        clock=lambda: float(next(ticks)),
        settings=Settings(
            target="reference",
            start="ordinary",
            traces=(str(tmp_path / "traces"),),
            replays=Replays(time=3.0),
        ),
    )
    anyio.run(stages.traces, work)
    assert [(Path(t["trace"]).name, t["status"]) for t in work.parts["traces"]] == [
        ("open", "STILL FAILS"),
        ("another", "NOT JUDGED"),
    ]
    assert work.replayed == {known.findings[0].fingerprint: (1, 1)}


def test_what_runs_on_the_same_servers_is_replayed_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = replace(lost_task(), findings=(RACE,), target="reference")
    for name, faults in (("a", ()), ("b", (Fault("cancel", "0.0"),)), ("c", ())):
        program = replace(saved.program, faults=faults)
        replace(saved, program=program).save(tmp_path / "traces" / name)
    again = Replayed(1)
    monkeypatch.setattr(stages.replays, "replay", again)
    work = _gate(
        settings=Settings(target="reference", start="ordinary", traces=(str(tmp_path / "traces"),))
    )
    anyio.run(stages.traces, work)
    assert again.order == ["a", "c", "b"]


def test_a_trace_in_an_identity_mode_that_the_target_lacks_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Baseline
) -> None:
    saved = replace(lost_task(), findings=(RACE,), target="reference", identity="same-instance")
    saved.save(tmp_path / "traces" / "open")
    again = Replayed(1)
    monkeypatch.setattr(stages.replays, "replay", again)
    work = _gate(
        baseline=known,
        target=SimpleNamespace(name="older", identities=(Identity.ISOLATED,)),
        settings=Settings(target="reference", start="ordinary", traces=()),
    )
    anyio.run(stages.traces, work)
    assert again.order == []
    (why,) = work.elsewhere.values()
    assert why == "its trace needs the identity mode same-instance, which the target has not"
    assert [entry["why"] for entry in work.unmeasured] == [why]


def test_a_trace_that_cannot_be_read_makes_its_entry_stale(known: Baseline, tmp_path: Path) -> None:
    (tmp_path / "traces" / "open" / "trace.json").write_text("{")
    work = _gate(baseline=known, settings=Settings(target="reference", traces=()))
    anyio.run(stages.traces, work)
    assert [t["status"] for t in work.parts["traces"]] == ["ERROR"]
    assert list(work.unread) == [known.findings[0].fingerprint]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("empirica", "empirica"),
        ("empirica==1.13.0", "empirica"),
        ("empirica@../x", "empirica"),
        ("reference+equal-rounds", "reference"),
        ("notes.toml", "notes.toml"),
    ],
)
def test_traces_of_one_family_are_replayed_on_each_other(spec: str, wanted: str) -> None:
    assert stages.family(spec) == wanted


def test_the_baseline_of_this_repository_lists_its_traces() -> None:
    root = Path(__file__).parents[2]
    listed = read(root / "gate" / "baseline.toml")
    assert listed.path is not None
    kept = [root / "gate" / "traces", root / "traces"]
    again = accept.from_traces(listed, listed.path, kept, "nobody said")
    assert {*again.findings} == {*listed.findings}
    assert {listed.trace(e).name for e in listed.findings} == {
        file.parent.name for each in kept for file in each.glob("*/trace.json")
    }


def test_the_order_of_the_stages() -> None:
    assert list(gates.STAGES) == ["doctor", "canary", "traces", "fuzz", "faults", "stress"]


def test_an_unknown_target_is_refused_at_once() -> None:
    config = GateConfig(out=Path("out"), settings=Settings(target="mysql"))
    with pytest.raises(UsageError, match="unknown target"):
        anyio.run(gate, config, quietly)
