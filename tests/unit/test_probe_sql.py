"""Points before SQL statements: what one plain script says to its controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probing import probed

SETUP = """
import sqlite3
c = sqlite3.connect("a.db", isolation_level={isolation!r}, timeout=0)
c.execute("CREATE TABLE IF NOT EXISTS t(id TEXT PRIMARY KEY, n INT)")
c.execute("CREATE TABLE IF NOT EXISTS log(n INT)")
"""


def points(
    tmp_path: Path, script: str, isolation: str | None = "", python: str = ""
) -> list[dict[str, Any]]:
    given = {"python": python} if python else {}
    heard = probed(tmp_path / "world", SETUP.format(isolation=isolation) + script, **given)
    assert (heard.code, heard.err) == (0, "")
    return heard.sql()


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """Label, what is needed, and whether the lock is held."""
    return [(point["label"], point["needs"], bool(point["holds"])) for point in found]


INSERT = "INSERT INTO t VALUES (?, …)"


@pytest.mark.parametrize(
    ("isolation", "script", "expected"),
    [
        pytest.param(
            "IMMEDIATE",
            "c.execute('INSERT INTO t VALUES (?, ?)', ('x', 1)); c.execute('DELETE FROM t')\n"
            "c.commit()",
            [
                (f"BEGIN IMMEDIATE: {INSERT}", "write", False),
                ("DELETE FROM t", "", True),
                ("COMMIT", "commit", True),
            ],
            id="an implicit BEGIN is one point with the change that it is for",
        ),
        pytest.param(
            "",
            "c.execute('INSERT INTO t VALUES (?, ?)', ('x', 1)); c.commit()",
            [(INSERT, "write", False), ("COMMIT", "commit", True)],
            id="a deferred BEGIN takes no lock",
        ),
        pytest.param(
            "",
            "c.execute('DELETE FROM t'); c.commit(); c.execute('DELETE FROM log'); c.rollback()",
            [
                ("DELETE FROM t", "write", False),
                ("COMMIT", "commit", True),
                ("DELETE FROM log", "write", False),
            ],
            id="each transaction takes its lock",
        ),
        pytest.param(
            None,
            "c.execute('INSERT INTO t VALUES (?, ?)', ('x', 1)); c.execute('SELECT n FROM t')",
            [(INSERT, "write", False), ("SELECT n FROM t", "read", False)],
            id="autocommit",
        ),
        pytest.param(
            None,
            "c.execute('BEGIN IMMEDIATE'); c.execute('DELETE FROM t'); c.execute('COMMIT')\n"
            "c.execute('BEGIN IMMEDIATE'); c.execute('ROLLBACK'); c.execute('SELECT n FROM t')",
            [
                ("BEGIN IMMEDIATE", "write", False),
                ("DELETE FROM t", "", True),
                ("COMMIT", "commit", True),
                ("BEGIN IMMEDIATE", "write", False),
                ("SELECT n FROM t", "read", False),
            ],
            id="a transaction by hand",
        ),
        pytest.param(
            "",
            "with c: c.executemany('INSERT INTO t VALUES (?, ?)', [('x', 1), ('y', 1)])",
            [(INSERT, "write", False), (INSERT, "", True), ("COMMIT", "commit", True)],
            id="executemany, a point for each row",
        ),
        pytest.param(
            None,
            "c.executescript('DELETE FROM t; BEGIN IMMEDIATE; DELETE FROM log; COMMIT;')",
            [
                ("DELETE FROM t", "write", False),
                ("BEGIN IMMEDIATE", "write", False),
                ("DELETE FROM log", "", True),
                ("COMMIT", "commit", True),
            ],
            id="executescript",
        ),
        pytest.param(
            None,
            "c.execute('SAVEPOINT a'); c.execute('DELETE FROM t'); c.execute('SAVEPOINT b')\n"
            "c.execute('RELEASE b'); c.execute('RELEASE a')",
            [("DELETE FROM t", "write", False), ("RELEASE a", "commit", True)],
            id="the outermost savepoint is a transaction",
        ),
        pytest.param(
            None,
            "for n in (1, 2): c.execute('SELECT n FROM t WHERE n = ?', (n,)).fetchall()",
            [("SELECT n FROM t WHERE n = ?", "read", False)] * 2,
            id="a cached statement",
        ),
        pytest.param(
            None,
            "c.execute('PRAGMA table_info(t)'); c.execute('SELECT name FROM sqlite_master')\n"
            "c.execute('SELECT 1'); c.execute('CREATE TABLE IF NOT EXISTS t(id)')\n"
            "sqlite3.connect(':memory:').execute('CREATE TABLE t(id)')",
            [],
            id="nothing that anybody else could notice",
        ),
        pytest.param(
            None,
            "c.execute('CREATE TABLE u(n INT)')",
            [("CREATE TABLE u(n INT)", "ddl", False)],
            id="a definition",
        ),
        pytest.param(
            None,
            "d = sqlite3.connect('a.db', timeout=0, isolation_level=None)\n"
            "c.execute('BEGIN IMMEDIATE')\n"
            "try: d.execute('BEGIN IMMEDIATE')\n"
            "except sqlite3.OperationalError: c.execute('ROLLBACK')\n"
            "d.execute('SELECT n FROM t')",
            [
                ("BEGIN IMMEDIATE", "write", False),
                ("BEGIN IMMEDIATE", "write", True),
                ("SELECT n FROM t", "read", False),
            ],
            id="a lock that was not got is not held",
        ),
    ],
)
def test_points_of(
    tmp_path: Path, isolation: str | None, script: str, expected: list[tuple[str, str, bool]]
) -> None:
    assert told(points(tmp_path, script, isolation)) == expected


def test_a_trigger_is_no_point_of_its_own(tmp_path: Path) -> None:
    found = points(
        tmp_path,
        "c.executescript('CREATE TRIGGER r AFTER INSERT ON t BEGIN"
        " INSERT INTO log VALUES (1); INSERT INTO log VALUES (2); END')\n"
        "c.execute('INSERT INTO t SELECT 1, 2 UNION SELECT 3, 4')\n"
        "c.executemany('INSERT INTO t VALUES (?, ?)', [(5, 5), (6, 6)])\n"
        "c.executescript('INSERT INTO t VALUES (7, 7)')",
        isolation=None,
    )
    assert [point["writes"] for point in found[1:]] == [["a.db:t"]] * 4


def test_what_a_commit_makes_visible(tmp_path: Path) -> None:
    *_, commit = points(
        tmp_path,
        "c.execute('INSERT INTO t SELECT n, n FROM log'); c.execute('UPDATE log SET n = 1')\n"
        "c.commit()",
    )
    assert (commit["reads"], sorted(commit["writes"])) == ([], ["a.db:log", "a.db:t"])


def test_attached_databases_are_named_by_their_files(tmp_path: Path) -> None:
    first, second = points(
        tmp_path,
        "c.execute('ATTACH ? AS w', ('b.db',)); c.execute('CREATE TABLE IF NOT EXISTS w.u(n)')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "c.execute('INSERT INTO w.u SELECT n FROM main.t')",
        isolation=None,
    )
    assert second["holds"] == ["a.db", "b.db"]
    assert (second["reads"], second["writes"]) == (["a.db:t"], ["b.db:u"])
    assert first["writes"] == ["a.db:*"]


def test_a_class_and_a_callback_of_the_callers_own_work_as_before(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import sqlite3
        class Mine(sqlite3.Connection):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.mine = self.execute("PRAGMA user_version").fetchone()
        class Cursor(sqlite3.Cursor):
            pass
        c = sqlite3.connect("a.db", factory=Mine)
        seen = []
        c.set_trace_callback(seen.append)
        c.execute("CREATE TABLE t(n INT)")
        c.set_trace_callback(None)
        c.row_factory = sqlite3.Row
        row = c.cursor(Cursor).execute("SELECT count(*) AS all_rows FROM t").fetchone()
        print(c.mine, seen, isinstance(c, Mine), type(c).__name__, row["all_rows"])
        """,
    )
    assert heard.out == "(0,) ['CREATE TABLE t(n INT)'] True Mine 0\n"
    assert heard.labels("sql") == ["CREATE TABLE t(n INT)", "SELECT count(*) AS all_rows FROM t"]
