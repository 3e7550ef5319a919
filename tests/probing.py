"""Plain scripts with the probe in them, and a controller that says go to everybody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from mcpconc.schedule.probe import environment

__all__ = ["Controller", "Heard", "probed"]

GO, KILL, HANG_UP = b"g\n", b"k\n", b""
MUTE, UNMUTE = b"m\n", b"u\n"
TIME_LIMIT = 30


@dataclass
class Heard:
    """What the processes of one script said, and how it ended. `points` have the `hello` of
    their connection under ``by``."""

    hellos: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, int]] = field(default_factory=list)
    expired: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    out: str = ""
    err: str = ""

    def labels(self, *kinds: str) -> list[str]:
        return [point["label"] for point in self.points if not kinds or point["kind"] in kinds]

    def sql(self) -> list[dict[str, Any]]:
        return [point for point in self.points if point["kind"] == "sql"]


@dataclass
class Controller:
    """Listens at `address`; `decide` is asked what to answer to each point."""

    address: Path
    decide: Callable[[dict[str, Any]], bytes] = lambda point: GO
    heard: Heard = field(default_factory=Heard)
    connections: list[socket.socket] = field(default_factory=list)
    serving: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Controller:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.address))
        self.socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hear_out(self) -> None:
        """Wait until all that was sent is heard; for when all who send have ended."""
        for thread in self.serving:
            thread.join(TIME_LIMIT)

    def hang_up(self) -> None:
        """Be gone, for those who wait and for those who would come."""
        for each in (self.socket, *self.connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self.serving.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        hello: dict[str, Any] = {}
        with suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "hello" in message:
                    hello = message["hello"]
                    self.heard.hellos.append(hello)
                elif "counts" in message:
                    self.heard.counts.append(message["counts"])
                elif "expired" in message:
                    self.heard.expired.append(message["expired"])
                else:
                    point = {**message["at"], "by": hello}
                    self.heard.points.append(point)
                    if (answer := self.decide(point)) == HANG_UP:
                        self.hang_up()
                    else:
                        connection.sendall(answer)


def probed(
    world: Path,
    script: str,
    decide: Callable[[dict[str, Any]], bytes] = lambda point: GO,
    mode: str = "control",
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    loaded: bool = True,
) -> Heard:
    """Run `script` in the directory `world` as a process of agent 7; without the probe if it is
    not to be `loaded`."""
    world.mkdir(parents=True, exist_ok=True)
    program = world.parent / "script.py"
    program.write_text(dedent(script))
    address = world.parent / "socket"
    address.unlink(missing_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MCPCONC_", "PYTHON"))}
    given = {**inherited, "MCPCONC_WORLD": str(world), **(env or {})}
    with Controller(address, decide) as controller:
        done = subprocess.run(
            [python, str(program)],
            env=environment(mode, address, 7, given) if loaded else given,  # type: ignore[arg-type]
            cwd=world,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
        controller.hear_out()
        heard = controller.heard
    heard.code, heard.out, heard.err = done.returncode, done.stdout, done.stderr
    return heard
