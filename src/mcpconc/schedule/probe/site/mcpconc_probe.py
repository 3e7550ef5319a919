"""The probe inside a process of the target. Standard library only; imports nothing of mcpconc.

Inert unless ``MCPCONC_PROBE`` says ``control:SOCKET`` or ``observe:SOCKET``.
"""

from __future__ import annotations

import atexit
import os

import mcpconc_probe_wire as wire

__all__ = ["load", "start"]

_hooked: set[str] = set()


def start(environ=os.environ) -> None:
    """Report to the socket that `environ` names, and stand still until let go.

    Without ``MCPCONC_PROBE`` it does nothing. A process forked from one that was loaded long ago
    calls it when it has replaced its environment.
    """
    mode, _, address = environ.get("MCPCONC_PROBE", "").partition(":")
    if mode not in ("control", "observe") or not address:
        return
    agent = environ.get("MCPCONC_AGENT", "0")
    wire.configure(mode, address, int(agent) if agent.isdigit() else 0, _is_server(environ))
    _hook(mode, environ)
    if mode == "control":
        wire.announce()


def load() -> None:
    """Import what `start` needs to control a process, and do nothing: for those who fork later."""
    import mcpconc_probe_files  # noqa: F401
    import mcpconc_probe_sql  # noqa: F401


def _is_server(environ) -> bool:
    """Whether it is the first one that loads the probe, and not a child of that one: its number
    is in their environment, and it stays the same when it executes another program."""
    here = str(os.getpid())
    if environ.get("MCPCONC_FIRST") == "?":
        environ["MCPCONC_FIRST"] = here
    return bool(environ.get("MCPCONC_FIRST") == here)


def _hook(mode: str, environ) -> None:
    import mcpconc_probe_connect as connect

    if not _hooked:
        atexit.register(_end)  # the first to be entered is called last
        os.register_at_fork(after_in_child=wire.forked)
        connect.install()
    if mode == "control":
        import mcpconc_probe_files as files
        import mcpconc_probe_labels as labels
        import mcpconc_probe_sql  # noqa: F401

        labels.configure(environ.get("MCPCONC_WORLD", ""), environ.get("TMPDIR", ""))
        if mode not in _hooked:
            files.install()
    elif mode not in _hooked:
        import mcpconc_probe_observe as observe

        observe.install()
    _hooked.add(mode)


def _end() -> None:
    # What follows is the end of the interpreter, where modules lose their content.
    if wire.counting():
        from mcpconc_probe_observe import flush

        flush()
    wire.state.mode = ""
    wire.state.controlled = False
