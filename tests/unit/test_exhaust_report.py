"""What is said when every interleaving was run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mcpconc.errors import Exit
from mcpconc.exhaust import Exhausted, Seen, Verdicts
from mcpconc.report.documents import explored_document, explored_text
from mcpconc.schedule.explore import Explored
from samples import lost_task

Golden = Callable[[str, str], None]
FINDING = lost_task().findings[0]
HEAD = FINDING.fingerprint.head()


def verdicts(explored: Explored, failing: int = 0, **more: object) -> Verdicts:
    done = Exhausted(
        explored=explored, failing={HEAD: failing} if failing else {}, runs=explored.runs + 2
    )
    for name, value in more.items():
        setattr(done, name, value)
    seen = (Seen(FINDING, failing, Path("out/traces/lost-task")),) if failing else ()
    return Verdicts(Path("traces/lost-task"), done, seen, False)


def test_what_is_printed(golden: Golden) -> None:
    cases = [
        verdicts(Explored(14, 14)),
        verdicts(Explored(14, 14), failing=3),
        verdicts(Explored(14, 12, diverged=2)),
        verdicts(Explored(9, 9), undecided=1),
        verdicts(Explored(5, 5), finished=False),
    ]
    golden("explored", "\n".join(explored_text(case) for case in cases))


def test_exit_codes() -> None:
    assert verdicts(Explored(14, 14)).exit is Exit.PASSED
    assert verdicts(Explored(14, 14), failing=1).exit is Exit.VIOLATION
    assert verdicts(Explored(14, 12, diverged=1)).exit is Exit.INCONCLUSIVE
    assert verdicts(Explored(14, 14), undecided=1).exit is Exit.INCONCLUSIVE
    assert verdicts(Explored(5, 5), finished=False).exit is Exit.INCONCLUSIVE


def test_as_json() -> None:
    said = explored_document(verdicts(Explored(14, 14), failing=3))
    assert (said["interleavings"], said["complete"], said["safe"]) == (14, True, False)
    assert said["findings"][0]["interleavings"] == 3
