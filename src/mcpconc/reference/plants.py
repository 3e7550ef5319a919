"""The planted bugs: what is wrong, of which class it is, and which oracle must catch it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOADED", "PLANTS", "SCHEDULE", "STRESS", "Plant", "plant"]

SCHEDULE = "schedule"
STRESS = "stress"


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug. `kind` is its class, `oracle` the one that must catch it, `what` one line for
    people. `needs` is `SCHEDULE` where only a controlled schedule reaches it reliably; `alone`
    is set where no other oracle sees anything, `bad` where only bad input shows it. Where it
    `needs` a stress run, `oracle` is the figure that it moves: no answer of it is wrong."""

    name: str
    kind: str
    oracle: str
    what: str
    needs: str = ""
    alone: bool = False
    bad: bool = False


PLANTS: tuple[Plant, ...] = (
    # goals, tasks, dependencies
    Plant(
        "goal-row-written-back",
        "lost update: column",
        "effects",
        "calls that change a goal write back every column as their process knew it",
    ),
    Plant(
        "goal-data-written-back",
        "lost update: JSON blob",
        "linearizability",
        "marks and times are put into a copy of goal_data that the process has read before",
    ),
    Plant(
        "goal-checked-before-lock",
        "check then insert",
        "linearizability",
        "goals_create looks for similar goals before it takes the write lock",
    ),
    Plant(
        "dependency-write-skew",
        "write skew across two rows",
        "linearizability",
        "goals_add_dependency looks for either direction before it takes the write lock",
    ),
    Plant(
        "goal-without-criterion",
        "torn multi-row write",
        "effects",
        "the success criterion is a second transaction, given up when somebody else writes",
    ),
    Plant(
        "refused-goal-is-stored",
        "effect although refused",
        "effects",
        "goals_create inserts, finds a similar goal, refuses, and commits",
    ),
    Plant(
        "task-added-twice",
        "retry applies twice",
        "effects",
        "goals_add_task is done again when its bookkeeping meets another writer",
    ),
    Plant(
        "description-dropped",
        "ok without effect",
        "effects",
        "goals_create stores the description last, says ok, and gives up if somebody else writes",
        alone=True,
    ),
    Plant(
        "progress-from-cache",
        "stale read",
        "linearizability",
        "goals_list and goals_progress tell what only this process's own writes bring up to date",
        alone=True,
    ),
    Plant(
        "progress-counted-twice",
        "non-repeatable count",
        "linearizability",
        "all tasks and the completed ones are counted, then the open ones, in two snapshots",
        alone=True,
    ),
    Plant(
        "intermediate-read",
        "dirty read",
        "linearizability",
        "a goal that changes is taken out and put back, and others see what is between",
    ),
    Plant(
        "clock-before-lock",
        "list order against commit order",
        "order",
        "goals and tasks take the time of their row before they wait for the lock",
        alone=True,
    ),
    Plant(
        "criterion-for-everybody",
        "side row under another owner",
        "footprint",
        "goals_create gives its criterion to all open goals",
        alone=True,
    ),
    Plant(
        "blob-field-dropped",
        "field of a blob dropped",
        "linearizability",
        "calls that change a goal rewrite goal_data with the fields that they know",
        alone=True,
    ),
    Plant(
        "edge-to-nowhere",
        "foreign key broken",
        "integrity",
        "goals_create stores the goal's edge first, also where no goal follows",
        alone=True,
    ),
    Plant(
        "blob-disagrees",
        "blob and column disagree",
        "integrity",
        "goals_create shortens the objective in goal_data and not in the column",
        alone=True,
    ),
    Plant(
        "task-ids-reused",
        "ids reused",
        "effects",
        "the id of a task follows from how many there are, counted before the lock is taken",
    ),
    Plant(
        "refusal-keeps-lock",
        "refused call blocks every writer",
        "liveness",
        "a refused goals_activate forgets to roll back, and its connection lives on",
    ),
    Plant(
        "dependency-deadlock",
        "everybody waits",
        "liveness",
        "goals_add_dependency locks its two goals in the order in which they were named",
    ),
    Plant(
        "two-constraints",
        "race with two ordering constraints",
        "linearizability",
        "goals_complete_task reads all tasks, lets go of the lock, and writes them all back",
        needs=SCHEDULE,
    ),
    Plant(
        "three-constraints",
        "race with three ordering constraints",
        "linearizability",
        "goals_complete_task claims its goal, but not on the way that it takes without the claim",
        needs=SCHEDULE,
    ),
    # sessions, assessments, findings, unknowns, notes
    Plant(
        "equal-rounds",
        "equal rounds",
        "order",
        "assessments count their round before they take the write lock",
    ),
    Plant(
        "text-checked-before-lock",
        "check then insert",
        "effects",
        "finding_log and unknown_log look for the text before they take the write lock",
    ),
    Plant(
        "note-skipped",
        "torn row and note",
        "effects",
        "notes of findings and unknowns are skipped while another note is being written",
        alone=True,
    ),
    Plant(
        "lock-swallowed",
        "ok without effect",
        "effects",
        "findings and unknowns swallow `database is locked` and say ok",
    ),
    Plant(
        "session-from-global",
        "wrong session: process-global",
        "effects",
        "the session of the latest call is kept in a module global until the row is written",
    ),
    Plant(
        "transaction-from-shared-file",
        "wrong session: shared file",
        "isolation",
        "all instances keep their current transaction in one file",
        alone=True,
    ),
    Plant(
        "session-by-prefix",
        "wrong session: id prefix",
        "effects",
        "session ids begin with the time, and their first characters are enough to be found",
    ),
    Plant(
        "list-from-old-snapshot",
        "non-monotonic read",
        "order",
        "every second list is read from a replica that lags behind",
    ),
    Plant(
        "checkpoint-file-written-back",
        "lost update: file",
        "linearizability",
        "an index file of checkpoints is read, changed and written without a lock",
        alone=True,
    ),
    Plant(
        "checkpoint-file-truncated",
        "file truncated before it is rewritten",
        "linearizability",
        "the index file of checkpoints is emptied when a call begins, and filled when it ends",
        alone=True,
    ),
    Plant(
        "ref-lock-left",
        "lock left behind",
        "liveness",
        "unknown_log leaves a lock file beside the ref of its note",
        alone=True,
    ),
    Plant(
        "types-unchecked",
        "bad input accepted",
        "refusal",
        "numbers and truth values may be anything",
        alone=True,
        bad=True,
    ),
    # the wire and the process
    Plant(
        "responses-swapped",
        "responses swapped",
        "protocol",
        "two responses that are ready at the same time get each other's request id",
    ),
    Plant(
        "response-lost",
        "response lost",
        "protocol",
        "of two responses that are ready at the same time only one is sent",
    ),
    Plant(
        "response-twice",
        "response sent twice",
        "protocol",
        "a response is sent again when another request comes in meanwhile",
        alone=True,
    ),
    Plant(
        "stdout-polluted",
        "stdout polluted",
        "protocol",
        "a refusal is also printed, on stdout",
        alone=True,
    ),
    Plant(
        "text-is-not-json",
        "invalid JSON in a text",
        "protocol",
        "long answers are cut off in the middle",
    ),
    Plant(
        "orphan-process",
        "orphan process",
        "liveness",
        "POSTFLIGHT starts a process that never ends",
        alone=True,
    ),
    Plant(
        "memory-grows",
        "memory growth",
        "resources",
        "every call leaves a buffer behind",
        alone=True,
    ),
    Plant(
        "slower-with-agents",
        "latency that grows with the number of agents",
        "resources",
        "sessions and goals take longer to make the more agents have called before",
        alone=True,
    ),
)

LOADED: tuple[Plant, ...] = (
    Plant(
        "slow-lock",
        "lock held for too long",
        "slowdown.shared",
        "every write keeps the lock for a tenth of a second after its work is done",
        needs=STRESS,
        alone=True,
    ),
    Plant(
        "slower-with-calls",
        "latency that grows with the number of calls",
        "latency.growth",
        "every call takes a few milliseconds longer than the one before it in its process",
        needs=STRESS,
        alone=True,
    ),
    Plant(
        "memory-seeps",
        "memory growth, little by little",
        "rss.growth",
        "every call leaves a small buffer behind, less than any one run would show",
        needs=STRESS,
        alone=True,
    ),
)
"""What no oracle can see in one run, and only a stress run tells."""


def plant(name: str) -> Plant:
    """:raises KeyError: if there is none of that name."""
    return {p.name: p for p in (*PLANTS, *LOADED)}[name]
