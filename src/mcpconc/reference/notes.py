"""Notes are written in the transaction of what they tell; a planted bug makes some of them later,
and only if nobody else is writing one."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcpconc.reference.store import Store
from mcpconc.reference.switch import pause, planted

__all__ = ["write_note", "write_note_if_free"]

WINDOW = 0.01
"""Seconds for which a note that is made later keeps others out, beside what git takes."""


def write_note(store: Store, ref: str, text: str) -> None:
    """Set the note ``refs/notes/empirica/REF``."""
    if planted("note-skipped"):
        with _alone(store, fcntl.LOCK_EX):
            store.note(ref, text)
    else:
        store.note(ref, text)


def write_note_if_free(store: Store, ref: str, text: Callable[[], str]) -> None:
    """The same outside of any transaction, unless another note is being written."""
    try:
        with _alone(store, fcntl.LOCK_EX | fcntl.LOCK_NB):
            store.note(ref, text())
            pause(WINDOW)
    except BlockingIOError:
        pass


@contextmanager
def _alone(store: Store, how: int) -> Iterator[None]:
    with (store.root / "ws/.git/notes-busy").open("w") as file:
        fcntl.flock(file, how)
        yield
