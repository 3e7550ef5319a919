"""Effects: does the database hold what the answers acknowledged, and nothing else?

Every modelled write is declared by the target's specification (`model.spec.Effect`) and looked
up in the read-back; time is linear in rows plus effects. What is checked:

* *append*: an acknowledged row is there once, says what the call wrote, and names the call's own
  owner; *overwrite*: what is left was written by a call that no acknowledged overwrite of the
  same columns follows in real time; *de-duplicate*: one key, one row, one id; *delete*: gone.
* a refused call wrote nothing; a row has its companions (row, edge, note); no row is there that
  no call wrote.

A call without an answer may have written or not, but not half of it: that is reported as torn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.spec import Mode
from mcpconc.oracle.base import Finding, Result, Run
from mcpconc.oracle.common import (
    NO_READ_BACK,
    Fate,
    RowKey,
    as_json,
    collect,
    finding,
    frozen,
    mentioning,
)
from mcpconc.oracle.writes import (
    NAME,
    State,
    Write,
    companion_key,
    content,
    deleted,
    duplicate,
    half,
    look_up,
    lost,
    present,
    text,
    torn,
)
from mcpconc.snapshot import Row, Snapshot

__all__ = ["effects"]


def effects(run: Run) -> Result:
    """Judge every declared effect of the run; see the module's text for the properties."""
    if run.spec is None:
        return Result(NAME)
    if run.after is None:
        return Result(NAME, unknown=(NO_READ_BACK,))
    state = look_up(run, run.after)
    refused = list(_refused(state))
    told = {(f.fingerprint.kind, call) for f in refused for call in f.calls}
    findings = [
        *_appends(state),
        *_deduplicated(state),
        *_overwrites(state),
        *_deletes(state),
        *refused,
        *_attributed(state, run.after, told),
    ]
    return collect(NAME, findings, state.unknown)


def _appends(state: State) -> Iterator[Finding]:
    for write in state.writes:
        if write.effect.mode is not Mode.APPEND or write.fate is Fate.REFUSED:
            continue
        if len(write.rows) > 1:
            yield duplicate(state, [write], write.rows)
        if write.rows:
            yield from content(state, [write], write.rows[0])
            yield from torn(state, [write])
        elif write.acknowledged:
            if not deleted(state, write.effect):
                yield lost(write)
        else:
            yield from half(state, write)


def _deduplicated(state: State) -> Iterator[Finding]:
    groups: dict[tuple[str, str, str], list[Write]] = {}
    for write in state.writes:
        effect = write.effect
        if effect.mode is Mode.DEDUPLICATE and write.fate is not Fate.REFUSED:
            groups.setdefault((effect.database, effect.table, effect.key), []).append(write)
    for writes in groups.values():
        rows = list(dict.fromkeys(key for write in writes for key in write.rows))
        done = [w for w in writes if w.acknowledged]
        told = [w.effect.id for w in done if not deleted(state, w.effect)]
        ids = list(dict.fromkeys(id for id in told if id is not None))
        if len(rows) > 1:
            yield duplicate(state, writes, rows)
        elif not rows:
            if done and not any(deleted(state, w.effect) for w in writes):
                yield lost(done[0])
            for write in writes:
                if not done:
                    yield from half(state, write)
        elif len(ids) > 1:
            yield finding(
                NAME,
                "wrong-id",
                writes[0].effect.kind,
                summary=f"calls with one {writes[0].effect.kind} key were answered "
                f"{len(ids)} different ids; there is one row",
                reason=[f"{w.says()} answered id {w.effect.id}" for w in done],
                calls=[w.op.call for w in done],
                evidence={"ids": ids, "row": as_json(state.rows.row(rows[0]))},
            )
        for key in rows:
            writers = [w for w in writes if key in w.rows]
            yield from content(state, writers, key)
            yield from torn(state, writers)


def _overwrites(state: State) -> Iterator[Finding]:
    targets: dict[tuple[object, ...], list[Write]] = {}
    for write in state.writes:
        effect = write.effect
        if effect.mode is Mode.OVERWRITE and write.fate is not Fate.REFUSED:
            target = effect.target or frozen(dict(effect.where))
            targets.setdefault((effect.database, effect.table, target), []).append(write)
    for writes in targets.values():
        done = [w for w in writes if w.acknowledged]
        keys = dict.fromkeys(key for write in writes for key in write.rows)
        if done and not keys and not any(deleted(state, w.effect) for w in done):
            yield _lost_update(done, "", None, done)
        for key in keys:
            yield from _overwritten(state, writes, key)


def _overwritten(state: State, writes: Sequence[Write], key: RowKey) -> Iterator[Finding]:
    row = state.rows.row(key)
    left: dict[str, list[Write]] = {}
    columns: dict[str, list[Write]] = {}
    for write in writes:
        for column in write.effect.values:
            if column in row:
                columns.setdefault(column, []).append(write)
    for column, writers in columns.items():
        standing = _standing(writers)
        if not any(w.acknowledged for w in writers):  # may all not have happened
            continue
        left[column] = [w for w in standing if w.effect.values[column] == row[column]]
        if not left[column]:
            yield _lost_update(standing, column, row[column], writers)
    yield from _mixed(columns, left, row)
    survivors = [
        w
        for w in writes
        if w.effect.values and all(w in left.get(c, ()) for c in w.effect.values if c in row)
    ]
    if survivors:
        yield from torn(state, survivors)


def _standing(writers: Sequence[Write]) -> list[Write]:
    """The writes that no acknowledged one follows in real time."""
    last = max((w.op.invoked for w in writers if w.acknowledged), default=-1)
    return [w for w in writers if w.op.returned is None or w.op.returned >= last]


def _lost_update(
    standing: Sequence[Write], column: str, value: Any, writers: Sequence[Write]
) -> Finding:
    effect = standing[0].effect
    older = [w for w in writers if column and w.effect.values[column] == value]
    if not column:
        found = f"its row of {effect.database}.{effect.table} is not there"
    else:
        by = f", which {older[0].says()} wrote before" if older else ""
        found = f"{effect.table}.{column} holds {value!r}{by}"
    return finding(
        NAME,
        "lost-update",
        effect.kind,
        column,
        summary=f"an acknowledged {standing[0].op.tool} left no trace in {effect.kind}"
        + (f".{column}" if column else ""),
        reason=[
            *(f"{w.says()} wrote {text(w.effect.values)}: {w.fate.value}." for w in standing),
            f"No acknowledged call follows, but {found}.",
        ],
        calls=[w.op.call for w in (*standing, *older)],
        evidence={"where": dict(effect.where), "column": column, "value": value},
    )


def _mixed(
    columns: Mapping[str, Sequence[Write]],
    left: Mapping[str, Sequence[Write]],
    row: Mapping[str, Any],
) -> Iterator[Finding]:
    """Columns that the same calls write together must be left by one of them."""
    together: dict[tuple[str, ...], list[str]] = {}
    for column in left:
        if left[column]:
            together.setdefault(tuple(w.op.call for w in columns[column]), []).append(column)
    for names in together.values():
        if any(all(w in left[c] for c in names) for w in left[names[0]]):
            continue
        writers = [w for c in names for w in left[c]]
        effect = writers[0].effect
        fields = "+".join(sorted(names))
        yield finding(
            NAME,
            "torn",
            effect.kind,
            fields,
            summary=f"{effect.kind} holds columns of different calls: {fields}",
            reason=[f"{c} = {row[c]!r} is from {left[c][0].says()}" for c in sorted(names)],
            calls=[w.op.call for w in writers],
            evidence={"row": as_json(row)},
        )


def _deletes(state: State) -> Iterator[Finding]:
    for write in state.writes:
        effect = write.effect
        if effect.mode is not Mode.DELETE or not write.acknowledged or not write.rows:
            continue
        again = any(
            other.effect.mode in (Mode.APPEND, Mode.DEDUPLICATE)
            and other.fate is not Fate.REFUSED
            and set(other.rows) & set(write.rows)
            and not other.op.precedes(write.op)
            for other in state.writes
        )
        if not again:
            yield finding(
                NAME,
                "lost-delete",
                effect.kind,
                summary=f"{write.op.tool} was acknowledged, but the {effect.kind} is still there",
                reason=(f"{write.says()} answered success.",),
                calls=(write.op.call,),
                evidence={"rows": [as_json(state.rows.row(key)) for key in write.rows]},
            )


def _refused(state: State) -> Iterator[Finding]:
    for write in state.writes:
        effect = write.effect
        if write.fate is not Fate.REFUSED or effect.mode is Mode.DELETE:
            continue
        if effect.mode is Mode.OVERWRITE:
            # Only a value that carries the token is surely this call's.
            token = write.op.token
            written = [
                f"{effect.table}.{column}"
                for key in write.rows
                for column, value in effect.values.items()
                if token and token in str(value) and state.rows.row(key).get(column) == value
            ]
        else:
            written = [effect.table for key in write.rows if key not in state.claimed]
            written += [
                c.name
                for c in effect.companions
                if companion_key(c) not in state.companions and present(state, effect, c)
            ]
        if written:
            rows = [(effect.table, state.rows.row(key)) for key in write.rows]
            yield _refused_finding(write.op, effect.kind, written, rows)


def _refused_finding(
    op: Operation, kind: str, written: Sequence[str], rows: Sequence[tuple[str, Row]]
) -> Finding:
    """`rows` are where its token is looked for: that a text is there that nobody else sent is
    easier to believe than that a row is the call's."""
    said = f"{op.call} ({op.tool}) was answered {op.outcome}"
    signed = {
        f"{table}.{column}": value
        for table, row in rows
        for column, value in as_json(row).items()
        if op.token and op.token in str(value)
    }
    # The column that holds the text alone says it best.
    place = min(signed, key=lambda name: len(str(signed[name])), default="")
    return finding(
        NAME,
        "refused-yet-written",
        kind,
        summary=f"{op.tool} was refused, yet its {kind} is stored",
        reason=(
            f"{said}. Read afterwards, {place} holds {op.token!r}, a text that only {op.call} sent."
            if place
            else f"{said}, and what it sent is found in {', '.join(written)}.",
            "A refused call changes nothing, whatever the order of the calls.",
        ),
        calls=(op.call,),
        evidence={"call": op.call, "in": list(written)} | ({"holds": signed} if signed else {}),
    )


def _attributed(
    state: State, after: Snapshot, told: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    """Rows that no call wrote, that a refused call wrote, or one call too often. Of which
    refused calls that is `told` already, by kind and call, is not said twice."""
    run = state.run
    assert run.spec is not None
    writes = {(w.effect.kind, w.effect.table, w.op.call): w for w in state.writes}
    promised: dict[tuple[str, str, str], int] = {}
    for write in state.writes:
        if write.effect.mode in (Mode.APPEND, Mode.DEDUPLICATE):
            name = (write.effect.kind, write.effect.table, write.op.call)
            promised[name] = promised.get(name, 0) + 1
    found: dict[tuple[str, str, str], list[str]] = {}
    for kind, table, row, call in run.spec.attribute(run.history.operations, after):
        if call:
            found.setdefault((kind, table, call), []).append(row)
            continue
        yield finding(
            NAME,
            "phantom",
            kind,
            summary=f"a row of {table} that no call of the run wrote",
            reason=(f"{table} row {row} cannot be traced to any call.",),
            calls=mentioning(run, row),
            evidence={"table": table, "row": row},
        )
    for name, rows in found.items():
        owner = writes.get(name)
        if owner is None or name not in promised:
            continue
        if owner.fate is Fate.REFUSED:
            if (name[0], name[2]) not in told:
                theirs = [(name[1], row) for row in after.rows(owner.effect.database, name[1])]
                yield _refused_finding(owner.op, name[0], [name[1]], theirs)
        elif len(rows) > promised[name]:
            yield finding(
                NAME,
                "duplicate",
                name[0],
                summary=f"{len(rows)} rows of {name[1]} for one call, which writes "
                f"{promised[name]}",
                reason=(f"{owner.says()}: {owner.fate.value}.",),
                calls=(name[2],),
                evidence={"table": name[1], "rows": rows},
            )
