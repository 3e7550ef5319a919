"""Targets: `resolve` gives the one that a user's SPEC names."""

from __future__ import annotations

from mcpconc.target.specifier import FORMS, resolve

__all__ = ["FORMS", "resolve"]
