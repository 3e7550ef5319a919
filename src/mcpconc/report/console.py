"""What a person sees while a campaign runs.

On a terminal, one block of status lines that refreshes itself, on standard error; piped, a
plain line every ten seconds. Reports of findings and the summary go to standard output, so
that they can be kept without the noise.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from mcpconc.errors import McpconcError
from mcpconc.events import (
    CampaignEvent,
    CampaignFinished,
    FalseAlarm,
    FindingFound,
    InfraTrouble,
    PlantTried,
    ReplayTried,
    SelftestFinished,
    TargetProgress,
    TraceSaved,
)
from mcpconc.history import History
from mcpconc.oracle.base import Label
from mcpconc.report.finding import brief, finding_report, titled
from mcpconc.report.names import name_things
from mcpconc.report.selftest import selftest_table, tried_line
from mcpconc.report.summary import summary
from mcpconc.report.tally import Tally, block, line
from mcpconc.report.wording import clip
from mcpconc.trace import load

__all__ = ["Console", "Paint", "tell"]

REFRESH = 0.5
"""Seconds between two drawings of the block."""

PLAIN = 10.0
"""Seconds between two plain lines."""

UP = "\x1b[1A\x1b[2K"
"""Go to the line above and clear it. Clearing all the rest of the screen at once instead makes
terminals keep what they clear in their scroll-back."""

PICTURES = 5
"""At most this many findings without a label are drawn at the end."""


class Paint:
    """Colours, or none."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text

    def report(self, text: str) -> str:
        """A report with its first line in red."""
        first, newline, rest = text.partition("\n")
        return self("1;31", first) + newline + rest


class Console:
    """Consumes events. Use it as a context, and as the `Emit` inside.

    :param paint: colours for `err`; `ink` those for `out`, the same if it is not given.
    :param quiet: no status, only reports and the summary.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        tty: bool,
        paint: Paint,
        ink: Paint | None = None,
        width: int = 100,
        quiet: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self._out, self._err = out, err
        self._tty, self._quiet = tty, quiet
        self._paint = paint
        self._ink = ink or paint
        self._width = width
        self._now = now
        self._began = now()
        self._drawn = 0
        self._last = 0.0
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None
        self._reported: set[str] = set()

    def __enter__(self) -> Self:
        if not self._quiet:
            # Between two events there may be a minute; a clock that stands still looks dead.
            self._ticker = threading.Thread(target=self._tick_on, name="status", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join(timeout=2)
        with self._lock:
            self._erase()

    def __call__(self, event: CampaignEvent) -> None:
        with self._lock:
            self.tally.add(event, self._elapsed())
            match event:
                case TargetProgress(text) if not self._tty:
                    self._say(f"mcpconc: {text}")
                case InfraTrouble(text):
                    self._say(self._paint("33", f"mcpconc: trouble of ours, not a verdict: {text}"))
                case FindingFound(finding, program):
                    names = name_things(program, History((), ()))
                    self._say(f"mcpconc: new: {titled(finding)}: {names.text(finding.summary)}")
                case ReplayTried():
                    self._say(f"mcpconc: {_tried(event)}")
                case PlantTried():
                    self._say(f"mcpconc: {tried_line(event)}")
                case FalseAlarm(text):
                    self._say(self._paint("31", f"mcpconc: false alarm: {text}"))
                case TraceSaved() if event.finding.label is not Label.UNLABELLED:
                    self._saved(event)
                case CampaignFinished():
                    self._closed.set()
                    self._finished(event)
                case SelftestFinished():
                    self._closed.set()
                    self._print(selftest_table(event, width=self._width if self._tty else None))
            if not self._closed.is_set():
                self.tick()

    def tick(self, *, force: bool = False) -> None:
        """Draw the status if it is time to."""
        with self._lock:
            if self._quiet:
                return
            now = self._elapsed()
            if self._tty:
                self._draw(now)
            elif force or now - self._last >= PLAIN:
                self._last = now
                tell(self._err, line(self.tally, now) + "\n")

    def _tick_on(self) -> None:
        while not self._closed.wait(REFRESH):
            self.tick()

    def _elapsed(self) -> float:
        return self._now() - self._began

    def _saved(self, event: TraceSaved) -> None:
        self._reported.add(str(event.path))
        try:
            trace = load(event.path)
        except McpconcError as error:
            self._say(f"mcpconc: {error}")
            return
        told = brief if event.finding.label is Label.SEQUENTIAL else finding_report
        self._print(self._ink.report(told(trace, event.path, width=self._width)) + "\n")

    def _finished(self, event: CampaignFinished) -> None:
        silent = [k for k in event.kept if k.path and str(k.path) not in self._reported]
        for kept in [k for k in silent if k.finding.label is Label.UNLABELLED][:PICTURES]:
            assert kept.path is not None
            self._saved(TraceSaved(kept.path, kept.finding))
        self._print(summary(event, width=self._width))

    def _say(self, text: str) -> None:
        """A line on standard error that stays."""
        if not self._quiet:
            self._erase()
            tell(self._err, clip(text, self._width) + "\n")

    def _print(self, text: str) -> None:
        self._erase()
        tell(self._out, text)

    def _draw(self, now: float) -> None:
        lines = [_clipped(text, self._width - 1) for text in block(self.tally, now)]
        lines[0] = self._paint("1", lines[0])
        # One write, so that nobody sees the moment in between.
        tell(self._err, UP * self._drawn + "".join(f"{text}\n" for text in lines))
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn:
            tell(self._err, UP * self._drawn)
            self._drawn = 0


def _clipped(line: str, width: int) -> str:
    """A line that the terminal does not wrap, or the block could not be erased."""
    indent = "  " if line.startswith(" ") else ""
    return indent + clip(line, width - len(indent))


def _tried(event: ReplayTried) -> str:
    said = {True: "reproduced", False: "not reproduced", None: f"trouble: {event.text}"}
    return f"try {event.n} of {event.of}: {said[event.reproduced]}"


def tell(stream: TextIO, text: str) -> None:
    """A reader who went away must not end a campaign: its findings are on disk anyway."""
    try:
        stream.write(text)
        stream.flush()
    except (BrokenPipeError, ValueError):
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Let later writes, and the interpreter's own flush at exit, go nowhere."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return
