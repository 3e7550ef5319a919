"""What a warm start runs under the target's own interpreter: `server` has the program imported and
forks, the script `shim` stands in for the program on PATH. Standard library alone, Python 3.9 or
later, and nothing else of mcpconc: see `mcpconc.target.warm`.
"""
