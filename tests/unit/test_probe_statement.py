"""What the probe makes of the words of a statement: its kind, its tables, its label."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mcpconc.schedule.probe import SITE


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module("mcpconc_probe_statement").parse


@pytest.mark.parametrize(
    ("sql", "reads", "writes"),
    [
        ("SELECT a FROM t", "t", ""),
        ('SELECT a FROM "my t" AS x, [u] y, `v`', "my t,u,v", ""),
        ("SELECT * FROM t JOIN u ON t.a = u.a LEFT JOIN (v JOIN w) USING (a), x", "t,u,v,w,x", ""),
        ("SELECT (SELECT max(n) FROM u), 'FROM z' FROM t -- FROM y", "u,t", ""),
        ("SELECT a FROM t WHERE b IN (SELECT b FROM u) AND c IS DISTINCT FROM d", "t,u", ""),
        ("SELECT a FROM (SELECT a FROM t) UNION SELECT a FROM u ORDER BY a, b", "t,u", ""),
        ("WITH x AS (SELECT a FROM t), y(b) AS (SELECT a FROM x) SELECT b FROM y, u", "t,u", ""),
        ("WITH RECURSIVE n(i) AS (VALUES (1) UNION SELECT i + 1 FROM n) SELECT i FROM n", "", ""),
        ("SELECT j.value FROM t, json_each(t.data) j", "t", ""),
        ("SELECT name FROM sqlite_master, pragma_table_info('t')", "", ""),
        ("INSERT INTO t (a, b) VALUES (?, ?)", "", "t"),
        ("INSERT OR REPLACE INTO t SELECT a, b FROM u, v", "u,v", "t"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET n = n + 1", "", "t"),
        ("REPLACE INTO w.t VALUES (1)", "", "w.t"),
        ("UPDATE OR IGNORE t SET a = (SELECT b FROM u) WHERE c = 1", "u", "t"),
        ("UPDATE t SET a = u.a FROM u WHERE t.b = u.b", "u", "t"),
        ("DELETE FROM t WHERE a IN (SELECT a FROM u) RETURNING a", "u", "t"),
        ("WITH x AS (SELECT a FROM u) INSERT INTO t SELECT a FROM x", "u", "t"),
        ("CREATE UNIQUE INDEX i ON t (a)", "", "schema,t"),
        ("ALTER TABLE t ADD COLUMN c", "", "schema,t"),
    ],
)
def test_tables(parse: Any, sql: str, reads: str, writes: str) -> None:
    def named(tables: tuple[tuple[str, str], ...]) -> set[str]:
        return {f"{schema}.{table}".lstrip(".") for schema, table in tables}

    found = parse(sql)
    assert named(found.reads) == set(filter(None, reads.split(",")))
    assert named(found.writes) == set(filter(None, writes.split(",")))


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE TABLE IF NOT EXISTS t(a)", ""),
        ("CREATE TEMP TABLE t(a)", ""),
        ("PRAGMA journal_mode = WAL", ""),
        ("EXPLAIN SELECT a FROM t", ""),
        ("ROLLBACK TO a", ""),
        ("rollback", "rollback"),
        ("END TRANSACTION", "commit"),
        ("  /* why */ select a from t", "read"),
        ("", ""),
    ],
)
def test_kinds(parse: Any, sql: str, kind: str) -> None:
    assert parse(sql).kind == kind


@pytest.mark.parametrize(
    ("sql", "label"),
    [
        ("SELECT  a\n  FROM t\n WHERE n = 17;", "SELECT a FROM t WHERE n = #"),
        (
            "SELECT a FROM t WHERE b IN (?, ?,?) LIMIT :n",
            "SELECT a FROM t WHERE b IN (?, …) LIMIT ?",
        ),
        (
            "SELECT count(*) FROM t WHERE id = '0e4b1c3a-6d6c-4c1e-9d9b-2b8a5f0e9f11'",
            "SELECT count(*) FROM t WHERE id = '#'",
        ),
        ("SELECT a FROM t WHERE s = 'open'", "SELECT a FROM t WHERE s = 'open'"),
    ],
)
def test_labels(parse: Any, sql: str, label: str) -> None:
    assert parse(sql).label == label


def test_values_that_sqlite_has_put_into_the_text_are_no_part_of_the_label(parse: Any) -> None:
    assert parse("DELETE FROM t WHERE s = 'open'", bare=True).label == "DELETE FROM t WHERE s = #"


def test_a_label_is_masked_before_it_is_cut(parse: Any) -> None:
    one, other = (
        parse(f"SELECT a FROM t WHERE b = '{'f' * length}' AND {'x' * 300} = 1").label
        for length in (32, 40)
    )
    assert one == other
    assert len(one) == 200
