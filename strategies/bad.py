"""Bad input: a good call with one thing wrong with it.

It is drawn from the tool's input schema and from the ids that the program knows, so it works on
any target. What the schema forbids (`Bad.forbidden`) the target has to refuse; everything else
is merely odd (a text of a megabyte, an id of another kind) and may be accepted or refused, but
never half. Texts stay valid Unicode: lone surrogates cannot be sent, since JSON on MCP's wire is
UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mcpconc.program import Bad, Call, Ref, refs

__all__ = ["KINDS", "Good", "allows", "spoiled"]

Schema = Mapping[str, Any]

HUGE = (100_000, 140_000, 300_000, 1_000_000)
"""Characters of a huge text. Linux takes 131,072 bytes for one argument of a command, at most."""

ODD_TEXTS: Mapping[str, tuple[str, ...]] = {
    "unicode-text": (
        *("\u202e{}\u202c", "e\u0301\u0301\u0301{}", "\U0001f469\u200d\U0001f467{}", "\ufeff{}"),
        *("\u0130\u0131\u00df\ufb01{}", "{}\u2028{}", "\uffff{}", "\U0010ffff{}", "\u00a0{}\u3000"),
        *("{}\x00{}", "\x1b[31m{}\x07", "{}\r\n{}", "\t{}\x85"),
    ),
    "dash-text": ("-{}", "--{}", "--help", "-", "--", "-1"),
    "json-text": ('{"token": "{}"}', '["{}"]', '"{}"', '{"ok": false, "error": "{}"}', "null"),
    "sql-text": ("'; DROP TABLE goals; -- {}", "{}' OR '1'='1", '{}" UNION SELECT 1 --', "{}%_"),
    "path-text": ("../../{}", "/dev/null/{}", "@/etc/hostname {}", "$(touch {})", "{};`id`|{}"),
    "blank-text": ("", " ", "\n\t ", "\u3000"),
}
"""Kind → forms of such a text; ``{}`` is where the call's token goes."""

PLAIN = frozenset({"unicode-text", "dash-text", "json-text", "sql-text", "path-text", "huge-text"})
"""Texts that a target may well accept as texts."""

ODD_IDS = ("-1", "--help", "' OR '1'='1", "%", "../../x", '{"$ne": null}', "null", "\x00", "*")
WRONG: tuple[Any, ...] = ("not a number", 7, 1.5, True, ["a", 1], {"a": {"b": 1}}, [], {}, "")
RANGE: tuple[float, ...] = (-1, -0.001, 1.001, 7, 2**31, 2**63, -(2**63), 1e308, 0)
NAMES = ("no_such_argument", "sessionId", "__class__", "--output", "")


@dataclass(frozen=True, slots=True)
class Good:
    """A good call, the schema of its tool's input ({} where it is not known), and references to
    all ids that its agent may know."""

    call: Call
    schema: Schema
    ids: Sequence[Ref] = ()

    @property
    def properties(self) -> Mapping[str, Schema]:
        return self.schema.get("properties") or {}

    def of(self, arg: str) -> Schema:
        return self.properties.get(arg) or {}

    def is_id(self, arg: str) -> bool:
        return isinstance(self.call.args.get(arg), Ref) or arg.endswith(("_id", "_ids"))

    def texts(self) -> list[str]:
        """Arguments that are given and free texts."""
        return [
            name
            for name, value in self.call.args.items()
            if isinstance(value, str) and not self.is_id(name) and "enum" not in self.of(name)
        ]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to spoil a call: the arguments that it can be done to, and their new values with
    what is wrong with them. A value is `LEFT_OUT` where the argument goes."""

    name: str
    fits: Callable[[Good], Sequence[str]]
    values: Callable[[Good, str], Sequence[tuple[Any, str]]]


LEFT_OUT = object()


def spoiled(
    good: Good, id: str, token: str, random: Random, kinds: Sequence[str] = ()
) -> Call | None:
    """`good` made bad, under another id and with another token, which it carries where it can;
    None where there is nothing that can be made bad. Kinds are equally likely, whatever the number
    of arguments that they can be done to; `kinds` names those that may be drawn."""
    call = good.call
    fresh = replace(
        call, id=id, token=token, args=_mapped(call.args, lambda t: _said(t, call, token))
    )
    good = replace(good, call=fresh)
    open_ = [kind for kind in KINDS.values() if not kinds or kind.name in kinds]
    while open_:
        kind = open_.pop(random.randrange(len(open_)))
        options = [(arg, *v) for arg in kind.fits(good) for v in kind.values(good, arg)]
        if not options:
            continue
        arg = random.choice(sorted({option[0] for option in options}))
        _, value, why = random.choice([option for option in options if option[0] == arg])
        args = {name: v for name, v in fresh.args.items() if name != arg}
        if value is not LEFT_OUT:
            args[arg] = value
        carried = token if token and any(token in text for text in _texts(args)) else ""
        # A document has a meaning of its own, and a row without its token cannot be traced.
        understood = not _is_document(fresh.args.get(arg)) and carried == token
        return replace(
            fresh,
            args=args,
            token=carried,
            bad=Bad(
                kind.name,
                arg,
                why,
                forbidden=not _allowed(good.schema, args, arg),
                plain=kind.name in PLAIN and understood,
            ),
        )
    return None


# ------------------------------------------------------------------ what a schema allows


def allows(schema: Schema, value: Any) -> bool:
    """Whether a JSON schema allows a value. What of a schema is not understood here allows all;
    a `Ref` is a string."""
    if isinstance(value, Ref):
        value = "x"
    for several in ("anyOf", "oneOf"):
        if schema.get(several) and not any(allows(option, value) for option in schema[several]):
            return False
    types = schema.get("type")
    if types and not any(
        _is(name, value) for name in ([types] if isinstance(types, str) else types)
    ):
        return False
    if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1e18))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _in_range(schema, value)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return all(allows(schema["items"], item) for item in value)
    if isinstance(value, Mapping):
        inside = {*value, *schema.get("required", ())}
        return all(_allowed(schema, value, name) for name in inside)
    return True


def _allowed(schema: Schema, args: Mapping[str, Any], arg: str) -> bool:
    """Whether an object's schema allows what it holds, or does not hold, under this name."""
    if arg not in args:
        return arg not in schema.get("required", ())
    if arg in (schema.get("properties") or {}):
        return allows(schema["properties"][arg], args[arg])
    return schema.get("additionalProperties", True) is not False


def _is(type: str, value: Any) -> bool:
    if type == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if type == "integer":
        return _is("number", value) and value == int(value)
    known = {"string": str, "boolean": bool, "null": None.__class__, "array": list, "object": dict}
    return isinstance(value, known.get(type, object))


def _same(value: Any, choice: Any) -> bool:
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)


def _in_range(schema: Schema, value: float) -> bool:
    return bool(
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )


# ------------------------------------------------------------------ kinds


def _typed(good: Good) -> list[str]:
    return [name for name, about in good.properties.items() if about]


def _wrong_types(good: Good, arg: str) -> list[tuple[Any, str]]:
    about = good.of(arg)
    wrong: list[Any] = [v for v in WRONG if not allows(about, v) and not _is_choice(about, v)]
    given = good.call.args.get(arg)
    if isinstance(given, Mapping) and not any(refs(given)) and not allows(about, json.dumps(given)):
        wrong.append(json.dumps(given))
    return [
        (value, f"{arg} is {_name(value)}, not {_wanted(about)}")
        for value in wrong
        if not _is(str(about.get("type")), value)
    ]


def _is_choice(about: Schema, value: Any) -> bool:
    """Whether it has the right type and is merely none of the choices."""
    return "enum" in about and isinstance(value, str)


def _nulls(good: Good, arg: str) -> list[tuple[Any, str]]:
    return [] if allows(good.of(arg), None) else [(None, f"{arg} is null")]


def _required(good: Good) -> list[str]:
    return [name for name in good.schema.get("required", ()) if name in good.call.args]


def _optional_texts(good: Good) -> list[str]:
    return [name for name in good.texts() if name not in _required(good)]


def _required_texts(good: Good) -> list[str]:
    return [name for name in _required(good) if name in good.texts()]


def _unknown(good: Good) -> list[str]:
    return [name for name in NAMES if good.properties and name not in good.properties]


def _choices(good: Good) -> list[str]:
    return [name for name in good.properties if good.of(name).get("enum")]


def _no_choices(good: Good, arg: str) -> list[tuple[Any, str]]:
    some = [choice for choice in good.of(arg)["enum"] if isinstance(choice, str)]
    odd = ["no-such-choice", "", *(f"{c} " for c in some[:1]), *(c.swapcase() for c in some)]
    return [
        (value, f"{arg} {value!r} is not one of its choices")
        for value in odd
        if not allows(good.of(arg), value)
    ]


def _numbers(good: Good) -> list[str]:
    return [n for n in good.properties if good.of(n).get("type") in ("number", "integer")]


def _ranges(good: Good, arg: str) -> list[tuple[Any, str]]:
    whole = good.of(arg).get("type") == "integer"
    return [(v, f"{arg} is {v}") for v in RANGE if not whole or isinstance(v, int)]


def _objects(good: Good) -> list[str]:
    return [name for name, value in good.call.args.items() if isinstance(value, Mapping) and value]


def _inside(good: Good, arg: str) -> list[tuple[Any, str]]:
    """Something wrong with one member of an object."""
    given = good.call.args[arg]
    found: list[tuple[Any, str]] = [({}, f"{arg} is empty")]
    found.append(({**given, "no_such_key": 0.5}, f"{arg} has an unknown key no_such_key"))
    for name, value in given.items():
        rest = {key: v for key, v in given.items() if key != name}
        found.append((rest, f"{arg} lacks {name}"))
        if isinstance(value, int | float):
            found += [
                ({**given, name: odd}, f"{arg}.{name} is {odd!r}")
                for odd in (1.5, -1, 1e308, "abc", None, [0.5], {"a": 0.5}, True)
            ]
    return found


def _ids(good: Good) -> list[str]:
    return [name for name in good.call.args if good.is_id(name)]


def _blanks(good: Good, arg: str) -> list[tuple[Any, str]]:
    return [("", f"{arg} is empty"), ("   ", f"{arg} is blank")]


def _other_ids(good: Good, arg: str) -> list[tuple[Any, str]]:
    given = good.call.args[arg]
    own = _kind(given) if isinstance(given, Ref) else arg
    return [
        (ref, f"{arg} is a {_kind(ref)}")
        for ref in dict.fromkeys(good.ids)
        if _kind(ref) != own and not ref.keep
    ]


def _prefixes(good: Good, arg: str) -> list[tuple[Any, str]]:
    given = good.call.args[arg]
    if not isinstance(given, Ref):
        return []
    return [
        (replace(given, keep=keep), f"{arg} is only {keep} characters of one")
        for keep in (1, 4, 7, 8, 35)
    ]


def _odd_ids(good: Good, arg: str) -> list[tuple[Any, str]]:
    return [(text, f"{arg} is {text!r}") for text in ODD_IDS]


def _huge(good: Good, arg: str) -> list[tuple[Any, str]]:
    token = "" if good.is_id(arg) else good.call.token
    return [
        (token + " x" * ((size - len(token)) // 2), f"{arg} has {size:,} characters")
        for size in HUGE
    ]


def _odd(forms: tuple[str, ...]) -> Callable[[Good, str], list[tuple[Any, str]]]:
    def values(good: Good, arg: str) -> list[tuple[Any, str]]:
        made = [form.replace("{}", good.call.token) for form in forms]
        return [(text, f"{arg} is {text!r}") for text in made]

    return values


def _all() -> Iterator[Kind]:
    yield Kind("wrong-type", _typed, _wrong_types)
    yield Kind("null", _typed, _nulls)
    yield Kind("missing", _required, lambda good, arg: [(LEFT_OUT, f"{arg} is left out")])
    yield Kind(
        "unknown-argument", _unknown, lambda good, arg: [("x", f"there is no argument {arg!r}")]
    )
    yield Kind("empty-required", _required_texts, lambda good, arg: [("", f"{arg} is empty")])
    yield Kind("not-a-choice", _choices, _no_choices)
    yield Kind("out-of-range", _numbers, _ranges)
    yield Kind("inside-object", _objects, _inside)
    yield Kind("blank-id", _ids, _blanks)
    yield Kind("other-id", _ids, _other_ids)
    yield Kind("prefix-id", _ids, _prefixes)
    yield Kind("odd-id", _ids, _odd_ids)
    yield Kind("huge-id", _ids, _huge)
    yield Kind("huge-text", Good.texts, _huge)
    for name, forms in ODD_TEXTS.items():
        yield Kind(name, _optional_texts if name == "blank-text" else Good.texts, _odd(forms))


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _all()}


# ------------------------------------------------------------------ texts


def _kind(ref: Ref) -> str:
    return ref.path.rsplit(".", 1)[-1]


def _name(value: Any) -> str:
    names = {str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


def _wanted(about: Schema) -> str:
    types = about.get("type", "what it should be")
    return types if isinstance(types, str) else " or ".join(types)


def _said(text: str, call: Call, token: str) -> str:
    return text.replace(call.token, token) if call.token else text


def _is_document(value: Any) -> bool:
    """Whether it is the text of a JSON object: a text with a meaning of its own."""
    try:
        return isinstance(value, str) and isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _texts(value: Any) -> list[str]:
    found: list[str] = []
    _mapped(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value
