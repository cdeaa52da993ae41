"""Answers questions from documents: finds passages, puts them into a prompt, lets a model talk."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from services.errors import DomainError, FailedPrecondition, MissingField, NotFound
from services.retrieval.edgeql import read_query
from services.retrieval.faults import at, renamed
from services.retrieval.names import PromptRef
from services.retrieval.peers import Caller
from services.retrieval.prompts import RAG_DEFAULT, SAFE_MESSAGE, Message, Prompts, fill
from services.retrieval.records import AllOf, Collection, Filter, Json
from services.retrieval.searching import Found, Query, Searching
from services.retrieval.store import Store

DEFAULT_OBJECT_COUNT = 5
_OVERWRITTEN = ("input", "limit")
"""Variables of an expression that callers can't set."""

ChatEvent = TypeVar("ChatEvent")
Talk = Callable[[Sequence[Message]], AsyncGenerator[ChatEvent, None]]
"""Opens a chat that begins with these messages; the caller's own follow them."""


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer is based on: what an expression selects, or a whole collection."""

    expression: str = ""
    collection_id: str = ""
    variables: Mapping[str, Json] = field(default_factory=dict[str, Json])
    globals: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    tenant: str
    source: Source
    query: Query
    """`text` is the question, `top_k` the most passages."""
    prompt: PromptRef | None
    """None for a chat of the caller's own messages alone."""
    has_messages: bool = False
    """Whether the caller brings messages of their own."""
    safe: bool = False


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What the answer is based on. First event."""

    found: Found


class Answering:
    """Answers questions."""

    def __init__(self, store: Store, searching: Searching, prompts: Prompts) -> None:
        self._store = store
        self._searching = searching
        self._prompts = prompts

    async def answer(
        self, question: Question, talk: Talk[ChatEvent], caller: Caller
    ) -> AsyncGenerator[Retrieved | ChatEvent, None]:
        """Finds passages, then streams the chat about them. Closing the stream ends the chat.

        Raises:
            FailedPrecondition: nothing was found.
            InvalidArgument: the expression can't be read, or the request contradicts itself.
            NotFound: there is no such collection or prompt.
        """
        if question.prompt is None and not (question.has_messages or question.safe):
            raise MissingField(
                "'prompt.custom_messages': without a stored prompt the model needs messages. "
                "Leave 'prompt' out for the default one.",
                field="prompt.custom_messages",
            )
        collection, filter, limit = await self._source(question)
        stored: Sequence[Message] = ()
        if question.prompt is not None:
            stored = await self._stored(question.prompt)
        query = replace(question.query, filter=filter)
        if limit is not None:
            query = replace(query, top_k=min(query.top_k, limit))
        found = await self._found(collection, query, caller, question.source)
        messages = list[Message]()
        if question.safe:
            messages.append(SAFE_MESSAGE)
        context = "\n".join(hit.text for hit in found.hits)
        messages += fill(stored, context=context, query=question.query.text)
        yield Retrieved(found)
        try:
            async with aclosing(talk(messages)) as events:
                async for event in events:
                    yield event
        except DomainError as error:
            raise renamed(error, lambda path: _chat_field(path, len(messages))) from None

    async def _source(self, question: Question) -> tuple[Collection, Filter | None, int | None]:
        """Returns the collection, which of its documents count, and the most of them."""
        source, own = question.source, question.query.filter
        if not source.expression:
            try:
                collection = await self._store.collection(question.tenant, source.collection_id)
            except NotFound as error:
                raise at(error, "context.collection_id") from None
            return collection, own, None
        variables = {k: v for k, v in source.variables.items() if k not in _OVERWRITTEN}
        variables |= {"input": question.query.text, "limit": question.query.top_k}
        selected = read_query(source.expression, variables, source.globals)
        for id in selected.collection_ids:
            try:
                collection = await self._store.collection(question.tenant, id)
            except NotFound:
                continue
            both = [part for part in (selected.filter, own) if part is not None]
            filter = AllOf(tuple(both)) if len(both) > 1 else (both[0] if both else None)
            return collection, filter, selected.limit
        raise NotFound(
            f"There is no type {selected.type_name[:200]!r}: types are the collections of the "
            "tenant.",
            field="context.expression",
        )

    async def _stored(self, ref: PromptRef) -> Sequence[Message]:
        try:
            return (await self._prompts.get(ref)).messages
        except NotFound as error:
            raise at(error, "prompt.name") from None

    async def _found(
        self, collection: Collection, query: Query, caller: Caller, source: Source
    ) -> Found:
        if query.top_k >= 1:
            try:
                found = await self._searching.search_in(collection, query, caller)
            except DomainError as error:
                raise renamed(error, lambda path: _search_field(path, source)) from None
            if found.hits:
                return found
        raise FailedPrecondition(
            "The query did not match any data in the documents that 'context' selects. Put "
            "documents in, or select others.",
            field="context",
        )


def default_prompt(tenant: str) -> PromptRef:
    """Returns the prompt of questions that name none."""
    return PromptRef(tenant, RAG_DEFAULT)


def _search_field(path: str, source: Source) -> str:
    """Tells where a field of a search stands in a question."""
    if path in ("text", "collection"):
        return {"text": "query", "collection": "context"}[path]
    if path.startswith("filter") and source.expression:
        return "context.expression"
    return f"context.{path}"


def _chat_field(path: str, stored: int) -> str:
    """Tells where a field of a chat stands in a question: `stored` messages are not the caller's
    own."""
    prefix, bracket, rest = path.partition("[")
    if prefix != "messages":
        return path
    number, _, rest = rest.partition("]")
    if not bracket or not number.isdigit() or int(number) < stored:
        return "prompt"
    return f"prompt.custom_messages[{int(number) - stored}]{rest}"
