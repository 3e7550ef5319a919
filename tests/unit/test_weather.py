"""What faults make of a history, and what is said of each: which calls count, what is torn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcpconc.history import Event, EventType, History
from mcpconc.model.spec import Companion
from mcpconc.oracle.base import Result, Run, judge
from mcpconc.oracle.storms import Torn, storms
from mcpconc.oracle.weather import spells, weathered
from runs import Told, effect, history, run, table

FAULT = {"fault": "full-disk", "n": 0, "text": "no space", "refuses": True, "spoils": ""}
NOTE = Companion("note", table="things", where={"text": "note1"})


def stormy(*lines: str, **fault: Any) -> History:
    """A history in which ``!`` is the begin of a fault and ``.`` its end; ``~ how`` notes how an
    agent recovered."""
    plain = iter(history(*(line for line in lines if line[0] not in "!.~")).events)
    events = []
    for index, line in enumerate(lines):
        if line[0] in "!.~":
            what = {"!": "fault", ".": "healed", "~": "recovery"}[line[0]]
            more = {"how": line[2:], "said": []} if what == "recovery" else {**FAULT, **fault}
            events.append(Event(index, EventType.NOTE, -1, "", {"what": what, **more}))
        else:
            events.append(replace(next(plain), index=index))
    return History.of(events)


def fates(told: History) -> dict[str, str]:
    return {op.call: str(op.outcome or op.why) for op in weathered(told)[0].operations}


def test_a_refusal_under_a_fault_says_nothing() -> None:
    told = stormy("1> write", "!", "1< refused", "2> write", ".", "2< refused")
    assert fates(told) == {"1": "refused under full-disk", "2": "refused under full-disk"}


def test_before_and_after_it_a_refusal_is_one() -> None:
    told = stormy("1> write", "1< refused", "!", ".", "2> write", "2< refused")
    assert fates(told) == {"1": "refused", "2": "refused"}


def test_an_acknowledgement_holds_in_any_weather() -> None:
    assert fates(stormy("!", "1> write", "1< ok")) == {"1": "success"}


def test_of_what_is_acknowledged_under_a_fault_parts_may_be_refused() -> None:
    told = stormy("1> write", "!", "1< ok", ".", "2> write", "2< ok")
    assert [op.under for op in weathered(told)[0].operations] == ["full-disk", ""]


def test_a_fault_that_makes_nothing_fail_excuses_nothing() -> None:
    assert fates(stormy("!", "1> write", "1< refused", refuses=False)) == {"1": "refused"}


def test_what_was_never_healed_lasts_to_the_end() -> None:
    (spell,) = spells(stormy("!", "1> write", "1< refused"))
    assert (spell.begin, spell.end) == (0, 3)


def test_without_faults_nothing_changes() -> None:
    told = history("1> write", "1< refused")
    assert weathered(told) == (told, {})
    assert weathered(told)[0] is told


@pytest.mark.parametrize(
    ("spoils", "spares", "asked"),
    [
        ("", (), ["effects", "integrity", "protocol"]),
        ("the database", (), ["protocol"]),
        ("the database", ("integrity",), ["integrity", "protocol"]),
    ],
)
def test_oracles_of_the_state_do_not_judge_what_a_fault_destroyed(
    spoils: str, spares: Sequence[str], asked: list[str]
) -> None:
    told: list[str] = []

    def oracle(name: str) -> tuple[str, Any]:
        def judged(run: Run) -> Result:
            told.append(name)
            return Result(name)

        return name, judged

    names = ("effects", "integrity", "protocol")
    seen = run(Told(), [], table())
    seen = replace(seen, history=stormy("!", "1> write", "1< ok", spoils=spoils, spares=spares))
    judgement = judge(seen, [oracle(name) for name in names])
    assert told == asked
    assert [r.oracle for r in judgement.results] == list(names)
    assert len(judgement.notes) == len(names) - len(asked)


def met(*lines: str, rows: Sequence[str], effects: Sequence[Any], **fault: Any) -> Any:
    """What is said of the one fault of a run that left rows with these texts."""
    seen = run(Told(effect=effects), [], table(*({"text": text} for text in rows)))
    return storms(replace(seen, history=stormy(*lines, **fault)))[0]


def test_a_call_that_did_a_part_is_torn_by_its_steps() -> None:
    write = effect("1", companions=(NOTE,))
    told = met("!", "1> write", "1< lost", ".", "~ by itself", rows=["tok1"], effects=[write])
    assert told.torn == (Torn("1", "write", ("thing",), ("thing's note",)),)
    assert (told.outcome, told.unanswered, told.lost) == ("by itself", ("1",), ())


@pytest.mark.parametrize("rows", [[], ["tok1", "note1"]])
def test_all_or_nothing_is_not_torn(rows: list[str]) -> None:
    write = effect("1", companions=(NOTE,))
    told = met("!", "1> write", "1< lost", ".", "~ by itself", rows=rows, effects=[write])
    assert told.torn == ()


def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    write = effect("1", companions=(NOTE,))
    told = met("!", "1> write", "1< ok", ".", "~ by itself", rows=["tok1"], effects=[write])
    assert (told.outcome, told.lost) == ("data lost", ("thing's note of 1",))


def test_the_worst_of_what_agents_needed_counts() -> None:
    lines = ("!", ".", "~ by itself", "~ needs a person", "~ on the next call")
    assert met(*lines, rows=[], effects=[]).outcome == "needs a person"
