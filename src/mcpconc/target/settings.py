"""Configurations of Empirica 1.14.18 that a deployment may choose: what of its environment really
changes what its calls do.

Read in its source, as far as MCP calls come by: the server reads its two time-outs; PREFLIGHT looks
back at the last transaction unless told not to; POSTFLIGHT times its stages on stderr if told to;
each artifact, checkpoint and assessment starts git, which obeys its own configuration. There is no
switch for SQLite (WAL, a busy time-out of 30 s and full synchronisation are fixed) nor for how many
calls a server works on at once (the threads of Python's default executor).
"""

from __future__ import annotations

from collections.abc import Mapping

from mcpconc.target.base import Setting

__all__ = ["EMPIRICA"]

_LEAN = {"EMPIRICA_CALIBRATION_FEEDBACK": "false", "EMPIRICA_RETROSPECTIVE_GATE": "false"}


def _git(**values: str) -> dict[str, str]:
    """Configuration of git by its environment; ``gc__auto`` is ``gc.auto``."""
    env = {"GIT_CONFIG_COUNT": str(len(values))}
    for n, (name, value) in enumerate(values.items()):
        env |= {f"GIT_CONFIG_KEY_{n}": name.replace("__", "."), f"GIT_CONFIG_VALUE_{n}": value}
    return env


EMPIRICA: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("default", "as installed", {}),
        Setting("minimal", "PREFLIGHT does not look back at the last transaction", _LEAN),
        Setting(
            "development",
            "POSTFLIGHT times its stages on stderr; Python's development mode; long time-outs",
            {
                "EMPIRICA_POSTFLIGHT_TIMING": "1",
                "PYTHONDEVMODE": "1",
                "EMPIRICA_MCP_TIMEOUT": "120",
                "EMPIRICA_MCP_CASCADE_TIMEOUT": "300",
            },
        ),
        Setting(
            "production",
            "git writes through to the disk and never packs on its own; longer time-outs",
            {
                **_git(core__fsync="all", gc__auto="0"),
                "EMPIRICA_MCP_TIMEOUT": "60",
                "EMPIRICA_MCP_CASCADE_TIMEOUT": "180",
            },
        ),
        Setting(
            "high-performance",
            "minimal, and git neither synchronises nor packs",
            {**_LEAN, **_git(core__fsync="none", gc__auto="0")},
        ),
    )
}
