"""Talking to the controller: one connection for each thread, one JSON document a line.

To each point he answers with a line: ``g`` go on; ``k`` kill yourself instead; ``q`` go on, and
this process is not to wait again; ``g {"skip": [...]}`` go on, and points of this process which
touch nothing but these (``r:OBJECT``, ``w:OBJECT``), without a lock held or to be taken, are not
to be told of any more; ``m`` go on, and this thread is to tell nothing, as long as its process
holds no lock, until it finds a line ``u`` that nobody had to ask for. When he is gone, nobody
waits.

Nothing here holds a lock while it waits, and nothing that is done in here is reported.
"""

from __future__ import annotations

import _thread
import os
import sys
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "announce",
    "at",
    "configure",
    "counting",
    "expired",
    "forked",
    "from_a_handler",
    "here",
    "holders",
    "state",
]

SIGKILL = 9  # `signal` would have to be loaded
HIGH = 400
"""Descriptors from here on are ours: those of the target keep the numbers that they have
without us, and those who close all they may have inherited start at the low ones."""


class State:
    """What all threads of this process share."""

    def __init__(self) -> None:
        self.mode = ""
        self.address = ""
        self.agent = 0
        self.server = False
        self.parent = 0
        self.began = 0
        self.announced = False
        self.controlled = False
        self.skip: frozenset = frozenset()


class Local(_thread._local):
    """What each thread has for itself. `busy`: it is in the probe's own code; `link`: its
    connection; `let_go`: when it last went on; the rest belongs to those who hook something."""

    busy: bool = False
    link: Link | None = None
    current: Any = None
    after: Any = None
    spawned: Any = None
    let_go: int = 0


_open: dict = {}


class Link:
    __slots__ = ("heard", "muted", "sock")

    def __init__(self, sock) -> None:
        self.sock = sock
        self.heard = b""
        self.muted = False
        _open[id(self)] = sock

    def __del__(self, known=_open) -> None:  # modules may be empty by then
        known.pop(id(self), None)
        self.sock.close()


state = State()
here = Local()
holders: list = []
"""Functions that give what this process holds right now."""
at_fork: list = []


def configure(mode: str, address: str, agent: int, server: bool) -> None:
    """Begin anew, as the process that this one is now."""
    state.mode, state.address, state.agent = mode, address, agent
    forked()
    state.server = server


def forked() -> None:
    """This process is a copy: what it inherited belongs to its parent."""
    for sock in list(_open.values()):
        sock.close()
    _open.clear()
    here.link = None
    here.busy = False
    state.parent, state.began = os.getppid(), monotonic_ns()
    state.server = False
    state.announced = False
    state.controlled = state.mode == "control"
    state.skip = frozenset()
    for each in at_fork:
        each()


def announce() -> None:
    """Stand at the first point of a process, unless it did so."""
    if not state.announced:
        at("start", process_name())


def at(kind: str, label: str, db: str = "", needs: str = "", reads=(), writes=()) -> None:
    """Stand before `label` until the controller says go, or kills, or is gone."""
    if not state.controlled or here.busy:
        return
    here.busy = True
    try:
        if not state.announced:
            state.announced = True
            if kind != "start":
                _ask({"kind": "start", "label": process_name()})
        holds = sorted({name for each in holders for name in each()})
        if not holds and _muted():
            return
        if state.skip and needs in ("", "read") and not holds and _skipped(reads, writes):
            return
        _ask(
            {
                "kind": kind,
                "label": label,
                "db": db,
                "needs": needs,
                "holds": holds,
                "reads": list(reads),
                "writes": list(writes),
            }
        )
    except BaseException as error:
        if from_a_handler(error):
            # The answer to this question must not be taken for that to the next.
            here.link = None
            raise
        # Whatever it is, the target is not to suffer for it.
        _gone()
    finally:
        here.busy = False


def expired(lock: str, label: str, began: int) -> None:
    """Say that it was refused a lock, which it has waited for since it `began` or was let go."""
    if state.controlled and not here.busy:
        waited = monotonic_ns() - max(began, here.let_go)
        tell({"expired": {"lock": lock, "label": label, "waited": waited}})


def from_a_handler(error: BaseException) -> bool:
    """Whether it is the target's own: raised by the handler of a signal, while we waited."""
    if not isinstance(error, Exception):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return not module.startswith("mcpconc_probe")


def tell(*messages: dict) -> None:
    """Send lines that nobody answers; where that fails, nothing more is ever sent."""
    here.busy = True
    try:
        _send(*messages)
    except Exception:
        _gone()
    finally:
        here.busy = False


def _ask(point: dict) -> None:
    if not state.mode:
        return
    link = _send({"at": {"db": "", "needs": "", "holds": [], "reads": [], "writes": [], **point}})
    answer = _line(link)
    while answer is None:
        _hear(link, 0)
        answer = _line(link)
    here.let_go = monotonic_ns()
    if answer == b"k":
        os.kill(os.getpid(), SIGKILL)
    elif answer == b"q":
        state.controlled = False
    elif answer == b"m":
        link.muted = True
    elif answer != b"g":
        import json

        state.skip = frozenset(json.loads(answer[2:])["skip"])


def _muted() -> bool:
    """Whether this thread need not tell, after it has heard what was said meanwhile."""
    import _socket

    link = here.link
    if link is None or not link.muted:
        return False
    try:
        _hear(link, _socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass
    _line(link)
    return link.muted


def _hear(link: Link, flags: int) -> None:
    more = link.sock.recv(65536, flags)
    if not more:
        raise EOFError
    link.heard += more


def _line(link: Link) -> bytes | None:
    """The next answer; what is no answer has its effect here."""
    while True:
        line, end, rest = link.heard.partition(b"\n")
        if not end:
            return None
        link.heard = rest
        if line != b"u":
            return line
        link.muted = False


def _skipped(reads, writes) -> bool:
    touched = [*(f"r:{name}" for name in reads), *(f"w:{name}" for name in writes)]
    return bool(touched) and state.skip.issuperset(touched)


def _send(*messages: dict) -> Link:
    import _socket

    link = here.link
    lines = []
    if link is None:
        link = here.link = _connect()
        lines.append({"hello": _hello()})
    lines += messages
    data = "".join(_json_of(line) + "\n" for line in lines)
    link.sock.sendall(data.encode(), _socket.MSG_NOSIGNAL)
    return link


def _json_of(value) -> str:
    """As `json.dumps`, which would have to be loaded, and `re` with it."""
    from _json import encode_basestring_ascii as text

    if isinstance(value, dict):
        return "{" + ",".join(f"{text(k)}:{_json_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json_of, value)) + "]"
    return text(value) if isinstance(value, str) else str(int(value))


def _connect() -> Link:
    import _socket
    import fcntl

    first = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        first.settimeout(None)  # a program may have set another default
        first.connect(state.address)
        try:
            high = fcntl.fcntl(first.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        except OSError:  # not that many descriptors
            link = Link(_socket.socket(fileno=first.detach()))
        else:
            link = Link(_socket.socket(fileno=high))
    finally:
        first.close()
    link.sock.settimeout(None)
    return link


def _gone() -> None:
    """Nobody is there: run freely from now on, and let children do so from their start."""
    state.mode = ""
    state.controlled = False
    here.link = None
    os.environ.pop("MCPCONC_PROBE", None)


def counting() -> bool:
    return state.mode == "observe"


def _hello() -> dict:
    pid, tid = os.getpid(), _thread.get_native_id()
    name = process_name()
    if tid != pid:
        name = f"{name}/{_thread_name()}"
    return {
        "pid": pid,
        "ppid": state.parent,
        "tid": tid,
        "agent": state.agent,
        "name": name,
        "began": state.began,
        "server": state.server,
    }


def process_name() -> str:
    """The program and its first argument that is no option nor a path: ``empirica goals-list``."""
    argv = list(getattr(sys, "argv", None) or [""])
    if argv[0] == "-m":  # not found yet
        original = list(getattr(sys, "orig_argv", argv))
        argv = original[original.index("-m") + 1 :] if "-m" in original else argv
    words = [
        os.path.basename(argv[0]),
        *(word for word in argv[1:] if word[:1] != "-" and "/" not in word),
    ]
    if words[0] in ("-c", ""):
        words = ["python"]
    name = " ".join(words[:2])
    if name.replace(" ", "").replace("-", "").isalpha():  # nothing in it that could differ
        return name
    from mcpconc_probe_labels import normal

    return normal(name)


def _thread_name() -> str:
    # `current_thread()` would enter a thread that `threading` did not start into its table.
    threading = sys.modules.get("threading")
    thread = getattr(threading, "_active", {}).get(_thread.get_ident())
    return getattr(thread, "name", "thread")
