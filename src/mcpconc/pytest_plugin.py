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
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mcpconc.errors import Exit, McpconcError, UsageError

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
    scheduler: str
    out: Path
    shrink: bool
    _rig: Rig | None = None
    _agents: int = 0
    _offered: frozenset[str] = frozenset()
    _stack: ExitStack = field(default_factory=ExitStack)
    _portal: BlockingPortal | None = None
    _verdicts: dict[str, str] = field(default_factory=dict)
    _trouble: McpconcError | None = None
    sequential: dict[tuple[str, str, str, str], Finding] = field(default_factory=dict)
    unpromised: dict[tuple[str, str, str, str], Finding] = field(default_factory=dict)
    runs: int = 0
    calls: int = 0

    def deliver(self, program: Program) -> None:
        """Run the program; raise its violation, the same one however often it is asked.

        :raises Violation: if the program shows a race or a cross-agent defect.
        :raises TargetError: if the target cannot be installed or started; it is not tried again.
        """
        if self._trouble is not None:
            raise self._trouble
        digest = program.digest()
        if digest not in self._verdicts:
            try:
                self._verdicts[digest] = self._judge(program)
            except McpconcError as error:
                self._trouble = error
                raise
        if self._verdicts[digest]:
            raise Violation(self._verdicts[digest])

    def _judge(self, program: Program) -> str:
        """The report of the first violation, or nothing."""
        from mcpconc.keep import as_trace
        from mcpconc.oracle.base import Label
        from mcpconc.report.finding import finding_report
        from mcpconc.trace import slug

        on = self._open(program.agents)
        program = self._possible(on, program)
        execution: Execution = self._call(on.run, program, self.scheduler, self.runs)
        self.runs += 1
        self.calls += len(execution.run.history.operations)
        for finding in execution.judgement.findings:
            head = finding.fingerprint.head()
            if not finding.promised:
                self.unpromised.setdefault(head, finding)
                continue
            if finding.label is Label.SEQUENTIAL:  # a quirk, which the oracle explains itself
                self.sequential.setdefault(head, finding)
            if head in self.sequential:
                continue
            best = self._call(self._minimise, on, execution, finding)
            if best.finding.label is Label.SEQUENTIAL:
                self.sequential[head] = best.finding
                continue
            trace = as_trace(on, best.execution, best.finding, 0, best.shrink, best.basis)
            path = trace.save(self.out / slug(best.finding))
            return finding_report(trace, path)
        return ""

    def _possible(self, on: Rig, program: Program) -> Program:
        """Without the calls of tools that this target does not offer, bad input apart."""
        from mcpconc.cuts import without

        if not self._offered:
            self._offered = self._call(on.tools)
        gone = [c.id for c in program.calls() if c.tool not in self._offered and c.bad is None]
        return without(program, gone) if gone else program

    async def _minimise(self, on: Rig, execution: Execution, finding: Finding) -> Any:
        from mcpconc.minimise import minimise

        return await minimise(
            on,
            execution,
            finding,
            expired=lambda: not self.shrink,
            progress=lambda calls, attempts, finished: None,
        )

    def _open(self, agents: int) -> Rig:
        """A rig with at least so many sessions."""
        if agents > self._agents:
            self.close()
        if self._rig is None:
            from anyio.from_thread import start_blocking_portal

            from mcpconc.rig import rig
            from mcpconc.target import resolve
            from mcpconc.target.base import Identity

            target = resolve(self.target)
            work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpconc-")))
            self._portal = self._stack.enter_context(start_blocking_portal())
            self._call(target.install, _quiet)
            opened = rig(target, Identity(self.identity), agents, work, _quiet)
            self._rig = self._stack.enter_context(self._portal.wrap_async_context_manager(opened))
            self._agents = agents
        return self._rig

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        assert self._portal is not None
        return self._portal.call(function, *args)

    def close(self) -> None:
        """End the servers; the next program starts them again."""
        self._rig, self._agents = None, 0
        self._stack.close()


def _quiet(text: str) -> None:
    del text


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mcpconc", "concurrency fuzzing of MCP servers")
    group.addoption(
        "--mcpconc-target", default="empirica", metavar="SPEC", help="target (default: empirica)"
    )
    group.addoption(
        "--mcpconc-identity", metavar="MODE", help="identity mode (default: the target's first)"
    )
    group.addoption(
        "--mcpconc-agents",
        type=int,
        metavar="N",
        help="agents of each program (default: what the machine's knobs say)",
    )
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
    try:
        bench = config.stash[_BENCH] = _bench(config)
    except UsageError as error:
        raise pytest.UsageError(f"mcpconc: {error}") from None
    config.stash[_BEFORE] = module.ProgramMachine.deliver
    module.ProgramMachine.deliver = bench.deliver
    agents = config.getoption("--mcpconc-agents")
    for machine in map(_machine, items) if agents else ():
        if machine is not None:
            machine.knobs = replace(machine.knobs, agents=agents)


_BEFORE: pytest.StashKey[Any] = pytest.StashKey()


def _machine(item: pytest.Item) -> Any:
    """The state machine whose programs this test runs, if it is one's test case."""
    run = getattr(getattr(item, "cls", None), "runTest", None)
    machine = getattr(run, "_hypothesis_state_machine_class", None)
    return machine if hasattr(machine, "knobs") else None


def _bench(config: pytest.Config) -> Bench:
    """What was asked for.

    :raises UsageError: if it cannot be had.
    """
    from mcpconc.schedule import make
    from mcpconc.target import resolve

    target, identity = config.getoption("--mcpconc-target"), config.getoption("--mcpconc-identity")
    scheduler, agents = (
        config.getoption("--mcpconc-scheduler"),
        config.getoption("--mcpconc-agents"),
    )
    known = resolve(target).identities
    identity = identity or known[0]
    if identity not in known:
        raise UsageError(f"unknown identity mode {identity!r}: this target has {', '.join(known)}")
    if agents is not None and agents < 1:
        raise UsageError(f"--mcpconc-agents {agents}: there must be at least one")
    make(scheduler, 0)
    return Bench(
        target=target,
        identity=identity,
        scheduler=scheduler,
        out=Path(config.getoption("--mcpconc-out")),
        shrink=not config.getoption("--mcpconc-no-shrink"),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a violation is all there is to say: where it was raised says nothing."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, Violation):
        report.longrepr = str(error)
    elif isinstance(error, McpconcError) and error.exit != Exit.BUG and _machine(item):
        report.longrepr = f"mcpconc: {error}"
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    bench = config.stash.get(_BENCH, None)
    if bench is None or not bench.runs:
        return
    terminalreporter.section("mcpconc")
    programs = f"{bench.runs} program{'s' if bench.runs > 1 else ''}"
    terminalreporter.line(f"{programs}, {bench.calls} calls against {bench.target}")
    for finding in bench.sequential.values():
        terminalreporter.line(f"sequential: {finding.fingerprint}: {finding.summary}")
    for finding in bench.unpromised.values():
        terminalreporter.line(f"not promised: {finding.fingerprint}: {finding.summary}")


def pytest_unconfigure(config: pytest.Config) -> None:
    bench = config.stash.get(_BENCH, None)
    if bench is not None:
        import sys

        sys.modules["mcpconc.strategies.machine"].ProgramMachine.deliver = config.stash[_BEFORE]
        bench.close()
