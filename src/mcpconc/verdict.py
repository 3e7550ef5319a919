"""The chain ``ok < unknown < violation`` (Jepsen's validity lattice): the greatest wins."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Verdict"]


class Verdict(IntEnum):
    OK = 0
    UNKNOWN = 1
    VIOLATION = 2
