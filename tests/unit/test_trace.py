"""Traces: what is saved is what is loaded, and damage is named by file and line."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.delta import diff, patch
from mcpconc.errors import Exit, TraceError, UsageError
from mcpconc.jsontext import parse, readable
from mcpconc.snapshot import Snapshot
from mcpconc.trace import environment, find, load, slug, to_run
from mcpconc.verdict import Verdict
from samples import lost_task


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return lost_task().save(tmp_path / "lost-task-1234abcd")


def fails(path: Path) -> str:
    with pytest.raises(TraceError) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit == Exit.USAGE
    return text


# ------------------------------------------------------------------ there and back


def test_a_loaded_trace_is_the_saved_one(saved: Path) -> None:
    trace = load(saved)
    assert trace == dataclasses.replace(lost_task(), path=saved)


def test_its_trace_json_names_it_too(saved: Path) -> None:
    assert load(saved / "trace.json") == load(saved)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = load(saved).save(tmp_path / "again")
    for file in ("trace.json", "history.jsonl", "before.json", "snapshot.json"):
        assert (again / file).read_bytes() == (saved / file).read_bytes()


def test_saving_again_replaces_and_leaves_nothing_beside(saved: Path) -> None:
    dataclasses.replace(lost_task(), seed=9, stderr={}).save(saved)
    assert load(saved).seed == 9
    assert not (saved / "stderr").exists()
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


def test_a_failed_save_leaves_the_old_trace(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    changed = dataclasses.replace(lost_task(), seed=9)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        changed.save(saved)
    assert load(saved).seed == 8121
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


def test_the_template_is_kept_once(saved: Path) -> None:
    assert "migration 1" in (saved / "before.json").read_text()
    assert "migration" not in (saved / "snapshot.json").read_text()


def test_a_trace_without_snapshots(tmp_path: Path) -> None:
    bare = dataclasses.replace(lost_task(), before=None, after=None)
    assert load(bare.save(tmp_path / "t")).after is None


def test_a_trace_with_only_the_state_left(tmp_path: Path) -> None:
    trace = dataclasses.replace(lost_task(), before=None)
    assert load(trace.save(tmp_path / "t")).after == trace.after


def test_only_the_tail_of_stderr_is_kept(tmp_path: Path) -> None:
    loud = dataclasses.replace(lost_task(), stderr={"agent-0.txt": "x" * 10**6 + "end"})
    text = load(loud.save(tmp_path / "t")).stderr["agent-0.txt"]
    assert len(text) < 20_000
    assert text.endswith("end")


def test_the_environment_is_a_short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    facts = environment()
    assert set(facts) == {"platform", "python", "cpus", "sqlite", "git"}
    assert "hunter2" not in str(facts)


def test_lone_surrogates_from_a_target_survive(tmp_path: Path) -> None:
    trace = lost_task()
    odd = dataclasses.replace(trace.findings[0], evidence={"text": "\ud800"})
    path = dataclasses.replace(trace, findings=(odd,)).save(tmp_path / "t")
    assert load(path).findings[0].evidence == {"text": "\ud800"}


def test_what_oracles_get(saved: Path) -> None:
    run = to_run(load(saved), None)
    assert len(run.history.operations) == 5
    assert run.after is not None
    assert len(run.after.rows("sessions", "subtasks")) == 1
    assert run.identity == "isolated"


def test_the_slug_names_the_finding() -> None:
    finding = lost_task().findings[0]
    assert slug(finding) == f"lost-task-{finding.fingerprint.digest()}"


# ------------------------------------------------------------------ runs that were cut off


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The working directory of a run that was killed while it wrote an event."""
    lost_task().save(tmp_path / "whole")
    directory = tmp_path / "run"
    dataclasses.replace(lost_task(), findings=(), verdict=Verdict.UNKNOWN).begin(directory)
    text = (tmp_path / "whole" / "history.jsonl").read_text()
    (directory / "history.jsonl").write_text("".join(text.splitlines(True)[:6]) + '{"i":6,"t"')
    return directory


def test_a_killed_run_is_read_as_far_as_it_got(killed: Path) -> None:
    trace = load(killed)
    assert not trace.complete
    assert not trace.quiescent
    assert trace.program == lost_task().program
    assert len(trace.history.events) == 6
    assert [op.answered for op in trace.history.operations] == [True, True, False, False]


def test_a_run_killed_before_its_first_event(killed: Path) -> None:
    (killed / "history.jsonl").unlink()
    assert load(killed).history.events == ()


def test_a_history_alone_is_enough(killed: Path) -> None:
    (killed / "run.json").unlink()
    program = load(killed).program
    assert [c.tool for c in program.prefix] == ["session_create", "goals_create"]
    assert [len(lane) for lane in program.lanes] == [1, 0, 1]


# ------------------------------------------------------------------ damage


def test_no_such_directory(tmp_path: Path) -> None:
    assert "there is no such directory" in fails(tmp_path / "nowhere")


def test_not_a_trace(tmp_path: Path) -> None:
    assert "neither trace.json nor history.jsonl" in fails(tmp_path)


def test_a_future_format_is_refused_and_says_what_to_do(saved: Path) -> None:
    file = saved / "trace.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 7'))
    text = fails(saved)
    assert "trace format 7 is newer" in text
    assert "upgrade mcpconc" in text


def test_json_that_is_not_a_trace(saved: Path) -> None:
    (saved / "trace.json").write_text("[1]")
    assert "no format version" in fails(saved)


def test_a_trace_json_cut_off(saved: Path) -> None:
    file = saved / "trace.json"
    file.write_text("".join(file.read_text().splitlines(True)[:9]))
    assert "trace.json, line 10: truncated or garbled" in fails(saved)


@pytest.mark.parametrize("key", ["program", "findings", "scheduler", "events", "verdict"])
def test_a_trace_json_that_lacks_something(saved: Path, key: str) -> None:
    data = parse((saved / "trace.json").read_text())
    del data[key]
    (saved / "trace.json").write_text(readable(data))
    assert f"trace.json: garbled: no '{key}'" in fails(saved)


def test_a_history_cut_off_in_a_line(saved: Path) -> None:
    file = saved / "history.jsonl"
    file.write_text(file.read_text()[:-20])
    assert "history.jsonl, line 10: truncated" in fails(saved)


def test_a_history_cut_off_between_lines(saved: Path) -> None:
    file = saved / "history.jsonl"
    file.write_text("".join(file.read_text().splitlines(True)[:8]))
    assert "history.jsonl: truncated: it holds 8 events, trace.json says 10" in fails(saved)


@pytest.mark.parametrize("line", ["", "nonsense", "[]", '{"i":3}', '{"i":0,"t":"ok"}', "[" * 9999])
def test_a_garbled_line(saved: Path, line: str) -> None:
    file = saved / "history.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
    assert "history.jsonl, line 4: garbled" in fails(saved)


def test_lines_in_the_wrong_order(saved: Path) -> None:
    file = saved / "history.jsonl"
    lines = file.read_text().splitlines(True)
    file.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert "line 2: garbled: event 0 follows event 1" in fails(saved)


def test_bytes_that_are_no_text(saved: Path) -> None:
    file = saved / "history.jsonl"
    file.write_bytes(file.read_bytes().replace(b"ai-0", b"\xff\xfe", 1))
    assert "line 1: garbled: it is not UTF-8" in fails(saved)


def test_a_missing_history(saved: Path) -> None:
    (saved / "history.jsonl").unlink()
    assert "history.jsonl is missing" in fails(saved)


def test_a_missing_template(saved: Path) -> None:
    (saved / "before.json").unlink()
    assert "snapshot.json: garbled: it needs before.json" in fails(saved)


def test_a_snapshot_of_another_template(saved: Path) -> None:
    (saved / "before.json").write_text(readable(Snapshot().to_json()))
    assert "snapshot.json: garbled: it is a difference from another before.json" in fails(saved)


# ------------------------------------------------------------------ which trace is meant


@pytest.fixture
def shelf(tmp_path: Path) -> list[Path]:
    roots = [tmp_path / "traces", tmp_path / "out"]
    for root, name in zip(roots * 2, ("lost-1234", "torn-12ab", "lost-row-77", "x-9"), strict=True):
        (root / name).mkdir(parents=True)
    return roots


@pytest.mark.parametrize("name", ["torn", "torn-12ab", "12ab", "12a"])
def test_a_beginning_is_enough(shelf: list[Path], name: str) -> None:
    assert find(name, shelf) == shelf[1] / "torn-12ab"


def test_several_match(shelf: list[Path]) -> None:
    with pytest.raises(TraceError, match=r"lost may mean 2 traces: .*lost-1234, .*lost-row-77;"):
        find("lost", shelf)


def test_none_matches(shelf: list[Path]) -> None:
    with pytest.raises(TraceError, match=r"no trace gone: .*traces or .*out"):
        find("gone", shelf)


def test_a_path_is_a_path(shelf: list[Path], tmp_path: Path) -> None:
    assert find(str(tmp_path / "out" / "x-9"), shelf) == tmp_path / "out" / "x-9"


# ------------------------------------------------------------------ differences

rows = st.lists(
    st.fixed_dictionaries({"_rowid_": st.integers(0, 4), "a": st.sampled_from("xy")}), max_size=6
)
texts = st.dictionaries(st.sampled_from("abc"), st.text(max_size=2), max_size=3)
snapshots = st.builds(
    Snapshot,
    tables=st.dictionaries(
        st.sampled_from("de"), st.dictionaries(st.sampled_from("tuv"), rows, max_size=3), max_size=2
    ),
    refs=texts,
    notes=st.dictionaries(st.sampled_from("nm"), texts, max_size=2),
    files=texts,
)


@given(snapshots, snapshots)
def test_patch_is_the_inverse_of_diff(before: Snapshot, after: Snapshot) -> None:
    assert patch(before, parse(readable(diff(before, after)))) == after
