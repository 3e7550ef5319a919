"""Artifacts beside findings and unknowns: dead ends, mistakes, assumptions, decisions, notes and
sources; batches that log them with the edges between them, close, correct and delete them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple

from mcpconc.strategies.machine import MISSING, Obj, ProgramMachine, act, chance, needs

__all__ = ["ARTIFACT_READS", "ARTIFACT_WRITES", "ArtifactRules"]

ARTIFACT_WRITES = (
    *("deadend_log", "mistake_log", "assumption_log", "decision_log", "note"),
    *("log_artifacts", "resolve_artifacts", "update_artifacts", "delete_artifacts"),
    "finding_resolve",
)
ARTIFACT_READS = ("source_list",)

DEAD_ENDS = ("retry forever", "cache it all")
"""Natural keys of dead ends, which are de-duplicated."""

NODES: dict[str, dict[str, Any]] = {
    "finding": {"finding": "{} of"},
    "unknown": {"unknown": "{} of"},
    "dead_end": {"approach": "{} of", "why_failed": "wet"},
    "mistake": {"mistake": "{} of", "why_wrong": "dry"},
    "assumption": {"assumption": "{} of", "confidence": 0.4},
    "decision": {"choice": "{} of", "rationale": "least"},
    "source": {"title": "{} of"},
}
"""Kind → what a node of it holds; ``{}`` is the call's token."""

CLOSED: dict[str, dict[str, Any]] = {
    "finding": {"resolution": "{}", "resolution_kind": "retracted"},
    "unknown": {"resolution": "{}"},
    "dead_end": {"resolution": "{}", "invalidated_by": "review"},
    "mistake": {"resolution": "{}"},
    "assumption": {"resolution": "{}", "verified": True},
    "decision": {"resolution": "{}", "outcome": "mixed", "regret": 0.3},
    "source": {"resolution": "{}"},
}
"""Kind → an item of `resolve_artifacts`. Sources cannot be closed."""

WEIGHTS = (0.2, 0.6, 0.9)

kinds = st.sampled_from(tuple(NODES))
several = st.lists(kinds, min_size=1, max_size=3)
relations = st.sampled_from(("evidence", "grounded_by", "related", "raised_by"))


def corrections(kind: str, weight: float) -> dict[str, Any]:
    """Fields of an artifact that `update_artifacts` may set."""
    if kind in ("finding", "unknown", "dead_end"):
        return {"impact": weight}
    if kind == "assumption":
        return {"confidence": weight, "status": "verified" if weight > 0.5 else "falsified"}
    if kind == "decision":
        return {"outcome": "upheld" if weight > 0.5 else "reversed"}
    return {"prevention": "{}"} if kind == "mistake" else {"description": "{}"}


class ArtifactRules(ProgramMachine):
    """Rules to mix into a machine that has sessions. An artifact is an `Obj` with its kind."""

    artifacts = Bundle("artifacts")

    def session(self, agent: int, percent: int) -> Obj:
        raise NotImplementedError

    def common_session(self) -> Obj:
        raise NotImplementedError

    @needs(*ARTIFACT_WRITES)
    @initialize(target=artifacts, some=st.lists(kinds, max_size=3))
    def common_artifacts(self, some: list[str]) -> Any:
        if not some or not self.knobs.share:
            return multiple()
        with self.prefix():
            return multiple(*self._batch(0, self.common_session(), some, ()))

    def _batch(
        self, agent: int, session: Obj, some: list[str], edges: Any
    ) -> list[tuple[Obj, str]]:
        """A batch of such nodes, and what comes of it."""
        nodes = [
            {"ref": f"n{n}", "type": kind, "data": _numbered(NODES[kind], n)}
            for n, kind in enumerate(some)
        ]
        args = {"session_id": session.ref, "edges": list(edges)}
        call = self.call(agent, "log_artifacts", args, token_in="nodes", form=nodes)
        return [(self.made(call, f"created.n{n}"), kind) for n, kind in enumerate(some)]

    def _their_turn(self, agent: int, percent: int, things: tuple[tuple[Obj, str], ...]) -> int:
        """Who may act on all of these: -1 if nobody knows them all."""
        bound = {thing.agent for thing, _ in things if not thing.common}
        if len(bound) > 1:
            return -1
        return bound.pop() if bound else self.actor(agent, percent, things[0][0])

    # ------------------------------------------------------------------ one by one

    @act(target=artifacts, theirs=chance, same=chance, text=st.sampled_from(DEAD_ENDS))
    @needs("deadend_log")
    def deadend_log(self, agent: int, theirs: int, same: int, text: str) -> Any:
        args: dict[str, Any] = {"session_id": self.session(agent, theirs).ref, "why_failed": "wet"}
        if self.sharing(same):
            args["approach"] = text
            call = self.call(agent, "deadend_log", args, token_in="subject")
        else:
            call = self.call(agent, "deadend_log", args, token_in="approach")
        return self.made(call, "dead_end_id"), "dead_end"

    @act(
        target=artifacts,
        theirs=chance,
        kind=st.sampled_from(("mistake", "assumption", "decision")),
        weight=st.sampled_from(WEIGHTS),
    )
    @needs("mistake_log", "assumption_log", "decision_log")
    def artifact_log(self, agent: int, theirs: int, kind: str, weight: float) -> Any:
        session = {"session_id": self.session(agent, theirs).ref}
        if kind == "mistake":
            args = {**session, "why_wrong": "dry", "prevention": "look"}
            call = self.call(agent, "mistake_log", args, token_in="mistake")
        elif kind == "assumption":
            args = {**session, "confidence": weight}
            call = self.call(agent, "assumption_log", args, token_in="assumption")
        else:
            args = {**session, "choice": "left", "confidence": weight}
            call = self.call(agent, "decision_log", args, token_in="rationale")
        return self.made(call, f"{kind}_id"), kind

    @act(theirs=chance, tag=st.sampled_from(("doubt", "idea")))
    @needs("note")
    def note(self, agent: int, theirs: int, tag: str) -> None:
        args = {"session_id": self.session(agent, theirs).ref, "tag": tag}
        self.call(agent, "note", args, token_in="text")

    @act(
        artifact=artifacts, theirs=chance, miss=chance, kind=st.sampled_from(("stale", "retracted"))
    )
    @needs("finding_resolve", "log_artifacts")
    def finding_resolve(
        self, agent: int, artifact: tuple[Obj, str], theirs: int, miss: int, kind: str
    ) -> None:
        thing, of = artifact
        args = {"finding_id": self._its_id(artifact, miss), "kind": kind}
        if of == "finding":
            who = self.actor(agent, theirs, thing)
            self.call(who, "finding_resolve", args, token_in="resolution")

    def _its_id(self, artifact: tuple[Obj, str], percent: int) -> Any:
        return MISSING if percent >= 97 else artifact[0].ref

    # ------------------------------------------------------------------ batches

    @act(
        target=artifacts,
        theirs=chance,
        some=several,
        same=chance,
        text=st.sampled_from(DEAD_ENDS),
        relation=relations,
    )
    @needs("log_artifacts")
    def log_artifacts(
        self, agent: int, theirs: int, some: list[str], same: int, text: str, relation: str
    ) -> Any:
        session = self.session(agent, theirs)
        edges = [{"from": "n0", "to": "n1", "relation": relation}] if len(some) > 1 else []
        if not self.sharing(same):
            return self._batch(agent, session, some, edges)
        # One that others may be logging too, and an edge from it.
        data = {"approach": text, "why_failed": "wet", "subject": "{}"}
        nodes = [
            {"ref": "n0", "type": "dead_end", "data": data},
            {"ref": "n1", "type": some[0], "data": _numbered(NODES[some[0]], 1)},
        ]
        args = {
            "session_id": session.ref,
            "edges": [{"from": "n1", "to": "n0", "relation": relation}],
        }
        call = self.call(agent, "log_artifacts", args, token_in="nodes", form=nodes)
        return [
            (self.made(call, "created.n0"), "dead_end"),
            (self.made(call, "created.n1"), some[0]),
        ]

    @act(one=artifacts, other=artifacts, theirs=chance, miss=chance, relation=relations)
    @needs("log_artifacts")
    def edge_drawn(
        self,
        agent: int,
        one: tuple[Obj, str],
        other: tuple[Obj, str],
        theirs: int,
        miss: int,
        relation: str,
    ) -> None:
        who = self._their_turn(agent, theirs, (one, other))
        if who < 0 or one[0].ref == other[0].ref:
            return
        edge = {"from": one[0].ref, "to": self._its_id(other, miss), "relation": relation}
        self.call(
            who, "log_artifacts", {"session_id": self.session(who, theirs).ref, "edges": [edge]}
        )

    @act(one=artifacts, other=artifacts, theirs=chance, miss=chance)
    @needs("resolve_artifacts")
    def resolve_artifacts(
        self, agent: int, one: tuple[Obj, str], other: tuple[Obj, str], theirs: int, miss: int
    ) -> None:
        self._batch_on(agent, theirs, miss, (one, other), "resolve_artifacts", CLOSED)

    @act(
        one=artifacts, other=artifacts, theirs=chance, miss=chance, weight=st.sampled_from(WEIGHTS)
    )
    @needs("update_artifacts")
    def update_artifacts(
        self,
        agent: int,
        one: tuple[Obj, str],
        other: tuple[Obj, str],
        theirs: int,
        miss: int,
        weight: float,
    ) -> None:
        fields = {kind: corrections(kind, weight) for kind in NODES}
        self._batch_on(agent, theirs, miss, (one, other), "update_artifacts", fields)

    def _batch_on(
        self,
        agent: int,
        percent: int,
        miss: int,
        things: tuple[tuple[Obj, str], ...],
        tool: str,
        fields: dict[str, dict[str, Any]],
    ) -> None:
        who = self._their_turn(agent, percent, things)
        things = tuple({thing.ref: (thing, kind) for thing, kind in things}.values())
        if who >= 0:
            items = [{"type": k, "id": self._its_id((t, k), miss), **fields[k]} for t, k in things]
            many = {"resolve_artifacts": "resolutions", "update_artifacts": "updates"}[tool]
            self.call(who, tool, {}, token_in=many, form=items)

    @act(artifact=artifacts, theirs=chance, miss=chance, look=chance)
    @needs("delete_artifacts")
    def delete_artifacts(
        self, agent: int, artifact: tuple[Obj, str], theirs: int, miss: int, look: int
    ) -> None:
        thing, kind = artifact
        gone = [{"type": kind, "id": self._its_id(artifact, miss)}]
        args = {"deletions": gone, **({"dry_run": False} if look < 80 else {})}
        self.call(self.actor(agent, theirs, thing), "delete_artifacts", args, token_in="reason")

    @act(theirs=chance, direction=st.sampled_from((None, None, None, "noetic", "praxic")))
    @needs("source_list")
    def source_list(self, agent: int, theirs: int, direction: str | None) -> None:
        session = self.session(agent, theirs).ref
        args: dict[str, Any] = {"project_id": type(session)(session.call, "project_id")}
        self.call(agent, "source_list", {**args, **({"direction": direction} if direction else {})})


def _numbered(data: dict[str, Any], n: int) -> dict[str, Any]:
    """The same with its number where the texts of one call would be equal."""
    return {key: f"{v} {n}" if str(v).startswith("{}") else v for key, v in data.items()}
