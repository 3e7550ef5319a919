"""Ctrl-C that still writes reports: a signal cancels work, not the program."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.abc

__all__ = ["Interrupts", "interrupts"]


@dataclass(slots=True)
class Interrupts:
    """The scopes that a signal cancels, innermost first: one signal, one scope."""

    scopes: list[anyio.CancelScope] = field(default_factory=list)
    count: int = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def cancel(self) -> None:
        self.count += 1
        for scope in reversed(self.scopes):
            if not scope.cancel_called:
                scope.cancel()
                return


@asynccontextmanager
async def interrupts(say: Callable[[str], None]) -> AsyncIterator[Interrupts]:
    """Inside, SIGINT and SIGTERM cancel the innermost scope put into `scopes`; the outermost
    one is the body of this context itself. `say` is told at once that it was heard."""
    state = Interrupts()

    async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                say("stopping; what was found is kept")
                state.cancel()

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(watch)
        try:
            with anyio.CancelScope() as scope:
                state.scopes.append(scope)
                yield state
        except Exception as error:  # not out of the group, which would put it into one
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
