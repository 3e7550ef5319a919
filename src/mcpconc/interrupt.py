"""Ctrl-C that still writes reports: a signal cancels work, not the program."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio
import anyio.abc

__all__ = ["Interrupts", "interrupts"]


@dataclass(slots=True)
class Interrupts:
    """The scopes that a signal cancels, innermost first: one signal, one scope."""

    scopes: list[anyio.CancelScope] = field(default_factory=list)
    count: int = 0
    inner: Interrupts | None = None
    """A part of the work that has scopes of its own, while there is one."""

    def __bool__(self) -> bool:
        return self.count > 0

    def cancel(self) -> None:
        self.count += 1
        if self.inner is not None:
            self.inner.cancel()
            return
        for scope in reversed(self.scopes):
            if not scope.cancel_called:
                scope.cancel()
                return


_around: ContextVar[Interrupts | None] = ContextVar("interrupts", default=None)


@asynccontextmanager
async def interrupts(say: Callable[[str], None]) -> AsyncIterator[Interrupts]:
    """Inside, SIGINT and SIGTERM cancel the innermost scope put into `scopes`; the outermost
    one is the body of this context itself. `say` is told at once that it was heard.

    Within another one, signals go through that one, which hears of them, too; and it may cancel
    its `inner` one on its own, so that this part ends as if a signal had come."""
    state, outer = Interrupts(), _around.get()
    if outer is not None:
        outer.inner = state
        try:
            with anyio.CancelScope() as scope:
                state.scopes.append(scope)
                yield state
        finally:
            outer.inner = None
        return

    async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                say("stopping; what was found is kept")
                state.cancel()

    failure: Exception | None = None
    token = _around.set(state)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch)
            try:
                with anyio.CancelScope() as scope:
                    state.scopes.append(scope)
                    yield state
            except Exception as error:  # not out of the group, which would put it into one
                failure = error
            tasks.cancel_scope.cancel()
    finally:
        _around.reset(token)
    if failure is not None:
        raise failure
