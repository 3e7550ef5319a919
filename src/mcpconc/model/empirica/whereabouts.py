"""What files outside the database say of sessions and transactions, next to what rows say.

In HOME, ``active_session*`` and ``instance_projects/*.json`` name the session of an instance; in
the workspace, ``active_transaction*.json`` names its transaction, and ``.breadcrumbs.yaml``
holds what POSTFLIGHT learned, one section for each kind of thing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mcpconc.model.empirica.common import DATABASE
from mcpconc.model.empirica.facts import blob
from mcpconc.model.spec import Copies
from mcpconc.snapshot import Row, Snapshot

__all__ = ["kept_in_files", "named"]

FILES = {
    "session": re.compile(r"home/\.empirica/active_session(?:_(?P<of>.+))?$"),
    "project": re.compile(r"home/\.empirica/instance_projects/(?P<of>.+)\.json$"),
    "transaction": re.compile(r"ws/\.empirica/active_transaction(?:_(?P<of>.+))?\.json$"),
}
BREADCRUMBS = "ws/.breadcrumbs.yaml"
SECTION = re.compile(r"^(\w+):", re.MULTILINE)


def named(snapshot: Snapshot) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Instance ("" where files have no suffix) → ``session``, ``project`` or ``transaction`` →
    what that file says; nothing where it is no JSON object."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for path, text in snapshot.files.items():
        for kind, pattern in FILES.items():
            match = pattern.match(path)
            if match is not None:
                found[match["of"] or ""][kind] = blob({"file": text}, "file")
    return found


def kept_in_files(snapshot: Snapshot) -> Iterator[Copies]:
    sessions = {str(r["session_id"]): r for r in snapshot.rows(DATABASE, "sessions")}
    opened: dict[str, Row] = {}
    for row in snapshot.rows(DATABASE, "reflexes"):
        if row.get("phase") == "PREFLIGHT" and row.get("transaction_id"):
            opened[str(row["transaction_id"])] = row
    for instance, files in named(snapshot).items():
        yield from _session(instance, files, sessions)
        if "transaction" in files:
            yield from _transaction(instance, files["transaction"], opened)
    yield from _breadcrumbs(snapshot)


def _session(
    instance: str, files: Mapping[str, Mapping[str, Any]], sessions: Mapping[str, Row]
) -> Iterator[Copies]:
    if "session" not in files:
        return
    said = files["session"]
    where = "active_session"
    yield Copies("instance", instance, "readable", {"expected": True, where: bool(said)})
    if not said:
        return
    id = said.get("session_id")
    told = files.get("project", {}).get("empirica_session_id")
    if told is not None:  # it may be there before any session is: it binds an instance
        yield Copies("instance", instance, "session_id", {where: id, "instance_projects": told})
    row = sessions.get(str(id))
    yield Copies("instance", instance, "session", {where: True, "sessions": row is not None})
    if row is not None:
        ai = {where: said.get("ai_id"), "sessions": row.get("ai_id")}
        yield Copies("instance", instance, "ai_id", ai)
        owner = {where: instance, "sessions": str(row.get("instance_id") or "")}
        yield Copies("instance", instance, "instance_id", owner)


def _transaction(
    instance: str, said: Mapping[str, Any], opened: Mapping[str, Row]
) -> Iterator[Copies]:
    where = "active_transaction"
    yield Copies("transaction", instance, "readable", {"expected": True, where: bool(said)})
    if not said:
        return
    row = opened.get(str(said.get("transaction_id")))
    yield Copies("transaction", instance, "row", {where: True, "reflexes": row is not None})
    if row is not None:
        both = {where: said.get("session_id"), "reflexes": row.get("session_id")}
        yield Copies("transaction", instance, "session_id", both)


def _breadcrumbs(snapshot: Snapshot) -> Iterator[Copies]:
    """Each section of the file once: it is spliced, not written anew."""
    times = Counter(SECTION.findall(snapshot.files.get(BREADCRUMBS, "")))
    for name in sorted(times):
        yield Copies("breadcrumbs", name, "section", {"expected": 1, "file": times[name]})
