"""Points as a probe says them, and schedules as they are recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpconc.errors import TraceError
from mcpconc.schedule.points import INVOKE, Kill, Point, Recorded, named_anew, pack, unpack

few = st.integers(0, 3)
labels = st.text(max_size=5) | st.sampled_from(["skip", "kill", "BEGIN", "COMMIT"])
steps = st.lists(st.tuples(few, few, labels), max_size=20)
kills = st.builds(Kill, few, few, labels, st.integers(1, 5))
skips = st.none() | st.lists(st.frozensets(labels), max_size=3)


@given(st.lists(st.tuples(few, few, labels) | kills, max_size=20), skips)
def test_what_is_packed_is_unpacked(
    done: list[tuple[int, int, str] | Kill], skip: list[frozenset[str]] | None
) -> None:
    packed = json.loads(json.dumps(pack(done, skip)))
    assert unpack(packed) == Recorded(
        tuple(one for one in done if not isinstance(one, Kill)),
        None if skip is None else tuple(skip),
        tuple(one for one in done if isinstance(one, Kill)),
    )


@given(steps)
def test_a_schedule_has_one_form_however_it_was_cut(done: list[tuple[int, int, str]]) -> None:
    assert pack(unpack([[*one] for one in done]).steps) == pack(done)


def test_an_uninterrupted_thread_is_one_block() -> None:
    done = [(0, 1, "a"), (0, 1, "b"), (1, 1, "a"), (0, 1, "c")]
    assert pack(done, [frozenset({"r:x"})]) == [
        ["skip", [["r:x"]]],
        [0, 1, "a", "b"],
        [1, 1, "a"],
        [0, 1, "c"],
    ]


@pytest.mark.parametrize(
    "schedule",
    [[[]], [[1]], [["x", 1, "a"]], [5], [None], [["kill", 0]], [["skip"]], [{}], [["skip", 3]]],
)
def test_what_is_no_schedule_is_refused(schedule: list[Any]) -> None:
    with pytest.raises(TraceError, match="not a schedule"):
        unpack(schedule)


def test_a_point_has_what_was_said_of_it() -> None:
    said = {"kind": "sql", "label": "BEGIN", "db": "m.db", "needs": "write", "writes": ["m.db:t"]}
    point = Point.from_json({**said, "holds": ["o.db"], "more": "than is known"})
    assert (point.lock, point.holds, point.writes) == ("m.db", {"o.db"}, {"m.db:t"})


@pytest.mark.parametrize("said", [{}, {"kind": "sql"}, {"label": "x"}, [], 3, None])
def test_what_is_no_point_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="not a point"):
        Point.from_json(said)


@pytest.mark.parametrize(
    ("kind", "needs", "holds", "lock", "frees"),
    [
        ("sql", "write", (), "m.db", ""),
        ("sql", "ddl", (), "m.db", ""),
        ("sql", "write", ("m.db",), "", ""),
        ("sql", "read", (), "", ""),
        ("sql", "", ("m.db",), "", ""),
        ("sql", "commit", ("m.db",), "", "m.db"),
        ("lock", "write", (), "m.db", ""),
        ("lock", "", ("m.db",), "", "m.db"),
    ],
)
def test_which_lock_is_taken_and_which_is_let_go(
    kind: str, needs: str, holds: tuple[str, ...], lock: str, frees: str
) -> None:
    point = Point(kind, "label", "m.db", needs, frozenset(holds))
    assert (point.lock, point.frees) == (lock, frees)


def test_schedules_may_differ_in_names_of_threads_only() -> None:
    def schedule(worker: int) -> list[tuple[int, int, str]]:
        call = [(0, 0, f"{INVOKE} a"), (0, 1, "x"), (1, worker, "y"), (0, worker, "z")]
        return [*call, *call]

    assert named_anew(schedule(2)) == named_anew(schedule(4))
    assert named_anew(schedule(2)) != named_anew(schedule(1))
