"""Reading a world back: what is there, what is wrong, and never a crash."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import anyio
import orjson
import pytest

from mcpconc import readback
from mcpconc.errors import TargetError
from mcpconc.snapshot import Snapshot
from mcpconc.target.base import Layout

LAYOUT = Layout({"main": "data/main.db"}, "repo", ("data/*.json", "repo/**/*.txt"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "a world"
    (root / "data").mkdir(parents=True)
    return root


@pytest.fixture
def database(root: Path) -> Path:
    return root / "data" / "main.db"


def read(root: Path, layout: Layout = LAYOUT) -> Snapshot:
    return anyio.run(readback.read, root, layout)


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def git(root: Path, *argv: str, feed: str = "") -> str:
    done = subprocess.run(
        ["git", "-C", str(root / "repo"), *argv],
        input=feed,
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def commit(root: Path) -> str:
    (root / "repo").mkdir()
    git(root, "init", "-q")
    git(root, "config", "user.name", "t")
    git(root, "config", "user.email", "t@localhost")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    return git(root, "rev-parse", "HEAD")


# -- databases ---------------------------------------------------------------------------------


def test_rows_come_in_rowid_order(root, database):
    execute(
        database,
        "CREATE TABLE t (name TEXT PRIMARY KEY)",
        "INSERT INTO t (rowid, name) VALUES (2, 'a'), (1, 'b')",
    )
    assert read(root).rows("main", "t") == [
        {"_rowid_": 1, "name": "b"},
        {"_rowid_": 2, "name": "a"},
    ]


def test_a_table_without_rowid_says_none(root, database):
    execute(
        database,
        "CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
        "INSERT INTO t VALUES ('k', 1)",
    )
    assert read(root).rows("main", "t") == [{"_rowid_": None, "k": "k", "v": 1}]


def test_every_value_fits_into_json(root, database):
    execute(
        database,
        "CREATE TABLE t (v)",
        "INSERT INTO t VALUES (x'00ff'), (NULL), (1.5), (CAST(x'c328' AS TEXT))",
    )
    values = [row["v"] for row in read(root).rows("main", "t")]
    assert values == ["00ff", None, 1.5, "\\xc3("]
    assert Snapshot.from_json(orjson.loads(orjson.dumps(read(root).to_json()))) == read(root)


def test_full_text_indexes_and_what_is_behind_them_are_skipped(root, database):
    execute(database, "CREATE VIRTUAL TABLE notes USING fts5(text)", "CREATE TABLE plain (v)")
    assert set(read(root).tables["main"]) == {"plain"}


def test_odd_names_are_quoted(root, database):
    execute(database, 'CREATE TABLE "a ""b" ("c d")', 'INSERT INTO "a ""b" VALUES (1)')
    assert read(root).rows("main", 'a "b') == [{"_rowid_": 1, "c d": 1}]


def test_what_is_only_in_the_write_ahead_log_is_read(root, database):
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (v)")
    connection.execute("INSERT INTO t VALUES (1)")
    assert len(read(root).rows("main", "t")) == 1
    connection.close()


def test_an_open_transaction_is_not_seen(root, database):
    execute(database, "PRAGMA journal_mode = WAL", "CREATE TABLE t (v)")
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (1)")
    assert read(root).rows("main", "t") == []
    connection.close()


def test_the_schema_is_read_object_by_object(root, database):
    execute(database, "CREATE TABLE t (v)")
    first = read(root).schema
    assert set(first) == {"main/user_version", "main/table t"}
    execute(database, "INSERT INTO t VALUES (1)")
    assert read(root).schema == first
    execute(database, "CREATE INDEX i ON t (v)")
    assert read(root).schema.keys() - first.keys() == {"main/index i"}
    execute(database, "ALTER TABLE t ADD COLUMN w")
    assert read(root).schema["main/table t"] != first["main/table t"]


def test_a_missing_database_is_absent(root):
    snapshot = read(root)
    assert snapshot.tables == {}
    assert snapshot.checks == {}


def test_a_file_that_is_no_database_is_a_complaint(root, database):
    database.write_bytes(b"no database at all" * 100)
    assert read(root).checks == {"main.read": ["cannot be read: file is not a database"]}


def test_a_damaged_page_is_a_complaint_and_the_rest_is_read(root, database):
    execute(
        database,
        "CREATE TABLE bad (v)",
        "CREATE TABLE good (v)",
        "INSERT INTO bad VALUES ('x')",
        "INSERT INTO good VALUES ('y')",
    )
    content = bytearray(database.read_bytes())
    content[4096:4100] = b"\xff\xff\xff\xff"  # the b-tree page of the first table
    database.write_bytes(bytes(content))
    snapshot = read(root)
    assert len(snapshot.rows("main", "good")) == 1
    assert snapshot.checks["main.read"] or snapshot.checks["main.integrity_check"]


def test_a_row_that_names_a_missing_row_is_a_complaint(root, database):
    execute(
        database,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (parent REFERENCES parent (id))",
        "INSERT INTO child VALUES (7)",
    )
    (complaint,) = read(root).checks["main.foreign_key_check"]
    assert complaint == "child row 1 names a row of parent that does not exist"


def test_sound_databases_have_empty_checks(root, database):
    execute(database, "CREATE TABLE t (v)")
    assert read(root).checks == {"main.integrity_check": [], "main.foreign_key_check": []}


def test_a_locked_database_is_a_complaint(root, database, monkeypatch):
    monkeypatch.setattr(readback, "_LOCK_WAIT", 0.1)
    execute(database, "CREATE TABLE t (v)")
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert read(root).checks["main.read"] == ["cannot be read: database is locked"]
    holder.close()


@pytest.mark.parametrize(
    ("function", "check"), [("_read_database", "main.read"), ("_read_git", "git.fsck")]
)
def test_what_takes_too_long_is_a_complaint(root, database, commit, monkeypatch, function, check):
    async def stuck(*_: object) -> None:
        await anyio.sleep(60)

    execute(database, "CREATE TABLE t (v)")
    monkeypatch.setattr(readback, function, stuck)
    snapshot = anyio.run(readback.read, root, LAYOUT, 0.1)
    assert snapshot.checks[check] == ["not read within 0.1 s"]


def test_saved_databases_hold_what_was_in_the_log(root, database, tmp_path):
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (v)")
    connection.execute("INSERT INTO t VALUES (1)")
    (saved,) = anyio.run(readback.save_databases, root, LAYOUT, tmp_path / "saved")
    connection.close()
    copy = sqlite3.connect(saved)
    assert copy.execute("SELECT v FROM t").fetchall() == [(1,)]
    copy.close()


def test_a_file_that_is_no_database_cannot_be_saved(root, database, tmp_path):
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(TargetError, match=r"main\.db: cannot be saved: file is not a database"):
        anyio.run(readback.save_databases, root, LAYOUT, tmp_path / "saved")


# -- git ---------------------------------------------------------------------------------------


def test_refs_and_notes(root, commit):
    git(root, "notes", "--ref", "a/b", "add", "-m", "hello", commit)
    snapshot = read(root)
    branch = git(root, "symbolic-ref", "HEAD")
    assert set(snapshot.refs) == {branch, "refs/notes/a/b"}
    assert snapshot.refs[branch] == commit
    assert snapshot.notes == {"refs/notes/a/b": {commit: "hello\n"}}


def test_notes_split_over_directories_are_found(root, commit):
    blob = git(root, "hash-object", "-w", "--stdin", feed="deep")
    below = git(root, "mktree", feed=f"100644 blob {blob}\t{commit[2:]}\n")
    tree = git(root, "mktree", feed=f"040000 tree {below}\t{commit[:2]}\n")
    noted = git(root, "commit-tree", tree, "-m", "notes")
    git(root, "update-ref", "refs/notes/deep", noted)
    assert git(root, "notes", "--ref", "deep", "show", commit) == "deep"
    assert read(root).notes == {"refs/notes/deep": {commit: "deep"}}


def test_a_repository_without_notes(root, commit):
    snapshot = read(root)
    assert snapshot.notes == {}
    assert snapshot.checks == {"git.fsck": []}


def test_a_missing_object_is_a_complaint(root, commit):
    git(root, "notes", "add", "-m", "hello", commit)
    blob = git(root, "notes", "list", commit)
    (root / "repo" / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    snapshot = read(root)
    assert any(blob in line for line in snapshot.checks["git.fsck"])
    assert snapshot.notes == {"refs/notes/commits": {}}


def test_a_ref_that_is_garbage_is_a_complaint(root, commit):
    (root / "repo" / ".git" / "refs" / "heads" / "bad").write_text("garbage\n")
    assert any("refs/heads/bad" in line for line in read(root).checks["git.fsck"])


# -- files -------------------------------------------------------------------------------------


def test_files_are_read_as_text(root):
    (root / "data" / ".hidden.json").write_text("{}")
    (root / "data" / "bytes.json").write_bytes(b"\xff")
    (root / "repo" / "deep" / "er").mkdir(parents=True)
    (root / "repo" / "deep" / "er" / "x.txt").write_text("x")
    assert read(root).files == {
        "data/.hidden.json": "{}",
        "data/bytes.json": "\\xff",
        "repo/deep/er/x.txt": "x",
    }


def test_a_git_that_is_gone_is_a_complaint(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "repo" / ".git").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    complaints = anyio.run(readback.read, root, LAYOUT).checks["git.fsck"]
    assert complaints
    assert all("cannot be read" in line for line in complaints)
