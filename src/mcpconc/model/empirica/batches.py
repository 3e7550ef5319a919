"""What single calls and batches do to each artifact and edge, read off arguments and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcpconc.history import Operation, Outcome
from mcpconc.model.empirica.common import OK, Refusal, answer, token_in
from mcpconc.model.empirica.kinds import BY_TOOL, KINDS, Kind, corrected, plain, resolved, started
from mcpconc.snapshot import Row

__all__ = [
    "BATCHES",
    "CLOSING",
    "DENIED",
    "Changed",
    "Logged",
    "Wired",
    "changed",
    "dry",
    "items_of",
    "logged",
    "wired",
]

BATCHES: Mapping[str, str] = {
    "log_artifacts": "nodes",
    "resolve_artifacts": "resolutions",
    "update_artifacts": "updates",
    "delete_artifacts": "deletions",
}
"""Tool that takes many artifacts at once → the argument that holds them."""

CLOSING = ("finding_resolve", "resolve_artifacts", "update_artifacts", "delete_artifacts")

DENIED = "done, and the call says that it failed"
"""Output of an item that a batch lists as done, in an answer that says ``"ok": false``."""

REFUSALS: tuple[tuple[str, str], ...] = (
    ("superseded_by", "no-successor"),
    ("not found", "absent"),
    ("no row matches", "absent"),
)
"""What an item's error says → the class of its refusal; anything else is invalid input."""

WARNED = re.compile(r"edge (\d+) \(.*matches no existing artifact", re.DOTALL)

Rows = Callable[[str], Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Logged:
    """An artifact that a call makes, or meets: `values` are the columns of a new row. `id` is ""
    where nobody knows; `output` is the id answered, a refusal, or None without an answer."""

    op: Operation
    kind: Kind
    args: Mapping[str, Any]
    values: Mapping[str, Any]
    session: str
    id: str
    ref: str
    output: Hashable | None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a call does to the artifact `id`: `values` are the columns set, None where it is
    deleted. Not `valid` where it has to be refused whatever there is; `successor` where it names
    one, which may be missing."""

    op: Operation
    kind: Kind
    id: str
    values: Mapping[str, Any] | None
    output: Hashable | None
    valid: bool = True
    successor: bool = False


@dataclass(frozen=True, slots=True)
class Wired:
    """An edge that a call draws, or cuts (`cut`); any of the relations where `relation` is "".
    `made` are those of its ends that the call itself logs."""

    op: Operation
    ends: tuple[str, str]
    relation: str
    cut: bool
    made: tuple[bool, bool]
    output: Hashable | None
    metadata: Mapping[str, Any] | None = None


def items_of(o: Operation) -> list[Mapping[str, Any]]:
    """The well-formed items of a batch."""
    items = o.args.get(BATCHES[o.tool])
    return [item for item in _objects(items) if isinstance(item.get("type"), str)]


def dry(o: Operation) -> bool:
    """Whether a deletion is only asked about: that is so unless it is told otherwise."""
    return o.args.get("dry_run") is not False


def _objects(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list | tuple) else ()
    return [item for item in items if isinstance(item, Mapping)]


def logged(operations: Sequence[Operation], rows: Rows) -> Iterator[Logged]:
    """Every artifact that a call makes or meets. `rows` gives a table's rows, if there are any."""
    for o in operations:
        kind = BY_TOOL.get(o.tool)
        if kind is not None:
            one = _single(o, kind, rows)
            if one is not None:
                yield one
        elif o.tool == "log_artifacts":
            yield from _nodes(o, rows)


def _single(o: Operation, kind: Kind, rows: Rows) -> Logged | None:
    if o.outcome is Outcome.REFUSED and not plain(kind, o.args):
        return None
    values = started(kind, o.args)
    id = str(o.data.get(kind.answer) or "") if o.succeeded else ""
    if not id and o.outcome is not Outcome.REFUSED:
        id = _row_id(o, kind, values, rows)
    session = str(o.args.get("session_id") or o.data.get("session_id") or "")
    return Logged(o, kind, o.args, values, session, id, "", answer(o, id))


def _nodes(o: Operation, rows: Rows) -> Iterator[Logged]:
    nodes = [node for node in items_of(o) if node["type"] in KINDS and node["type"] != "note"]
    created = o.data.get("created") if o.succeeded else None
    created = created if isinstance(created, Mapping) else {}
    session = str(o.args.get("session_id") or "")
    for node in nodes:
        kind, data, ref = KINDS[node["type"]], node.get("data"), str(node.get("ref"))
        if not isinstance(data, Mapping):
            continue
        if o.outcome is Outcome.REFUSED:
            whole = all(_good(node) for node in _objects(o.args.get("nodes")))
            if not whole or o.args.get("edges") or not session:
                continue
        values = started(kind, data)
        id = str(created.get(ref) or "")
        if not id and answer(o, OK) is None:
            id = _row_id(o, kind, values, rows)
        output = answer(o, id)
        if o.succeeded and not id:
            if not _good(node):
                continue
            output = _part(o, Refusal("not-created"))
        yield Logged(o, kind, data, values, session, id, ref, output)


def _good(node: Mapping[str, Any]) -> bool:
    """Whether there is nothing in a node for which it could be refused."""
    kind, data = KINDS.get(str(node.get("type"))), node.get("data")
    if kind is None or not node.get("ref") or not isinstance(data, Mapping):
        return False
    # A mistake needs no prevention here, where the tool of its own wants one.
    return plain(kind, {"prevention": "none", **data} if kind.name == "mistake" else data)


def _row_id(o: Operation, kind: Kind, values: Mapping[str, Any], rows: Rows) -> str:
    """The row with these words, if the call's token is among them: that tells whose it is."""
    words = {
        column: values[column]
        for column, _ in kind.columns.values()
        if isinstance(values[column], str)
    }
    if not o.token or token_in(words) != o.token:
        return ""
    texts = {c: v for c, v in words.items() if c in kind.key or o.token in v}
    for row in rows(kind.table):
        if all(row.get(column) == text for column, text in texts.items()):
            return str(row[kind.id])
    return ""


def changed(operations: Sequence[Operation], made: Sequence[Logged]) -> Iterator[Changed]:
    """Every artifact that a call closes, corrects or deletes. `made` are those of the run."""
    for o in operations:
        if o.tool == "finding_resolve":
            item = {**o.args, "resolution_kind": o.args.get("kind")}
            values = resolved(KINDS["finding"], item)
            id, successor = str(o.args.get("finding_id")), bool(o.args.get("superseded_by"))
            if o.outcome is not Outcome.REFUSED or o.data.get("error") != "invalid-input":
                told = answer(o, OK)
                yield Changed(o, KINDS["finding"], id, values, told, successor=successor)
        elif o.tool in CLOSING:
            yield from _batch(o)
        elif o.tool == "log_artifacts":
            yield from _invalidated(o, made)


def _batch(o: Operation) -> Iterator[Changed]:
    items = [i for i in items_of(o) if i["type"] in KINDS and isinstance(i.get("id"), str)]
    deletes = o.tool == "delete_artifacts"
    if deletes and dry(o):
        return
    if o.outcome is Outcome.REFUSED and not _whole(o, items):
        return
    for item in items:
        kind, id = KINDS[item["type"]], item["id"]
        if kind.name == "note":
            continue
        told: Mapping[str, Any] | None
        if deletes:
            told, valid = None, kind.name != "source"
        else:
            told = (resolved if o.tool == "resolve_artifacts" else corrected)(kind, item)
            valid = told is not None
        output = answer(o, OK)
        if output == OK:
            output = _part(o, _item_output(o, kind, id, items))
        successor = bool(item.get("superseded_by"))
        yield Changed(o, kind, id, told if deletes else told or {}, output, valid, successor)


def _whole(o: Operation, items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is nothing in a batch for which all of it could be refused."""
    given = o.args.get(BATCHES[o.tool])
    known = {BATCHES[o.tool], "reason", "dry_run"}
    return (
        o.args.keys() <= known
        and isinstance(given, list | tuple)
        and 0 < len(given) == len(items)
        and isinstance(o.args.get("reason", ""), str)
    )


def _item_output(
    o: Operation, kind: Kind, id: str, items: Sequence[Mapping[str, Any]]
) -> Hashable | None:
    """What the answer to a batch says of one of its items; nothing where it names one several
    times and refuses some."""
    times = sum(item["id"] == id for item in items)
    told = sum(id in str(error) for error in o.data.get("errors") or ())
    if times > 1 and 0 < told < times:
        return None
    if o.tool == "delete_artifacts":
        done = any(item.get("id") == id for item in _objects(o.data.get("items")))
        if done:
            return DENIED if o.data.get("ok") is False else OK
    errors = [str(error) for error in o.data.get("errors") or ()]
    # Corrections are told by the beginning of an id; some are refused for their kind alone.
    names = (id, f"{kind.name} {id[:8]}:") if o.tool == "update_artifacts" else (id,)
    mine = [e for e in errors if any(name in e for name in names) or f"'{kind.name}'" in e]
    if o.tool == "update_artifacts":  # one field of several may be wrong
        mine = [e for e in mine if "not found" in e or "no correctable" in e or "CHECK" in e]
    if not mine:
        return Refusal("invalid-input") if o.tool == "delete_artifacts" else OK
    for text, name in REFUSALS:
        if text in mine[0]:
            return Refusal(kind.absent if name == "absent" else name)
    return Refusal("invalid-input")


def _part(o: Operation, output: Hashable | None) -> Hashable | None:
    """What is known of a part of a call that was acknowledged: a fault may have refused it, and
    then nobody knows what it did."""
    return None if o.under and isinstance(output, Refusal) else output


def _invalidated(o: Operation, made: Sequence[Logged]) -> Iterator[Changed]:
    """An edge that says that a finding is invalid also closes it."""
    findings = {one.id for one in made if one.kind.name == "finding"}
    for edge in wired([o], made):
        if edge.ends[1] not in findings:  # others only get the edge
            continue
        if edge.relation != "invalidates" or isinstance(edge.output, Refusal) or edge.cut:
            continue
        about = edge.metadata or {}
        kind, reason = str(about.get("kind") or "").strip().lower(), about.get("reason")
        item = {
            "resolution": (f"{str(reason).strip()} " if reason else "")
            + f"(invalidated by {edge.ends[0]})",
            "resolution_kind": kind or None,
            "superseded_by": edge.ends[0],
        }
        values = resolved(KINDS["finding"], item) or resolved(
            KINDS["finding"], {**item, "resolution_kind": None}
        )
        yield Changed(o, KINDS["finding"], edge.ends[1], values, edge.output)


def wired(operations: Sequence[Operation], made: Sequence[Logged]) -> Iterator[Wired]:
    """Every edge that a call draws or cuts, its ends by their ids."""
    refs = {(one.op.call, one.ref): one.id for one in made if one.ref}
    for o in operations:
        if o.tool not in ("log_artifacts", "delete_artifacts") or o.outcome is Outcome.REFUSED:
            continue
        cut = o.tool == "delete_artifacts"
        if cut and dry(o):
            continue
        skipped = {
            int(found.group(1))
            for text in o.data.get("edge_warnings") or ()
            if (found := WARNED.match(str(text)))
        }
        for n, edge in enumerate(_objects(o.args.get("edges"))):
            names = (str(edge.get("from")), str(edge.get("to")))
            inside = [(o.call, name) in refs for name in names]
            ends = tuple(refs.get((o.call, name), name) for name in names)
            if not all(ends):
                continue
            output = answer(o, OK)
            if output == OK and (_uncut(o, edge) if cut else n in skipped):
                output = _part(o, Refusal("no-edge" if cut else "no-end"))
            relation = str(edge.get("relation") or "")
            about = edge.get("metadata")
            yield Wired(
                o,
                (ends[0], ends[1]),
                relation,
                cut,
                (inside[0], inside[1]),
                output,
                about if isinstance(about, Mapping) else None,
            )


def _uncut(o: Operation, edge: Mapping[str, Any]) -> bool:
    """Whether an answer says that there was no such edge."""
    named = {name: edge.get(name) for name in ("from", "to", "relation")}
    return not any(
        {name: item.get(name) for name in named} == named for item in _objects(o.data.get("items"))
    )
