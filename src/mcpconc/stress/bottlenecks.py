"""What costs most inside the target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcpconc.schedule.counts import Cost

__all__ = ["bottlenecks"]


def bottlenecks(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    return []
