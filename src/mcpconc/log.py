"""The machine-readable log: one JSON object a line, beside the traces, never on the terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import orjson
import structlog

from mcpconc.errors import UsageError
from mcpconc.events import CampaignEvent, Emit, RunFinished, ShrinkProgress
from mcpconc.oracle.base import Finding, Fingerprint
from mcpconc.program import Program

__all__ = ["NAME", "configure", "recorded"]

NAME = "mcpconc.log"

_CHATTY = (RunFinished, ShrinkProgress)


def configure(path: Path | None, *, verbose: int = 0) -> None:
    """Send every log line to the end of `path`, or nowhere where it is None.

    :param verbose: 1 and more also writes debug lines, -1 and less only warnings.
    :raises UsageError: if the file cannot be opened.
    """
    level = logging.DEBUG if verbose > 0 else logging.WARNING if verbose < 0 else logging.INFO
    try:
        file = open(os.devnull if path is None else path, "ab")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"cannot write the log {path}: {error.strerror}") from error
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file),
        cache_logger_on_first_use=False,
    )


def recorded(emit: Emit) -> Emit:
    """`emit`, with every event also written to the log."""
    logger: Any = structlog.get_logger("mcpconc")

    def both(event: CampaignEvent) -> None:
        # A program that was run is worth a line, but not to somebody who reads only what matters.
        write: Callable[..., Any] = logger.debug if isinstance(event, _CHATTY) else logger.info
        write(
            type(event).__name__, **{f.name: _named(getattr(event, f.name)) for f in fields(event)}
        )
        emit(event)

    return both


def _named(value: Any) -> Any:
    """An enum by its name: orjson would write its number."""
    return value.name.lower() if isinstance(value, Enum) else value


def _dumps(event: Mapping[str, Any], **_: Any) -> bytes:
    return orjson.dumps(
        event, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Finding | Program):
        return value.to_json()
    if isinstance(value, Fingerprint):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return str(value)
