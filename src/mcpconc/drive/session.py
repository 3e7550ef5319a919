"""One agent: an MCP stdio session and the server process behind it.

One owner task (`Session.live`) enters `stdio_client` and `ClientSession` and leaves them
itself, because cancel scopes must not move between tasks. Its task group is the request
channel: a call becomes a task in there, several may be in flight, and whoever made the call
only waits for its end.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import psutil
from mcp import ClientSession, MCPError, StdioServerParameters
from mcp.client.stdio import DEFAULT_INHERITED_ENV_VARS, stdio_client
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    PaginatedRequestParams,
    PingRequest,
    Tool,
)
from pydantic import ValidationError

from mcpconc.drive.record import Recorder
from mcpconc.drive.request import Request
from mcpconc.drive.tap import CURRENT, Tap, Traffic
from mcpconc.errors import InvariantError, McpconcError, TargetError, UsageError
from mcpconc.history import Answer, Event, Phase
from mcpconc.program import Call
from mcpconc.target.base import Launch

__all__ = ["GRACE", "SERVER", "START_TIMEOUT", "Session"]

SERVER = "MCPCONC_SERVER"
"""Environment variable of one server process: agent and number of the start, ``3.17``."""

START_TIMEOUT = 60.0
"""Seconds that a server may take to answer `initialize`: several start at once."""

GRACE = 6.0
"""Seconds by which our own bound on a call exceeds the SDK's, which leaves out a stuck write."""

_GIVEN_UP = {REQUEST_TIMEOUT: "timeout", CONNECTION_CLOSED: "server-died"}

_starts = itertools.count()

# The SDK logs each unreadable line with a traceback, and logging's last resort would print that
# to the user's terminal. The tap notes such lines; whoever configures logging still gets both.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class Session:
    """One agent's session; `live` is its owner task, `call` is for any other task.

    `interpret` is the target's. `stderr` is the file that collects what the server says there,
    over all its lives. Time-outs are in seconds.
    """

    def __init__(
        self,
        agent: int,
        launch: Launch,
        interpret: Callable[[str, str], Answer],
        *,
        stderr: Path,
        call_timeout: float,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self.agent = agent
        self.launch = launch
        self.stderr = stderr
        self.alive = False
        self.pid: int | None = None
        """Of the last server that was started; its process group has the same id."""
        self._interpret = interpret
        self._call_timeout = call_timeout
        self._start_timeout = start_timeout
        self._log: Recorder | None = None
        self._early: list[tuple[str, Mapping[str, Any]]] = []
        self._fault: McpconcError | None = None
        self._requests: set[Request] = set()
        self._abandoned = 0
        self._leaving = False
        self._killing = True
        self._traffic: Traffic | None = None
        self._tap = Tap(self._note, self._ended)
        self._client: ClientSession | None = None
        self._channel: anyio.abc.TaskGroup | None = None
        self._over = anyio.Event()
        self._gone = anyio.Event()
        self._gone.set()

    # For the fleet.

    @property
    def inflight(self) -> int:
        """Requests that have not ended yet."""
        return len(self._requests)

    @property
    def sound(self) -> bool:
        """Alive, no request given up and no response out of place: fit for another run."""
        return self.alive and not self._abandoned and not self._tap.strays

    def metered(self) -> Traffic:
        """What goes over the wire from now on, added up; it costs a few microseconds a message."""
        self._traffic = self._tap.traffic = Traffic()
        return self._traffic

    def attach(self, log: Recorder) -> None:
        """Record into `log` from now on. What was noted since the last run goes first, without
        the calls that it is about: they belong to another program."""
        self._log = log
        self._tap.forget()
        early, self._early = self._early, []
        for what, more in early:
            log.note(what, self.agent, **more)

    def detach(self) -> None:
        """Record nothing until the next `attach`; notes are kept until then."""
        self._log = None

    async def call(self, call: Call, args: Mapping[str, Any], phase: Phase) -> Event:
        """Send one call, with bound arguments, and wait for its end.

        :returns: the `ok`, `fail` or `info` event. Cancelling the caller ends it as `info`.
        :raises InvariantError: for a fault of our own.
        :raises UsageError: if the history cannot be written.
        """
        request = self._request(call, args, phase)
        if not self.alive or self._channel is None:
            request.give_up("server-died")
            return request.result()
        self._requests.add(request)
        self._channel.start_soon(self._serve, request)
        try:
            await request.done.wait()
        except anyio.get_cancelled_exc_class():
            # Here and now: the log may be closed by the time the request's task unwinds.
            request.give_up("cancelled")
            request.scope.cancel()
            raise
        return request.result()

    def flying(self, call: str) -> bool:
        """Whether a call of this name was sent and is not over."""
        return any(r.name == call and r.left and not r.over for r in self._requests)

    def cancel(self, call: str) -> None:
        """Give up a call that is in flight, as a client does whose user has lost patience: the
        server is told."""
        for request in tuple(self._requests):
            if request.name == call:
                request.give_up("cancelled")
                request.scope.cancel()

    def refuse(
        self, call: Call, args: Mapping[str, Any], phase: Phase, why: str, text: str
    ) -> Event:
        """Record a call that cannot be sent as `fail`."""
        request = self._request(call, args, phase)
        request.give_up(why, text)
        return request.result()

    async def tools(self) -> tuple[Tool, ...]:
        """The tools that the server lists.

        :raises TargetError: if it does not.
        """
        found: list[Tool] = []
        try:
            with anyio.fail_after(self._start_timeout):
                cursor: str | None = None
                while self._client is not None:
                    params = PaginatedRequestParams(cursor=cursor) if cursor else None
                    page = await self._client.list_tools(params=params)
                    found += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        return tuple(found)
        except (MCPError, TimeoutError, ValidationError, RuntimeError) as error:
            raise self._trouble(f"does not list its tools ({_one_line(error)})") from error
        raise self._trouble("is not running")

    async def ask(
        self, question: tuple[str, Mapping[str, Any]] | None, timeout: float
    ) -> dict[str, str]:
        """Whether the server still answers, outside of any program: what became of an MCP
        ``ping`` and then of the tool call `question`, within `timeout` seconds each.

        :returns: "ping" and, where there is a question, the tool's name, each with "answered",
            "no answer" or "server-died".
        """
        said = {"ping": await self._asked(PingRequest(), EmptyResult, timeout)}
        if question is not None:
            tool, args = question
            params = CallToolRequestParams(name=tool, arguments=dict(args))
            request = CallToolRequest(params=params)
            said[tool] = await self._asked(request, CallToolResult, timeout)
        return said

    async def _asked(self, request: Any, result: type[Any], timeout: float) -> str:
        if self._client is None:
            return "server-died"
        with anyio.move_on_after(timeout):
            try:
                await self._client.send_request(request, result)
            except MCPError as error:
                if error.error.code == CONNECTION_CLOSED:
                    return "server-died"
            except (ValidationError, RuntimeError):
                pass  # what it says is not asked here
            return "answered"
        return "no answer"

    async def leave(self, *, kill: bool = True) -> None:
        """End the server and wait until it is gone.

        With requests in flight this is a fault, and recorded as one: it kills the server's
        process group. Without `kill` what the server was busy with is left to its own end, as
        when a client closes its end of the pipes.
        """
        self._leaving, self._killing = True, kill
        self._over.set()
        await self._gone.wait()

    # The owner task.

    async def live(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """One life of the server: from its start until `leave`, its death, or cancellation.

        :raises TargetError: to whoever starts this task, if the server does not come up.
        """
        self._tap = Tap(self._note, self._ended, self._traffic)
        self._over, self._gone = anyio.Event(), anyio.Event()
        self._leaving, self._killing = False, True
        self._abandoned, self.pid = 0, None
        number = f"{self.agent}.{next(_starts)}"
        failure: TargetError | None = None
        try:
            with self._open_stderr() as errlog:
                async with (
                    stdio_client(self._parameters(number), errlog) as streams,
                    ClientSession(*self._tap.between(streams)) as client,
                ):
                    failure = await self._greet(client)
                    if failure is None:
                        # Not sooner: while a launcher executes the server, no environment shows.
                        self.pid = _child(number)
                        self._client = client
                        await self._hold(task_status)
        except OSError as error:
            failure = self._trouble(f"cannot be started ({error.strerror or error})")
        finally:
            self._bury()
        if failure is not None:
            raise failure

    async def _greet(self, client: ClientSession) -> TargetError | None:
        try:
            with anyio.fail_after(self._start_timeout):
                await client.initialize()
        except TimeoutError:
            trouble = f"did not answer `initialize` within {self._start_timeout:g} s"
        except (MCPError, ValidationError, RuntimeError) as error:
            if isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED:
                trouble = "ended before it answered `initialize`"
            else:
                trouble = f"gave a bad answer to `initialize` ({_one_line(error)})"
        else:
            return None
        if self._tap.garbage:
            said = self._tap.first_garbage[:120]
            trouble += f" and printed what is not MCP on its stdout ({said!r})"
        return self._trouble(trouble)

    async def _hold(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve requests until this life is over."""
        async with anyio.create_task_group() as channel:
            self._channel, self.alive = channel, True
            channel.start_soon(self._watch)
            task_status.started()
            try:
                await self._over.wait()
                self.alive = False
                if self._leaving and self._requests:
                    calls = sorted(request.name for request in self._requests)
                    self._note("fault", "", {"fault": "left-busy", "calls": calls})
                elif self._requests:
                    with anyio.move_on_after(1):  # the SDK wakes whoever waits
                        for request in tuple(self._requests):
                            await request.done.wait()
            finally:
                self.alive = False
                channel.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Notice the server's death also where a child of it keeps the pipe open."""
        if self.pid is None or not hasattr(os, "pidfd_open"):
            return
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        await anyio.sleep(1)  # its last words are in the pipe, and their end ends us sooner
        self._ended()

    def _bury(self) -> None:
        """The SDK has let go of the server: settle what is left of this life."""
        self.alive, self._client, self._channel = False, None, None
        for request in tuple(self._requests):
            self._settle(request)
        # An idle server may leave detached workers, and quiescence waits for them; the
        # processes of calls that were given up nobody waits for.
        if self._abandoned and self._killing and self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._gone.set()

    # One request.

    def _request(self, call: Call, args: Mapping[str, Any], phase: Phase) -> Request:
        if self._fault is not None:
            raise self._fault
        if self._log is None:
            raise InvariantError(f"call {call.id} is made outside of a run")
        return Request(call, args, phase, self._log, self._interpret)

    async def _serve(self, request: Request) -> None:
        CURRENT.set(request)
        limit = self._call_timeout
        params = CallToolRequestParams(name=request.call.tool, arguments=dict(request.args))
        try:
            with request.scope:
                request.scope.deadline = anyio.current_time() + limit + GRACE
                if self._client is None:
                    raise MCPError(CONNECTION_CLOSED, "the session is over")
                await self._client.send_request(
                    CallToolRequest(params=params), CallToolResult, limit
                )
            if request.scope.cancelled_caught:
                request.give_up("timeout")
            elif not request.over:
                request.fault(InvariantError(f"the response to {request.name} passed the tap"))
        except MCPError as error:
            # An error that the server sent was recorded at the tap; these are the SDK's own.
            why = _GIVEN_UP.get(error.error.code)
            if why is not None:
                request.give_up(why)
            elif not request.over:
                request.fault(error)
        except Exception as error:
            # A result that the SDK cannot read is the server's fault and recorded as such.
            if not request.over or not isinstance(error, ValidationError):
                request.fault(error)
        finally:
            self._settle(request)

    def _settle(self, request: Request) -> None:
        """The request is over; what nobody ended was cut off with the session."""
        died = self._over.is_set() and not self._leaving
        request.give_up("server-died" if died else "cancelled")
        self._abandoned += request.abandoned
        self._requests.discard(request)
        request.done.set()

    # What the tap and the pipe tell.

    def _note(self, what: str, call: str, more: Mapping[str, Any]) -> None:
        if self._log is None:
            self._early.append((what, more))
            return
        try:
            self._log.note(what, self.agent, call, **more)
        except McpconcError as error:  # in the SDK's task it would pass for a lost connection
            self._fault = error

    def _ended(self) -> None:
        unexpected = self.alive and not self._leaving and not self._over.is_set()
        if unexpected and self._log is not None:  # between runs it is the restart that matters
            self._note("server-died", "", {"stderr": self._last_words()})
        self._over.set()

    # Starting.

    def _parameters(self, number: str) -> StdioServerParameters:
        command, *args = self.launch.argv
        env = {**self.launch.env, SERVER: number}
        found = shutil.which(command, path=env.get("PATH"))
        if found is None:
            raise self._trouble("cannot be started: no such program")
        # The SDK passes some variables of ours on; `Launch.env` is meant to be all there is.
        extra = [v for v in DEFAULT_INHERITED_ENV_VARS if v in os.environ and v not in env]
        if extra and (clean := shutil.which("env")) is not None:
            args = [*(word for name in extra for word in ("-u", name)), found, *args]
            found = clean
        return StdioServerParameters(
            command=found,
            args=args,
            env=env,
            cwd=self.launch.cwd,
            encoding_error_handler="replace",  # bytes that are no text are garbage, not a crash
        )

    def _open_stderr(self) -> TextIOWrapper:
        try:
            return self.stderr.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {self.stderr}: {error.strerror}") from error

    def _last_words(self) -> str:
        """The last line on stderr that is not blank, or nothing."""
        try:
            with self.stderr.open("rb") as file:
                file.seek(max(0, self.stderr.stat().st_size - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def _trouble(self, what: str) -> TargetError:
        words = self._last_words()
        return TargetError(
            f"the server of agent {self.agent} ({self.launch.argv[0]}) {what}"
            + (f"; its last words: {words}" if words else "; it said nothing on stderr")
        )


def _child(number: str) -> int | None:
    """The process id that the SDK hides: our child which carries this `SERVER` number."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.environ().get(SERVER) == number:
                return child.pid
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
