"""The processes of a world, found in /proc by the marker in their environment.

Empirica starts one process per call and leaves detached workers behind, so parentage says
little; what every process of a world does have is the variable `MARKER` that its server was
started with. Linux only: see proc(5) for the files read here.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import anyio

from mcpconc.errors import TargetError

__all__ = [
    "Census",
    "Stat",
    "asleep_in_busy_handler",
    "at_work",
    "children",
    "command_line",
    "cpu_seconds",
    "descendants",
    "kill_all",
    "on_terminal",
    "open_files",
    "resident",
    "stat",
    "variable",
]

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of include/linux/sched.h."""
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NANOSLEEP_WCHAN = frozenset({"hrtimer_nanosleep", "do_nanosleep", "common_nsleep"})
_NANOSLEEP_CALLS = frozenset({"35", "230", "101", "115"})
"""nanosleep and clock_nanosleep, first on x86_64, then on aarch64."""
_IDLE = frozenset("SIZX")
"""Asleep until something happens, or dead. R is running or runnable, D waits for a disk or a
vfork, T is stopped and will go on: none of these is idle."""

_YOUNG = 1.0
"""Seconds within which a forked process has executed what it was forked for."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says. Times are seconds; `waited` is that of children waited for,
    `started` is clock ticks since boot and makes a process id unique. `kernel` marks threads of
    the kernel, which are no processes of anybody's."""

    pid: int
    parent: int
    state: str
    terminal: int
    cpu: float
    waited: float
    started: int
    kernel: bool


def stat(pid: int) -> Stat | None:
    """None where there is no such process (any more)."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    # The command name may hold spaces and parentheses: split after the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        parent=int(fields[1]),
        state=fields[0].decode(),
        terminal=int(fields[4]),
        cpu=(int(fields[11]) + int(fields[12])) / _TICK,
        waited=(int(fields[13]) + int(fields[14])) / _TICK,
        started=int(fields[19]),
        kernel=bool(int(fields[6]) & _KERNEL_THREAD),
    )


class Census:
    """All living processes whose environment holds `name`=`value`.

    Cheap enough for a look every 20 ms: a process without the marker is looked at once. A
    forked process has its parent's environment until it executes something else, so a member
    never lacks the marker; only a process so young that it may still be about to execute is
    looked at again. An instance that was not asked for a while forgets what it knew, because
    process ids are used again.

    `unsettled` are the processes that the last look found in the midst of execve(2): for a
    moment after the old memory is gone and before the new one is set up, and after whoever
    started the process believes it to be up, the environment reads empty. They may or may not
    be members.
    """

    def __init__(self, name: str, value: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._entry = f"{name}={value}".encode()
        self._clock = clock
        self._others: set[str] = set()
        self._last = clock()
        self.unsettled: set[int] = set()

    def pids(self) -> set[int]:
        """Process ids of the members now; zombies have no environment and are not members.

        :raises TargetError: where there is no /proc.
        """
        now = self._clock()
        if now - self._last > 2.0:
            self._others.clear()
        self._last = now
        try:
            listed = {name for name in os.listdir("/proc") if name.isdigit()}
        except OSError as error:
            raise TargetError(f"/proc cannot be read ({error}); mcpconc needs Linux") from error
        self._others &= listed
        self.unsettled.clear()
        found = set()
        for name in listed - self._others:
            if self._belongs(name):
                found.add(int(name))
        return found

    def _belongs(self, name: str) -> bool:
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except PermissionError:
            self._others.add(name)
            return False
        except OSError:
            return False
        if self._entry in environment.split(b"\0"):
            return True
        s = stat(int(name))
        if s is None or s.state in "ZX":
            return False
        if s.kernel:
            self._others.add(name)
        elif environment:
            if _age(s) > _YOUNG:
                self._others.add(name)
        elif _age(s) < 5 * _YOUNG:  # an older one was started with an empty environment
            self.unsettled.add(s.pid)
        return False


def children(pid: int) -> set[int]:
    """Process ids of the living children."""
    return {s.pid for s in _everybody() if s.parent == pid and s.state not in "ZX"}


def descendants(pid: int) -> set[int]:
    """Process ids of everything below `pid`, itself not included. A process whose parent has
    died is nobody's descendant."""
    below: dict[int, list[int]] = {}
    for s in _everybody():
        below.setdefault(s.parent, []).append(s.pid)
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in below.get(todo.pop(), ()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def at_work(pid: int) -> bool:
    """Whether any thread runs, could run, or waits for a disk.

    A thread with input waiting is runnable, so a server of which every thread sleeps has
    nothing to do, unless it waits for a timer or for another process.
    """
    return any(state not in _IDLE for state in _thread_states(pid))


def asleep_in_busy_handler(pids: Iterable[int]) -> dict[int, int]:
    """Which of `pids` have threads that sleep for a time, as SQLite's busy handler does, and
    how many.

    So does any other timed sleep; a thread that sleeps for another reason is counted too.
    Where the kernel does not say what a thread waits for (an unprivileged container), the
    threads of a process without children of which all threads sleep count.
    """
    found = {}
    unreadable = []
    for pid in pids:
        naps = _naps(pid)
        if naps:
            found[pid] = naps
        elif naps is None:
            unreadable.append(pid)
    if unreadable:
        parents = {s.parent for s in _everybody() if s.state not in "ZX"}
        for pid in unreadable:
            states = list(_thread_states(pid))
            if states and pid not in parents and _IDLE.issuperset(states):
                found[pid] = len(states)
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes and of the children that they have waited for. What a
    detached child used is counted only while it lives."""
    return sum(s.cpu + s.waited for pid in pids if (s := stat(pid)) is not None)


def command_line(pid: int) -> str:
    """The command of a process, as one line of at most 200 characters; empty if it is gone."""
    text = _read(f"/proc/{pid}/cmdline") or b""
    return text.replace(b"\0", b" ").decode("utf-8", "backslashreplace").strip()[:200]


def open_files(pid: int) -> set[str]:
    """Paths of the files that a process has open; of a deleted one, the path with `` (deleted)``
    after it. Empty where that cannot be seen."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
    except OSError:
        return set()
    return found


def resident(pids: Iterable[int]) -> int:
    """KiB of memory that these processes have in use (their resident sets; pages that they
    share count for each)."""
    pages = 0
    for pid in pids:
        fields = (_read(f"/proc/{pid}/statm") or b"").split()
        pages += int(fields[1]) if len(fields) > 1 else 0
    return pages * _PAGE // 1024


def variable(pid: int, name: str) -> str:
    """A variable of the environment that a process was started with; empty where it has none
    or is gone."""
    start = f"{name}=".encode()
    for entry in (_read(f"/proc/{pid}/environ") or b"").split(b"\0"):
        if entry.startswith(start):
            return entry[len(start) :].decode("utf-8", "backslashreplace")
    return ""


def on_terminal() -> bool:
    """Whether this process or one of its ancestors has a controlling terminal."""
    pid = os.getpid()
    while pid > 1:
        s = stat(pid)
        if s is None:
            return False
        if s.terminal:
            return True
        pid = s.parent
    return False


async def kill_all(census: Census, timeout: float = 10.0, spare: Collection[int] = ()) -> set[int]:
    """SIGKILL every member until two looks in a row find none; those still alive after
    `timeout` seconds are returned."""
    calm = 0
    alive: set[int] = set()
    with anyio.move_on_after(timeout):
        while calm < 2:
            alive = census.pids() - set(spare)
            calm = 0 if alive or census.unsettled else calm + 1
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                except PermissionError:
                    continue
            await anyio.sleep(0.01)
    return alive


def _everybody() -> Iterable[Stat]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (s := stat(int(name))) is not None:
            yield s


def _age(s: Stat) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - s.started / _TICK


def _thread_states(pid: int) -> Iterable[str]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        text = _read(f"/proc/{pid}/task/{thread}/stat")
        if text is not None:
            yield chr(text[text.rindex(b")") + 2])


def _naps(pid: int) -> int | None:
    """How many threads are in a timed sleep; None where the kernel does not tell."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0
    told, asleep = False, 0
    for thread in threads:
        place = (_read(f"/proc/{pid}/task/{thread}/wchan") or b"").decode().strip()
        if place not in ("", "0"):
            told = True
            asleep += place in _NANOSLEEP_WCHAN
            continue
        call = (_read(f"/proc/{pid}/task/{thread}/syscall") or b"").decode().split()
        if call:
            told = True
            asleep += call[0] in _NANOSLEEP_CALLS
    return asleep if told else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
