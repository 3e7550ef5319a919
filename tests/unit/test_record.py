"""The log of a run on disk: what a killed writer leaves is read, anything else is refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.drive.record import Recorder, read_history
from mcpconc.errors import InvariantError, TraceError, UsageError
from mcpconc.history import EventType

INVOKE = {"tool": "t", "args": {"x": "é\n"}, "token": "", "phase": "lane"}


def recorded(path: Path, calls: int = 3) -> Recorder:
    recorder = Recorder(path, clock=itertools.count().__next__)
    for n in range(calls):
        recorder.append(EventType.INVOKE, n, f"c{n}", INVOKE)
    return recorder


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "h.jsonl")
    assert read_history(tmp_path / "h.jsonl") == (tuple(recorder.events), True)


def test_index_is_the_append_order_and_the_clock_is_only_noted(tmp_path: Path) -> None:
    recorder = Recorder(None, clock=itertools.count(100, -10).__next__)
    events = [recorder.note("x") for _ in range(3)]
    assert [(e.index, e.ns) for e in events] == [(0, 100), (1, 90), (2, 80)]


def test_each_event_is_on_disk_before_the_next(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "h.jsonl", calls=1)
    assert len(read_history(tmp_path / "h.jsonl")[0]) == 1
    recorder.note("more")
    assert len(read_history(tmp_path / "h.jsonl")[0]) == 2


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_log_cut_anywhere_in_its_last_line_keeps_the_lines_before(
    tmp_path: Path, cut: int
) -> None:
    recorder = recorded(tmp_path / "h.jsonl")
    whole = (tmp_path / "h.jsonl").read_bytes()
    (tmp_path / "h.jsonl").write_bytes(whole[:-cut])
    events, complete = read_history(tmp_path / "h.jsonl")
    lost = 0 if cut == 1 else 1  # without its newline a line is still whole
    assert events == tuple(recorder.events[: 3 - lost])
    assert not complete


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    recorded(tmp_path / "h.jsonl")
    lines = (tmp_path / "h.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\n"
    (tmp_path / "h.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(TraceError, match=r"h\.jsonl, line 2"):
        read_history(tmp_path / "h.jsonl")


def test_a_missing_line_is_noticed(tmp_path: Path) -> None:
    recorded(tmp_path / "h.jsonl")
    first, _, third = (tmp_path / "h.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "h.jsonl").write_bytes(first + third)
    with pytest.raises(TraceError, match="event 2 where 1 is due"):
        read_history(tmp_path / "h.jsonl")


def test_an_empty_log_is_a_log(tmp_path: Path) -> None:
    Recorder(tmp_path / "h.jsonl").close()
    assert read_history(tmp_path / "h.jsonl") == ((), True)


def test_no_log_is_a_trace_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot read the history"):
        read_history(tmp_path / "h.jsonl")


def test_a_history_is_never_overwritten(tmp_path: Path) -> None:
    recorded(tmp_path / "h.jsonl").close()
    with pytest.raises(UsageError, match="File exists"):
        Recorder(tmp_path / "h.jsonl")


def test_a_full_disk_is_told_in_one_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    recorder = Recorder(None)
    recorder.path, recorder._file = full, os.open(full, os.O_WRONLY)
    with pytest.raises(UsageError, match="No space left"):
        recorder.note("x")


def test_nothing_is_appended_to_a_closed_log(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "h.jsonl")
    recorder.close()
    with pytest.raises(InvariantError, match="after the log was closed"):
        recorder.note("x")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=()), max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(json_values)
def test_whatever_a_target_says_is_recorded_as_it_is_read(value: object) -> None:
    recorder = Recorder(None)
    event = recorder.append(EventType.OK, 0, "c", {"data": value})
    assert orjson.loads(orjson.dumps(event.to_json())) == event.to_json()
