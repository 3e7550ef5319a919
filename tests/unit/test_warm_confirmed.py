"""What is found with forked calls counts once it was seen with ordinary starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes import ledger
from fakes.rigs import Script, lost
from mcpconc import budget, campaign
from mcpconc.campaign import FuzzConfig
from mcpconc.errors import Exit, TargetError
from mcpconc.events import CampaignFinished, InfraTrouble, Kept
from mcpconc.keep import CONFIRMING
from mcpconc.oracle.base import Finding
from mcpconc.program import Program
from mcpconc.report.documents import campaign_document
from mcpconc.report.finding import headline
from mcpconc.report.summary import summary
from mcpconc.target.warm import Start
from mcpconc.trace import load
from samples import lost_task

Shows = Callable[[Program, Start], Sequence[Finding]]


def adds(program: Program) -> list[Finding]:
    """Wrong as soon as two agents work."""
    return [lost(program)] if sum(map(bool, program.lanes)) > 1 else []


def only_forked(program: Program, start: Start) -> list[Finding]:
    """The same, but not with ordinary starts."""
    return adds(program) if start is Start.FORK else []


def fuzz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shows: Shows, **config: Any
) -> tuple[Script, CampaignFinished, list[Any]]:
    """One run with forked calls; what a run shows depends on how calls start."""
    script = Script().take_over(monkeypatch, campaign)
    script.shows = lambda program: shows(program, script.starts[-1])
    monkeypatch.setattr(campaign, "BATCH", 2)
    told: list[Any] = []
    asked: dict[str, Any] = {"runs": 1, "start": Start.FORK, **config}
    done = anyio.run(
        campaign.fuzz,
        FuzzConfig(
            out=tmp_path / "out",
            target=str(ledger.write(tmp_path, "correct")),
            agents=2,
            calls=6,
            seed=1,
            scheduler="barrier",
            machine=ledger.AddMachine,
            clock=script.clock,
            **asked,
        ),
        told.append,
    )
    return script, done, told


def only(kept: tuple[Kept, ...]) -> Kept:
    (one,) = kept
    return one


def test_what_comes_back_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = iter(range(99))

    def third(program: Program, start: Start) -> Sequence[Finding]:
        return adds(program) if start is Start.FORK or next(late) == 2 else []

    script, done, _ = fuzz(tmp_path, monkeypatch, third)
    assert script.starts == [Start.FORK, Start.ORDINARY]
    assert done.exit is Exit.VIOLATION
    kept = only(done.kept)
    assert kept.confirmed == (1, 3)
    assert kept.path is not None
    trace = load(kept.path)
    assert trace.confirmed == (1, 3)
    assert trace.scheduler_seed == script.ran[-1][3]  # the run that showed it ordinarily
    assert trace.shrink is not None
    assert trace.shrink.finished
    assert trace.finding is not None
    assert trace.finding.label is kept.finding.label
    assert trace.finding.fingerprint == kept.finding.fingerprint


def test_what_does_not_is_no_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, done, _ = fuzz(tmp_path, monkeypatch, only_forked)
    assert done.exit is Exit.INCONCLUSIVE
    assert only(done.kept).confirmed == (0, CONFIRMING)
    assert campaign_document(done)["findings"][0]["counts"] is False
    said = summary(done)
    assert f"not confirmed with ordinary starts 0/{CONFIRMING}" in said
    assert "    ? lost entry" in said


def test_a_run_confirms_all_that_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two(program: Program, start: Start) -> Sequence[Finding]:
        return [f for one in adds(program) for f in (one, lost(program, "value"))]

    script, done, _ = fuzz(tmp_path, monkeypatch, two, shrink=False)
    assert [kept.confirmed for kept in done.kept] == [(1, 1), (1, 1)]
    assert len(script.ran) == 2
    assert all(kept.path and load(kept.path).confirmed for kept in done.kept)


def test_ordinary_starts_need_no_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, done, _ = fuzz(
        tmp_path, monkeypatch, lambda program, start: adds(program), start=Start.ORDINARY
    )
    assert script.starts == [Start.ORDINARY]
    assert done.exit is Exit.VIOLATION
    assert only(done.kept).confirmed is None


def test_nothing_found_opens_no_second_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, done, _ = fuzz(tmp_path, monkeypatch, lambda program, start: [])
    assert script.starts == [Start.FORK]
    assert done.exit is Exit.PASSED


def test_confirming_has_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CONFIRM_LEAST", 4.0)
    _, done, _ = fuzz(
        tmp_path,
        monkeypatch,
        only_forked,
        shrink=False,
    )
    assert only(done.kept).confirmed == (0, 4)


def test_what_comes_back_easily_is_confirmed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CONFIRM_LEAST", 4.0)
    forked = iter(range(999))

    def shows(program: Program, start: Start) -> Sequence[Finding]:
        if start is not Start.FORK:
            return []
        seldom = [lost(program, "value")] if next(forked) % 3 == 0 else []
        return [*(seldom if adds(program) else []), *adds(program)]

    _, done, _ = fuzz(tmp_path, monkeypatch, shows)
    tried = {kept.finding.fingerprint.field: kept.confirmed for kept in done.kept}
    assert tried == {"": (0, 4), "value": (0, 0)}


def test_a_campaign_keeps_time_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CONFIRM_EACH", 3.0)
    script, done, _ = fuzz(
        tmp_path,
        monkeypatch,
        only_forked,
        shrink=False,
        runs=None,
        max_time=20.0,
    )
    assert len(script.ran) == 20  # a second each, and none after its time
    assert only(done.kept).confirmed == (0, 3)
    assert done.stop == "time is up"


def test_a_target_that_does_not_come_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(program: Program, start: Start) -> Sequence[Finding]:
        if start is Start.ORDINARY:
            raise TargetError("the server is gone")
        return adds(program)

    _, done, told = fuzz(tmp_path, monkeypatch, breaks)
    assert only(done.kept).confirmed == (0, 0)
    assert done.exit is Exit.INCONCLUSIVE
    assert [event.text for event in told if isinstance(event, InfraTrouble)]
    assert "not confirmed with ordinary starts yet" in summary(done)


def test_the_report_says_it() -> None:
    trace = dataclasses.replace(lost_task(), confirmed=(1, 2))
    finding = trace.finding
    assert finding is not None
    assert "confirmed with ordinary starts 1/2" in headline(finding, trace)
