"""What the kernel says of an agent's processes: does anything in them still move?

Waiting is recognised, not timed: a thread that sleeps in a system call of those that wait for a
child, a pipe or another thread, does nothing until somebody else does. See proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "FILE_LOCK",
    "NAP",
    "Look",
    "alive",
    "children",
    "command",
    "everybody",
    "family",
    "look",
    "of_agent",
    "parent",
    "should_report",
]

_NAP = frozenset({"35", "230", "101", "115"})
"""nanosleep and clock_nanosleep, on x86_64 and on aarch64."""
_FILE_LOCK = frozenset({"73", "72", "32", "25"})
"""flock and fcntl, on x86_64 and on aarch64."""
NAP, FILE_LOCK = "a timer", "a file lock"
_RUNS = "RD"


@dataclass(frozen=True, slots=True)
class Look:
    """`runs` is whether any thread is at work or will be by itself; `naps` and `locked` are the
    threads (ids) in a timed sleep and those that wait for a file lock. `until` are those of `naps`
    that sleep until a time: SQLite's busy handler sleeps for a time."""

    runs: bool
    naps: frozenset[int]
    until: frozenset[int]
    locked: frozenset[int]
    pids: frozenset[int]


def look(roots: Iterable[int], standing: Collection[int], beside: Collection[int] = ()) -> Look:
    """One look at these processes and all below them, and at those `beside` without what is
    below them; `standing` are thread ids not to be looked at. A process that is being started
    shares its parent's fate: it runs."""
    runs = False
    naps, until, locked, seen = set(), set(), set(), set()
    todo = [*roots, *beside]
    beside = {*beside} - {*roots}
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        for tid in _threads(pid):
            todo += children(pid, tid) if pid not in beside else ()
            if tid in standing:
                continue
            state = _state(pid, tid)
            if state in _RUNS:
                runs = True
            elif state == "S":
                call, by_itself = _call(pid, tid)
                if call == "running":
                    runs = True
                elif call in _NAP:
                    naps.add(tid)
                    if by_itself:
                        until.add(tid)
                elif call in _FILE_LOCK:
                    locked.add(tid)
    return Look(runs, frozenset(naps), frozenset(until), frozenset(locked), frozenset(seen))


def children(pid: int, tid: int) -> list[int]:
    """Process ids of the living children that this very thread has started."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{tid}/children").split()]


def family(pid: int, tid: int) -> tuple[int, frozenset[int]]:
    """How many threads the process has, and which children the thread: cheap to compare."""
    try:
        threads = os.stat(f"/proc/{pid}/task").st_nlink
    except OSError:
        threads = 0
    return threads, frozenset(children(pid, tid))


def parent(pid: int) -> int:
    """Who has to be told when this process ends; 0 if nobody can say."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def everybody() -> frozenset[int]:
    """All processes."""
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdecimal())


def of_agent(pid: int, address: str) -> int:
    """Whose process it is, of those that report at `address`; -1 if it is none of them."""
    variables = dict(
        variable.partition("=")[::2] for variable in _read(f"/proc/{pid}/environ").split("\0")
    )
    number = variables.get("MCPCONC_AGENT", "")
    here = variables.get("MCPCONC_PROBE", "").partition(":")[2] == address
    return int(number) if here and number.isdecimal() else -1


def alive(pid: int) -> bool:
    """Whether it is there and has not ended."""
    return _state(pid, pid) not in ("", "Z", "X")


def should_report(pid: int) -> bool:
    """Whether this process was started with the probe in its environment and runs Python."""
    marked = "\0MCPCONC_PROBE=" in f"\0{_read(f'/proc/{pid}/environ')}"
    try:
        return marked and "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def command(pid: int) -> str:
    """The command line of a process, in short."""
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:100]


def _threads(pid: int) -> Iterator[int]:
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    yield from map(int, names)


def _state(pid: int, tid: int) -> str:
    text = _read(f"/proc/{pid}/task/{tid}/stat")
    return text[text.rindex(")") + 2] if ")" in text else ""


def _call(pid: int, tid: int) -> tuple[str, bool]:
    """The number of the system call that it sleeps in, and whether, if that is clock_nanosleep,
    with TIMER_ABSTIME: as `time.sleep` does, and not who waits for a lock of SQLite."""
    words = _read(f"/proc/{pid}/task/{tid}/syscall").split()
    return (words[0] if words else ""), len(words) > 2 and words[2] == "0x1"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
