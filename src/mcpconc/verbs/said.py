"""Where it is said: the console, results for people, one document for programs."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from typing import Any

from mcpconc.jsontext import compact
from mcpconc.report.console import Console, Paint, tell

__all__ = ["console", "document", "paint", "say", "width"]


def console(args: Namespace) -> Console:
    # With --json nobody watches: whatever reads standard output wants silence on the other.
    return Console(
        open(os.devnull, "w") if args.json else sys.stdout,
        sys.stderr,
        tty=_is_terminal(sys.stderr),
        paint=paint(args, sys.stderr),
        ink=paint(args, sys.stdout),
        width=width(sys.stderr),
        quiet=args.quiet or args.json,
    )


def _is_terminal(stream: Any) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def paint(args: Namespace, stream: Any) -> Paint:
    plain = args.no_color or bool(os.environ.get("NO_COLOR"))
    return Paint(not plain and _is_terminal(stream))


def width(stream: Any) -> int:
    if not stream.isatty():
        return 100
    return max(60, min(140, shutil.get_terminal_size((100, 24)).columns))


def say(text: str) -> None:
    tell(sys.stdout, text)


def document(value: Any) -> None:
    say(compact(value) + "\n")
