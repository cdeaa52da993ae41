"""Splits documents into passages and embeds them, in calls of bounded size.

How many tokens a text has is known to its model alone: passages are split by an estimate, and
those that turn out to be too long are halved until they fit.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.errors import (
    ContextLengthExceeded,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    ModelNotReady,
    QueueFull,
    RateLimited,
)
from services.retrieval.batches import Batch, Item, Ready, Text
from services.retrieval.chunking import Piece, halve, split
from services.retrieval.faults import at, of_collection
from services.retrieval.intake import Refused
from services.retrieval.peers import Caller, Embedded, Embedder, Priority, Task
from services.retrieval.records import Chunk, Collection, NewDocument, Vector

_CALLS = 2
"""Calls at a time. More would only wait in the queue, at the expense of others."""
_MOST_INPUTS = 512
_MOST_TOKENS = 8192
_ONE_TOKEN = "a"
_PATIENCE_S = 60.0
"""How long a full queue or a model that loads is waited for."""
_PAUSE_S = 0.5
_INPUT = re.compile(r"inputs\[(\d+)\]")
_BUSY = (QueueFull, RateLimited, ModelNotReady)


@dataclass(slots=True)
class _Document:
    """A document while its passages are embedded."""

    text: Text
    waiting: list[Piece]
    done: list[tuple[Piece, Vector, int]] = field(default_factory=list[tuple[Piece, Vector, int]])
    error: DomainError | None = None
    """Why it is refused."""
    unread: DomainError | None = None
    """Why a passage of it has no vector."""


@dataclass(frozen=True, slots=True)
class _Passage:
    document: _Document
    piece: Piece


class Passages:
    """Embeds the documents of one stream."""

    def __init__(
        self,
        embedder: Embedder,
        collection: Collection,
        priority: Priority,
        caller: Caller,
        call_tokens: int,
    ) -> None:
        self._embedder = embedder
        self._collection = collection
        self._priority = priority
        self._caller = caller
        self._call_tokens = call_tokens
        self._calls = asyncio.Semaphore(_CALLS)
        self._token_count = 0
        self._added: int | None = None
        self._adding = asyncio.Lock()

    async def embed(self, batch: Batch) -> Batch:
        """Returns the batch with its texts made ready to be stored.

        Raises:
            Unavailable: EmbeddingService is away.
            FailedPrecondition: the model no longer makes the vectors that the collection has.
        """
        self._token_count = 0
        texts = [item for item in batch.items if isinstance(item, Text)]
        documents = await asyncio.to_thread(lambda: [self._opened(text) for text in texts])
        while calls := self._planned(documents):
            await self._embed_calls(calls)
        made = {document.text.index: self._made(document) for document in documents}
        return replace(
            batch,
            items=[made.get(item.index, item) for item in batch.items],
            token_count=self._token_count,
        )

    def _opened(self, text: Text) -> _Document:
        """Splits a document."""
        chunking = self._collection.chunking
        try:
            pieces = split(
                text.text,
                chunking.max_tokens or _MOST_TOKENS,
                chunking.overlap_tokens or 0,
                whole_documents=chunking.whole_documents,
            )
        except InvalidArgument as error:
            return _Document(text, [], error=error)
        for piece in pieces:
            _ = piece.token_count  # estimated here, off the event loop, and kept
        return _Document(text, pieces, unread=_no_text())

    def _planned(self, documents: Sequence[_Document]) -> list[list[_Passage]]:
        """Takes everything that waits, in calls of about as many tokens as one may have."""
        calls: list[list[_Passage]] = []
        tokens = 0
        for document in documents:
            waiting, document.waiting = document.waiting, []
            if document.error is not None:
                continue
            for piece in waiting:
                tokens += piece.token_count
                if not calls or tokens > self._call_tokens or len(calls[-1]) >= _MOST_INPUTS:
                    calls.append([])
                    tokens = piece.token_count
                calls[-1].append(_Passage(document, piece))
        return calls

    async def _embed_calls(self, calls: Sequence[Sequence[_Passage]]) -> None:
        tasks = [asyncio.create_task(self._embed_call(call)) for call in calls]
        try:
            await asyncio.gather(*tasks)
        finally:  # the first failure ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _embed_call(self, call: Sequence[_Passage]) -> None:
        """Embeds passages; those that don't fit wait again, in halves."""
        async with self._calls:
            added = await self._added_tokens()
            try:
                embedded = await self._patiently([passage.piece.text for passage in call])
            except (ContextLengthExceeded, InvalidArgument) as error:
                self._without(call, error)
                return
        if embedded.dimensions != self._collection.dimensions:
            raise FailedPrecondition(
                f"The model {embedded.model!r} now makes vectors of {embedded.dimensions} numbers, "
                f"and the collection's have {self._collection.dimensions}. Make a new collection."
            )
        most = self._collection.chunking.max_tokens
        for place, passage in enumerate(call):
            tokens = max(0, embedded.token_counts[place] - added)
            if most is not None and tokens > most and self._halved(passage, tokens):
                continue
            passage.document.done.append((passage.piece, embedded.vectors[place], tokens))

    async def _added_tokens(self) -> int:
        """Tokens that the model puts around every passage, found out once for a stream."""
        async with self._adding:
            if self._added is None:
                self._added = (await self._patiently([_ONE_TOKEN])).token_count - 1
            return self._added

    async def _patiently(self, texts: Sequence[str]) -> Embedded:
        """Embeds; waits while the service has too much to do."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._caller.remaining_s(_PATIENCE_S)
        while True:
            try:
                embedded = await self._embedder.embed(
                    self._collection.embedding_model,
                    texts,
                    task=Task.DOCUMENT,
                    caller=self._caller,
                    dimensions=self._collection.dimensions,
                    priority=self._priority,
                )
                self._token_count += embedded.token_count
                return embedded
            except _BUSY as error:
                pause = max(_PAUSE_S, error.retry_after_s or 0.0)
                if loop.time() + pause > until:
                    raise
                await asyncio.sleep(pause)
            except DomainError as error:
                if (error.field or "").startswith("inputs"):
                    raise
                raise of_collection(error, "start.collection") from None

    def _without(
        self, call: Sequence[_Passage], error: ContextLengthExceeded | InvalidArgument
    ) -> None:
        """Lets a call's passages wait again, the one at fault in halves or not at all."""
        if not (error.field or "").startswith("inputs"):
            raise error
        named = _INPUT.match(error.field or "")
        if named is None and len(call) > 1:
            # Together they are more than one call may have.
            self._call_tokens = max(1, self._call_tokens // 2)
            for passage in call:
                passage.document.waiting.append(passage.piece)
            return
        place = int(named.group(1)) if named else 0
        if place >= len(call):
            raise error
        fault = call[place]
        told = at(error, "document.text")
        for passage in call:
            if isinstance(error, InvalidArgument):
                # The model reads nothing in it: nothing could be found there either.
                again = passage is not fault
                fault.document.unread = told
            else:
                # A document is of one kind: what is no shorter would fail next.
                long = passage.document is fault.document and len(passage.piece.text) >= len(
                    fault.piece.text
                )
                again = not (long and self._halved(passage))
                if again and passage is fault:
                    fault.document.error = told
            if again:
                passage.document.waiting.append(passage.piece)

    def _halved(self, passage: _Passage, tokens: int | None = None) -> bool:
        """Lets both halves of a passage wait in its place; False where it has none."""
        document = passage.document
        if self._collection.chunking.whole_documents:
            if tokens is not None:
                document.error = _too_long(tokens, self._collection.chunking.max_tokens)
            return False
        halves = halve(passage.piece)
        if len(halves) < 2:
            return False
        document.waiting.extend(halves)
        return True

    def _made(self, document: _Document) -> Item:
        text, draft = document.text, document.text.draft
        error = document.error or (None if document.done else document.unread)
        if error is not None:
            return Refused(draft.index, draft.id, error)
        done = sorted(document.done, key=lambda one: (one[0].start_byte, one[0].end_byte))
        return Ready(
            draft.index,
            NewDocument(
                id=draft.id,
                title=text.title,
                text=text.text,
                mime_type=text.mime_type,
                properties=draft.properties,
                source_uri=draft.source_uri,
                content_sha256=draft.content_sha256,
                token_count=_token_count([(piece, tokens) for piece, _, tokens in done]),
                chunks=[
                    Chunk(index, piece.text, piece.start_byte, piece.end_byte, vector)
                    for index, (piece, vector, _) in enumerate(done)
                ],
            ),
        )


def _token_count(pieces: Sequence[tuple[Piece, int]]) -> int:
    """Tokens of a text, from those of its passages: what neighbours share counts once, by its
    share of the passage."""
    total = 0.0
    end = 0
    for piece, tokens in pieces:
        length = piece.end_byte - piece.start_byte
        new = piece.end_byte - max(end, piece.start_byte)
        if length and new > 0:
            total += tokens * new / length
        end = max(end, piece.end_byte)
    return round(total)


def _too_long(tokens: int, most: int | None) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"'document.text': has {tokens} tokens, and the collection takes whole documents of at "
        f"most {most}.",
        field="document.text",
    )


def _no_text() -> InvalidArgument:
    return InvalidArgument(
        "'document.text': there is no text in it, so it could never be found.",
        field="document.text",
    )
