"""A small MCP server with the tools of Empirica's CASCADE loop, correct by default and broken on
request: what the oracles are tested with.

It speaks the tool names, arguments and response fields that the models know, so strategies,
models and oracles run on it unchanged. Every call does its work in one transaction, row and note
together; bugs are planted one at a time (`plants`) and switched in running servers (`switch`).
Nothing in here imports the rest of mcpconc.
"""
