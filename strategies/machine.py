"""The base of every state machine: rules append calls, and the whole program runs at the end.

Nothing runs while a machine draws. That keeps Hypothesis deterministic whatever the target
does, and it lets a program be saved, replayed and shrunk as data.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from mcpconc.program import Call, Program, Ref, refs, token_for
from mcpconc.strategies.bad import Good, spoiled

__all__ = ["MISSING", "Knobs", "Obj", "ProgramMachine", "act", "chance", "generate", "needs"]

MISSING = "00000000-0000-4000-8000-000000000000"
"""A well-formed id that nothing has."""

chance = st.integers(0, 99)
"""A number to hold against a probability in percent."""


PROGRAMS_PER_TEST = 10
"""A program against a real server takes ten seconds; set `TestCase.settings` for more."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a campaign may turn. `share` is the probability (0 to 1) that a call works on what
    other agents work on: their sessions, goals and tasks, and a common pool of natural keys.
    `calls` is about how many calls the concurrent part has; `inflight` the most unanswered
    calls of one agent. `bad` is the share (0 to 1) of concurrent calls that are bad input, made
    with `schemas` (tool → JSON schema of its input), as far as they are known."""

    agents: int = 5
    calls: int = 12
    share: float = 0.7
    inflight: int = 1
    bad: float = 0.0
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Obj:
    """Something that an earlier call of `agent` made: a reference to its id.

    An object made in the prefix can be used by every agent; one made in a lane only by that
    lane, because nobody else can know its id in time.
    """

    ref: Ref
    agent: int
    common: bool


def act(
    target: Bundle[Any] | None = None, **draws: st.SearchStrategy[Any]
) -> Callable[[Callable[..., Any]], Any]:
    """A `rule` by one agent. The function is called with that `agent` and what was drawn; with
    a `target` bundle it returns what to add to it, or a list of that.

    Where agents share, it is called again for the next agent in about every third case, with
    the same values and `self.echo` set: calls that check and then write race with their like.
    It is not called once the program is full, or when this rule has made a third of it:
    Hypothesis likes to repeat itself, and twelve equal calls say little.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run(self: ProgramMachine, agent: int, _again: int, **drawn: Any) -> Any:
            name, made = function.__name__, []
            for self.echo in (False, True):
                if self.full or self._fired[name] >= max(3, self.knobs.calls // 3):
                    break
                if self.echo and not (self.sharing(_again) and _again % 2):
                    break
                self._fired[name] += 1
                result = function(self, self.turn(agent), **drawn)
                made += result if isinstance(result, list) else [result]
            return None if target is None else multiple(*(obj for obj in made if obj))

        into = {} if target is None else {"target": target}
        make: Any = rule  # its overloads cannot express strategies passed on by **
        return make(**into, agent=st.integers(0, 63), _again=chance, **draws)(run)

    return decorate


def needs(*tools: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Marks a rule, under its decorator, as one that calls these tools: it is left out where the
    target offers not all of them (`ProgramMachine.offered`)."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.needs = frozenset(tools)  # type: ignore[attr-defined]
        return function

    return decorate


class _TestCase:
    """`Machine.TestCase` as Hypothesis makes it, except that it never shrinks: shrinking needs
    the target and copes with flakiness, so it is not Hypothesis' business."""

    def __get__(self, obj: object, owner: type[ProgramMachine]) -> Any:
        case: Any = super(ProgramMachine, owner).TestCase
        if "knobs" not in case.__dict__:
            case.knobs = owner.knobs
            case.settings = quiet(PROGRAMS_PER_TEST, 3 * owner.knobs.calls)

            def runTest(self: Any) -> None:
                only_generate = settings(
                    self.settings,
                    phases=(Phase.generate,),
                    database=None,
                    report_multiple_bugs=False,
                )
                run_state_machine_as_test(owner, settings=only_generate)

            runTest.is_hypothesis_test = True  # type: ignore[attr-defined]
            runTest._hypothesis_state_machine_class = owner  # type: ignore[attr-defined]
            case.runTest = runTest
        return case


class ProgramMachine(RuleBasedStateMachine):
    """Subclass it, write rules that use `call`, and every example is a program.

    >>> class Mine(ProgramMachine):
    ...     @act(loud=st.booleans())
    ...     def note(self, agent, loud):
    ...         self.call(agent, "note", {"tag": "loud" if loud else "low"}, token_in="text")

    `Mine.TestCase` is an ordinary test case: under pytest it runs each program against the
    target that the mcpconc plugin was given.
    """

    TestCase = _TestCase()
    knobs: ClassVar[Knobs] = Knobs()
    tools: ClassVar[tuple[str, ...]] = ()
    """The tools that the rules may call, so that a campaign can say what it never called."""
    deliver: ClassVar[Callable[[Program], None] | None] = None
    """Who runs the finished program: set by a campaign, or by the pytest plugin for all."""

    def __init__(self) -> None:
        super().__init__()
        self._prefix: list[Call] = []
        self._lanes: list[list[Call]] = [[] for _ in range(self.knobs.agents)]
        self._suffix: list[Call] = []
        self._count = [0] * self.knobs.agents
        self._fired: Counter[str] = Counter()
        self._seed: int | None = None
        self.inflight = 1
        self.stage = "lane"
        self.echo = False

    def call(
        self, agent: int, tool: str, args: Mapping[str, Any], token_in: str = "", form: Any = "{}"
    ) -> Call:
        """Append a call at the current stage. Where `token_in` names an argument, it carries
        the call's token, put in the place of ``{}`` in `form`: a text, or lists and objects with
        texts in them."""
        token = token_for(agent, self._count[agent]) if token_in else ""
        if token_in:
            args = {**args, token_in: _filled(form, token)}
        call = Call(f"{agent}.{self._count[agent]}", agent, tool, args, token)
        self._append(call)
        if self.stage == "lane" and self._seed is not None:
            # Of its own for each call: Hypothesis likes to draw the same seed again.
            place = sum(map(len, self._lanes))
            random = Random(f"{self._seed} {call.id} {tool} {sorted(args)} {place}")
            while not self.full and random.random() < self.careless(agent):
                self._spoil(call, random)
        return call

    def careless(self, agent: int) -> float:
        """The share of this agent's calls that are bad input."""
        return self.knobs.bad

    def _spoil(self, call: Call, random: Random) -> None:
        """Append a bad sibling of a call that its agent just made."""
        known = (*self._prefix, *self._lanes[call.agent])
        ids = dict.fromkeys(ref for made in known if not made.bad for ref in refs(made.args))
        good = Good(call, self.knobs.schemas.get(call.tool, {}), tuple(ids))
        place = self._count[call.agent]
        token = token_for(call.agent, place) if call.token else ""
        bad = spoiled(good, f"{call.agent}.{place}", token, random)
        if bad is not None:
            self._append(bad)

    def _append(self, call: Call) -> None:
        agent = call.agent
        self._count[agent] += 1
        if self.stage == "prefix":
            self._prefix.append(call)
        elif self.stage == "suffix":
            self._suffix.append(call)
        else:
            self._lanes[agent].append(call)

    @property
    def full(self) -> bool:
        """Whether the concurrent part has all the calls that it should: rules then do nothing."""
        return sum(map(len, self._lanes)) >= self.knobs.calls

    def turn(self, agent: int) -> int:
        """The agent whose turn it is, shifted by what was drawn: lanes stay balanced even
        where Hypothesis draws the same number again and again, as it likes to."""
        return (agent + sum(map(len, self._lanes))) % self.knobs.agents

    def made(self, call: Call, path: str) -> Obj:
        """The object whose id is at `path` of the call's response."""
        return Obj(Ref(call.id, path), call.agent, self.stage == "prefix")

    def sharing(self, percent: int) -> bool:
        """Whether a draw of `chance` says to work on what is shared."""
        return percent < self.knobs.share * 100

    def actor(self, agent: int, percent: int, obj: Obj) -> int:
        """Who acts on `obj`: the drawn agent where it may and sharing says so, else its maker."""
        return agent if obj.common and self.sharing(percent) else obj.agent

    def program(self) -> Program:
        """The program so far."""
        return Program(
            agents=self.knobs.agents,
            prefix=tuple(self._prefix),
            lanes=tuple(tuple(lane) for lane in self._lanes),
            suffix=tuple(self._suffix),
            inflight=self.inflight,
        )

    @contextmanager
    def prefix(self) -> Iterator[None]:
        """Calls appended inside go to the prefix, and what they make is common."""
        before, self.stage = self.stage, "prefix"
        try:
            yield
        finally:
            self.stage = before

    def worthwhile(self, program: Program) -> bool:
        """Whether the program is worth running; override it to leave vacuous ones out."""
        return program.concurrent() > 0

    def finish(self) -> None:
        """Called once all rules have run: append read-backs here, at stage ``suffix``."""

    def teardown(self) -> None:
        # Hypothesis tears down also when it abandons an example half drawn.
        deliver: Callable[[Program], None] | None = inspect.getattr_static(self, "deliver")
        if sys.exc_info()[0] is not None or deliver is None:
            return
        self.stage = "suffix"
        self.finish()
        program = self.program()
        if self.worthwhile(program):
            deliver(program)

    @classmethod
    def offered(cls, tools: Collection[str]) -> type[ProgramMachine]:
        """This machine for a target that offers `tools`: without the rules that need others, each
        of which needs what it says (`needs`), or else the tool that it is named after. It writes
        the programs of a machine that never had them."""
        gone: dict[str, Any] = {
            name: None
            for name, member in inspect.getmembers(cls)
            if not getattr(member, "needs", {name} & set(cls.tools)) <= set(tools)
        }
        left = tuple(tool for tool in cls.tools if tool in tools)
        if not gone and left == cls.tools:
            return cls
        return type(cls.__name__, (cls,), {**gone, "tools": left, "__module__": cls.__module__})

    @classmethod
    def shortening(cls) -> type[ProgramMachine]:
        """This machine for a target that knows what a call leaves out, if it makes use of that."""
        return cls

    @classmethod
    def bound(
        cls, knobs: Knobs, deliver: Callable[[Program], None] | None = None
    ) -> type[ProgramMachine]:
        """A subclass with these knobs, and optionally somebody to deliver to."""
        members: dict[str, Any] = {"knobs": knobs}
        if knobs.bad:  # programs without bad input stay what they always were for their seed
            members["bad_input"] = initialize(seed=st.integers(0, 2**64 - 1))(_seeded)
        if deliver is not None:
            members["deliver"] = deliver
        return type(cls.__name__, (cls,), members)


def _seeded(self: ProgramMachine, seed: int) -> None:
    self._seed = seed


def _filled(form: Any, token: str) -> Any:
    if isinstance(form, str):
        return form.replace("{}", token)
    if isinstance(form, Mapping):
        return {key: _filled(value, token) for key, value in form.items()}
    if isinstance(form, list | tuple):
        return [_filled(value, token) for value in form]
    return form


def quiet(examples: int, steps: int) -> settings:
    """Hypothesis settings for programs: it only generates."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def generate(machine: type[ProgramMachine], knobs: Knobs, seed: int, count: int) -> list[Program]:
    """`count` programs (fewer where the machine has no more), the same ones for the same seed.

    Hypothesis' first example is always the simplest one, every draw at its minimum; a campaign
    of many short runs would keep repeating it, so it is left out.
    """
    programs: list[Program] = []
    bound = machine.bound(knobs, programs.append)
    with_seed = hypothesis.seed(seed)(bound)
    run_state_machine_as_test(with_seed, settings=quiet(count + 1, 3 * knobs.calls))
    return programs[1:] if len(programs) > count else programs
