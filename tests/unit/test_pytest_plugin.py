"""State machines as test cases in somebody's own suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import ledger
from fakes.rigs import Script, lost
from mcpconc import rig as rigs
from mcpconc.errors import TargetError
from mcpconc.oracle.base import UNPROMISED, Finding, Fingerprint
from mcpconc.program import Program
from mcpconc.strategies import ProgramMachine
from mcpconc.target.base import Identity
from mcpconc.trace import load


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script().take_over(monkeypatch, rigs)


SUITE = """
    from hypothesis import settings
    from fakes.ledger import {machine}
    from mcpconc.strategies import Knobs

    class Small({machine}):
        knobs = Knobs(agents=2, calls=4)

    TestLedger = Small.TestCase
    TestLedger.settings = settings(max_examples={examples}, stateful_step_count=8, deadline=None)
"""


@pytest.fixture(autouse=True)
def the_ledger_has_a_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ProgramMachine, "deliver", None)  # ours is that of the inner session
    with ledger.installed():
        yield


def suite(pytester: pytest.Pytester, *, machine: str = "AddMachine", examples: int = 3) -> None:
    pytester.makepyfile(test_suite=SUITE.format(machine=machine, examples=examples))


def run(pytester: pytest.Pytester, mode: str, *options: str) -> pytest.RunResult:
    target = ledger.write(pytester.path, mode)
    words = ["-p", "no:cacheprovider", "--mcpconc-target", str(target)]
    return pytester.runpytest_inprocess(*words, *options)


# ------------------------------------------------------------------ on the ledger


def test_a_correct_server_passes_and_the_summary_says_what_was_run(
    pytester: pytest.Pytester,
) -> None:
    suite(pytester)
    result = run(pytester, "correct")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= mcpconc =*", "3 programs, * calls against *ledger-correct.toml"]
    )


def test_a_race_fails_the_test_with_the_minimised_report(pytester: pytest.Pytester) -> None:
    suite(pytester)
    result = run(pytester, "racy", "--mcpconc-scheduler", "barrier")
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    report = said[said.index("✗") : said.index("= mcpconc =")].splitlines()
    assert report[0].startswith("✗ lost-append entry  add ‖ add   (")
    assert "→ 2 concurrent calls" in report[0]
    assert "race" in report[0]
    assert report[-3].startswith("  mcpconc show traces/lost-append-entry-")
    for unwelcome in ("Flaky", "inconsistent", "Unreliable", "Traceback", "state.add"):
        assert unwelcome not in said
    (trace,) = (pytester.path / "traces").iterdir()
    assert load(trace).program.concurrent() == 2


def test_a_sequential_defect_is_told_and_fails_nothing(pytester: pytest.Pytester) -> None:
    suite(pytester)
    result = run(pytester, "drops")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["sequential: effects: lost-append entry (add): *"])


def test_what_nothing_promised_is_told_and_fails_nothing(
    pytester: pytest.Pytester, script: Script
) -> None:
    fingerprint = Fingerprint("isolation", UNPROMISED, "entry")
    script.shows = lambda program: [Finding(fingerprint, "agent 1 cannot rely on it")]
    suite(pytester)
    result = run(pytester, "correct")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not promised: isolation: *: agent 1 cannot rely on it"])


def test_what_fails_only_once_is_no_flakiness(pytester: pytest.Pytester, script: Script) -> None:
    script.shows = lambda program: [lost(program)] if len(script.ran) == 1 else []
    suite(pytester)
    result = run(pytester, "correct")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["✗ lost entry *"])
    result.stdout.no_fnmatch_line("*Flaky*")


def test_a_target_that_failed_is_not_tried_again(pytester: pytest.Pytester, script: Script) -> None:
    def fails(program: Program) -> list[Finding]:
        raise TargetError("the server is gone")

    script.shows = fails
    suite(pytester)
    result = run(pytester, "correct")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["mcpconc: the server is gone"])
    assert len(script.ran) == 1


# ------------------------------------------------------------------ what one may ask for


@pytest.mark.parametrize("examples", [1, 4])
def test_the_settings_of_the_user_are_respected(
    pytester: pytest.Pytester, script: Script, examples: int
) -> None:
    suite(pytester, examples=examples)
    run(pytester, "correct").assert_outcomes(passed=1)
    assert 0 < len(script.ran) <= examples
    assert len(script.ran) > examples - 2


def test_every_option_arrives(
    pytester: pytest.Pytester, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "IDENTITIES", tuple(Identity))
    suite(pytester)
    words = ["--mcpconc-identity", "shared", "--mcpconc-agents", "7"]
    run(pytester, "drops", *words, "--mcpconc-scheduler", "convoy").assert_outcomes(passed=1)
    target = str(pytester.path / "ledger-drops.toml")
    assert script.opened == [(target, "shared", 7)]
    assert {program.agents for _, program, *_ in script.ran} == {7}
    assert {(ran[0], ran[2]) for ran in script.ran} == {("shared", "convoy")}


def test_what_is_not_asked_for(pytester: pytest.Pytester, script: Script) -> None:
    suite(pytester)
    run(pytester, "correct")
    assert [opened[1:] for opened in script.opened] == [("explicit", 2)]
    assert {ran[2] for ran in script.ran} == {"mixed"}


def test_machines_of_different_size_share_the_target(
    pytester: pytest.Pytester, script: Script
) -> None:
    suite(pytester)
    more = (
        "\n    class Large(Small):\n        knobs = Knobs(agents=3)\n    TestLarge = Large.TestCase"
    )
    pytester.makepyfile(test_suite=SUITE.format(machine="AddMachine", examples=2) + more)
    run(pytester, "correct").assert_outcomes(passed=2)
    assert [agents for *_, agents in script.opened] == [2, 3]


def test_where_traces_go_and_as_they_were_met(pytester: pytest.Pytester) -> None:
    suite(pytester)
    words = ["--mcpconc-scheduler", "barrier", "--mcpconc-out", "kept", "--mcpconc-no-shrink"]
    run(pytester, "racy", *words).assert_outcomes(failed=1)
    assert not (pytester.path / "traces").exists()
    (trace,) = (pytester.path / "kept").iterdir()
    assert load(trace).program.concurrent() > 2


def test_suites_without_machines_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*mcpconc*programs*")


def test_afterwards_machines_are_nobodys(pytester: pytest.Pytester, script: Script) -> None:
    suite(pytester)
    run(pytester, "correct")
    assert ProgramMachine.deliver is None


# ------------------------------------------------------------------ bad requests


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("target", "nope", "unknown target 'nope'; use empirica, *"),
        ("scheduler", "lucky", "unknown scheduler 'lucky': use one of free, *"),
        ("identity", "nobody", "unknown identity mode 'nobody': this target has explicit"),
        ("agents", "0", "--mcpconc-agents 0: there must be at least one"),
    ],
)
def test_a_bad_request_is_one_line(
    pytester: pytest.Pytester, script: Script, option: str, value: str, said: str
) -> None:
    suite(pytester)
    result = run(pytester, "correct", f"--mcpconc-{option}", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: mcpconc: {said}"])
    assert script.ran == []


def test_a_server_that_does_not_start_is_one_line(pytester: pytest.Pytester) -> None:
    suite(pytester)
    target = pytester.path / "dead.toml"
    server = ledger.HERE / "server.py"
    target.write_text(f'[server]\nargv = ["{{python}}", "-S", "{server}", "exits"]')
    result = run(pytester, "correct", "--mcpconc-target", str(target))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["mcpconc: the server of agent * its last words: cannot open *"])
    result.stdout.no_fnmatch_line("*Flaky*")
    result.stdout.no_fnmatch_line("*.py:[0-9]*")
