"""`mcpconc bench linearize`: what is read, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcpconc.cli import main
from mcpconc.errors import Exit, TraceError
from mcpconc.published import read
from samples import lost_task

Capture = pytest.CaptureFixture[str]


def register_log(*events: str) -> str:
    """Each event is ``PROCESS TYPE NAME VALUE``."""
    lines = []
    for event in events:
        process, type, name, value = event.split(maxsplit=3)
        lines.append(f"INFO  jepsen.util - {process}\t:{type}\t:{name}\t{value}\n")
    return "".join(lines)


def key_value_log(*events: str) -> str:
    """Each event is ``PROCESS TYPE NAME KEY VALUE``; no value is nil."""
    lines = []
    for event in events:
        process, type, name, key, *value = event.split()
        text = f'"{value[0]}"' if value else "nil"
        lines.append(
            f'{{:process {process}, :type :{type}, :f :{name}, :key "{key}", :value {text}}}\n'
        )
    return "".join(lines)


GOOD = register_log(
    "0 invoke read nil",
    "1 invoke write 3",
    "0 ok read nil",
    "2 invoke cas [3 4]",
    "1 ok write 3",
    "2 ok cas [3 4]",
    "3 invoke read nil",
    "3 ok read 4",
)
STALE = register_log(
    "1 invoke write 3", "1 ok write 3", "3 invoke read nil", "3 ok read nil", "3 invoke read nil"
)
TIMED_OUT = register_log(
    "1 invoke write 3",
    "1 info write :timed-out",
    "2 invoke read nil",
    "2 fail read :timed-out",
    "3 invoke cas [7 8]",
    "3 fail cas [7 8]",
    "4 invoke read nil",
    "4 ok read 3",
)
TWO_KEYS = key_value_log(
    "0 invoke append x a",
    "1 invoke append y b",
    "0 ok append x a",
    "1 ok append y b",
    "2 invoke get x",
    "2 ok get x a",
    "2 invoke get y",
    "2 ok get y b",
)
LOST = key_value_log("0 invoke put x a", "0 ok put x a", "2 invoke get x", "2 ok get x z")


def bench(capsys: Capture, *words: object) -> tuple[int, dict[str, Any]]:
    code = main(["bench", "linearize", "--json", *map(str, words)])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    texts = {"good.log": GOOD, "stale.log": STALE, "keys.txt": TWO_KEYS, "lost.txt": LOST}
    for name, text in {**texts, "empty.log": "", "other.log": "hello\n"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_each_history_in_a_directory_gets_a_verdict(logs: Path, capsys: Capture) -> None:
    code, document = bench(capsys, logs)
    verdicts = {Path(h["path"]).name: h["verdict"] for h in document["histories"]}
    assert code == Exit.VIOLATION
    assert verdicts == {
        "good.log": "ok",
        "keys.txt": "ok",
        "lost.txt": "violation",
        "stale.log": "violation",
    }
    assert document["total"]["verdicts"] == {"ok": 2, "violation": 2}
    assert document["total"]["steps"] == sum(h["steps"] for h in document["histories"])


def test_all_that_was_measured_is_told(logs: Path, capsys: Capture) -> None:
    code, document = bench(capsys, logs / "keys.txt")
    (told,) = document["histories"]
    assert code == Exit.PASSED
    assert (told["kind"], told["operations"], told["objects"]) == ("kv", 4, 2)
    assert told["steps"] >= 4
    assert told["states"] == 4
    assert told["seconds"] >= 0
    assert told["peak_mb"] > 1


def test_keys_may_be_judged_as_one_object(logs: Path, capsys: Capture) -> None:
    _, document = bench(capsys, "--whole", logs / "keys.txt")
    assert (document["histories"][0]["objects"], document["histories"][0]["verdict"]) == (1, "ok")


def test_a_table_for_people(logs: Path, capsys: Capture) -> None:
    main(["bench", "linearize", str(logs / "good.log"), str(logs / "stale.log")])
    head, good, stale, total = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "verdict"
    assert good.startswith("ok ")
    assert stale.startswith("violation ")
    assert total.endswith("2 histories: 1 ok, 1 violation")


def test_a_history_that_takes_too_many_steps_is_undecided(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "good.log").write_text(GOOD)
    code, document = bench(capsys, "--steps", 1, tmp_path)
    assert (code, document["histories"][0]["verdict"]) == (Exit.INCONCLUSIVE, "unknown")


def test_runs_of_our_own_are_judged_too(tmp_path: Path, capsys: Capture) -> None:
    lost_task().save(tmp_path / "traces" / "lost-task")
    code, document = bench(capsys, tmp_path)
    (told,) = document["histories"]
    assert (code, told["kind"], told["verdict"]) == (Exit.VIOLATION, "run", "violation")


def test_what_nobody_answered_may_have_happened(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lost.log").write_text(TIMED_OUT)
    _, document = bench(capsys, tmp_path)
    assert document["histories"][0]["verdict"] == "ok"


def test_only_a_cas_can_fail_and_have_happened() -> None:
    history = read("log", TIMED_OUT)
    assert history is not None
    (partition,) = history.partitions
    assert [(op.name, op.input, op.output, op.answered) for op in partition.ops] == [
        ("write", "3", None, False),
        ("cas", ("7", "8"), False, True),
        ("read", None, "3", True),
    ]


def test_an_empty_log_does_not_count() -> None:
    assert read("log", "\n") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "log: neither a Jepsen register log"),
        (GOOD + "hello\n", "log, line 9: garbled: 'hello'"),
        (register_log("0 invoke read nil", "1 ok read 3"), "log, line 2: process 1 has no open"),
        (register_log("0 invoke read nil", "0 ok write 3"), "log, line 2: process 0 has no open"),
    ],
)
def test_what_is_not_understood_is_named(text: str, why: str) -> None:
    with pytest.raises(TraceError, match=why):
        read("log", text)


@pytest.mark.parametrize("what", ["missing.log", "nothing"])
def test_no_history_is_a_usage_error(what: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(["bench", "linearize", str(tmp_path / what)]) == Exit.USAGE
    assert what in capsys.readouterr().err
