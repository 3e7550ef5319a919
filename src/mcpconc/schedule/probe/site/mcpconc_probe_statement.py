"""What a SQL statement does, as far as its words tell: its kind, which tables, under what name."""

from __future__ import annotations

import re

import mcpconc_probe_labels as labels

__all__ = ["Statement", "parse"]

_TOKEN = re.compile(
    r"""\s+ | --[^\n]* | /\*.*?\*/
    | (?P<text> '(?:[^']|'')*' )
    | (?P<quoted> "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\] )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<mark> \?\d* | [:@$]\w+ )
    | (?P<other> . )""",
    re.S | re.X,
)
_KINDS = {
    "SELECT": "read",
    "VALUES": "read",
    "INSERT": "write",
    "REPLACE": "write",
    "UPDATE": "write",
    "DELETE": "write",
    "CREATE": "ddl",
    "DROP": "ddl",
    "ALTER": "ddl",
    "REINDEX": "ddl",
    "ANALYZE": "ddl",
    "VACUUM": "ddl",
    "BEGIN": "begin",
    "COMMIT": "commit",
    "END": "commit",
    "ROLLBACK": "rollback",
    "SAVEPOINT": "savepoint",
    "RELEASE": "release",
    "ATTACH": "attach",
}
_OVER = frozenset(
    (
        *("WHERE", "GROUP", "ORDER", "LIMIT", "HAVING", "SELECT", "SET", "VALUES", "UNION"),
        *("EXCEPT", "INTERSECT", "RETURNING", "WINDOW", "DO"),
    )
)
"""After these no table name follows, until the next FROM, JOIN or INTO."""
_BEFORE_PARENTHESIS = frozenset(("IN", "VALUES", "AS", "INTO", "AND", "OR", "WHERE", "FROM"))
_MANY = re.compile(r"\(\?(?:, \?)+\)|(?<=\?)(?:, \?)+")


class Statement:
    """`kind`: read, write, ddl, begin, commit, rollback, savepoint, release, attach, or "" for
    what nobody else can notice. `reads`, `writes`: (schema, table), without those of SQLite's
    own. `name`: that of a savepoint or an attached schema. `immediate`: BEGIN takes the lock."""

    __slots__ = ("immediate", "kind", "label", "name", "path", "reads", "writes")

    def __init__(self, kind: str, label: str) -> None:
        self.kind = kind
        self.label = label
        self.reads: tuple = ()
        self.writes: tuple = ()
        self.name = ""
        self.path = None
        self.immediate = False


_known: dict = {}


def parse(sql: str, bare: bool = False) -> Statement:
    """What `sql` does. With `bare`, values may have been put into its text, and are masked."""
    key = (sql, bare)
    found = _known.get(key)
    if found is None:
        if len(_known) >= 2000:
            _known.clear()
        try:
            found = _parse(sql, bare)
        except Exception:  # then it is no point, but the target's affair
            found = Statement("", "")
        _known[key] = found
    return found


def _parse(sql: str, bare: bool) -> Statement:
    tokens = [(match.lastgroup, match.group()) for match in _TOKEN.finditer(sql) if match.lastgroup]
    words = [text.upper() if kind == "word" else "" for kind, text in tokens]
    first = next(iter(words), "")
    verb = _verb(tokens, words) if first == "WITH" else first
    statement = Statement(_KINDS.get(verb, ""), _label(tokens, bare))
    rest = words[1:]
    if statement.kind in ("read", "write"):
        _tables(statement, tokens, words)
        if statement.kind == "read" and not statement.reads:
            statement.kind = ""
    elif statement.kind == "ddl":
        _definition(statement, tokens, words)
    elif statement.kind == "begin":
        statement.immediate = bool({"IMMEDIATE", "EXCLUSIVE"} & set(rest))
    elif statement.kind == "rollback" and "TO" in rest:
        statement.kind = ""
    elif statement.kind in ("savepoint", "release"):
        named = [_name(token) for token, word in zip(tokens, words) if word != "SAVEPOINT"]
        statement.name = "".join(named[-1:] if named[-1:] != [";"] else named[-2:-1]).lower()
    elif statement.kind == "attach":
        _attached(statement, tokens, words)
    return statement


def _label(tokens: list, bare: bool) -> str:
    out: list = []
    last = ""
    for kind, text in tokens:
        if kind == "number" or (kind == "text" and bare):
            text = labels.MASK
        elif kind == "mark":
            text = "?"
        apart = last.upper() in _BEFORE_PARENTHESIS or not last.isalpha()
        if out and last not in ("(", ".") and (apart if text == "(" else text not in ",).;"):
            out.append(" ")
        out.append(text)
        last = text
    if out and out[-1] == ";":
        out.pop()
    text = _MANY.sub(lambda many: "(?, …)" if many.group()[0] == "(" else ", …", "".join(out))
    return labels.normal(text)


def _verb(tokens: list[tuple[str, str]], words: list[str]) -> str:
    """The main verb of ``WITH … AS (…), … VERB``."""
    depth = 0
    for (_, text), word in zip(tokens, words):
        depth += (text == "(") - (text == ")")
        if not depth and _KINDS.get(word) in ("read", "write"):
            return word
    return ""


def _name(token: tuple[str, str]) -> str:
    kind, text = token
    return text[1:-1] if kind == "quoted" else text


def _is_name(token: tuple) -> bool:
    return token[0] in ("word", "quoted")


def _qualified(tokens: list, index: int) -> tuple:
    """(schema, table) that begins at `index`, and the index behind it."""
    name = _name(tokens[index])
    if tokens[index + 1 : index + 2] == [("other", ".")] and index + 2 < len(tokens):
        return (name.lower(), _name(tokens[index + 2])), index + 3
    return ("", name), index + 1


def _tables(statement: Statement, tokens: list, words: list) -> None:
    reads: dict = {}
    writes: dict = {}
    common = _common(tokens, words)
    clauses = [""]  # of each open parenthesis: "from" where a comma leads to another table
    into = reads  # where the next name belongs, if `expected`
    expected = False
    index = 0
    while index < len(tokens):
        word, (_, text) = words[index], tokens[index]
        before = words[index - 1] if index else ""
        index += 1
        if text == "(":
            clauses.append("from" if expected else "")
            continue
        if text == ")":
            clauses.pop()
            clauses = clauses or [""]
            expected = False
        elif text == ",":
            expected = clauses[-1] == "from"
            into = reads
        elif word == "FROM" and before != "DISTINCT":
            into = writes if before == "DELETE" else reads
            clauses[-1] = "" if before == "DELETE" else "from"
            expected = True
        elif word == "JOIN":
            into, expected = reads, True
        elif word == "INTO":
            into, expected = writes, True
        elif word == "UPDATE" and words[index : index + 1] != ["SET"]:
            into, expected = writes, True
            if words[index : index + 1] == ["OR"]:
                index += 2
        elif word in _OVER:
            clauses[-1], expected = "", False
        elif expected and _is_name(tokens[index - 1]):
            found, index = _qualified(tokens, index - 1)
            called = tokens[index : index + 1] == [("other", "(")] and into is reads
            shared = not found[0] and found[1].lower() in common
            if not (called or shared or found[1].lower().startswith(("sqlite_", "pragma_"))):
                into[found] = True
            expected = False
    statement.reads, statement.writes = tuple(reads), tuple(writes)


def _common(tokens: list, words: list) -> set:
    """Names of common table expressions, lower case."""
    found = set()
    for index, word in enumerate(words):
        behind = tokens[index + 1 : index + 2] == [("other", "(")]
        if word == "AS" and (behind or words[index + 1 : index + 2] in (["MATERIALIZED"], ["NOT"])):
            at = index - 1
            if tokens[at][1] == ")":  # the names of its columns
                while at > 0 and tokens[at][1] != "(":
                    at -= 1
                at -= 1
            if at > 0 and (words[at - 1] in ("WITH", "RECURSIVE") or tokens[at - 1][1] == ","):
                found.add(_name(tokens[at]).lower())
    return found


def _definition(statement: Statement, tokens: list, words: list) -> None:
    """CREATE and the like. Where it says IF NOT EXISTS it nearly always does exist, and then no
    lock is taken: that is not a point."""
    head = words[:8]
    if ("CREATE" in head[:1] and "EXISTS" in head) or {"TEMP", "TEMPORARY"} & set(head[:3]):
        statement.kind = ""
        return
    writes = {("", "schema"): True}
    for index, word in enumerate(words):
        if word in ("TABLE", "ON"):
            at = index + 1
            while at < len(tokens) and words[at] in ("IF", "NOT", "EXISTS"):
                at += 1
            if at < len(tokens) and _is_name(tokens[at]):
                writes[_qualified(tokens, at)[0]] = True
            break
    statement.writes = tuple(writes)


def _attached(statement: Statement, tokens: list, words: list) -> None:
    if "AS" in words:
        at = words.index("AS")
        statement.name = _name(tokens[at + 1]).lower() if at + 1 < len(tokens) else ""
        kind, text = tokens[at - 1]
        statement.path = text[1:-1].replace("''", "'") if kind in ("text", "quoted") else None
