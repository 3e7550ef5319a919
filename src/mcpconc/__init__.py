"""Find, replay, minimise and explain concurrency bugs in MCP servers that keep state in SQLite."""

__version__ = "0.1.0"
