"""What a user writes after ``--target``, and the target that it means."""

from __future__ import annotations

import re
from pathlib import Path

from mcpconc.errors import UsageError
from mcpconc.target.base import Target
from mcpconc.target.command import CommandTarget
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.target.reference import PREFIX, ReferenceTarget

__all__ = ["FORMS", "resolve"]

FORMS = (
    "empirica, empirica==X.Y.Z, empirica@PATH, reference, reference+PLANT, "
    "PATH.toml or command:PATH.toml"
)
"""The forms of a SPEC, as help texts and errors list them."""

_RELEASE = re.compile(r"empirica==(\d+(?:\.\d+){1,3}(?:(?:a|b|rc|\.post|\.dev)\d+)?)")


def resolve(spec: str) -> Target:
    """The target that `spec` names, not installed yet.

    :raises UsageError: if it names none: wrong form, a release that cannot be driven, a path
        without the packages, a bug that nobody planted or a file that is not a target
        description.
    """
    spec = spec.strip()
    if spec == "empirica":
        return EmpiricaTarget.tested()
    if spec.startswith("empirica=="):
        match = _RELEASE.fullmatch(spec)
        if match is None:
            raise UsageError(f"target {spec!r}: not a release number; write empirica==X.Y.Z")
        return EmpiricaTarget.release(match[1])
    if spec.startswith("empirica@"):
        return EmpiricaTarget.checkout(Path(spec.removeprefix("empirica@")).expanduser())
    if spec == "reference":
        return ReferenceTarget()
    if spec.startswith(PREFIX):
        return ReferenceTarget.with_bug(spec.removeprefix(PREFIX))
    if spec.startswith("command:"):
        return CommandTarget.load(Path(spec.removeprefix("command:")).expanduser(), spec)
    if spec.endswith(".toml"):
        return CommandTarget.load(Path(spec).expanduser(), spec)
    raise UsageError(f"unknown target {spec!r}; use {FORMS}")
