"""Every state that a SIGKILL can leave behind in a call of several steps.

The call runs once to see where its processes stand, and then once for each point before which
something is written: there the process is killed instead of let go. What is left is compared up
to a bijection of generated ids, so that crash states are enumerated and not hit by chance. It is
relative to the points that the probe sees: a kill inside one system call, or between two writes
that the probe does not tell apart, is not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcpconc.errors import UsageError
from mcpconc.lineup.differ import changing, times
from mcpconc.lineup.observe import Record, observe
from mcpconc.lineup.same import Volatile, same
from mcpconc.program import Program
from mcpconc.rig import Execution, Rig
from mcpconc.schedule import make
from mcpconc.schedule.controlled import Controlled
from mcpconc.schedule.points import Kill, Point, writes

__all__ = ["CrashState", "crash_states"]

NOWHERE = Kill(-1, 0, "")
"""No process is killed here, but all are asked to tell of every point."""


@dataclass(frozen=True, slots=True)
class CrashState:
    """One state: what is `left` of the call (records that it added or removed), and the kills that
    lead to it, in the order of the call's points. None at all for the call that is left alone;
    `shown` is the first run that left it."""

    kills: tuple[Kill, ...]
    left: tuple[Record, ...]
    shown: Execution


async def crash_states(
    on: Rig,
    program: Program,
    *,
    expired: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[CrashState, ...]:
    """The states that killing the process of the program's one concurrent call can leave, in the
    order in which the call goes through them; the last is the complete one.

    `progress` is told of runs done and to be done; none is begun after `expired`.

    :raises UsageError: if there is not one concurrent call, or the probe sees nothing of it.
    :raises TargetError: if a server that died does not come up again.
    """
    if program.concurrent() != 1:
        raise UsageError("crash states are those of one call: give a program with one in its lanes")
    whole = await _run(on, program, NOWHERE)
    again = await _run(on, program, NOWHERE)
    kills = [kill for kill, point in whole[1] if writes(point)]
    if not kills:
        raise UsageError(f"{on.target.name}: the probe saw nothing that the call writes")
    volatile = Volatile(times([*_left(whole[0]), *_left(again[0])]))
    volatile = changing(_left(whole[0]), _left(again[0]), volatile) or volatile
    states: list[tuple[list[Kill], Execution]] = []
    for n, kill in enumerate(kills):
        if expired():
            break
        made, _ = await _run(on, program, kill)
        progress(n + 1, len(kills))
        for known, shown in states:
            if same(_left(made), _left(shown), volatile):
                known.append(kill)
                break
        else:
            states.append(([kill], made))
    complete = [known for known, shown in states if same(_left(shown), _left(whole[0]), volatile)]
    if not complete:
        states.append(([], whole[0]))
    return tuple(CrashState(tuple(known), tuple(_left(shown)), shown) for known, shown in states)


async def _run(on: Rig, program: Program, kill: Kill) -> tuple[Execution, list[tuple[Kill, Point]]]:
    scheduler = make("random", 0, kills=[kill])
    made = await on.run(program, scheduler, 0)
    assert isinstance(scheduler, Controlled)
    return made, scheduler.passed


def _left(execution: Execution) -> list[Record]:
    run = execution.run
    return list(observe(run.history.operations, run.before, run.after).left)
