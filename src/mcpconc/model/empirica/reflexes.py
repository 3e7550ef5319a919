"""Assessments and checkpoints: the rows that the CASCADE loop leaves in one session.

Rows are only ever appended, and the row id tells in which order they were committed. Each has
a phase and a round; all but those of an automatic close also have a git note under session,
phase and round, which a later row of the same phase and round replaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from mcpconc.model.base import SNAPSHOT, Op, Reject
from mcpconc.model.empirica.common import Quirky, Refusal, refused, spurious

__all__ = ["VECTORS", "Entry", "Listed", "Loaded", "Reflex", "Reflexes", "Vectors", "listing"]

VECTORS = (
    *("engagement", "know", "do", "context", "clarity", "coherence", "signal", "density"),
    *("state", "change", "completion", "impact", "uncertainty"),
)

Vectors = tuple[tuple[str, float], ...] | None
"""Sorted (name, value) pairs; None where they cannot be told from the arguments."""

READS = frozenset(
    {
        *("epistemics_list", "checkpoint_load", "assess_state", "handoff_create"),
        *("resume_previous_session", SNAPSHOT),
    }
)

ASSESSMENTS = {
    "submit_preflight_assessment": "PREFLIGHT",
    "submit_check_assessment": "CHECK",
    "submit_postflight_assessment": "POSTFLIGHT",
}

PRIORITY = ("PREFLIGHT", "CHECK", "ACT", "POSTFLIGHT")
"""Of several checkpoints of the highest round, `checkpoint_load` answers the last of these."""

ORDER = "write-order"
"""The field of a row at another place than it should be. Of several fields that disagree, the
first in the alphabet is what the explanation tells, and this one tells least."""

OLDEST_ROUND_SEEN = 10
"""`checkpoint_load` looks no further than this round."""

RISKY = 0.5
"""A CHECK more uncertain than this has a second process replace its note by one without its
words. It has ten seconds; what becomes of it nobody is told."""


@dataclass(frozen=True, slots=True)
class Reflex:
    """One row. `token` is the writing call's, "" where none can be told. `assessed` is false
    for checkpoints and automatic closes, `noted` for automatic closes only."""

    phase: str
    round: int
    token: str = ""
    vectors: Vectors = ()
    assessed: bool = True
    noted: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """Input of a call that appends. `row` is (position among the session's rows, round) of the
    row that carries the call's token: None where the snapshot has none, -1 for what is not
    known (no snapshot, no token to find it by). Rows are neither deleted nor moved, so a row's
    position is how many rows were there when it was appended; knowing it beforehand spares
    the search orders that the snapshot refutes anyway.

    `exists` says whether there is a session of that id, `valid` whether the vectors are such as
    PREFLIGHT asks for, `phase` is that of a checkpoint.
    """

    token: str = ""
    vectors: Vectors = ()
    row: tuple[int, int] | None = (-1, -1)
    exists: bool = True
    valid: bool = True
    phase: str = ""
    elsewhere: str = ""
    """Where the answer names another session than the call: whether it is the caller's ``own``,
    one for which it made a PREFLIGHT, or a ``strange`` one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Output of `checkpoint_load` that found something."""

    phase: str
    round: int
    token: str
    vectors: Vectors


Listed = tuple[tuple[str, str, int], ...]
"""Output of `epistemics_list`: sorted (phase, token, times). The list is in order of the clocks
of the writing processes, which is not the order of commits."""


State = tuple[Reflex, ...]


@dataclass(frozen=True)
class Reflexes(Quirky):
    """State: the session's rows in order of commit.

    Outputs of calls that append: the round that CHECK and `checkpoint_create` tell, else OK
    (also of a `session_create` that closed this session); of `epistemics_list`: `Listed`; of
    `checkpoint_load`: `Loaded`, or OK where it found nothing; of `assess_state`: the vectors;
    of `handoff_create`: the kind of report; of `resume_previous_session`: the phase; of a
    snapshot: the rows.

    Quirks:
    ``checkpoint-counts-as-round``: rounds are counted over checkpoints too (trigger: the
    session has a checkpoint row of that phase);
    ``auto-close-round``: an automatic close is always round 1 (trigger: the session has a
    POSTFLIGHT row);
    ``postflight-redirected``: POSTFLIGHT goes to the session of the caller's own PREFLIGHT and
    not to the one it names (trigger: they differ);
    ``ghost-session``: assessments and checkpoints of a session that does not exist are accepted
    (trigger: there is none);
    ``phase-of-cascade``: only PREFLIGHT and a POSTFLIGHT behind it count for the phase that a
    session is said to be in (trigger: the last assessment is neither).
    """

    name: str = "assessments"
    known_quirks: frozenset[str] = frozenset(
        {
            "checkpoint-counts-as-round",
            "auto-close-round",
            "postflight-redirected",
            "ghost-session",
            "phase-of-cascade",
        }
    )

    def initial(self) -> State:
        return ()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name in READS:
            reject = self._read(state, op)
            return reject if reject is not None else (state,)
        assert isinstance(op.input, Entry)
        if isinstance(op.output, Refusal):
            return self._refusal(state, op.input, op.output)
        ghost = not op.input.exists and op.name != "session_create"
        if ghost and "ghost-session" not in self.quirks:
            return Reject("session-not-found", "refused", "accepted")
        if op.input.elsewhere:
            if op.input.elsewhere != "own" or "postflight-redirected" not in self.quirks:
                return Reject("session_id", "the session named", "another session")
            return (state,)
        return self._append(state, op, op.input)

    def _append(self, state: State, op: Op, entry: Entry) -> Sequence[State] | Reject:
        if entry.row is None and op.name != "session_create":
            return Reject("rows", "a row of this call", "none")
        if op.name == "session_create":
            return self._closed(state, entry)
        phase = entry.phase or ASSESSMENTS[op.name]
        rounds = {1} if entry.phase else self._rounds(state, phase)
        said = {r for r in (op.output, entry.row[1] if entry.row else -1) if isinstance(r, int)}
        for seen in said - {-1}:
            if seen not in rounds:
                return Reject("round", sorted(rounds)[0], seen)
            rounds = {seen}
        if entry.row is not None and entry.row[0] not in (-1, len(state)):
            place = f"row {len(state) + 1} of the session"
            return Reject(ORDER, place, f"row {entry.row[0] + 1}")
        vectors = entry.vectors if not entry.phase else (state[-1].vectors if state else ())
        return [
            (*state, Reflex(phase, n, entry.token, vectors, assessed=not entry.phase))
            for n in sorted(rounds)
        ]

    def _rounds(self, state: State, phase: str) -> set[int]:
        """The rounds that an assessment may get: the next one, and by a quirk another one."""
        rows = [r for r in state if r.phase == phase]
        assessed = [r for r in rows if r.assessed or not r.noted]
        if phase == "CHECK":
            due, real = len(assessed) + 1, len(rows) + 1
        else:
            due = max((r.round for r in assessed), default=0) + 1
            real = max((r.round for r in rows), default=0) + 1
        allowed = {due}
        if len(assessed) != len(rows) and "checkpoint-counts-as-round" in self.quirks:
            allowed.add(real)
        return allowed

    def _closed(self, state: State, entry: Entry) -> Sequence[State]:
        due = max((r.round for r in state if r.phase == "POSTFLIGHT"), default=0) + 1
        rounds = {due, 1} if "auto-close-round" in self.quirks else {due}
        recorded: dict[str, float] = {}
        known = True
        for row in state:
            if row.phase in ("PREFLIGHT", "CHECK"):
                known = known and row.vectors is not None
                recorded |= dict(row.vectors or ())
        recorded["completion"] = 1.0
        vectors = tuple(sorted(recorded.items())) if known else None
        return [
            (*state, Reflex("POSTFLIGHT", n, "", vectors, assessed=False, noted=False))
            for n in sorted(rounds)
        ]

    def _refusal(self, state: State, entry: Entry, output: Refusal) -> Sequence[State] | Reject:
        if output.error == "invalid-input" and not entry.valid:
            return (state,)
        reject = refused(output, "session-not-found", not entry.exists)
        return reject if reject is not None else (state,)

    def _read(self, state: State, op: Op) -> Reject | None:
        if op.output is None:
            return None
        if op.name == SNAPSHOT:
            return _differ(state, op.output)
        if op.name == "epistemics_list":
            assert isinstance(op.input, Entry)
            if isinstance(op.output, Refusal) or not op.input.exists:
                return refused(op.output, "session-not-found", not op.input.exists)
            rows = [r for r in state if op.input.phase in ("", r.phase)]
            due = listing((r.phase, r.token if r.assessed else "") for r in rows)
            return None if op.output == due else Reject("trajectories", due, op.output)
        if op.name == "handoff_create":
            return _handed(state, op)
        if op.name == "resume_previous_session":
            return self._resumed(state, op.output)
        if isinstance(op.output, Refusal):
            return spurious(op.output)
        if op.name == "checkpoint_load":
            best = _latest(state, op.input.phase if isinstance(op.input, Entry) else "")
            return _same_checkpoint(best, op.output)
        vectors = [r.vectors for r in state]
        if None in vectors or op.output in vectors or (not op.output and not any(vectors)):
            return None
        return Reject("vectors", "those of a row of the session", op.output)

    def _resumed(self, state: State, output: Hashable) -> Reject | None:
        """The phase that the session is in: that of its last assessment."""
        rows = [r for r in state if r.assessed or not r.noted]
        due = rows[-1].phase if rows else "PREFLIGHT"
        ended = [r for r in rows if r.assessed]
        allowed = {due, ended[-1].phase if ended else "PREFLIGHT"}
        if "phase-of-cascade" in self.quirks:
            allowed |= {_cascade(rows), _cascade(ended)}
        return None if output in allowed else Reject("sessions.phase", due, output)

    def pure(self, op: Op) -> bool:
        return op.name in READS or isinstance(op.output, Refusal)

    def describe(self, state: State) -> str:
        rows = ", ".join(f"{r.phase} {r.round}" for r in state)
        return f"the session has {rows}" if rows else "the session has no rows"


def listing(rows: Iterable[tuple[str, str]]) -> Listed:
    """What `epistemics_list` shows of these (phase, token) pairs."""
    return tuple(sorted((*row, times) for row, times in Counter(rows).items()))


def _wordless(row: Reflex) -> bool:
    uncertainty = dict(row.vectors or ()).get("uncertainty", 0.0)
    return row.phase == "CHECK" and uncertainty > RISKY


def _latest(state: State, phase: str) -> Reflex | None:
    """The checkpoint that `checkpoint_load` should answer: the last written of the highest
    round that it looks at, and of those the phase of the highest priority."""
    best: Reflex | None = None
    for row in state:
        if not row.noted or row.round > OLDEST_ROUND_SEEN or (phase and row.phase != phase):
            continue
        if best is None or _rank(row) >= _rank(best):
            best = row
    return best


def _rank(row: Reflex) -> tuple[int, int]:
    return (row.round, PRIORITY.index(row.phase) if row.phase in PRIORITY else 0)


def _cascade(rows: Sequence[Reflex]) -> str:
    """The phase as it is told by the last PREFLIGHT, and whether a POSTFLIGHT followed it."""
    began = [n for n, r in enumerate(rows) if r.phase == "PREFLIGHT"]
    ended = [n for n, r in enumerate(rows) if r.phase == "POSTFLIGHT"]
    return "POSTFLIGHT" if began and ended and began[-1] < ended[-1] else "PREFLIGHT"


def _handed(state: State, op: Op) -> Reject | None:
    """The kind of a handoff is told by the phases assessed before it, "" where it has to be
    refused. That checkpoints and automatic closes count as assessments is allowed, not asked."""
    if isinstance(op.output, Refusal) and op.output.error != "no-assessments":
        return None
    due = {_kind({r.phase for r in rows}) for rows in (state, [r for r in state if r.assessed])}
    seen = "" if isinstance(op.output, Refusal) else op.output
    return None if seen in due else Reject("handoff_type", " or ".join(sorted(due)), seen)


def _kind(phases: Collection[str]) -> str:
    if "PREFLIGHT" not in phases:
        return ""
    if "POSTFLIGHT" in phases:
        return "complete"
    return "investigation" if "CHECK" in phases else "preflight_only"


def _same_checkpoint(due: Reflex | None, output: Hashable) -> Reject | None:
    if due is None or not isinstance(output, Loaded):
        found, expected = isinstance(output, Loaded), due is not None
        return None if found == expected else Reject("found", expected, found)
    for field in ("phase", "round", "token", "vectors"):
        expected, seen = getattr(due, field), getattr(output, field)
        if field == "token" and not seen and _wordless(due):
            continue
        if expected is not None and expected != seen:
            return Reject(field, expected, seen)
    return None


def _differ(state: State, rows: Hashable) -> Reject | None:
    """Where rows differ from what they should be, by the most telling field."""
    assert isinstance(rows, tuple)
    due, seen = Counter(_who(r) for r in state), Counter(_who(r) for r in rows)
    if due != seen:
        missing, more = sorted((due - seen).elements()), sorted((seen - due).elements())
        return Reject("rows", [f"{p} {t}" for p, t in missing], [f"{p} {t}" for p, t in more])
    for field in ("token", "round", "vectors"):
        for expected, found in zip(state, rows, strict=True):
            a, b = getattr(expected, field), getattr(found, field)
            if a is not None and b is not None and a != b:
                return Reject(ORDER if field == "token" else field, a, b)
    return None


def _who(row: Reflex) -> tuple[str, str]:
    return (row.phase, row.token)
