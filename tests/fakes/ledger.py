"""The ledger, a small target with a model: description, specification and state machine.

`write` puts its description (TOML) somewhere; `install` makes `mcpconc.target.resolve` give
descriptions called ``ledger*.toml`` the specification of this module. Everything else, from the
command line to the processes, is the real thing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mcpconc.history import Operation
from mcpconc.model.base import SNAPSHOT, Op, Partition
from mcpconc.model.log import AppendLog
from mcpconc.model.register import Register
from mcpconc.model.spec import Copies, Effect, Footprint, Log, Mode, Seen, View
from mcpconc.snapshot import Snapshot
from mcpconc.strategies import ProgramMachine, act
from mcpconc.target.base import Identity
from mcpconc.target.command import CommandTarget

__all__ = [
    "AddMachine",
    "BumpMachine",
    "LedgerMachine",
    "LedgerSpec",
    "install",
    "installed",
    "write",
]

HERE = Path(__file__).parent
SERVER = HERE / "ledger_server.py"
IDENTITIES: tuple[Identity, ...] = (Identity.EXPLICIT,)
"""A test may say that the ledger knows more of them; to it they are all the same."""


def write(directory: Path, mode: str = "correct") -> Path:
    """A description of the ledger in this mode, for ``--target``."""
    path = directory / f"ledger-{mode}.toml"
    path.write_text(
        f"""
version = "{mode}"
databases = {{ main = "data/ledger.db" }}
call_timeout = 20
[server]
argv = ["{{python}}", "-S", "{SERVER}", "{{root}}/data/ledger.db", "{{agent}}", "{mode}"]
[prepare]
commands = [["{{python}}", "-S", "{SERVER}", "{{root}}/data/ledger.db", "0", "prepare"]]
"""
    )
    return path


class LedgerMachine(ProgramMachine):
    """Everybody appends, bumps and reads; there is only one ledger, so all of it is shared."""

    tools = ("add", "bump", "read", "forbid", "audit")

    @act(note=st.integers(0, 9))
    def add(self, agent: int, note: int) -> None:
        self.call(agent, "add", {"note": note}, token_in="text")

    @act(note=st.integers(0, 9))
    def bump(self, agent: int, note: int) -> None:
        self.call(agent, "bump", {"note": note})

    @act()
    def read(self, agent: int) -> None:
        self.call(agent, "read", {})

    def finish(self) -> None:
        self.call(0, "forbid", {})
        self.call(0, "read", {})


class BumpMachine(ProgramMachine):
    """Only bumps: whatever is found is about the counter."""

    tools = ("bump",)

    @act(note=st.integers(0, 99))
    def bump(self, agent: int, note: int) -> None:
        self.call(agent, "bump", {"note": note})


class AddMachine(ProgramMachine):
    """Only appends."""

    tools = ("add",)

    @act(note=st.integers(0, 99))
    def add(self, agent: int, note: int) -> None:
        self.call(agent, "add", {"note": note}, token_in="text")


class LedgerSpec:
    """Entries are an append-only log, the counter a register that each bump sets by one."""

    name = "ledger"

    def partitions(
        self, operations: Sequence[Operation], snapshot: Snapshot | None
    ) -> Sequence[Partition]:
        return [
            Partition("counter", "counter", Register(), tuple(_counter(operations, snapshot))),
            Partition("ledger", "entries", AppendLog(), tuple(_entries(operations, snapshot))),
        ]

    def effects(self, operations: Sequence[Operation]) -> Sequence[Effect]:
        return [
            Effect(
                call=op.call,
                mode=Mode.APPEND,
                kind="entry",
                database="main",
                table="entries",
                where={"text": op.token},
                values={"text": op.token},
                owner={"agent": op.agent},
            )
            for op in operations
            if op.tool == "add"
        ]

    def attribute(
        self, operations: Sequence[Operation], snapshot: Snapshot
    ) -> Sequence[tuple[str, str, str, str]]:
        calls = {op.token: op.call for op in operations if op.token}
        return [
            ("entry", "entries", str(row["position"]), calls.get(row["text"], ""))
            for row in snapshot.rows("main", "entries")
        ]

    def footprint(self, operation: Operation) -> Footprint | None:
        return None

    def logs(self, operations: Sequence[Operation], snapshot: Snapshot) -> Sequence[Log]:
        return ()

    def seen(self, operations: Sequence[Operation]) -> Sequence[Seen]:
        return ()

    def views(self, operations: Sequence[Operation], snapshot: Snapshot | None) -> Sequence[View]:
        return ()

    def copies(self, snapshot: Snapshot) -> Sequence[Copies]:
        return ()

    def changes(self, before: Snapshot, after: Snapshot) -> Mapping[tuple[str, str], int]:
        return {}

    def owner(self, operation: Operation) -> str:
        return ""

    def promises_json(self, tool: str) -> bool:
        return True


def _counter(operations: Sequence[Operation], snapshot: Snapshot | None) -> Iterator[Op]:
    """A bump that was answered n set the counter from n - 1 to n."""
    for op in operations:
        if op.tool == "bump" and op.succeeded:
            value = op.data["value"]
            yield _op(op, "cas", (value - 1, value), True)
        elif op.tool == "read" and op.succeeded:
            yield _op(op, "read", None, op.data["value"])
    for row in snapshot.rows("main", "counter") if snapshot else ():
        yield _read_back(operations, row["value"])


def _entries(operations: Sequence[Operation], snapshot: Snapshot | None) -> Iterator[Op]:
    for op in operations:
        if op.tool == "add" and op.outcome is not None and op.succeeded:
            yield _op(op, "append", op.token, op.data["position"])
        elif op.tool == "add" and not op.answered:
            yield _op(op, "append", op.token, None)
        elif op.tool == "read" and op.succeeded:
            yield _op(op, "read", None, tuple(op.data["entries"]))
    if snapshot is not None:
        texts = tuple(row["text"] for row in snapshot.rows("main", "entries"))
        yield _read_back(operations, texts)


def _op(op: Operation, name: str, input: Any, output: Any) -> Op:
    return Op(op.call, op.agent, name, input, output, op.invoked, op.returned)


def _read_back(operations: Sequence[Operation], output: Any) -> Op:
    last = max((op.returned or op.invoked for op in operations), default=0)
    return Op(SNAPSHOT, -1, SNAPSHOT, None, output, last + 1, last + 2)


def install() -> None:
    """Give the ledger its specification, for the rest of this process."""
    _Patch().__enter__()


@contextmanager
def installed() -> Iterator[None]:
    """Give the ledger its specification, for the length of a block."""
    with _Patch():
        yield


class _Patch:
    def __enter__(self) -> None:
        self.load = vars(CommandTarget)["load"]
        plain = CommandTarget.load

        def load(path: Path, spec: str = "") -> CommandTarget:
            target = plain(path, spec)
            if Path(path).name.startswith("ledger"):
                target.spec = LedgerSpec()
                target.identities = IDENTITIES
            return target

        CommandTarget.load = staticmethod(load)  # type: ignore[method-assign,assignment]

    def __exit__(self, *exc: object) -> None:
        CommandTarget.load = self.load  # type: ignore[method-assign]


if __name__ == "__main__":  # mcpconc, with the ledger known to it
    from mcpconc.cli import main

    install()
    sys.exit(main())
