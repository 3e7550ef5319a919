"""Points before files, locks and git commands, and counting without control."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from probing import probed

FILE, ENTRY = "file:d/a.json", "file:d/"


def points(tmp_path: Path, script: str, **given: Any) -> list[tuple[str, str, list[str]]]:
    """Kind, label and objects of what follows the start, in a world with a directory ``d`` and
    an ``old.json`` in it."""
    (tmp_path / "world" / "d").mkdir(parents=True)
    (tmp_path / "world" / "d" / "old.json").write_text("{}")
    heard = probed(tmp_path / "world", f"import os\nfrom pathlib import Path\n{script}", **given)
    assert (heard.code, heard.err) == (0, "")
    return [
        (point["kind"], point["label"], point["reads"] + point["writes"])
        for point in heard.points[1:]
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(
            "Path('d/a.json').write_text('x')",
            [
                ("open", "open to truncate d/a.json", [FILE, ENTRY]),
                ("opened", "opened to truncate d/a.json", [FILE]),
            ],
            id="made: before, and directly after",
        ),
        pytest.param(
            "open('d/old.json', 'a').close()",
            [
                ("open", "open to append d/old.json", ["file:d/old.json"]),
                ("opened", "opened to append d/old.json", ["file:d/old.json"]),
            ],
            id="appended to",
        ),
        pytest.param(
            "os.close(os.open('d/a.json', os.O_CREAT | os.O_EXCL | os.O_WRONLY))",
            [
                ("open", "open to write d/a.json", [FILE, ENTRY]),
                ("opened", "opened to write d/a.json", [FILE]),
            ],
            id="made by a descriptor",
        ),
        pytest.param(
            "open('d/old.json').close()",
            [("read", "read d/old.json", ["file:d/old.json"])],
            id="read",
        ),
        pytest.param(
            "Path('d/a.json').exists(); os.path.isfile('d/a.json')",
            [("exists", "look for d/a.json", [FILE])] * 2,
            id="looked for",
        ),
        pytest.param("os.listdir('d')", [("exists", "list d/", [ENTRY])], id="listed"),
        pytest.param(
            "import sys; sys.path.insert(0, 'd')\ntry: import nowhere\nexcept ImportError: pass",
            [],
            id="an import looks for modules",
        ),
        pytest.param(
            "os.path.exists('.'); os.path.exists('./d/../d//a.json')",
            [("exists", "look for d/a.json", [FILE])],
            id="one file has one name",
        ),
        pytest.param(
            "os.replace('d/old.json', 'd/a.json'); os.unlink('d/a.json')",
            [
                ("rename", "rename d/old.json d/a.json", ["file:d/old.json", FILE, ENTRY]),
                ("unlink", "unlink d/a.json", [FILE, ENTRY]),
            ],
            id="moved and removed",
        ),
        pytest.param(
            "import tempfile\n"
            "descriptor, name = tempfile.mkstemp(dir='d', suffix='.json')\n"
            "os.close(descriptor); os.replace(name, 'd/a.json')",
            [("rename", "rename d/a.json", [FILE, ENTRY])],
            id="what tempfile names has no name",
        ),
        pytest.param(
            "os.mkdir('e'); os.makedirs('e', exist_ok=True)",
            [
                ("open", "make directory e", ["file:e", "file:/"]),
                ("exists", "look for e", ["file:e"]),
            ],
            id="a directory that is there is not made",
        ),
        pytest.param(
            "open('/dev/null', 'w'); open(os.__file__).close(); Path('x.db-wal').exists()\n"
            "Path('.git/index').exists(); open('x.db', 'w').close()",
            [],
            id="no state of the world's, or seen otherwise",
        ),
    ],
)
def test_points_of(tmp_path: Path, script: str, expected: list[tuple[str, str, list[str]]]) -> None:
    assert points(tmp_path, script) == expected


def test_a_file_lock_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import fcntl, os
        with open("busy", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.path.exists("in")
            with open("busy", "w") as other:
                try: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError: pass
        os.path.exists("out")
        """,
    )
    told = [
        (point["label"], point["db"], point["needs"], point["holds"])
        for point in heard.points
        if point["kind"] in ("lock", "exists")
    ]
    assert told == [
        ("lock busy", "lock:busy", "write", []),
        ("look for in", "", "", ["lock:busy"]),
        ("lock busy", "lock:busy", "", ["lock:busy"]),
        ("look for out", "", "", []),
    ]


ID = "0e4b1c3a-6d6c-4c1e-9d9b-2b8a5f0e9f11"
GOALS = "refs/notes/empirica/goals"


@pytest.mark.parametrize(
    ("argv", "label", "reads", "writes"),
    [
        (
            ["git", "notes", "--ref", f"empirica/goals/{ID}", "add", "-f", "-m", "tok", "HEAD"],
            f"git notes add {GOALS}/#",
            [],
            [f"ref:{GOALS}/*"],
        ),
        (
            ["git", "-C", ".", "notes", f"--ref={GOALS}/{ID}", "show", "HEAD"],
            f"git notes show {GOALS}/#",
            [f"ref:{GOALS}/*"],
            [],
        ),
        (
            ["git", "for-each-ref", "--format=%(refname)", f"{GOALS}/"],
            f"git for-each-ref {GOALS}/",
            [f"ref:{GOALS}/*"],
            [],
        ),
        (["git", "update-ref", "-d", "refs/x"], "git update-ref refs/x", [], ["ref:refs/x"]),
        (["git", "rev-parse", "HEAD"], "git rev-parse HEAD", ["ref:HEAD"], []),
        (["git", "commit", "-m", "words"], "git commit", [], ["ref:HEAD"]),
    ],
)
def test_git_commands_that_touch_refs(
    tmp_path: Path, argv: list[str], label: str, reads: list[str], writes: list[str]
) -> None:
    script = f"import subprocess; subprocess.run({argv!r}, capture_output=True)"
    _, point = probed(tmp_path / "world", script).points
    assert point["kind"] == "git"
    assert (point["label"], point["reads"], point["writes"]) == (label, reads, writes)


def test_other_commands_are_no_points(tmp_path: Path) -> None:
    script = "import subprocess as s; s.run(['git', 'rev-parse', '--git-dir']); s.run(['true'])"
    assert [point["kind"] for point in probed(tmp_path / "world", script).points] == ["start"]


def test_labels_do_not_differ_between_runs(tmp_path: Path) -> None:
    script = """
    import os, sqlite3, subprocess, sys, tempfile, time, uuid
    now = time.time_ns()
    c = sqlite3.connect("a.db", isolation_level=None)
    c.execute("CREATE TABLE t(id TEXT, n INT)")
    c.execute(f"INSERT INTO t VALUES ('{uuid.uuid4()}', {now})")
    c.execute("SELECT n FROM t WHERE id IN (" + ",".join("?" * (2 + now % 5)) + ")",
              [str(n) for n in range(2 + now % 5)])
    open(f"{uuid.uuid4().hex}-{os.getpid()}.json", "w").close()
    world = os.environ["MCPCONC_WORLD"]
    open(time.strftime(f"{world}/%Y%m%d-%H%M%S.json"), "w").close()
    open(world.replace("/", "-"), "w").close()
    child = "import os, sys; os.unlink(sys.argv[1])"
    os.mkdir("tmp")
    with tempfile.NamedTemporaryFile(prefix="pre_", suffix=".pkl", delete=False) as file:
        subprocess.run([sys.executable, "-c", child, file.name])
    subprocess.run(["git", "notes", "--ref", f"x/{uuid.uuid4()}", "show"], capture_output=True)
    """
    one, other = (
        probed(world, script, env={"TMPDIR": f"{world}/tmp"})
        for world in (tmp_path / "one" / "world", tmp_path / "other" / "world")
    )
    assert one.labels()[-3:] == ["python", "unlink tmp/pre_#.pkl", "git notes show refs/notes/x/#"]
    assert one.labels() == other.labels()


def test_counting_without_control(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        raise AssertionError("nobody is to wait")

    heard = probed(
        tmp_path / "world",
        """
        import sqlite3, subprocess, sys
        c = sqlite3.connect("a.db", timeout=0.05)
        c.execute("CREATE TABLE t(n INT)")
        c.execute("INSERT INTO t VALUES (1)")
        try: sqlite3.connect("a.db", timeout=0.05, isolation_level=None).execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError: pass
        c.commit()
        subprocess.run(["git", "--version"], capture_output=True)
        child = "import subprocess, sys, wave; open('x', 'w'); "
        child += "subprocess.run([sys.executable, '-c', 'import time; time.sleep(0.05)'])"
        subprocess.run([sys.executable, "-c", child])
        """,
        decide,
        mode="observe",
    )
    (child,) = [found for found in heard.counts if "files_written" in found]
    main: Counter[str] = Counter()
    for found in heard.counts:
        main.update({} if found is child or "imports" in found else found)
    loads = [found for found in heard.counts if "imports" in found]  # of child and grandchild
    times = {name: main.pop(name) for name in list(main) if name.endswith("_ns")}
    assert main == {
        "statements": 3,
        "connections": 2,
        "transactions": 3,
        "lock_waits": 1,
        "git": 1,
        "processes": 1,
        "schema": 1,
    }
    assert times.keys() == {
        *("lock_wait_ns", "sql_ns", "git_ns", "process_ns", "schema_ns", "connect_ns"),
    }
    assert (child["processes"], child["nested"]) == (1, 1)
    assert child["nested_ns"] == child["process_ns"] >= 50_000_000
    assert max(found["imports"] for found in loads) >= 2  # subprocess and wave
    assert all(found["import_ns"] > 0 for found in loads)
    assert times["lock_wait_ns"] >= 50_000_000
    assert times["sql_ns"] >= times["lock_wait_ns"]
    assert child["files_written"] == 1


def test_tables_that_are_there_already_are_no_transactions(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import sqlite3
        c = sqlite3.connect("a.db", isolation_level=None)
        c.execute("CREATE TABLE IF NOT EXISTS t(n INT)")
        c.execute("CREATE UNIQUE INDEX IF NOT EXISTS i ON t(n)")
        c.execute("DROP TABLE IF EXISTS u")
        c.execute("INSERT INTO t SELECT 1 WHERE NOT EXISTS (SELECT * FROM t)")
        """,
        mode="observe",
    )
    assert sum(found.get("statements", 0) for found in heard.counts) == 4
    assert sum(found.get("transactions", 0) for found in heard.counts) == 1
