"""Which faults a run meets, and where: drawn before it, by a seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from mcpconc.errors import UsageError
from mcpconc.nemesis.base import Kind
from mcpconc.program import Fault, Program
from mcpconc.target.base import Progress

__all__ = ["chosen", "possible", "with_faults"]

SECOND = 0.25
"""Probability of a further fault in the same run, where several are asked for."""
MOST = 3
LATEST = 0.9
"""A fault begins at most so many times what a call takes after its call was sent."""


def chosen(names: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """The faults that were asked for: names, ``all``, or ``none``.

    :raises UsageError: for a name that there is not.
    """
    if "all" in names:
        return tuple(known)
    for name in names:
        if name not in known and name != "none":
            near = get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "see `mcpconc list`"
            raise UsageError(f"--nemesis {name}: there is no such fault; {hint}")
    return tuple(dict.fromkeys(name for name in names if name != "none"))


def possible(
    names: Sequence[str], kinds: Mapping[str, Kind], root: Path, progress: Progress
) -> tuple[str, ...]:
    """Those of the faults that can be injected into a world at `root`; `progress` is told which
    cannot, and why."""
    found = []
    for name in names:
        why = kinds[name].lacking(root)
        if why:
            progress(f"fault {name} is left out: {why}")
        else:
            found.append(name)
    return tuple(found)


def with_faults(program: Program, names: Sequence[str], seed: int) -> Program:
    """The program with one to three faults of these names, each at a concurrent call; as it is
    where there are none of either. The same seed gives the same faults."""
    calls = [call.id for lane in program.lanes for call in lane]
    if not calls or not names:
        return program
    rng = random.Random(f"{seed}:{program.digest()}")
    picked = [rng.choice(names)]
    while len(picked) < min(MOST, len(names)) and rng.random() < SECOND:
        picked.append(rng.choice([name for name in names if name not in picked]))
    return replace(
        program,
        faults=tuple(
            Fault(name, rng.choice(calls), round(rng.uniform(0, LATEST), 2), rng.randrange(1 << 16))
            for name in picked
        ),
    )
