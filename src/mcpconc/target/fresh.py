"""Calls of Empirica's tools that each agent can make at any time, whatever came before."""

from __future__ import annotations

from mcpconc.program import Call, Ref

__all__ = ["fresh"]


def fresh(name: str, agent: int, token: str) -> tuple[Call, ...]:
    """A session of a new identity, a finding in it (a row and a git note), and a list to read."""
    session = f"{name}.session"
    return (
        Call(session, agent, "session_create", {"ai_id": token}, token),
        Call(
            f"{name}.finding",
            agent,
            "finding_log",
            {"finding": f"finding {token}", "session_id": Ref(session, "session_id")},
            token,
        ),
        Call(f"{name}.goals", agent, "goals_list", {"session_id": Ref(session, "session_id")}),
    )
