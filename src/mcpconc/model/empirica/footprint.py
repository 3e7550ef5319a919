"""What calls change: differences between two snapshots under names that hold for every run.

``footprint.json`` holds, per tool and outcome, how often each change was seen in sequential
runs against the real server (`learn`); the conformance test fails when the server and the file
disagree and rewrites the file when asked to.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from mcpconc.history import Operation, Outcome
from mcpconc.model.empirica.batches import BATCHES
from mcpconc.model.empirica.common import DATABASE
from mcpconc.model.empirica.facts import blob
from mcpconc.model.empirica.kinds import BY_TOOL, KINDS
from mcpconc.model.spec import Footprint
from mcpconc.snapshot import Row, Snapshot

__all__ = ["MANY", "changes", "disagreements", "footprint_of", "learn", "owner_of"]

MANY = 1_000_000
"""No bound."""

VARIABLE = frozenset(
    {
        *("artifact_edges", "bayesian_beliefs", "calibration_trajectory", "epistemic_snapshots"),
        *("grounded_beliefs", "grounded_verifications", "verification_evidence"),
        *("epistemic_events", "weave_enforce_events", "blindspot_events", "cascades"),
        *("auto_captured_issues", "compliance_checks", "practitioner_observations"),
        "calibration_insights",
    }
)
"""Tables in which the number of rows depends on what is there, or on a tail that runs on after
the answer and may be cut short: only the most that ever happens is known, and it is no bound."""

REPLACED = {"handoff_reports": "session_id"}
"""Tables into which rows are put by INSERT OR REPLACE, and what names a row there."""

STAMPS = (
    *("resolved_timestamp", "invalidated_at", "last_revisited_at", "outcome_assessed_at"),
    *("retrieval_count_at_resolution", "lifecycle_audit_log"),
)
"""Columns of artifacts in which it is written when and how often something became of them."""

ISSUES = f"rows:{DATABASE}.auto_captured_issues"
VARYING = {f"rows:{DATABASE}.{table}": (0, MANY) for table in sorted(VARIABLE)}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PHASE = re.compile(r"PREFLIGHT|CHECK|ACT|POSTFLIGHT")
PER_INSTANCE = re.compile(r"(active_transaction|active_session)(_[^/]*)?$")
STAMPED = "checkpoint_PHASE_#_#_#"
"""Files whose names hold the second in which they were written."""

OF_GOAL = ("subtasks", "goal_dependencies")
GOAL_TOOLS = frozenset(
    {"goals_add_task", "goals_complete", "goals_activate", "goals_refresh", "goals_add_dependency"}
)


def owner_of(operation: Operation) -> str:
    """The object on which a call works: a goal, task or unknown by its id, else a session."""
    if operation.tool in GOAL_TOOLS:
        return str(operation.args.get("goal_id") or "")
    if operation.tool == "goals_complete_task":
        return str(operation.args.get("task_id") or "")
    if operation.tool == "unknown_resolve":
        return str(operation.args.get("unknown_id") or "")
    if operation.tool == "issue_resolve":
        return str(operation.args.get("issue_id") or "")
    if operation.tool == "finding_resolve":
        return str(operation.args.get("finding_id") or "")
    if operation.tool in BATCHES:  # whoever owns what they work on
        return ""
    told = operation.data.get("session_id") if operation.succeeded else None
    return str(told or operation.args.get("session_id") or "")


@functools.cache
def _learned() -> Mapping[str, Footprint]:
    text = files(__package__).joinpath("footprint.json").read_text("utf-8")
    return {
        name: Footprint(
            {key: (low, high) for key, (low, high) in entry["changes"].items()},
            {key: (low, high) for key, (low, high) in entry["foreign"].items()},
        )
        for name, entry in json.loads(text).items()
    }


def footprint_of(operation: Operation) -> Footprint | None:
    """The learned footprint of a call. A usage error changes nothing, any command that fails may
    file an issue about itself, and assessments may add to what varies with what is there."""
    if operation.outcome is Outcome.USAGE:
        return Footprint({})
    learned = _learned().get(f"{operation.tool} {operation.outcome}")
    if learned is not None and operation.tool.endswith("_assessment"):
        learned = Footprint({**VARYING, **learned.changes}, learned.foreign)
    if learned is not None and operation.tool in BY_TOOL:  # what is logged may be deleted
        changes = {key: (0, high) for key, (_, high) in learned.changes.items()}
        learned = Footprint(changes, learned.foreign)
    if learned is not None and operation.tool in BATCHES:
        learned = _many(learned, operation)
    if operation.outcome is not Outcome.REFUSED:
        return learned
    if learned is None:  # never seen refused: then it should leave nothing
        return Footprint({ISSUES: (0, MANY)}) if f"{operation.tool} success" in _learned() else None
    return Footprint({**learned.changes, ISSUES: (0, MANY)}, learned.foreign)


def _many(learned: Footprint, operation: Operation) -> Footprint:
    """A batch leaves at most as much as so many of the largest that was learned from, and of
    every kind of artifact what the tool may do to one: which of its items left what is for other
    oracles to say."""
    times = sum(len(v) for v in operation.args.values() if isinstance(v, list | tuple))

    def most(bounds: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        return {key: (0, high * max(times, 1)) for key, (_, high) in bounds.items()}

    any_kind = dict.fromkeys(_of_any_kind(operation.tool), (0, 1))
    return Footprint(most(learned.changes), most({**any_kind, **learned.foreign}))


def _of_any_kind(tool: str) -> Iterator[str]:
    for kind in KINDS.values():
        table = f"{DATABASE}.{kind.table}"
        note = f"refs/notes/empirica/{kind.notes}/*"
        if tool == "log_artifacts":
            yield from (f"rows:{table}", f"ref:{note}", f"note:{note}")
            yield f"json:{table}.{kind.blob}:edges"
        elif tool == "delete_artifacts":
            archived = f"refs/notes/empirica-archive/{kind.notes}/*"
            yield from (f"gone:{table}", f"gone:{note}", f"ref:{archived}", f"note:{archived}")
        if tool != "delete_artifacts":  # an edge may close what it leads to
            names = (*kind.begins, *(column for column, _ in kind.columns.values()), *STAMPS)
            yield from (f"column:{table}.{name}" for name in names)
            yield f"note:{note}"


def changes(before: Snapshot, after: Snapshot) -> Mapping[tuple[str, str], int]:
    """(change key, owner) → times. New things are ``rows:``, ``ref:`` and ``file:``; things gone
    ``gone:``; columns changed in place ``column:`` (``json:`` with the path inside a JSON
    column); ``note:`` and ``content:`` are refs and files that were changed."""
    found: Counter[tuple[str, str]] = Counter()
    owners = _owners(after)
    for database, tables in after.tables.items():
        for table, rows in tables.items():
            old = {_key(table, row): row for row in before.rows(database, table)}
            for row in rows:
                was = old.pop(_key(table, row), None)
                if was is None:
                    found[f"rows:{database}.{table}", _row_owner(table, row, owners)] += 1
                else:
                    for key in _altered(f"{database}.{table}", was, row):
                        found[key, _own_id(row)] += 1
            found.update((f"gone:{database}.{table}", "") for _ in old)
    for ref, object_id in after.refs.items():
        if ref not in before.refs:
            found[f"ref:{_masked(ref)}", _path_owner(ref, owners)] += 1
        elif before.refs[ref] != object_id:
            found[f"note:{_masked(ref)}", _path_id(ref)] += 1
    found.update((f"gone:{_masked(ref)}", "") for ref in before.refs.keys() - after.refs.keys())
    for path, text in after.files.items():
        if path not in before.files:
            found[f"file:{_masked(path)}", _path_owner(path, owners)] += 1
        elif before.files[path] != text:
            found[f"content:{_masked(path)}", _path_id(path)] += 1
    found.update((f"gone:{_masked(p)}", "") for p in before.files.keys() - after.files.keys())
    return found


def _key(table: str, row: Row) -> Any:
    if table in REPLACED:  # a row that is replaced gets another rowid
        return row.get(REPLACED[table])
    rowid = row.get("_rowid_")
    return rowid if rowid is not None else json.dumps(row, sort_keys=True, default=str)


def _altered(table: str, was: Row, row: Row) -> Iterator[str]:
    for column, value in row.items():
        old = was.get(column)
        if old == value or column == "_rowid_":
            continue
        a, b = blob(was, column), blob(row, column)
        if a and b:
            yield from (f"json:{table}.{column}:{path}" for path in _paths(a, b))
        else:
            yield f"column:{table}.{column}"


def _paths(a: Mapping[str, Any], b: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name in sorted(a.keys() | b.keys()):
        old, new = a.get(name), b.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _paths(old, new, f"{above}{name}.")
        elif old != new:
            yield above + _masked(name)


def _owners(snapshot: Snapshot) -> Mapping[str, str]:
    """Id of a goal, artifact or cascade → its session."""
    found: dict[str, str] = {}
    for table, column in (
        ("goals", "id"),
        ("project_findings", "id"),
        ("project_unknowns", "id"),
        ("project_dead_ends", "id"),
        ("mistakes_made", "id"),
        ("assumptions", "id"),
        ("decisions", "id"),
        ("cascades", "cascade_id"),
    ):
        for row in snapshot.rows(DATABASE, table):
            found[str(row[column])] = str(row.get("session_id") or "")
    return found


def _row_owner(table: str, row: Row, owners: Mapping[str, str]) -> str:
    if table in OF_GOAL:
        return str(row.get("goal_id"))
    if table in VARIABLE:
        return ""
    if row.get("session_id"):
        return str(row["session_id"])
    return owners.get(str(row.get("goal_id") or row.get("cascade_id") or ""), "")


def _own_id(row: Row) -> str:
    return str(row.get("id") or row.get("session_id") or "")


def _path_id(path: str) -> str:
    match = UUID.search(path)
    return match.group() if match else ""


def _path_owner(path: str, owners: Mapping[str, str]) -> str:
    if "/messages/" in path:  # named by an id that no answer tells
        return ""
    id = _path_id(path)
    return owners.get(id, id)


def _masked(name: str) -> str:
    """Without ids, numbers, phases and names of instances."""
    stem = name.removesuffix(".json")
    if "/instance_projects/" in name:
        return stem.rpartition("/")[0] + "/*"
    if "/session/" in name or "/checkpoints/" in name:
        stem = PHASE.sub("PHASE", stem)
    return re.sub(r"\d+", "#", UUID.sub("*", PER_INSTANCE.sub(r"\1", stem)))


def learn(
    observed: Iterable[tuple[Operation, Snapshot, Snapshot]],
) -> dict[str, dict[str, dict[str, tuple[int, int]]]]:
    """The footprints of calls that ran alone, each with the snapshots around it.

    How many files a call adds is no promise: where their names hold the second (`STAMPED`), the
    call may have changed one of the same second instead. What is `VARIABLE` has no bounds at all.
    """
    times: dict[str, list[tuple[Counter[str], Counter[str]]]] = defaultdict(list)
    for operation, before, after in observed:
        own: Counter[str] = Counter()
        foreign: Counter[str] = Counter()
        for (key, owner), count in changes(before, after).items():
            (own if owner in ("", owner_of(operation)) else foreign)[key] += count
        times[f"{operation.tool} {operation.outcome}"].append((own, foreign))
    return {
        name: {
            "changes": _bounds([own for own, _ in counts]),
            "foreign": _bounds([foreign for _, foreign in counts]),
        }
        for name, counts in sorted(times.items())
    }


def _bounds(counts: list[Counter[str]]) -> dict[str, tuple[int, int]]:
    bounds = {}
    for key in sorted({key for counted in counts for key in counted}):
        least, most = min(c[key] for c in counts), max(c[key] for c in counts)
        prefix, _, name = key.partition(":")
        if name.rpartition(".")[2] in VARIABLE:
            least, most = 0, MANY
        bounds[key] = (least if prefix in ("rows", "ref") else 0, most)
    for key, (_, most) in [*bounds.items()]:
        prefix, _, path = key.partition(":")
        if prefix == "file" and path.endswith(STAMPED):
            changed = f"content:{path}"
            bounds[changed] = (0, max(most, bounds.get(changed, (0, 0))[1]))
    return bounds


def disagreements(
    learned: Mapping[str, Mapping[str, Mapping[str, tuple[int, int]]]],
) -> list[str]:
    """Where what was learned now lies outside what the file says, one line each."""
    lines = []
    for name, parts in learned.items():
        known = _learned().get(name)
        if known is None:
            lines.append(f"{name}: not in the file")
            continue
        for part, bounds in (("changes", known.changes), ("foreign", known.foreign)):
            for key, (least, most) in parts[part].items():
                low, high = bounds.get(key, (0, 0))
                if least < low or most > high:
                    lines.append(f"{name}: {part} {key} {least}..{most}, file {low}..{high}")
            lines += [
                f"{name}: {part} {key} never, file {low}..{high}"
                for key, (low, high) in bounds.items()
                if low > 0 and key not in parts[part]
            ]
    return lines
