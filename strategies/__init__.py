"""Hypothesis strategies and state machines: read them, copy them, extend them."""

from mcpconc.strategies.cascade import CascadeMachine
from mcpconc.strategies.machine import Knobs, Obj, ProgramMachine, act, chance, generate, needs
from mcpconc.strategies.story import (
    BulkStory,
    CarefulStory,
    ErrorProneStory,
    FastStory,
    StoryMachine,
)

__all__ = [
    "BulkStory",
    "CarefulStory",
    "CascadeMachine",
    "ErrorProneStory",
    "FastStory",
    "Knobs",
    "Obj",
    "ProgramMachine",
    "StoryMachine",
    "act",
    "chance",
    "generate",
    "needs",
]
