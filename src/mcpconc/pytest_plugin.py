"""State machines as ordinary test cases in somebody's own suite.

    from mcpconc.strategies import CascadeMachine
    TestCascade = CascadeMachine.TestCase

Each program that the machine writes runs against the target given by ``--mcpconc-target``. A
violation fails the test with the minimised report. A program's verdict is remembered for the
length of the test, so Hypothesis, which runs a failing example again, sees the same answer and
never calls it flaky.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from mcpconc.oracle.base import Finding
    from mcpconc.program import Program
    from mcpconc.rig import Execution, Rig

__all__ = ["Violation"]


class Violation(AssertionError):
    """A program showed a race or a cross-agent defect; the text is the whole report."""


@dataclass(slots=True)
class Bench:
    """The rig that all programs of one pytest run share, and what they showed."""

    target: str
    identity: str
    agents: int
    scheduler: str
    out: Path
    shrink: bool
    _stack: ExitStack = field(default_factory=ExitStack)
    _portal: BlockingPortal | None = None
    _rig: Rig | None = None
    _verdicts: dict[str, Violation | None] = field(default_factory=dict)
    sequential: dict[tuple[str, str, str, str], Finding] = field(default_factory=dict)
    runs: int = 0
    calls: int = 0

    def deliver(self, program: Program) -> None:
        """Run the program; raise its violation, the same one however often it is asked.

        :raises Violation: if the program shows a race or a cross-agent defect.
        """
        digest = program.digest()
        if digest not in self._verdicts:
            self._verdicts[digest] = self._judge(program)
        verdict = self._verdicts[digest]
        if verdict is not None:
            raise verdict

    def _judge(self, program: Program) -> Violation | None:
        from mcpconc.keep import as_trace
        from mcpconc.oracle.base import Label
        from mcpconc.report.finding import finding_report
        from mcpconc.trace import slug

        on = self._open()
        execution: Execution = self._call(on.run, program, self.scheduler, self.runs)
        self.runs += 1
        self.calls += len(execution.run.history.operations)
        for finding in execution.judgement.findings:
            if finding.fingerprint.head() in self.sequential:
                continue
            best = self._call(self._minimise, on, execution, finding)
            if best.finding.label is Label.SEQUENTIAL:
                self.sequential[finding.fingerprint.head()] = best.finding
                continue
            trace = as_trace(on, best.execution, best.finding, 0, best.shrink, best.basis)
            path = trace.save(self.out / slug(best.finding))
            return Violation("\n" + finding_report(trace, path))
        return None

    async def _minimise(self, on: Rig, execution: Execution, finding: Finding) -> Any:
        from mcpconc.minimise import minimise

        return await minimise(
            on,
            execution,
            finding,
            expired=lambda: not self.shrink,
            progress=lambda calls, attempts, finished: None,
        )

    def _open(self) -> Rig:
        if self._rig is None:
            from anyio.from_thread import start_blocking_portal

            from mcpconc.rig import rig
            from mcpconc.target import resolve
            from mcpconc.target.base import Identity

            target = resolve(self.target)
            work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpconc-")))
            self._portal = self._stack.enter_context(start_blocking_portal())
            self._call(target.install, _quiet)
            opened = rig(target, Identity(self.identity), self.agents, work, _quiet)
            self._rig = self._stack.enter_context(self._portal.wrap_async_context_manager(opened))
        return self._rig

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        assert self._portal is not None
        return self._portal.call(function, *args)

    def close(self) -> None:
        self._stack.close()


def _quiet(text: str) -> None:
    del text


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mcpconc", "concurrency fuzzing of MCP servers")
    group.addoption(
        "--mcpconc-target", default="empirica", metavar="SPEC", help="target (default: empirica)"
    )
    group.addoption("--mcpconc-identity", default="isolated", metavar="MODE", help="identity mode")
    group.addoption("--mcpconc-agents", type=int, default=5, metavar="N", help="sessions")
    group.addoption("--mcpconc-scheduler", default="mixed", metavar="NAME", help="scheduler")
    group.addoption(
        "--mcpconc-out", default="traces", metavar="DIR", help="where traces of failures go"
    )
    group.addoption(
        "--mcpconc-no-shrink", action="store_true", help="report programs as they were met"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_BENCH] = None


_BENCH: pytest.StashKey[Bench | None] = pytest.StashKey()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bind the machines only where a test uses them: importing Hypothesis takes a while."""
    import sys

    module = sys.modules.get("mcpconc.strategies.machine")
    if module is None or not items:
        return
    bench = config.stash[_BENCH]
    if bench is None:
        bench = config.stash[_BENCH] = Bench(
            target=config.getoption("--mcpconc-target"),
            identity=config.getoption("--mcpconc-identity"),
            agents=config.getoption("--mcpconc-agents"),
            scheduler=config.getoption("--mcpconc-scheduler"),
            out=Path(config.getoption("--mcpconc-out")),
            shrink=not config.getoption("--mcpconc-no-shrink"),
        )
    module.ProgramMachine.deliver = bench.deliver


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    bench = config.stash.get(_BENCH, None)
    if bench is None or not bench.runs:
        return
    terminalreporter.section("mcpconc")
    terminalreporter.line(f"{bench.runs} programs, {bench.calls} calls against {bench.target}")
    for finding in bench.sequential.values():
        terminalreporter.line(f"sequential: {finding.fingerprint}: {finding.summary}")


def pytest_unconfigure(config: pytest.Config) -> None:
    bench = config.stash.get(_BENCH, None)
    if bench is not None:
        bench.close()
