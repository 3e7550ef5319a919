"""The operations of one run, as `reflexes.Reflexes` sees them: one partition per session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition
from mcpconc.model.empirica.common import OK, answer, op, partition, token_in
from mcpconc.model.empirica.facts import Facts, blob
from mcpconc.model.empirica.handoffs import session_of
from mcpconc.model.empirica.reflexes import (
    VECTORS,
    Entry,
    Loaded,
    Reflex,
    Reflexes,
    Vectors,
    listing,
)
from mcpconc.model.empirica.sessions import closed_by
from mcpconc.snapshot import Row

__all__ = ["partitions", "reflex", "vectors_of"]

SUBMITS = (
    *("submit_preflight_assessment", "submit_check_assessment", "submit_postflight_assessment"),
)
TAKEN = frozenset(
    {
        *("session_id", "vectors", "reasoning", "decision", "work_type", "work_context"),
        *("task_context", "domain", "criticality", "claims", "coverage", "falsifiers"),
    }
)
"""Arguments that assessments know; where there is another one, they may refuse."""
READS = ("epistemics_list", "epistemics_show", "checkpoint_load", "assess_state")


def partitions(known: Facts) -> Iterator[Partition]:
    """One per session that the run made, named or found rows of."""
    rows: dict[str, list[Row]] = defaultdict(list)
    place: dict[str, tuple[str, int, int]] = {}
    for row in known.rows("reflexes"):
        sid = str(row["session_id"])
        token = reflex(row).token
        if token:
            place.setdefault(token, (sid, len(rows[sid]), int(row["round"])))
        rows[sid].append(row)
    ops: dict[str, list[Op]] = defaultdict(list)
    for o in known.of(*SUBMITS, "checkpoint_create"):
        _append(known, o, place, ops)
    for o in known.of(*READS):
        if o.args.get("session_id"):
            ops[str(o.args["session_id"])].append(_read(known, o))
    for o in known.of("handoff_create"):
        session = session_of(known, o)
        if session and not o.args.get("planning_only"):
            ops[session].append(op(o, Entry(), answer(o, str(o.data.get("handoff_type")))))
    for o in known.of("resume_previous_session"):
        for session in o.data.get("sessions") or ():
            id = str(session.get("session_id"))
            ops[id].append(op(o, Entry(), answer(o, str(session.get("phase")))))
    for o in known.of("session_create"):
        _close(known, o, ops)
    for sid in ops.keys() | rows.keys():
        snapshot = None
        if known.snapshot is not None:
            snapshot = tuple(reflex(row) for row in rows.get(sid, ()))
        yield partition("reflexes", sid, Reflexes(), ops.get(sid, ()), snapshot)


def _append(
    known: Facts,
    o: Operation,
    place: Mapping[str, tuple[str, int, int]],
    ops: dict[str, list[Op]],
) -> None:
    """An assessment or checkpoint, in the session that it named and the one that it is in."""
    named = str(o.args.get("session_id") or o.data.get("session_id") or "")
    at = place.get(o.token) if o.token else None
    told = str(o.data.get("session_id") or "") if o.succeeded else ""
    actual = told or (at[0] if at is not None else named)
    if not actual:
        return
    row: tuple[int, int] | None = (-1, -1)
    if known.snapshot is not None and o.token:
        row = at[1:] if at is not None and at[0] == actual else None
    entry = Entry(
        token=o.token if token_in(o.args) else "",
        vectors=() if o.tool == "checkpoint_create" else vectors_of(o.args.get("vectors")),
        row=row,
        exists=actual in known.sessions,
        valid=o.tool == "checkpoint_create" or _valid(o.args),
        phase=str(o.args.get("phase")) if o.tool == "checkpoint_create" else "",
    )
    told_round = o.data.get("round") if o.succeeded else None
    ops[actual].append(op(o, entry, answer(o, told_round if told_round is not None else OK)))
    if named and named != actual:
        whose = "own" if actual in _homes(known, o) else "strange"
        away = Entry(exists=named in known.sessions, elsewhere=whose)
        ops[named].append(op(o, away, answer(o, OK)))


def _homes(known: Facts, o: Operation) -> set[str]:
    """The sessions for which the caller has made a PREFLIGHT, or was making one."""
    return {
        str(p.data.get("session_id") or p.args.get("session_id"))
        for p in known.of("submit_preflight_assessment")
        if p.agent == o.agent and (o.returned is None or p.invoked < o.returned)
    }


def _valid(args: Mapping[str, Any]) -> bool:
    """What PREFLIGHT insists on; the other assessments accept more, and need not."""
    found = vectors_of(args.get("vectors"))
    if not found or not args.keys() <= TAKEN:
        return False
    return {"know", "uncertainty"} <= dict(found).keys() and all(0 <= n <= 1 for _, n in found)


def _read(known: Facts, o: Operation) -> Op:
    said: Hashable = OK
    if o.tool in ("epistemics_list", "epistemics_show"):
        shown = o.data.get("trajectories") or ()
        said = listing((str(t.get("phase")), token_in(t.get("reasoning"))) for t in shown)
    elif o.tool == "assess_state":
        said = vectors_of((o.data.get("state") or {}).get("vectors"))
    elif o.data.get("found"):
        said = Loaded(
            phase=str(o.data.get("phase")),
            round=int(o.data.get("round") or 0),
            token=token_in(o.data.get("meta")),
            vectors=vectors_of(o.data.get("vectors")),
        )
    session = str(o.args["session_id"])
    phase = "" if o.tool == "epistemics_list" else str(o.args.get("phase") or "")
    entry = Entry(exists=session in known.sessions, phase=phase)
    name = "epistemics_list" if o.tool == "epistemics_show" else o.tool
    return op(o, entry, answer(o, said), name)


def _close(known: Facts, o: Operation, ops: dict[str, list[Op]]) -> None:
    """The rows that a `session_create` leaves in the sessions that it closes. Which ones these
    should be is the business of `sessions`; here its word is taken."""
    if o.answered:
        for sid in closed_by(o):
            ops[sid].append(op(o, Entry(), answer(o, OK)))
        return
    for sid, row in known.sessions.items():
        if row is None or row.get("end_time") is None:
            continue
        same_ai = str(row["ai_id"]) == str(o.args.get("ai_id"))
        if same_ai and known.instance.get(o.agent) in (None, str(row.get("instance_id") or "")):
            ops[sid].append(op(o, Entry(), None))


def reflex(row: Row) -> Reflex:
    """A row of the table as the model knows it."""
    data = blob(row, "reflex_data")
    reasoning = row.get("reasoning")
    closed = bool(data.get("auto_closed"))
    return Reflex(
        phase=str(row["phase"]),
        round=int(row["round"]),
        token=token_in(reasoning) or token_in({**data, "session_id": None}),
        vectors=vectors_of({name: row.get(name) for name in VECTORS}),
        assessed=reasoning is not None,
        noted=not closed,
    )


def vectors_of(value: Any) -> Vectors:
    """Vectors in canonical form, without those not assessed; None where they are not the plain
    numbers that are stored as they come."""
    if not isinstance(value, Mapping):
        return None
    result = []
    for name, number in value.items():
        if number is None:
            continue
        if name not in VECTORS or isinstance(number, bool) or not isinstance(number, int | float):
            return None
        result.append((str(name), float(number)))
    return tuple(sorted(result))
