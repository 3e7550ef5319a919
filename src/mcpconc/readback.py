"""Read a world's state back: databases through aiosqlite, refs and notes through git, files.

Databases are opened with ``mode=ro`` and read in one read transaction each. Never
``immutable``, which ignores the write-ahead log (https://sqlite.org/uri.html).
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiosqlite
import anyio
import anyio.to_thread

from mcpconc.errors import TargetError
from mcpconc.snapshot import Row, Snapshot
from mcpconc.target.base import Layout

__all__ = ["read", "save_databases"]

_LOCK_WAIT = 5.0
"""Seconds that a read waits for a lock; after quiescence nobody should hold one."""


async def read(root: Path, layout: Layout, timeout: float = 60.0) -> Snapshot:
    """The state of the world at `root`.

    Tables come in rowid order, blobs as hex text, text that is not UTF-8 with backslash
    escapes; virtual tables and those behind them are skipped. A database that does not exist
    is absent from the snapshot. What cannot be read (a malformed database, a git that fails or
    takes longer than `timeout` seconds) is a complaint in `checks`, not an error.

    `checks` holds the integrity checks of each database and ``git.fsck``.
    """
    tables: dict[str, Mapping[str, list[Row]]] = {}
    schema: dict[str, str] = {}
    checks: dict[str, list[str]] = {}
    git = _Git()
    files: dict[str, str] = {}

    async def database(name: str, path: Path) -> None:
        found = _Database()
        try:
            with anyio.fail_after(timeout):
                await _read_database(path, found)
        except TimeoutError:
            found.checks["read"] = [f"not read within {timeout:g} s"]
        except (sqlite3.Error, OSError) as error:
            found.checks["read"] = [f"cannot be read: {error}"]
        tables[name] = found.tables
        schema.update({f"{name}/{what}": digest for what, digest in found.schema.items()})
        checks.update({f"{name}.{check}": said for check, said in found.checks.items()})

    async def repository(path: Path) -> None:
        try:
            with anyio.fail_after(timeout):
                await _read_git(path, git)
        except* TimeoutError:
            git.checks["fsck"] = [f"not read within {timeout:g} s"]
        except* (OSError, ValueError) as errors:
            git.checks["fsck"] = [f"cannot be read: {error}" for error in errors.exceptions]
        checks.update({f"git.{check}": said for check, said in git.checks.items()})

    async def texts() -> None:
        files.update(await anyio.to_thread.run_sync(_read_files, root, tuple(layout.files)))

    async with anyio.create_task_group() as group:
        for name, relative in layout.databases.items():
            if (root / relative).is_file():
                group.start_soon(database, name, root / relative)
        if layout.repository is not None and (root / layout.repository / ".git").exists():
            group.start_soon(repository, root / layout.repository)
        group.start_soon(texts)
    return Snapshot(
        tables=dict(sorted(tables.items())),
        schema=dict(sorted(schema.items())),
        refs=git.refs,
        notes=git.notes,
        files=files,
        checks=dict(sorted(checks.items())),
    )


async def save_databases(root: Path, layout: Layout, destination: Path) -> list[Path]:
    """Copy the world's databases to ``destination/NAME.db`` with SQLite's backup API, which
    includes what is still in a write-ahead log. Gives the files written.

    :raises TargetError: if a database cannot be read.
    """
    saved = []
    await anyio.Path(destination).mkdir(parents=True, exist_ok=True)
    for name, relative in layout.databases.items():
        source = root / relative
        if not source.is_file():
            continue
        copy = destination / f"{name}.db"
        copy.unlink(missing_ok=True)
        try:
            async with _connect(source) as old, _connect(copy, "rwc") as new:
                await old.backup(new)
        except sqlite3.Error as error:
            raise TargetError(f"{source}: cannot be saved: {error}") from error
        saved.append(copy)
    return saved


# -- SQLite ------------------------------------------------------------------------------------


class _Database:
    """What one database gave so far; kept even if reading ends with an error."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {}
        self.schema: dict[str, str] = {}
        self.checks: dict[str, list[str]] = {}


@asynccontextmanager
async def _connect(path: Path, mode: str = "ro") -> AsyncIterator[aiosqlite.Connection]:
    connection = await aiosqlite.connect(
        _uri(path, mode),
        uri=True,
        timeout=_LOCK_WAIT,
        isolation_level=None,
    )
    try:
        yield connection
    finally:
        # Interrupt what a cancelled caller left running, or close would wait for it.
        with anyio.CancelScope(shield=True):
            await connection.interrupt()
            await connection.close()


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(os.path.abspath(path))}?mode={mode}"


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


async def _read_database(path: Path, found: _Database) -> None:
    async with _connect(path) as connection:
        connection.text_factory = _text
        await connection.execute("BEGIN")
        master = await connection.execute_fetchall(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        )
        version = await connection.execute_fetchall("PRAGMA user_version")
        found.schema = {"user_version": _digest(list(version))}
        for kind, name, *definition in master:
            found.schema[f"{kind} {name}"] = _digest(definition)
        for table in _plain_tables([(e[0], e[1], e[3] or "") for e in master]):
            try:
                columns, rows = await _read_table(connection, table)
                found.tables[table] = rows
                found.schema[f"table {table}"] = " ".join(columns)
            except sqlite3.DatabaseError as error:
                found.checks.setdefault("read", []).append(f"table {table}: {error}")
        said = await connection.execute_fetchall("PRAGMA integrity_check(100)")
        found.checks["integrity_check"] = [str(r[0]) for r in said if r[0] != "ok"]
        said = await connection.execute_fetchall("PRAGMA foreign_key_check")
        found.checks["foreign_key_check"] = [
            f"{table} row {rowid} names a row of {parent} that does not exist"
            for table, rowid, parent, _ in said
        ]


async def _read_table(connection: aiosqlite.Connection, table: str) -> tuple[list[str], list[Row]]:
    """The columns of a table, and its rows in rowid order."""
    quoted = '"' + table.replace('"', '""') + '"'
    try:
        # _rowid_ is the alias that an ordinary column is least likely to hide.
        cursor = await connection.execute(f"SELECT _rowid_, * FROM {quoted} ORDER BY _rowid_")
    except sqlite3.OperationalError as error:
        if "_rowid_" not in str(error):
            raise
        cursor = await connection.execute(f"SELECT NULL, * FROM {quoted}")
    rows = await cursor.fetchall()
    columns = [column[0] for column in cursor.description[1:]]
    names = ["_rowid_", *columns]
    await cursor.close()
    return columns, [
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]


def _plain_tables(master: list[tuple[str, str, str]]) -> list[str]:
    """Ordinary tables, by name. A virtual table keeps its data in tables named after it."""
    virtual = [name for kind, name, sql in master if kind == "table" and _is_virtual(sql)]
    return [
        name
        for kind, name, _ in master
        if kind == "table"
        and name not in virtual
        and not name.startswith("sqlite_")
        and not any(name.startswith(f"{v}_") for v in virtual)
    ]


def _is_virtual(sql: str) -> bool:
    return sql.upper().split()[:2] == ["CREATE", "VIRTUAL"]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


# -- git ---------------------------------------------------------------------------------------


class _Git:
    def __init__(self) -> None:
        self.refs: dict[str, str] = {}
        self.notes: dict[str, dict[str, str]] = {}
        self.checks: dict[str, list[str]] = {}


async def _read_git(repository: Path, found: _Git) -> None:
    complaints: list[str] = []

    async def refs() -> None:
        out, said = await _git(
            repository, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"
        )
        complaints[:0] = said
        noted = {}
        for line in out.decode("utf-8", "backslashreplace").splitlines():
            name, kind, ref = line.split(" ", 2)
            found.refs[ref] = name
            if ref.startswith("refs/notes") and kind == "commit":
                noted[ref] = name
        found.notes.update(await _read_notes(repository, noted))

    async def fsck() -> None:
        out, said = await _git(
            repository, "fsck", "--connectivity-only", "--no-dangling", "--no-progress"
        )
        lines = out.decode("utf-8", "backslashreplace").splitlines() + said
        complaints.extend(
            line for line in lines if line and not line.startswith(("notice:", "dangling "))
        )

    # Nobody writes any more, and starting processes is what takes time.
    async with anyio.create_task_group() as group:
        group.start_soon(refs)
        group.start_soon(fsck)
    found.checks["fsck"] = complaints


async def _read_notes(repository: Path, commits: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Notes ref → annotated object → text. A notes tree names each blob by the object that it
    annotates, split over subdirectories where there are many (git-notes(1))."""
    width = len(next(iter(commits.values()), "")) // 2
    todo = {(ref, ""): f"{commit}^{{tree}}" for ref, commit in commits.items()}
    blobs: dict[tuple[str, str], str] = {}
    while todo:
        contents = await _objects(repository, list(todo.values()))
        deeper: dict[tuple[str, str], str] = {}
        for (ref, prefix), content in zip(todo, contents, strict=True):
            for is_tree, entry, name in _tree_entries(content or b"", width):
                (deeper if is_tree else blobs)[ref, prefix + entry] = name
        todo = deeper
    texts = await _objects(repository, list(blobs.values()))
    notes: dict[str, dict[str, str]] = {ref: {} for ref in commits}
    for (ref, annotated), content in zip(blobs, texts, strict=True):
        if content is not None:
            notes[ref][annotated] = content.decode("utf-8", "backslashreplace")
    return notes


async def _objects(repository: Path, names: list[str]) -> list[bytes | None]:
    """The content of each object, in one process; None for what is missing."""
    if not names:
        return []
    out, _ = await _git(
        repository, "cat-file", "--batch", feed="".join(f"{name}\n" for name in names).encode()
    )
    contents: list[bytes | None] = []
    at = 0
    for _ in names:
        end = out.index(b"\n", at)
        header = out[at:end].split()
        at = end + 1
        if len(header) == 3 and header[2].isdigit():
            size = int(header[2])
            contents.append(out[at : at + size])
            at += size + 1
        else:
            contents.append(None)
    return contents


def _tree_entries(content: bytes, width: int) -> list[tuple[bool, str, str]]:
    """(is a tree, name, object id) of each entry of a raw tree object; an id has `width` bytes."""
    entries = []
    at = 0
    while at < len(content):
        end = content.index(b"\0", at)
        mode, name = content[at:end].split(b" ", 1)
        object_id = content[end + 1 : end + 1 + width].hex()
        entries.append((mode == b"40000", name.decode("utf-8", "backslashreplace"), object_id))
        at = end + 1 + width
    return entries


async def _git(repository: Path, *argv: str, feed: bytes = b"") -> tuple[bytes, list[str]]:
    """Output and complaints of a git command that only reads."""
    result = await anyio.run_process(
        ["git", *argv],
        input=feed,
        cwd=repository,
        check=False,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        },
    )
    said = result.stderr.decode("utf-8", "backslashreplace").splitlines()
    if result.returncode and not said:
        said = [f"git {argv[0]} ended with {result.returncode}"]
    return result.stdout, said


# -- files -------------------------------------------------------------------------------------


def _read_files(root: Path, globs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pattern in globs:
        for path in root.glob(pattern):
            try:
                text = path.read_bytes().decode("utf-8", "backslashreplace")
            except OSError:
                continue
            found[str(path.relative_to(root))] = text
    return dict(sorted(found.items()))
