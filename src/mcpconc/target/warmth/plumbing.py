"""What an imported program keeps open, and what forks of it can do about that.

Forks share what is behind a descriptor. An event loop that is made at import consists of an epoll
instance and a pair of sockets; shared, each fork would wake the others. These, and pipes, hold
nothing yet, so that every fork makes its own under the same numbers. Anything else (a file, a
database, a connection) cannot be made anew.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from dataclasses import dataclass, field


@dataclass
class Plumbing:
    """Descriptors that lead nowhere but back to this process."""

    epolls: dict[int, dict[int, int]] = field(default_factory=dict)
    """Epoll instance → descriptor that it watches → events."""
    sockets: list[tuple[int, int]] = field(default_factory=list)
    pipes: list[tuple[int, int]] = field(default_factory=list)
    """Reading end, writing end."""

    @classmethod
    def of(cls, descriptors: set[int]) -> Plumbing:
        """:raises RuntimeError: if one of them leads anywhere else."""
        self = cls()
        left = set(descriptors)
        for fd in sorted(descriptors):
            if fd not in left:
                continue
            where = os.readlink(f"/proc/self/fd/{fd}")
            others = left - {fd}
            if where == "anon_inode:[eventpoll]":
                self.epolls[fd] = _watched(fd)
                left.discard(fd)
                continue
            other = None
            if where.startswith("socket:"):
                other = _other_end(fd, others)
                if other is not None:
                    self.sockets.append((fd, other))
            elif where.startswith("pipe:"):
                alike = [o for o in others if os.readlink(f"/proc/self/fd/{o}") == where]
                other = alike[0] if len(alike) == 1 else None
                if other is not None:
                    self.pipes.append((fd, other) if _reads(fd) else (other, fd))
            if other is None:
                raise RuntimeError(
                    f"it keeps {where} open when it is imported, and all forks would share it"
                )
            left -= {fd, other}
        return self

    def renew(self) -> None:
        """In a fork: the same numbers, with nothing behind them that others have."""
        for pair in self.sockets:
            one, other = socket.socketpair()
            _put(pair[0], one.detach())
            _put(pair[1], other.detach())
        for pair in self.pipes:
            reading, writing = os.pipe()
            _put(pair[0], reading)
            _put(pair[1], writing)
        for fd, watched in self.epolls.items():
            fresh = select.epoll()
            _put(fd, os.dup(fresh.fileno()))
            fresh.close()
            instance = select.epoll.fromfd(fd)
            for descriptor, events in watched.items():
                instance.register(descriptor, events)
            _forget(instance)


_kept: list[select.epoll] = []


def _forget(instance: select.epoll) -> None:
    """Keep an object that would close, when it goes, a descriptor that belongs to another."""
    _kept.append(instance)


def open_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            os.fstat(int(name))
            found.add(int(name))
    return found


def _put(old: int, new: int) -> None:
    """`new` in the place of `old`, with its flags."""
    blocking = os.get_blocking(old)
    os.dup2(new, old, inheritable=os.get_inheritable(old))
    os.close(new)
    os.set_blocking(old, blocking)


def _watched(fd: int) -> dict[int, int]:
    """What an epoll instance watches; see proc(5) on fdinfo."""
    watched = {}
    with open(f"/proc/self/fdinfo/{fd}") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["tfd:"]:
                watched[int(words[1])] = int(words[3], 16)
    return watched


def _other_end(fd: int, others: set[int]) -> int | None:
    """The descriptor, of `others`, to which a socket is connected; found by a byte on its way."""
    with socket.socket(fileno=os.dup(fd)) as end:
        if end.family != socket.AF_UNIX or end.getsockname() or not end.type & socket.SOCK_STREAM:
            return None
        candidates = [o for o in others if stat.S_ISSOCK(os.fstat(o).st_mode)]
        before = set(_readable(candidates))
        try:
            end.send(b"\0", socket.MSG_DONTWAIT)
        except OSError:
            return None
    for other in set(_readable(candidates)) - before:
        os.read(other, 1)
        return other
    return None


def _readable(descriptors: list[int]) -> list[int]:
    return select.select(descriptors, [], [], 0)[0]


def _reads(fd: int) -> bool:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
