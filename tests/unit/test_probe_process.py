"""The probe in a process: when it speaks, when it is silent, and that it never stands in the
way of a process whose controller is gone."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mcpconc.schedule.probe import SITE, environment
from probing import GO, HANG_UP, KILL, MUTE, UNMUTE, probed

STANDARD = sys.stdlib_module_names
WRITER = """
import sqlite3
c = sqlite3.connect("a.db", isolation_level=None)
c.execute("CREATE TABLE t(n INT)")
c.execute("INSERT INTO t VALUES (1)")
print(c.execute("SELECT n FROM t").fetchone()[0])
"""

READER = "import sqlite3; sqlite3.connect('a.db').execute('SELECT n FROM t')"


def test_a_process_says_who_it_is_and_stands_still_before_anything_else(tmp_path: Path) -> None:
    heard = probed(tmp_path / "world", WRITER)
    (hello,) = heard.hellos
    assert (hello["agent"], hello["name"]) == (7, "script.py")
    assert hello["pid"] == hello["tid"]
    assert heard.points[0]["kind"] == "start"
    assert heard.out == "1\n"


@pytest.mark.parametrize("path", sorted(SITE.glob("*.py")), ids=lambda path: path.stem)
def test_it_needs_nothing_but_the_standard_library_of_an_old_python(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    nodes = list(ast.walk(tree))
    names = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if not name.startswith("mcpconc_probe")} <= STANDARD
    assert len(path.read_text().splitlines()) <= 400


def test_without_its_variable_it_is_not_even_loaded(tmp_path: Path) -> None:
    code = "import sys; print([m for m in sys.modules if 'probe' in m], 'sqlite3' in sys.modules)"
    env = environment("control", tmp_path / "nobody", 0, {})
    del env["MCPCONC_PROBE"]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] False\n", "")


def test_modules_that_nobody_needs_are_not_imported(tmp_path: Path) -> None:
    script = "import sys; print({'sqlite3', 'subprocess'} & set(sys.modules))"
    heard = probed(tmp_path / "world", script)
    assert heard.out == "set()\n"


def test_without_a_controller_it_runs_as_it_would(tmp_path: Path) -> None:
    env = environment("control", tmp_path / "nobody", 0, {})
    done = subprocess.run(
        [sys.executable, "-c", WRITER], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_controller_that_ends_in_mid_wait_lets_everybody_run(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        return HANG_UP if point["kind"] == "sql" else GO

    script = f"""{WRITER}
class Mine(sqlite3.Cursor): pass
print(c.cursor(Mine).execute("SELECT n + 1 FROM t").fetchone()[0])
sqlite3.connect("a.db").cursor(Mine)
open("x", "w").close()
import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(3)'])
"""
    heard = probed(tmp_path / "world", script, decide)
    assert (heard.code, sorted(heard.out.split()), heard.err) == (0, ["1", "2", "3"], "")
    assert heard.labels("sql") == ["CREATE TABLE t(n INT)"]


def test_killed_at_a_point(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        return KILL if point["label"].startswith("INSERT") else GO

    heard = probed(tmp_path / "world", WRITER, decide)
    assert heard.code == -signal.SIGKILL
    rest = probed(
        tmp_path / "world",
        "import sqlite3\nc = sqlite3.connect('a.db')\n"
        "print(c.execute('SELECT count(*) FROM t').fetchone())",
    )
    assert rest.out == "(0,)\n"


def test_a_process_that_is_told_so_never_waits_again_but_its_children_do(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        return b"q\n" if point["label"] == "script.py" else GO

    script = WRITER + f"import subprocess, sys; subprocess.run([sys.executable, '-c', {READER!r}])"
    heard = probed(tmp_path / "world", script, decide)
    assert heard.labels() == ["script.py", "python", "SELECT n FROM t"]


def test_points_that_touch_nothing_that_matters_are_not_told(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        return b'g {"skip": ["r:a.db:t", "w:a.db:t"]}\n' if point["kind"] == "start" else GO

    script = """
    import sqlite3
    c = sqlite3.connect("a.db")
    c.executescript("CREATE TABLE IF NOT EXISTS t(n INT); CREATE TABLE IF NOT EXISTS u(n INT)")
    c.execute("SELECT n FROM t")
    c.execute("SELECT u.n FROM t, u")
    c.execute("INSERT INTO t VALUES (1)")
    c.execute("SELECT n FROM t")
    c.commit()
    """
    assert probed(tmp_path / "world", script, decide).labels("sql") == [
        "SELECT u.n FROM t, u",
        "INSERT INTO t VALUES (#)",
        "SELECT n FROM t",
        "COMMIT",
    ]


BUSY = """
import sqlite3
c = sqlite3.connect("a.db", isolation_level=None)
c.execute("CREATE TABLE t(n INT)")
open("a.json", "w").close()
c.execute("BEGIN IMMEDIATE")
c.execute("INSERT INTO t VALUES (1)")
c.execute("COMMIT")
c.execute("SELECT n FROM t")
"""


def test_who_is_muted_tells_only_what_it_does_with_a_lock(tmp_path: Path) -> None:
    heard = probed(tmp_path / "world", BUSY, lambda point: MUTE)
    assert heard.labels() == ["script.py", "INSERT INTO t VALUES (#)", "COMMIT"]


def test_who_was_muted_tells_again_when_that_is_over(tmp_path: Path) -> None:
    answers = {"start": MUTE, "sql": UNMUTE + GO}
    heard = probed(tmp_path / "world", BUSY, lambda point: answers.get(point["kind"], GO))
    assert heard.labels()[1:] == ["INSERT INTO t VALUES (#)", "COMMIT", "SELECT n FROM t"]


def test_it_may_be_over_before_it_was_read(tmp_path: Path) -> None:
    answers = {"start": MUTE + UNMUTE}
    heard = probed(tmp_path / "world", BUSY, lambda point: answers.get(point["kind"], MUTE))
    assert heard.labels()[:2] == ["script.py", "CREATE TABLE t(n INT)"]


def test_who_is_muted_runs_on_when_the_controller_is_gone(tmp_path: Path) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        return MUTE if point["kind"] == "start" else HANG_UP

    heard = probed(tmp_path / "world", BUSY + "print('done')", decide)
    assert (heard.code, heard.out, heard.err) == (0, "done\n", "")


def test_another_sitecustomize_is_loaded_as_well(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("mark = 'theirs'")
    code = "import sitecustomize, sys; print(sitecustomize.mark, 'mcpconc_probe' in sys.modules)"
    env = environment("control", tmp_path / "nobody", 0, {"PYTHONPATH": str(theirs)})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "theirs True\n"


def test_every_thread_has_a_connection(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import sqlite3, threading
        sqlite3.connect("a.db").execute("CREATE TABLE t(n INT)")
        both = threading.Barrier(2)
        def work():
            both.wait()
            sqlite3.connect("a.db", isolation_level=None).execute("INSERT INTO t VALUES (1)")
        threads = [threading.Thread(target=work, name=name) for name in "ab"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    )
    assert {hello["name"] for hello in heard.hellos} == {"script.py", "script.py/a", "script.py/b"}
    assert len({hello["tid"] for hello in heard.hellos}) == 3


def test_a_thread_that_waits_keeps_nobody_else_from_running(tmp_path: Path) -> None:
    """The first one is only let go when the second has reached its point."""
    second = threading.Event()

    def decide(point: dict[str, Any]) -> bytes:
        if point["by"]["name"].endswith("/b") and point["kind"] == "sql":
            second.set()
        if point["by"]["name"].endswith("/a") and point["kind"] == "sql":
            assert second.wait(20)
        return GO

    heard = probed(
        tmp_path / "world",
        """
        import sqlite3, threading
        sqlite3.connect("a.db").execute("CREATE TABLE t(n INT)")
        def work():
            sqlite3.connect("a.db", isolation_level=None).execute("SELECT n FROM t")
        threads = [threading.Thread(target=work, name=name) for name in "ab"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        decide,
    )
    assert heard.code == 0
    assert second.is_set()


def test_children_and_their_children_speak_for_themselves(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import subprocess, sys
        inner = "import sqlite3; sqlite3.connect('a.db').execute('CREATE TABLE t(n INT)')"
        outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
        subprocess.run([sys.executable, "-c", outer])
        """,
    )
    top, child, grandchild = heard.hellos
    assert (child["ppid"], grandchild["ppid"]) == (top["pid"], child["pid"])
    assert [point["kind"] for point in heard.points] == ["start", "start", "start", "sql"]
    assert heard.points[-1]["by"] == grandchild


def test_a_fork_has_an_identity_of_its_own(tmp_path: Path) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import os, sqlite3
        c = sqlite3.connect("a.db", isolation_level=None)
        c.execute("CREATE TABLE t(n INT)")
        if os.fork() == 0:
            sqlite3.connect("a.db").execute("SELECT n FROM t")
            os._exit(0)
        os.wait()
        c.execute("DELETE FROM t")
        """,
    )
    parent, child = heard.hellos
    assert child["ppid"] == parent["pid"]
    who = [(point["kind"], point["by"]["pid"] == child["pid"]) for point in heard.points]
    assert who == [("start", False), ("sql", False), ("start", True), ("sql", True), ("sql", False)]


def test_a_process_that_was_loaded_long_ago_starts_when_asked(tmp_path: Path) -> None:
    """As a warm process does for each of its forks."""
    heard = probed(
        tmp_path / "world",
        f"""
        import os, sqlite3, sys
        sys.path.insert(0, {str(SITE)!r})
        kept = os.environ.pop("LATER")
        import mcpconc_probe
        mcpconc_probe.start(os.environ)
        sqlite3.connect("a.db").execute("CREATE TABLE t(n INT)")
        os.environ["MCPCONC_PROBE"] = kept
        mcpconc_probe.start(os.environ)
        sqlite3.connect("a.db").execute("SELECT n FROM t")
        """,
        env={"LATER": f"control:{tmp_path / 'socket'}"},
        loaded=False,
    )
    assert [point["kind"] for point in heard.points] == ["start", "sql"]


@pytest.mark.parametrize(
    "how", ["os.closerange(3, 64)", "import socket; socket.setdefaulttimeout(0.01)"]
)
def test_what_programs_do_to_descriptors_and_sockets_does_not_matter(
    tmp_path: Path, how: str
) -> None:
    heard = probed(tmp_path / "world", f"import os\n{how}\n{WRITER}")
    assert len(heard.sql()) == 3


@pytest.mark.parametrize("where", ["open('a.json')", "c.execute('SELECT 1 FROM t')"])
def test_a_signal_in_mid_wait_does_not_shift_the_answers(tmp_path: Path, where: str) -> None:
    def decide(point: dict[str, Any]) -> bytes:
        if point["reads"] in (["file:a.json"], ["a.db:t"]):
            os.kill(point["by"]["pid"], signal.SIGALRM)
            time.sleep(0.2)
        return GO

    heard = probed(
        tmp_path / "world",
        f"""
        import os, signal, sqlite3
        def ring(*_): raise InterruptedError
        signal.signal(signal.SIGALRM, ring)
        open("a.json", "w").close()
        c = sqlite3.connect("a.db")
        c.execute("CREATE TABLE t(n INT)")
        try: {where}
        except InterruptedError: print("rang")
        os.path.exists("b.json")
        """,
        decide,
    )
    assert (heard.code, heard.out) == (0, "rang\n")
    assert heard.labels()[-1] == "look for b.json"


@pytest.mark.parametrize("mode", ["control", "observe"])
def test_replaced_functions_are_used_as_built_in_ones_are(tmp_path: Path, mode: str) -> None:
    heard = probed(
        tmp_path / "world",
        """
        import fcntl, inspect, os, pathlib, pickle, shutil, sqlite3
        class Attributes:
            stat, open, descriptor, connect = os.stat, open, os.open, sqlite3.connect
        a = Attributes()
        a.stat("."), a.open("x", "w").close(), os.close(a.descriptor("x", os.O_RDONLY))
        a.connect("a.db").close()
        assert pathlib.Path("x").exists() and pathlib.Path("x").read_text() == ""
        for function in (os.stat, os.open, open, fcntl.flock, sqlite3.connect):
            assert pickle.loads(pickle.dumps(function)) is function
        assert "follow_symlinks" in inspect.signature(os.stat).parameters
        assert shutil.rmtree.avoids_symlink_attacks
        """,
        mode=mode,
    )
    assert (heard.code, heard.err) == (0, "")
