"""The probe: what makes a target's Python processes stand still, or count, where it matters.

The directory `SITE` holds what is loaded into them. It needs nothing but CPython 3.9 or newer and
imports nothing of mcpconc; of this package, mcpconc imports nothing but this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = ["SITE", "environment"]

SITE = Path(__file__).with_name("site")
"""What is put on ``PYTHONPATH``: a ``sitecustomize`` that chains to one already there."""


def environment(
    mode: Literal["control", "observe"], address: Path | str, agent: int, env: Mapping[str, str]
) -> dict[str, str]:
    """`env`, with what makes a Python process and all its children load the probe.

    With ``control`` they wait at yield points for a line from the Unix socket `address`; with
    ``observe`` they send it what they count. `agent` is whose processes they are. They run as
    without a probe when nobody listens there.
    """
    path = [str(SITE), *filter(None, [env.get("PYTHONPATH")])]
    return {
        **env,
        "PYTHONPATH": os.pathsep.join(path),
        "MCPCONC_PROBE": f"{mode}:{address}",
        "MCPCONC_AGENT": str(agent),
        "MCPCONC_FIRST": "?",
    }
