"""The append-only log of one run: append order *is* the order of the history.

Each event is on its way to the disk before the next one gets its index, so that whatever kills
us (SIGKILL too) leaves a readable prefix of the history and at most one torn line at its end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from mcpconc.errors import InvariantError, TraceError, UsageError
from mcpconc.history import Event, EventType, History

__all__ = ["ENDED", "NOBODY", "Recorder", "read_history"]

ENDED = "run-ended"
"""The note that ends the log of a run that was driven to its end."""

NOBODY = -1
"""`Event.agent` of a note that is about no agent."""


class Recorder:
    """Appends events to memory and, where `path` is given, line by line to a new file.

    `clock` gives nanoseconds; it orders nothing. `heard` is told of each event that was appended.

    :raises UsageError: if the file exists already or cannot be written.
    """

    def __init__(self, path: Path | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self.events: list[Event] = []
        self.heard: Callable[[Event], None] = lambda event: None
        self._clock = clock
        self._open = True
        self._file: int | None = None
        if path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            try:
                self._file = os.open(path, flags, 0o644)
            except OSError as error:
                raise UsageError(f"cannot write the history {path}: {error.strerror}") from error

    def append(self, type: EventType, agent: int, call: str, value: Mapping[str, Any]) -> Event:
        """Give the event its place in the order and write it down.

        :raises UsageError: if the file cannot be written (disk full).
        :raises InvariantError: if the log is closed.
        """
        if not self._open:
            raise InvariantError(f"{type.value} of call {call!r} comes after the log was closed")
        event = Event(len(self.events), type, agent, call, value, self._clock())
        try:
            line = orjson.dumps(event.to_json(), option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:
            # Lone surrogates, integers past 64 bits: legal in a target's JSON, not in ours.
            event = Event(event.index, type, agent, call, _plain(value), event.ns)
            line = orjson.dumps(event.to_json(), option=orjson.OPT_APPEND_NEWLINE)
        self.events.append(event)
        self._write(line)
        self.heard(event)
        return event

    def note(self, what: str, agent: int = NOBODY, call: str = "", **more: Any) -> Event:
        """Append something that is not about the life of a call."""
        return self.append(EventType.NOTE, agent, call, {"what": what, **more})

    def history(self) -> History:
        """What was recorded so far."""
        return History.of(self.events)

    def close(self) -> None:
        """Nothing can be appended from now on. May be called again."""
        self._open = False
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            # One write as a rule: the kernel keeps it when we are killed, so no fsync.
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            raise UsageError(f"cannot write the history {self.path}: {error.strerror}") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_history(path: Path) -> tuple[tuple[Event, ...], bool]:
    """The events of a log, and whether its last line is whole.

    A log may end anywhere when its writer was killed, so a torn *last* line is dropped. A run
    that was driven to its end has the note `ENDED` as its last event.

    :raises TraceError: if the file cannot be read or any other line is damaged; names the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TraceError(f"cannot read the history {path}: {error.strerror}") from error
    *lines, rest = raw.split(b"\n")
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        events.append(_event(path, number, line, index=len(events)))
    if not rest:
        return tuple(events), True
    with suppress(TraceError):
        # Whole but for its newline: nothing is lost by keeping it.
        events.append(_event(path, len(lines) + 1, rest, index=len(events)))
    return tuple(events), False


def _event(path: Path, number: int, line: bytes, index: int) -> Event:
    try:
        event = Event.from_json(orjson.loads(line))
    except (orjson.JSONDecodeError, TraceError) as error:
        raise TraceError(f"{path}, line {number}: {error}") from error
    if event.index != index:
        raise TraceError(f"{path}, line {number}: event {event.index} where {index} is due")
    return event


def _plain(value: Any) -> Any:
    """`value` as what orjson can write."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return str(value)
