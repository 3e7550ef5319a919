"""What a fork does to be what an ordinary start of the program would be."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module

from .program import PROBE, Environment, Warm


def become(
    warm: Warm, words: list[bytes], env: Environment, descriptors: list[int], parent: int
) -> None:
    """Be what an interpreter started by the caller would be."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.fchdir(descriptors[3])
    for descriptor in descriptors:
        os.close(descriptor)
    os.setpgid(0, 0)
    os.environ.clear()
    os.environb.update(env)
    for name, value in warm.changes.items():
        if value is None:
            os.environb.pop(name, None)
        else:
            os.environb[name] = value
    # Not before: until then C has pointers into that memory, and takes what it finds for variables.
    rewrite_own_description([os.fsencode(sys.executable), os.fsencode(warm.script), *words], env)
    sys.argv = [warm.script, *map(os.fsdecode, words)]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *sys.argv]
    os.getppid = lambda: parent
    fresh_streams()
    for number, text in enumerate(warm.said, 1):
        with contextlib.suppress(OSError):
            os.write(number, text)
    if PROBE in env:
        start_probe(env)


def rewrite_own_description(words: list[bytes], env: Environment) -> None:
    """Show in /proc what the program would show: processes are told apart by it. The memory is
    that in which the kernel put our own arguments and environment, which nothing uses any more."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            for start, end, entries in (
                (int(fields[45]), int(fields[46]), words),
                (int(fields[47]), int(fields[48]), [b"%b=%b" % item for item in env.items()]),
            ):
                text = b"".join(entry + b"\0" for entry in entries)
                room = end - start
                memory.seek(start)
                memory.write(text[: room - 1].ljust(room, b"\0"))
        with open("/proc/self/comm", "wb") as comm:
            comm.write(os.path.basename(words[1])[:15])
    except (OSError, ValueError, IndexError):
        return  # a kernel that does not allow it: the process shows as one of ours


def fresh_streams() -> None:
    """Set up the standard streams on the new descriptors, in the same objects: whoever took one
    of them at import has the right one."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = getattr(sys, name)
        binary = os.fdopen(number, f"{mode}b", closefd=False)
        binary.raw.name = f"<{name}>"  # type: ignore[attr-defined]
        stream.__init__(
            binary,
            encoding=stream.encoding,
            errors=stream.errors,
            newline="\n",
            line_buffering=number == 2 or os.isatty(number),
        )
        stream.mode = mode


def start_probe(env: Environment) -> None:
    """Load what an ordinary start would have loaded as `sitecustomize`."""
    at = 1
    for entry in os.fsdecode(env.get(b"PYTHONPATH", b"")).split(os.pathsep):
        if entry and entry not in sys.path:
            sys.path.insert(at, entry)
            at += 1
    with contextlib.suppress(ImportError):
        import_module("mcpconc_probe").start(os.environ)
