"""Can this target be fuzzed, and what would the oracles not see?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpconc.cuts import without
from mcpconc.errors import Exit, TargetError
from mcpconc.events import Emit, TargetProgress
from mcpconc.interrupt import interrupts
from mcpconc.model.empirica.surface import UNABLE
from mcpconc.oracle.footprint import unjudged
from mcpconc.program import Call, Program, Ref, token_for
from mcpconc.rig import Execution, outcomes, rig
from mcpconc.strategies import CascadeMachine
from mcpconc.strategies.handover import FIRST_ISSUE, OVERVIEWS
from mcpconc.target import resolve
from mcpconc.target.base import Identity, Target
from mcpconc.target.warm import Start
from mcpconc.trace import environment

__all__ = ["Check", "Health", "doctor", "probe"]

JSON_TEXTS = ("metadata", "payload")
"""Arguments that are the text of a JSON object."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer. `state` is ``ok``, ``note`` (worth knowing) or ``bad``."""

    name: str
    state: str
    answer: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """All answers; not all of them where the examination was `interrupted`. `exit` is 3 where
    something is bad, else 0: a defect that a sequential probe shows is worth knowing and does
    not keep the target from being fuzzed."""

    target: str
    checks: tuple[Check, ...]
    interrupted: bool = False

    @property
    def exit(self) -> Exit:
        if self.interrupted:
            return Exit.INTERRUPTED
        bad = any(check.state == "bad" for check in self.checks)
        return Exit.TARGET if bad else Exit.PASSED

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "exit": int(self.exit),
            "checks": [
                {"name": c.name, "state": c.state, "answer": c.answer, "lines": list(c.lines)}
                for c in self.checks
            ],
        }

    def text(self) -> str:
        mark = {"ok": "✓", "note": "!", "bad": "✗"}
        width = max((len(check.name) for check in self.checks), default=0)
        lines = []
        for check in self.checks:
            lines.append(f"{mark[check.state]} {check.name.ljust(width)}  {check.answer}")
            lines += [f"  {' ' * width}  {line}" for line in check.lines]
        return "\n".join(lines) + "\n"


async def doctor(spec: str, work: Path, emit: Emit, start: Start = Start.ORDINARY) -> Health:
    """Install, start and probe the target, whose calls start as `start` says; what goes wrong is
    an answer, not an error.

    :raises UsageError: if `spec` is not a target, or one whose calls cannot start so.
    """
    target = resolve(spec)
    checks: list[Check] = []
    async with interrupts(lambda text: emit(TargetProgress(text))) as signals:
        try:
            await _examine(target, work, emit, checks, start)
        except TargetError as error:
            checks.append(Check("target", "bad", str(error)))
    return Health(target.name, tuple(checks), bool(signals))


async def _examine(
    target: Target, work: Path, emit: Emit, checks: list[Check], start: Start
) -> None:
    def progress(text: str) -> None:
        emit(TargetProgress(text))

    def say(name: str, state: str, answer: str) -> None:
        checks.append(Check(name, state, answer))

    facts = environment()
    say(
        "machine",
        "ok",
        f"Python {facts['python']}, SQLite {facts['sqlite']}, git {facts['git']}, "
        f"{facts['cpus']} processors, {facts['platform']}",
    )
    await target.install(progress)
    say("target", "ok", f"{target.name}, version {target.version or 'unknown'}")
    identity = Identity.ISOLATED if Identity.ISOLATED in target.identities else target.identities[0]
    async with rig(target, identity, 1, work, progress, start) as on:
        say("server", "ok", "started and answered `initialize`")
        listed = sorted(await on.tools())
        checks.append(_tools(target, listed))
        if target.spec is None:
            say("probe", "note", "no model of this target: only generic oracles judge it")
            return
        gone = [call.id for call in probe().calls() if call.tool not in listed]
        program = without(probe(), gone)
        execution = await on.run(program if any(program.calls()) else probe(), "free", 0)
        checks.append(_probed(execution))
        checks += _unable(execution)
        checks.append(_unread(execution))
        busy = on.world.busy()
        say("processes", "bad" if busy else "ok", str(busy) if busy else "none left at work")


def _tools(target: Target, listed: list[str]) -> Check:
    if target.spec is None:
        return Check("tools", "ok", f"{len(listed)}: {', '.join(listed)}")
    driven = [name for name in listed if name in CascadeMachine.tools]
    missing = sorted(set(CascadeMachine.tools) - set(listed))
    state = "note" if missing else "ok"
    lines = (f"not offered by this server: {', '.join(missing)}",) if missing else ()
    return Check("tools", state, f"{len(listed)} listed, {len(driven)} driven and modelled", lines)


def _probed(execution: Execution) -> Check:
    history, judgement = execution.run.history, execution.judgement
    bad = {
        f"{tool}: {outcome} {times}"
        for tool, counts in outcomes(history).items()
        for outcome, times in counts.items()
        if outcome not in ("success", "refused") and tool not in UNABLE
    }
    lines = [str(f.fingerprint) for f in judgement.findings]
    lines += [f"undecided: {line}" for line in judgement.unknown]
    lines += sorted(bad)
    calls = len(history.operations)
    if not lines:
        return Check("probe", "ok", f"{calls} calls by one agent, all as the model says")
    answer = f"{calls} calls by one agent; {len(judgement.findings)} sequential findings"
    return Check("probe", "note", answer, tuple(lines))


def _unable(execution: Execution) -> list[Check]:
    """Tools that can do nothing, whatever they are asked: said once, here."""
    counts = outcomes(execution.run.history)
    failed = [tool for tool in UNABLE if tool in counts and "success" not in counts[tool]]
    if not failed:
        return []
    lines = tuple(f"{tool}: {UNABLE[tool]}" for tool in failed)
    answer = f"{len(failed)} tools cannot succeed, whatever their arguments are"
    return [Check("unable", "note", answer, lines)]


def _unread(execution: Execution) -> Check:
    """What the probe changed and no oracle reads."""
    keys = unjudged(execution.run)
    if keys:
        return Check("unread", "note", f"{len(keys)} kinds of change no oracle reads", keys)
    return Check("unread", "ok", "every change that the probe made is read by an oracle")


def probe() -> Program:
    """One loop of CASCADE by one agent, every modelled tool once, refusals included, and each
    tool that cannot succeed."""
    calls: list[Call] = []

    def call(tool: str, token_in: str = "", **args: Any) -> str:
        token = token_for(0, len(calls)) if token_in else ""
        if token_in:
            text = f'{{"token": "{token}"}}' if token_in in JSON_TEXTS else token
            args = {**args, token_in: text}
        calls.append(Call(f"0.{len(calls)}", 0, tool, args, token))
        return calls[-1].id

    session = Ref(call("session_create", "subject", ai_id="ai-0"), "session_id")
    vectors = {"know": 0.5, "uncertainty": 0.3, "engagement": 0.7}
    call("submit_preflight_assessment", "reasoning", session_id=session, vectors=vectors)
    call("finding_log", "finding", session_id=session, impact=0.5)
    unknown = Ref(call("unknown_log", "unknown", session_id=session), "unknown_id")
    call("unknown_list", session_id=session)
    call("unknown_resolve", "resolved_by", unknown_id=unknown)
    call("submit_check_assessment", "reasoning", session_id=session, vectors=vectors)
    goal = Ref(call("goals_create", "objective", session_id=session, status="planned"), "goal_id")
    other = Ref(call("goals_create", "objective", session_id=session), "goal_id")
    call("goals_activate", goal_id=goal)
    call("goals_activate", goal_id=goal)
    call("goals_add_dependency", "description", goal_id=goal, depends_on=other)
    call("goals_add_dependency", "description", goal_id=goal, depends_on=other)
    task = Ref(call("goals_add_task", "description", goal_id=goal), "task_id")
    call("goals_complete_task", "evidence", task_id=task)
    call("goals_get_tasks", goal_id=goal)
    call("goals_progress", goal_id=goal)
    call("goals_mark_stale", "reason", session_id=session)
    call("goals_refresh", goal_id=other)
    call("goals_complete", "reason", goal_id=goal)
    call("goals_list", session_id=session)
    call("checkpoint_create", "metadata", session_id=session, phase="ACT")
    call("checkpoint_load", session_id=session)
    call("epistemics_list", session_id=session)
    call("assess_state", session_id=session)
    call("submit_postflight_assessment", "reasoning", session_id=session, vectors=vectors)
    _graph(call, session)
    _handing(call, session)
    for tool in UNABLE:
        call(
            tool, **({"title": "x", "name": "x"} if tool in ("source_add", "lesson_create") else {})
        )
    issue = Ref(call("project_bootstrap", session_id=session, depth="full"), FIRST_ISSUE)
    call("issue_list")
    call("issue_resolve", "resolution", session_id=session, issue_id=issue)
    return Program(agents=1, prefix=tuple(calls), lanes=((),))


def _graph(call: Callable[..., str], session: Ref) -> None:
    """Artifacts of each kind, and what becomes of them."""
    call("deadend_log", "approach", session_id=session, why_failed="wet")
    call("mistake_log", "mistake", session_id=session, why_wrong="dry", prevention="look")
    guess = Ref(call("assumption_log", "assumption", session_id=session), "assumption_id")
    call("decision_log", "rationale", session_id=session, choice="left")
    call("note", "text", session_id=session)
    nodes = [
        {"ref": "f", "type": "finding", "data": {"finding": "probed"}},
        {"ref": "s", "type": "source", "data": {"title": "probe"}},
    ]
    edges = [{"from": "f", "to": "s", "relation": "sourced_from"}]
    batch = call("log_artifacts", session_id=session, nodes=nodes, edges=edges)
    found = Ref(batch, "created.f")
    call("finding_resolve", "resolution", finding_id=found, kind="stale")
    call("source_list", project_id=Ref(session.call, "project_id"))
    named = {"type": "assumption", "id": guess}
    call("resolve_artifacts", resolutions=[{**named, "resolution": "so it is"}])
    call("update_artifacts", updates=[{**named, "confidence": 0.9}])
    call("delete_artifacts", "reason", deletions=[named], dry_run=False)


def _handing(call: Callable[..., str], session: Ref) -> None:
    """Handing work over, and what one reads before one takes it up."""
    report = {"key_findings": '["one"]', "next_session_context": "go on"}
    call("handoff_create", "task_summary", session_id=session, **report)
    call("resume_previous_session", count=3)
    call("bus_register", "subscribes", instance_id="one", type="cli", capabilities="git")
    call("bus_dispatch", "payload", to_instance="one", action="look")
    call("bus_instances")
    call("bus_status", instance_id="one")
    call("bus_poll", ai_id="one")
    for tool in OVERVIEWS:
        call(tool, **({"session_id": session} if tool == "efficiency_report" else {}))
    call("epistemics_show", session_id=session)
