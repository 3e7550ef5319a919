"""Traces: one run on disk, and back.

A trace is a directory:

    trace.json      format version, versions, environment, program, schedule, findings, verdict
    history.jsonl   one event a line, in the one total order
    before.json     snapshot of the template
    snapshot.json   what the run left, as a difference from `before.json` (`delta`)
    stderr/         what each server wrote there (the tail of it)

A *run directory* is the same before it is finished: `run.json` (written when the run starts)
and the history so far. `load` reads both, so that the history of a killed run can be checked.

The trace is what reproduces, not the seed. Nothing of the environment is written except the
few facts that `environment` names. Every error is a `TraceError` with file and line.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mcpconc import __version__, delta
from mcpconc.errors import McpconcError, TraceError, UsageError
from mcpconc.history import Event, EventType, History, Phase
from mcpconc.jsontext import compact, parse, readable, sync, write
from mcpconc.model.spec import Spec
from mcpconc.oracle.base import Finding, Label, Run
from mcpconc.program import Call, Program
from mcpconc.snapshot import Snapshot
from mcpconc.verdict import Verdict

__all__ = [
    "FORMAT",
    "Shrink",
    "Trace",
    "discard",
    "environment",
    "find",
    "load",
    "slug",
    "to_run",
]

FORMAT = 1
STDERR_BYTES = 16_384

Parsed = TypeVar("Parsed")

_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """How the program became this small: it failed in `failed` of `of` tries."""

    finished: bool
    attempts: int = 0
    failed: int = 0
    of: int = 0
    from_calls: int = 0
    to_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run with everything needed to judge, show and repeat it.

    `findings[0]` is the finding that the trace was kept for. `timeout_scale` is the factor on
    the target's time-out settings, `schedule` the recorded decisions of the scheduler,
    `label_basis` how the label was decided (``all 6 orders``), `stderr` file name → text.
    `model` is empty where the target's own specification judged, ``self`` where the target did.
    `confirmed` says in how many of how many runs with ordinary starts the finding came back that
    was met in one whose calls were forked; None where nothing was forked.
    `complete` is False where the run did not come to its end; `path` is where it was read.
    """

    program: Program
    history: History
    before: Snapshot | None = None
    after: Snapshot | None = None
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN
    label_basis: str = ""
    target: str = ""
    target_version: str = ""
    version: str = __version__
    identity: str = "explicit"
    timeout_scale: float = 1.0
    scheduler: str = "free"
    scheduler_seed: int = 0
    schedule: tuple[Any, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    seed: int = 0
    model: str = ""
    confirmed: tuple[int, int] | None = None
    quiescent: bool = True
    shrink: Shrink | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stderr: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    path: Path | None = None

    @property
    def finding(self) -> Finding | None:
        """The finding that this trace was kept for."""
        return self.findings[0] if self.findings else None

    @property
    def label(self) -> Label:
        return self.findings[0].label if self.findings else Label.UNLABELLED

    def to_json(self) -> dict[str, Any]:
        """The content of `trace.json`."""
        shrink = self.shrink
        return {
            "format": FORMAT,
            "tool": {"name": "mcpconc", "version": self.version},
            "target": {"spec": self.target, "version": self.target_version},
            "environment": dict(self.environment),
            "identity": self.identity,
            "agents": self.program.agents,
            "timeout_scale": self.timeout_scale,
            "scheduler": {
                "name": self.scheduler,
                "seed": self.scheduler_seed,
                "schedule": list(self.schedule),
            },
            "seed": self.seed,
            "model": self.model,
            "confirmed": self.confirmed and list(self.confirmed),
            "faults": [dict(fault) for fault in self.faults],
            "program": self.program.to_json(),
            "events": len(self.history.events),
            "quiescent": self.quiescent,
            "verdict": self.verdict.name.lower(),
            "label": self.label.value,
            "label_basis": self.label_basis,
            "findings": [finding.to_json() for finding in self.findings],
            "unknown": list(self.unknown),
            "shrink": shrink
            and {name: getattr(shrink, name) for name in Shrink.__dataclass_fields__},
        }

    def save(self, path: Path) -> Path:
        """Write the trace to the directory `path`: all of it or nothing. An older trace there
        is replaced.

        :raises UsageError: if that directory cannot be written.
        """
        path = Path(path)
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        stale = path.with_name(f".{path.name}.{os.getpid()}.old")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            self._write(fresh)
            if path.exists():
                path.rename(stale)
            fresh.rename(path)
            sync(path.parent)
        except OSError as error:
            raise UsageError(f"cannot write the trace {path}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(stale, ignore_errors=True)
        return path

    def begin(self, directory: Path) -> None:
        """Write `run.json`, so that this run has a program even if it is killed. The history
        is to be appended to ``history.jsonl`` beside it.

        :raises UsageError: if that directory cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write(directory / "run.json", readable(self.to_json()) + "\n")
        except OSError as error:
            raise UsageError(f"cannot write to {directory}: {error.strerror or error}") from error

    def _write(self, directory: Path) -> None:
        write(directory / "trace.json", readable(self.to_json()) + "\n")
        lines = (compact(event.to_json()) for event in self.history.events)
        write(directory / "history.jsonl", "".join(f"{line}\n" for line in lines))
        if self.before is not None:
            write(directory / "before.json", readable(self.before.to_json()) + "\n")
        if self.after is not None:
            changes = (
                {"base": None, **self.after.to_json()}
                if self.before is None
                else {"base": _digest(self.before), **delta.diff(self.before, self.after)}
            )
            write(directory / "snapshot.json", readable(changes) + "\n")
        if self.stderr:
            (directory / "stderr").mkdir()
            for name, text in self.stderr.items():
                tail = text.encode(errors="replace")[-STDERR_BYTES:].decode(errors="replace")
                write(directory / "stderr" / Path(name).name, tail)
        sync(directory)


def slug(finding: Finding) -> str:
    """The name of the trace of this finding: ``<property>-<kind>-<8 hex digits>``."""
    f = finding.fingerprint
    name = f"{f.property}-{f.kind}-{f.digest()}".lower()
    return re.sub(r"[^a-z0-9_.]+", "-", name)


def discard(directory: Path) -> None:
    """Remove a run directory that nobody needs any more. Never raises."""
    shutil.rmtree(directory, ignore_errors=True)


def environment() -> dict[str, str]:
    """What may matter for reproducing, and nothing that could be a secret."""
    try:
        said = subprocess.run(
            ["git", "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
        git = said.removeprefix("git version").strip()
    except (OSError, subprocess.SubprocessError):
        git = "none"
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": str(os.cpu_count() or 0),
        "sqlite": sqlite3.sqlite_version,
        "git": git,
    }


def to_run(trace: Trace, spec: Spec | None) -> Run:
    """What oracles judge, by `spec` where the target was not its own model."""
    return Run(
        program=trace.program,
        history=trace.history,
        before=trace.before,
        after=trace.after,
        spec=None if trace.model else spec,
        identity=trace.identity,
        quiescent=trace.quiescent,
    )


def find(name: str, roots: Sequence[Path]) -> Path:
    """The trace that `name` means: a path, or the beginning of a trace's name or of the eight
    hex digits at its end, looked up in `roots`.

    :raises TraceError: if there is none, or more than one.
    """
    path = Path(name)
    if path.exists() or os.sep in name:
        return path
    traces = [
        entry
        for root in roots
        if root.is_dir()
        for entry in sorted(root.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    exact = [entry for entry in traces if name in (entry.name, entry.name.rsplit("-", 1)[-1])]
    found = exact or [
        entry
        for entry in traces
        if entry.name.startswith(name) or entry.name.rsplit("-", 1)[-1].startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise TraceError(
            f"{name} may mean {len(found)} traces: {', '.join(map(str, found))}; give more of it"
        )
    places = " or ".join(str(root) for root in roots)
    raise TraceError(f"no trace {name}: not a path, and not the beginning of a name in {places}")


def load(path: Path) -> Trace:
    """Read a trace, or the working directory of a run that was cut off.

    :raises TraceError: naming the file, and the line where there is one.
    """
    directory = path.parent if path.name in ("trace.json", "history.jsonl") else path
    if not directory.is_dir():
        raise TraceError(f"no trace at {path}: there is no such directory")
    for name in ("trace.json", "run.json"):
        if (directory / name).is_file():
            return _load(directory, directory / name, complete=name == "trace.json")
    if not (directory / "history.jsonl").is_file():
        raise TraceError(f"{path} is not a trace: it holds neither trace.json nor history.jsonl")
    events = _events(directory / "history.jsonl", complete=False)
    return Trace(
        program=_program(events),
        history=_history(directory / "history.jsonl", events),
        quiescent=False,
        stderr=_stderr(directory),
        complete=False,
        path=directory,
    )


def _load(directory: Path, file: Path, *, complete: bool) -> Trace:
    data = _read_json(file)
    version = data.get("format") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise TraceError(f"{file}: not a trace of mcpconc (it has no format version)")
    if version > FORMAT:
        raise TraceError(
            f"{file}: trace format {version} is newer than format {FORMAT}, the newest that "
            f"mcpconc {__version__} reads; upgrade mcpconc"
        )
    log = directory / "history.jsonl"
    events = _events(log, complete=complete) if complete or log.is_file() else ()
    meta = _parsed(file, lambda: _meta(data, complete))
    count = _parsed(file, lambda: int(data["events"]))
    if complete and len(events) != count:
        raise TraceError(
            f"{log}: truncated: it holds {len(events)} events, {file.name} says {count}"
        )
    before = after = None
    if (directory / "before.json").is_file():
        raw = _read_json(directory / "before.json")
        before = _parsed(directory / "before.json", lambda: Snapshot.from_json(raw))
    if (directory / "snapshot.json").is_file():
        changes = _read_json(directory / "snapshot.json")
        after = _parsed(directory / "snapshot.json", lambda: _after(before, changes))
    return Trace(
        **meta,
        history=_history(log, events),
        before=before,
        after=after,
        stderr=_stderr(directory),
        complete=complete,
        path=directory,
    )


def _meta(data: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    shrink = data["shrink"]
    return {
        "program": Program.from_json(data["program"]),
        "findings": tuple(Finding.from_json(finding) for finding in data["findings"]),
        "unknown": tuple(data["unknown"]),
        "verdict": Verdict[data["verdict"].upper()],
        "label_basis": data["label_basis"],
        "target": data["target"]["spec"],
        "target_version": data["target"]["version"],
        "version": data["tool"]["version"],
        "identity": data["identity"],
        "timeout_scale": data["timeout_scale"],
        "scheduler": data["scheduler"]["name"],
        "scheduler_seed": data["scheduler"]["seed"],
        "schedule": tuple(data["scheduler"]["schedule"]),
        "faults": tuple(data["faults"]),
        "seed": data["seed"],
        "model": data.get("model", ""),
        "confirmed": _pair(data.get("confirmed")),
        "quiescent": complete and data["quiescent"],
        "shrink": Shrink(**shrink) if shrink else None,
        "environment": data["environment"],
    }


def _pair(value: Sequence[int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    first, second = value
    return int(first), int(second)


def _after(before: Snapshot | None, changes: Mapping[str, Any]) -> Snapshot:
    if changes["base"] is None:
        return Snapshot.from_json(changes)
    if before is None:
        raise TraceError("it needs before.json, which is missing")
    if changes["base"] != _digest(before):
        raise TraceError("it is a difference from another before.json")
    return delta.patch(before, changes)


def _digest(snapshot: Snapshot) -> str:
    return hashlib.sha256(compact(snapshot.to_json()).encode()).hexdigest()[:16]


def _events(file: Path, *, complete: bool) -> tuple[Event, ...]:
    text = _read(file)
    lines = text.split("\n")
    whole = lines.pop() == ""
    if not whole:
        # A killed run may leave half a line; in a finished trace that is damage.
        last = text.rsplit("\n", 1)[-1]
        if complete:
            raise TraceError(f"{file}, line {len(lines) + 1}: truncated: {last[:40]!r}")
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = Event.from_json(parse(line))
            if events and event.index <= events[-1].index:
                raise TraceError(f"event {event.index} follows event {events[-1].index}")
        except (TraceError, *_MALFORMED) as error:
            raise TraceError(f"{file}, line {number}: garbled: {_why(error)}") from error
        events.append(event)
    return tuple(events)


def _history(file: Path, events: tuple[Event, ...]) -> History:
    return _parsed(file, lambda: History.of(events))


def _program(events: Sequence[Event]) -> Program:
    """What was sent so far, for a run directory that has lost its program."""
    sent = [event for event in events if event.type is EventType.INVOKE]
    agents = max((event.agent for event in sent), default=-1) + 1

    def calls(phase: Phase, agent: int | None = None) -> tuple[Call, ...]:
        return tuple(
            Call(e.call, e.agent, e.value["tool"], e.value["args"], e.value.get("token", ""))
            for e in sent
            if e.value.get("phase", "lane") == phase and agent in (None, e.agent)
        )

    lanes = tuple(calls(Phase.LANE, agent) for agent in range(agents))
    return Program(agents, calls(Phase.PREFIX), lanes, calls(Phase.SUFFIX))


def _stderr(directory: Path) -> dict[str, str]:
    folder = directory / "stderr"
    if not folder.is_dir():
        return {}
    files = sorted(entry for entry in folder.iterdir() if entry.is_file())
    return {file.name: file.read_text(errors="replace") for file in files}


def _parsed(file: Path, read: Callable[[], Parsed]) -> Parsed:
    try:
        return read()
    except (McpconcError, *_MALFORMED) as error:
        raise TraceError(f"{file}: garbled: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]!r}"
    return " ".join(str(error).split()) or type(error).__name__


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TraceError(f"{file}, line {line}: garbled: it is not UTF-8") from error
    except FileNotFoundError:
        raise TraceError(f"{file} is missing") from None
    except OSError as error:
        raise TraceError(f"cannot read {file}: {error.strerror or error}") from error


def _read_json(file: Path) -> Any:
    try:
        return parse(_read(file))
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{file}, line {error.lineno}: truncated or garbled: {error.msg}"
        ) from error
