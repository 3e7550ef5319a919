"""Programs: what is sent to the target, as plain data.

A program is drawn whole before anything runs:

    prefix (sequential)  ‖  lanes (concurrent)  ‖  suffix (sequential, reads state back)

An argument may be a `Ref` to a field of an earlier response (symbolic references, after
quickcheck-state-machine): it is bound when the call is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from mcpconc.errors import TraceError

__all__ = [
    "Bad",
    "Call",
    "Fault",
    "Program",
    "Ref",
    "Unbound",
    "bind",
    "reference",
    "refs",
    "token_for",
]

REF_KEY = "$ref"


class Unbound(LookupError):
    """A `Ref` points to a response or field that does not exist, so the call cannot be sent."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A field of an earlier response. `path` is dotted: ``goal_id``, ``tasks.0.task_id``.

    With `keep`, only that many characters from its beginning: a prefix of an id."""

    call: str
    path: str
    keep: int = 0


@dataclass(frozen=True, slots=True)
class Bad:
    """That a call is bad input, and why.

    `kind` is what is wrong (``wrong-type``, ``sql-text``, …), `arg` the argument at fault and
    `why` says it for people. `forbidden` means that the tool's own input schema does not allow
    it, so that the target has to refuse it; what it allows it may accept or refuse. Where it is
    `plain` and accepted, it is a text like any other, and the call one that models understand.
    """

    kind: str
    arg: str
    why: str
    forbidden: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call.

    `id` is unique in the program and survives shrinking. `token` is a text unique in the run
    that some free argument carries, so that rows, notes and responses can be traced to the
    call; it is empty for calls that write nothing. `bad` is set where the call is bad input on
    purpose.
    """

    id: str
    agent: int
    tool: str
    args: Mapping[str, Any]
    token: str = ""
    bad: Bad | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What a nemesis does to a run: the fault of this `name` begins `delay` after `call` was sent,
    and is done to the agent that made it where it is about one.

    It is tied to a call and not to a time, so that it stays where it was when a program is made
    smaller. `delay` is in parts of what a call of the target takes; `pick` chooses among what is
    there when it begins.
    """

    name: str
    call: str
    delay: float = 0.0
    pick: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """`lanes[i]` holds the concurrent calls of agent `i`; `inflight` is how many calls of one
    lane may be unanswered at a time."""

    agents: int
    prefix: tuple[Call, ...] = ()
    lanes: tuple[tuple[Call, ...], ...] = ()
    suffix: tuple[Call, ...] = ()
    inflight: int = 1
    faults: tuple[Fault, ...] = ()

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
            data = {
                "id": c.id,
                "agent": c.agent,
                "tool": c.tool,
                "args": _encode(c.args),
                "token": c.token,
            }
            # Only where there is one: programs without bad input keep the digests they had.
            return data if c.bad is None else {**data, "bad": asdict(c.bad)}

        data: dict[str, Any] = {
            "agents": self.agents,
            "inflight": self.inflight,
            "prefix": [call(c) for c in self.prefix],
            "lanes": [[call(c) for c in lane] for lane in self.lanes],
            "suffix": [call(c) for c in self.suffix],
        }
        if self.faults:  # programs without any have the digests that they always had
            data["faults"] = [
                {"name": f.name, "call": f.call, "delay": f.delay, "pick": f.pick}
                for f in self.faults
            ]
        return data

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
                bad=Bad(**c["bad"]) if c.get("bad") else None,
            )

        try:
            return cls(
                agents=data["agents"],
                prefix=tuple(call(c) for c in data["prefix"]),
                lanes=tuple(tuple(call(c) for c in lane) for lane in data["lanes"]),
                suffix=tuple(call(c) for c in data["suffix"]),
                inflight=data.get("inflight", 1),
                faults=tuple(
                    Fault(str(f["name"]), str(f["call"]), float(f["delay"]), int(f["pick"]))
                    for f in data.get("faults", ())
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceError(f"not a program: {error!r}") from error

    def map_calls(self, change: Callable[[Call], Call | None]) -> Program:
        """The program with each call replaced, or dropped where `change` gives None; a fault goes
        with its call."""

        def each(calls: tuple[Call, ...]) -> tuple[Call, ...]:
            return tuple(new for c in calls if (new := change(c)) is not None)

        changed = replace(
            self,
            prefix=each(self.prefix),
            lanes=tuple(each(lane) for lane in self.lanes),
            suffix=each(self.suffix),
        )
        if not self.faults:
            return changed
        left = {call.id for call in changed.calls()}
        return replace(changed, faults=tuple(f for f in self.faults if f.call in left))


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
        return str(value)[: args.keep] if args.keep else value
    if isinstance(args, Mapping):
        return {key: bind(value, responses) for key, value in args.items()}
    if isinstance(args, list | tuple):
        return [bind(value, responses) for value in args]
    return args


def reference(ref: Ref) -> dict[str, Any]:
    """A `Ref` as JSON."""
    data = {REF_KEY: ref.call, "path": ref.path}
    return {**data, "keep": ref.keep} if ref.keep else data


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return reference(value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        if REF_KEY in value:
            return Ref(value[REF_KEY], value["path"], value.get("keep", 0))
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
