"""Makes forms ready for a model's vocabulary, off the event loop, and keeps them for a while."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from services.errors import InvalidArgument, Unavailable
from services.inference.engine import Grammar
from services.inference.engines.grammar_lark import schema_grammar, schemas, to_llguidance
from services.inference.engines.grammar_masks import CompiledGrammar, read_mask
from services.inference.engines.grammar_schema import Refused, Schema, children
from services.inference.engines.pieces import Pieces, Scheme

_log = logging.getLogger(__name__)

_MOST_KEPT = 256
_MOST_KEPT_CHARACTERS = 8 * 2**20
_MOST_CHARACTERS = 2**20
"""Longest form that is taken, all its schemas together."""
_MOST_TRIALS = 100
"""Schemas that are tried alone to find the one at fault."""
_COMPILING_THREADS = 1
_MASKING_THREADS = 2


def _limits() -> LLParserLimits:
    """Smaller than the library's: these bound the work of one token to some milliseconds."""
    return LLParserLimits(max_lexer_states=50_000, max_grammar_size=300_000, verbose_errors=False)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A model's tokens as forms see them."""

    tokens: Sequence[bytes]
    """One per row of the model's output; empty where the tokenizer has none."""
    special: Mapping[str, int]
    """Tokens that are no text."""
    ends: Sequence[int]
    """End-of-sequence tokens."""


def read_vocabulary(tokenizer: Tokenizer, size: int, ends: frozenset[int]) -> Vocabulary | None:
    """The vocabulary of a tokenizer; None where the bytes of tokens depend on their neighbours."""
    pieces = Pieces(tokenizer)
    known = [token_id for token_id in ends if 0 <= token_id < size]
    if pieces.scheme is Scheme.OTHER or not known:
        return None
    special = {
        token.content: token_id
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special and token_id < size
    }
    return Vocabulary([pieces[token_id] for token_id in range(size)], special, sorted(known))


class GrammarCompiler:
    """Compiles forms for one model. `compile` belongs to the event loop."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._compiling = ThreadPoolExecutor(_COMPILING_THREADS, "grammar-compile")
        self._masking = ThreadPoolExecutor(_MASKING_THREADS, "grammar-mask")
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, Future[CompiledGrammar]] = OrderedDict()
        self._closed = False

    async def compile(self, grammar: Grammar) -> CompiledGrammar:
        """Makes a form ready; who asks for one that is being made waits for it too.

        Raises:
            InvalidArgument: it can't be followed.
            Unavailable: the compiler is closed.
        """
        if self._closed:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        if _length(grammar) > _MOST_CHARACTERS:
            raise InvalidArgument(
                f"'{grammar.field}': is longer than {_MOST_CHARACTERS} characters.",
                field=grammar.field,
            )
        key, fields = _without_fields(grammar)
        future = self._kept.get(key)
        if future is None:
            future = self._kept[key] = self._compiling.submit(self._compile, key)
            self._drop_oldest()
        self._kept.move_to_end(key)
        try:
            # Shielded: another request may wait for the same form.
            compiled = await asyncio.shield(asyncio.wrap_future(future))
        except Refused as error:
            path = _with_fields(error.path, fields)
            raise InvalidArgument(f"'{path}': {error.why}.", field=path) from None
        except asyncio.CancelledError:
            if self._closed:
                raise Unavailable("The model is being unloaded: try again.") from None
            raise
        return replace(compiled, field=grammar.field)

    def close(self) -> None:
        """Ends the threads; what waits is told so."""
        self._closed = True
        self._compiling.shutdown(wait=False, cancel_futures=True)
        self._masking.shutdown(wait=False)

    def _drop_oldest(self) -> None:
        total = sum(map(_length, self._kept))
        while len(self._kept) > 1 and (
            len(self._kept) > _MOST_KEPT or total > _MOST_KEPT_CHARACTERS
        ):
            oldest, _ = self._kept.popitem(last=False)
            total -= _length(oldest)

    # On the compiling thread.

    def _compile(self, grammar: Grammar) -> CompiledGrammar:
        try:
            return self._make(grammar)
        except Refused:
            raise
        except BaseException:  # the library's panics are no Exceptions
            _log.exception("a form can't be compiled")
            raise Refused("can't be followed: simplify it", grammar.field) from None

    def _make(self, grammar: Grammar) -> CompiledGrammar:
        matcher = self._matcher(to_llguidance(grammar, self._vocabulary.special))
        if matcher.is_error():
            raise self._refusal(grammar)
        size = len(self._vocabulary.tokens)
        try:
            first = read_mask(matcher, size, grammar.field)
        except InvalidArgument:
            raise Refused(
                "no output can have this form, or it takes too much work to follow",
                grammar.field,
            ) from None
        return CompiledGrammar(
            matcher, first, size, self._vocabulary.ends, grammar.field, self._masking
        )

    def _matcher(self, text: str) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._vocabulary)
        return LLMatcher(self._tokenizer, text, log_level=0, limits=_limits())

    def _refusal(self, grammar: Grammar) -> Refused:
        """The reason why the library can't follow a form, with the smallest schema at fault."""
        for field, schema in schemas(grammar):
            if self._fails(schema):
                path, culprit = self._smallest(field, schema, schema)
                return Refused(_why(culprit), path)
        what = grammar.kind.value
        return Refused(
            f"can't be followed as {what}: look-around, back-references and word boundaries are "
            "not supported, nor is what is broken or too large",
            grammar.field,
        )

    def _smallest(self, path: str, schema: Schema, root: Schema) -> tuple[str, Schema]:
        """The innermost schema that fails by itself."""
        trials = 0
        searching = True
        while searching:
            searching = False
            for inner_path, inner in children(schema, path):
                if isinstance(inner, bool):
                    continue
                trials += 1
                if trials > _MOST_TRIALS:
                    return path, schema
                if self._fails(_alone(inner, root)):
                    path, schema, searching = inner_path, inner, True
                    break
        return path, schema

    def _fails(self, schema: Schema) -> bool:
        return self._matcher(schema_grammar(schema)).is_error()


def _alone(schema: dict[str, Any], root: Schema) -> Schema:
    """A part of a schema, with the definitions that it may point at."""
    if isinstance(root, bool):
        return schema
    return {key: root[key] for key in ("$defs", "definitions") if key in root} | schema


def _why(schema: Schema) -> str:
    if schema is False:
        return "nothing can have this form"
    if isinstance(schema, dict) and "oneOf" in schema:
        return "the alternatives of 'oneOf' must plainly exclude each other; use 'anyOf'"
    keywords = ", ".join(schema) if isinstance(schema, dict) else "true"
    return (
        f"output can't be held to this combination of {keywords}: its parts contradict each other "
        "or are too much to follow"
    )


def _length(grammar: Grammar) -> int:
    inner = 0 if grammar.text is None else _length(grammar.text)
    tags = sum(len(tag.begin) + len(tag.end) + len(tag.schema) for tag in grammar.tags)
    return len(grammar.source) + tags + inner


def _without_fields(grammar: Grammar) -> tuple[Grammar, dict[str, str]]:
    """A form with placeholders for where its parts stood in the request, and what they stand for.

    Requests that have the same form in other places then share it.
    """
    fields = {"{guide}": grammar.field}
    tags = tuple(replace(tag, field=f"{{tag{i}}}") for i, tag in enumerate(grammar.tags))
    fields |= {f"{{tag{i}}}": tag.field for i, tag in enumerate(grammar.tags)}
    text = grammar.text
    if text is not None:
        fields["{text}"] = text.field
        text = replace(text, field="{text}")
    return replace(grammar, field="{guide}", tags=tags, text=text), fields


def _with_fields(path: str, fields: Mapping[str, str]) -> str:
    for placeholder, field in fields.items():
        if path.startswith(placeholder):
            return field + path.removeprefix(placeholder)
    return path


class _Tokens:
    """What llguidance asks of a tokenizer."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = sorted({*vocabulary.special.values(), *vocabulary.ends})
        self.eos_token_id = vocabulary.ends[0]
        self.bos_token_id = None

    def __call__(self, text: Any) -> list[int]:
        raise TypeError("forms are never tokenised: every token is judged by its bytes")


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    wrapper = TokenizerWrapper(_Tokens(vocabulary))
    return LLTokenizer(wrapper, eos_token=list(vocabulary.ends))
