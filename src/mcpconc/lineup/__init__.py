"""Judging a target by itself: concurrent runs against sequential runs of the same calls.

After Burckhardt, Dern, Musuvathi and Tan, *Line-Up: A Complete and Automatic Linearizability
Checker* (PLDI 2010): a target that nobody has modelled is its own sequential specification.
Everything here is pure; `mcpconc.itself` makes the runs.
"""
