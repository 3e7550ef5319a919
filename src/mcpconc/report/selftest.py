"""What a self-test came to: a row per planted bug, then what the rows do not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from mcpconc.events import PlantState, PlantTried, SelftestFinished
from mcpconc.report.summary import VERDICTS, duration, wrap
from mcpconc.report.wording import clip

__all__ = ["selftest_document", "selftest_table", "tried_line"]

GOOD = (PlantState.CAUGHT, PlantState.EXCUSED)
RANK = (
    *(PlantState.ESCAPED, PlantState.WRONG_ORACLE, PlantState.NOT_MINIMAL, PlantState.OUT_OF_TIME),
    *(PlantState.NOT_RUN, PlantState.EXCUSED, PlantState.CAUGHT),
)
"""Of several seeds the row tells the worst."""

MARKS = {PlantState.CAUGHT: "✓", PlantState.EXCUSED: "·", PlantState.NOT_RUN: "?"}
NARROW = {"class": 20, "caught by": 20}
"""Letters that are enough of these columns where the table would not fit otherwise."""

HEAD = ("", "bug", "class", "expected", "caught by", "runs", "calls", "left", "label", "s")
NUMBERS = {"runs", "calls", "left", "s", "seeds"}


def selftest_table(done: SelftestFinished, *, width: int | None = None) -> str:
    """The table and its summary; ends with a newline. With a `width` columns of `NARROW`
    are clipped where a line would be longer."""
    rows = [_row(tried, done.seeds) for tried in _by_bug(done.tried)]
    head = HEAD if done.seeds == 1 else (*HEAD[:3], "seeds", *HEAD[3:])
    lines = list(_table([head, *rows], width)) if rows else []
    tail = [wrapped for line in _summary(done) for wrapped in wrap(line, width or 100)]
    return "\n".join([*lines, *([""] if lines else []), *tail]) + "\n"


def tried_line(tried: PlantTried) -> str:
    """One bug in one line, as it is told while the self-test runs."""
    if tried.state in (PlantState.CAUGHT, PlantState.NOT_MINIMAL):
        came = f"{tried.runs} run{'s' * (tried.runs != 1)}"
        if tried.left:
            came += f", {_left(tried)} calls left, {tried.label}"
        return (
            f"{tried.name}: {tried.state.value} by {tried.oracle} ({came}, {tried.seconds:.1f} s)"
        )
    others = f", seen by {', '.join(tried.seen)}" if tried.seen else ""
    return f"{tried.name}: {tried.state.value} ({tried.oracle} in {tried.runs} runs{others})"


def selftest_document(done: SelftestFinished) -> dict[str, Any]:
    return {
        "verdict": done.exit.name.lower(),
        "exit": int(done.exit),
        "stop": done.stop,
        "seed": done.seed,
        "seeds": done.seeds,
        "seconds": round(done.seconds, 3),
        "out": str(done.out),
        "infra": done.infra,
        "correct_server": {
            "programs": done.silent,
            "alarms": [
                {"text": alarm.text, "trace": str(alarm.path) if alarm.path else None}
                for alarm in done.alarms
            ],
        },
        "bugs": [_entry(tried) for tried in done.tried],
    }


def _entry(tried: PlantTried) -> dict[str, Any]:
    return {
        "name": tried.name,
        "class": tried.kind,
        "seed": tried.seed,
        "state": tried.state.value,
        "expected": tried.oracle,
        "caught_by": list(tried.seen),
        "alone": tried.alone,
        "runs": tried.runs,
        "calls": tried.calls,
        "left": tried.left,
        "overlapping": tried.overlapping,
        "label": tried.label or None,
        "seconds": round(tried.seconds, 3),
        "undecided": list(tried.undecided),
        "trace": str(tried.trace) if tried.trace else None,
    }


# ------------------------------------------------------------------ rows


def _by_bug(tried: Sequence[PlantTried]) -> list[list[PlantTried]]:
    bugs: dict[str, list[PlantTried]] = {}
    for one in tried:
        bugs.setdefault(one.name, []).append(one)
    return list(bugs.values())


def _row(tried: Sequence[PlantTried], seeds: int) -> tuple[str, ...]:
    """One bug: with several seeds the median of each number, and the worst state."""
    one = tried[0]
    caught = [each for each in tried if each.state is PlantState.CAUGHT]
    state = min((each.state for each in tried), key=RANK.index)
    told = caught or [each for each in tried if each.runs]
    labels = dict.fromkeys(each.label for each in told if each.label)
    largest = max(told, key=lambda each: each.left) if told else one
    cells = [
        MARKS.get(state, "✗"),
        one.name,
        one.kind,
        one.oracle,
        _seen(tried) if caught or state not in GOOD else state.value,
        _median([each.runs for each in told]),
        _median([each.calls for each in told]),
        _left(largest) if largest.left else "",
        "/".join(labels),
        f"{median(each.seconds for each in told):.1f}" if told else "",
    ]
    if seeds > 1:
        cells.insert(3, f"{len(caught)}/{len(tried)}")
    return tuple(cells)


def _seen(tried: Sequence[PlantTried]) -> str:
    """All oracles that saw anything, the expected one first with a star; before them, what
    went wrong if something did."""
    state = min((each.state for each in tried), key=RANK.index)
    seen = dict.fromkeys(oracle for each in tried for oracle in each.seen)
    expected = tried[0].oracle
    names = [f"{expected}*"] * (expected in seen) + [name for name in seen if name != expected]
    wrong = "" if state in GOOD else state.value.upper()
    return ": ".join(filter(None, [wrong, " ".join(names)]))


def _left(tried: PlantTried) -> str:
    """``2``, or ``3 seq`` of a program in which nothing overlaps."""
    return f"{tried.left}" if tried.overlapping else f"{tried.left} seq"


def _median(numbers: Sequence[int]) -> str:
    return f"{median(numbers):g}" if numbers else ""


def _table(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for title, enough in NARROW.items():
        n = rows[0].index(title)
        over = sum(widths) + 2 * (len(widths) - 1) - width if width is not None else 0
        widths[n] = max(min(enough, widths[n]), widths[n] - max(over, 0))
    for row in rows:
        cells = [
            clip(cell, wide).rjust(wide) if title in NUMBERS else clip(cell, wide).ljust(wide)
            for cell, wide, title in zip(row, widths, rows[0], strict=True)
        ]
        yield "  ".join(cells).rstrip()


# ------------------------------------------------------------------ the rest


def _summary(done: SelftestFinished) -> Iterator[str]:
    alarms = len(done.alarms)
    yield (
        f"the correct server: {done.silent} programs,"
        f" {alarms or 'no'} false alarm{'' if alarms == 1 else 's'}"
    )
    for alarm in done.alarms:
        yield f"  ✗ {alarm.text}"
        if alarm.path is not None:
            yield f"    {alarm.path}"
    yield f"planted bugs: {_count(done.tried)}"
    for tried in done.tried:
        if tried.alone and set(tried.seen) - {tried.oracle}:
            others = ", ".join(sorted(set(tried.seen) - {tried.oracle}))
            yield f"  {tried.name} (seed {tried.seed}) ought to be {tried.oracle}'s alone: {others}"
    for tried in done.tried:
        if tried.state in (PlantState.ESCAPED, PlantState.WRONG_ORACLE, PlantState.NOT_MINIMAL):
            seed = f"seed {tried.seed}: " if done.seeds > 1 else ""
            yield f"  ✗ {seed}{tried_line(tried)}"
            if tried.trace is not None:
                yield f"    {tried.trace}"
    if done.infra:
        yield f"  trouble of ours or of the machine: {done.infra}"
    trace = next((tried.trace for tried in done.tried if tried.trace), None)
    if trace is not None:
        yield f"  mcpconc show {trace}"
    verdict = VERDICTS.get(done.exit, done.exit.name)
    seeds = f"seed {done.seed}" if done.seeds == 1 else f"{done.seeds} seeds from {done.seed}"
    yield f"{verdict} · {done.stop} · {duration(done.seconds)} · {seeds} · exit {done.exit.value}"


def _count(tried: Sequence[PlantTried]) -> str:
    counts = {state: sum(one.state is state for one in tried) for state in reversed(RANK)}
    return ", ".join(f"{n} {state.value}" for state, n in counts.items() if n) or "none"
