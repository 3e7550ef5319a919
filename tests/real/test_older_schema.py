"""A database as an older release left it: one agent's calls bring it up to date. What several at
once make of it says something only if that holds."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcpconc.nemesis import with_faults
from mcpconc.program import Call, Program, Ref, token_for
from mcpconc.rig import Execution, rig
from mcpconc.target.base import Identity
from mcpconc.target.empirica import EmpiricaTarget
from mcpconc.target.warm import Start

pytestmark = pytest.mark.real


def test_calls_bring_an_older_database_up_to_date(tmp_path: Path) -> None:
    token, other = token_for(0, 0), token_for(0, 1)
    session = Call("0.0", 0, "session_create", {"ai_id": "ai-0", "subject": token}, token)
    args = {"session_id": Ref("0.0", "session_id"), "finding": other}
    logged = Call("0.1", 0, "finding_log", args, other)
    program = with_faults(Program(1, lanes=((session, logged),)), ("older-schema",), 0)

    async def main() -> Execution:
        target = EmpiricaTarget.tested()
        await target.install(print)
        async with rig(target, Identity.ISOLATED, 1, tmp_path, print, Start.FORK) as on:
            return await on.run(program, "free", 0)

    done = anyio.run(main)
    (fault,) = done.run.history.notes("fault")
    assert "project_findings.resolution_kind" in str(fault.value)
    assert [f for f in done.judgement.findings if f.fingerprint.property.endswith("-gone")] == []
