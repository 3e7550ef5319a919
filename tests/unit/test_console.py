"""What a person sees while a campaign runs, and at its end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcpconc.errors import Exit
from mcpconc.events import (
    CampaignFinished,
    CampaignStarted,
    Covered,
    FindingFound,
    InfraTrouble,
    Kept,
    ReplayTried,
    RunFinished,
    ShrinkProgress,
    TargetProgress,
    TraceSaved,
)
from mcpconc.oracle.base import UNPROMISED, Finding, Label
from mcpconc.oracle.storms import Met, Torn
from mcpconc.oracle.toll import tolls
from mcpconc.report.console import Console, Paint
from mcpconc.report.documents import campaign_document
from mcpconc.report.summary import summary
from mcpconc.report.tally import Tally, ago, block, clock, line
from mcpconc.trace import Shrink
from mcpconc.verdict import Verdict
from samples import lost_task

Golden = Callable[[str, str], None]

FINDING = lost_task().findings[0]


def labelled(label: Label, property: str = "lost", times: int = 1) -> Kept:
    finding = replace(
        FINDING, label=label, fingerprint=replace(FINDING.fingerprint, property=property)
    )
    return Kept(finding, Path(f"out/traces/{property}-task-0a1b2c3d"), times, 12, 2)


STARTED = CampaignStarted(
    target="empirica",
    version="1.14.18",
    agents=5,
    identities=("isolated", "explicit"),
    schedulers=("free", "barrier", "convoy"),
    seed=8121,
    out=Path("out"),
    max_time=300.0,
    inflight=2,
    tools=("goals_add_task", "goals_create", "goals_list"),
)


def run(n: int, **more: object) -> RunFinished:
    event = RunFinished(
        n=n,
        program="feed",
        calls=12,
        seconds=6.0,
        overlap=3.0,
        overlap_max=5,
        verdict=Verdict.OK,
        outcomes={"goals_add_task": {"success": 3, "info": 1}, "goals_list": {"refused": 1}},
    )
    return replace(event, **more)  # type: ignore[arg-type]


FINISHED = CampaignFinished(
    exit=Exit.VIOLATION,
    stop="time is up",
    runs=38,
    calls=412,
    seconds=302.4,
    seed=8121,
    out=Path("out"),
    kept=(labelled(Label.RACE, times=3), labelled(Label.SEQUENTIAL, "stale")),
    never=("goals_refresh",),
    unused=("checkpoint_load",),
    unknown=1,
    infra=2,
    overlap=3.42,
    overlap_max=5,
)


class Screen(io.StringIO):
    """A terminal: `shown` is what somebody who looks at it sees."""

    def shown(self) -> str:
        lines: list[str] = []
        for part in self.getvalue().replace("\x1b[1A\x1b[2K", "\n<up>\n").split("\n"):
            if part == "<up>":
                assert lines, "erases what it did not write"
                del lines[-1]
            elif part:
                lines.append(part)
        return "\n".join(lines)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def err() -> Screen:
    return Screen()


@pytest.fixture
def terminal(out: io.StringIO, err: Screen, time: Clock) -> Console:
    return Console(out, err, tty=True, paint=Paint(False), width=120, now=time)


@pytest.fixture
def piped(out: io.StringIO, err: Screen, time: Clock) -> Console:
    return Console(out, err, tty=False, paint=Paint(False), now=time)


# ------------------------------------------------------------------ numbers and lines


@pytest.fixture
def tally() -> Tally:
    tally = Tally()
    tally.add(STARTED, 20.0)
    tally.add(run(1), 26.0)
    tally.add(run(2, calls=24, overlap=4.0, info=2, unknown=("order: out of steps",)), 32.0)
    tally.add(FindingFound(FINDING, lost_task().program), 32.0)
    tally.add(FindingFound(FINDING, lost_task().program), 33.0)
    tally.add(TraceSaved(Path("t"), FINDING), 60.0)
    tally.add(InfraTrouble("a server did not start"), 61.0)
    return tally


def test_the_live_block(golden: Golden, tally: Tally) -> None:
    shrinking = ShrinkProgress(fingerprint=FINDING.fingerprint, from_calls=12, calls=4, attempts=23)
    tally.add(shrinking, 70.0)
    golden("status-block", "\n".join(block(tally, 150.0)) + "\n")


def test_the_plain_line(golden: Golden, tally: Tally) -> None:
    golden("status-line", line(tally, 150.0) + "\n")


def test_before_the_first_program(golden: Golden) -> None:
    tally = Tally()
    tally.add(TargetProgress("installing empirica 1.14.18"), 1.0)
    golden("status-preparing", "\n".join([*block(tally, 9.0), line(tally, 9.0)]) + "\n")


def test_a_comparison_is_no_campaign_and_shows_its_progress_too() -> None:
    tally = Tally()
    tally.add(TargetProgress("5 of 5 servers are up"), 1.0)
    tally.add(run(1), 5.0)
    tally.add(run(2), 9.0)
    assert line(tally, 9.0) == "mcpconc: 0:00:09 · 2 runs · 24 calls"
    assert block(tally, 9.0) == ["mcpconc · 2 runs · 24 calls · 0:00:09"]


def test_minimising_does_not_slow_the_rate(tally: Tally) -> None:
    assert tally.rate() == 36 / 12


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.9, "0:00:59"), (3725, "1:02:05")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(7.5, "7s"), (61, "1m"), (7300, "2h")])
def test_ago(seconds: float, text: str) -> None:
    assert ago(seconds) == text


# ------------------------------------------------------------------ the end


def test_the_summary(golden: Golden) -> None:
    golden("summary", summary(FINISHED))


def unpromised() -> Kept:
    kept = labelled(Label.CROSS_AGENT, UNPROMISED)
    summary = "agent 1 cannot rely on it that its task stays"
    return replace(kept, finding=replace(kept.finding, summary=summary))


def test_the_summary_tells_what_nothing_promised_apart(golden: Golden) -> None:
    cross = labelled(Label.CROSS_AGENT)
    done = replace(FINISHED, kept=(unpromised(), cross), never=(), unused=(), undecided=())
    golden("summary-unpromised", summary(done))
    told = [(f["property"], f["promised"]) for f in campaign_document(done)["findings"]]
    assert told == [("unpromised", False), ("lost", True)]


def test_the_document_says_when_each_finding_was_met() -> None:
    kept = replace(labelled(Label.RACE), met=12.34)
    (told,) = campaign_document(replace(FINISHED, kept=(kept,)))["findings"]
    assert told["met_after"] == 12.3


def test_the_summary_of_a_campaign_that_found_nothing(golden: Golden) -> None:
    quiet = replace(
        FINISHED, exit=Exit.PASSED, kept=(), never=(), unused=(), overlap=1.0, overlap_max=1
    )
    golden("summary-nothing", summary(quiet))


def test_the_summary_of_one_that_was_interrupted(golden: Golden) -> None:
    kept = (replace(labelled(Label.UNLABELLED), to_calls=12, path=None),)
    cut = replace(FINISHED, exit=Exit.INTERRUPTED, stop="interrupted", kept=kept)
    golden("summary-interrupted", summary(cut))


def test_the_summary_of_a_controlled_one(golden: Golden) -> None:
    covered = Covered(pairs=412, possible=1530, programs=20, exhausted=14, learning=9)
    done = replace(FINISHED, coverage=covered)
    golden("summary-covered", summary(done))
    golden("summary-covered-json", json.dumps(campaign_document(done)["coverage"]) + "\n")


def test_the_summary_tells_faults_by_what_became_of_them() -> None:
    torn = (Torn("0.1", "note", ("row",), ("note",)),)
    lost = Met("cancel", "0.0", "data lost", torn=torn, lost=("row of 0.1",))
    calm, missed = Met("cancel", "0.0", "by itself"), Met("cancel", "0.0", "never began")
    stormy = replace(FINISHED, faults=tolls([lost, calm, missed, calm]))
    said = summary(stormy)
    assert "faults, and how the target recovered:" in said
    assert "cancel  2× by itself, 1× data lost, 1× never began" in said
    assert "1× half done: note left row and not note" in said
    assert "1× lost: row" in said
    (told,) = campaign_document(stormy)["faults"]
    assert told == stormy.faults[0].to_json()
    assert told["fault"] == "cancel"


def test_a_path_is_never_cut() -> None:
    path = Path("/very/long" * 20) / "lost-task-0a1b2c3d"
    done = replace(FINISHED, kept=(replace(labelled(Label.RACE), path=path),))
    assert str(path) in summary(done, width=60)


# ------------------------------------------------------------------ on a terminal


def test_the_block_is_drawn_in_one_place(terminal: Console, err: Screen, time: Clock) -> None:
    terminal(STARTED)
    for n in range(1, 4):
        time.now += 6
        terminal(run(n))
    assert err.shown() == "\n".join(block(terminal.tally, 18.0))


def test_what_is_worth_keeping_stays_above_it(terminal: Console, err: Screen) -> None:
    terminal(STARTED)
    terminal(InfraTrouble("a server did not start"))
    terminal(FindingFound(FINDING, lost_task().program))
    above, new, *status = err.shown().splitlines()
    assert above == "mcpconc: trouble of ours, not a verdict: a server did not start"
    assert new.startswith("mcpconc: new: lost task goals_add_task ‖ goals_add_task: an ack")
    assert status == block(terminal.tally, 0.0)


def test_nothing_of_it_is_left_at_the_end(terminal: Console, out: io.StringIO, err: Screen) -> None:
    with terminal:
        terminal(STARTED)
        terminal(run(1))
        terminal(FINISHED)
    assert err.shown() == ""
    assert out.getvalue() == summary(FINISHED)


def test_lines_never_wrap(out: io.StringIO, err: Screen, time: Clock) -> None:
    narrow = Console(out, err, tty=True, paint=Paint(False), width=40, now=time)
    narrow(STARTED)
    narrow(FindingFound(FINDING, lost_task().program))
    assert max(map(len, err.shown().splitlines())) <= 40


def test_the_clock_goes_on_between_events(terminal: Console, err: Screen, time: Clock) -> None:
    terminal(STARTED)
    time.now += 42
    terminal.tick()
    assert "0:00:42" in err.shown()


def test_the_ticker_ticks(terminal: Console, err: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpconc.report.console.REFRESH", 0.001)
    with terminal:
        while not err.getvalue():
            pass
    assert err.shown() == ""


def test_quiet_means_reports_only(out: io.StringIO, err: Screen) -> None:
    with Console(out, err, tty=True, paint=Paint(False), quiet=True) as console:
        console(STARTED)
        console(InfraTrouble("x"))
        console(FINISHED)
    assert err.getvalue() == ""
    assert "VIOLATION" in out.getvalue()


def test_colours_only_where_they_are_wanted(out: io.StringIO, err: Screen) -> None:
    Console(out, err, tty=True, paint=Paint(True))(STARTED)
    assert "\x1b[1m" in err.getvalue()
    plain = Screen()
    Console(out, plain, tty=True, paint=Paint(False))(STARTED)
    assert "\x1b" not in plain.getvalue()


# ------------------------------------------------------------------ piped


def test_a_plain_line_every_ten_seconds(piped: Console, err: Screen, time: Clock) -> None:
    piped(STARTED)
    for n in range(1, 8):
        time.now += 6
        piped(run(n))
    assert len(err.getvalue().splitlines()) == 3
    assert "\x1b" not in err.getvalue()


def test_progress_of_the_target_is_told_at_once(piped: Console, err: Screen) -> None:
    piped(TargetProgress("installing empirica 1.14.18"))
    assert err.getvalue() == "mcpconc: installing empirica 1.14.18\n"


def test_tries_of_a_replay(piped: Console, err: Screen) -> None:
    piped(ReplayTried(n=1, of=3, reproduced=True))
    piped(ReplayTried(n=2, of=3, reproduced=False))
    piped(ReplayTried(n=3, of=3, reproduced=None, text="no server"))
    assert err.getvalue().splitlines() == [
        "mcpconc: try 1 of 3: reproduced",
        "mcpconc: try 2 of 3: not reproduced",
        "mcpconc: try 3 of 3: trouble: no server",
    ]


# ------------------------------------------------------------------ findings


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Callable[[Label], TraceSaved]]:
    def save(label: Label) -> TraceSaved:
        finding: Finding = replace(FINDING, label=label)
        shrink = Shrink(finished=True, failed=5, of=5, from_calls=41, to_calls=5)
        trace = replace(lost_task(), findings=(finding,), shrink=shrink)
        path = trace.save(tmp_path / label.value)
        return TraceSaved(path, finding)

    return save


Save = Callable[[Label], TraceSaved]


def test_a_race_is_reported_whole_as_soon_as_it_is_known(
    piped: Console, out: io.StringIO, saved: Save
) -> None:
    piped(saved(Label.RACE))
    text = out.getvalue()
    assert text.startswith("✗ lost task")
    assert "0.2 goals_add_task" in text
    assert f"mcpconc replay {saved(Label.RACE).path}" in text


def test_a_sequential_defect_takes_three_lines(
    piped: Console, out: io.StringIO, saved: Save
) -> None:
    piped(saved(Label.SEQUENTIAL))
    assert len(out.getvalue().strip().splitlines()) == 3


def test_a_finding_without_a_label_is_drawn_at_the_end(
    piped: Console, out: io.StringIO, saved: Save
) -> None:
    event = saved(Label.UNLABELLED)
    piped(event)
    assert out.getvalue() == ""
    piped(replace(FINISHED, kept=(Kept(event.finding, event.path),)))
    assert "0.2 goals_add_task" in out.getvalue()


def test_a_trace_that_went_away_is_no_disaster(piped: Console, err: Screen) -> None:
    piped(TraceSaved(Path("/nowhere"), FINDING))
    assert "no trace at /nowhere" in err.getvalue()


def test_a_reader_who_went_away_ends_nothing(err: Screen, time: Clock) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    console = Console(Gone(), err, tty=False, paint=Paint(False), now=time)
    console(FINISHED)
    console(FINISHED)
