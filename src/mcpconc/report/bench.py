"""What `bench linearize` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mcpconc.bench import Judged

__all__ = ["bench_document", "bench_text"]

HEAD = ("verdict", "calls", "objects", "steps", "states", "CPU s", "peak MB", "history")


def bench_document(judged: Sequence[Judged]) -> dict[str, Any]:
    """One object per history and one for all; seconds are of processor time."""
    return {
        "histories": [
            {
                "path": str(one.case.path),
                "kind": one.case.kind,
                "operations": one.case.operations,
                "objects": len(one.case.partitions),
                "verdict": one.verdict.name.lower(),
                "apart": one.apart,
                "steps": one.steps,
                "states": one.states,
                "seconds": round(one.seconds, 6),
                "peak_mb": round(one.peak_mb, 1),
            }
            for one in judged
        ],
        "total": {
            "histories": len(judged),
            "verdicts": dict(Counter(one.verdict.name.lower() for one in judged)),
            "operations": sum(one.case.operations for one in judged),
            "steps": sum(one.steps for one in judged),
            "states": sum(one.states for one in judged),
            "seconds": round(sum(one.seconds for one in judged), 6),
            "peak_mb": round(max((one.peak_mb for one in judged), default=0.0), 1),
        },
    }


def bench_text(judged: Sequence[Judged]) -> str:
    """A line per history and one for all."""
    document = bench_document(judged)
    rows = [HEAD, *map(_row, document["histories"])]
    total = document["total"]
    verdicts = ", ".join(f"{times} {name}" for name, times in sorted(total["verdicts"].items()))
    rows.append(
        (
            "total",
            str(total["operations"]),
            "",
            str(total["steps"]),
            str(total["states"]),
            f"{total['seconds']:.4f}",
            f"{total['peak_mb']:.0f}",
            f"{total['histories']} histories: {verdicts}",
        )
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    lines = []
    for verdict, *numbers, history in rows:
        cells = [verdict.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([*cells, history]))
    return "\n".join(lines) + "\n"


def _row(history: dict[str, Any]) -> tuple[str, ...]:
    apart = f"  ({history['apart']} joined sets judged apart)" if history["apart"] else ""
    return (
        history["verdict"],
        str(history["operations"]),
        str(history["objects"]),
        str(history["steps"]),
        str(history["states"]),
        f"{history['seconds']:.4f}",
        f"{history['peak_mb']:.0f}",
        history["path"] + apart,
    )
