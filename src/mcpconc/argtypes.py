"""Values on the command line, and what to say of those that are none."""

from __future__ import annotations

import argparse

__all__ = ["names", "positive", "probability", "seconds", "whole"]


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5m``, ``1h30m``"""
    total, digits = 0.0, ""
    for character in text + ("" if text[-1:].isalpha() else "s"):
        if character.isdigit() or character == ".":
            digits += character
            continue
        try:
            total += float(digits) * {"s": 1, "m": 60, "h": 3600}[character]
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a time such as 90s, 5m or 1h30m"
            ) from None
        digits = ""
    if total <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all")
    return total


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)
