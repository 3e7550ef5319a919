"""Programs as data: what a call says of itself survives, and old programs stay what they were."""

from __future__ import annotations

from typing import Any

import pytest

from mcpconc import cuts
from mcpconc.program import Bad, Call, Program, Ref, Unbound, bind

BAD = Bad("missing", "goal_id", "goal_id is left out", forbidden=True)

OLD: dict[str, Any] = {
    "agents": 1,
    "inflight": 1,
    "prefix": [
        {"id": "0.0", "agent": 0, "tool": "make", "args": {"name": "x"}, "token": ""},
        {"id": "0.1", "agent": 0, "tool": "use", "args": {"id": {"$ref": "0.0", "path": "id"}}},
    ],
    "lanes": [[]],
    "suffix": [],
}
"""As programs were written before calls could be bad and references could be cut."""


def test_a_program_without_bad_input_has_the_digest_that_it_always_had():
    program = Program.from_json(OLD)
    assert program.digest() == "a048d62cb5037489"
    assert all("bad" not in call for call in program.to_json()["prefix"])


def test_what_is_bad_and_why_survives_json():
    call = Call("0.0", 0, "goals_complete", {"id": Ref("0.9", "goal_id", keep=8)}, bad=BAD)
    program = Program(1, prefix=(call,))
    assert Program.from_json(program.to_json()) == program


def test_a_prefix_of_an_id_is_cut_when_it_is_known():
    assert bind({"id": Ref("0.0", "id", keep=4)}, {"0.0": {"id": "abcdefgh"}}) == {"id": "abcd"}
    with pytest.raises(Unbound):
        bind(Ref("0.0", "name", keep=4), {"0.0": {"id": "abcdefgh"}})


def test_making_a_program_smaller_leaves_what_makes_a_call_bad():
    huge = Bad("huge-text", "text", "300 characters")
    call = Call("0.0", 0, "note", {"text": "x" * 300, "tag": "y" * 300}, bad=huge)
    program = Program(1, prefix=(call,))
    assert cuts.shorten(program) == program
    assert cuts.droppable(call) == {"tag"}


def test_a_prefix_stays_one_when_its_source_is_replaced():
    make = [Call(f"0.{n}", 0, "make", {}) for n in range(2)]
    use = Call("0.2", 0, "use", {"id": Ref("0.1", "id", keep=3)}, bad=BAD)
    smaller = cuts.redirect(Program(1, prefix=(*make, use)), "0.1", "0.0")
    assert smaller.prefix[-1].args == {"id": Ref("0.0", "id", keep=3)}
    assert smaller.prefix[-1].bad == BAD
