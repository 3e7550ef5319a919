"""What campaigns of the default profile find, and how soon.

    python benchmarks/campaigns.py run --parts DIR                     # 3 seeds, 30 minutes each
    python benchmarks/campaigns.py run --parts DIR --minutes 2 --seeds 2 -- --start ordinary
    python benchmarks/campaigns.py report --parts DIR

Each seed is a campaign of its own, `mcpconc fuzz` with nothing but seed and time given (and what
follows ``--``): 5 agents, from cold but for the installation of the target, which is timed apart.
What it found is a file in DIR, so a run that was cut off goes on with the next seed; its traces are
below DIR too. ``report`` writes ``campaigns.json`` and ``campaigns.md`` beside this script.

Races are of one kind if the same calls race, or if the same thing breaks (oracle, property, kind
of object, field), and so on through others: two kinds have neither in common. What several runs
call a race and any of them shows without overlap is no race.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from mcpconc.report.names import name_things
from mcpconc.report.summary import duration
from mcpconc.report.wording import clip
from mcpconc.target import resolve
from mcpconc.trace import load

HERE = Path(__file__).parent
LABELS = ("sequential", "cross-agent", "race", "unlabelled")
"""Of a finding that several campaigns label differently the first of these holds."""
HEADINGS = {
    "cross-agent": "Cross-agent: several agents, no overlap needed",
    "sequential": "Sequential: one agent alone shows it",
    "unpromised": "Expectations that the identity mode does not promise",
    "unconfirmed": "Met with forked calls, not confirmed with ordinary starts",
    "unlabelled": "Not minimised in time, so nobody knows yet what they are",
}

Row = dict[str, Any]


# ---------------------------------------------------------------------- campaigns


def run(args: argparse.Namespace) -> None:
    """Run the campaigns that are not there yet."""
    args.parts.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seed, args.seed + args.seeds):
        part = args.parts / f"seed-{seed}.json"
        if part.exists():
            print(f"seed {seed}: known", flush=True)
            continue
        found = campaign(args, seed, args.parts / f"seed-{seed}")
        part.with_suffix(".new").write_text(json.dumps(found, indent=1) + "\n")
        part.with_suffix(".new").rename(part)
        print(f"seed {seed}: {len(found['findings'])} findings", flush=True)


def campaign(args: argparse.Namespace, seed: int, out: Path) -> Row:
    """One campaign, and what it found."""
    began = time.monotonic()
    target = resolve(args.target)
    anyio.run(target.install, lambda text: print(text, file=sys.stderr, flush=True))
    installed = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    words = [
        *("fuzz", "--target", args.target, "--seed", str(seed), "--out", str(out)),
        *("--max-time", f"{60 * args.minutes:.0f}s", "--json", *args.more),
    ]
    load_before = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-m", "mcpconc", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if not done.stdout:
        sys.exit(f"seed {seed}: the campaign ended with exit code {done.returncode}")
    document = json.loads(done.stdout)
    return {
        "seed": seed,
        "minutes": args.minutes,
        "target": f"{args.target} {target.version}".strip(),
        "command": ["mcpconc", *words[: words.index("--out")], *words[words.index("--max-time") :]],
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "load": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "install_seconds": round(installed - began, 1),
        "wall_seconds": round(time.monotonic() - installed, 1),
        **{key: document[key] for key in ("seconds", "programs", "calls", "stop", "exit", "infra")},
        "undecided": document["undecided"],
        "findings": [told(finding) for finding in document["findings"]],
    }


def told(finding: Mapping[str, Any]) -> Row:
    """A finding of the campaign's document, with what its minimal trace says of it."""
    row: Row = {
        key: finding[key]
        for key in (
            *("oracle", "property", "kind", "field", "tools", "fingerprint", "label"),
            *("promised", "counts", "times", "from_calls", "to_calls", "met_after"),
        )
    }
    lost = finding["summary"]
    if finding["oracle"] == "integrity":  # which only says that copies differ
        lost = "; ".join([lost, *finding["reason"][:2]])
    row |= {"lost": clip(lost, 200), "trace": None, "minimal": False, "reproduced": None}
    if finding["trace"] is not None:
        trace = load(Path(finding["trace"]))
        row["lost"] = clip(name_things(trace.program, trace.history).text(lost), 200)
        row["trace"] = Path(finding["trace"]).name
        if trace.shrink is not None:
            row["minimal"] = trace.shrink.finished
            row["reproduced"] = [trace.shrink.failed, trace.shrink.of]
    return row


# ---------------------------------------------------------------------- report


def what(row: Row) -> str:
    """What breaks: ``order: tie reflexes.round``."""
    field = f".{row['field']}" if row["field"] else ""
    return f"{row['oracle']}: {row['property']} {row['kind']}{field}"


def calls(row: Row) -> str:
    between = " ‖ " if row["label"] in ("race", "unlabelled") else ", "
    return between.join(row["tools"]) or "–"


def distinct(parts: Sequence[Row]) -> list[Row]:
    """One row per fingerprint, with `met`: the seconds until each seed first showed it, None where
    it did not."""
    rows: dict[str, Row] = {}
    for n, part in enumerate(parts):
        for finding in part["findings"]:
            row = rows.setdefault(finding["fingerprint"], {**finding, "met": [None] * len(parts)})
            row["met"][n] = finding["met_after"]
            row["label"] = min(row["label"], finding["label"], key=LABELS.index)
            row["counts"] = row["counts"] or finding["counts"]
            if finding["minimal"] and not row["minimal"]:
                row |= {key: finding[key] for key in ("lost", "trace", "minimal", "reproduced")}
    for row in rows.values():
        met = [seconds if seconds is not None else float("inf") for seconds in row["met"]]
        middle = statistics.median_high(met)
        row["median"] = None if middle == float("inf") else middle
        row["group"] = group(row)
        del row["met_after"]
    found = sorted(rows.values(), key=lambda row: min(s for s in row["met"] if s is not None))
    number(row for row in found if row["group"] == "race")
    return found


def group(row: Row) -> str:
    if not row["promised"]:
        return "unpromised"
    return str(row["label"]) if row["counts"] else "unconfirmed"


def number(races: Iterable[Row]) -> None:
    """Set `sort` of each race to the number of its kind, in order of appearance."""
    kinds: list[tuple[set[str], list[Row]]] = []
    for row in races:
        marks = {what(row), " ".join(row["tools"])}
        same = [kind for kind in kinds if kind[0] & marks]
        for kind in same[1:]:
            same[0][0].update(kind[0])
            same[0][1].extend(kind[1])
            kinds.remove(kind)
        if not same:
            same = [(set(), [])]
            kinds.append(same[0])
        same[0][0].update(marks)
        same[0][1].append(row)
    for n, (_, rows) in enumerate(kinds, 1):
        for row in rows:
            row["sort"] = n


def kinds_met(rows: Sequence[Row], n: int) -> list[float]:
    """When the n-th campaign first showed a race of each kind that it showed, in order."""
    first: dict[int, float] = {}
    for row in rows:
        if row["group"] == "race" and row["met"][n] is not None:
            first[row["sort"]] = min(row["met"][n], first.get(row["sort"], row["met"][n]))
    return sorted(first.values())


def written(parts: Sequence[Row]) -> tuple[Row, str]:
    """The document and the page."""
    rows = distinct(parts)
    races = [row for row in rows if row["group"] == "race"]
    document = {
        "campaigns": [
            {
                **{key: part[key] for key in part if key != "findings"},
                "kinds_met": kinds_met(rows, n),
            }
            for n, part in enumerate(parts)
        ],
        "kinds_of_races": max((row["sort"] for row in races), default=0),
        "findings": rows,
    }
    return document, "\n".join(page(parts, rows, races)) + "\n"


def page(parts: Sequence[Row], rows: Sequence[Row], races: Sequence[Row]) -> Iterable[str]:
    first = parts[0]
    yield from (
        "# Campaigns",
        "",
        f"{first['target']}, {first['minutes']:g} minutes for each seed, {first['machine']}. "
        f"`{' '.join(first['command'])}`",
        "",
        "| seed | programs | calls | load before, after | installed in | up in | races | kinds | "
        "eighth kind after |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    for n, part in enumerate(parts):
        kinds = kinds_met(rows, n)
        mine = sum(row["met"][n] is not None for row in races)
        up = part["wall_seconds"] - part["seconds"]
        yield (
            f"| {part['seed']} | {part['programs']} | {part['calls']} | "
            f"{part['load'][0]}, {part['load'][1]} | {part['install_seconds']} s | {up:.0f} s | "
            f"{mine} | {len(kinds)} | {time_of(kinds[7] if len(kinds) > 7 else None)} |"
        )
    things, pairs = {what(row) for row in races}, {tuple(row["tools"]) for row in races}
    yield from (
        "",
        f"## {len(races)} races of {max((r['sort'] for r in races), default=0)} kinds",
        "",
        "It needs overlap: no one-at-a-time order of the calls shows it. Of one kind are races in "
        "which the same calls race or the same thing breaks, and what is so linked through others: "
        f"two kinds have neither in common. ({len(pairs)} different sets of calls, {len(things)} "
        "different things that break.) Times are until a run first showed it, for each seed and "
        "their median; – where it did not.",
        "",
    )
    yield from table(parts, sorted(races, key=lambda row: row["sort"]))
    for name, heading in HEADINGS.items():
        chosen = [row for row in rows if row["group"] == name]
        if chosen:
            yield from ("", f"## {heading}", "")
            yield from table(parts, chosen)


def table(parts: Sequence[Row], rows: Sequence[Row]) -> Iterable[str]:
    kinds = any("sort" in row for row in rows)
    seeds = " | ".join(f"seed {part['seed']}" for part in parts)
    yield (
        f"|{' kind |' * kinds} calls | what breaks | what is lost | minimal trace | comes back | "
        f"{seeds} | median |"
    )
    yield "|" + "---|" * (kinds + 6 + len(parts))
    for row in rows:
        again = "–" if not row["reproduced"] else "/".join(map(str, row["reproduced"]))
        cells = [
            *([str(row["sort"])] if kinds else []),
            calls(row),
            what(row),
            row["lost"].replace("|", "\\|"),
            f"`{row['trace']}`" + ("" if row["minimal"] else " (not minimal)"),
            again,
            *(time_of(seconds) for seconds in row["met"]),
            time_of(row["median"]),
        ]
        yield f"| {' | '.join(cells)} |"


def time_of(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def report(args: argparse.Namespace) -> None:
    parts = [json.loads(path.read_text()) for path in args.parts.glob("seed-*.json")]
    if not parts:
        sys.exit(f"{args.parts} has no seed-*.json; see `campaigns.py run`")
    document, text = written(sorted(parts, key=lambda part: int(part["seed"])))
    args.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(text)
    print(text)


def main(words: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else list(words)
    more = words[words.index("--") + 1 :] if "--" in words else []
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("--parts", type=Path, required=True)
    running.add_argument("--minutes", type=float, default=30.0)
    running.add_argument("--seeds", type=int, default=3, help="how many")
    running.add_argument("--seed", type=int, default=1, help="the first")
    running.add_argument("--target", default="empirica")
    running.set_defaults(function=run)
    telling = verbs.add_parser("report")
    telling.add_argument("--parts", type=Path, required=True)
    telling.add_argument("--out", type=Path, default=HERE / "campaigns", help="without a suffix")
    telling.set_defaults(function=report)
    args = parser.parse_args(words[: len(words) - len(more) - 1] if "--" in words else words)
    args.more = more
    args.function(args)


if __name__ == "__main__":
    main()
