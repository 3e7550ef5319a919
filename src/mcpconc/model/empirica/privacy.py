"""What is private to an agent: its transactions and sessions, and where others' show instead.

An agent relies on a few things that nothing but the identity mode makes true (`OWN`,
`IMPLIED`, …). Where agents are told apart, each is a promise; where they share an instance, it
is an expectation that breaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcpconc.history import Operation
from mcpconc.model.empirica.common import token_in
from mcpconc.model.empirica.facts import TOKEN_COLUMNS, Facts
from mcpconc.model.empirica.instances import homes
from mcpconc.model.empirica.kinds import KINDS
from mcpconc.model.empirica.whereabouts import named
from mcpconc.model.spec import View

__all__ = ["private"]

OWN = "what an agent does carries no transaction but one that the agent opened"
NAMED = "a POSTFLIGHT closes the session that it names"
IMPLIED = "a call that names no session means one of the agent's own"
CURRENT = "the session that is current for an agent is one that it made"
OPEN = "the transaction that an agent opened is current until the agent closes it"

PREFLIGHT, POSTFLIGHT = "submit_preflight_assessment", "submit_postflight_assessment"


@dataclass(frozen=True, slots=True)
class Owners:
    """Transaction → the agents that opened it, and session → those that made it or opened a
    transaction in it; `opener` and `maker` are the calls that did."""

    transactions: Mapping[str, frozenset[int]]
    sessions: Mapping[str, frozenset[int]]
    opener: Mapping[str, Operation]
    maker: Mapping[str, Operation]


def private(known: Facts) -> Iterator[View]:
    """Transactions: each is private to the agent whose PREFLIGHT opened it, and everything that
    an agent writes carries its own one or none. And sessions: where POSTFLIGHT goes to another
    than the one named, and where nobody named one."""
    owners = _owners(known)
    yield from _rows(known, owners)
    for o in known.of("goals_activate", POSTFLIGHT):
        found = str(o.data.get("transaction_id") or "") if o.succeeded else ""
        if found:
            yield _transaction(known, owners, o, o.agent, o.tool, found)
        told = str(o.data.get("session_id") or "") if o.succeeded else ""
        if o.tool == POSTFLIGHT and told not in ("", o.args.get("session_id")):
            whose = owners.sessions.get(told, frozenset())
            yield View(o.call, o.agent, o.tool, "session_id", told, whose, expected=NAMED)
    for one in known.implied:
        o = one.operation
        if one.session:
            whose = owners.sessions.get(one.session, frozenset())
            why = _made(known, owners, one.session, o.agent)
            yield View(o.call, o.agent, o.tool, "session_id", one.session, whose, why, IMPLIED)
    yield from _files(known, owners)


def _owners(known: Facts) -> Owners:
    transactions: dict[str, set[int]] = defaultdict(set)
    sessions: dict[str, set[int]] = defaultdict(set)
    opener: dict[str, Operation] = {}
    maker: dict[str, Operation] = {}
    for o in known.of("session_create"):
        if made := known.id(o, "session_id", "sessions", "session_id"):
            sessions[made].add(o.agent)
            maker.setdefault(made, o)
    for o in known.of(PREFLIGHT):
        row = known.row(o, "reflexes")
        for found in (o.data.get("transaction_id"), row and row.get("transaction_id")):
            if found:
                transactions[str(found)].add(o.agent)
                opener.setdefault(str(found), o)
        sessions[str(o.data.get("session_id") or o.args.get("session_id"))].add(o.agent)
    return Owners(
        {id: frozenset(agents) for id, agents in transactions.items()},
        {id: frozenset(agents) for id, agents in sessions.items()},
        opener,
        maker,
    )


def _rows(known: Facts, owners: Owners) -> Iterator[View]:
    """The transaction that each row carries."""
    tokens = {o.token: o for o in known.operations if o.token}
    for table in (*(kind.table for kind in KINDS.values()), "reflexes", "goals"):
        for row in known.rows(table):
            writer = tokens.get(token_in(*(row.get(c) for c in TOKEN_COLUMNS[table])))
            found = str(row.get("transaction_id") or "")
            if writer is None or not found:
                continue
            agents = {writer.agent}
            if table == "goals":  # activating a goal moves it to the activator's transaction
                agents |= {
                    o.agent
                    for o in known.of("goals_activate")
                    if o.args.get("goal_id") == row["id"]
                }
            whose = owners.transactions.get(found, frozenset())
            agent = next(iter(sorted(agents & whose)), writer.agent)
            yield _transaction(known, owners, writer, agent, table, found)


def _transaction(
    known: Facts, owners: Owners, shown: Operation, agent: int, where: str, found: str
) -> View:
    whose = owners.transactions.get(found, frozenset())
    why = _opened(known, owners.opener.get(found), found, shown)
    return View(shown.call, agent, where, "transaction_id", found, whose, why, OWN)


def _files(known: Facts, owners: Owners) -> Iterator[View]:
    """What is current for each agent in the end, as the files of its instance say."""
    if known.snapshot is None:
        return
    files = named(known.snapshot)
    for agent, home in sorted(homes(known).items()):
        said = files.get(home, {})
        session = str(said.get("session", {}).get("session_id") or "")
        made = [o.call for o in known.of("session_create") if o.agent == agent and o.succeeded]
        maker = owners.maker.get(session)
        if made and maker is not None:
            why = _made(known, owners, session, agent)
            whose = frozenset({maker.agent})
            yield View("", agent, "active_session", "session_id", session, whose, why, CURRENT)
        transaction = said.get("transaction", {})
        found = str(transaction.get("transaction_id") or "")
        last = [o for o in known.of(PREFLIGHT, POSTFLIGHT) if o.agent == agent and o.succeeded]
        if transaction.get("status") == "open" and last and last[-1].tool == PREFLIGHT:
            whose = owners.transactions.get(found, frozenset())
            why = _opened(known, owners.opener.get(found), found, last[-1])
            yield View("", agent, "active_transaction", "transaction_id", found, whose, why, OPEN)


def _opened(known: Facts, opener: Operation | None, transaction: str, shown: Operation) -> str:
    """Who opened the transaction, what the agent opened that it shows at, and the rule."""
    if opener is None:
        return ""
    own = [o.call for o in known.of(PREFLIGHT) if o.agent == shown.agent]
    opened = f"another one in {', '.join(own[:3])}" if own else "none"
    session = shown.args.get("session_id")
    both = session is not None and session == opener.args.get("session_id")
    return (
        f"{transaction} was opened by agent {opener.agent} in {opener.call}; agent {shown.agent} "
        f"opened {opened}. A transaction belongs to the agent that opened it"
        f"{', not to the session that both use' if both else ''}."
    )


def _made(known: Facts, owners: Owners, session: str, agent: int) -> str:
    """Who made the session, and what the agent made that is given it."""
    maker = owners.maker.get(session)
    if maker is None:
        return ""
    own: Sequence[str] = [
        o.call for o in known.of("session_create") if o.agent == agent and o.succeeded
    ]
    made = f"made another one in {', '.join(own[:3])}" if own else "made none"
    return (
        f"{session} was made by agent {maker.agent} in {maker.call}; agent {agent} {made}. A "
        "session belongs to the agent that made it."
    )
