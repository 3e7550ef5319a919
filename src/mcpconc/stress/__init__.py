"""Load with a verdict: scenarios at several numbers of agents, measured and judged."""
