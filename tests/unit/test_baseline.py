"""The baseline: its file, which finding an entry lists, and what becomes of entries."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.baseline import BY_ITSELF, ELSEWHEN, Baseline, Known, Tolerated, rate, read, render
from mcpconc.errors import UsageError
from mcpconc.events import Kept
from mcpconc.known import entry_of, kept_reasons, matching, met, needed, settled
from mcpconc.oracle.base import Finding, Fingerprint, Label
from mcpconc.trace import Shrink
from samples import lost_task

TODAY = date(2026, 11, 30)
PAIR = ("goals_add_task", "goals_add_task")


LOST = Fingerprint("effects", "lost", "task", "", PAIR)


def known(f: Fingerprint = LOST, **given: Any) -> Known:
    return Known(
        fingerprint=f.digest(),
        **{"reason": "it is known", "trace": "traces/lost", "failed": 5, "of": 5, **given},
        **{n: getattr(f, n) for n in ("oracle", "property", "kind", "field", "tools", "faults")},
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
said = texts.filter(lambda text: bool(text.strip()))
days = st.none() | st.dates()


@st.composite
def knowns(draw: st.DrawFn) -> Known:
    head = [draw(texts | st.sampled_from(BY_ITSELF)), *(draw(texts) for _ in range(3))]
    needs = [tuple(draw(st.lists(texts, max_size=3))) for _ in range(2)]
    fingerprint = Fingerprint(*head, *needs)
    numbers = {name: draw(st.integers(0, 99)) for name in ("failed", "of")}
    words = {name: draw(texts) for name in ("trace", "label", "title")}
    alike = bool(needs[1] or head[0] in BY_ITSELF) and draw(st.booleans())
    return known(
        fingerprint, alike=alike, reason=draw(said), expires=draw(days), **numbers, **words
    )


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    listed = draw(st.lists(knowns(), max_size=3, unique_by=lambda entry: entry.fingerprint))
    tolerated = [
        Tolerated(
            expr=expr,
            value=draw(st.floats(0, 1e6)),
            tolerance=draw(st.floats(0, 1)),
            reason=draw(said),
            expires=draw(days),
        )
        for expr in draw(st.sets(st.sampled_from(["calls.p95 < 2s", "overlap.avg >= 2"])))
    ]
    return Baseline(None, tuple(listed), tuple(tolerated))


@given(baselines())
def test_what_is_written_is_what_is_read(tmp_path_factory: Any, baseline: Baseline) -> None:
    file = tmp_path_factory.getbasetemp() / "written.toml"
    file.write_text(render(baseline), "utf-8")
    again = read(file)
    assert {*again.findings} == {*baseline.findings}
    assert {*again.thresholds} == {*baseline.thresholds}
    assert render(again) == render(baseline)


ENTRY = render(Baseline(None, (known(),), (Tolerated(expr="calls.p95 < 2s", value=3, reason="x"),)))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("version = 1", "version = 2", "version must be 1; it is 2"),
        ("version = 1", "versoin = 1\nversion = 1", "versoin is not a key; did you mean version?"),
        ("reason =", "reson =", "finding 1: reson is not a key; did you mean reason?"),
        ("of = 5", "of = -1", "finding 1: of must be a whole number from 0 on"),
        ("of = 5", "of = 5\nexpires = 'soon'", "expires must be a date such as 2027-03-31"),
        ('trace = "traces/lost"\n', "", "finding 1: trace is missing"),
        ('reason = "it is known"', 'reason = " "', "finding 1: reason is empty; say why"),
        ("of = 5", "of = 5\nalike = 1", "finding 1: alike must be true or false"),
        ("of = 5", "of = 5\nalike = true", "finding 1: alike is for what a fault does, and"),
        ('kind = "task"', 'kind = "goal"', "is not the fingerprint of what this entry says"),
        ("calls.p95 <", "calls.p96 <", "'calls.p96' is no metric"),
        ("value = 3", "value = 'x'", "threshold 1: value must be a number"),
        ("[[finding]]", "[finding]", "finding must be tables, each begun with [[finding]]"),
        ("version = 1", "version 1", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in ENTRY
    file = tmp_path / "baseline.toml"
    file.write_text(ENTRY.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        read(file)
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_listed_twice(tmp_path: Path) -> None:
    file = tmp_path / "baseline.toml"
    file.write_text(render(Baseline(None, (known(), known(reason="again")))))
    with pytest.raises(UsageError, match="is listed twice"):
        read(file)


def test_a_trace_is_found_from_the_file() -> None:
    baseline = Baseline(Path("gate/baseline.toml"), (known(trace="../traces/lost"),))
    assert baseline.trace(baseline.findings[0]) == Path("traces/lost")


# ------------------------------------------------------------------ which entry lists a finding


def found(
    *tools: str, label: Label = Label.RACE, property: str = "lost", oracle: str = "effects"
) -> Finding:
    return Finding(Fingerprint(oracle, property, "task", "", tuple(sorted(tools))), "", label=label)


@pytest.mark.parametrize(
    ("finding", "involved", "label", "listed"),
    [
        (found(*PAIR), None, "race", True),
        (found(*PAIR, label=Label.CROSS_AGENT), None, "race", True),
        (found("goals_add_task", "goals_complete"), None, "race", False),
        (found(*PAIR, property="torn"), None, "race", False),
        (found(), None, "race", False),
        (found(), ("goals_add_task", "note"), "race", True),
        (found(), ("note",), "race", False),
        (found(property="torn"), ("goals_add_task",), "race", False),
        (found("note", label=Label.SEQUENTIAL), None, "sequential", True),
        (found("note", label=Label.RACE), None, "sequential", False),
        (found("note", label=Label.SEQUENTIAL), None, "race", False),
    ],
)
def test_which_findings_an_entry_lists(
    finding: Finding, involved: tuple[str, ...] | None, label: str, listed: bool
) -> None:
    entry = known(label=label)
    assert (matching(finding, [entry], involved) is entry) is listed


@pytest.mark.parametrize("label", ["race", "sequential"])
@pytest.mark.parametrize(
    ("met", "listed"), [(("full-disk",), True), (("full-disk", "cancel"), True), ((), False)]
)
def test_what_is_listed_under_a_fault_is_not_the_same_without(
    label: str, met: tuple[str, ...], listed: bool
) -> None:
    under = Fingerprint("effects", "lost", "task", "", tuple(sorted(PAIR)), ("full-disk",))
    entry = known(under, label=label)
    vague = found(label=Label.UNLABELLED)
    assert (matching(vague, [entry], PAIR, met) is entry) is listed
    minimal = found(*PAIR, label=Label(label)).needing(PAIR, met)
    assert (matching(minimal, [entry]) is entry) is listed
    calm = known(label=label)
    assert matching(vague, [calm], PAIR, met) is calm
    assert matching(minimal, [calm]) is calm


@pytest.mark.parametrize(
    ("mine", "met", "listed"),
    [
        (Fingerprint("effects", "torn", "unknown", "note"), ("full-disk",), True),
        (Fingerprint("effects", "torn", "unknown", "note"), ("cancel",), False),
        (Fingerprint("effects", "torn", "unknown", "note"), (), False),
        (Fingerprint("effects", "lost", "unknown", "note"), ("full-disk",), False),
        (Fingerprint("integrity", "torn", "unknown", "note"), ("full-disk",), False),
    ],
)
def test_an_entry_may_stand_for_whatever_a_fault_does_alike(
    mine: Fingerprint, met: tuple[str, ...], listed: bool
) -> None:
    whole = Fingerprint("effects", "torn", "task", "note", ("goals_add_task",), ("full-disk",))
    vague = Finding(mine, "")
    entry = known(whole, label="sequential", alike=True)
    assert (matching(vague, [entry], ("unknown_log",), met) is entry) is listed
    assert (matching(vague.needing(["unknown_log"], met), [entry]) is entry) is listed
    assert matching(vague, [known(whole, label="sequential")], ("unknown_log",), met) is None
    race = replace(vague.needing(["unknown_log"], met), label=Label.RACE)
    assert matching(race, [entry]) is None


@pytest.mark.parametrize(
    ("kind", "field", "listed"),
    [("note", "wrong-type", True), ("note", "unknown", False), ("goals_list", "wrong-type", True)],
)
def test_an_entry_may_stand_for_what_other_tools_make_of_bad_calls(
    kind: str, field: str, listed: bool
) -> None:
    entry = known(
        Fingerprint("refusal", "accepted", "goals_list", "wrong-type", ("goals_list",)),
        label="sequential",
        alike=True,
    )
    mine = Finding(Fingerprint("refusal", "accepted", kind, field), "")
    assert (matching(mine, [entry], (kind,)) is entry) is listed


def test_a_sequential_entry_without_tools_lists_no_race_that_is_not_minimal_yet() -> None:
    entry = known(Fingerprint("effects", "lost", "task"), label="sequential")
    assert matching(found(property="lost", label=Label.RACE), [], ("note",)) is None
    race = Finding(Fingerprint("effects", "lost", "task", "", ()), "", label=Label.SEQUENTIAL)
    assert matching(race, [entry]) is entry
    assert matching(found("note"), [entry], ("note",)) is None


@pytest.mark.parametrize(
    ("label", "involved", "listed"),
    [
        ("sequential", ("note", "goals_list"), True),
        ("sequential", ("goals_list",), False),
        ("race", ("note", "goals_list"), False),
        ("race", ("note", "goals_list", "goals_add_task"), True),
    ],
)
def test_of_a_sequential_entry_one_of_its_tools_is_enough(
    label: str, involved: tuple[str, ...], listed: bool
) -> None:
    entry = known(
        Fingerprint("effects", "lost", "task", "", ("goals_add_task", "note")), label=label
    )
    vague = found(label=Label.UNLABELLED)
    assert (matching(vague, [entry], involved) is entry) is listed


def test_what_is_not_minimal_names_the_tools_that_it_may_need(tmp_path: Path) -> None:
    trace = lost_task()
    assert trace.finding is not None
    for shrink, involved in (
        (Shrink(finished=True, failed=1, of=5), None),
        (Shrink(finished=True, failed=0, of=5), ("goals_add_task",)),
        (Shrink(finished=False), ("goals_add_task",)),
    ):
        path = replace(trace, shrink=shrink).save(tmp_path / "t")
        assert met(Kept(trace.finding, path)).involved == involved
    quirk = replace(trace.finding, label=Label.SEQUENTIAL)
    assert met(Kept(quirk, path)).involved is None
    assert met(Kept(trace.finding, None)).involved is None


# ------------------------------------------------------------------ what becomes of entries


@given(st.floats(0.01, 0.99))
def test_so_many_replays_tell_and_no_fewer(rate: float) -> None:
    assert (1 - rate) ** needed(rate) < 0.01 <= (1 - rate) ** (needed(rate) - 1)


@given(st.integers(1, 99).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_rate_is_never_more_than_what_was_seen_and_never_certain(seen: tuple[int, int]) -> None:
    failed, of = seen
    assert known(failed=failed, of=of).rate() <= failed / of
    assert known(failed=failed, of=of).rate() < 1


def test_a_rate_is_the_least_that_luck_leaves_likely() -> None:
    """Figures of Clopper and Pearson, one-sided; their closed form where all failed."""
    assert rate(5, 5) / ELSEWHEN == pytest.approx(0.05 ** (1 / 5), abs=1e-6)
    assert rate(4, 5) / ELSEWHEN == pytest.approx(0.3426, abs=1e-4)
    assert rate(1, 10) / ELSEWHEN == pytest.approx(1 - 0.95 ** (1 / 10), abs=1e-6)
    assert rate(0, 7) == rate(0, 0) == 0


def test_what_one_agent_alone_shows_needs_no_luck() -> None:
    assert known(label="sequential", failed=1, of=1).rate() == pytest.approx(2 / 3)
    assert known(label="race", failed=1, of=1).rate() == pytest.approx(0.05 * ELSEWHEN)
    timed = replace(LOST, faults=("full-disk",))
    assert (
        known(timed, label="sequential", failed=1, of=1).rate()
        == known(label="race", failed=1, of=1).rate()
    )


def status(entry: Known, replays: tuple[int, int] = (0, 0), **more: Any) -> tuple[str, str]:
    (settled_,) = settled(
        Baseline(None, (entry,)), replays={entry.fingerprint: replays}, today=TODAY, **more
    )
    return settled_.status, settled_.why


def test_found_or_failed_again_is_found() -> None:
    assert status(known(), found=[known().fingerprint])[0] == "found"
    assert status(known(), (1, 4), found=[])[0] == "found"


def test_stale_is_what_luck_does_not_explain() -> None:
    few, enough = needed(known().rate()) - 1, needed(known().rate())
    assert status(known(), (0, enough), found=[]) == (
        "stale",
        "0 of 15 replays failed; by chance in 0.8% of cases",
    )
    assert status(known(), (0, few), found=[]) == (
        "not judged",
        "0 of 14 replays failed; 15 would tell",
    )
    assert status(known(failed=1), (0, enough), found=[])[0] == "not judged"
    assert status(known(), found=[]) == ("not judged", "its trace was not replayed")
    assert status(known(failed=0, of=0), (0, 99), found=[])[0] == "not judged"


def test_without_a_trace_it_is_stale_even_if_it_was_found() -> None:
    unread = {known().fingerprint: "no trace at x"}
    entry = known()
    told = status(entry, found=[entry.fingerprint], unread=unread)
    assert told == ("stale", "no trace at x")


def test_an_entry_holds_until_the_end_of_its_day() -> None:
    for day, wanted in ((TODAY, "found"), (TODAY - timedelta(days=1), "expired")):
        entry = known(expires=day)
        assert status(entry, found=[entry.fingerprint])[0] == wanted


@pytest.mark.parametrize(
    ("expr", "value", "actual", "allowed"),
    [
        ("calls.p95 < 2s", 3.0, 3.3, True),
        ("calls.p95 < 2s", 3.0, 3.31, False),
        ("calls.p95 < 2s", 3.0, 1.0, True),
        ("overlap.avg >= 2", 1.5, 1.36, True),
        ("overlap.avg >= 2", 1.5, 1.3, False),
        ("violations.total == 4", 6, 6.5, True),
        ("violations.total == 4", 6, 7, False),
    ],
)
def test_a_missed_threshold_may_be_a_little_worse(
    expr: str, value: float, actual: float, allowed: bool
) -> None:
    tolerated = Tolerated(expr=expr, value=value, tolerance=0.1, reason="x")
    assert tolerated.allows(actual) is allowed


def test_a_threshold_is_listed_however_it_is_written() -> None:
    entry = Tolerated(expr="calls.p95<2s", value=3, reason="x")
    assert Baseline(None, (), (entry,)).tolerated("calls.p95  <  2s") is entry
    assert Baseline(None, (), (entry,)).tolerated("calls.p95 < 3s") is None


# ------------------------------------------------------------------ writing it


def test_the_entry_of_a_trace() -> None:
    trace = replace(lost_task(), shrink=Shrink(finished=True, failed=4, of=5))
    entry = entry_of(trace, "../traces/x", "because")
    assert trace.finding is not None
    assert entry.stands_for() == trace.finding.fingerprint
    assert (entry.trace, entry.reason, entry.failed, entry.of) == ("../traces/x", "because", 4, 5)
    with pytest.raises(UsageError, match="no finding"):
        entry_of(replace(trace, findings=()), "x", "because")


def test_reason_and_expiry_stay_and_the_better_known_rate_does() -> None:
    old = Baseline(None, (known(reason="mine", expires=TODAY, failed=3, of=10),))
    assert kept_reasons(known(reason="new"), old) == old.findings[0]
    fresh = known(reason="new", failed=9, of=20)
    assert kept_reasons(fresh, old) == replace(fresh, reason="mine", expires=TODAY)
    other = known(Fingerprint("order", "x", "y"))
    assert kept_reasons(other, old) == other
