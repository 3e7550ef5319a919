"""Hypothesis strategies and state machines: read them, copy them, extend them."""

from mcpconc.strategies.cascade import CascadeMachine
from mcpconc.strategies.machine import Knobs, Obj, ProgramMachine, act, chance, generate, needs

__all__ = ["CascadeMachine", "Knobs", "Obj", "ProgramMachine", "act", "chance", "generate", "needs"]
