"""A process that has imported a console script, and forks for each call of it.

The fork server of AFL for Python programs: what an interpreter does before `main()` is done once,
and each call is a fork that gets the caller's arguments, environment, working directory and
descriptors and runs the script, unmodified, from its first line to the interpreter's own end.

Started by `mcpconc.target.warm` with one argument in JSON:

* ``address``: path of the Unix socket to listen on;
* ``script``: the console script;
* ``modules``: further modules to import;
* ``once``: ``module:function`` without arguments, called beforehand: the first call in a fork gets
  that result;
* ``root``: files below it that imports use are reported; empty for not looking;
* ``probe``: directory of the probe that forks may be asked to start; empty if there is none.

Says ``{"ready": true, …}`` or ``{"error": …}`` in one line on its stdout, and lives until its stdin
ends. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from .ending import run
from .fork import become
from .program import Environment, Warm

Request = tuple[list[bytes], Environment, list[int]]

SHORT = 10.0
"""Seconds for a shim to send the whole of a request."""


def main() -> None:
    """Import, and fork until nobody needs that; in a fork, run the program."""
    config = json.loads(sys.argv[1])
    # A fork has nothing open but what its caller gave it.
    lifeline, answer = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (0, 1))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        warm = Warm(config)
    except BaseException as error:
        what = f"{type(error).__name__}: {error}"
        tell(answer, error=f"{config['script']} cannot be kept warm: {what}")
        os._exit(1)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(config["address"])
    listener.listen(1024)
    # What is shared stays shared: a collection in a fork would write to every object.
    gc.collect()
    gc.freeze()
    names = sorted(os.fsdecode(name) for name in warm.read)
    tell(answer, ready=True, reads=names, touched=warm.touched)
    os.close(answer)
    if not serve(warm, listener, lifeline):
        os._exit(0)
    run(warm.code, warm.main.__dict__)


def serve(warm: Warm, listener: socket.socket, lifeline: int) -> bool:
    """Fork for each request and report each end. True in a fork, False when nobody needs us."""
    callers: dict[int, socket.socket] = {}
    """Process id → who waits for its end."""
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    poll = select.poll()
    for fd in (listener.fileno(), lifeline, reading):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == lifeline:
                for pid in callers:
                    os.kill(pid, signal.SIGKILL)
                return False
            if fd == reading:
                with contextlib.suppress(BlockingIOError):
                    os.read(reading, 4096)
                bury(callers, poll)
            elif fd == listener.fileno():
                caller, _ = listener.accept()
                request = receive(caller)
                if request is None:
                    caller.close()
                    continue
                if names := warm.differing(request[1]):
                    print(f"started ordinarily: {names}", file=sys.stderr, flush=True)
                    answer_caller(caller, b"o0\n")
                    dismiss(caller, request)
                    continue
                parent = parent_of(caller)
                try:
                    pid = os.fork()
                except OSError as error:
                    print(f"started ordinarily: {error}", file=sys.stderr, flush=True)
                    answer_caller(caller, b"o0\n")
                    dismiss(caller, request)
                    continue
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in (caller, listener, *callers.values()):
                        other.close()
                    for end in (reading, writing, lifeline):
                        os.close(end)
                    become(warm, *request, parent)
                    return True
                callers[pid] = caller
                poll.register(caller, select.POLLIN)
                for descriptor in request[2]:
                    os.close(descriptor)
            else:
                follow(fd, callers, poll)


def follow(fd: int, callers: dict[int, socket.socket], poll: select.poll) -> None:
    """A caller has got a signal, or is gone."""
    for pid, caller in callers.items():
        if caller.fileno() != fd:
            continue
        try:
            numbers = caller.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # a new caller with the descriptor of one that was just answered
        except OSError:
            numbers = b""
        # Not reaped yet, so the process id is still its own.
        for number in numbers or bytes([signal.SIGKILL]):
            os.kill(pid, number)
        if not numbers:
            poll.unregister(fd)
        return


def bury(callers: dict[int, socket.socket], poll: select.poll) -> None:
    """Tell the callers of all that have ended."""
    while callers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        caller = callers.pop(pid)
        if os.WIFSIGNALED(status):
            answer_caller(caller, b"s%d\n" % os.WTERMSIG(status))
        else:
            answer_caller(caller, b"e%d\n" % os.WEXITSTATUS(status))
        with contextlib.suppress(KeyError):
            poll.unregister(caller)
        caller.close()


def receive(caller: socket.socket) -> Request | None:
    """The whole of a request; None where the caller is gone, or sends nonsense."""
    caller.settimeout(SHORT)
    descriptors = array.array("i")
    try:
        head, ancillary, _, _ = caller.recvmsg(64, socket.CMSG_SPACE(4 * descriptors.itemsize))
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data)
        while b"\n" not in head:
            head += caller.recv(64) or b"\n"
        line, _, body = head.partition(b"\n")
        first, second = map(int, line.split())
        parts = [body]
        missing = first + second - len(body)
        while missing > 0:
            part = caller.recv(min(missing, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
    except (OSError, ValueError, EOFError):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    caller.settimeout(None)
    body = b"".join(parts)
    words, entries = body[:first].split(b"\0")[:-1], body[first:].split(b"\0")[:-1]
    return words, dict(e.partition(b"=")[::2] for e in entries), list(descriptors)


def answer_caller(caller: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):
        caller.sendall(line)


def dismiss(caller: socket.socket, request: Request) -> None:
    caller.close()
    for descriptor in request[2]:
        os.close(descriptor)


def parent_of(caller: socket.socket) -> int:
    """The process that started the caller: the parent that the program would have."""
    size = 3 * array.array("i").itemsize
    pid = array.array("i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return os.getpid()


def tell(descriptor: int, **what: Any) -> None:
    os.write(descriptor, json.dumps(what).encode() + b"\n")
