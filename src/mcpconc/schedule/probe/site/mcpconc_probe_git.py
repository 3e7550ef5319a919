"""What a git command does to refs, as far as its words tell."""

from __future__ import annotations

import os

from mcpconc_probe_labels import family, normal

__all__ = ["Command", "understand"]

_WITH_VALUE = frozenset(("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path"))
_NOTES_READ = frozenset(("list", "show"))
_NOTES_WRITE = frozenset(("add", "append", "copy", "edit", "remove", "prune", "merge"))
_MESSAGE = frozenset(("-m", "-F", "-C", "-c", "--message", "--file", "--reuse-message", "-s"))
_MOVES_HEAD = frozenset(
    (
        *("commit", "merge", "rebase", "reset", "checkout", "switch", "cherry-pick", "revert"),
        *("am", "pull", "stash"),
    )
)
_READS_HEAD = frozenset(
    ("log", "show", "rev-list", "describe", "shortlog", "blame", "diff", "status")
)
_PLACES = frozenset(
    (
        *("--show-toplevel", "--git-dir", "--absolute-git-dir", "--git-common-dir"),
        *("--show-prefix", "--show-cdup", "--is-inside-work-tree", "--is-inside-git-dir"),
        "--is-bare-repository",
    )
)
"""What `rev-parse` is asked that no ref has to do with."""


class Command:
    """`label`, and the refs that it reads and writes; neither where it touches none."""

    __slots__ = ("label", "reads", "writes")

    def __init__(self, words: list, reads=(), writes=()) -> None:
        self.label = normal(" ".join(("git", *words)))
        self.reads = [f"ref:{family(ref)}" for ref in reads]
        self.writes = [f"ref:{family(ref)}" for ref in writes]


def understand(argv) -> Command | None:
    """The git command that `argv` is, or None if it is another program."""
    words = [os.fsdecode(word) for word in argv]
    if len(words) == 3 and os.path.basename(words[0]) in ("sh", "bash") and words[1] == "-c":
        words = words[2].split()
    if not words or os.path.basename(words[0]) != "git":
        return None
    index = 1
    while index < len(words) and words[index].startswith("-"):
        index += 2 if words[index] in _WITH_VALUE else 1
    if index >= len(words):
        return Command(["--version"])
    return _command(words[index], words[index + 1 :])


def _command(name: str, rest: list) -> Command:
    plain = [word for word in rest if not word.startswith("-")]
    if name == "notes":
        return _notes(rest)
    if name == "update-ref":
        refs = plain[:1] if "--stdin" not in rest else ["refs/*"]
        return Command([name, *refs], writes=refs)
    if name == "for-each-ref":
        patterns = [word if word.endswith("*") else f"{word.rstrip('/')}/*" for word in plain]
        return Command([name, *plain], reads=patterns or ["refs/*"])
    if name == "show-ref":
        return Command([name, *plain], reads=[_full(word) for word in plain] or ["refs/*"])
    if name == "push":
        return Command([name, *plain], writes=["refs/remotes/*"])
    if name == "fetch":
        return Command([name, *plain], writes=["refs/remotes/*", *_targets(plain[1:])])
    if name in _MOVES_HEAD:
        return Command([name], writes=["HEAD"])
    if name == "symbolic-ref":
        return Command([name, *plain], **{"writes" if len(plain) > 1 else "reads": plain[:1]})
    if name in ("branch", "tag"):
        where = ["refs/heads/*" if name == "branch" else "refs/tags/*"]
        return Command([name, *plain], **{"writes" if plain else "reads": where})
    if name == "rev-parse" and not (_PLACES & set(rest)):
        return Command([name, *plain], reads=[_full(word) for word in plain] or ["HEAD"])
    if name in _READS_HEAD:
        notes = [_notes_ref(word.partition("=")[2]) for word in rest if word.startswith("--notes=")]
        return Command([name], reads=["HEAD", *notes])
    return Command([name])


def _notes(rest: list) -> Command:
    ref, words, index = "commits", [], 0
    while index < len(rest):
        word = rest[index]
        if word == "--ref":
            ref = "".join(rest[index + 1 : index + 2])
            index += 1
        elif word.startswith("--ref="):
            ref = word[6:]
        elif word in _MESSAGE:
            index += 1
        elif not word.startswith("-"):
            words.append(word)
        index += 1
    action = words[0] if words else "list"
    full = _notes_ref(ref)
    if action in _NOTES_WRITE:
        return Command(["notes", action, full], writes=[full])
    return Command(["notes", action, full], reads=[full] if action in _NOTES_READ else [])


def _notes_ref(ref: str) -> str:
    if ref.startswith("refs/notes/"):
        return ref
    return f"refs/{ref}" if ref.startswith("notes/") else f"refs/notes/{ref}"


def _full(word: str) -> str:
    word = word.partition("^")[0].partition("~")[0].partition(":")[0]
    return word if word.startswith("refs/") or word == "HEAD" else f"refs/*/{word}"


def _targets(refspecs: list) -> list:
    ends = [spec.lstrip("+").partition(":")[2] for spec in refspecs]
    return [end for end in ends if end.startswith("refs/")]
