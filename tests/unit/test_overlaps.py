"""Which tools were in flight at once."""

from __future__ import annotations

from mcpconc.program import Program
from mcpconc.rig import pairs
from samples import call, told

PROGRAM = Program(
    2,
    prefix=(call("0.0", "set_up"),),
    lanes=((call("0.1", "b"), call("0.2", "c")), (call("1.0", "a"), call("1.1", "b"))),
)
DONE = {"ok": True}


def test_pairs_are_of_calls_that_overlap_in_the_concurrent_part() -> None:
    history = told(
        PROGRAM,
        [
            *(("0.0",), ("0.0", DONE)),
            *(("0.1",), ("1.0",), ("1.0", DONE), ("1.1",), ("0.1", DONE), ("1.1", "died")),
            *(("0.2",), ("0.2", DONE)),
        ],
    )
    assert pairs(history) == (("a", "b"), ("b", "b"))


def test_one_after_another_there_are_none() -> None:
    steps = [step for name in ("0.1", "1.0", "0.2") for step in ((name,), (name, DONE))]
    assert pairs(told(PROGRAM, steps)) == ()
