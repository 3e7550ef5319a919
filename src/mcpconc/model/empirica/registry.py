"""The bus registry: which instances there are, of what type, and what they can do.

It is one file in HOME, ``bus-instances.yaml``. Registering an instance once more replaces what
is known of it and keeps the time at which it was first registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpconc.history import Operation
from mcpconc.model.base import Op, Partition, Reject
from mcpconc.model.empirica.common import Quirky, Refusal, answer, op, partition, refused, spurious
from mcpconc.model.empirica.facts import Facts
from mcpconc.model.empirica.yamlish import Broken, parse

__all__ = ["REGISTRY", "Instance", "Registry", "Status", "partitions"]

REGISTRY = "home/.empirica/bus-instances.yaml"
FACTS = ("type", "capabilities", "subscribes", "registered_at")


@dataclass(frozen=True, slots=True)
class Instance:
    """What is known of one instance. `registered_at` is None where nobody was told."""

    id: str
    type: str
    capabilities: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    registered_at: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Output of `bus_status`: how many instances it knows, and what it says of its own one."""

    known: int
    instance: Instance | None


State = tuple[Instance, ...]
"""Sorted by id."""


@dataclass(frozen=True)
class Registry(Quirky):
    """State: the instances registered.

    ``bus_register``: input is the `Instance`, output it with the time told. ``bus_instances``:
    input is the capability asked for or "", output the instances shown. ``bus_status``: input
    is an id, output a `Status`. ``bus_dispatch`` to whoever can: input is (capabilities,
    receiver or "" where no message was found), output is not looked at. A snapshot's output is
    the instances in the file, or the text of what is wrong with it.
    """

    name: str = "registry"
    known_quirks: frozenset[str] = frozenset()

    def initial(self) -> State:
        return ()

    def step(self, state: State, op: Op) -> Sequence[State] | Reject:
        if op.name == "bus_register":
            return _register(state, op)
        if op.output is None:
            return (state,)
        if op.name == "bus_dispatch":
            reject = _routed(state, op)
        elif isinstance(op.output, Refusal):
            reject = spurious(op.output)
        elif op.name == "bus_status":
            assert isinstance(op.output, Status)
            own = [i for i in state if i.id == op.input]
            reject = _differ(own, [op.output.instance] if op.output.instance else [])
            if reject is None and op.output.known != len(state):
                reject = Reject("total_instances_known", len(state), op.output.known)
        elif isinstance(op.output, str):
            reject = Reject("file", "a list of instances", op.output)
        else:
            assert isinstance(op.output, tuple)
            reject = _differ(
                [i for i in state if not op.input or op.input in i.capabilities], op.output
            )
        return reject if reject is not None else (state,)

    def pure(self, op: Op) -> bool:
        return op.name != "bus_register" or isinstance(op.output, Refusal)

    def rule(self, field: str) -> str:
        if field != "instances":
            return ""
        return "An instance that was registered stays so: nothing unregisters it."

    def describe(self, state: State) -> str:
        return ", ".join(i.id for i in state) or "no instance is registered"


def _register(state: State, op: Op) -> Sequence[State] | Reject:
    if isinstance(op.output, Refusal):
        return spurious(op.output)
    assert isinstance(op.input, Instance)
    new, told = op.input, op.output
    assert told is None or isinstance(told, Instance)
    old = next((i for i in state if i.id == new.id), None)
    first = old.registered_at if old is not None else None
    if told is not None:
        if first is not None and told.registered_at != first:
            return Reject("registered_at", first, told.registered_at)
        reject = _differ([replace(new, registered_at=None)], [told])
        if reject is not None:
            return reject
        first = told.registered_at if old is None or first is not None else None
    others = [i for i in state if i.id != new.id]
    return (tuple(sorted([*others, replace(new, registered_at=first)], key=lambda i: i.id)),)


def _routed(state: State, op: Op) -> Reject | None:
    """A dispatch to whoever has the capabilities: refused exactly where nobody has them."""
    assert isinstance(op.input, tuple)
    wanted, receiver = op.input
    able = [i.id for i in state if set(wanted) <= set(i.capabilities)]
    if not able or isinstance(op.output, Refusal):
        return refused(op.output, "no-instance", not able)
    if receiver and receiver not in able:
        return Reject("to_instance", able, receiver)
    return None


def _differ(due: Sequence[Instance], seen: Sequence[Instance]) -> Reject | None:
    expected, shown = sorted(i.id for i in due), sorted(i.id for i in seen)
    if expected != shown:
        return Reject("instances", expected, shown)
    for a, b in zip(sorted(due, key=lambda i: i.id), sorted(seen, key=lambda i: i.id), strict=True):
        for fact in FACTS:
            x, y = getattr(a, fact), getattr(b, fact)
            if x != y and not (fact == "registered_at" and None in (x, y)):
                return Reject(fact, x, y)
    return None


def partitions(known: Facts) -> Iterator[Partition]:
    """One: there is one file."""
    ops = []
    routed = {o.call: to for o, to in _receivers(known)}
    for o in known.of("bus_register", "bus_instances", "bus_status", "bus_dispatch"):
        if o.tool == "bus_register":
            new = _instance(
                str(o.args.get("instance_id")),
                {
                    "type": o.args.get("type"),
                    "capabilities": _split(o.args.get("capabilities")),
                    "subscribes": _split(o.args.get("subscribes")),
                },
            )
            ops.append(op(o, new, answer(o, _instance(new.id, o.data))))
        elif o.tool == "bus_instances":
            shown = tuple(
                _instance(str(i.get("instance_id")), i) for i in o.data.get("instances") or ()
            )
            ops.append(op(o, str(o.args.get("capability") or ""), answer(o, shown)))
        elif o.tool == "bus_status":
            id = str(o.args.get("instance_id"))
            # What it tells of an instance lacks the time of its registration.
            own = _instance(id, o.data) if o.data.get("registered") else None
            said = Status(int(o.data.get("total_instances_known") or 0), own)
            ops.append(op(o, id, answer(o, said)))
        elif o.args.get("to_instance") == "*" and _split(o.args.get("required_capabilities")):
            wanted = tuple(_split(o.args.get("required_capabilities")))
            ops.append(op(o, (wanted, routed.get(o.call, "")), answer(o, "sent")))
    if not ops:
        return
    left: tuple[Instance, ...] | str | None = None
    if known.snapshot is not None:
        try:
            there = parse(known.snapshot.files.get(REGISTRY, "")).get("instances") or {}
            left = tuple(_instance(str(id), facts) for id, facts in there.items())
        except (Broken, AttributeError) as error:
            left = f"not readable: {error}"
    yield partition("registry", "bus", Registry(), ops, left)


def _receivers(known: Facts) -> Iterator[tuple[Operation, str]]:
    for o in known.of("bus_dispatch"):
        sent = known.message.get(o.token)
        if sent is not None:
            yield o, str((sent.get("to") or {}).get("ai_id"))


def _split(text: Any) -> list[str]:
    return [part.strip() for part in str(text or "").split(",") if part.strip()]


def _instance(id: str, facts: Mapping[str, Any]) -> Instance:
    at = facts.get("registered_at")
    return Instance(
        id=id,
        type=str(facts.get("type")),
        capabilities=tuple(map(str, facts.get("capabilities") or ())),
        subscribes=tuple(map(str, facts.get("subscribes") or ())),
        registered_at=float(at) if at is not None else None,
    )
