"""Points before files are opened, made, moved, removed, locked and looked for, and before git
commands, below the directory that ``MCPCONC_WORLD`` names.

The audit event of an open comes before it truncates, and there is none for a look at whether a
file exists, nor for a lock that was got: those functions are replaced.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import re
import sys

import mcpconc_probe_labels as labels
import mcpconc_probe_wire as wire
from mcpconc_probe_git import understand
from mcpconc_probe_hook import instead_of

__all__ = ["install"]

_NO_STATE = re.compile(
    r"""^logs/ | (?:^|/)(?:site-packages|__pycache__)(?:/|$)
    | \.(?:pyc|py|so|db|sqlite3?)$ | -(?:wal|shm|journal)$
    | (?:^|/)\.git(?:$|/(?:objects|hooks|info|logs|refs|index|config|HEAD|packed-refs|
                          COMMIT_EDITMSG|description|commondir)(?:$|/|\.lock$))""",
    re.X,
)
"""Paths that nobody's state is in, or whose state is seen otherwise: SQL, git."""

_CHANGES = os.O_CREAT | os.O_TRUNC
_stat = os.stat
_locks: dict = {}


def install() -> None:
    wire.holders.append(_held)
    wire.at_fork.append(_locks.clear)
    _replace()
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple) -> None:
    meant = _EVENTS.get(event)
    if meant is None or not wire.state.controlled or wire.here.busy:
        return
    _safely(meant, *args)


def _safely(told, *args) -> None:
    """Whatever goes wrong in here is not the target's affair. What the handler of a signal raises
    is: an audit hook that raises forbids what it was told of."""
    try:
        told(*args)
    except Exception as error:
        if wire.from_a_handler(error):
            raise


def _state(path) -> str:
    """`path` in the world, "" where it is no state."""
    name = labels.inside(path)
    return "" if not name or _NO_STATE.search(name) or labels.temporary(path) else name


def _object(name: str) -> str:
    return f"file:{labels.family(name)}"


def _reads(kind: str, verb: str, name: str) -> None:
    wire.at(kind, labels.normal(f"{verb} {name}"), reads=[_object(name)])


def _writes(kind: str, verb: str, *names: str, listed: tuple = ()) -> None:
    """`listed`: those of the names that their directory holds only from now on, or no longer."""
    parents = [_object(name.rpartition("/")[0] + "/") for name in listed]
    objects = dict.fromkeys([*map(_object, names), *parents])
    wire.at(kind, labels.normal(" ".join((verb, *names))), writes=objects)


def _missing(path) -> bool:
    try:
        _stat(path)
    except (OSError, ValueError):
        return True
    return False


def _opens(path, mode, flags) -> None:
    changes = flags & (_CHANGES | os.O_ACCMODE)
    wire.here.after = None
    name = _state(path)
    if not name:
        return
    if not changes:
        _reads("read", "read", name)
        return
    how = "truncate" if flags & os.O_TRUNC else "append" if flags & os.O_APPEND else "write"
    if flags & os.O_EXCL and labels.scratch(name):
        labels.enter_temporary(path)
        return
    made = flags & os.O_CREAT and _missing(path)
    _writes("open", f"open to {how}", name, listed=(name,) if made else ())
    if flags & _CHANGES:
        wire.here.after = name, how


def _opened() -> None:
    after, wire.here.after = wire.here.after, None
    if after is not None:
        _writes("opened", f"opened to {after[1]}", after[0])


def _renames(source, target, *_) -> None:
    names = [name for name in (_state(source), _state(target)) if name]
    if names:
        listed = [_state(source)] if _state(source) else []
        if _state(target) and _missing(target):
            listed.append(_state(target))
        _writes("rename", "rename", *names, listed=tuple(listed))


def _removes(path, *_) -> None:
    name = _state(path)
    if name:
        _writes("unlink", "unlink", name, listed=(name,))


def _makes_directory(path, *_) -> None:
    name = _state(path)
    if name and _missing(path):
        _writes("open", "make directory", name, listed=(name,))


def _looks(path) -> None:
    name = _state(path)
    if name:
        _reads("exists", "look for", name)


def _lists(path) -> None:
    name = _state("." if path is None else path)
    if name and not _imports():
        _reads("exists", "list", f"{name}/")


def _imports() -> bool:
    """Whether it is an import that looks for modules where the process happens to stand: nobody's
    state, and a process that was forked with its modules does not look."""
    caller = sys._getframe(4)  # above: _lists, _safely, _audit
    return caller.f_code.co_filename == "<frozen importlib._bootstrap_external>"


def _popen(executable, argv, *_) -> None:
    words = [argv] if isinstance(argv, (str, bytes)) else list(argv)
    wire.here.spawned = words
    _spawns(words)


def _posix_spawn(path, argv, env) -> None:
    words, spawned, wire.here.spawned = list(argv), wire.here.spawned, None
    if words != spawned:  # else it is `Popen`'s, of which we know
        _spawns(words)


def _spawns(words: list) -> None:
    command = understand(words)
    if command is not None and (command.reads or command.writes):
        wire.at("git", command.label, reads=command.reads, writes=command.writes)


_EVENTS: dict = {
    "open": _opens,
    "os.rename": _renames,
    "os.link": _renames,
    "os.remove": _removes,
    "os.rmdir": _removes,
    "os.mkdir": _makes_directory,
    "os.listdir": _lists,
    "os.scandir": _lists,
    "subprocess.Popen": _popen,
    "os.posix_spawn": _posix_spawn,
    "os.system": lambda command: _spawns(["sh", "-c", command]),
    "tempfile.mkstemp": labels.enter_temporary,
}


def _replace() -> None:
    """Functions that have no event where we need one."""
    plain_open, plain_os_open, plain_stat = io.open, os.open, os.stat
    plain_flock, plain_lockf = fcntl.flock, fcntl.lockf

    def open(*args, **kwargs):
        file = plain_open(*args, **kwargs)
        if wire.here.after is not None:
            _safely(_opened)
        return file

    def os_open(*args, **kwargs):
        descriptor = plain_os_open(*args, **kwargs)
        if wire.here.after is not None:
            _safely(_opened)
        return descriptor

    def stat(path, *args, **kwargs):
        if wire.state.controlled and not wire.here.busy:
            _safely(_looks, path)
        return plain_stat(path, *args, **kwargs)

    def lock(plain):
        def locks(fd, operation, *rest):
            if wire.state.controlled and not wire.here.busy:
                _safely(_before_lock, fd, operation)
            done = plain(fd, operation, *rest)
            if wire.state.controlled:
                _safely(_after_lock, fd, operation)
            return done

        return instead_of(plain, locks, "fcntl")

    builtins.open = io.open = instead_of(plain_open, open, "io")
    os.open, os.stat = instead_of(plain_os_open, os_open, "os"), instead_of(plain_stat, stat, "os")
    fcntl.flock, fcntl.lockf = lock(plain_flock), lock(plain_lockf)
    # `shutil` looks functions up in these sets, and removes trees less safely without.
    for plain, ours in ((plain_os_open, os.open), (plain_stat, os.stat)):
        for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if plain in functions:
                functions.add(ours)


def _before_lock(fd, operation) -> None:
    name = _state(_path(fd))
    if name:
        shared = operation & fcntl.LOCK_SH
        how = "unlock" if operation & fcntl.LOCK_UN else "lock shared" if shared else "lock"
        needs = "" if operation & (fcntl.LOCK_UN | fcntl.LOCK_NB) else "read" if shared else "write"
        label = labels.normal(f"{how} {name}")
        wire.at("lock", label, f"lock:{name}", needs, writes=[_object(name)])


def _after_lock(fd, operation) -> None:
    name = _state(_path(fd))
    number = fd if isinstance(fd, int) else fd.fileno()
    if name and operation & fcntl.LOCK_EX:
        _locks[number] = name
    else:
        _locks.pop(number, None)


def _held() -> list:
    """Locks end with their file's last descriptor, of which we are not told."""
    for number, name in list(_locks.items()):
        if labels.inside(_path(number)) != name:
            _locks.pop(number, None)
    return [f"lock:{name}" for name in list(_locks.values())]


def _path(fd) -> str:
    try:
        number = fd if isinstance(fd, int) else fd.fileno()
        return os.readlink(f"/proc/self/fd/{number}")
    except (OSError, AttributeError, ValueError):
        return ""
