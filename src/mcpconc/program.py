"""Programs: what is sent to the target, as plain data.

A program is drawn whole before anything runs:

    prefix (sequential)  ‖  lanes (concurrent)  ‖  suffix (sequential, reads state back)

An argument may be a `Ref` to a field of an earlier response (symbolic references, after
quickcheck-state-machine): it is bound when the call is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from mcpconc.errors import TraceError

__all__ = ["Call", "Program", "Ref", "Unbound", "bind", "refs", "token_for"]

REF_KEY = "$ref"


class Unbound(LookupError):
    """A `Ref` points to a response or field that does not exist, so the call cannot be sent."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A field of an earlier response. `path` is dotted: ``goal_id``, ``tasks.0.task_id``."""

    call: str
    path: str


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call.

    `id` is unique in the program and survives shrinking. `token` is a text unique in the run
    that some free argument carries, so that rows, notes and responses can be traced to the
    call; it is empty for calls that write nothing.
    """

    id: str
    agent: int
    tool: str
    args: Mapping[str, Any]
    token: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """`lanes[i]` holds the concurrent calls of agent `i`; `inflight` is how many calls of one
    lane may be unanswered at a time."""

    agents: int
    prefix: tuple[Call, ...] = ()
    lanes: tuple[tuple[Call, ...], ...] = ()
    suffix: tuple[Call, ...] = ()
    inflight: int = 1

    def calls(self) -> Iterator[Call]:
        """All calls, in prefix, lane, suffix order."""
        yield from self.prefix
        for lane in self.lanes:
            yield from lane
        yield from self.suffix

    def concurrent(self) -> int:
        """How many calls the concurrent part holds."""
        return sum(len(lane) for lane in self.lanes)

    def digest(self) -> str:
        """Sixteen hex digits that name this program's content."""
        return hashlib.sha256(
            orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS)
        ).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        def call(c: Call) -> dict[str, Any]:
            return {
                "id": c.id,
                "agent": c.agent,
                "tool": c.tool,
                "args": _encode(c.args),
                "token": c.token,
            }

        return {
            "agents": self.agents,
            "inflight": self.inflight,
            "prefix": [call(c) for c in self.prefix],
            "lanes": [[call(c) for c in lane] for lane in self.lanes],
            "suffix": [call(c) for c in self.suffix],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Program:
        """Inverse of `to_json`.

        :raises TraceError: if the data does not have the shape of a program.
        """

        def call(c: Mapping[str, Any]) -> Call:
            return Call(
                id=c["id"],
                agent=c["agent"],
                tool=c["tool"],
                args=_decode(c["args"]),
                token=c.get("token", ""),
            )

        try:
            return cls(
                agents=data["agents"],
                prefix=tuple(call(c) for c in data["prefix"]),
                lanes=tuple(tuple(call(c) for c in lane) for lane in data["lanes"]),
                suffix=tuple(call(c) for c in data["suffix"]),
                inflight=data.get("inflight", 1),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise TraceError(f"not a program: {error!r}") from error

    def map_calls(self, change: Callable[[Call], Call | None]) -> Program:
        """The program with each call replaced, or dropped where `change` gives None."""

        def each(calls: tuple[Call, ...]) -> tuple[Call, ...]:
            return tuple(new for c in calls if (new := change(c)) is not None)

        return replace(
            self,
            prefix=each(self.prefix),
            lanes=tuple(each(lane) for lane in self.lanes),
            suffix=each(self.suffix),
        )


def token_for(agent: int, position: int) -> str:
    """The token of the call at `position` of `agent`'s calls.

    Fixed width and letters only at the ends, so that no token contains another and none is
    changed by the case and space folding that targets apply to natural keys.
    """
    return f"tok{agent:03d}x{position:03d}z"


def refs(args: Any) -> Iterator[Ref]:
    """Every `Ref` inside an argument value."""
    if isinstance(args, Ref):
        yield args
    elif isinstance(args, Mapping):
        for value in args.values():
            yield from refs(value)
    elif isinstance(args, list | tuple):
        for value in args:
            yield from refs(value)


def bind(args: Any, responses: Mapping[str, Any]) -> Any:
    """`args` with every `Ref` replaced by what `responses` (call id → response data) holds.

    :raises Unbound: if the response is missing or lacks the field.
    """
    if isinstance(args, Ref):
        value = responses.get(args.call)
        if value is None:
            raise Unbound(f"no response of call {args.call}")
        for step in args.path.split("."):
            try:
                value = value[int(step)] if isinstance(value, list) else value[step]
            except (KeyError, IndexError, TypeError, ValueError):
                raise Unbound(f"response of call {args.call} has no {args.path}") from None
        return value
    if isinstance(args, Mapping):
        return {key: bind(value, responses) for key, value in args.items()}
    if isinstance(args, list | tuple):
        return [bind(value, responses) for value in args]
    return args


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {REF_KEY: value.call, "path": value.path}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        if REF_KEY in value:
            return Ref(value[REF_KEY], value["path"])
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
