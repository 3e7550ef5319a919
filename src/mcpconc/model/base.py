"""What a sequential specification is.

A model is pure: frozen, hashable states and a `step`. A history is judged partition by
partition (P-compositionality, Horn & Kroening 2015): each partition is one object with the
operations that touch it, projected to what they say about it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["SNAPSHOT", "Model", "Op", "Ordering", "Partition", "Reject", "Ruled"]

State = TypeVar("State", bound=Hashable)

SNAPSHOT = "snapshot"
"""`Op.call` and `Op.name` of the read-back, the last operation of a partition."""


@dataclass(frozen=True, slots=True)
class Op:
    """What one call says about one object.

    `input` and `output` are hashable; `output` is None where nobody knows the answer.
    `returned` is None where the call may take effect at any later time or never.
    """

    call: str
    agent: int
    name: str
    input: Hashable
    output: Hashable | None
    invoked: int
    returned: int | None

    @property
    def answered(self) -> bool:
        return self.returned is not None


@dataclass(frozen=True, slots=True)
class Reject:
    """Why a state does not allow an operation: the response or snapshot field that disagrees.

    `field` is a stable name (never an id or a count) and becomes part of the fingerprint;
    `expected` and `seen` are for people.
    """

    field: str
    expected: Any
    seen: Any


class Model(Protocol):
    """A sequential specification of one kind of object.

    `quirks` are the known sequential defects that this instance excuses (none by default);
    `known_quirks` are those it could excuse, each an alternative `step` with an exact trigger.
    """

    @property
    def name(self) -> str: ...

    @property
    def quirks(self) -> frozenset[str]: ...

    @property
    def known_quirks(self) -> frozenset[str]: ...

    def initial(self) -> Hashable:
        """The state before the first operation."""
        ...

    def step(self, state: Any, op: Op) -> Sequence[Hashable] | Reject:
        """The states that `op` may leave, or why it cannot happen in `state`.

        An unanswered `op` (`output` None) is stepped as having taken effect; not having
        taken effect is the search's business. `step` depends on `state` and on the op's name,
        agent, input, output and `answered` alone, never on its call, invoked or returned: the
        search asks once for all operations that agree in those.
        """
        ...

    def pure(self, op: Op) -> bool:
        """Whether for *every* state, `step` yields that very state or a `Reject`."""
        ...

    def excusing(self, quirks: frozenset[str]) -> Model:
        """The same model with these quirks allowed."""
        ...

    def describe(self, state: Any) -> str:
        """The state in a few words, for people."""
        ...


@runtime_checkable
class Ordering(Protocol):
    """A model that can tell from inputs and outputs in which order operations took effect."""

    def order(self, ops: Sequence[Op]) -> Iterator[tuple[int, int, str]]:
        """(first, then, why): in every order that explains *all* answered operations of `ops`,
        if number `then` is placed, number `first` is placed before it. `why` says it in words
        that go behind the names of both.

        Any selection of what is true will do; the search finds the rest. It should take time
        in proportion to the operations, and give no more than a few pairs for each.
        """
        ...


@runtime_checkable
class Ruled(Protocol):
    """A model that can tell the rule behind a rejection."""

    def rule(self, field: str) -> str:
        """The rule that a `Reject` of this field refers to, as a sentence for people who do not
        know the target; "" where the field says it all."""
        ...


@dataclass(frozen=True, slots=True)
class Partition:
    """One object and the operations that touch it, in order of invocation.

    `projected` names reads of many objects that are judged here only in so far as they speak
    of this object: they can refute but not accept the whole read. `note` says what of the target's
    promises was left unjudged here; such a partition may have no operations at all.
    """

    kind: str
    key: str
    model: Model
    ops: tuple[Op, ...]
    projected: frozenset[str] = field(default_factory=frozenset)
    note: str = ""
