"""What ``--help`` teaches: a page for each verb, and the exit codes."""

from __future__ import annotations

__all__ = ["DESCRIPTION", "EXAMPLES", "EXITS"]

DESCRIPTION = """\
Find, replay, minimise and explain concurrency bugs in MCP servers that keep state in SQLite.
"""

EXITS = """\
exit codes:
  0 passed   1 violation   2 inconclusive   3 target unusable   4 usage or file error
  70 a bug in mcpconc      130 interrupted (reports are still written)
"""

EXAMPLES = {
    "": """\
examples:
  mcpconc fuzz --max-time 5m          five agents against the tested Empirica
  mcpconc show lost-task              the picture of what was found
  mcpconc replay lost-task --times 10 how often does it come back?
  mcpconc check traces/*/             judge saved runs again, without a server
""",
    "fuzz": """\
A program is written by a Hypothesis state machine, run by several agents at once, and judged by
oracles; the main one asks whether any sequential order of the calls explains all answers and the
database that is left. Each distinct finding is minimised, labelled (race, cross-agent,
sequential) and kept as a trace in OUT/traces. Ctrl-C stops cleanly and keeps what was found.

--identity shared and same-instance promise nothing between agents: which expectation breaks there,
and for whom, is told apart from violations, and alone it does not make the campaign fail.

examples:
  mcpconc fuzz --max-time 5m
  mcpconc fuzz --runs 20 --agents 3 --scheduler convoy --seed 1
  mcpconc fuzz --scheduler portfolio --agents 3 --calls 4
  mcpconc fuzz --target empirica==1.13.0 --identity isolated
  mcpconc fuzz --identity shared,same-instance
  mcpconc fuzz --target server.toml --machine mypackage.machines:Mine
  mcpconc fuzz --plant equal-rounds --max-time 1m
  mcpconc fuzz --nemesis kill-call,full-disk --runs 50
  mcpconc fuzz --start ordinary --max-time 10m      every call as a user's would start
  mcpconc fuzz --target server.toml --machine mine:Mine --model self
""",
    "replay": """\
Answers REPRODUCED k/n (each try showed the recorded finding), FLAKY k/n (some did), FIXED 0/n, or
ERROR. Exit 1 where it came back at all, 0 where it is fixed, 2 or 3 on an error.

examples:
  mcpconc replay lost-task --times 10
  mcpconc replay traces/*/ --target empirica@../empirica
""",
    "check": """\
Reads what the trace holds (program, history, state before and after) and asks the oracles again:
no server, no network. SAME or DIFFERENT says whether verdict and findings are the recorded ones,
PARTIAL that the run was cut off. Exit 1 where there is a violation, recorded or not; 2 where an
oracle cannot decide or a recorded finding is not found any more; 0 where there is nothing.

examples:
  mcpconc check traces/*/
  mcpconc check out/work/run-isolated-00007      the history of a run that was killed
""",
    "shrink": """\
Goes on minimising: fewer lanes, fewer calls, less concurrency. The trace is replaced by the
smaller one, or left as it is.

examples:
  mcpconc shrink lost-task --max-time 2m
""",
    "explore": """\
Runs every interleaving of the trace's concurrent calls, each once: those that differ only in steps
that cannot matter to each other count as one (dynamic partial-order reduction). Meant for two
short calls; what is explored is relative to the points that the probe sees, so it needs a server
that runs on Python. Exit 0 where all were run and none fails, 1 where any does, 2 where not all
were run.

examples:
  mcpconc explore lost-task
  mcpconc explore lost-task --target empirica@../empirica --start fork
""",
    "show": """\
Lanes from left to right, time from top to bottom; one row per event, so brackets that overlap
are calls that overlapped. g1, s1, t1 are ids, #2.0 is a text that call 2.0 sent.

examples:
  mcpconc show lost-task
  mcpconc show lost-task --json | jq .findings
""",
    "doctor": """\
Is the target installed, does it start, which tools does it have, does a sequential probe behave
as the model says, and what does the model not read?

examples:
  mcpconc doctor
  mcpconc doctor --target empirica@../empirica
""",
    "selftest": """\
The reference server is correct by default, and broken on request: each planted bug is of a known
class, and one oracle must catch it. First the correct server runs programs that must draw no
finding; then each bug is planted until that oracle sees it, and minimised. A row tells which
oracles saw anything (the one that must has a star), after how many runs and calls, how many
concurrent calls are left (`seq`: nothing overlaps any more, set-up calls count), and the label.

A bug fails the self-test that escapes, that only another oracle sees, or that has more than 4
concurrent calls left; so does a false alarm. Bugs that only a controlled schedule reaches may
escape. Exit 2 where time was up before all were tried. With --seeds K the budget is for each
seed, and a bug passes that is caught with nine of ten.

examples:
  mcpconc selftest
  mcpconc selftest --only "lost update",isolation
  mcpconc selftest --seeds 20 --no-shrink   how many of 20 seeds catch each bug?
  mcpconc selftest --canary                 a few bugs, in seconds
  mcpconc show out/traces/equal-rounds      its minimal program
  mcpconc fuzz --target reference+equal-rounds
""",
    "bench": """\
`linearize` decides each history and prints what that took: steps, states, processor time, and the
most memory held so far. Reads Jepsen's register logs (*.log), key-value logs (*.txt), traces, and
directories that hold any of them. Exit 1 where a history has no order, 2 where one is undecided.

examples:
  mcpconc bench linearize porcupine/test_data/jepsen
  mcpconc bench linearize c50-ok.txt c50-bad.txt --json | jq .total
  mcpconc bench linearize c10-ok.txt --whole         all keys as one object
  mcpconc bench linearize traces
""",
    "stress": """\
Each SCENARIO is a family of programs that all oracles judge: sessions created at the same moment
(bootstrap), git checkpoints (checkpoints), mixed reads and writes (database), all tools at once
(tools), whole loops (cascade). It is run by one agent, then by more, in one world and in worlds of
their own, so that a slow machine is not taken for a locking problem. A percentile is told only
where there are calls enough: 50 for p90, 100 for p95, 500 for p99.

examples:
  mcpconc stress
  mcpconc stress database tools --ladder 1,5,10 --calls 100
  mcpconc stress --threshold 'calls.p95 < 2s' --threshold 'rss.per_agent < 500MB'
  mcpconc stress --observe --settings default,production --report markdown
""",
    "gate": """\
Stages: doctor (can the target be used?), canary (are planted bugs seen?), traces (do saved ones
still fail?), fuzz, faults, stress; then thresholds. Each is bounded in time. Findings that the
baseline lists are known and pass; others fail, and so do thresholds that are missed, entries that
have expired, and stale ones: without a trace, or so often replayed in vain that luck does not
explain it. A run that could hardly have failed (little overlap, few tools, few programs) is
inconclusive, and so is a threshold that was not measured, unless its stage was left out.

Profiles: smoke (about 2 minutes), release (about 20), nightly (hours); mcpconc.toml or
[tool.mcpconc] in pyproject.toml changes them, and flags go before both.

Exit 1 on a new finding, a missed threshold or a bad entry; 2 where it is inconclusive; 3 where the
target cannot be used; 70 where the canary is not seen. OUT/summary.json has all figures.

examples:
  mcpconc gate --profile smoke
  mcpconc gate --report markdown,junit --report-dir reports
  mcpconc gate --target empirica==1.13.51 --no-baseline --skip faults
  mcpconc gate --set stress.calls=100 --threshold 'calls.p95 < 3s'
  mcpconc gate --update-baseline --reason 'known, see issue 12'
  mcpconc gate --baseline-from-traces --baseline gate/baseline.toml
""",
    "diff": """\
Programs are the same on both, and the two take turns, first one, then the other, so that load is
the same. Only tools that both offer are called, by the same name; what only one offers is listed.
Findings, latencies and, with --observe, what calls do inside are compared program by program, with
a permutation test, adjusted for how many there are (Holm). Exit 1 where B shows significantly more
of a finding, or is significantly slower; 2 where a finding was seen in B alone, but too seldom to
tell, or nothing was compared.

examples:
  mcpconc diff --a empirica==1.13.51 --b empirica
  mcpconc diff --a empirica --b empirica@../empirica --runs 40 --start fork
  mcpconc diff --a reference --b reference+slow-lock
""",
    "list": """\
examples:
  mcpconc list
  mcpconc list --json | jq .oracles
""",
}
