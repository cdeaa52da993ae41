"""Forms, written as grammars of llguidance."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llguidance import regex_to_lark

from services.inference.engine import Grammar, GrammarKind, Tag
from services.inference.engines.grammar_gbnf import gbnf_to_lark
from services.inference.engines.grammar_regex import refuse_regex
from services.inference.engines.grammar_schema import Refused, Schema, plain_schema

_JSON_OPTIONS: Any = {
    # Compact, with single spaces, or one value a line: enough for every style, and no room for a
    # model to spend its tokens on blanks.
    "whitespace_pattern": r"( |\n {0,20})?",
    "coerce_one_of": False,
    "lenient": False,
}
_HEADER = '%llguidance {"no_forcing": true}\n'
"""Every spelling of what must come is allowed, and the model chooses: nothing is tokenised here."""
_OBJECT: Schema = {"type": "object"}
_ANYTHING = "/(?s:.*)/"


def to_llguidance(grammar: Grammar, special: Mapping[str, int]) -> str:
    """Writes a form. `special` are the special tokens by their text.

    Raises:
        Refused: it is broken or can't be followed; the path starts with the field at fault.
    """
    if grammar.kind is GrammarKind.TOOLS:
        return _tools(grammar, special)
    try:
        return _plain(grammar)
    except Refused as error:
        raise Refused(error.why, grammar.field + error.path) from None


def schema_grammar(schema: Schema) -> str:
    """The grammar of all values of a plain schema."""
    return f"{_HEADER}start: {_json(schema)}\n"


def schemas(grammar: Grammar) -> list[tuple[str, Schema]]:
    """The schemas that a form holds, each with its field."""
    found: list[tuple[str, Schema]] = []
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        found.append((grammar.field, plain_schema(grammar.source, strict=grammar.strict)))
    found += [(tag.field, _arguments(tag)) for tag in grammar.tags if tag.schema]
    if grammar.text is not None:
        found += schemas(grammar.text)
    return found


def _plain(grammar: Grammar) -> str:
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return schema_grammar(_OBJECT)
        case GrammarKind.JSON_SCHEMA:
            return schema_grammar(plain_schema(grammar.source, strict=grammar.strict))
        case GrammarKind.REGEX:
            return f"{_HEADER}start: {_regex(grammar.source)}\n"
        case _:
            return _HEADER + gbnf_to_lark(grammar.source)


def _regex(text: str) -> str:
    if why := refuse_regex(text):
        raise Refused(why)
    return f"/{regex_to_lark(text, '')}/" if text else '""'


def _json(schema: Schema) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}  # which is refused: nothing has that form
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"


def _tools(grammar: Grammar, special: Mapping[str, int]) -> str:
    lines: list[str] = []
    calls = "call"
    if grammar.several:
        between = " ".join(_pieces(grammar.separator, special))
        calls = f"call ({between} call)*"
    rests = [tag.begin for tag in grammar.tags]
    side: list[dict[str, str]] = []
    if grammar.required:
        lines.append(f"start: {calls}")
    elif grammar.text is not None:
        lines += [f"start: {calls} | answer", _answer(grammar.text, side)]
    elif not grammar.trigger:
        first = "".join({_escaped(begin[:1]) for begin in rests})
        lines += [f"start: {calls} | PLAIN", f"PLAIN: /([^\\s{first}](?s:.*))?/"]
    else:
        # Free text goes up to the first trigger, which must begin a call.
        rests = [begin.removeprefix(grammar.trigger) for begin in rests]
        lines.append(
            "start: (before call)* TEXT" if grammar.several else "start: TEXT | before call"
        )
        lines += [_before(grammar.trigger, special), f"TEXT: {_ANYTHING}"]
    branches: list[str] = []
    for place, (tag, begin) in enumerate(zip(grammar.tags, rests, strict=True)):
        parts = [*_pieces(begin, special), _json(_arguments(tag)), *_pieces(tag.end, special)]
        lines.append(f"call_{place}: {' '.join(parts)}")
        branches.append(f"call_{place}")
    lines.append(f"call: {' | '.join(branches)}")
    text = _HEADER + "\n".join(lines) + "\n"
    if not side:
        return text
    return json.dumps({"grammars": [{"name": "tools", "lark_grammar": text}, *side]})


def _answer(grammar: Grammar, side: list[dict[str, str]]) -> str:
    """The rule of an answer without calls."""
    try:
        match grammar.kind:
            case GrammarKind.REGEX:
                return f"answer: {_regex(grammar.source)}"
            case GrammarKind.GBNF:
                text = _HEADER + gbnf_to_lark(grammar.source)
                side.append({"name": "answer", "lark_grammar": text})
                return "answer: @answer"
            case _:
                schema = _OBJECT
                if grammar.kind is GrammarKind.JSON_SCHEMA:
                    schema = plain_schema(grammar.source, strict=grammar.strict)
                return f"answer: {_json(schema)}"
    except Refused as error:
        raise Refused(error.why, grammar.field + error.path) from None


def _arguments(tag: Tag) -> dict[str, Any]:
    """The schema of a tool's arguments, which are always an object."""
    try:
        schema = plain_schema(tag.schema, strict=tag.strict) if tag.schema else _OBJECT
        if isinstance(schema, bool) or schema.get("type", "object") != "object":
            raise Refused("arguments are an object: say 'object'", ".type")
    except Refused as error:
        raise Refused(error.why, tag.field + error.path) from None
    return {"type": "object", **schema}


def _before(trigger: str, special: Mapping[str, int]) -> str:
    pieces = _pieces(trigger, special)
    if any(piece.startswith("<") for piece in pieces):
        return f"before: TEXT {' '.join(pieces)}"
    return f"before[lazy]: /(?s:.*){_escaped(trigger)}/"


def _pieces(text: str, special: Mapping[str, int]) -> Sequence[str]:
    """Text as what a rule is made of: special tokens by their IDs, all else as letters."""
    pieces: list[str] = []
    plain = ""
    position = 0
    # Longest first, so that a token whose text begins another one's is not taken for it.
    known = sorted((name for name in special if name and name in text), key=len, reverse=True)
    while position < len(text):
        name = next((name for name in known if text.startswith(name, position)), "")
        if name:
            if plain:
                pieces.append(f"/{_escaped(plain)}/")
                plain = ""
            pieces.append(f"<[{special[name]}]>")
            position += len(name)
        else:
            plain += text[position]
            position += 1
    if plain:
        pieces.append(f"/{_escaped(plain)}/")
    return pieces


def _escaped(text: str) -> str:
    return "".join(
        c if c.isascii() and (c.isalnum() or c in " _") else f"\\x{{{ord(c):X}}}" for c in text
    )
