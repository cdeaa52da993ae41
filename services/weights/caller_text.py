"""Callers' text inside a template: it never becomes a control token.

Where a caller's string spells a control token, a sentinel is put into the spelling before the
template is rendered; the prompt is then tokenised in parts that end where the sentinels stand.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from tokenizers import Tokenizer

from services.errors import InvalidArgument

_SENTINELS = range(0xE000, 0xF900)
"""Private use: no template looks for these, and none trims them."""


class CallerText:
    """Finds and breaks control tokens in callers' strings.

    Control tokens are the tokenizer's special tokens, and those others of its added tokens of which
    `template_tokens` tells that the template marks turns with them.
    """

    def __init__(self, tokenizer: Tokenizer, template_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        control = {
            id: token
            for id, token in added.items()
            if token.content.strip() and (token.special or id in template_tokens)
        }
        self._control = control
        spelled = sorted((token.content for token in control.values()), key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, spelled))) if spelled else None
        self._normalizes = tokenizer.normalizer is not None and any(
            token.normalized for token in control.values()
        )

    def marked(self, value: Any) -> tuple[Any, str]:
        """The value with its strings' control tokens broken, and the sentinel that breaks them.

        The sentinel is empty where there was nothing to break: then the value is the one given.
        """
        strings = list(_strings(value))
        cuts = {text: places for text in set(strings) if (places := self._cuts(text))}
        if not cuts:
            return value, ""
        sentinel = _unused(strings)

        def mark(text: str) -> str:
            edges = [0, *cuts.get(text, ()), len(text)]
            return sentinel.join(text[a:b] for a, b in itertools.pairwise(edges))

        return _mapped(value, mark), sentinel

    def _cuts(self, text: str) -> Sequence[int]:
        """Where to cut the text, so that no control token comes of any part."""
        cuts: list[int] = []
        parts = [(0, len(text))]
        while parts:
            start, end = parts.pop()
            inside = [start + cut for cut in self._inside(text[start:end])]
            if inside:
                cuts += inside
                edges = [start, *inside, end]
                parts += itertools.pairwise(edges)
        return sorted(cuts)

    def _inside(self, text: str) -> list[int]:
        """Places inside the control tokens that the tokenizer finds in a text."""
        if self._spelled is None:
            return []
        # Tokens that are looked for in normalised text, only the tokenizer finds.
        if not self._normalizes and not self._spelled.search(text):
            return []
        encoding = self._tokenizer.encode(sound(text), add_special_tokens=False)
        cuts: list[int] = []
        for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            token = self._control.get(id)
            found = text[start:end].strip()
            if token is None or (found != token.content and not token.normalized):
                continue  # the unknown token stands for text that spells no token
            cut = start + text[start:end].index(found[:1]) + 1
            if len(found) > 1:
                cuts.append(cut)
            elif found == token.content:
                raise InvalidArgument(
                    f"The conversation holds {found!r}, a control token of this model that can't "
                    "be told apart from text: leave it out.",
                    field="messages",
                )
        return cuts


def split(prompt: str, sentinel: str) -> list[str]:
    """The parts of a rendered prompt. Templates may have written the sentinel as an escape."""
    if not sentinel:
        return [prompt]
    return re.split(f"{sentinel}|{re.escape(_escape(sentinel))}", prompt)


def sound(text: str) -> str:
    """The text without lone surrogates, which are no text: tokenizers refuse them."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()


def _unused(strings: Sequence[str]) -> str:
    together = "\n".join(strings)
    for code in _SENTINELS:
        sentinel = chr(code)
        if sentinel not in together and _escape(sentinel) not in together.lower():
            return sentinel
    raise InvalidArgument(
        "The conversation uses every private character of Unicode: leave some out.",
        field="messages",
    )


def _escape(sentinel: str) -> str:
    return f"\\u{ord(sentinel):04x}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in cast("dict[Any, Any]", value).items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in cast("list[Any]", value):
            yield from _strings(inner)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_mapped(key, change): _mapped(inner, change) for key, inner in items}
    if isinstance(value, (list, tuple)):
        return [_mapped(inner, change) for inner in cast("list[Any]", value)]
    return value
